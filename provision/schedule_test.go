package provision

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// waiting are tasks that no node has a working copy of.
func waiting(tasks ...string) []Waiting {
	var list []Waiting
	for _, t := range tasks {
		list = append(list, Waiting{Task: t})
	}
	return list
}

func TestSchedule(t *testing.T) {
	s := NewState()
	apply(t, s, 1, machine("a", 3))
	apply(t, s, 2, machine("b", 2))
	p := apply(t, s, 3, grant("t0", "b", "b/1"))
	got := Schedule(p, waiting("t0", "t1", "t2", "t3", "t4", "t5", "t6"), nil)
	want := []Decision{
		{Task: "t0", Reason: "Its last workspace on b is being cleared"},
		{Task: "t1", Node: "b", Slot: "b/2", Reason: "Free slot on b"},
		{Task: "t2", Node: "a", Slot: "a/1", Reason: "Free slot on a"},
		{Task: "t3", Node: "a", Slot: "a/2", Reason: "Free slot on a"},
		{Task: "t4", Node: "a", Slot: "a/3", Reason: "Free slot on a"},
		{Task: "t5", Reason: "Next in line: all 5 slots are in use"},
		{Task: "t6", Reason: "1 ahead of you: all 5 slots are in use"},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Decision{}, "Candidates")); d != "" {
		t.Errorf("Schedule (-want +got):\n%s", d)
	}
}
