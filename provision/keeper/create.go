package keeper

import (
	"context"
	"time"

	"github.com/samnode/samnode/provision"
)

// joinFor is how long an invitation outlives the time that a machine may take
// to be made and to boot.
const joinFor = 5 * time.Minute

// create asks the provider for a machine, if there are not too many such calls
// already.
func (o *office) create(ctx context.Context, p provision.Pool, m provision.Machine, typ, location string) {
	op, is := p.Op(m.Bought.Op)
	if !is || o.count(aCreate) >= creates {
		return
	}
	o.hold(m.Node, refusedHold) // if the pool refuses, not at once again
	o.begin(m.Node, aCreate, func() {
		p := purchase{office: o, op: op, machine: m}
		p.run(ctx, typ, location)
	})
}

// purchase is one create call, with what comes before and after it.
type purchase struct {
	*office
	op      provision.Op
	machine provision.Machine
}

// run announces the call in the log, makes it, and tells what came of it. What
// is not told any more, because ctx ended, the next keeper asks again.
func (p *purchase) run(ctx context.Context, typ, location string) {
	word, ok := p.announce(ctx, typ, location)
	if !ok {
		return
	}
	order, trouble, err := p.prepare(ctx, word)
	if err != nil {
		p.missed(ctx, trouble, err, provision.Server{})
		return
	}
	call, cancel := context.WithTimeout(ctx, p.c.CreateFor)
	defer cancel()
	server, err := p.c.Provider.Create(call, order)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		p.missed(ctx, provision.TroubleOf(err), err, server)
	default:
		p.made(ctx, server)
	}
}

// announce puts the call into the log, with the invitation for its machine.
// Taken, it shows that this office lasts, and that the machine is to be bought
// still; it sets the token for the answer.
func (p *purchase) announce(ctx context.Context, typ, location string) (word string, ok bool) {
	pool, _ := p.c.State.Pool()
	expires := p.now(pool).Add(p.c.CreateFor + pool.Policy().BootFor + joinFor)
	word, invite, err := p.c.Keys.Invitation(p.op, expires)
	if err != nil {
		p.c.Logger.Error("making an invitation", "machine", p.machine.Node, "err", err)
		return "", false
	}
	if !p.propose(ctx, provision.Command{Try: &provision.Try{
		Machine: p.machine.Node, Token: p.machine.Bought.Token, Type: typ, Location: location, Invite: invite,
	}}) {
		return "", false
	}
	pool, _ = p.c.State.Pool()
	m, is := pool.Machine(p.machine.Node)
	if !is || m.State != provision.Creating {
		return "", false // somebody does not want it any more
	}
	p.machine = m
	return word, true
}

// prepare makes the order. What is missing then was never asked of the
// provider.
func (p *purchase) prepare(ctx context.Context, word string) (provision.Order, provision.Trouble, error) {
	pool, _ := p.c.State.Pool()
	call, cancel := context.WithTimeout(ctx, p.c.CallFor)
	defer cancel()
	key, err := p.c.Keys.Mint(call, p.op)
	if err != nil {
		return provision.Order{}, provision.NoKey, &provision.ProviderError{Text: "No key for the new machine could be made: " + err.Error() + ".", Err: err}
	}
	data, err := p.c.UserData(Boot{Op: p.op, Machine: p.machine, Key: key, Word: word})
	if err != nil {
		return provision.Order{}, provision.BadOrder, &provision.ProviderError{Text: "What the new machine is to boot with could not be made: " + err.Error() + ".", Err: err}
	}
	b := p.machine.Bought
	return provision.Order{
		Op: p.op.ID, Name: p.machine.Node, Type: b.Type, Location: b.Location, Image: pool.Policy().Image,
		UserData: data, Labels: provision.Labels(pool.Mesh.ID, p.op.ID, b.Expires),
	}, "", nil
}

// missed tells why a call brought nothing.
func (p *purchase) missed(ctx context.Context, t provision.Trouble, err error, s provision.Server) {
	p.c.Logger.Warn("buying a machine", "machine", p.machine.Node, "op", p.op.ID, "type", p.machine.Bought.Type, "location", p.machine.Bought.Location, "trouble", t, "err", err)
	d := provision.Missed{Machine: p.machine.Node, Token: p.machine.Bought.Token, Trouble: t, Text: sentence(err), Wait: pause(err, 0)}
	if t == provision.Broken {
		d.Server = s.ID
	}
	if !p.propose(ctx, provision.Command{Missed: &d}) && d.Server != "" {
		p.locate(ctx, p.machine.Node, s)
	}
}

// made tells of the server that a call brought. If nobody waits for it any more
// the machine is to be deleted, and needs the id all the same.
func (p *purchase) made(ctx context.Context, s provision.Server) {
	s.Labels = nil
	if p.propose(ctx, provision.Command{Made: &provision.Made{Machine: p.machine.Node, Token: p.machine.Bought.Token, Server: s}}) {
		p.c.Logger.Info("a machine boots", "machine", p.machine.Node, "op", p.op.ID, "server", s.ID, "type", s.Type, "location", s.Location)
		return
	}
	p.locate(ctx, p.machine.Node, s)
}

// locate gives a machine that failed meanwhile its server's id.
func (o *office) locate(ctx context.Context, machine string, s provision.Server) {
	pool, _ := o.c.State.Pool()
	m, is := pool.Machine(machine)
	if is && m.Bought.Server == "" && (m.State == provision.Failed || m.State == provision.Deleting) {
		s.Labels = nil
		o.propose(ctx, provision.Command{Locate: &provision.Locate{Machine: machine, Token: m.Bought.Token, Server: s}})
	}
}
