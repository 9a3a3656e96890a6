package store

import (
	"hash/maphash"

	"github.com/samnode/samnode/chat"
)

// What is remembered at most: ids of one task, and of all.
const (
	maxKnownOf = 1 << 15
	maxKnown   = 1 << 17
)

// known are the message ids of the tasks that were written to last, as hashes.
// Most commands ask for an id that is new, and this says so without the
// database. It is the goroutine's that applies.
type known struct {
	seed  maphash.Seed
	tasks map[chat.TaskID]map[uint64]struct{} // nil: it has too many, and may have any
	size  int                                 // ids of all
}

func newKnown() *known {
	return &known{seed: maphash.MakeSeed(), tasks: map[chat.TaskID]map[uint64]struct{}{}}
}

// has says that a task's ids are known.
func (k *known) has(task chat.TaskID) bool {
	_, ok := k.tasks[task]
	return ok
}

// lacks says that a task surely has no message of that id.
func (k *known) lacks(task chat.TaskID, id string) bool {
	ids := k.tasks[task]
	if ids == nil {
		return false
	}
	_, ok := ids[maphash.String(k.seed, id)]
	return !ok
}

// begin makes a task known; all of its ids must be added before the next lacks.
func (k *known) begin(task chat.TaskID) {
	if k.size > maxKnown {
		clear(k.tasks)
		k.size = 0
	}
	k.tasks[task] = map[uint64]struct{}{}
}

// add adds an id of a task that is known.
func (k *known) add(task chat.TaskID, id string) {
	ids := k.tasks[task]
	if ids == nil {
		return
	}
	before := len(ids)
	ids[maphash.String(k.seed, id)] = struct{}{}
	k.size += len(ids) - before
	if len(ids) > maxKnownOf {
		k.size -= len(ids)
		k.tasks[task] = nil
	}
}
