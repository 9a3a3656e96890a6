package provision

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// FuzzSnapshot proves that a snapshot at any cut plus the rest of the log
// equals the whole log, and that the pool's promises hold after every command.
func FuzzSnapshot(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, int(seed)*7)
	}
	f.Fuzz(func(t *testing.T, seed uint64, cut int) {
		const n = 150
		r := rand.New(rand.NewPCG(seed, 0))
		whole, part := NewState(), NewState()
		check := checker{joined: map[string]time.Time{}, past: &Pool{}}
		for i := range uint64(n) {
			if int(i) == (cut%n+n)%n {
				part = reopen(t, part)
			}
			c := randomCommand(r, i)
			p := apply(t, whole, i+1, c)
			apply(t, part, i+1, c)
			if a, b := saved(t, whole), saved(t, part); !bytes.Equal(a, b) {
				t.Fatalf("after %d (-whole +cut):\n%s", i+1, cmp.Diff(string(a), string(b)))
			}
			out, _ := whole.Outcome(c.ID)
			if err := check.after(p, out); err != nil {
				t.Fatalf("after %d, %+v: %v\n%s", i+1, c, err, show(p))
			}
		}
	})
}

func saved(t *testing.T, s *State) []byte {
	t.Helper()
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := snap.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reopen(t *testing.T, s *State) *State {
	t.Helper()
	again := NewState()
	if err := again.Restore(bytes.NewReader(saved(t, s))); err != nil {
		t.Fatal(err)
	}
	return again
}

// checker knows what must stay true from command to command.
type checker struct {
	joined map[string]time.Time // by invitation: when it was used
	past   *Pool
}

func (k *checker) after(p Pool, out Outcome) error {
	if out.Code != CodeNone && out.Index == p.Index && show(p) != show(*k.past) {
		return fmt.Errorf("refused (%s), and changed %s", out.Text, show(*k.past))
	}
	k.past = &p
	slots, tasks := map[string]bool{}, map[string]bool{}
	for _, l := range p.Leases {
		if slots[l.Slot] || tasks[l.Task] {
			return fmt.Errorf("leased twice: %+v", l)
		}
		slots[l.Slot], tasks[l.Task] = true, true
		n, member := p.Node(l.Node) // one that was removed keeps its leases until they run out
		if _, is := p.Machine(l.Node); !is && (member || p.Mesh.ID == "") {
			return fmt.Errorf("a lease on a machine that is not there: %+v", l)
		}
		if member && n.Invite != "" && n.Joined.After(l.Since) {
			return fmt.Errorf("a lease of a node that was removed, on one that joined as %s: %+v", n.Name, l)
		}
	}
	core := p.Mesh.ID == ""
	for i, n := range p.Nodes {
		if i > 0 && p.Nodes[i-1].Name >= n.Name {
			return fmt.Errorf("nodes out of order")
		}
		core = core || n.Core
		if at, used := k.joined[n.Invite]; n.Invite != "" && used && !at.Equal(n.Joined) {
			return fmt.Errorf("invitation %s was used twice", n.Invite)
		}
		k.joined[n.Invite] = n.Joined
	}
	if !core {
		return fmt.Errorf("no core node is left")
	}
	for _, m := range p.Machines {
		if _, is := p.Node(m.Node); !is && p.Mesh.ID != "" {
			return fmt.Errorf("a machine without a node: %+v", m)
		}
	}
	return nil
}

func randomCommand(r *rand.Rand, i uint64) Command {
	c := randomOp(r, i)
	if r.IntN(3) > 0 {
		c.ID = fmt.Sprint("c", i-uint64(r.IntN(int(min(i, 2)+1)))) // now and then an old one
	}
	return c
}

func randomOp(r *rand.Rand, i uint64) Command {
	node, task := string(rune('a'+r.IntN(4))), fmt.Sprint("t", r.IntN(6))
	boot := string(rune('x' + r.IntN(2)))
	id := fmt.Sprint("i", max(0, int(i)/12-r.IntN(2)))
	switch r.IntN(24) {
	case 0:
		return machine(node, r.IntN(4))
	case 1:
		return found(node)
	case 2, 3, 4:
		return invite(id, r.IntN(2) == 0, time.Duration(int(i)+r.IntN(30))*time.Second)
	case 5:
		return Command{Uninvite: &Uninvite{ID: id}}
	case 6, 7, 8:
		return join(id, node, r.IntN(2) == 0)
	case 9, 10, 11:
		return start(node, boot, uint64(r.IntN(int(i)/20+2)), r.IntN(4))
	case 12, 13:
		return beats(Beat{Node: node, Boot: boot, Report: &Report{Used: r.IntN(3), Warnings: []string{"w"}}}, Beat{Node: "a", Boot: "x"})
	case 14:
		return drain(node, r.IntN(3) == 0)
	case 15:
		return remove(node)
	case 16, 17:
		return release(task, i-uint64(r.IntN(int(min(i, 10)+1))), uint64(r.IntN(2)*int(i)))
	default:
		return grant(task, node, SlotName(node, 1+r.IntN(3)))
	}
}
