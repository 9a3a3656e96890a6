package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/samnode/samnode/provision"
)

// The times of what is done now and then.
const (
	calmSweep    = 5 * time.Minute // while nothing is bought, and between two signs of life
	hurriedPrice = 2 * time.Minute // while a machine is wanted and nothing can be had
)

// rounds begins what is done now and then.
func (o *office) rounds(ctx context.Context, p provision.Pool) {
	every := calmSweep
	hurry := o.c.PricesEvery
	for _, m := range p.Machines {
		if m.IsBought() {
			every = o.c.SweepEvery
		}
		if m.State == provision.Wanted {
			hurry = min(hurriedPrice, o.c.PricesEvery)
		}
	}
	if len(p.Offers) == 0 {
		hurry = min(hurriedPrice, o.c.PricesEvery)
	}
	o.occasionally(aSweep, "the servers", every, func() { o.sweep.run(ctx, o) })
	o.occasionally(aTidy, "the addresses", calmSweep, func() { o.tidy(ctx) })
	o.occasionally(aPrice, "the prices", hurry, func() { o.prices(ctx) })
}

// occasionally begins something unless it was begun not long ago.
func (o *office) occasionally(t task, name string, every time.Duration, f func()) {
	if last, is := o.last[t]; is && time.Since(last) < every || o.busyWith(name) {
		return
	}
	o.last[t] = time.Now()
	o.begin(name, t, f)
}

// tidy deletes addresses that stayed behind when their servers went: they cost,
// and count against the account's limit.
func (o *office) tidy(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, o.c.CallFor)
	defer cancel()
	gone, err := o.c.Provider.SweepAddresses(call)
	if len(gone) > 0 {
		o.c.Logger.Warn("deleted addresses without a server", "addresses", gone)
	}
	if err != nil && ctx.Err() == nil {
		o.c.Logger.Warn("looking for addresses without a server", "err", err)
	}
}

// prices tells the pool what is sold, if that has changed.
func (o *office) prices(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, o.c.CallFor)
	defer cancel()
	offers, err := o.c.Provider.Offers(call)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		o.c.Logger.Warn("asking for prices", "err", err)
		o.set(func(s *Status) { s.PriceErr = sentence(err) })
		return
	}
	p, _ := o.c.State.Pool()
	if sorted := provision.SortOffers(offers); !slices.Equal(sorted, p.Offers) && !o.propose(ctx, provision.Command{Prices: &provision.Prices{Offers: sorted}}) {
		return
	}
	o.set(func(s *Status) { s.Priced, s.PriceErr = o.c.Now(), "" })
}

// sweeper compares the provider's servers with the pool, again and again. It
// remembers since when it does not see which machine.
type sweeper struct {
	absent map[string]time.Time
	told   provision.Sweep
	toldAt time.Time
}

func (w *sweeper) run(ctx context.Context, o *office) {
	call, cancel := context.WithTimeout(ctx, o.c.CallFor)
	defer cancel()
	list, err := o.c.Provider.Servers(call)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		o.c.Logger.Warn("listing servers", "err", err)
		o.set(func(s *Status) { s.SweepErr = sentence(err) })
		return
	}
	p, _ := o.c.State.Pool() // after the list: what is being bought is in it
	found := w.reap(p, list, o.now(p))
	sign := provision.Sweep{Troubles: o.troubles()}
	for _, s := range list {
		if p.Ours(s) {
			sign.Seen++
		}
	}
	for _, f := range found {
		if f.Kind == provision.Stray {
			sign.Strays = append(sign.Strays, f.Server.Name)
		}
	}
	if !w.tell(ctx, o, sign) {
		return // nothing is deleted that the log does not know of
	}
	for _, f := range found {
		if err := o.settle(ctx, f); err != nil && ctx.Err() == nil {
			o.c.Logger.Warn("reaping", "finding", f.Kind, "server", f.Server.ID, "name", f.Server.Name, "machine", f.Machine, "err", err)
			sign.Troubles = append(sign.Troubles, fmt.Sprintf("Server %s could not be looked after: %s", cmp.Or(f.Machine, f.Server.Name), sentence(err)))
		}
	}
	w.tell(ctx, o, sign)
	o.set(func(s *Status) { s.Swept, s.SweepErr = o.c.Now(), "" })
}

