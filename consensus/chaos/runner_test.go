package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/provision"
)

// leasesFunc waits until there may be something new after the index, and
// returns the tasks of which the node has the lease at a newer one.
type leasesFunc func(ctx context.Context, after uint64) ([]task, uint64, error)

// persistFunc has the log take a command of a lease, errStale: it refused it.
type persistFunc func(ctx context.Context, o op) error

// runner holds a node's leases: for each it runs what acts under it.
type runner struct {
	l       *life
	leases  leasesFunc
	persist persistFunc
	rng     *rand.Rand
	runs    map[string]*run // by task
	all     sync.WaitGroup
}

func newRunner(l *life, leases leasesFunc, persist persistFunc) *runner {
	return &runner{l: l, leases: leases, persist: persist, rng: rand.New(rand.NewPCG(l.w.plan.seed, l.n.generation)), runs: make(map[string]*run)}
}

func (r *runner) run(ctx context.Context) error {
	defer r.all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var after uint64
	for {
		if err := r.l.proc.pass(ctx); err != nil {
			return err
		}
		tasks, index, err := r.leases(ctx, after)
		if err != nil {
			return err
		}
		after = index
		if err := r.dawdle(ctx); err != nil {
			return err
		}
		mine := make(map[string]task, len(tasks))
		for _, t := range tasks {
			mine[t.Task] = t
		}
		for name, n := range r.runs {
			if mine[name].Token != n.token {
				n.cancel(errLost)
				delete(r.runs, name)
			}
		}
		for name, t := range mine {
			if r.runs[name] == nil {
				n := r.newRun(ctx, t)
				r.runs[name] = n
				r.all.Go(n.main)
			}
		}
	}
}

