package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/samnode/samnode/provision"
)

// reign is the time of one leader: its keeper, its scheduler and its heart. It
// is what its keeper calls.
type reign struct {
	w     *world
	ctx   context.Context
	kill  context.CancelCauseFunc
	heart *provision.Heart
	dead  bool // the world's lock protects it
}

// reigns has one leader after the other.
func (w *world) reigns(ctx context.Context) {
	for ctx.Err() == nil {
		r := &reign{w: w}
		r.ctx, r.kill = context.WithCancelCause(ctx)
		r.run()
		r.kill(nil)
		if ctx.Err() == nil {
			w.mu.Lock()
			w.tally.leaders++
			w.mu.Unlock()
			sleep(ctx, w.between("election", time.Second, 40*time.Second))
		}
	}
}

func (r *reign) run() {
	r.heart = provision.NewHeart(provision.HeartConfig{State: r.w.state, Every: beatEvery, LeaseFor: leaseFor, Propose: r.propose})
	k, err := New(Config{
		State: r.w.state, Provider: r, Keys: r, Propose: r.propose, UserData: r.userData, Waiting: r.w.waiting,
		Silent: r.heart.Silent, Heard: r.heart.HeardAgo, NewID: r.w.id, Logger: quiet(), Now: r.w.now, Tick: lookEvery,
	})
	if err != nil {
		r.w.t.Error(err)
		return
	}
	var loops sync.WaitGroup
	loops.Go(func() { _ = r.heart.Run(r.ctx) }) // it ends with ctx
	loops.Go(r.schedule)
	_ = k.Run(r.ctx) // the same
	loops.Wait()
}

// point is a place at which a leader may die. Dead, it can do nothing more.
func (r *reign) point(name string) error {
	w := r.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.dead {
		return errDead
	}
	w.points[name]++
	dies := w.hits("leader killed", w.plan.kills)
	if name == w.plan.killAt && w.points[name] == w.plan.killNo && !w.killed {
		w.killed, dies = true, true
		w.tally.faults["leader killed"]++
	}
	if dies {
		w.say("the leader dies %s", name)
		r.dead = true
		r.kill(errDead)
		return errDead
	}
	return nil
}

// propose is the log under this office.
func (r *reign) propose(ctx context.Context, c provision.Command) error {
	w, kind := r.w, kindOf(c)
	if err := r.point("before the log has " + kind); err != nil {
		return err
	}
	if !sleep(ctx, w.between("log", time.Millisecond, w.plan.slow)) {
		return context.Cause(ctx)
	}
	if w.flaws.greedy && c.Retire != nil {
		c.Retire.Idle = false
	}
	if w.flaws.double && c.Buy != nil {
		again := *c.Buy
		again.Op = w.id()
		_ = w.commit(provision.Command{Buy: &again}) // the checks look at it
	}
	err := w.commit(c)
	if p, _ := w.state.Pool(); w.flaws.greedy && c.Retire != nil && err == nil {
		m, _ := p.Machine(c.Retire.Machine)
		_ = w.commit(provision.Command{Delete: &provision.Delete{Machine: m.Node, Token: m.Bought.Token, Force: true}}) // the checks look at it
	}
	if p := r.point("after the log has " + kind); p != nil {
		return p
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hits("nobody is told of an entry", w.plan.hiccup) {
		return fmt.Errorf("the leadership was lost and won: %w", errDead)
	}
	return err
}

// kindOf is the name of a command's op.
func kindOf(c provision.Command) string {
	data, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return err.Error()
	}
	delete(m, "v")
	for kind := range m {
		return kind
	}
	return "nothing"
}

// around is a call that the leader makes: it may die before it, or after it
// and before it has the answer.
func around[T any](r *reign, ctx context.Context, kind string, call func() (T, error)) (T, error) {
	var none T
	if err := r.point("before the call to " + kind); err != nil {
		return none, err
	}
	out, err := call()
	if p := r.point("after the call to " + kind); p != nil {
		return none, p
	}
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	return out, err
}

