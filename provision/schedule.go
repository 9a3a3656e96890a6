package provision

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Waiting is a task that waits for a slot.
type Waiting struct {
	Task  string
	Last  string // the node that has its volume; empty: none has
	Need  Need   // what its machine must have
	Owner string // whose task it is
}

// Decision is what the scheduler says of one waiting task: a slot, or why it
// waits.
type Decision struct {
	Task       string      `json:"task"`
	Node       string      `json:"node,omitempty"` // empty: it waits
	Slot       string      `json:"slot,omitempty"`
	Reason     string      `json:"reason"`               // for a person
	Candidates []Candidate `json:"candidates,omitempty"` // by node name; decisions share them: do not change them

	Machine string    `json:"machine,omitempty"` // it waits for this one, which is to come
	Buy     bool      `json:"buy,omitempty"`     // it waits for one that is to be bought now
	Choices []Choice  `json:"choices,omitempty"` // what could be bought for it, best first; decisions share them
	Again   time.Time `json:"again,omitzero"`    // nothing is bought for it: when that may change
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
// the node that has the task's working copy first, then joined machines before
// bought ones, and among equals the fullest, so that the others can become
// empty. Silent nodes get nothing, and neither do machines that say they cannot
// run a task, or are not what the task needs. It is a pure function; nothing is
// granted until the log says so. [Decide] also says what to buy.
func Schedule(p Pool, waiting []Waiting, silent []string) []Decision {
	b := newBoard(p, silent)
	decisions := make([]Decision, 0, len(waiting))
	ahead := 0
	for _, w := range waiting {
		d, waits := b.decide(w)
		if waits {
			d.Reason = b.waits(d.Candidates, ahead)
			ahead++
		}
		decisions = append(decisions, d)
	}
	return decisions
}

// decide gives a task a slot, or tells that it waits for one.
func (b *board) decide(w Waiting) (d Decision, waits bool) {
	d.Task = w.Task
	if l, has := b.leases[w.Task]; has {
		d.Reason = "Its last workspace on " + l.Node + " is being cleared"
		return d, false
	}
	d.Candidates = b.view(w)
	i := b.choose(d.Candidates, w.Last)
	if i < 0 {
		return d, true
	}
	d.Reason = b.why(d.Candidates, i, w.Last)
	d.Node, d.Slot = b.list[i].Node, b.take(i, w.Task)
	return d, false
}

// board is the pool while slots are being given out.
type board struct {
	policy   Policy
	leases   map[string]Lease // by task
	machines []Machine        // by node name
	reports  []*Report        // of each machine
	list     []Candidate      // of each machine; replaced, never changed: decisions hold it
	free     [][]string       // of each machine
	owned    bool             // a machine is for one owner's tasks only
	used     int              // slots, with crowd
	crowd    string           // why nothing is free; empty: not asked since the last take
}

func newBoard(p Pool, silent []string) *board {
	b := &board{policy: p.Policy(), machines: p.Machines, leases: make(map[string]Lease, len(p.Leases))}
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
		b.list, b.free, b.reports = append(b.list, c), append(b.free, free), append(b.reports, n.Report)
		b.owned = b.owned || m.Bought.Owner != "" && !b.policy.Shared
	}
	return b
}

// taskRoom is how much of a paid hour must be left for a task to begin in it on a
// machine whose next hour the day's limit does not allow: most tasks take less.
const taskRoom = 30 * time.Minute

