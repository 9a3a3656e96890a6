package consensus

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

const testSegment = 64 << 10

func openTestWAL(t *testing.T, dir string) (*raftwal.WAL, func()) {
	t.Helper()
	w, closeWAL, err := openWAL(dir, fs.New(), testSegment, newHclog(testLogger(t), "wal"))
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

// TestWALGoesOnAfterAnUnfinishedRotation is a kill or a full disk between the
// first byte of a segment's index and the record that it is sealed.
func TestWALGoesOnAfterAnUnfinishedRotation(t *testing.T) {
	for name, tc := range map[string]struct {
		before uint64 // entries in batches of their own before the one that fills the segment
		cut    int    // bytes missing at the end of the segment
	}{
		"only the record is missing":            {before: 10},
		"part of the commit is missing":         {before: 10, cut: 3},
		"the commit is missing":                 {before: 10, cut: 8},
		"part of the index is missing":          {before: 10, cut: 100},
		"part of the only batch is missing":     {cut: 100},
		"the only batch is whole":               {},
		"part of the filling entry is missing":  {before: 10, cut: 1000},
		"many entries of one batch are missing": {before: 1, cut: 10000},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			meta := filepath.Join(dir, metadb.FileName)
			w, closeWAL := openTestWAL(t, dir)
			appendLogs(t, w, 1, tc.before)
			closeWAL()
			before, err := os.ReadFile(meta)
			if err != nil {
				t.Fatal(err)
			}
			w, closeWAL = openTestWAL(t, dir)
			var batch []*raft.Log
			for i := range uint64(80) {
				batch = append(batch, &raft.Log{Index: tc.before + 1 + i, Term: 1, Data: make([]byte, 1024)})
			}
			if err := w.StoreLogs(batch); err != nil {
				t.Fatal(err)
			}
			closeWAL()

			// The meta data of before, the segment of after.
			if err := os.WriteFile(meta, before, 0o600); err != nil {
				t.Fatal(err)
			}
			want := tc.before + 80
			if tc.cut > 0 {
				cutEnd(t, filepath.Join(dir, "00000000000000000001-0000000000000000.wal"), tc.cut)
				want = tc.before
			}
			for range 2 {
				w, closeWAL = openTestWAL(t, dir)
				wantLogs(t, w, 1, want)
				appendLogs(t, w, want+1, want+5)
				want += 5
				wantLogs(t, w, 1, want)
				closeWAL()
			}
		})
	}
}

// cutEnd makes zeros of the last n bytes that were written to a file.
func cutEnd(t *testing.T, path string, n int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(b, "\x00"))
	clear(b[end-n : end])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
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

// unsynced are files that know which of them has bytes that only the system's
// cache has.
type unsynced struct {
	types.VFS
	killed bool // before each sync
	dirty  map[string]bool
}

func (u *unsynced) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := u.VFS.Create(dir, name, size)
	return &unsyncedFile{f, u, name}, err
}

func (u *unsynced) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := u.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &unsyncedFile{f, u, name}, nil
}

type unsyncedFile struct {
	types.WritableFile
	of   *unsynced
	name string
}

func (f *unsyncedFile) WriteAt(b []byte, off int64) (int, error) {
	f.of.dirty[f.name] = true
	return f.WritableFile.WriteAt(b, off)
}

func (f *unsyncedFile) Sync() error {
	if f.of.killed {
		return nil
	}
	delete(f.of.dirty, f.name)
	return f.WritableFile.Sync()
}

// TestWhatWasNotSyncedIsSyncedBeforeItCounts: a process that was killed in
// between leaves a whole batch that a power cut would take.
func TestWhatWasNotSyncedIsSyncedBeforeItCounts(t *testing.T) {
	dir, files := t.TempDir(), &unsynced{VFS: fs.New(), dirty: make(map[string]bool)}
	for _, killed := range []bool{true, false} {
		files.killed = killed
		w, closeWAL, err := openWAL(dir, files, testSegment, newHclog(testLogger(t), "wal"))
		if err != nil {
			t.Fatal(err)
		}
		if killed {
			appendLogs(t, w, 1, 3)
		}
		wantLogs(t, w, 1, 3)
		if dirty := files.dirty[firstSegment]; dirty != killed {
			t.Errorf("killed before each sync: %t, what was written is not synced: %t", killed, dirty)
		}
		if err := closeWAL(); err != nil {
			t.Fatal(err)
		}
	}
}
