package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/samnode/samnode/provision"
)

// cloud is a provider in memory. It keeps to what the real one promises, and
// has its faults as the plan says.
type cloud struct {
	w       *world
	servers []*box
	made    int            // servers, ever
	making  map[*reign]int // create calls under way, by who makes them
	calls   []time.Time    // of all kinds
	most    int            // calls in an hour
}

// box is a server.
type box struct {
	provision.Server
	price    provision.Money
	goneAt   time.Time // it is being deleted until then; zero: it is there
	off      bool
	stop     context.CancelFunc // its processes
	locked   time.Time          // nothing can be done with it before
	working  map[string]uint64  // tokens of leases that its node works under, by task
	dead     bool               // its node is
	byHand   bool               // somebody deleted it
	stranger bool               // it was never the mesh's
	before   bool               // it is the mesh's, of long before
}

func (b *box) there(now time.Time) bool { return b.goneAt.IsZero() || now.Before(b.goneAt) }

func trouble(t provision.Trouble, format string, args ...any) error {
	return &provision.ProviderError{Trouble: t, Text: fmt.Sprintf(format, args...)}
}

// call counts a call, and says what is wrong with the API now.
func (c *cloud) call(kind string) error {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.tally.calls[kind]++
	c.calls = append(c.calls, now)
	for len(c.calls) > 0 && now.Sub(c.calls[0]) >= time.Hour {
		c.calls = c.calls[1:]
	}
	c.most = max(c.most, len(c.calls))
	since := now.Sub(w.began)
	switch {
	case w.plan.down.at(since):
		w.tally.faults["5xx"]++
		return trouble(provision.Unreachable, "The provider answers 503.")
	case w.plan.denied.at(since) && !w.mended:
		w.tally.faults["denied"]++
		return trouble(provision.Denied, "The token may not do that.")
	case w.hits("rate limit", w.plan.limited):
		return &provision.ProviderError{Trouble: provision.NoBudget, Text: "The allowance of calls is used up.", Wait: 20 * time.Second}
	}
	return nil
}

// offers sells a small and a large type at two places.
func (c *cloud) offers() []provision.Offer {
	var list []provision.Offer
	for _, l := range []string{"fsn1", "nbg1"} {
		list = append(list,
			provision.Offer{Type: "cx33", Location: l, Arch: "amd64", CPUs: 4, Mem: 8 << 30, Disk: 80 << 30, Hour: 14_400, Orderable: true},
			provision.Offer{Type: "cpx22", Location: l, Arch: "amd64", CPUs: 2, Mem: 4 << 30, Disk: 40 << 30, Hour: 32_000, Orderable: true})
	}
	return list
}

// create makes a server. The call may be lost on either way; what it does, it
// does also when nobody waits any more.
func (c *cloud) create(ctx context.Context, by *reign, o provision.Order) (provision.Server, error) {
	w := c.w
	w.mu.Lock()
	c.making[by]++
	w.tally.mostMaking = max(w.tally.mostMaking, c.making[by])
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		c.making[by]--
		w.mu.Unlock()
	}()
	if err := c.call("create"); err != nil {
		return provision.Server{}, err
	}
	type answer struct {
		s   provision.Server
		err error
	}
	done := make(chan answer, 1)
	w.goes.Go(func() {
		w.sleep(w.between("create", time.Second, 5*time.Second))
		s, err := c.make(o)
		w.sleep(w.between("create", time.Second, 10*time.Second))
		w.mu.Lock()
		lost, hangs := w.hits("504 after create", w.plan.lost), w.hits("hang", w.plan.hangs)
		w.mu.Unlock()
		if hangs {
			w.sleep(w.between("hang", time.Minute, 20*time.Minute))
		}
		if lost && err == nil {
			s, err = provision.Server{}, trouble(provision.Unreachable, "The provider answers 504.")
		}
		done <- answer{s, err}
	})
	select {
	case <-ctx.Done():
		return provision.Server{}, trouble(provision.Unreachable, "The provider gave no answer: %v.", ctx.Err())
	case a := <-done:
		return a.s, a.err
	}
}

