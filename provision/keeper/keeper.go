// Package keeper does what package provision says about machines: it buys them,
// deletes them, and sees to it that none is left behind. It runs on the leader
// alone, and keeps nothing that the state does not say again, but clocks: a
// keeper that comes after another one, or after itself, goes on where the log
// says that things stand.
//
// # What the log says before the provider is asked
//
// An op, and the name of its machine, are in the log before anybody asks for a
// server of that name; each call to create it is announced by an entry of its
// own ([provision.Try]), and so is a deletion ([provision.Delete]). So whatever
// is lost between a call and its answer, the next keeper makes the same call
// with the same name: the provider refuses a second server of a name, and the
// first one is adopted. What a deposed keeper still gets as an answer carries a
// token that no longer counts.
//
// # Clocks
//
// How long a machine may take to boot, and when a call is made again, this
// keeper counts by its own clock from when it first saw the step: a clock that
// is set makes no machine late, and each new leader counts anew, so that it can
// only count too long. When an hour is paid for, and when something that was
// sold out is asked for again, are times of the wall.
package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/samnode/samnode/provision"
)

// Provider sells machines. Its errors say by [provision.TroubleOf] what they
// mean. Calls may take long: they end with their context.
type Provider interface {
	// Offers is what it sells now.
	Offers(ctx context.Context) ([]provision.Offer, error)
	// Create makes a server, and returns once it runs. Where there is a server
	// of that name with the op's label it is that one: asked twice it makes one.
	// Of one that is Broken it says the id if it can.
	Create(ctx context.Context, o provision.Order) (provision.Server, error)
	// Server is one server; Gone where there is none of that id.
	Server(ctx context.Context, id string) (provision.Server, error)
	// Servers are all with this mesh's labels, as far as the list has them: it
	// may lag.
	Servers(ctx context.Context) ([]provision.Server, error)
	// Delete begins to delete a server. No error: it has begun, or the server is
	// gone.
	Delete(ctx context.Context, id string) error
	// SweepAddresses deletes this mesh's addresses that have been without a server
	// for a while, and returns them.
	SweepAddresses(ctx context.Context) ([]string, error)
	// Budget is the allowance of calls.
	Budget() provision.Budget
}

// Keys make what lets one new machine in.
type Keys interface {
	// Mint makes a key with which the op's machine gets onto the network: it
	// works once, and for some minutes.
	Mint(ctx context.Context, op provision.Op) (key string, err error)
	// Invitation makes the word with which the machine joins the mesh, and what
	// the log keeps of it: ID, Hash and Expires.
	Invitation(op provision.Op, expires time.Time) (word string, keep provision.Invite, err error)
}

// Boot is what the user-data of a machine is made of.
type Boot struct {
	Op      provision.Op
	Machine provision.Machine
	Key     string // of Keys.Mint
	Word    string // of Keys.Invitation
}

// Config is what a keeper needs. Every field but the durations must be set.
type Config struct {
	State    *provision.State
	Provider Provider
	Keys     Keys

	// Propose commits a command under this office, and not under another one,
	// and returns once State has applied it: nil, or the refusal that became of
	// it. Any other error leaves it open whether it was committed.
	Propose func(ctx context.Context, c provision.Command) error
	// UserData is what a machine boots with.
	UserData func(b Boot) ([]byte, error)
	// Waiting are the tasks that wait for a slot, oldest first.
	Waiting func() []provision.Waiting
	// Silent are the nodes that have not been heard for as long as a lease
	// lasts, and Heard is how long ago one was; see [provision.Heart].
	Silent func() []string
	Heard  func(node string) (ago time.Duration, known bool)
	// NewID makes the id of an op, a ULID.
	NewID func() string
	// Logger takes what is worth knowing later.
	Logger *slog.Logger

	// Tick is how often the keeper looks although nothing has changed; 0: 5 s.
	Tick time.Duration
	// SweepEvery is the time between two lists of the provider's servers while
	// there are any; 0: a minute.
	SweepEvery time.Duration
	// PricesEvery is the time between two looks at what is sold; 0: an hour.
	PricesEvery time.Duration
	// DeadAfter is how long a machine's node may be silent before the machine
	// is given up; 0: 10 minutes.
	DeadAfter time.Duration
	// CallFor bounds a call, and CreateFor one that makes a server; 0: 2 and 10
	// minutes.
	CallFor, CreateFor time.Duration
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
}

// creates is how many servers are being made at once, at most.
const creates = 3

// Keeper buys, deletes and reaps while Run runs.
type Keeper struct {
	c Config

	mu     sync.Mutex
	status Status
}

// Status is what this keeper knows that the state does not say. It is about
// this process since Run began; the zero value where Run does not run.
type Status struct {
	Running  bool             `json:"running"`
	Budget   provision.Budget `json:"budget"`
	Creating int              `json:"creating"` // create calls under way
	Deleting int              `json:"deleting"` // machines
	Swept    time.Time        `json:"swept,omitzero"`
	SweepErr string           `json:"sweep_error,omitempty"` // of the last one
	Priced   time.Time        `json:"priced,omitzero"`
	PriceErr string           `json:"price_error,omitempty"` // of the last one
}

