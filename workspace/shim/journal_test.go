package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openTestJournal(t testing.TB, path string) (*journal, found, *Note) {
	t.Helper()
	f, s, note, err := openJournalFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return newJournal(osFile{f}, s, quiet()), s, note
}

func closeJournal(t testing.TB, j *journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill writes n records of varying size and returns them.
func fill(t testing.TB, path string, n int) []Record {
	t.Helper()
	j, s, _ := openTestJournal(t, path)
	var recs []Record
	for i := range n {
		r := Record{
			Seq: s.last + uint64(i) + 1, At: time.Unix(1, int64(i)).UTC(), Dir: dirs[i%3], Run: i / 10,
			Data: bytes.Repeat([]byte{byte(i)}, i%300),
		}
		if r.Dir == In {
			r.ID = fmt.Sprint("id-", r.Seq)
		}
		if _, err := j.append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r)
	}
	closeJournal(t, j)
	return recs
}

func readAll(t testing.TB, path string, from uint64) []Record {
	t.Helper()
	var all []Record
	for r, err := range ReadJournal(path, from) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestJournalRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	want := fill(t, path, 1000)
	want = append(want, fill(t, path, 500)...)
	if diff := cmp.Diff(want, readAll(t, path, 0)); diff != "" {
		t.Errorf("ReadJournal (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1233:], readAll(t, path, 1234)); diff != "" {
		t.Errorf("ReadJournal from 1234 (-want +got):\n%s", diff)
	}
	j, s, note := openTestJournal(t, path)
	defer closeJournal(t, j)
	if note != nil || s.last != 1500 || s.run != 99 || len(s.ids) != 501 {
		t.Errorf("opening found last %d, run %d, %d ids, note %v", s.last, s.run, len(s.ids), note)
	}
	for _, from := range []uint64{1, 2, 777, 1499, 1500} {
		var got []Record
		err := j.follow(t.Context(), from, func(b []byte) error {
			for b = bytes.Clone(b); len(b) > 0; {
				r, n, err := decodeFrame(b)
				if err != nil {
					return err
				}
				got, b = append(got, r), b[n:]
			}
			if got[len(got)-1].Seq == 1500 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Fatalf("follow from %d: %v", from, err)
		}
		if diff := cmp.Diff(want[from-1:], got); diff != "" {
			t.Errorf("follow from %d (-want +got):\n%s", from, diff)
		}
	}
	if err := j.follow(t.Context(), 1502, nil); !errors.Is(err, ErrAhead) {
		t.Errorf("follow beyond the end = %v, want ErrAhead", err)
	}
}

func TestJournalIsOneShims(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j, _, _ := openTestJournal(t, path)
	defer closeJournal(t, j)
	if _, _, _, err := openJournalFile(path); err == nil {
		t.Error("a second shim opened the same journal")
	}
}

func TestJournalOfSomethingElse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte("somebody's notes, not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := openJournalFile(path); !errors.Is(err, ErrNotJournal) {
		t.Errorf("opening = %v, want ErrNotJournal", err)
	}
	for _, err := range ReadJournal(path, 1) {
		if !errors.Is(err, ErrNotJournal) {
			t.Errorf("ReadJournal = %v, want ErrNotJournal", err)
		}
	}
}

// Whatever byte the file ends at, the whole records before it survive and the
// next one gets the next number.
func TestJournalTornAnywhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	recs := fill(t, whole, 12)
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(b) + 1 {
		path := filepath.Join(dir, fmt.Sprint("cut", cut))
		if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		survived := 0
		if cut >= len(fileMagic) {
			survived = len(readAll(t, path, 1))
		}
		j, s, note := openTestJournal(t, path)
		if s.last != uint64(survived) || note == nil && cut >= len(fileMagic) && s.size != int64(cut) {
			t.Fatalf("cut at %d: found last %d of %d, note %v", cut, s.last, survived, note)
		}
		if _, err := j.append(t.Context(), Record{At: time.Unix(9, 0).UTC(), Dir: Out, Data: []byte("next")}); err != nil {
			t.Fatal(err)
		}
		closeJournal(t, j)
		want := append(recs[:survived:survived], Record{Seq: uint64(survived) + 1, At: time.Unix(9, 0).UTC(), Dir: Out, Data: []byte("next")})
		if diff := cmp.Diff(want, readAll(t, path, 1)); diff != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", cut, diff)
		}
	}
}

// Damage in the middle costs the records it hit; the others keep their
// numbers, and no number is used again.
func TestJournalDamagedInTheMiddle(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	recs := fill(t, path, 300)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(b) / 3, len(b) / 3 * 2} {
		copy(b[at:], "ZZZZ")
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := false
	for _, err := range ReadJournal(path, 1) {
		damaged = damaged || err != nil
	}
	if !damaged {
		t.Error("ReadJournal does not report the damage")
	}
	j, s, note := openTestJournal(t, path)
	closeJournal(t, j)
	if s.last != 300 || note == nil || note.Event != EventRepaired {
		t.Fatalf("opening found last %d, note %+v, want 300 and a note", s.last, note)
	}
	got, lost := readAll(t, path, 1), 0
	for i, r := range got {
		if n, ok := r.Note(); ok && n.Event == EventLost {
			lost++
			continue
		}
		if diff := cmp.Diff(recs[i], r); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", i+1, diff)
		}
	}
	if len(got) != 300 || lost == 0 || lost > 6 {
		t.Errorf("%d records, %d of them lost, want 300 and a few", len(got), lost)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Errorf("the damaged file is not kept: %v", err)
	}
}

