package provision

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// createFor is how long the provider may leave the question open whether it
// made a server.
const createFor = time.Hour

// machineAt returns the machine whose step has that token.
func (a *applier) machineAt(name string, token uint64) (Machine, error) {
	m, is := a.Machine(name)
	switch {
	case !is || !m.IsBought():
		return m, refuse(CodeNotFound, "The mesh buys no machine %s.", short(name, 80))
	case m.Bought.Token != token:
		return m, refuse(CodeStale, "Machine %s has gone on: it is %s.", m.Node, m.State)
	}
	return m, nil
}

// step moves a machine to a state: a new step, with a token of its own.
func (a *applier) step(m Machine, s MachineState) Machine {
	if m.State != s {
		m.State, m.Since = s, a.now
	}
	m.Bought.Token = a.index
	a.Machines = put(a.Machines, m, machineKey)
	return m
}

func (a *applier) buy(b Buy) error {
	if a.Mesh.ID == "" {
		return refuse(CodeRefused, "There is no mesh to buy machines for yet: start one with samnode init.")
	}
	if old, is := a.Op(b.Op); is {
		if old.Kind != BuyOp || old.Task != b.Task {
			return refuse(CodeRefused, "There is another op %s.", old.ID)
		}
		return nil
	}
	name := ServerName(b.Op, 1)
	if b.Op == "" || CheckName(name) != nil {
		return refuse(CodeInvalid, "%q cannot be an op's id.", short(b.Op, 80))
	}
	if err := checkText(b.Op, b.Task, b.By, b.Owner, b.Need.Location); err != nil {
		return err
	}
	if err := checkLabels(b.Need.Labels); err != nil {
		return err
	}
	if _, taken := a.Machine(name); taken || a.holds(name) {
		return refuse(CodeRefused, "There is a machine %s already.", name)
	}
	c, ok := first(a.Choices(b.Need, a.now))
	if !ok {
		return refuse(CodeRefused, "%s", noChoice(a.Choices(b.Need, a.now)).why)
	}
	if l := a.mayBuy(c.Hour, a.now, 0, 0); l.why != "" {
		return refuse(CodeRefused, "%s", l.why)
	}
	o := Op{ID: b.Op, Kind: BuyOp, State: OpOpen, Reason: short(b.Reason, maxReason), Task: b.Task, By: b.By, Owner: b.Owner, Need: b.Need, Began: a.now}
	a.log(&o, cmp.Or(o.Reason, "A machine is wanted."))
	a.want(o, Machine{})
	return nil
}

// want gives a purchase the machine of its next attempt. As long as nothing can
// be had, it is to be like the one before.
func (a *applier) want(o Op, before Machine) {
	for taken := true; taken; _, taken = a.Machine(o.Machine) {
		o.Attempt++
		o.Machine = ServerName(o.ID, o.Attempt)
	}
	m := Machine{Node: o.Machine, Slots: before.Slots, Bought: Bought{Op: o.ID, Attempt: o.Attempt, Hour: before.Bought.Hour, Owner: o.Owner}}
	if c, ok := first(a.Choices(o.Need, a.now)); ok {
		m.Slots, m.Bought.Hour = c.Slots, c.Hour
	}
	a.putOp(o)
	a.step(m, Wanted)
}

func (a *applier) withdraw(w Withdraw) error {
	o, is := a.Op(w.Op)
	if !is || o.Kind != BuyOp {
		return refuse(CodeNotFound, "There is no purchase %s.", short(w.Op, 80))
	}
	if o.State == OpWithdrawn {
		return nil
	}
	m, is := a.Machine(o.Machine)
	if o.State != OpOpen || !is || m.State != Wanted {
		return refuse(CodeRefused, "It is too late to withdraw this purchase: delete machine %s instead (samnode pool delete %s).", o.Machine, o.Machine)
	}
	why := cmp.Or(w.Reason, "It is not needed any more.")
	a.end(o, OpWithdrawn, why)
	if m.Bought.exists() {
		a.failed(m, why) // an earlier call may have made it
	} else {
		a.drop(m)
	}
	return nil
}

// drop forgets a machine, its node and its invitations.
func (a *applier) drop(m Machine) {
	a.Machines = slices.DeleteFunc(a.Machines, func(x Machine) bool { return x.Node == m.Node })
	a.uninvolve(m)
}

// uninvolve ends the membership of a machine's node, and its right to become
// one.
func (a *applier) uninvolve(m Machine) {
	a.Nodes = slices.DeleteFunc(a.Nodes, func(n Node) bool { return n.Name == m.Node })
	a.Invites = slices.DeleteFunc(a.Invites, func(i Invitation) bool { return i.Machine == m.Node })
}

