package consensus

import (
	"slices"
	"sync"
)

// waits are those who wait until an entry is applied. They are woken one by
// one: with hundreds of clients, waking all for each batch costs more than the
// batch.
type waits struct {
	mu    sync.Mutex
	index uint64 // that was applied
	over  bool   // nothing more will be
	all   []wait
}

type wait struct {
	index uint64
	done  chan struct{}
}

// await returns what is closed when the entry at index was applied, or never
// will be because a machine failed.
func (w *waits) await(index uint64) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := make(chan struct{})
	if index <= w.index || w.over {
		close(done)
		return done
	}
	w.all = append(w.all, wait{index, done})
	return done
}

// forget ends an await that nobody waits for any more.
func (w *waits) forget(done <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = slices.DeleteFunc(w.all, func(x wait) bool { return x.done == done })
}

// settle tells how far the log was applied, and whether that is the end.
func (w *waits) settle(index uint64, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index, w.over = index, over
	w.all = slices.DeleteFunc(w.all, func(x wait) bool {
		ready := x.index <= index || over
		if ready {
			close(x.done)
		}
		return ready
	})
}

// applied is the newest entry that was.
func (w *waits) applied() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index
}