// keepWithin keeps tasks from machines that they would carry into an hour which
// the day's limit does not allow. One that runs is never cut short.
func (b *board) keepWithin(p Pool, now time.Time) {
	for i, m := range b.machines {
		if b.list[i].Refused == "" && m.IsBought() && m.Bought.PaidUntil(now).Sub(now) < taskRoom && p.dear(m, now) {
			b.list[i].Refused = fmt.Sprintf("its next hour, from %s, would cost more than a day may", clock(m.Bought.PaidUntil(now)))
		}
	}
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
	case r.Unfit != "":
		return "it cannot run tasks: " + r.Unfit
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

// view is the list as one task sees it: machines that are not what it needs
// are refused, too.
func (b *board) view(w Waiting) []Candidate {
	if w.Need.any() && !b.owned {
		return b.list
	}
	list := b.list
	for i, c := range b.list {
		why := b.unsuited(i, w)
		if c.Refused != "" || why == "" {
			continue
		}
		if &list[0] == &b.list[0] {
			list = slices.Clone(b.list)
		}
		list[i].Refused = why
	}
	return list
}

// unsuited says why a machine that takes tasks does not take this one.
func (b *board) unsuited(i int, w Waiting) string {
	m, disk := b.machines[i], b.machines[i].Bought.Disk
	if r := b.reports[i]; disk == 0 && r != nil {
		disk = r.DiskFree
	}
	if why := tooSmall(m.CPUs, m.Mem, disk, w.Need); why != "" {
		return why
	}
	switch {
	case !has(m.Labels, w.Need.Labels):
		return lacksLabel(m.Labels, w.Need.Labels)
	case w.Need.Location != "" && m.Bought.Location == "":
		return "nobody knows whether it is in " + w.Need.Location
	case w.Need.Location != "" && m.Bought.Location != w.Need.Location:
		return "it is in " + m.Bought.Location + ", and the task wants " + w.Need.Location
	}
	return anothers(m, b.policy, w.Owner)
}

// choose returns the place of the machine for a task, or -1: the last one, or
// of the joined ones, else of the bought ones, the one with the fewest free
// slots but one.
func (b *board) choose(list []Candidate, last string) int {
	best := -1
	for i, c := range list {
		switch {
		case c.Refused != "":
		case c.Node == last:
			return i
		case best < 0 || b.before(i, best):
			best = i
		}
	}
	return best
}

func (b *board) before(i, j int) bool {
	if x, y := b.machines[i].IsBought(), b.machines[j].IsBought(); x != y {
		return y
	}
	return b.list[i].Free < b.list[j].Free
}

// take gives a slot of the machine away.
func (b *board) take(i int, task string) string {
	slot := b.free[i][0]
	b.free[i] = b.free[i][1:]
	b.list = slices.Clone(b.list)
	c := &b.list[i]
	c.Free--
	c.Refused = full(c.Free, b.machines[i].Slots)
	b.leases[task] = Lease{Task: task, Node: c.Node, Slot: slot}
	b.crowd = ""
	return slot
}

// why says why the task goes to that machine.
func (b *board) why(list []Candidate, i int, last string) string {
	node := list[i].Node
	if node == last {
		return "Free slot on " + node + ": its working copy is there"
	}
	if j := slices.IndexFunc(list, func(c Candidate) bool { return c.Node == last }); j >= 0 {
		return fmt.Sprintf("Free slot on %s. Its working copy is on %s, but %s", node, last, list[j].Refused)
	}
	return "Free slot on " + node
}

// waits says why a task that sees this list waits with so many ahead of it,
// while no slot is free for it.
func (b *board) waits(list []Candidate, ahead int) string {
	if len(list) == 0 {
		return "No machine takes tasks. Tasks wait until one joins."
	}
	used, crowd := b.used, b.crowd
	if own := &list[0] != &b.list[0]; own || crowd == "" {
		used, crowd = b.look(list)
		if !own {
			b.used, b.crowd = used, crowd
		}
	}
	switch {
	case used == 0:
		return "No machine takes tasks now. " + crowd
	case ahead == 0:
		return "Next in line: " + crowd
	}
	return fmt.Sprintf("%d ahead of you: %s", ahead, crowd)
}

// look sums up a list without a free slot: the slots in use, and the machines
// that cannot take a task for other reasons.
func (b *board) look(list []Candidate) (used int, crowd string) {
	var out []string
	for i, c := range list {
		if slots := b.machines[i].Slots; c.Refused == full(0, slots) {
			used += slots
		} else {
			out = append(out, c.Node+": "+c.Refused)
		}
	}
	if n := len(out); n > 3 {
		out = append(out[:3], fmt.Sprintf("and %d more", n-3))
	}
	left := strings.Join(out, "; ")
	switch used {
	case 0:
		return 0, left
	case 1:
		crowd = "the only slot is in use"
	default:
		crowd = fmt.Sprintf("all %d slots are in use", used)
	}
	if left != "" {
		crowd += " (" + left + ")"
	}
	return used, crowd
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
