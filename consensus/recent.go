package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// What recent holds at most: entries, and bytes of their data.
const (
	recentEntries = 1024
	recentBytes   = 4 << 20
)

// recent are the newest entries of the log in memory: those that other nodes
// are sent and the machines are given, which the disk need not be asked for. They
// follow one another. The zero value holds none.
type recent struct {
	mu        sync.RWMutex
	logs      [recentEntries]*raft.Log // by index modulo
	low, high uint64                   // from and to; low > high or 0: none
	bytes     int
}

// add takes entries that are on disk. Nobody changes them any more.
func (r *recent) add(logs []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range logs {
		if r.low == 0 || l.Index != r.high+1 {
			r.clearLocked()
			r.low = l.Index
		}
		if r.high >= r.low && r.high-r.low+1 == recentEntries {
			r.dropLocked()
		}
		kept := *l
		r.logs[l.Index%recentEntries], r.high = &kept, l.Index
		r.bytes += len(l.Data)
		for r.bytes > recentBytes {
			r.dropLocked()
		}
	}
}

func (r *recent) dropLocked() {
	at := r.low % recentEntries
	r.bytes -= len(r.logs[at].Data)
	r.logs[at] = nil
	r.low++
}

func (r *recent) clearLocked() {
	clear(r.logs[:])
	r.low, r.high, r.bytes = 0, 0, 0
}

// clear forgets all, when the log is cut.
func (r *recent) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clearLocked()
}

// get copies the entry of that index.
func (r *recent) get(index uint64, to *raft.Log) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if index == 0 || index < r.low || index > r.high {
		return false
	}
	*to = *r.logs[index%recentEntries]
	return true
}
