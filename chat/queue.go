package chat

import (
	"cmp"
	"slices"
	"time"
)

// Waiting is a task that waits for a lease, as far as placing asks.
type Waiting struct {
	Task    TaskID
	Project ProjectID
	Author  Person
	Home    Node // that has its volume; empty: none has
	State   TaskState
	Since   time.Time
}

// Waiting returns the tasks that wait for a lease, archived ones too, the
// longest wait first. There may be thousands, and people ask of each why it
// waits: this costs a small fraction of what copies of the tasks do.
func (r *Room) Waiting() []Waiting {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.queue.all)
}

// queue is what waits, in order.
type queue struct {
	all   []Waiting
	since map[TaskID]time.Time // of each, by which it is found in all
}

func newQueue() *queue { return &queue{since: map[TaskID]time.Time{}} }

func (q *queue) find(since time.Time, id TaskID) (at int, found bool) {
	return slices.BinarySearchFunc(q.all, id, func(w Waiting, id TaskID) int {
		return cmp.Or(w.Since.Compare(since), cmp.Compare(w.Task, id))
	})
}

// note takes note of how a task stands now. One that has just come is the last:
// nothing has to move for it.
func (q *queue) note(t *Task) {
	since, was := q.since[t.ID]
	waits := t.Lease == nil && t.State.Waits()
	w := Waiting{Task: t.ID, Project: t.Project, Author: t.Author.Person, Home: t.Home, State: t.State, Since: t.Since}
	if was {
		at, _ := q.find(since, t.ID)
		if waits && since.Equal(t.Since) {
			q.all[at] = w
			return
		}
		q.all = slices.Delete(q.all, at, at+1)
		delete(q.since, t.ID)
	}
	if waits {
		at, _ := q.find(t.Since, t.ID)
		q.all = slices.Insert(q.all, at, w)
		q.since[t.ID] = t.Since
	}
}