// fullFile is a file on a disk that can be full or fail to sync.
type fullFile struct {
	file
	mu    sync.Mutex
	room  int64 // bytes that the file may have
	fails int   // syncs that will fail
	syncs int
}

func (f *fullFile) WriteAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	room := f.room
	f.mu.Unlock()
	if off+int64(len(b)) <= room {
		return f.file.WriteAt(b, off)
	}
	n := max(0, room-off)
	if n > 0 {
		if _, err := f.file.WriteAt(b[:n], off); err != nil {
			return 0, err
		}
	}
	return int(n), syscall.ENOSPC
}

func (f *fullFile) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs++
	if f.fails > 0 {
		f.fails--
		return syscall.EIO
	}
	return nil
}

func (f *fullFile) set(room int64, fails int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room, f.fails = room, fails
}

func TestJournalOnAFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	synctest.Test(t, func(t *testing.T) {
		f, s, _, err := openJournalFile(path)
		if err != nil {
			t.Fatal(err)
		}
		disk := &fullFile{file: osFile{f}, room: 100 << 10}
		j := newJournal(disk, s, quiet())
		const each, n = 10 << 10, 300
		appended := make(chan int)
		go func() {
			defer close(appended)
			for i := range n {
				r := Record{At: time.Now(), Dir: Out, Data: bytes.Repeat([]byte{byte(i)}, each)}
				if _, err := j.append(t.Context(), r); err != nil {
					t.Errorf("append: %v", err)
				}
				appended <- i
			}
		}()
		var done int
		count := func(d time.Duration) {
			for timeout := time.After(d); ; {
				select {
				case i, ok := <-appended:
					if !ok {
						return
					}
					done = i + 1
				case <-timeout:
					return
				}
			}
		}
		count(time.Minute)
		if done >= n || done < maxTail/each {
			t.Errorf("%d of %d records were taken while the disk was full", done, n)
		}
		last, trouble := j.status()
		if !errors.Is(trouble, syscall.ENOSPC) || last >= uint64(done) {
			t.Errorf("status = %d, %v, want fewer than %d and ENOSPC", last, trouble, done)
		}
		disk.set(1<<40, 3) // there is room again, and three syncs fail
		count(time.Minute)
		if err := j.wait(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if _, trouble := j.status(); trouble != nil || done != n {
			t.Errorf("with room again: %d records, %v", done, trouble)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	var out, resumed int
	for i, r := range readAll(t, path, 1) {
		if r.Seq != uint64(i)+1 {
			t.Fatalf("record %d has seq %d", i, r.Seq)
		}
		if n, ok := r.Note(); ok && n.Event == EventResumed {
			resumed++
		} else if r.Data[0] == byte(out) {
			out++
		}
	}
	if out != 300 || resumed == 0 {
		t.Errorf("%d records in order and %d notes, want 300 and at least one", out, resumed)
	}
}

// Closing on a disk that takes nothing gives up and says so.
func TestJournalClosesOnAFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	synctest.Test(t, func(t *testing.T) {
		f, s, _, err := openJournalFile(path)
		if err != nil {
			t.Fatal(err)
		}
		j := newJournal(&fullFile{file: osFile{f}}, s, quiet())
		if _, err := j.append(t.Context(), Record{Dir: Out, Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close = %v, want ENOSPC", err)
		}
	})
}

// A lonely record is synced at once, a burst together.
func TestJournalGroupsSyncs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	synctest.Test(t, func(t *testing.T) {
		f, s, _, err := openJournalFile(path)
		if err != nil {
			t.Fatal(err)
		}
		disk := &fullFile{file: osFile{f}, room: 1 << 40}
		j := newJournal(disk, s, quiet())
		time.Sleep(time.Second)
		appendOne := func() {
			if _, err := j.append(t.Context(), Record{Dir: Out, Data: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		appendOne()
		synctest.Wait()
		if last, _ := j.status(); last != 1 || time.Since(start) != 0 {
			t.Errorf("after %v %d records are durable, want 1 at once", time.Since(start), last)
		}
		for range 100 {
			appendOne()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(syncEvery)
		synctest.Wait()
		if last, _ := j.status(); last != 101 || disk.syncs > 15+syncBurst {
			t.Errorf("%d records durable after %d syncs, want 101 after at most %d", last, disk.syncs, 15+syncBurst)
		}
		closeJournal(t, j)
	})
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(appendFrame(nil, Record{Seq: 1, Dir: In, ID: "id", Data: []byte("line")}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := decodeFrame(b)
		if err != nil {
			return
		}
		if again := appendFrame(nil, r); !bytes.Equal(again, b[:n]) {
			t.Errorf("a frame changed by decoding and encoding: %x, %x", b[:n], again)
		}
	})
}

var _ io.WriterAt = (*fullFile)(nil)
