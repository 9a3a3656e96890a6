package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/samnode/samnode/provision"
)

// step is how long this keeper has seen a machine where it is, by its own
// clock.
type step struct {
	state provision.MachineState
	since time.Time // of the state
	token uint64
	hold  time.Time // nothing is done for it before
}

// refusedHold is how long a machine is left alone after the pool refused what
// was to be done for it, and its state did not change.
const refusedHold = 15 * time.Second

// follow keeps the steps of the machines that there are.
func (o *office) follow(p provision.Pool) {
	now := time.Now()
	for _, m := range p.Machines {
		if !m.IsBought() {
			continue
		}
		s, known := o.steps[m.Node]
		if !known || s.state != m.State {
			s.state, s.since = m.State, now
		}
		if !known || s.token != m.Bought.Token {
			s.token, s.hold = m.Bought.Token, now
			if op, is := p.Op(m.Bought.Op); is && op.Next.After(p.At) {
				s.hold = now.Add(op.Next.Sub(p.At))
			}
		}
		o.steps[m.Node] = s
	}
	maps.DeleteFunc(o.steps, func(name string, _ step) bool {
		_, is := p.Machine(name)
		return !is
	})
}

// hold leaves a machine alone for a while.
func (o *office) hold(name string, d time.Duration) {
	if s, is := o.steps[name]; is {
		s.hold = time.Now().Add(d)
		o.steps[name] = s
	}
}

// allowed is how long a machine may be in its state; 0: for ever.
func allowed(m provision.Machine) time.Duration {
	if m.Bought.Deadline.IsZero() {
		return 0
	}
	return m.Bought.Deadline.Sub(m.Since)
}

// plan begins the purchases that the waiting tasks need, withdraws those that
// nobody needs, and has machines make room.
func (o *office) plan(ctx context.Context, p provision.Pool, plan provision.Plan) {
	if time.Now().Before(o.planAfter) {
		return
	}
	for _, b := range plan.Buys {
		ok := o.propose(ctx, provision.Command{Buy: &provision.Buy{
			Op: o.c.NewID(), Task: b.Task, Owner: b.Owner, Need: b.Need, Reason: b.Reason,
		}})
		if !ok {
			o.planAfter = time.Now().Add(refusedHold) // never in a circle
			return
		}
		o.c.Logger.Info("a machine is wanted", "task", b.Task, "type", b.Choice.Type, "location", b.Choice.Location, "hour", b.Choice.Hour)
	}
	for _, id := range plan.Unneeded {
		if op, is := p.Op(id); is && o.busyWith(op.Machine) {
			continue
		}
		if !o.propose(ctx, provision.Command{Withdraw: &provision.Withdraw{Op: id, Reason: "Nobody waits for it any more."}}) {
			o.planAfter = time.Now().Add(refusedHold)
		}
	}
	for _, l := range plan.Leave {
		if !o.retire(ctx, l.Machine, l.Reason, true) {
			o.planAfter = time.Now().Add(refusedHold)
		}
	}
}

// retire begins to delete a machine.
func (o *office) retire(ctx context.Context, machine, why string, idle bool) bool {
	ok := o.propose(ctx, provision.Command{Retire: &provision.Retire{Machine: machine, Op: o.c.NewID(), Reason: why, Idle: idle}})
	if ok {
		o.c.Logger.Info("a machine goes", "machine", machine, "why", why)
	}
	return ok
}

func (o *office) busyWith(machine string) bool {
	_, is := o.busy[machine]
	return is
}

// drive takes a machine one step on, if it is time.
func (o *office) drive(ctx context.Context, p provision.Pool, m provision.Machine) {
	s, now := o.steps[m.Node], time.Now()
	late := allowed(m) > 0 && now.Sub(s.since) >= allowed(m)
	switch {
	case m.State == provision.Creating && late:
		o.giveUp(ctx, m, fmt.Sprintf("The provider has not said for %s whether it made the machine.", allowed(m)))
	case m.State == provision.Booting && late:
		o.giveUp(ctx, m, fmt.Sprintf("Its node was not heard within %s.", allowed(m)))
	case now.Before(s.hold):
	case m.State == provision.Wanted:
		o.order(ctx, p, m)
	case m.State == provision.Creating:
		o.create(ctx, p, m, m.Bought.Type, m.Bought.Location)
	case m.State == provision.Ready, m.State == provision.Draining:
		o.serve(ctx, p, m)
	case m.State == provision.Failed:
		o.delete(ctx, provision.Delete{Machine: m.Node, Token: m.Bought.Token, Op: o.c.NewID()})
	case m.State == provision.Deleting && m.Bought.Server != "":
		o.begin(m.Node, aDelete, func() { o.destroy(ctx, m) })
	}
}

