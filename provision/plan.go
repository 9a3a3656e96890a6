package provision

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan is what the scheduler says of the waiting tasks, and of machines.
type Plan struct {
	Decisions []Decision
	Buys      []Purchase // to be begun now, in order
	Unneeded  []string   // ops of machines that nobody waits for any more, and that nobody was asked for yet
	Leave     []Leave    // idle machines that are to make room
}

// Leave is an idle machine that is not what any waiting task needs, while there
// are as many machines as there may be.
type Leave struct {
	Machine string
	Reason  string // a sentence
}

// Purchase is a machine that is to be bought.
type Purchase struct {
	Task   string // the first one that waits for it; empty: it is bought ahead
	Owner  string
	Need   Need
	Choice Choice // the first to be tried
	Reason string // a sentence
}

// Decide is [Schedule], and says of each task that gets no slot which machine
// it waits for: one that is on its way, else one that is to be bought. When
// none may be bought now it says why, and when that may change. It is a pure
// function of the pool, the tasks and the time.
func Decide(p Pool, waiting []Waiting, silent []string, now time.Time) Plan {
	b := newBoard(p, silent)
	b.keepWithin(p, now)
	m := newMarket(p, now)
	plan := Plan{Decisions: make([]Decision, len(waiting))}
	var wait []int
	for i, w := range waiting {
		var waits bool
		if plan.Decisions[i], waits = b.decide(w); waits {
			wait = append(wait, i)
			m.reserve(w)
		}
	}
	ahead := 0
	for _, i := range wait {
		d := &plan.Decisions[i]
		if !m.serve(d, waiting[i]) {
			m.makeRoom(b, d)
			d.Reason = strings.TrimSuffix(b.waits(d.Candidates, ahead), ".") + cmp.Or(d.Reason, ".")
			ahead++
		}
	}
	m.ahead(b)
	plan.Buys, plan.Unneeded, plan.Leave = m.buys, m.unneeded(), m.leave
	return plan
}

// market is what is on its way, and what may be bought, while tasks are given
// their places.
type market struct {
	p      Pool
	policy Policy
	now    time.Time
	coming []*coming
	buys   []Purchase
	leave  []Leave
	full   bool             // the last task found as many machines as there may be
	spend  Money            // by buys
	known  map[string]limit // by price: why nothing more is bought
	lists  map[string]shelf // by need
}

// shelf is what can be bought for one need.
type shelf struct {
	choices []Choice
	first   Choice
	none    limit
}

// coming is a machine on its way.
type coming struct {
	machine Machine
	op      Op
	bought  int // place in buys, from 1; 0: it is one already
	left    int // slots that nobody waits for
	kept    int // of those, for the task that it is bought for
	owner   string
	used    bool
}

func newMarket(p Pool, now time.Time) *market {
	m := &market{p: p, policy: p.Policy(), now: now, known: map[string]limit{}, lists: map[string]shelf{}}
	for _, o := range p.Ops {
		if o.Kind != BuyOp || o.State != OpOpen {
			continue
		}
		machine, is := p.Machine(o.Machine)
		if !is {
			continue
		}
		m.coming = append(m.coming, &coming{machine: machine, op: o, owner: machine.Bought.Owner, left: machine.Slots})
	}
	slices.SortStableFunc(m.coming, func(a, b *coming) int { return cmp.Compare(a.rank(), b.rank()) })
	return m
}

// rank is how soon a machine is there: the smaller the sooner.
func (c *coming) rank() int {
	switch c.machine.State {
	case Booting:
		return 0
	case Creating:
		return 1
	case Wanted:
		return 2
	}
	return 3 // it failed, and the op's next attempt follows when it is gone
}

// suits tells whether a task can run on a machine that is on its way.
func (m *market) suits(c *coming, w Waiting) bool {
	if !m.policy.Shared && c.owner != "" && c.owner != w.Owner {
		return false
	}
	b := c.machine.Bought
	if c.machine.State != Creating && c.machine.State != Booting { // what it will be is not known
		return c.op.Need.covers(w.Need)
	}
	return tooSmall(c.machine.CPUs, c.machine.Mem, b.Disk, w.Need) == "" && has(c.machine.Labels, w.Need.Labels) &&
		(w.Need.Location == "" || w.Need.Location == b.Location)
}

// reserve keeps a slot for a task on the machine that is bought for it: others
// that come sooner to one must not make another purchase of it.
func (m *market) reserve(w Waiting) {
	for _, c := range m.coming {
		if c.op.Task == w.Task && c.left > 0 && m.suits(c, w) {
			c.kept = 1
		}
	}
}

// find returns the machine that a task is to wait for: the one that is bought
// for it, else of those that are there soonest the one with the fewest slots
// left.
func (m *market) find(w Waiting) *coming {
	var best *coming
	for _, c := range m.coming {
		if c.kept > 0 && c.op.Task == w.Task {
			c.kept = 0
			return c
		}
		if c.left-c.kept <= 0 || !m.suits(c, w) {
			continue
		}
		if best == nil || c.rank() == best.rank() && c.left < best.left {
			best = c
		}
	}
	return best
}

