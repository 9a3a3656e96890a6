package consensus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// smallDisk mounts a tmpfs of size bytes for the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("SKIPPED: a small tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on the disk; the returned func gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	f.Close() // the disk is full; only that counts
	if !full(err) {
		t.Fatal("filling the disk:", err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

func proposeBytes(t *testing.T, l *Log, size int) (uint64, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return l.Propose(ctx, Part{Machine: "m", Data: make([]byte, size)})
}

// TestAFullDisk fills the disk while clients write. They must get ErrFull, the
// node must stop, and with room again everything acknowledged must be there.
func TestAFullDisk(t *testing.T) {
	// Small entries end at a file that cannot be followed by the next one,
	// large ones in the middle of a write.
	for name, size := range map[string]int{"small entries": 200, "large entries": 16 << 10} {
		t.Run(name, func(t *testing.T) { testFullDisk(t, size) })
	}
}

func testFullDisk(t *testing.T, size int) {
	dir := smallDisk(t, "3m")
	m := new(recorder)
	c := testConfig(t, m)
	c.Dir, c.SegmentSize = filepath.Join(dir, "log"), 256<<10
	l := open(t, c)
	var mu sync.Mutex
	acked := map[uint64]bool{say(t, l, "before"): true}

	free := fill(t, dir)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for { // until what raft-wal took in advance, if it could, is used up
				index, err := proposeBytes(t, l, size)
				if err != nil {
					if !errors.Is(err, ErrFull) {
						t.Errorf("Propose() = %v, want ErrFull", err)
					}
					return
				}
				mu.Lock()
				acked[index] = true
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	wantFailed(t, l, ErrFull)
	if l.IsLeader() {
		t.Error("still leads")
	}
	closeLog(t, l)

	// Still without room, it says so at the start or at the first write.
	c.Machines["m"] = new(recorder)
	l, err := Open(t.Context(), c)
	if err == nil {
		_, err = proposeBytes(t, l, 256<<10)
		closeLog(t, l)
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("starting on a full disk = %v, want ErrFull", err)
	}

	free()
	m = new(recorder)
	c.Machines["m"] = m
	l = open(t, c)
	say(t, l, "after")
	seen := map[uint64]bool{}
	for _, e := range m.all() {
		seen[e.Index] = true
	}
	for index := range acked {
		if !seen[index] {
			t.Errorf("entry %d was acknowledged and is gone", index)
		}
	}
}

// TestTermCannotBeWritten: Raft would panic and take the process with it.
func TestTermCannotBeWritten(t *testing.T) {
	c := testConfig(t, new(recorder))
	l := open(t, c)
	say(t, l, "one")
	l.stores.stable.StableStore = brokenStore{l.stores.stable.StableStore}
	if err := l.stores.stable.SetUint64([]byte(keyTerm), 9); err != nil {
		t.Errorf("SetUint64(term) = %v: raft panics at an error", err)
	}
	if err := l.stores.stable.Set([]byte("LastVoteCand"), []byte("a")); !errors.Is(err, ErrFull) {
		t.Errorf("Set(vote) = %v, want ErrFull: nobody may get a vote that is forgotten", err)
	}
	wantFailed(t, l, ErrFull)
	if _, err := l.Propose(t.Context(), Part{Machine: "m"}); !errors.Is(err, ErrFull) {
		t.Errorf("Propose() = %v, want ErrFull", err)
	}
}

// TestNothingIsAppendedAfterAFailedWrite: what is on disk is unknown until the
// log is opened again.
func TestNothingIsAppendedAfterAFailedWrite(t *testing.T) {
	inner := &brokenLog{LogStore: raft.NewInmemStore(), err: syscall.EIO}
	failures := 0
	s := &logStore{LogStore: inner, fail: func(error) { failures++ }}
	if err := s.StoreLog(&raft.Log{Index: 1}); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.EIO) {
		t.Errorf("StoreLog() = %v, want ErrFull and EIO", err)
	}
	inner.err = nil
	if err := s.StoreLog(&raft.Log{Index: 1}); !errors.Is(err, ErrFull) {
		t.Errorf("StoreLog() after a failure = %v, want ErrFull", err)
	}
	if failures != 1 {
		t.Errorf("told of %d failures, want 1", failures)
	}
}

type brokenLog struct {
	raft.LogStore
	err error
}

func (s *brokenLog) StoreLogs(logs []*raft.Log) error {
	if s.err != nil {
		return s.err
	}
	return s.LogStore.StoreLogs(logs)
}

type brokenStore struct{ raft.StableStore }

func (brokenStore) Set([]byte, []byte) error       { return syscall.EIO }
func (brokenStore) SetUint64([]byte, uint64) error { return syscall.EIO }
