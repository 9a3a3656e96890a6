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

func TestScheduleReasons(t *testing.T) {
	node := func(name string, r *Report) Node { return Node{Name: name, Report: r} }
	ready := func(name string, slots int) Machine { return Machine{Node: name, State: Ready, Slots: slots} }
	well := &Report{DiskFree: 5 << 30}
	// a is full, b has two free slots, c one; the others cannot take a task.
	mesh := Pool{
		Nodes:    []Node{node("a", well), node("b", well), node("c", well), node("d", well), node("e", &Report{DiskFree: 5 << 30, Unfit: "Docker does not answer"}), node("f", &Report{DiskFree: 300 << 20}), node("g", well), node("h", well)},
		Machines: []Machine{ready("a", 1), ready("b", 2), ready("c", 1), {Node: "d", State: Draining, Slots: 4}, ready("e", 4), ready("f", 4), ready("g", 4), ready("h", 0)},
		Leases:   []Lease{{Task: "t0", Node: "a", Slot: "a/1"}},
	}
	silent := []string{"g"}
	t.Run("candidates", func(t *testing.T) {
		got := Schedule(mesh, waiting("t1"), silent)
		want := []Decision{{Task: "t1", Node: "c", Slot: "c/1", Reason: "Free slot on c", Candidates: []Candidate{
			{Node: "a", Refused: "its slot is in use"},
			{Node: "b", Free: 2},
			{Node: "c", Free: 1},
			{Node: "d", Refused: "it is draining"},
			{Node: "e", Refused: "it cannot run tasks: Docker does not answer"},
			{Node: "f", Refused: "it has 300 MiB of disk left, and a task needs 1024"},
			{Node: "g", Refused: "it has not been heard from"},
			{Node: "h", Refused: "it has no slots"},
		}}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Schedule (-want +got):\n%s", d)
		}
	})
	for _, c := range []struct {
		name   string
		pool   Pool
		silent []string
		wait   []Waiting
		want   []string // slot: reason
	}{
		{"the working copy first", mesh, silent, []Waiting{{Task: "t1", Last: "b"}, {Task: "t2", Last: "b"}, {Task: "t3", Last: "b"}, {Task: "t4", Last: "b"}}, []string{
			"b/1: Free slot on b: its working copy is there",
			"b/2: Free slot on b: its working copy is there",
			"c/1: Free slot on c. Its working copy is on b, but all its 2 slots are in use",
			": Next in line: all 4 slots are in use (d: it is draining; e: it cannot run tasks: Docker does not answer; f: it has 300 MiB of disk left, and a task needs 1024; and 2 more)",
		}},
		{"not on a silent node", mesh, silent, []Waiting{{Task: "t1", Last: "g"}}, []string{"c/1: Free slot on c. Its working copy is on g, but it has not been heard from"}},
		{"the last node left the mesh", mesh, silent, []Waiting{{Task: "t1", Last: "z"}}, []string{"c/1: Free slot on c"}},
		{"nobody yet", Pool{}, nil, waiting("t1"), []string{": No machine takes tasks. Tasks wait until one joins."}},
		{"nobody can", Pool{Machines: []Machine{{Node: "a", State: Draining, Slots: 1}, ready("b", 1)}}, []string{"b"}, waiting("t1", "t2"), []string{
			": No machine takes tasks now. a: it is draining; b: it has not been heard from",
			": No machine takes tasks now. a: it is draining; b: it has not been heard from",
		}},
		{"one slot", Pool{Machines: []Machine{ready("a", 1)}}, nil, waiting("t1", "t2", "t3"), []string{
			"a/1: Free slot on a",
			": Next in line: the only slot is in use",
			": 1 ahead of you: the only slot is in use",
		}},
		{"a task asked for twice", Pool{Machines: []Machine{ready("a", 2)}}, nil, waiting("t1", "t1"), []string{"a/1: Free slot on a", ": Its last workspace on a is being cleared"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, d := range Schedule(c.pool, c.wait, c.silent) {
				got = append(got, d.Slot+": "+d.Reason)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("Schedule (-want +got):\n%s", d)
			}
		})
	}
}

func TestExpired(t *testing.T) {
	_, p := build(t, member(grant("t1", "b", "b/1"), grant("t2", "a", "a/1"), beats(Beat{Node: "b", Boot: "y"}))...)
	got := Expired(p, []string{"b", "c"})
	if len(got) != 1 || got[0].Reason != "Node b has not been heard from for as long as its lease lasts" {
		t.Fatalf("Expired = %+v", got)
	}
	if d := cmp.Diff(&Release{Task: "t1", Token: 6, Index: 8}, got[0].Release()); d != "" {
		t.Errorf("Release (-want +got):\n%s", d)
	}
	if got := Expired(p, nil); got != nil {
		t.Errorf("Expired(nobody silent) = %+v", got)
	}
	_, p = build(t, member(grant("t1", "b", "b/1"), remove("b"))...)
	if got := Expired(p, []string{"b"}); len(got) != 1 || got[0].Reason != "Node b was removed" {
		t.Errorf("Expired of a removed node = %+v", got)
	}
}