func (a *applier) try(t Try) error {
	m, err := a.machineAt(t.Machine, t.Token)
	if err != nil {
		return err
	}
	o, _ := a.Op(m.Bought.Op)
	switch m.State {
	case Wanted:
		m, err = a.choose(m, o, t)
	case Creating:
		if m.Bought.Type != t.Type || m.Bought.Location != t.Location {
			err = refuse(CodeRefused, "Whether there is a %s at %s for %s is not known yet: nothing else is asked for.", m.Bought.Type, m.Bought.Location, m.Node)
		}
	default:
		err = refuse(CodeRefused, "Machine %s is %s: the provider is not asked for it.", m.Node, m.State)
	}
	if err != nil {
		return err
	}
	if t.Invite.ID == "" || !isHash(t.Invite.Hash) {
		return refuse(CodeInvalid, "The invitation for machine %s needs an id and the SHA-256 of its secret.", m.Node)
	}
	if err := a.putInvite(Invite{ID: t.Invite.ID, Hash: t.Invite.Hash, Expires: t.Invite.Expires, Machine: m.Node}); err != nil {
		return err
	}
	m.Bought.Calls++
	if m.State == Wanted {
		m.Bought.Deadline, m.Bought.Expires = a.now.Add(createFor), a.now.Add(a.Policy().Life)
		a.log(&o, fmt.Sprintf("Attempt %d: the provider is asked for %s at %s for %s an hour.", o.Attempt, t.Type, t.Location, m.Bought.Hour))
	} else {
		a.log(&o, fmt.Sprintf("The provider is asked again for %s at %s.", t.Type, t.Location))
	}
	o.Tried = append(slices.Clone(o.Tried[max(0, len(o.Tried)-maxTried+1):]), Tried{Type: t.Type, Location: t.Location, Attempt: o.Attempt, At: a.now})
	a.putOp(o)
	a.step(m, Creating)
	return nil
}

// choose makes a wanted machine one of a type at a location, if it may be.
func (a *applier) choose(m Machine, o Op, t Try) (Machine, error) {
	choices := a.Choices(o.Need, a.now)
	i := slices.IndexFunc(choices, func(c Choice) bool { return c.Type == t.Type && c.Location == t.Location })
	if i < 0 {
		return m, refuse(CodeRefused, "The settings do not name %s at %s.", short(t.Type, 40), short(t.Location, 40))
	}
	c, b, policy := choices[i], a.Breaker, a.Policy()
	day := a.Today(a.now) - m.Bought.Hour + c.Hour // this machine's first hour is in it already
	switch {
	case c.Refused != "":
		return m, refuse(CodeRefused, "%s at %s: %s.", c.Type, c.Location, c.Refused)
	case policy.Stopped:
		return m, refuse(CodeRefused, "Buying is stopped until somebody lifts that (samnode pool resume).")
	case b.Open(a.now):
		return m, refuse(CodeRefused, "%s", b.String())
	case b.testing(a.now) && a.coming(m.Node):
		return m, refuse(CodeRefused, "One machine is tried first: %s", b.Reason)
	case day > policy.PerDay:
		return m, refuse(CodeRefused, "Of %s a day %s would be spent with it: buying goes on at %s.", policy.PerDay, day, when(nextDay(a.now)))
	}
	offer, _ := a.offer(c.Type, c.Location)
	size, _ := policy.size(c.Type)
	m.Slots, m.CPUs, m.Mem, m.Labels = c.Slots, offer.CPUs, offer.Mem, size.Labels
	m.Bought.Type, m.Bought.Location, m.Bought.Hour, m.Bought.Disk = c.Type, c.Location, c.Hour, offer.Disk
	return m, nil
}

// coming tells whether another machine is about to come up.
func (a *applier) coming(but string) bool {
	return slices.ContainsFunc(a.Machines, func(m Machine) bool {
		return m.Node != but && (m.State == Creating || m.State == Booting)
	})
}

func (a *applier) made(d Made) error {
	m, err := a.machineAt(d.Machine, d.Token)
	if err != nil {
		return err
	}
	if m.State != Creating {
		return refuse(CodeRefused, "Machine %s is %s: nobody waits for the provider's answer.", m.Node, m.State)
	}
	if m, err = a.identify(m, d.Server); err != nil {
		return err
	}
	m.Bought.Deadline = a.now.Add(a.Policy().BootFor)
	a.untrip(NoQuota)
	o, _ := a.Op(m.Bought.Op)
	o.Text, o.Stalls, o.Next = "", 0, time.Time{}
	a.log(&o, fmt.Sprintf("The provider made server %s (%s at %s); it boots.", m.Bought.Server, m.Bought.Type, m.Bought.Location))
	a.putOp(o)
	a.step(m, Booting)
	return nil
}

// identify gives a machine the server that the provider has for it. What the
// server is counts, not what was asked for.
func (a *applier) identify(m Machine, s Server) (Machine, error) {
	if s.ID == "" {
		return m, refuse(CodeInvalid, "Machine %s needs the id of its server.", m.Node)
	}
	if err := checkText(s.ID, s.Type, s.Location, s.Address); err != nil {
		return m, err
	}
	b := &m.Bought
	b.Server, b.Address, b.Calls = s.ID, s.Address, 0
	if offer, is := a.offer(s.Type, s.Location); is && (s.Type != b.Type || s.Location != b.Location) {
		b.Type, b.Location, b.Hour, b.Disk = s.Type, s.Location, offer.Hour, offer.Disk
		m.CPUs, m.Mem = offer.CPUs, offer.Mem
		if size, is := a.Policy().size(s.Type); is {
			m.Slots, m.Labels = size.Slots, size.Labels
		}
	}
	b.Created = s.Created.UTC()
	if o, _ := a.Op(b.Op); b.Created.Before(o.Began.Add(-time.Hour)) || b.Created.After(a.now.Add(time.Hour)) {
		b.Created = a.now // two clocks are far apart: ours counts
	}
	return m, nil
}

// ready makes a booting machine one like any other: its node was heard.
func (a *applier) ready(m Machine) {
	m.Idle, m.Bought.Deadline = a.now, time.Time{}
	a.step(m, Ready)
	a.Breaker = Breaker{}
	a.endOp(m.Bought.Op, OpDone, "Its node was heard: it takes tasks.")
}
