package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/samnode/samnode/consensus"
)

// The names of the machines in the log.
const (
	machineBoard = "board"
	machinePool  = "pool"
)

// op is one command of the board: what the chat does, as far as it matters
// here. Exactly one of the others than ID is set. Applying an ID twice is
// harmless.
type op struct {
	ID     string    `json:"id"`
	Append *appendOp `json:"append,omitempty"`
	Task   *leaseOp  `json:"task,omitempty"`   // makes the task
	Place  *leaseOp  `json:"place,omitempty"`  // the pool has granted the token
	Expire *leaseOp  `json:"expire,omitempty"` // as chat's
	End    *leaseOp  `json:"end,omitempty"`    // as chat's, by the holder
	Note   *leaseOp  `json:"note,omitempty"`   // the holder says something
}

type appendOp struct {
	List string `json:"list"`
	Text string `json:"text"`
}

type leaseOp struct {
	Task  string `json:"task"`
	Node  string `json:"node,omitempty"`
	Slot  string `json:"slot,omitempty"`
	Token uint64 `json:"token,omitempty"`
}

// boardState is the board at one index.
type boardState struct {
	Index uint64             `json:"index"`
	Lists map[string]list    `json:"lists"`
	Tasks map[string]task    `json:"tasks"`
	Done  map[string]outcome `json:"done"` // by command
}

type list struct {
	Texts []string `json:"texts"`
	Sum   uint64   `json:"sum"` // of all texts in order
}

// task is a task of the chat. Its lease's Token is 0 while it has none.
type task struct {
	leaseOp
	Home  string `json:"home,omitempty"` // node of its last lease
	Last  uint64 `json:"last,omitempty"` // token of that
	Notes int    `json:"notes"`
}

// outcome is what became of a command.
type outcome struct {
	Index   uint64 `json:"index"`
	Place   int    `json:"place,omitempty"`   // of an appended text in its list, from 1
	Refused bool   `json:"refused,omitempty"` // it changed nothing
}

func newBoardState() *boardState {
	return &boardState{Lists: make(map[string]list), Tasks: make(map[string]task), Done: make(map[string]outcome)}
}

// clone shares only what never changes.
func (s *boardState) clone() *boardState {
	c := &boardState{Index: s.Index, Lists: maps.Clone(s.Lists), Tasks: maps.Clone(s.Tasks), Done: maps.Clone(s.Done)}
	for k, l := range c.Lists {
		l.Texts = slices.Clip(l.Texts)
		c.Lists[k] = l
	}
	return c
}

func decodeOp(data []byte) (o op, err error) {
	if err := json.Unmarshal(data, &o); err != nil {
		return o, fmt.Errorf("decoding a command of the board: %w", err)
	}
	return o, nil
}

// apply applies the command at index.
func (s *boardState) apply(index uint64, o op, forgets bool) {
	s.Index = index
	if _, done := s.Done[o.ID]; done && !forgets {
		return
	}
	out := outcome{Index: index}
	switch {
	case o.Append != nil:
		l := s.Lists[o.Append.List]
		l.Texts, l.Sum = append(l.Texts, o.Append.Text), chain(l.Sum, o.Append.Text)
		s.Lists[o.Append.List] = l
		out.Place = len(l.Texts)
	case o.Task != nil:
		s.Tasks[o.Task.Task] = task{leaseOp: leaseOp{Task: o.Task.Task}}
	case o.Place != nil:
		out.Refused = !s.place(o.Place)
	case o.Note != nil:
		t := s.Tasks[o.Note.Task]
		if out.Refused = t.Token != o.Note.Token; !out.Refused {
			t.Notes++
			s.Tasks[t.Task] = t
		}
	default:
		out.Refused = !s.end(cmp.Or(o.Expire, o.End))
	}
	s.Done[o.ID] = out
}

func (s *boardState) place(l *leaseOp) bool {
	t, is := s.Tasks[l.Task]
	if !is || t.Token != 0 || l.Token <= t.Last {
		return false
	}
	t.Node, t.Slot, t.Token, t.Home, t.Last = l.Node, l.Slot, l.Token, l.Node, l.Token
	s.Tasks[l.Task] = t
	return true
}

func (s *boardState) end(l *leaseOp) bool {
	t, is := s.Tasks[l.Task]
	if !is || t.Token != l.Token {
		return false
	}
	t.Node, t.Slot, t.Token = "", "", 0
	s.Tasks[l.Task] = t
	return true
}

// chain is the sum of a list with one text more.
func chain(sum uint64, text string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, sum, text) //nolint:errcheck // it has nothing to fail
	return h.Sum64()
}