// reap is provision.Reap with what this sweeper remembers.
func (w *sweeper) reap(p provision.Pool, list []provision.Server, at time.Time) []provision.Finding {
	now := time.Now()
	ages := make(map[string]time.Duration, len(w.absent))
	for name, since := range w.absent {
		ages[name] = now.Sub(since)
	}
	found, not := provision.Reap(p, list, ages, at)
	absent := make(map[string]time.Time, len(not))
	for _, name := range not {
		absent[name] = now
		if since, is := w.absent[name]; is {
			absent[name] = since
		}
	}
	w.absent = absent
	return found
}

// troubles are what else a person should know.
func (o *office) troubles() (list []string) {
	if err := o.Status().PriceErr; err != "" {
		list = append(list, "The prices could not be asked for: "+err)
	}
	return list
}

// tell puts a sign of life into the log: when there is something new, and every
// few minutes.
func (w *sweeper) tell(ctx context.Context, o *office, s provision.Sweep) bool {
	s.Strays = s.Strays[:min(len(s.Strays), provision.MaxStrays)]
	s.Troubles = s.Troubles[:min(len(s.Troubles), provision.MaxStrays)]
	same := s.Seen == w.told.Seen && slices.Equal(s.Strays, w.told.Strays) && slices.Equal(s.Troubles, w.told.Troubles)
	if same && len(s.Strays) == 0 && !w.toldAt.IsZero() && time.Since(w.toldAt) < calmSweep {
		return true
	}
	if !o.propose(ctx, provision.Command{Swept: &provision.Swept{Sweep: s}}) {
		return false
	}
	w.told, w.toldAt = s, time.Now()
	return true
}

// settle does what one finding asks for.
func (o *office) settle(ctx context.Context, f provision.Finding) error {
	p, _ := o.c.State.Pool()
	m, is := p.Machine(f.Machine)
	switch f.Kind {
	case provision.Stray:
		return o.reapStray(ctx, f)
	case provision.Missing:
		if !is || m.State == provision.Deleting || m.State == provision.Failed {
			return nil // its deletion asks for it already
		}
		err := o.gone(ctx, m.Bought.Server)
		if errors.Is(err, errThere) {
			return nil // the list lags
		}
		if err != nil {
			return err
		}
		o.end(ctx, m, f.Reason)
	case provision.Never:
		if is && m.Bought.Server == "" {
			o.end(ctx, m, f.Reason)
		}
	case provision.Located:
		o.locate(ctx, f.Machine, f.Server)
	case provision.Off:
		if is && (m.State == provision.Ready || m.State == provision.Draining) && slices.Contains(o.c.Silent(), f.Machine) {
			o.fail(ctx, m, f.Reason)
		}
	}
	return nil
}

// end tells the pool that a machine's server is gone.
func (o *office) end(ctx context.Context, m provision.Machine, why string) {
	o.c.Logger.Warn("a machine is gone", "machine", m.Node, "server", m.Bought.Server, "why", why)
	o.propose(ctx, provision.Command{Ended: &provision.Ended{Machine: m.Node, Token: m.Bought.Token, Reason: why}})
}

// reapStray deletes a server that nobody knows, if it still looks like that
// when it is looked at by itself.
func (o *office) reapStray(ctx context.Context, f provision.Finding) error {
	call, cancel := context.WithTimeout(ctx, o.c.CallFor)
	defer cancel()
	s, err := o.c.Provider.Server(call, f.Server.ID)
	if provision.TroubleOf(err) == provision.Gone && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	p, _ := o.c.State.Pool()
	again, _ := provision.Reap(p, []provision.Server{s}, nil, o.now(p))
	stray := slices.ContainsFunc(again, func(g provision.Finding) bool { return g.Kind == provision.Stray && g.Server.ID == f.Server.ID })
	if !stray || ctx.Err() != nil {
		return nil
	}
	o.c.Logger.Warn("deleting a server that is nobody's", "server", s.ID, "name", s.Name, "why", f.Reason)
	return o.remove(ctx, s.ID)
}
