package workspace

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
)

// runs are the runs of this node by task. The lock covers the map only.
type runs struct {
	mu     sync.Mutex
	byTask map[chat.TaskID]*run
}

func (rs *runs) get(task chat.TaskID) *run {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.byTask[task]
}

func (rs *runs) set(task chat.TaskID, r *run) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r == nil {
		delete(rs.byTask, task)
		return
	}
	rs.byTask[task] = r
}

// Run runs every lease of this node until ctx ends. It detaches then: the
// agents go on under their shims, and the next Run attaches again.
func (r *Runner) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	done := make(chan *run)
	left, err := r.leftovers(ctx)
	if err != nil {
		// What is left over costs disk, not correctness; the engine may be away.
		r.c.Logger.Warn("looking for what earlier leases left", "err", err)
	}
	for _, n := range left {
		r.begin(ctx, g, done, n, n.clear)
	}
	g.Go(func() error { return r.supervise(ctx, g, done) })
	g.Go(func() error { return r.prune(ctx) })
	g.Go(func() error { return r.forgetArchived(ctx) })
	return g.Wait()
}

// An image that samnode built and that no task used for so long goes.
const (
	pruneEvery  = 24 * time.Hour
	pruneUnused = 14 * 24 * time.Hour
)

// prune keeps the machine from filling up with dev container images.
func (r *Runner) prune(ctx context.Context) error {
	return every(ctx, pruneEvery, func() {
		removed, err := r.c.Engine.Prune(ctx, pruneUnused)
		if len(removed) > 0 {
			r.c.Logger.Info("removed images that no task used", "images", removed)
		}
		if err != nil && ctx.Err() == nil {
			r.c.Logger.Warn("removing images that no task used", "err", err)
		}
	})
}

// supervise starts a run for each lease and tells runs what changed.
func (r *Runner) supervise(ctx context.Context, g *errgroup.Group, done chan *run) error {
	changes := make(chan []chat.Task)
	g.Go(func() error {
		var after uint64
		for {
			tasks, err := repeat(ctx, r.c.Logger, "watching the tasks", isNil, func() ([]chat.Task, error) {
				list, index, err := r.c.Board.TasksSince(ctx, after)
				if err == nil {
					after = index
				}
				return list, err
			})
			if err != nil {
				return fmt.Errorf("watching the tasks: %w", err)
			}
			select {
			case changes <- tasks:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	left := make(chan []*run)
	g.Go(func() error { return r.watchLeftovers(ctx, left) })
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case list := <-left:
			for _, n := range list {
				if r.runs.get(n.id) == nil {
					r.begin(ctx, g, done, n, n.clear)
				}
			}
		case tasks := <-changes:
			for _, t := range tasks {
				r.changed(ctx, g, done, t)
			}
		case old := <-done:
			r.runs.set(old.id, nil)
			// The task may have a new lease that waited for this end: every
			// state was told to this run, also after its own lease.
			if t := old.newest(); t.Lease == nil || t.Lease.Token != old.ended {
				r.changed(ctx, g, done, t)
			}
		}
	}
}

// changed tells the task's run, or starts one. A run under an old token is
// told to end; the new one starts when it has.
func (r *Runner) changed(ctx context.Context, g *errgroup.Group, done chan *run, t chat.Task) {
	if old := r.runs.get(t.ID); old != nil {
		old.tell(t)
		return
	}
	if t.Lease == nil || t.Lease.Node != r.c.Node {
		return
	}
	n := r.newRun(ctx, t, t.Lease.Token)
	r.begin(ctx, g, done, n, n.main)
}

// begin starts a run, which sends itself to done at its end.
func (r *Runner) begin(ctx context.Context, g *errgroup.Group, done chan *run, n *run, main func()) {
	r.runs.set(n.id, n)
	g.Go(func() error {
		main()
		select {
		case done <- n:
		case <-ctx.Done():
		}
		return nil
	})
}