// New returns a keeper that does nothing until Run.
func New(c Config) (*Keeper, error) {
	if c.State == nil || c.Provider == nil || c.Keys == nil || c.Propose == nil || c.UserData == nil ||
		c.Waiting == nil || c.Silent == nil || c.Heard == nil || c.NewID == nil || c.Logger == nil {
		return nil, errors.New("a keeper needs every part of its Config")
	}
	c.Tick = cmp.Or(c.Tick, 5*time.Second)
	c.SweepEvery = cmp.Or(c.SweepEvery, time.Minute)
	c.PricesEvery = cmp.Or(c.PricesEvery, time.Hour)
	c.DeadAfter = cmp.Or(c.DeadAfter, 10*time.Minute)
	c.CallFor = cmp.Or(c.CallFor, 2*time.Minute)
	c.CreateFor = cmp.Or(c.CreateFor, 10*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Keeper{c: c}, nil
}

// Status returns what this keeper knows now.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	if s.Running {
		s.Budget = k.c.Provider.Budget()
	}
	return s
}

func (k *Keeper) set(change func(s *Status)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.status)
}

// now is the time by which the state is judged: it never is before the state's
// own.
func (k *Keeper) now(p provision.Pool) time.Time {
	if now := k.c.Now().UTC(); now.After(p.At) {
		return now
	}
	return p.At
}

// Run keeps the machines until ctx ends, and returns its cause once every call
// has ended. It is the leader's: ctx is that of the leadership, and State has
// applied everything that was committed before it. Run again after that, it
// begins anew.
func (k *Keeper) Run(ctx context.Context) error {
	k.set(func(s *Status) { *s = Status{Running: true} })
	defer k.set(func(s *Status) { *s = Status{} })
	o := &office{Keeper: k, busy: make(map[string]task), steps: make(map[string]step), last: make(map[task]time.Time), ended: make(chan string)}
	defer o.wait()
	tick := time.NewTicker(k.c.Tick)
	defer tick.Stop()
	for {
		p, changed := k.c.State.Pool()
		o.look(ctx, p)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-tick.C:
		case name := <-o.ended:
			delete(o.busy, name)
		}
	}
}

// task is what a goroutine of the office is at.
type task int

const (
	aSweep task = iota
	aTidy
	aPrice
	aCreate
	aDelete
)

// office is one run of a keeper. Its loop alone uses it; what may take long
// runs beside it, one goroutine a machine.
type office struct {
	*Keeper
	group sync.WaitGroup
	ended chan string        // names of busy ones
	busy  map[string]task    // by machine, or what else is under way
	steps map[string]step    // by machine
	last  map[task]time.Time // when what is done now and then was begun

	planAfter, warmAfter time.Time // nothing is planned, or retired, before

	sweep sweeper // the goroutine that sweeps uses it
}

// wait waits for all goroutines.
func (o *office) wait() {
	go func() {
		o.group.Wait()
		close(o.ended)
	}()
	for range o.ended {
	}
}

// begin runs f beside the loop, unless something of that name runs already.
func (o *office) begin(name string, t task, f func()) {
	if _, is := o.busy[name]; is {
		return
	}
	o.busy[name] = t
	o.group.Go(func() {
		f()
		o.ended <- name
	})
}

func (o *office) count(t task) (n int) {
	for _, x := range o.busy {
		if x == t {
			n++
		}
	}
	return n
}

// look does what is to be done now.
func (o *office) look(ctx context.Context, p provision.Pool) {
	if p.Mesh.ID == "" || ctx.Err() != nil {
		return
	}
	o.follow(p)
	plan := provision.Decide(p, o.c.Waiting(), o.c.Silent(), o.now(p))
	o.plan(ctx, p, plan)
	for _, m := range p.Machines {
		if _, busy := o.busy[m.Node]; m.IsBought() && !busy {
			o.drive(ctx, p, m)
		}
	}
	o.warm(ctx, p, plan)
	o.rounds(ctx, p)
	creating, deleting := o.count(aCreate), o.count(aDelete)
	o.set(func(s *Status) { s.Creating, s.Deleting = creating, deleting })
}

// propose proposes a command that may be refused, because something else came
// first: it tells whether it was taken.
func (o *office) propose(ctx context.Context, c provision.Command) bool {
	err := o.c.Propose(ctx, c)
	switch _, refused := provision.Refusal(err); {
	case err == nil:
		return true
	case refused:
		o.c.Logger.Debug("the pool refuses", "why", err)
	case ctx.Err() == nil:
		o.c.Logger.Warn("telling the pool", "err", err)
	}
	return false
}

// sentence is what a person is told of a provider's error.
func sentence(err error) string {
	var p *provision.ProviderError
	if errors.As(err, &p) {
		return p.Text
	}
	return fmt.Sprintf("The provider gave no answer: %v.", err)
}

// pause is how long a provider wants to be left alone after an error, at least
// the given time.
func pause(err error, least time.Duration) time.Duration {
	var p *provision.ProviderError
	if errors.As(err, &p) {
		return max(least, p.Wait)
	}
	return least
}

// sleep waits, and tells whether ctx lasted that long.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
