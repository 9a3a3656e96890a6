package workspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/docker"
)

// A node stays clean between tasks: a container without a lease goes, and so do
// the volumes of tasks that are archived for so long.
const (
	defaultTidyEvery = time.Minute
	keepArchived     = 7 * 24 * time.Hour
)

// ownerless are the containers that no run has, or clears.
func (r *Runner) ownerless(found []docker.State) []docker.State {
	var list []docker.State
	for _, st := range found {
		if r.runs.get(chat.TaskID(st.Labels[docker.LabelTask])) == nil {
			list = append(list, st)
		}
	}
	return list
}

// watchLeftovers finds what a run could not clear when its lease ended.
func (r *Runner) watchLeftovers(ctx context.Context, found chan<- []*run) error {
	tick := time.NewTicker(cmp.Or(r.c.TidyEvery, defaultTidyEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		list, err := r.leftovers(ctx)
		if err != nil && ctx.Err() == nil {
			r.c.Logger.Warn("looking for what ended workspaces left", "err", err)
		}
		if len(list) == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case found <- list:
		}
	}
}

// forgetArchived removes what is left of tasks that were archived long ago.
func (r *Runner) forgetArchived(ctx context.Context) error {
	return every(ctx, time.Hour, func() {
		if err := r.forgetOld(ctx, time.Now().Add(-keepArchived)); err != nil && ctx.Err() == nil {
			r.c.Logger.Warn("removing the volumes of archived tasks", "err", err)
		}
	})
}

// every does something now and again until ctx ends.
func every(ctx context.Context, pause time.Duration, do func()) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// forgetOld forgets the tasks that are archived since before then. One that the
// mesh does not know keeps its volumes: a mesh that was restored from a backup
// knows less than its machines have.
func (r *Runner) forgetOld(ctx context.Context, before time.Time) error {
	volumes, err := r.c.Engine.ListVolumes(ctx, nil)
	if err != nil {
		return err
	}
	asked := map[string]bool{}
	var errs []error
	for _, v := range volumes {
		id := v.Labels[docker.LabelTask]
		if asked[id] || ctx.Err() != nil {
			continue
		}
		asked[id] = true
		t, err := r.c.Board.Task(id)
		if err != nil || !t.Archived || t.Lease != nil || t.Since.After(before) {
			continue // one that cannot be read now is asked for again in an hour
		}
		if err := r.Forget(ctx, t); err != nil && !errors.Is(err, chat.ErrRefused) {
			errs = append(errs, fmt.Errorf("task %s: %w", id, err))
			continue
		}
		r.c.Logger.Info("removed the volumes of an archived task", "task", id)
	}
	return errors.Join(errs...)
}