// dawdle is the time between a change of the state and who looks at it.
func (r *runner) dawdle(ctx context.Context) error {
	most := int64(100 * time.Millisecond)
	if r.l.w.flaws.hasty {
		most *= 40
	}
	select {
	case <-time.After(time.Duration(r.rng.Int64N(most))):
		return r.l.proc.pass(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errLost = errors.New("the lease is another's")

// run is what acts under one lease.
type run struct {
	r      *runner
	task   string
	slot   string
	token  uint64
	fence  *fence
	ctx    context.Context
	cancel context.CancelCauseFunc
	rng    *rand.Rand
}

func (r *runner) newRun(ctx context.Context, t task) *run {
	n := &run{
		r: r, task: t.Task, slot: t.Slot, token: t.Token,
		fence: newFence(r.l.tenure), rng: rand.New(rand.NewPCG(r.l.w.plan.seed, t.Token)),
	}
	n.ctx, n.cancel = context.WithCancelCause(ctx)
	if r.l.w.flaws.noTenure {
		n.fence.confirm(nil)
	}
	return n
}

// main acts for a while and gives the lease back.
func (n *run) main() {
	defer n.cancel(nil)
	if !n.r.l.w.flaws.noTenure {
		n.r.all.Go(n.guard)
	}
	acts := 1 + n.rng.IntN(12)
	if n.rng.IntN(3) == 0 {
		acts *= 6 // longer than a lease lasts without its node
	}
	saying := make(chan struct{}, 1)
	for range acts {
		right, err := n.fence.pass(n.ctx)
		if err != nil || n.r.l.proc.pass(n.ctx) != nil {
			return
		}
		n.act(right, time.Duration(n.rng.Int64N(int64(300*time.Millisecond))))
		if n.rng.IntN(4) == 0 {
			select {
			case saying <- struct{}{}:
				n.r.all.Go(func() {
					_ = n.say() // ends the run when it is refused
					<-saying
				})
			default: // the mesh is slow, or away: work goes on
			}
		}
		select {
		case <-time.After(time.Duration(n.rng.Int64N(int64(100 * time.Millisecond)))):
		case <-n.ctx.Done():
			return
		}
	}
	_ = n.r.persist(n.ctx, op{ID: n.r.l.w.id("end"), End: &leaseOp{Task: n.task, Token: n.token}}) // refused or lost, it has ended
}

// say puts something into the log under the lease.
func (n *run) say() error {
	err := n.r.persist(n.ctx, op{ID: n.r.l.w.id("note"), Note: &leaseOp{Task: n.task, Token: n.token}})
	if err != nil {
		n.cancel(errLost)
	}
	return err
}

// act does something that others can see, until it is done or the right to it
// is gone. A process that is paused or killed does nothing.
func (n *run) act(right <-chan struct{}, d time.Duration) {
	l := n.r.l
	if n.fence.lost(right) { // the fence was passed before a pause
		return
	}
	a := &act{task: n.task, slot: n.slot, node: l.n.name, token: n.token, from: time.Now(), span: span{began: l.w.history.now()}}
	paused, moved := l.proc.state()
	if !paused {
		select {
		case <-time.After(d):
		case <-right:
		case <-moved:
		case <-n.ctx.Done():
		}
	}
	a.to, a.span.ended = time.Now(), l.w.history.now()
	l.w.history.add(func() { l.w.history.acts = append(l.w.history.acts, a) })
}

// guard opens the fence, and again each time the tenure was lost and is held,
// as package workspace does.
func (n *run) guard() {
	t := n.r.l.tenure
	for n.ctx.Err() == nil {
		select {
		case <-t.Held():
		case <-n.ctx.Done():
			return
		}
		right := t.Lost()
		if closed(right) {
			continue
		}
		if !n.r.l.w.flaws.hasty && n.say() != nil {
			return
		}
		n.fence.confirm(right)
		select {
		case <-right:
		case <-n.ctx.Done():
			return
		}
	}
}

// fence is package workspace's: open while the tenure holds that the lease was
// confirmed under.
type fence struct {
	tenure *provision.Tenure

	mu    sync.Mutex
	right <-chan struct{}
	ok    bool
	open  chan struct{}
}

func newFence(t *provision.Tenure) *fence { return &fence{tenure: t, open: make(chan struct{})} }

// lookLocked shuts the fence when the right is gone. A nil right never is.
func (f *fence) lookLocked() {
	if f.ok && f.right != nil && (f.tenure.Err() != nil || closed(f.right)) {
		f.ok, f.open = false, make(chan struct{})
	}
}

func (f *fence) lost(right <-chan struct{}) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookLocked()
	return !f.ok || f.right != right
}

func (f *fence) pass(ctx context.Context) (<-chan struct{}, error) {
	for {
		f.mu.Lock()
		f.lookLocked()
		right, ok, open := f.right, f.ok, f.open
		f.mu.Unlock()
		if ok {
			return right, context.Cause(ctx)
		}
		select {
		case <-open:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (f *fence) confirm(right <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ok {
		close(f.open)
	}
	f.right, f.ok = right, true
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// leasesHere reads a core node's own board.
func (l *life) leasesHere(ctx context.Context, after uint64) ([]task, uint64, error) {
	for {
		tasks, index, changed := l.board.tasks()
		if index > after {
			return heldBy(tasks, l.n.name), index, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, after, context.Cause(ctx)
		}
	}
}

func heldBy(tasks []task, node string) (out []task) {
	for _, t := range tasks {
		if t.Token != 0 && t.Node == node {
			out = append(out, t)
		}
	}
	return out
}

// persistHere insists until the log took the command or refused it.
func (l *life) persistHere(ctx context.Context, o op) error {
	return l.patiently(ctx, func(ctx context.Context) error { return l.boardDo(ctx, o) })
}

// toil is a worker's part in the pool: it has no log, and asks a core node.
func (l *life) toil(ctx context.Context) error {
	err := l.patiently(ctx, func(ctx context.Context) error {
		return l.ask(ctx, func(ctx context.Context, core *life) error {
			return core.poolDo(ctx, provision.Command{Start: l.startOp()})
		})
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return l.beats(ctx, func(ctx context.Context) error {
			return l.ask(ctx, func(ctx context.Context, core *life) error {
				return core.takeBeat(ctx, provision.Beat{Node: l.n.name, Boot: l.boot}, false)
			})
		})
	})
	g.Go(func() error { return newRunner(l, l.leasesThere, l.persistThere).run(ctx) })
	return g.Wait()
}

// ask has a core node do something: the one that answered last, or the next.
func (l *life) ask(ctx context.Context, f func(context.Context, *life) error) error {
	var err error
	for range l.w.names {
		core := l.w.names[int(l.core.Load())%len(l.w.names)]
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		err = l.w.net.call(one, l.proc, core, f)
		cancel()
		if err == nil || isRefusal(err) || ctx.Err() != nil {
			return err
		}
		l.core.Add(1)
	}
	return err
}

// leasesThere asks for news, as chat/remote does.
func (l *life) leasesThere(ctx context.Context, after uint64) (tasks []task, index uint64, err error) {
	err = l.patiently(ctx, func(ctx context.Context) error {
		return l.ask(ctx, func(ctx context.Context, core *life) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			tasks, index, err = core.leasesOf(ctx, l.n.name, after)
			return err
		})
	})
	return tasks, index, err
}

// leasesOf answers a worker: what has changed, or nothing after a while.
func (l *life) leasesOf(ctx context.Context, node string, after uint64) ([]task, uint64, error) {
	for {
		tasks, index, changed := l.board.tasks()
		if index > after {
			return heldBy(tasks, node), index, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if index == after {
				return heldBy(tasks, node), index, nil // nothing new
			}
			return nil, after, errBehind
		}
	}
}

var errBehind = errors.New("this core node is behind another one")

func (l *life) persistThere(ctx context.Context, o op) error {
	return l.patiently(ctx, func(ctx context.Context) error {
		return l.ask(ctx, func(ctx context.Context, core *life) error { return core.boardDo(ctx, o) })
	})
}
