package keeper

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/samnode/samnode/provision"
)

// callsAnHour is half of what the provider allows.
const callsAnHour = 1800

// lostFor is how long a server may be nobody's before that is a fault: the
// reaper's grace, some looks, and what the API's own faults take of it.
const lostFor = 30 * time.Minute

// tally is what is counted of a run, or of many.
type tally struct {
	runs                         int
	failed                       []uint64
	tasks, done                  int
	leaders, made, booted        int
	adopted, ops, attempts       int
	orphans, doubles, twice      int
	caps, touched, killedWork    int
	late                         int // orphans that were found late
	mostMaking, mostCalls        int
	faults, calls                map[string]int
	longestOrphan, longest, time time.Duration
	bill, ledger                 provision.Money
}

func newTally() tally { return tally{faults: map[string]int{}, calls: map[string]int{}} }

// checkPool looks at the pool after an entry. The lock is held.
func (w *world) checkPool(c provision.Command, refused error) {
	p, _ := w.state.Pool()
	slots, tasks := map[string]bool{}, map[string]bool{}
	for _, l := range p.Leases {
		if slots[l.Slot] || tasks[l.Task] {
			w.tally.twice++
			w.broken("leased twice: %+v", l)
		}
		slots[l.Slot], tasks[l.Task] = true, true
	}
	if c.Grant != nil && refused == nil {
		w.checkGrant(*c.Grant)
	}
	if c.Buy != nil && refused == nil {
		w.tally.ops++
		for _, o := range p.Ops {
			if o.State == provision.OpOpen && o.Kind == provision.BuyOp && o.Task == c.Buy.Task && o.Task != "" && o.ID != c.Buy.Op {
				w.tally.doubles++
				w.broken("task %s has purchases %s and %s at once", o.Task, o.ID, c.Buy.Op)
			}
		}
		n, today := 0, p.Today(w.stamp)
		for _, m := range p.Machines {
			if m.IsBought() {
				n++
			}
		}
		if n > w.plan.policy.Machines || today > w.plan.policy.PerDay {
			w.tally.caps++
			w.broken("bought over the caps: %d machines, %s today", n, today)
		}
	}
}

// checkGrant looks whether a node works on the task still: the lease before
// must have ended for it, too.
func (w *world) checkGrant(g provision.Grant) {
	for _, b := range w.cloud.servers {
		if _, works := b.working[g.Task]; works && !b.dead && b.there(time.Now()) && b.Name != g.Node && w.heardOf(b) {
			w.tally.twice++
			w.broken("task %s is given to %s while %s works on it", g.Task, g.Node, b.Name)
		}
	}
}

// heardOf tells whether the node of a server is a member that beats.
func (w *world) heardOf(b *box) bool {
	p, _ := w.state.Pool()
	n, is := p.Node(b.Name)
	return is && n.Boot == b.ID
}

// checkOrder looks whether the log has the op, and that its machine is asked
// for, before the provider hears of it. The lock is held.
func (w *world) checkOrder(o provision.Order) {
	p, _ := w.state.Pool()
	m, is := p.Machine(o.Name)
	op, known := p.Op(o.Op)
	if !w.flaws.renames && (!is || !known || m.State != provision.Creating || m.Bought.Op != o.Op || m.Bought.Calls == 0 || o.Name != provision.ServerName(o.Op, op.Attempt)) {
		w.broken("a server %s is ordered for op %s, and the log has %+v of %+v", o.Name, o.Op, m, op)
	}
	if len(o.UserData) == 0 || o.Image == "" || o.Labels[provision.LabelExpires] == "" {
		w.broken("order %+v is not complete", o)
	}
}

// checkCreate looks at a server that was just made. The lock is held.
func (w *world) checkCreate(b *box, o provision.Order) {
	now := time.Now()
	w.tally.made++
	w.say("server %s (%s) is made: %s at %s", b.ID, b.Name, b.Type, b.Location)
	p, _ := w.state.Pool()
	alive := 0
	for _, x := range w.cloud.servers {
		if x.stranger || x.before || !x.there(now) {
			continue
		}
		if x.goneAt.IsZero() {
			alive++
		}
		if x != b && x.Labels[provision.LabelOp] == o.Op {
			w.tally.doubles++
			w.broken("op %s has servers %s and %s at once", o.Op, x.ID, b.ID)
		}
	}
	if alive > w.plan.policy.Machines {
		w.tally.caps++
		w.broken("%d servers run, at most %d are to", alive, w.plan.policy.Machines)
	}
	if op, is := p.Op(o.Op); !is || op.Attempt > provision.MaxAttempts+1 {
		w.broken("server %s is made for op %+v", b.ID, op)
	}
	if !p.Ours(b.Server) {
		w.broken("server %s does not carry the mesh's labels: %v", b.ID, b.Labels)
	}
}

// checkDelete looks at a server that is about to be deleted by us. The lock is
// held.
func (w *world) checkDelete(b *box) {
	w.say("server %s (%s) is deleted", b.ID, b.Name)
	if b.stranger {
		w.tally.touched++
		w.broken("server %s (%s) was not ours, and is deleted", b.ID, b.Name)
	}
	if len(b.working) > 0 && !b.dead {
		w.tally.killedWork++
		w.broken("server %s (%s) is deleted while it works on %v", b.ID, b.Name, slices.Collect(maps.Keys(b.working)))
	}
}

