package consensus

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

const testSegment = 64 << 10

func openTestWAL(t *testing.T, dir string) (*raftwal.WAL, func()) {
	t.Helper()
	w, closeWAL, err := openWAL(dir, testSegment, newHclog(testLogger(t), "wal"))
	if err != nil {
		t.Fatal(err)
	}
	return w, func() {
		t.Helper()
		if err := closeWAL(); err != nil {
			t.Fatal(err)
		}
	}
}

func appendLogs(t *testing.T, w *raftwal.WAL, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		if err := w.StoreLog(&raft.Log{Index: i, Term: 1, Data: make([]byte, 1024)}); err != nil {
			t.Fatalf("appending %d: %v", i, err)
		}
	}
}

func wantLogs(t *testing.T, w *raftwal.WAL, from, to uint64) {
	t.Helper()
	if last, err := w.LastIndex(); err != nil || last != to {
		t.Fatalf("LastIndex() = %d, %v; want %d", last, err, to)
	}
	for i := from; i <= to; i++ {
		var l raft.Log
		if err := w.GetLog(i, &l); err != nil || l.Index != i || len(l.Data) != 1024 {
			t.Fatalf("GetLog(%d) = entry %d of %d bytes, %v", i, l.Index, len(l.Data), err)
		}
	}
}

// TestWALGoesOnAfterAnUnfinishedRotation is a kill between sealing a segment
// and recording it, at every point where that can be.
func TestWALGoesOnAfterAnUnfinishedRotation(t *testing.T) {
	dir := t.TempDir()
	w, closeWAL := openTestWAL(t, dir)
	appendLogs(t, w, 1, 10)
	closeWAL()
	before, err := os.ReadFile(filepath.Join(dir, metadb.FileName))
	if err != nil {
		t.Fatal(err)
	}
	w, closeWAL = openTestWAL(t, dir)
	n := uint64(10)
	for segments(t, dir) == 1 { // until the first segment is full
		n++
		appendLogs(t, w, n, n)
	}
	closeWAL()

	// The meta data of before, the segment of after.
	if err := os.WriteFile(filepath.Join(dir, metadb.FileName), before, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w, closeWAL = openTestWAL(t, dir)
		last, err := w.LastIndex()
		if err != nil || last < n-1 {
			t.Fatalf("LastIndex() = %d, %v; want at least %d", last, err, n-1)
		}
		wantLogs(t, w, 1, last)
		appendLogs(t, w, last+1, last+5)
		wantLogs(t, w, 1, last+5)
		closeWAL()
	}
}

func segments(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestWALReadsACutSegmentAfterARestart is hashicorp/raft-wal#31.
func TestWALReadsACutSegmentAfterARestart(t *testing.T) {
	dir := t.TempDir()
	w, closeWAL := openTestWAL(t, dir)
	appendLogs(t, w, 1, 20)
	if err := w.DeleteRange(15, 20); err != nil {
		t.Fatal(err)
	}
	appendLogs(t, w, 15, 17)
	closeWAL()

	w, closeWAL = openTestWAL(t, dir)
	wantLogs(t, w, 1, 17)
	appendLogs(t, w, 18, 200)
	closeWAL()
	w, closeWAL = openTestWAL(t, dir)
	wantLogs(t, w, 1, 200)
	closeWAL()
}
