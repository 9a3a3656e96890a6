package chat

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// lookPause is the least time between two looks of a waiting LeasesSince: there
// may be hundreds, and each change wakes them all.
const lookPause = 10 * time.Millisecond

// heldBy reports whether the node has the task's lease.
func (t *Task) heldBy(node Node) bool { return t.Lease != nil && t.Lease.Node == node }

// stand is what placing looks at: how a task stands that has a lease or waits
// for one.
type stand struct {
	state TaskState
	token uint64 // of its lease, 0: none
	rests bool   // nothing waits for its agent
}

// standLocked notes how a task stands now and reports whether that is new.
func (r *Room) standLocked(t *Task) bool {
	r.queue.note(t)
	old, was := r.live[t.ID]
	if t.Lease == nil && !t.State.Waits() {
		delete(r.live, t.ID)
		return was
	}
	now := stand{state: t.State, rests: len(t.Queue) == 0}
	if t.Lease != nil {
		now.token = t.Lease.Token
	}
	r.live[t.ID] = now
	return !was || old != now
}

// Leased returns the tasks that have a lease, archived ones too, by id.
func (r *Room) Leased() []Task {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Task
	for id, s := range r.live {
		if s.token != 0 {
			out = append(out, cloneTask(*r.state.tasks.base[id]))
		}
	}
	slices.SortFunc(out, func(a, b Task) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// LiveSince waits until what placing looks at has changed after the cursor: a
// task began or ceased to be live, its state or lease is another, or its queue
// is empty or is not any more. What is said and done in tasks wakes nobody
// here. It returns the next cursor.
func (r *Room) LiveSince(ctx context.Context, after uint64) (uint64, error) {
	next := after
	err := r.until(ctx, func() bool { next = r.moved; return next > after })
	return next, err
}

// Leases returns the tasks of which the node has the lease, by id.
func (r *Room) Leases(node Node) []Task {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Task
	for id := range r.live {
		if t := r.state.tasks.base[id]; t.heldBy(node) {
			out = append(out, cloneTask(*t))
		}
	}
	slices.SortFunc(out, func(a, b Task) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// LeasesSince waits until a task changed after the log index after of which
// the node has the lease, or which is among known, and returns those that did,
// the oldest change first, with the next cursor. The cursor is good also with
// an error: up to there was nothing.
func (r *Room) LeasesSince(ctx context.Context, node Node, known map[TaskID]bool, after uint64) ([]Task, uint64, error) {
	for {
		out, index, changed := r.leasesSince(node, known, after)
		if len(out) > 0 {
			return out, index, nil
		}
		after = index
		pause := time.NewTimer(lookPause)
		select {
		case <-changed:
		case <-ctx.Done():
			pause.Stop()
			return nil, after, context.Cause(ctx)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, after, context.Cause(ctx)
		}
	}
}

// leasesSince looks once. The index is that up to which it has seen all.
func (r *Room) leasesSince(node Node, known map[TaskID]bool, after uint64) (out []Task, index uint64, changed <-chan struct{}) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for e := r.order.Back(); e != nil; e = e.Prev() {
		t := r.taskAtLocked(e)
		if t.Index <= after {
			break
		}
		if t.heldBy(node) || known[t.ID] {
			out = append(out, cloneTask(*t))
		}
	}
	slices.Reverse(out)
	return out, max(after, r.index), r.changed
}
