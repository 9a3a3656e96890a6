package workspace

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/broker"
)

// Tenure is this node's right to act under its leases: it holds while the mesh
// hears of the node in time. provision.Tenure is one. Each right that is
// gained has a Lost of its own, so that a loss which was over before anybody
// looked is still seen by who kept the channel.
type Tenure interface {
	// Err is nil while the right holds, else a sentence that says why not.
	Err() error
	// Lost is closed when the right that holds now is lost. While none holds
	// it is closed already.
	Lost() <-chan struct{}
	// Held is closed when the right holds. While it does it is closed already.
	Held() <-chan struct{}
}

// always is the right of a node that is a mesh of its own.
type always struct{}

var _ Tenure = always{}

func (always) Err() error            { return nil }
func (always) Lost() <-chan struct{} { return nil }
func (always) Held() <-chan struct{} {
	held := make(chan struct{})
	close(held)
	return held
}

// fence is one run's view of the tenure. It is open while the tenure holds
// that the lease was confirmed under: by an op of the lease that the log took
// after the tenure was gained. A tenure that was lost and gained again opens
// nothing, for the lease may have ended in between.
type fence struct {
	tenure Tenure

	mu    sync.Mutex
	right <-chan struct{} // Lost of the confirmed tenure
	ok    bool            // there is one
	open  chan struct{}   // closed: ok
	since time.Time       // when it was shut; zero: it was never open
}

func newFence(t Tenure) *fence {
	f := &fence{tenure: t, open: make(chan struct{})}
	if t == (always{}) {
		f.confirm(nil)
	}
	return f
}

// look returns the right under which something may be begun; not ok: none.
// What was begun under a right asks lost whether it still had it at its end.
func (f *fence) look() (right <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookLocked()
	return f.right, f.ok
}

func (f *fence) lookLocked() {
	if f.ok && (f.tenure.Err() != nil || closed(f.right)) {
		f.ok, f.open, f.since = false, make(chan struct{}), time.Now()
	}
}

// lost says that a right that look returned is gone, or was none.
func (f *fence) lost(right <-chan struct{}) bool {
	now, ok := f.look()
	return !ok || now != right
}

// err is a sentence while the fence is shut.
func (f *fence) err() error {
	if _, ok := f.look(); ok {
		return nil
	}
	if err := f.tenure.Err(); err != nil {
		return &doubt{err}
	}
	return &doubt{errUnconfirmed}
}

var errUnconfirmed = errors.New("this node was away from the mesh and asks whether it still has this task")

// doubt is a refusal that may pass.
type doubt struct{ why error }

func (d *doubt) Error() string        { return d.why.Error() }
func (d *doubt) Unwrap() error        { return d.why }
func (d *doubt) Is(target error) bool { return target == broker.ErrForNow }

// pass waits until the fence is open and returns the right.
func (f *fence) pass(ctx context.Context) (<-chan struct{}, error) {
	for {
		f.mu.Lock()
		f.lookLocked()
		right, ok, open := f.right, f.ok, f.open
		f.mu.Unlock()
		if ok {
			return right, nil
		}
		select {
		case <-open:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// confirm opens the fence for a tenure, by its Lost.
func (f *fence) confirm(right <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ok {
		close(f.open)
	}
	f.right, f.ok = right, true
}

// shut is when the fence was shut; zero: it was never open.
func (f *fence) shut() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookLocked()
	return f.since
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// guard opens the fence, and again each time the tenure was lost and is held.
//
// While it is shut the agent goes on under its shim. That loses least: what it
// and its commands have in memory stays, a node that is back within its lease
// goes on as if nothing had happened, and nothing of what the agent does
// meanwhile can leave the container. A model call that is refused tells it to
// try again. The files are committed once, beside its work, for whatever may
// become of them before the end.
func (n *run) guard() {
	for n.ctx.Err() == nil {
		select {
		case <-n.r.c.Tenure.Held():
		case <-n.ctx.Done():
			return
		}
		right := n.r.c.Tenure.Lost() // taken before asking: what is lost meanwhile is seen
		if closed(right) {
			continue
		}
		if err := n.confirm(n.fence.shut()); err != nil {
			return
		}
		n.fence.confirm(right)
		select {
		case <-right:
		case <-n.ctx.Done():
			return
		}
		n.log.Warn("cut off from the mesh: nothing leaves the workspace", "since", n.fence.shut())
		n.snapshot()
	}
}

// confirm asks the log whether the lease is still this run's, with what there
// is to say of a time without. A lease that ended ends the run.
func (n *run) confirm(since time.Time) error {
	item := chat.Item{} // says nothing; its token is what counts
	if !since.IsZero() {
		item = status("warn", fmt.Sprintf("%s was cut off from the mesh from %s to %s UTC. Nothing left the workspace meanwhile; it goes on.",
			n.r.c.Node, since.UTC().Format(time.TimeOnly), time.Now().UTC().Format(time.TimeOnly)))
	}
	err := n.persist(n.ctx, chat.Op{Note: &chat.Note{Task: n.id, Token: n.token, Item: item}})
	if err != nil && n.ctx.Err() == nil { // whatever the refusal, the lease is not to be acted on
		n.log.Warn("the mesh does not confirm the lease", "err", err)
		n.cancel(ErrLeaseLost)
	}
	return err
}

// snapshot commits the files as they are beside the agent's work.
func (n *run) snapshot() {
	space, ok := n.workingCopy()
	c, err := n.client()
	if !ok || err != nil {
		return // nothing is there yet, or nothing runs
	}
	n.saving.Lock()
	defer n.saving.Unlock()
	ctx, cancel := context.WithTimeout(n.ctx, saveFor)
	defer cancel()
	saved, err := n.gitOn(ctx, c, space, space.Aside("Work in progress when "+string(n.r.c.Node)+" was cut off from the mesh."))
	if err != nil {
		n.log.Warn("committing work in progress while cut off", "err", err)
		return
	}
	n.log.Info("committed work in progress while cut off", "commit", saved.Work, "files", saved.Files)
}

// saveFor is how long a commit may take that nobody waits for.
const saveFor = 2 * time.Minute

// stale is what the broker asks before it lets anything out.
func (n *run) stale() error {
	if n.ctx.Err() != nil {
		return fmt.Errorf("this workspace's lease ended: %w", context.Cause(n.ctx))
	}
	return n.fence.err()
}

// within bounds what is on its way out: its context ends when the lease does,
// or the right to it. A node that only stops lets it come to its end.
func (n *run) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	right, ok := n.fence.look()
	if !ok {
		cancel(n.fence.err())
		return ctx, func() {}
	}
	stop := context.AfterFunc(n.ctx, func() {
		if errors.Is(context.Cause(n.ctx), ErrLeaseLost) {
			cancel(ErrLeaseLost)
		}
	})
	go func() {
		select {
		case <-right:
			cancel(n.fence.err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { stop(); cancel(nil) }
}
