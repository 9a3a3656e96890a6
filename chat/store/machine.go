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

// ErrDead is what a machine answers after a batch that may be written or not.
var ErrDead = errors.New("the message store failed; restart this node")

// Machine applies the log to a state and its store, and publishes to a Room.
// Its methods but Applied, and what Snapshot and Copy return, belong to one
// goroutine.
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

// Applied is the log index that the store has; entries up to it are skipped.
func (m *Machine) Applied() uint64 { return m.applied.Load() }

// Apply applies entries in one transaction: all of them or none, in memory as
// on disk. After an error in the middle the same entries may be given again,
// when the error does not wrap ErrDead.
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
	ctx := context.Background() // a batch is never half done
	b, err := m.store.begin(ctx)
	if err != nil {
		return err
	}
	if err := m.apply(b, entries); err != nil {
		m.state.Rollback()
		if rollback := b.tx.Rollback(); rollback != nil {
			m.store.logger.Debug("rolling back", "err", rollback) // a full disk ends the transaction by itself
		}
		if b.committing { // nobody knows what is on disk
			m.dead = fmt.Errorf("%w: %w", ErrDead, err)
			return m.dead
		}
		return err
	}
	last := entries[len(entries)-1].Index
	m.applied.Store(last)
	if m.room != nil {
		m.room.Publish(last)
	} else {
		m.state.Commit()
	}
	return nil
}

func (m *Machine) apply(b *batch, entries []Entry) error {
	last := m.Applied()
	for _, e := range entries {
		if e.Index <= last {
			return fmt.Errorf("entry %d follows entry %d", e.Index, last)
		}
		last = e.Index
		if len(e.Data) == 0 {
			m.state.Pass(e.Index, e.At)
			continue
		}
		cmd, err := chat.Decode(e.Data)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		if err := m.state.Apply(e.Index, e.At, cmd, b); err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
	}
	rows, err := m.state.Dirty()
	if err != nil {
		return err
	}
	return b.commit(rows, last)
}

// manifest is what a snapshot or a copy begins with.
type manifest struct {
	Format int    `json:"format"`
	Index  uint64 `json:"index"`
	Bytes  int64  `json:"bytes,omitempty"` // of the database behind it; 0: it is on this node's disk
}

// Snapshot names the index that the store has now. Its WriteTo makes the
// store durable and then writes the manifest; only after that may the log be
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

// WriteTo checkpoints, syncs and writes the manifest.
func (s snapshot) WriteTo(w io.Writer) (int64, error) {
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
