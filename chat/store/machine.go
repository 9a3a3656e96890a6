package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/samnode/samnode/chat"
)

// Entry is the chat's part of one log entry. Empty Data is none: only the
// index moves.
type Entry struct {
	Index uint64
	At    time.Time // the leader's clock
	Data  []byte
}

// ErrBehind says that a snapshot names an index that this store never had: it
// must be restored from a backup or another node.
var ErrBehind = errors.New("the store is behind the snapshot; restore it from a backup or from another node")

// ErrDead is what a machine answers when nobody knows any more which database
// is in place.
var ErrDead = errors.New("the message store failed; restart this node")

// Machine applies the log to a state and publishes to a Room; its store writes
// what came of it to the database a moment later. Its methods but Applied, and
// what Snapshot and Copy return, belong to one goroutine.
type Machine struct {
	store   *Store
	state   *chat.State
	room    *chat.Room
	applied atomic.Uint64
	dead    error
}

// NewMachine makes the machine over what [Store.Load] gave. The room shares
// the state; nil: nobody reads.
func NewMachine(store *Store, state *chat.State, applied uint64, room *chat.Room) *Machine {
	m := &Machine{store: store, state: state, room: room}
	m.applied.Store(applied)
	return m
}

// Applied is the log index up to which entries were applied; they are skipped
// from then on.
func (m *Machine) Applied() uint64 { return m.applied.Load() }

// Apply applies entries: all of them or none. Readers see them when it returns;
// the database has them soon, and after a crash in between they are applied
// again. It refuses while the database cannot be written: the log, which could
// be cut no more, would grow for ever.
func (m *Machine) Apply(entries []Entry) error {
	if m.dead != nil {
		return m.dead
	}
	for len(entries) > 0 && entries[0].Index <= m.Applied() {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return nil
	}
	if err := m.store.makeRoom(); err != nil {
		return err
	}
	b, err := m.apply(entries)
	if err != nil {
		m.state.Rollback()
		return err
	}
	m.store.backlog.add(b)
	m.store.soon()
	m.applied.Store(b.applied)
	if m.room != nil {
		m.room.Publish(b.applied)
	} else {
		m.state.Commit()
	}
	return nil
}

func (m *Machine) apply(entries []Entry) (*block, error) {
	g := &stage{s: m.store, b: newBlock()}
	last := m.Applied()
	for _, e := range entries {
		if e.Index <= last {
			return nil, fmt.Errorf("entry %d follows entry %d", e.Index, last)
		}
		last = e.Index
		if len(e.Data) == 0 {
			m.state.Pass(e.Index, e.At)
			continue
		}
		cmd, err := chat.Decode(e.Data)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		if err := m.state.Apply(e.Index, e.At, cmd, g); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Index, err)
		}
	}
	for _, e := range m.state.Edits() {
		g.b.edits[editKey{e.Kind, e.ID}] = e
	}
	g.b.applied = last
	return g.b, nil
}

// manifest is what a snapshot or a copy begins with.
type manifest struct {
	Format int    `json:"format"`
	Index  uint64 `json:"index"`
	Bytes  int64  `json:"bytes,omitempty"` // of the database behind it; 0: it is on this node's disk
}

// Snapshot names the index that was applied now. Its WriteTo writes the backlog,
// makes the database durable and then writes the manifest; only after that may the log be
// cut up to the index.
func (m *Machine) Snapshot() (io.WriterTo, error) {
	if m.dead != nil {
		return nil, m.dead
	}
	return snapshot{store: m.store, manifest: manifest{Format: format, Index: m.Applied()}}, nil
}

type snapshot struct {
	store    *Store
	manifest manifest
}

// WriteTo flushes, checkpoints, syncs and writes the manifest.
func (s snapshot) WriteTo(w io.Writer) (int64, error) {
	if err := s.store.flush(context.Background()); err != nil {
		return 0, err
	}
	if err := s.store.checkpoint(context.Background()); err != nil {
		return 0, err
	}
	data, err := json.Marshal(s.manifest)
	if err != nil {
		return 0, fmt.Errorf("encoding the manifest: %w", err)
	}
	n, err := w.Write(data)
	if err != nil {
		return int64(n), fmt.Errorf("writing the manifest: %w", err)
	}
	return int64(n), nil
}
