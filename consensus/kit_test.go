package consensus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// recorder is a machine in memory: its state is the list of what it was given.
type recorder struct {
	mu       sync.Mutex
	entries  []Entry
	batches  int
	restores int
	apply    func(Entry) error // nil: always content
}

func (m *recorder) Apply(entries []Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if m.apply != nil {
			if err := m.apply(e); err != nil {
				return err
			}
		}
	}
	m.entries = append(m.entries, entries...)
	m.batches++
	return nil
}

func (m *recorder) Applied() uint64 { return 0 }

func (m *recorder) Snapshot() (io.WriterTo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := json.Marshal(m.entries)
	return bytes.NewBuffer(b), err
}

func (m *recorder) Restore(r io.Reader) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restores++
	m.entries = nil
	return json.NewDecoder(r).Decode(&m.entries)
}

// texts is the data of what the machine was given, in order.
func (m *recorder) texts() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, e := range m.entries {
		out = append(out, string(e.Data))
	}
	return out
}

// all is a copy of what the machine was given.
func (m *recorder) all() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Entry(nil), m.entries...)
}

// disk is what a durable machine has on its disk; it outlives the machine.
type disk struct {
	mu      sync.Mutex
	entries []Entry
	synced  int // how many of entries survive a power cut
}

// keeper is a machine with a store of its own, whose snapshot is a manifest.
type keeper struct {
	*disk
	restores int
}

func (m *keeper) Apply(entries []Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if n := len(m.entries); n > 0 && m.entries[n-1].Index >= e.Index {
			return fmt.Errorf("entry %d after %d", e.Index, m.entries[n-1].Index)
		}
		m.entries = append(m.entries, e)
	}
	return nil
}

func (m *keeper) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.entries) == 0 {
		return 0
	}
	return m.entries[len(m.entries)-1].Index
}

func (m *keeper) Snapshot() (io.WriterTo, error) { return &manifest{m.disk}, nil }

func (m *keeper) Restore(io.Reader) error {
	m.restores++
	return ErrManifest
}

// copier is a keeper that can be copied: its snapshot is a manifest, its copy
// has all entries.
type copier struct {
	keeper
	watch *copyWatch
}

// copyWatch counts copies and holds them up.
type copyWatch struct {
	copies, restores atomic.Int64

	mu      sync.Mutex
	write   func() error // nil, or called before a copy is written
	restore func() error // nil, or called before one is restored
}

// interrupt has write and restore called, of which each may be nil.
func (w *copyWatch) interrupt(write, restore func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write, w.restore = write, restore
}

// before calls what is to be called before a copy is written, or restored.
func (w *copyWatch) before(restore bool) error {
	w.mu.Lock()
	f := w.write
	if restore {
		f = w.restore
	}
	w.mu.Unlock()
	if f == nil {
		return nil
	}
	return f()
}

func (m *copier) Copy() (io.WriterTo, error) {
	b, err := json.Marshal(m.disk.all())
	return &diskCopy{b, m.watch}, err
}

func (m *copier) Restore(r io.Reader) error {
	in := bufio.NewReader(r)
	if b, err := in.Peek(1); err != nil || b[0] != '[' {
		m.restores++
		return ErrManifest
	}
	if err := m.watch.before(true); err != nil {
		return err
	}
	var entries []Entry
	if err := json.NewDecoder(in).Decode(&entries); err != nil {
		return err
	}
	m.watch.restores.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries, m.synced = entries, len(entries)
	return nil
}

// diskCopy writes its bytes in small pieces.
type diskCopy struct {
	b     []byte
	watch *copyWatch
}

func (c *diskCopy) WriteTo(w io.Writer) (int64, error) {
	c.watch.copies.Add(1)
	if err := c.watch.before(false); err != nil {
		return 0, err
	}
	n, err := io.Copy(w, bytes.NewReader(c.b))
	return n, err
}

func (d *disk) all() []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Entry(nil), d.entries...)
}

func (m *keeper) texts() []string { return (&recorder{entries: m.entries}).texts() }

type manifest struct{ disk *disk }

func (m *manifest) WriteTo(w io.Writer) (int64, error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.synced = len(m.disk.entries)
	n, err := fmt.Fprintf(w, "%d entries", m.disk.synced)
	return int64(n), err
}

// powerCut loses what was not synced.
func (d *disk) powerCut(keep int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = d.entries[:max(keep, 0)]
}

// testConfig is a node alone with machine "m" in a directory of its own.
func testConfig(tb testing.TB, m Machine) Config {
	tb.Helper()
	return Config{
		Dir:         tb.TempDir(),
		Node:        "a",
		Machines:    map[string]Machine{"m": m},
		Bootstrap:   true,
		Logger:      testLogger(tb),
		SegmentSize: 1 << 20,
	}
}

// testLogger shows what is logged when a test fails.
func testLogger(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func open(tb testing.TB, c Config) *Log {
	tb.Helper()
	l, err := Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeLog(tb, l) })
	return l
}

func closeLog(tb testing.TB, l *Log) {
	tb.Helper()
	if err := l.Close(); err != nil {
		tb.Error(err)
	}
}

// say proposes texts to machine "m", one entry each, and returns the last index.
func say(tb testing.TB, l *Log, texts ...string) uint64 {
	tb.Helper()
	var last uint64
	for _, text := range texts {
		ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
		index, err := l.Propose(ctx, Part{Machine: "m", Data: []byte(text)})
		cancel()
		if err != nil {
			tb.Fatalf("proposing %q: %v", text, err)
		}
		last = index
	}
	return last
}

// snapshot makes Raft write a snapshot and cut the log.
func snapshot(tb testing.TB, l *Log) {
	tb.Helper()
	if err := l.raft.Snapshot().Error(); err != nil {
		tb.Fatal("taking a snapshot:", err)
	}
}

// wantFailed waits until the node stopped by itself, for the reason want unless
// that is nil.
func wantFailed(tb testing.TB, l *Log, want error) {
	tb.Helper()
	select {
	case <-l.Failed():
	case <-time.After(time.Minute):
		tb.Fatal("the node did not stop")
	}
	if err := l.Err(); want != nil && !errors.Is(err, want) {
		tb.Errorf("Err() = %v, want %v", err, want)
	}
}
