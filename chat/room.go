package chat

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Log is the part of the consensus that Room needs.
type Log interface {
	// Propose appends an entry and returns its log index once the mesh has
	// agreed on it. After an error the entry may be in the log or not: the
	// caller tries again with the same command id.
	Propose(ctx context.Context, data []byte) (uint64, error)
}

// History reads messages that are committed on this node. Every message it
// returns belongs to the caller.
type History interface {
	// Page returns up to limit messages, ascending by seq: from r.From on, or
	// when that is 0 the newest below r.Before (0: the newest of all).
	Page(ctx context.Context, task TaskID, r Range, limit int) ([]Message, error)
	// Changed returns messages with after < Index <= upto, ascending by
	// (Index, Seq). It never parts the messages of one index, so there may be
	// more than limit; more says that others follow.
	Changed(ctx context.Context, task TaskID, after, upto uint64, limit int) (messages []Message, more bool, err error)
	// One returns the message with that id, or an error that wraps ErrNotFound.
	One(ctx context.Context, task TaskID, id string) (Message, error)
}

// Range is where a page begins or ends, in seqs.
type Range struct {
	From   uint64 // first seq of the page, from 1
	Before uint64 // with From 0: the page ends below it; 0: at the newest
}

// RoomConfig makes a Room.
type RoomConfig struct {
	State   *State        // required; Room shares it with whoever applies
	Log     Log           // required for Do
	History History       // required
	Applied uint64        // log index that State and History have reached
	NewID   func() string // default: NewID
	Logger  *slog.Logger  // default: none
}

// Room is one node's live view of the conversation. Its methods may be called
// from any goroutine; what they return shares no memory with the state.
type Room struct {
	log     Log
	history History
	newID   func() string
	logger  *slog.Logger

	mu      sync.RWMutex
	state   *State                   // bases only; the edits belong to whoever applies
	index   uint64                   // log index that readers see
	now     time.Time                // State's, as of index
	changed chan struct{}            // closed and replaced after every apply
	order   *list.List               // of TaskID, the newest change at the back
	places  map[TaskID]*list.Element // in order
	live    map[TaskID]stand         // see Live
	queue   *queue                   // see Waiting
	moved   uint64                   // log index at which live changed last
}

// NewRoom makes a Room over a committed state.
func NewRoom(cfg RoomConfig) *Room {
	r := &Room{log: cfg.Log, history: cfg.History, newID: cfg.NewID, logger: cfg.Logger, changed: make(chan struct{})}
	if r.newID == nil {
		r.newID = NewID
	}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	r.resetLocked(cfg.State, cfg.Applied)
	return r
}

func (r *Room) resetLocked(s *State, applied uint64) {
	r.state, r.index, r.now = s, applied, s.meta.Now
	r.order, r.places = list.New(), map[TaskID]*list.Element{}
	tasks := slices.SortedFunc(maps.Values(s.tasks.base), func(a, b *Task) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.ID, b.ID))
	})
	r.live, r.moved, r.queue = map[TaskID]stand{}, applied, newQueue()
	for _, t := range tasks {
		r.places[t.ID] = r.order.PushBack(t.ID)
		r.standLocked(t)
	}
}

// Publish makes what was applied to the state since the last Publish visible,
// up to the log index applied, and wakes who waits. The messages must be
// committed. Only the goroutine that applies may call it.
func (r *Room) Publish(applied uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.state.Commit()
	slices.SortFunc(changed, func(a, b TaskID) int {
		return cmp.Or(cmp.Compare(r.state.tasks.base[a].Index, r.state.tasks.base[b].Index), cmp.Compare(a, b))
	})
	for _, id := range changed {
		if e, ok := r.places[id]; ok {
			r.order.MoveToBack(e)
		} else {
			r.places[id] = r.order.PushBack(id)
		}
		if r.standLocked(r.state.tasks.base[id]) {
			r.moved = applied
		}
	}
	r.index, r.now = applied, r.state.meta.Now
	r.wakeLocked()
}

// Reset replaces the state, after a restore.
func (r *Room) Reset(s *State, applied uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resetLocked(s, applied)
	r.wakeLocked()
}

func (r *Room) wakeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Do proposes a command, waits until this node has applied it and returns the
// index at which it was applied first. An empty id draws one; a caller that
// wants to try again gives its own, and the same id gets the same answer. A
// refusal comes back as an error that wraps ErrRefused, ErrNotFound,
// ErrInvalid, ErrStale or ErrTooLarge and reads as a sentence for a person.
// Any other error means that the command may yet be applied.
func (r *Room) Do(ctx context.Context, by Author, id string, op Op) (uint64, error) {
	if id == "" {
		id = r.newID()
	}
	if out, known := r.Outcome(id); known {
		return out.Index, out.Err()
	}
	data, err := Encode(Command{Version: Version, ID: id, Author: by, Op: op})
	if err != nil {
		return 0, err
	}
	index, err := r.log.Propose(ctx, data)
	if err != nil {
		return 0, fmt.Errorf("proposing command %s: %w", id, err)
	}
	if err := r.Wait(ctx, index); err != nil {
		return index, fmt.Errorf("waiting for command %s at index %d: %w", id, index, err)
	}
	out, known := r.Outcome(id)
	if !known {
		return index, fmt.Errorf("command %s at index %d has no outcome here: more than %d commands followed it", id, index, MaxCommands)
	}
	return out.Index, out.Err()
}

// Outcome says what became of the command with that id, or false when it is not
// among the last [MaxCommands] that this node has applied.
func (r *Room) Outcome(id string) (Outcome, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, ok := r.state.numbers.base[id]
	if !ok {
		return Outcome{}, false
	}
	return r.state.commands.base[n%r.state.window].Outcome, true
}

// Wait returns when this node has applied the log up to index.
func (r *Room) Wait(ctx context.Context, index uint64) error {
	return r.until(ctx, func() bool { return r.index >= index })
}

// until waits for a condition, which it tests under the lock.
func (r *Room) until(ctx context.Context, done func() bool) error {
	for {
		r.mu.RLock()
		ok, changed := done(), r.changed
		r.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Index is the log index that readers of this node see.
func (r *Room) Index() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.index
}

// Now is the mesh's time as of Index: the leader's clock, never going back.
func (r *Room) Now() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.now
}