// shelf is where a board keeps its state on disk, unsynced. It outlives the
// process.
type shelf struct {
	mu     sync.Mutex
	state  *boardState // as written
	synced *boardState // as a power cut leaves it
}

func newShelf() *shelf { return &shelf{state: newBoardState(), synced: newBoardState()} }

// image is the shelf as a process finds it that is started now.
func (s *shelf) image(power bool) *shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	if power {
		return &shelf{state: s.synced.clone(), synced: s.synced}
	}
	return &shelf{state: s.state.clone(), synced: s.synced}
}

// board is the machine. With a store of its own it is a [copier].
type board struct {
	shelf   *shelf
	journal *journal // nil: nobody keeps what is applied
	proc    *process
	forgets bool   // flaw: a command is done as often as it comes
	copied  func() // counts whole copies
	sent    func() // the same, of states that came from another node

	mu      sync.Mutex    // protects state, of which shelf.mu protects the rest
	changed chan struct{} // closed and replaced after every change
}

// copier is a board whose snapshots only say what its shelf holds.
type copier struct{ *board }

// newBoard returns the machine over a shelf, of its own or new each time.
func newBoard(s *shelf, j *journal, p *process, forgets bool) *board {
	return &board{shelf: s, journal: j, proc: p, forgets: forgets, copied: func() {}, sent: func() {}, changed: make(chan struct{})}
}

// Apply implements consensus.Machine.
func (b *board) Apply(entries []consensus.Entry) error {
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	for _, e := range entries {
		o, err := decodeOp(e.Data)
		if err != nil {
			return err
		}
		b.journal.add(b.proc, machineBoard, e)
		b.shelf.state.apply(e.Index, o, b.forgets)
	}
	b.publish()
	return nil
}

func (b *board) publish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// Applied implements consensus.Machine.
func (b *board) Applied() uint64 { return 0 }

// Applied implements consensus.Machine.
func (c copier) Applied() uint64 {
	c.shelf.mu.Lock()
	defer c.shelf.mu.Unlock()
	return c.shelf.state.Index
}

// Snapshot implements consensus.Machine.
func (b *board) Snapshot() (io.WriterTo, error) { return b.whole() }

func (b *board) whole() (io.WriterTo, error) {
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	return &written{b.shelf.state.clone()}, nil
}

// Snapshot implements consensus.Machine.
func (c copier) Snapshot() (io.WriterTo, error) { return &manifest{c.shelf}, nil }

// Copy implements consensus.Copier.
func (c copier) Copy() (io.WriterTo, error) {
	c.copied()
	return c.whole()
}

// written is a state on its way to a snapshot.
type written struct{ state *boardState }

func (w *written) WriteTo(to io.Writer) (int64, error) {
	data, err := json.Marshal(w.state)
	if err != nil {
		return 0, err
	}
	n, err := to.Write(data)
	return int64(n), err
}

// manifest syncs the shelf and writes nothing.
type manifest struct{ shelf *shelf }

func (m *manifest) WriteTo(io.Writer) (int64, error) {
	m.shelf.mu.Lock()
	defer m.shelf.mu.Unlock()
	m.shelf.synced = m.shelf.state.clone()
	return 0, nil
}

// Restore implements consensus.Machine.
func (b *board) Restore(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return consensus.ErrManifest
	}
	s := newBoardState()
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(s); err != nil {
		return fmt.Errorf("restoring the board: %w", err)
	}
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	b.shelf.state, b.shelf.synced = s, s.clone()
	b.sent()
	b.publish()
	return nil
}

// read is a list's length and sum.
func (b *board) read(name string) (int, uint64) {
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	l := b.shelf.state.Lists[name]
	return len(l.Texts), l.Sum
}

func (b *board) outcome(id string) (outcome, bool) {
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	out, ok := b.shelf.state.Done[id]
	return out, ok
}

// tasks are all tasks by name, up to which entry, and what is closed when they
// change.
func (b *board) tasks() ([]task, uint64, <-chan struct{}) {
	b.mu.Lock()
	changed := b.changed
	b.mu.Unlock()
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	var out []task
	for _, name := range slices.Sorted(maps.Keys(b.shelf.state.Tasks)) {
		out = append(out, b.shelf.state.Tasks[name])
	}
	return out, b.shelf.state.Index, changed
}

// wait waits until the board has applied the entry at index.
func (b *board) wait(ctx context.Context, index uint64) error {
	for {
		_, has, changed := b.tasks()
		if has >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// encode is the state as it is compared.
func (b *board) encode() ([]byte, error) {
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	return json.Marshal(b.shelf.state)
}

var errStale = errors.New("stale")