// make is what a create call does at the provider.
func (c *cloud) make(o provision.Order) (provision.Server, error) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	alive := 0
	for _, b := range c.servers {
		if !b.there(now) {
			continue
		}
		if !b.stranger {
			alive++
		}
		if b.Name != o.Name {
			continue
		}
		if b.Labels[provision.LabelOp] == o.Op {
			w.tally.adopted++
			return b.Server, nil
		}
		return provision.Server{}, trouble(provision.Foreign, "There is a server %s that is not ours.", o.Name)
	}
	switch {
	case w.hits("a name that is taken", w.plan.foreign):
		c.add(provision.Server{Name: o.Name, Created: now, Status: "running"}).stranger = true
		return provision.Server{}, trouble(provision.Foreign, "There is a server %s that is not ours.", o.Name)
	case w.plan.gone == o.Type+"@"+o.Location:
		w.tally.faults["type gone"]++
		return provision.Server{}, trouble(provision.BadOffer, "There is no %s at %s any more.", o.Type, o.Location)
	case w.hits("sold out", w.plan.capacity):
		return provision.Server{}, trouble(provision.SoldOut, "No %s is left at %s.", o.Type, o.Location)
	case w.plan.quota > 0 && alive >= w.plan.quota:
		w.tally.faults["quota"]++
		return provision.Server{}, trouble(provision.NoQuota, "The account may have %d servers.", w.plan.quota)
	}
	s := provision.Server{Name: o.Name, Type: o.Type, Location: o.Location, Labels: maps.Clone(o.Labels), Created: now, Status: "running"}
	b := c.add(s)
	w.checkCreate(b, o)
	if w.hits("action fails", w.plan.broken) {
		if w.plan.nameless || w.dice("broken").IntN(2) == 0 {
			return provision.Server{}, trouble(provision.Broken, "The server could not be started.")
		}
		return b.Server, trouble(provision.Broken, "The server could not be started.")
	}
	w.power(b, o.UserData)
	return b.Server, nil
}

// add puts a server into the project.
func (c *cloud) add(s provision.Server) *box {
	c.made++
	s.ID = fmt.Sprint(1000 + c.made)
	b := &box{Server: s, working: make(map[string]uint64), stop: func() {}}
	for _, o := range c.offers() {
		if o.Type == s.Type && o.Location == s.Location {
			b.price = o.Hour
		}
	}
	c.servers = append(c.servers, b)
	return b
}

func (c *cloud) find(id string) *box {
	i := slices.IndexFunc(c.servers, func(b *box) bool { return b.ID == id })
	if i < 0 {
		return nil
	}
	return c.servers[i]
}

func (c *cloud) server(id string) (provision.Server, error) {
	if err := c.call("get"); err != nil {
		return provision.Server{}, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	b := c.find(id)
	if b == nil || !b.there(time.Now()) {
		return provision.Server{}, trouble(provision.Gone, "There is no server %s.", id)
	}
	if b.Name == c.w.plan.stuck {
		return provision.Server{}, trouble(provision.Unreachable, "The provider answers 500.")
	}
	return b.Server, nil
}

// list is what there was some time ago.
func (c *cloud) list(mesh string) ([]provision.Server, error) {
	if err := c.call("list"); err != nil {
		return nil, err
	}
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	as := time.Now()
	if w.hits("a list that lags", w.plan.lag) {
		as = as.Add(-w.betweenLocked("lag", 10*time.Second, w.plan.lagMost))
	}
	var list []provision.Server
	for _, b := range c.servers {
		if !b.Created.After(as) && b.there(as) && b.Labels[provision.LabelMesh] == mesh {
			list = append(list, b.Server)
		}
	}
	return list, nil
}

// remove begins to delete a server.
func (c *cloud) remove(id string) error {
	if err := c.call("delete"); err != nil {
		return err
	}
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b := c.find(id)
	now := time.Now()
	switch {
	case b == nil || !b.goneAt.IsZero():
		return nil
	case b.locked.IsZero() && w.hits("locked", w.plan.locked):
		b.locked = now.Add(w.betweenLocked("locked", time.Second, 3*time.Minute))
	}
	if now.Before(b.locked) {
		return trouble(provision.Busy, "Something is being done to server %s.", id)
	}
	w.checkDelete(b)
	c.end(b, now.Add(w.betweenLocked("delete", 2*time.Second, 40*time.Second)))
	return nil
}

// end has a server gone at that time; its processes end at once.
func (c *cloud) end(b *box, at time.Time) {
	b.goneAt = at
	b.stop()
}

// bill is what the provider charges for the mesh's servers.
func (c *cloud) bill(now time.Time) (sum provision.Money) {
	for _, b := range c.servers {
		if b.stranger {
			continue
		}
		end := now
		if !b.goneAt.IsZero() && b.goneAt.Before(now) {
			end = b.goneAt
		}
		sum += b.price * provision.Money(1+end.Sub(b.Created)/time.Hour)
	}
	return sum
}