// serve finds a machine for a task that gets no slot, and buys one if need be;
// false: it only says why there is none.
func (m *market) serve(d *Decision, w Waiting) bool {
	c := m.find(w)
	m.full = false
	if c == nil {
		if len(m.p.Offers) == 0 {
			return false // nothing was ever for sale here
		}
		list := m.list(w.Need)
		d.Choices = list.choices
		if l := m.limit(list); l.why != "" {
			d.Reason, d.Again, m.full = ". "+l.why, l.until, l.full
			return false
		}
		c = m.buy(w, list.first, fmt.Sprintf("Task %s finds no free slot: %s is the first choice.", w.Task, list.first))
	}
	c.left--
	c.used, c.owner = true, cmp.Or(c.owner, w.Owner)
	if c.bought > 0 {
		d.Buy, d.Reason = true, "A machine is bought for it: "+m.buys[c.bought-1].Choice.String()
		return true
	}
	d.Machine, d.Reason, d.Again = c.op.Machine, m.waitsFor(c), c.op.Next
	if d.Choices == nil && c.machine.State == Wanted {
		d.Choices = m.list(c.op.Need).choices
	}
	return true
}

// makeRoom has an idle machine leave when a task waits only because there are
// as many machines as there may be: one that is too small, or another person's,
// would be kept for its hour. One leaves at a time.
func (m *market) makeRoom(b *board, d *Decision) {
	if !m.full || len(m.leave) > 0 {
		return
	}
	best := -1
	for i, x := range b.machines {
		switch {
		case !x.IsBought():
		case x.State == Failed || x.State == Deleting || x.Bought.Delete != "":
			return // there is room soon
		case x.State != Ready || b.list[i].Free < x.Slots || m.now.Before(x.Bought.Keep):
		case best < 0 || x.Bought.PaidUntil(m.now).Before(b.machines[best].Bought.PaidUntil(m.now)):
			best = i
		}
	}
	if best >= 0 {
		name := b.machines[best].Node
		m.leave = append(m.leave, Leave{name, fmt.Sprintf("Task %s waits for another kind of machine, and there are as many as there may be.", d.Task)})
		d.Reason += " Machine " + name + " is idle, and is deleted to make room."
	}
}

// list is what can be bought for a need; it is looked up once.
func (m *market) list(need Need) shelf {
	key := fmt.Sprint(need)
	list, known := m.lists[key]
	if !known {
		list.choices = m.p.Choices(need, m.now)
		var ok bool
		if list.first, ok = first(list.choices); !ok {
			list.none = noChoice(list.choices)
		}
		m.lists[key] = list
	}
	return list
}

// limit says why nothing is bought for a need.
func (m *market) limit(list shelf) limit {
	if list.none.why != "" {
		return list.none
	}
	key := fmt.Sprint(list.first.Hour, len(m.buys))
	l, known := m.known[key]
	if !known {
		l = m.p.mayBuy(list.first.Hour, m.now, len(m.buys), m.spend)
		m.known[key] = l
	}
	return l
}

func (m *market) buy(w Waiting, choice Choice, reason string) *coming {
	m.buys = append(m.buys, Purchase{Task: w.Task, Owner: w.Owner, Need: w.Need, Choice: choice, Reason: reason})
	m.spend += choice.Hour
	c := &coming{machine: Machine{State: Wanted}, op: Op{Need: w.Need}, bought: len(m.buys), left: choice.Slots}
	m.coming = append(m.coming, c)
	return c
}

// waitsFor says what a task waits for that waits for this machine.
func (m *market) waitsFor(c *coming) string {
	var text string
	switch c.machine.State {
	case Booting:
		text = fmt.Sprintf("Machine %s boots since %s", c.op.Machine, clock(c.machine.Since))
	case Creating:
		text = fmt.Sprintf("Machine %s (%s at %s) is being made since %s", c.op.Machine, c.machine.Bought.Type, c.machine.Bought.Location, clock(c.machine.Since))
	case Wanted:
		text = fmt.Sprintf("Machine %s is to be bought", c.op.Machine)
		list := m.list(c.op.Need)
		switch {
		case m.p.Breaker.Open(m.now):
			text += ". " + m.p.Breaker.String()
		case m.policy.Stopped:
			text += ". Buying is stopped until somebody lifts that (samnode pool resume)."
		case list.none.why != "":
			text += ". " + list.none.why
		}
	default:
		text = fmt.Sprintf("Machine %s failed: %s Another one is tried when it is gone", c.op.Machine, c.machine.Bought.Why)
	}
	if c.op.Text != "" && c.machine.State != Booting {
		text += ". " + c.op.Text
		if c.op.Next.After(m.now) {
			text += " The next try is at " + c.op.Next.UTC().Format("15:04:05 UTC") + "."
		}
	}
	return text
}

// ahead buys machines before there are tasks for them, if the policy says so.
func (m *market) ahead(b *board) {
	want := m.p.likely(m.policy, m.now)
	if want == 0 || len(m.p.Offers) == 0 {
		return
	}
	free := 0
	for _, c := range b.list {
		free += c.Free
	}
	for _, c := range m.coming {
		if free < want {
			c.used = true
		}
		free += c.left
	}
	for free < want {
		list := m.list(Need{})
		if m.limit(list).why != "" {
			return
		}
		c := m.buy(Waiting{}, list.first, fmt.Sprintf("%d tasks are likely to come at once: %s is bought ahead.", want, list.first))
		free += c.left
	}
}

// unneeded lists the purchases that can be withdrawn: the leader began them,
// nobody waits for them, and the provider was not asked.
func (m *market) unneeded() []string {
	var ops []string
	for _, c := range m.coming {
		if c.bought == 0 && !c.used && c.op.By == "" && c.machine.State == Wanted {
			ops = append(ops, c.op.ID)
		}
	}
	return ops
}
