package provision

import (
	"fmt"
	"slices"
	"strings"
)

// Waiting is a task that waits for a slot.
type Waiting struct {
	Task string
	Last string // the node that has its volume; empty: none has
}

// Decision is what the scheduler says of one waiting task: a slot, or why it
// waits.
type Decision struct {
	Task       string      `json:"task"`
	Node       string      `json:"node,omitempty"` // empty: it waits
	Slot       string      `json:"slot,omitempty"`
	Reason     string      `json:"reason"`               // for a person
	Candidates []Candidate `json:"candidates,omitempty"` // by node name; decisions share them: do not change them
}

// Candidate is one machine as the decision found it.
type Candidate struct {
	Node    string `json:"node"`
	Free    int    `json:"free"`              // slots, before this decision
	Refused string `json:"refused,omitempty"` // why it cannot take the task, as the end of a sentence
}

// minDisk is what a machine must have free to take a task: a clone, an image's
// layers and room to work.
const minDisk = 1 << 30

// Schedule gives the waiting tasks, oldest first, the free slots of the pool:
// the node that has the task's working copy first, then among machines the
// fullest, so that the others can become empty. Silent nodes get nothing, and
// neither do machines that say they cannot run a task. It is a pure function;
// nothing is granted until the log says so.
func Schedule(p Pool, waiting []Waiting, silent []string) []Decision {
	b := newBoard(p, silent)
	decisions := make([]Decision, 0, len(waiting))
	ahead := 0
	for _, w := range waiting {
		d := Decision{Task: w.Task}
		if l, has := b.leases[w.Task]; has {
			d.Reason = "Its last workspace on " + l.Node + " is being cleared"
			decisions = append(decisions, d)
			continue
		}
		d.Candidates = b.list
		if i := b.choose(w.Last); i >= 0 {
			d.Reason = b.why(i, w.Last)
			d.Node, d.Slot = b.list[i].Node, b.take(i, w.Task)
		} else {
			d.Reason = b.waits(ahead)
			ahead++
		}
		decisions = append(decisions, d)
	}
	return decisions
}

// board is the pool while slots are being given out.
type board struct {
	leases map[string]Lease // by task
	list   []Candidate      // by node name; replaced, never changed: decisions hold it
	free   [][]string       // of each candidate
	slots  []int            // of each candidate
	used   int              // slots, with crowd
	crowd  string           // why nothing is free; empty: not asked since the last take
}

func newBoard(p Pool, silent []string) *board {
	b := &board{leases: make(map[string]Lease, len(p.Leases))}
	for _, l := range p.Leases {
		b.leases[l.Task] = l
	}
	quiet := make(map[string]bool, len(silent))
	for _, n := range silent {
		quiet[n] = true
	}
	for _, m := range p.Machines {
		n, _ := p.Node(m.Node)
		c := Candidate{Node: m.Node, Refused: unfit(m, n.Report, quiet[m.Node])}
		var free []string
		if c.Refused == "" {
			free = p.Free(m)
			c.Free = len(free)
			c.Refused = full(c.Free, m.Slots)
		}
		b.list, b.free, b.slots = append(b.list, c), append(b.free, free), append(b.slots, m.Slots)
	}
	return b
}

// unfit says why a machine takes no task at all, or nothing.
func unfit(m Machine, r *Report, silent bool) string {
	switch {
	case m.State != Ready:
		return "it is " + string(m.State)
	case silent:
		return "it has not been heard from"
	case m.Slots == 0:
		return "it has no slots"
	case r == nil:
		return "" // it has just started
	case !r.Docker:
		return "Docker does not answer there"
	case r.DiskFree < minDisk:
		return fmt.Sprintf("it has %d MiB of disk left, and a task needs %d", max(0, r.DiskFree)>>20, minDisk>>20)
	}
	return ""
}

func full(free, slots int) string {
	switch {
	case free > 0:
		return ""
	case slots == 1:
		return "its slot is in use"
	}
	return fmt.Sprintf("all its %d slots are in use", slots)
}

// choose returns the place of the machine for a task, or -1: the last one, or
// the one with the fewest free slots but one.
func (b *board) choose(last string) int {
	best := -1
	for i, c := range b.list {
		switch {
		case c.Refused != "":
		case c.Node == last:
			return i
		case best < 0 || c.Free < b.list[best].Free:
			best = i
		}
	}
	return best
}

// take gives a slot of the machine away.
func (b *board) take(i int, task string) string {
	slot := b.free[i][0]
	b.free[i] = b.free[i][1:]
	b.list = slices.Clone(b.list)
	c := &b.list[i]
	c.Free--
	c.Refused = full(c.Free, b.slots[i])
	b.leases[task] = Lease{Task: task, Node: c.Node, Slot: slot}
	b.crowd = ""
	return slot
}

// why says why the task goes to that machine.
func (b *board) why(i int, last string) string {
	node := b.list[i].Node
	if node == last {
		return "Free slot on " + node + ": its working copy is there"
	}
	if j := slices.IndexFunc(b.list, func(c Candidate) bool { return c.Node == last }); j >= 0 {
		return fmt.Sprintf("Free slot on %s. Its working copy is on %s, but %s", node, last, b.list[j].Refused)
	}
	return "Free slot on " + node
}

// waits says why a task waits with so many ahead of it, while no slot is free.
func (b *board) waits(ahead int) string {
	if len(b.list) == 0 {
		return "No machine takes tasks. Tasks wait until one joins."
	}
	if b.crowd == "" {
		b.look()
	}
	switch {
	case b.used == 0:
		return "No machine takes tasks now. " + b.crowd
	case ahead == 0:
		return "Next in line: " + b.crowd
	}
	return fmt.Sprintf("%d ahead of you: %s", ahead, b.crowd)
}

// look sums up a pool without a free slot: the slots in use, and the machines
// that cannot take a task for other reasons.
func (b *board) look() {
	var out []string
	b.used = 0
	for i, c := range b.list {
		if c.Refused == full(0, b.slots[i]) {
			b.used += b.slots[i]
		} else {
			out = append(out, c.Node+": "+c.Refused)
		}
	}
	if n := len(out); n > 3 {
		out = append(out[:3], fmt.Sprintf("and %d more", n-3))
	}
	left := strings.Join(out, "; ")
	switch {
	case b.used == 0:
		b.crowd = left
		return
	case b.used == 1:
		b.crowd = "the only slot is in use"
	default:
		b.crowd = fmt.Sprintf("all %d slots are in use", b.used)
	}
	if left != "" {
		b.crowd += " (" + left + ")"
	}
}

// Expiry is a lease to end, and why.
type Expiry struct {
	Lease  Lease
	Reason string // one sentence for a person
}

// Release is the op that ends the lease unless its node is heard from first.
func (e Expiry) Release() *Release {
	return &Release{Task: e.Lease.Task, Token: e.Lease.Token, Index: e.Lease.Index}
}

// Expired lists the leases to end: those of silent nodes. The pool must have
// been read before the silent were asked for: then a node that is heard in
// between has an index that the pool does not have, and [Release] spares it.
func Expired(p Pool, silent []string) []Expiry {
	var out []Expiry
	for _, l := range p.Leases {
		reason := "Node " + l.Node + " has not been heard from for as long as its lease lasts"
		if _, is := p.Node(l.Node); !is {
			reason = "Node " + l.Node + " was removed"
		}
		if slices.Contains(silent, l.Node) {
			out = append(out, Expiry{Lease: l, Reason: reason})
		}
	}
	return out
}