// giveUp has a machine deleted that is of no use.
func (o *office) giveUp(ctx context.Context, m provision.Machine, why string) {
	if !o.fail(ctx, m, why) {
		o.hold(m.Node, refusedHold)
	}
}

func (o *office) fail(ctx context.Context, m provision.Machine, why string) bool {
	o.c.Logger.Warn("a machine failed", "machine", m.Node, "server", m.Bought.Server, "why", why)
	return o.propose(ctx, provision.Command{Fail: &provision.Fail{Machine: m.Node, Token: m.Bought.Token, Reason: why}})
}

func (o *office) delete(ctx context.Context, d provision.Delete) {
	if !o.propose(ctx, provision.Command{Delete: &d}) {
		o.hold(d.Machine, refusedHold)
	}
}

// order asks for the first choice of a wanted machine, if buying is possible.
func (o *office) order(ctx context.Context, p provision.Pool, m provision.Machine) {
	op, is := p.Op(m.Bought.Op)
	now := o.now(p)
	if !is || p.Breaker.Open(now) || p.Policy().Stopped || p.Breaker.Reason != "" && (o.another(p, m) || !isNext(p, m, op, now)) {
		return
	}
	choices := p.Choices(op.Need, now)
	i := slices.IndexFunc(choices, func(c provision.Choice) bool { return c.Refused == "" })
	if i >= 0 {
		o.create(ctx, p, m, choices[i].Type, choices[i].Location)
	}
}

// another tells whether there is a machine on its way that shows whether buying
// works again.
func (o *office) another(p provision.Pool, m provision.Machine) bool {
	return o.count(aCreate) > 0 || slices.ContainsFunc(p.Machines, func(x provision.Machine) bool {
		return x.Node != m.Node && (x.State == provision.Creating || x.State == provision.Booting)
	})
}

// isNext tells whether a machine is the one that is tried while only one may be:
// of those that could be ordered the one whose turn was the longest ago. The
// one may have a server already that keeps the others from theirs.
func isNext(p provision.Pool, m provision.Machine, op provision.Op, now time.Time) bool {
	return !slices.ContainsFunc(p.Machines, func(x provision.Machine) bool {
		other, is := p.Op(x.Bought.Op)
		return is && x.State == provision.Wanted && x.Node != m.Node && lastTry(other).Before(lastTry(op)) &&
			slices.ContainsFunc(p.Choices(other.Need, now), func(c provision.Choice) bool { return c.Refused == "" })
	})
}

// lastTry is when the provider was last asked for an op's machine.
func lastTry(o provision.Op) time.Time {
	if len(o.Tried) == 0 {
		return time.Time{}
	}
	return o.Tried[len(o.Tried)-1].At
}

// serve looks after a machine that takes tasks, or did.
func (o *office) serve(ctx context.Context, p provision.Pool, m provision.Machine) {
	leased := slices.ContainsFunc(p.Leases, func(l provision.Lease) bool { return l.Node == m.Node })
	ago, known := o.c.Heard(m.Node)
	switch {
	case known && ago >= o.c.DeadAfter:
		o.giveUp(ctx, m, fmt.Sprintf("Its node has not been heard for %s.", o.c.DeadAfter))
	case m.State == provision.Draining && m.Bought.Delete != "" && !leased:
		o.delete(ctx, provision.Delete{Machine: m.Node, Token: m.Bought.Token})
	}
}

// warm retires the machines that the warm policy lets go, but for those on which
// a task is about to get its slot.
func (o *office) warm(ctx context.Context, p provision.Pool, plan provision.Plan) {
	if time.Now().Before(o.warmAfter) {
		return
	}
	for _, s := range provision.Warm(p, o.c.Silent(), o.now(p)) {
		if s.Idle && slices.ContainsFunc(plan.Decisions, func(d provision.Decision) bool { return d.Node == s.Machine }) {
			continue
		}
		if s.Due && !o.retire(ctx, s.Machine, s.Reason, s.Idle) {
			o.warmAfter = time.Now().Add(refusedHold)
		}
	}
}
