package provision

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
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
		const n = 300
		r := rand.New(rand.NewPCG(seed, 0))
		whole, part := NewState(), NewState()
		check := checker{joined: map[string]time.Time{}, past: &Pool{}}
		for i := range uint64(n) {
			if int(i) == (cut%n+n)%n {
				part = reopen(t, part)
			}
			now, _ := whole.Pool()
			c := randomCommand(r, i, now)
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
		if _, is := p.Node(m.Node); !is && p.Mesh.ID != "" && !m.IsBought() {
			return fmt.Errorf("a machine without a node: %+v", m)
		}
	}
	return bought(p)
}

// bought looks at machines and their ops.
func bought(p Pool) error {
	policy := p.Policy()
	servers := map[string]bool{}
	for _, m := range p.bought() {
		b := m.Bought
		o, is := p.Op(b.Op)
		d, deletes := p.Op(b.Delete)
		leased := p.holds(m.Node)
		_, member := p.Node(m.Node)
		switch {
		case b.Server != "" && servers[b.Server]:
			return fmt.Errorf("two machines have server %s: %s", b.Server, show(p))
		case b.Calls < 0 || m.Node != ServerName(b.Op, b.Attempt):
			return fmt.Errorf("a machine of %d calls and attempt %d: %+v", b.Calls, b.Attempt, m)
		case is && o.State == OpOpen && o.Machine != m.Node:
			return fmt.Errorf("op %s has machines %s and %s", o.ID, o.Machine, m.Node)
		case (m.State == Wanted || m.State == Creating || m.State == Booting) && (!is || o.State != OpOpen):
			return fmt.Errorf("machine %s is %s, and its op is over: %s", m.Node, m.State, show(p))
		case (m.State == Creating || m.State == Failed || m.State == Deleting) && !b.exists():
			return fmt.Errorf("machine %s is %s, and has no server: %+v", m.Node, m.State, b)
		case m.State == Booting && b.Server == "":
			return fmt.Errorf("machine %s boots without a server", m.Node)
		case m.State == Deleting && (!deletes || d.State != OpOpen || member):
			return fmt.Errorf("machine %s is being deleted without an op, or is a member: %s", m.Node, show(p))
		case leased && (m.State == Wanted || m.State == Creating || m.State == Booting):
			return fmt.Errorf("a lease on machine %s, which is %s", m.Node, m.State)
		case b.Token > p.Index:
			return fmt.Errorf("machine %s has a token of later", m.Node)
		}
		servers[b.Server] = b.Server != ""
	}
	if n := len(p.bought()); n > policy.Machines && !slices.Contains(policyCuts, policy.Machines) {
		return fmt.Errorf("%d machines, at most %d", n, policy.Machines)
	}
	for _, o := range p.Ops {
		if _, is := p.Machine(o.Machine); o.State == OpOpen && !is {
			return fmt.Errorf("op %s is open and has no machine: %s", o.ID, show(p))
		}
		if len(o.History) == 0 || len(o.History) > maxHistory || len(o.Tried) > maxTried {
			return fmt.Errorf("op %s has a history of %d and %d tries", o.ID, len(o.History), len(o.Tried))
		}
	}
	return nil
}

func randomCommand(r *rand.Rand, i uint64, p Pool) Command {
	c := randomOp(r, i)
	if r.IntN(2) == 0 && p.Mesh.ID != "" {
		c = randomPurchase(r, i, p)
	}
	if r.IntN(3) > 0 {
		c.ID = fmt.Sprint("c", i-uint64(r.IntN(int(min(i, 2)+1)))) // now and then an old one
	}
	return c
}

// policyCuts are caps that a policy may have been lowered to.
var policyCuts = []int{1}

// randomPurchase is a command for a bought machine, mostly one that fits: p is
// the pool that it is for.
func randomPurchase(r *rand.Rand, i uint64, p Pool) Command {
	op := fmt.Sprint("OP", max(0, int(i)/10-r.IntN(3)))
	list := p.bought()
	if len(list) == 0 || r.IntN(8) == 0 {
		switch r.IntN(6) {
		case 0:
			return policy(func(p *Policy) { p.Machines = 1 + 2*r.IntN(2); p.Shared = r.IntN(2) == 0 })
		case 1:
			return prices(offers()[r.IntN(2):]...)
		case 2:
			return Command{Resume: &Resume{}}
		case 3:
			return Command{Withdraw: &Withdraw{Op: op}}
		}
		return buy(op)
	}
	m := list[r.IntN(len(list))]
	token := m.Bought.Token - uint64(r.IntN(8)/7)
	s := server(fmt.Sprint("srv-", m.Node), []string{"cx33", "cpx22"}[r.IntN(2)], "fsn1", t0.Add(time.Duration(i)*time.Second))
	if c, ok := nextStep(r, i, m); ok && r.IntN(2) == 0 {
		return c
	}
	switch r.IntN(16) {
	case 0, 1, 2:
		return try(m.Node, token, "cx33", []string{"fsn1", "nbg1"}[r.IntN(2)])
	case 3, 4:
		return made(m.Node, token, s)
	case 5:
		kinds := []Trouble{SoldOut, NoQuota, Denied, BadOrder, BadOffer, Foreign, Gone, Busy, NoBudget, Unreachable, Broken, NoKey}
		return missed(m.Node, token, kinds[r.IntN(len(kinds))])
	case 6, 7:
		return joinBought(m.Node, "addr-"+m.Node)
	case 8:
		return start(m.Node, "z", 1, 2)
	case 9:
		return beats(Beat{Node: m.Node, Boot: "z"})
	case 10:
		return retire(m.Node, fmt.Sprint("DEL", i), r.IntN(2) == 0)
	case 11:
		return del(m.Node, token, fmt.Sprint("DEL", i))
	case 12:
		return ended(m.Node, token)
	case 13:
		return [...]Command{fail(m.Node, token), {Locate: &Locate{Machine: m.Node, Token: token, Server: s}}, drain(m.Node, r.IntN(2) == 0), remove(m.Node)}[r.IntN(4)]
	case 14:
		return [...]Command{{Keep: &Keep{Machine: m.Node, Until: t0}}, {Label: &Label{Machine: m.Node, Labels: []string{"gpu"}}}, {Note: &Note{Op: m.Bought.Op, Text: "x"}}, {Swept: &Swept{Sweep: Sweep{Seen: 3}}}}[r.IntN(4)]
	}
	return grant(fmt.Sprint("t", r.IntN(6)), m.Node, SlotName(m.Node, 1+r.IntN(2)))
}

// nextStep is what is to come next for a machine.
func nextStep(r *rand.Rand, i uint64, m Machine) (Command, bool) {
	switch m.State {
	case Wanted:
		return try(m.Node, m.Bought.Token, "cx33", "fsn1"), true
	case Creating:
		return made(m.Node, m.Bought.Token, server("srv-"+m.Node, "cx33", "fsn1", t0)), true
	case Booting:
		return [...]Command{joinBought(m.Node, "addr-"+m.Node), start(m.Node, "z", 1, 2), beats(Beat{Node: m.Node, Boot: "z"})}[r.IntN(3)], true
	case Ready:
		return grant(fmt.Sprint("t", r.IntN(6)), m.Node, SlotName(m.Node, 1+r.IntN(2))), true
	case Draining, Failed:
		return del(m.Node, m.Bought.Token, fmt.Sprint("DEL", i)), true
	case Deleting:
		return ended(m.Node, m.Bought.Token), true
	}
	return Command{}, false
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
