package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// copyOf is a whole copy of the store as it is now.
func copyOf(tb testing.TB, o *opened) []byte {
	tb.Helper()
	c, err := o.machine.Copy()
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	n, err := c.WriteTo(&b)
	if err = errors.Join(err, c.(io.Closer).Close()); err != nil {
		tb.Fatal(err)
	}
	if n != int64(b.Len()) {
		tb.Errorf("WriteTo = %d bytes, wrote %d", n, b.Len())
	}
	return b.Bytes()
}

// onlyStores fails when the folder holds more than databases in use.
func onlyStores(tb testing.TB, dir string, names ...string) {
	tb.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range found {
		base := strings.TrimSuffix(strings.TrimSuffix(f.Name(), "-wal"), "-shm")
		if known := fmt.Sprint(names); !strings.Contains(known, base) {
			tb.Errorf("%s was left behind", f.Name())
		}
	}
}

func TestCopyIsTheStoreAtOneIndex(t *testing.T) {
	entries := script(t, 400)
	dir := t.TempDir()
	o := open(t, filepath.Join(dir, "a.db"))
	defer o.close(t)
	rng := rand.New(rand.NewPCG(31, 32))
	o.apply(t, entries[:150], rng)
	c, err := o.machine.Copy()
	if err != nil {
		t.Fatal(err)
	}
	o.apply(t, entries[150:200], rng) // between Copy and WriteTo
	var whole bytes.Buffer
	var copying sync.WaitGroup
	copying.Go(func() {
		if _, err := c.WriteTo(&whole); err != nil {
			t.Error(err)
		}
	})
	o.apply(t, entries[200:], rng) // while it is written
	copying.Wait()
	if err := c.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	onlyStores(t, dir, "a.db")
	line, _, _ := strings.Cut(whole.String(), "\n")
	if want := fmt.Sprintf(`{"format":2,"index":%d,"bytes":%d}`, entries[149].Index, whole.Len()-len(line)-1); line != want {
		t.Errorf("manifest = %s, want %s", line, want)
	}
	b := open(t, filepath.Join(dir, "b.db"))
	defer b.close(t)
	if err := b.machine.Restore(bytes.NewReader(whole.Bytes())); err != nil {
		t.Fatal(err)
	}
	onlyStores(t, dir, "a.db", "b.db")
	if got := b.machine.Applied(); got != entries[149].Index || b.room.Index() != got {
		t.Errorf("restored at %d, the room at %d, want %d", got, b.room.Index(), entries[149].Index)
	}
	if diff := cmp.Diff(replay(t, entries[:150]), dumpOf(t, b)); diff != "" {
		t.Errorf("restored store (-want +got):\n%s", diff)
	}
	b.apply(t, entries, rng) // goes on where the copy ends
	if diff := cmp.Diff(replay(t, entries), dumpOf(t, b)); diff != "" {
		t.Errorf("restored store after the rest of the log (-want +got):\n%s", diff)
	}
}

// dumpOf is a dump of a store that was restored: its state is another.
func dumpOf(tb testing.TB, o *opened) []string {
	tb.Helper()
	state, _, err := o.Load(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return dump(tb, state, o)
}

func TestWALIsCutAfterACopy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "chat.db")
	entries := script(t, 300)
	o := open(t, path)
	defer o.close(t)
	rng := rand.New(rand.NewPCG(33, 34))
	o.apply(t, entries[:50], rng)
	c, err := o.machine.Copy()
	if err != nil {
		t.Fatal(err)
	}
	o.apply(t, entries[50:250], rng)
	snap, err := o.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var durable sync.WaitGroup
	durable.Go(func() { // waits for the pin
		if _, err := snap.WriteTo(io.Discard); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.WriteTo(io.Discard); err != nil {
		t.Fatal(err)
	}
	durable.Wait()
	before := fileSize(t, path+"-wal")
	o.apply(t, entries[250:], rng)
	if after := fileSize(t, path+"-wal"); after > before {
		t.Errorf("the WAL grew from %d to %d bytes; it should begin anew", before, after)
	}
	if err := c.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
}

func fileSize(tb testing.TB, path string) int64 {
	tb.Helper()
	st, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	return st.Size()
}

func TestRestoreUnderReaders(t *testing.T) {
	entries := script(t, 300)
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "a.db"))
	defer a.close(t)
	b := open(t, filepath.Join(dir, "b.db"))
	defer b.close(t)
	rng := rand.New(rand.NewPCG(35, 36))
	a.apply(t, entries[:100], rng)
	b.apply(t, entries[:20], rng)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() { readOn(ctx, t, b, chat.TaskID(fmt.Sprintf("task-%08d", i%3))) })
	}
	for upto := 100; upto <= len(entries); upto += 50 {
		a.apply(t, entries[:upto], rng)
		if err := b.machine.Restore(bytes.NewReader(copyOf(t, a))); err != nil {
			t.Fatal(err)
		}
		if err := b.room.Wait(t.Context(), entries[upto-1].Index); err != nil {
			t.Fatal(err)
		}
		b.apply(t, entries[:min(upto+10, len(entries))], rng) // writes through the new connections
	}
	cancel()
	readers.Wait()
	if diff := cmp.Diff(replay(t, entries), dumpOf(t, b)); diff != "" {
		t.Errorf("restored store (-want +got):\n%s", diff)
	}
}