// orphans are the servers that carry the mesh's labels and that no machine
// knows. The lock is held.
func (w *world) orphans(p provision.Pool) (list []*box) {
	now := time.Now()
	for _, b := range w.cloud.servers {
		if b.stranger || !b.goneAt.IsZero() || !b.there(now) {
			continue
		}
		if !slices.ContainsFunc(p.Machines, func(m provision.Machine) bool {
			return m.IsBought() && (m.Bought.Server == b.ID || m.Bought.Server == "" && m.Node == b.Name)
		}) {
			list = append(list, b)
		}
	}
	return list
}

// checkEnd looks at what is left. The lock is held.
func (w *world) checkEnd() {
	p, _ := w.state.Pool()
	t := &w.tally
	t.runs, t.tasks, t.time = 1, len(w.plan.jobs), time.Since(w.began)
	t.mostCalls = w.cloud.most
	for _, b := range w.orphans(p) {
		t.orphans++
		w.broken("server %s (%s) is left, and nobody knows it", b.ID, b.Name)
	}
	for _, m := range p.Machines {
		if m.IsBought() {
			t.orphans++
			w.broken("machine %s is left, %s since %s: %+v", m.Node, m.State, m.Since, m.Bought)
		}
	}
	for _, b := range w.cloud.servers {
		if b.stranger && !b.goneAt.IsZero() {
			t.touched++
			w.broken("server %s (%s) was not ours, and is gone", b.ID, b.Name)
		}
	}
	for _, j := range w.plan.jobs {
		if !w.done[j.task] {
			w.broken("task %s did not run", j.task)
		}
	}
	if t.mostMaking > creates {
		w.broken("%d servers were being made at once", t.mostMaking)
	}
	if t.mostCalls > callsAnHour {
		w.broken("%d calls in an hour", t.mostCalls)
	}
	for _, o := range p.Ops {
		if o.State == provision.OpOpen {
			w.broken("op %s is open: %+v", o.ID, o)
		}
		t.attempts = max(t.attempts, o.Attempt)
	}
	t.bill, t.ledger = w.cloud.bill(time.Now()), p.Spent("", w.stamp)
}

// add adds what one run counted.
func (t *tally) add(w *world) {
	o := &w.tally
	if len(w.bad) > 0 {
		t.failed = append(t.failed, w.plan.seed)
	}
	for _, x := range []struct{ to, n *int }{
		{&t.runs, &o.runs}, {&t.tasks, &o.tasks}, {&t.done, &o.done}, {&t.leaders, &o.leaders}, {&t.made, &o.made}, {&t.booted, &o.booted},
		{&t.adopted, &o.adopted}, {&t.ops, &o.ops}, {&t.orphans, &o.orphans}, {&t.doubles, &o.doubles}, {&t.twice, &o.twice}, {&t.caps, &o.caps},
		{&t.touched, &o.touched}, {&t.killedWork, &o.killedWork},
	} {
		*x.to += *x.n
	}
	for k, n := range o.faults {
		t.faults[k] += n
	}
	for k, n := range o.calls {
		t.calls[k] += n
	}
	t.attempts, t.mostMaking, t.mostCalls = max(t.attempts, o.attempts), max(t.mostMaking, o.mostMaking), max(t.mostCalls, o.mostCalls)
	t.longest, t.time = max(t.longest, o.time), t.time+o.time
	t.bill, t.ledger = t.bill+o.bill, t.ledger+o.ledger
}

// print writes the table.
func (t *tally) print(to io.Writer, wall time.Duration) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("runs", "%d", t.runs)
	row("  failed", "%d %v", len(t.failed), t.failed[:min(len(t.failed), 20)])
	row("time", "%s, in the runs %s (the longest %s)", wall.Round(time.Second), t.time.Round(time.Hour), t.longest.Round(time.Minute))
	for _, k := range slices.Sorted(maps.Keys(t.faults)) {
		row("  "+k, "%d", t.faults[k])
	}
	row("leaders that died", "%d", t.leaders)
	row("tasks", "%d", t.tasks)
	row("  that ran", "%d", t.done)
	row("purchases", "%d", t.ops)
	row("servers made", "%d, adopted %d times", t.made, t.adopted)
	row("  most attempts of an op", "%d", t.attempts)
	row("  most made at once", "%d", t.mostMaking)
	row("orphans", "%d", t.orphans)
	row("double buys", "%d", t.doubles)
	row("slots or tasks leased twice", "%d", t.twice)
	row("over the caps", "%d", t.caps)
	row("deleted while at work", "%d", t.killedWork)
	row("others' servers touched", "%d", t.touched)
	for _, k := range slices.Sorted(maps.Keys(t.calls)) {
		row("calls to "+k, "%d", t.calls[k])
	}
	row("most calls in an hour", "%d of %d", t.mostCalls, callsAnHour)
	row("cost", "%s by the ledger, %s by the provider", t.ledger, t.bill)
	return w.Flush()
}
