package simulate

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/provision"
)

// happening is what a run waits for.
type happening struct {
	at      time.Time
	seq     int // of equals the first comes first
	task    string
	ends    bool   // the task; else it arrives
	machine string // that comes up
}

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return cmp.Or(a[i].at.Compare(a[j].at), cmp.Compare(a[i].seq, a[j].seq)) < 0
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	x := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return x
}

// play is one run. What is decided, Decide, Warm and the state machine decide.
type play struct {
	state   *provision.State
	index   uint64
	now     time.Time
	r       *rand.Rand
	agenda  agenda
	seq     int
	wake    time.Time // when to look again if nothing happens; zero: no need
	jobs    map[string]job
	waiting []provision.Waiting
	why     string // the oldest of them waits
	sum     *tally
	err     error // the first command that was not taken
}

// patience is how long a task may wait until a run is given up.
const patience = 3 * 24 * time.Hour

func (p *play) at(h happening) {
	p.seq++
	h.seq = p.seq
	heap.Push(&p.agenda, h)
}

func (p *play) pool() provision.Pool {
	pool, _ := p.state.Pool()
	return pool
}

// do applies a command that is to be taken.
func (p *play) do(c provision.Command) {
	if p.err != nil {
		return
	}
	p.index++
	c.Version, c.ID = provision.Version, strconv.FormatUint(p.index, 10)
	data, err := json.Marshal(c)
	if err == nil {
		err = p.state.Apply(p.index, p.now, data)
	}
	if err == nil {
		out, _ := p.state.Outcome(c.ID)
		err = out.Err()
	}
	if err != nil {
		p.err = fmt.Errorf("applying %s: %w", data, err)
	}
}

// stuckError says why a task would wait for days.
type stuckError struct{ why string }

func (e *stuckError) Error() string { return e.why }

// run goes from one happening to the next, until every task has run and no
// machine is left.
func (p *play) run(ctx context.Context) error {
	for p.err == nil && (len(p.agenda) > 0 || !p.wake.IsZero()) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(p.agenda) == 0 || !p.wake.IsZero() && p.wake.Before(p.agenda[0].at) {
			p.now = p.wake
		} else {
			h := heap.Pop(&p.agenda).(happening)
			p.now = h.at
			p.happen(h)
		}
		p.wake = time.Time{}
		for p.place(); p.sell() && len(p.waiting) > 0; {
			p.place() // there is room under the caps
		}
		if len(p.waiting) > 0 && (len(p.agenda) == 0 && p.wake.IsZero() || p.now.Sub(p.jobs[p.waiting[0].Task].at) > patience) {
			return cmp.Or(p.err, error(&stuckError{p.why}))
		}
	}
	return p.err
}

// again has the run look at the pool then, if nothing happens before.
func (p *play) again(at time.Time) {
	if at.After(p.now) && (p.wake.IsZero() || at.Before(p.wake)) {
		p.wake = at
	}
}

func (p *play) happen(h happening) {
	switch {
	case h.machine != "":
		node := provision.Node{Name: h.machine, Addr: h.machine}
		p.do(provision.Command{Join: &provision.Join{Invite: inviteOf(h.machine).ID, Hash: inviteOf(h.machine).Hash, Node: node}})
		p.do(provision.Command{Start: &provision.Start{Node: h.machine, Boot: "b"}})
		p.do(provision.Command{Beats: &provision.Beats{Beats: []provision.Beat{{Node: h.machine, Boot: "b"}}}})
	case h.ends:
		l, _ := p.pool().Lease(h.task)
		p.do(provision.Command{Release: &provision.Release{Task: h.task, Token: l.Token}})
	default:
		p.waiting = append(p.waiting, provision.Waiting{Task: h.task})
	}
}

// inviteOf lets a machine in; its secret is nobody's.
func inviteOf(machine string) provision.Invite {
	return provision.Invite{ID: "i-" + machine, Hash: strings.Repeat("0", 64)}
}

// place does what Decide says.
func (p *play) place() {
	plan := provision.Decide(p.pool(), p.waiting, nil, p.now)
	placed := map[string]bool{}
	p.why = ""
	for _, d := range plan.Decisions {
		if d.Node == "" {
			p.why = cmp.Or(p.why, d.Reason)
			p.again(d.Again)
			continue
		}
		p.do(provision.Command{Grant: &provision.Grant{Task: d.Task, Node: d.Node, Slot: d.Slot}})
		placed[d.Task] = true
		j := p.jobs[d.Task]
		p.sum.waited(p.now.Sub(j.at))
		p.at(happening{at: p.now.Add(j.last), task: d.Task, ends: true})
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(w provision.Waiting) bool { return placed[w.Task] })
	for _, b := range plan.Buys {
		p.buy(b)
	}
	if len(plan.Buys) > 0 {
		n := 0
		for _, m := range p.pool().Machines {
			if m.IsBought() {
				n++
			}
		}
		p.sum.peak = max(p.sum.peak, n)
	}
}

// buy has the provider make a machine at once; it boots for a minute or more.
func (p *play) buy(b provision.Purchase) {
	p.sum.created++
	op := fmt.Sprintf("B%09d", p.index)
	m := provision.ServerName(op, 1)
	p.do(provision.Command{Buy: &provision.Buy{Op: op, Task: b.Task, Need: b.Need, Reason: b.Reason}})
	invite := inviteOf(m)
	invite.Expires = p.now.Add(time.Hour)
	p.do(provision.Command{Try: &provision.Try{Machine: m, Token: p.index, Type: b.Choice.Type, Location: b.Choice.Location, Invite: invite}})
	server := provision.Server{ID: op, Type: b.Choice.Type, Location: b.Choice.Location, Created: p.now}
	p.do(provision.Command{Made: &provision.Made{Machine: m, Token: p.index, Server: server}})
	p.at(happening{at: p.now.Add(time.Minute + time.Duration(p.r.Float64()*float64(30*time.Second))), machine: m})
}

// sell does what Warm says, and tells whether a machine went.
func (p *play) sell() (sold bool) {
	ahead := p.pool().Policy().Prewarm > 0
	for _, st := range provision.Warm(p.pool(), nil, p.now) {
		if st.Due {
			p.do(provision.Command{Retire: &provision.Retire{Machine: st.Machine, Op: fmt.Sprintf("D%09d", p.index), Reason: st.Reason, Idle: st.Idle}})
			continue
		}
		p.again(st.PaidUntil)
		p.again(st.Until)
		if ahead && !st.Until.IsZero() {
			p.again(p.now.Add(time.Minute)) // fewer slots are wanted as time goes by
		}
	}
	pool := p.pool()
	for _, m := range pool.Machines {
		used := slices.ContainsFunc(pool.Leases, func(l provision.Lease) bool { return l.Node == m.Node })
		if m.Bought.Delete != "" && !used {
			p.destroy(m)
			sold = true
		}
	}
	return sold && p.err == nil
}

// destroy deletes a machine that is not in use.
func (p *play) destroy(m provision.Machine) {
	p.do(provision.Command{Delete: &provision.Delete{Machine: m.Node, Token: m.Bought.Token}})
	p.do(provision.Command{Ended: &provision.Ended{Machine: m.Node, Token: p.index}})
	paid := m.Bought.PaidUntil(p.now).Sub(m.Bought.Created)
	p.sum.paid += paid
	p.sum.cost += provision.Money(paid/time.Hour) * m.Bought.Hour
}
