package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
)

func TestRecent(t *testing.T) {
	has := func(t *testing.T, r *recent, low, high uint64) {
		t.Helper()
		for _, index := range []uint64{0, low - 1, high + 1, high + recentEntries, low + recentEntries + 1<<20} {
			if l := new(raft.Log); r.get(index, l) {
				t.Errorf("it has entry %d: %+v", index, l)
			}
		}
		for index := low; index <= high; index++ {
			if l := new(raft.Log); !r.get(index, l) || l.Index != index {
				t.Errorf("entry %d = %+v", index, l)
			}
		}
	}
	some := func(from, to uint64, size int) (logs []*raft.Log) {
		for i := from; i <= to; i++ {
			logs = append(logs, &raft.Log{Index: i, Data: make([]byte, size)})
		}
		return logs
	}
	r := new(recent)
	has(t, r, 1, 0)
	r.add(some(1, recentEntries, 10)) // from the first of all
	has(t, r, 1, recentEntries)
	r.add(some(recentEntries+1, recentEntries+3, 10))
	has(t, r, 4, recentEntries+3)
	r.add(some(5, 9, 10))
	has(t, r, 5, 9)
	r.add(some(10, 4000, 10))
	has(t, r, 4000-recentEntries+1, 4000)
	r.add(some(7, 8, 10)) // as after a cut
	has(t, r, 7, 8)
	r.add(some(9, 100, recentBytes/4))
	has(t, r, 97, 100)
	r.add(some(101, 101, recentBytes+1)) // one that is too large leaves nothing
	has(t, r, 102, 101)
	r.add(some(102, 103, 1))
	has(t, r, 102, 103)
	r.clear()
	has(t, r, 1, 0)
}