func (r *reign) Offers(ctx context.Context) ([]provision.Offer, error) {
	return around(r, ctx, "offers", func() ([]provision.Offer, error) { return r.w.cloud.offers(), r.w.cloud.call("offers") })
}

func (r *reign) Create(ctx context.Context, o provision.Order) (provision.Server, error) {
	r.w.mu.Lock()
	if r.w.flaws.renames {
		o.Name = fmt.Sprint(o.Name, "-", r.w.dice("names").IntN(1000))
	}
	r.w.checkOrder(o)
	r.w.mu.Unlock()
	var s provision.Server
	_, err := around(r, ctx, "create", func() (provision.Server, error) {
		var err error
		s, err = r.w.cloud.create(ctx, r, o)
		return s, err
	})
	if err != nil && provision.TroubleOf(err) != provision.Broken {
		s = provision.Server{}
	}
	return s, err
}

func (r *reign) Server(ctx context.Context, id string) (provision.Server, error) {
	if r.w.flaws.hasty {
		return provision.Server{}, trouble(provision.Gone, "It was not in the list.")
	}
	return around(r, ctx, "server", func() (provision.Server, error) { return r.w.cloud.server(id) })
}

func (r *reign) Servers(ctx context.Context) ([]provision.Server, error) {
	if r.w.flaws.blind {
		return nil, nil
	}
	return around(r, ctx, "servers", func() ([]provision.Server, error) { return r.w.cloud.list("mesh1") })
}

func (r *reign) Delete(ctx context.Context, id string) error {
	_, err := around(r, ctx, "delete", func() (struct{}, error) { return struct{}{}, r.w.cloud.remove(id) })
	return err
}

func (r *reign) SweepAddresses(ctx context.Context) ([]string, error) {
	return around(r, ctx, "addresses", func() ([]string, error) { return nil, r.w.cloud.call("addresses") })
}

func (r *reign) Budget() provision.Budget { return provision.Budget{} }

func (r *reign) Mint(ctx context.Context, op provision.Op) (string, error) {
	return around(r, ctx, "mint", func() (string, error) {
		r.w.mu.Lock()
		defer r.w.mu.Unlock()
		if r.w.plan.nokey.at(time.Since(r.w.began)) {
			r.w.tally.faults["no boot key"]++
			return "", fmt.Errorf("the control server does not answer")
		}
		return "key-" + op.ID, nil
	})
}

func (r *reign) Invitation(_ provision.Op, expires time.Time) (string, provision.Invite, error) {
	word := r.w.id()
	sum := sha256.Sum256([]byte(word))
	return word, provision.Invite{ID: "i-" + word, Hash: hex.EncodeToString(sum[:]), Expires: expires}, nil
}

func (r *reign) userData(b Boot) ([]byte, error) {
	return json.Marshal(map[string]string{"node": b.Machine.Node, "word": b.Word, "key": b.Key})
}

// schedule is cmd/samnode's scheduler, in few words.
func (r *reign) schedule() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		p, changed := r.w.state.Pool()
		r.place(p)
		select {
		case <-r.ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

func (r *reign) place(p provision.Pool) {
	silent := r.heart.Silent()
	for _, e := range provision.Expired(p, silent) {
		_ = r.propose(r.ctx, provision.Command{Release: e.Release()}) // looked at again
	}
	for _, d := range provision.Decide(p, r.w.waiting(), silent, r.w.now()).Decisions {
		if d.Node == "" {
			continue
		}
		i := slices.IndexFunc(r.w.plan.jobs, func(j job) bool { return j.task == d.Task })
		_ = r.propose(r.ctx, provision.Command{Grant: &provision.Grant{Task: d.Task, Node: d.Node, Slot: d.Slot, Owner: r.w.plan.jobs[i].owner}}) // looked at again
	}
}
