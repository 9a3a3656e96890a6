package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func apply(t testing.TB, s *State, index uint64, c Command) Pool {
	t.Helper()
	c.Version = Version
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(index, t0.Add(time.Duration(index)*time.Second), data); err != nil {
		t.Fatal(err)
	}
	p, _ := s.Pool()
	return p
}

func machine(node string, slots int) Command {
	return Command{Machine: &Machine{Node: node, State: Ready, Slots: slots}}
}

func grant(task, node, slot string) Command {
	return Command{Grant: &Grant{Task: task, Node: node, Slot: slot}}
}

func TestGrantAndRelease(t *testing.T) {
	for _, c := range []struct {
		name string
		do   []Command
		want []string // slot=task@token
	}{
		{"first grant wins", []Command{machine("a", 1), grant("t1", "a", "a/1"), grant("t2", "a", "a/1")}, []string{"a/1=t1@2"}},
		{"one lease a task", []Command{machine("a", 2), grant("t1", "a", "a/1"), grant("t1", "a", "a/2")}, []string{"a/1=t1@2"}},
		{"unknown slot", []Command{machine("a", 1), grant("t1", "a", "a/2")}, nil},
		{"unknown machine", []Command{grant("t1", "a", "a/1")}, nil},
		{"a draining machine takes none", []Command{{Machine: &Machine{Node: "a", State: Draining, Slots: 1}}, grant("t1", "a", "a/1")}, nil},
		{"release by token", []Command{machine("a", 1), grant("t1", "a", "a/1"), {Release: &Release{Task: "t1", Token: 2}}}, nil},
		{"a stale token changes nothing", []Command{machine("a", 1), grant("t1", "a", "a/1"), {Release: &Release{Task: "t1", Token: 1}}}, []string{"a/1=t1@2"}},
		{"a machine that comes again keeps its leases", []Command{machine("a", 1), grant("t1", "a", "a/1"), machine("a", 3)}, []string{"a/1=t1@2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewState()
			var p Pool
			for i, cmd := range c.do {
				p = apply(t, s, uint64(i+1), cmd)
			}
			var got []string
			for _, l := range p.Leases {
				got = append(got, fmt.Sprintf("%s=%s@%d", l.Slot, l.Task, l.Token))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("leases (-want +got):\n%s", d)
			}
		})
	}
}

func TestUnknownCommandStopsTheNode(t *testing.T) {
	for _, data := range []string{`{"v":2,"grant":{}}`, `{"v":1,"sell":{}}`, `{"v":1}`, `{"v":1,"grant":{},"release":{}}`, `x`, ``} {
		if err := NewState().Apply(1, t0, []byte(data)); !errors.Is(err, ErrNewer) {
			t.Errorf("Apply(%s) = %v, want ErrNewer", data, err)
		}
	}
}

// FuzzSnapshot proves that a snapshot at any cut plus the rest of the log
// equals the whole log, and that no slot is ever leased twice.
func FuzzSnapshot(f *testing.F) {
	f.Add(uint64(1), 10)
	f.Fuzz(func(t *testing.T, seed uint64, cut int) {
		r := rand.New(rand.NewPCG(seed, 0))
		whole, part := NewState(), NewState()
		const n = 60
		for i := range uint64(n) {
			if int(i) == (cut%n+n)%n {
				snap, err := part.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if _, err := snap.WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				part = NewState()
				if err := part.Restore(&b); err != nil {
					t.Fatal(err)
				}
			}
			c := randomCommand(r, i)
			a, b := apply(t, whole, i+1, c), apply(t, part, i+1, c)
			if d := cmp.Diff(a, b); d != "" {
				t.Fatalf("after %d (-whole +cut):\n%s", i+1, d)
			}
			slots, tasks := map[string]bool{}, map[string]bool{}
			for _, l := range a.Leases {
				if slots[l.Slot] || tasks[l.Task] {
					t.Fatalf("leased twice: %+v", a.Leases)
				}
				slots[l.Slot], tasks[l.Task] = true, true
			}
		}
	})
}

func randomCommand(r *rand.Rand, i uint64) Command {
	node := string(rune('a' + r.IntN(3)))
	task := fmt.Sprint("t", r.IntN(6))
	switch r.IntN(4) {
	case 0:
		return machine(node, r.IntN(4))
	case 1:
		return Command{Release: &Release{Task: task, Token: uint64(r.IntN(int(i) + 1))}}
	default:
		return grant(task, node, SlotName(node, 1+r.IntN(3)))
	}
}