// readOn reads a task in every way and follows its stream, until ctx ends.
func readOn(ctx context.Context, t *testing.T, o *opened, task chat.TaskID) {
	var after uint64
	for {
		batch, err := o.room.Since(ctx, task, after, 20)
		if ctx.Err() != nil {
			return
		}
		if err != nil || batch.Index <= after {
			t.Errorf("Since(%d) = index %d, %v", after, batch.Index, err)
			return
		}
		after = batch.Index
		_, err1 := o.room.Messages(t.Context(), task, 0, 50)
		_, err2 := o.room.Message(t.Context(), task, "m0")
		if err := errors.Join(err1, err2); err != nil {
			t.Errorf("reading while the store is replaced: %v", err)
			return
		}
	}
}

func TestRestoreRefusesWhatIsNoStore(t *testing.T) {
	entries := script(t, 200)
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "a.db"))
	rng := rand.New(rand.NewPCG(37, 38))
	a.apply(t, entries, rng)
	whole := copyOf(t, a)
	a.close(t)
	line, db, _ := bytes.Cut(whole, []byte("\n"))
	manifest := func(index uint64, size int) string {
		return fmt.Sprintf(`{"format":2,"index":%d,"bytes":%d}`+"\n", index, size)
	}
	torn := bytes.Clone(whole)
	for i := len(line) + 1 + 4096; i < len(torn); i++ {
		torn[i] ^= 0x5a
	}
	last := entries[len(entries)-1].Index
	b := open(t, filepath.Join(dir, "b.db"))
	defer b.close(t)
	b.apply(t, entries[:30], rng)
	before := dumpOf(t, b)
	for name, c := range map[string]struct{ data, want string }{
		"nothing":               {"", "manifest"},
		"garbage":               {strings.Repeat("x", 1<<20), "manifest"},
		"a long line":           {`{"format":2,"x":"` + strings.Repeat("x", 1<<20) + `"}`, "manifest"},
		"a newer format":        {`{"format":3,"index":9000}`, "upgrade this node"},
		"a size below zero":     {manifest(last, -5), "-5 bytes"},
		"a size beyond reason":  {manifest(last, 1<<60), "free some space"},
		"half of it":            {string(whole[:len(whole)/2]), "ends after"},
		"another index":         {manifest(last+1, len(db)) + string(db), "manifest says"},
		"torn pages":            {string(torn), ""},
		"a database of zeroes":  {manifest(last, 8192) + strings.Repeat("\x00", 8192), ""},
		"something of its size": {manifest(last, 8192) + strings.Repeat("SQLite format 3\x00", 512), ""},
	} {
		if err := b.machine.Restore(strings.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Restore = %v, want %q", name, err, c.want)
		}
		onlyStores(t, dir, "a.db", "b.db")
	}
	if diff := cmp.Diff(before, dumpOf(t, b)); diff != "" {
		t.Errorf("a refused restore changed the store (-want +got):\n%s", diff)
	}
	b.apply(t, entries, rng)
	if err := b.machine.Restore(io.MultiReader(bytes.NewReader(line), strings.NewReader("\nnobody reads this"))); err != nil {
		t.Errorf("Restore of an index that the store has = %v", err)
	}
	if diff := cmp.Diff(replay(t, entries), dumpOf(t, b)); diff != "" {
		t.Errorf("after refused restores (-want +got):\n%s", diff)
	}
}

func TestCopyEndsWithItsStore(t *testing.T) {
	entries := script(t, 100)
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "a.db"))
	b := open(t, filepath.Join(dir, "b.db"))
	rng := rand.New(rand.NewPCG(39, 40))
	a.apply(t, entries, rng)
	b.apply(t, entries[:50], rng)
	copying := func(o *opened) io.WriterTo {
		t.Helper()
		c, err := o.machine.Copy()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	replaced, closed := copying(b), copying(a)
	if err := b.machine.Restore(bytes.NewReader(copyOf(t, a))); err != nil {
		t.Fatal(err)
	}
	a.close(t)
	released := copying(b)
	if err := released.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
	for want, c := range map[string]io.WriterTo{"replaced": replaced, "closed": closed, "released": released} {
		if _, err := c.WriteTo(io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("WriteTo of a copy = %v, want that it was %s", err, want)
		}
		if err := c.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	}
	b.close(t)
	onlyStores(t, dir, "a.db", "b.db")
}

func TestCrashLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "chat.db")
	open(t, path).close(t)
	for _, name := range []string{"chat.db.copy-123", "chat.db.copy-123-journal", "chat.db.restore", "chat.db.restore-wal"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, path).close(t)
	onlyStores(t, dir, "chat.db")
}

// slow is a reader of a copy that takes its time.
type slow struct {
	io.Writer
	pause func()
}

func (s slow) Write(p []byte) (int, error) {
	s.pause()
	return s.Writer.Write(p)
}

func TestSlowReceiverHoldsNothing(t *testing.T) {
	entries := script(t, 200)
	o := open(t, filepath.Join(t.TempDir(), "chat.db"))
	defer o.close(t)
	rng := rand.New(rand.NewPCG(41, 42))
	o.apply(t, entries[:100], rng)
	c, err := o.machine.Copy()
	if err != nil {
		t.Fatal(err)
	}
	once := sync.OnceFunc(func() { // in the middle of sending
		o.apply(t, entries[100:], rng)
		snap, err := o.machine.Snapshot()
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := snap.WriteTo(io.Discard); err != nil {
			t.Errorf("a checkpoint while a copy is sent = %v", err)
		}
	})
	if _, err := c.WriteTo(slow{io.Discard, once}); err != nil {
		t.Error(err)
	}
	if err := c.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
}
