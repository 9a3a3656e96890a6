// Package chattest is a conversation for tests: a Room over messages in
// memory and a log that applies every entry at once.
package chattest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// Messages keeps messages in memory. It is chat.Messages and chat.History.
type Messages struct {
	mu    sync.RWMutex
	tasks map[chat.TaskID]map[string]chat.Message
}

// NewMessages is an empty history.
func NewMessages() *Messages {
	return &Messages{tasks: map[chat.TaskID]map[string]chat.Message{}}
}

// Get returns a copy of a message.
func (s *Messages) Get(task chat.TaskID, id string) (chat.Message, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m, ok := s.tasks[task][id]
	return m.Clone(), ok, nil
}

// Put keeps a copy of a message.
func (s *Messages) Put(m chat.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks[m.Task] == nil {
		s.tasks[m.Task] = map[string]chat.Message{}
	}
	s.tasks[m.Task][m.ID] = m.Clone()
	return nil
}

// All returns a task's messages by seq.
func (s *Messages) All(task chat.TaskID) []chat.Message {
	return s.sorted(task, func(m chat.Message) bool { return true }, bySeq)
}

func bySeq(a, b chat.Message) int { return cmp.Compare(a.Seq, b.Seq) }

func (s *Messages) sorted(task chat.TaskID, keep func(chat.Message) bool, order func(a, b chat.Message) int) []chat.Message {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []chat.Message
	for _, m := range s.tasks[task] {
		if keep(m) {
			out = append(out, m.Clone())
		}
	}
	slices.SortFunc(out, order)
	return out
}

// Page is chat.History's.
func (s *Messages) Page(_ context.Context, task chat.TaskID, r chat.Range, limit int) ([]chat.Message, error) {
	all := s.sorted(task, func(m chat.Message) bool {
		return m.Seq >= r.From && (r.From > 0 || r.Before == 0 || m.Seq < r.Before)
	}, bySeq)
	if r.From > 0 {
		return all[:min(len(all), limit)], nil
	}
	return all[max(0, len(all)-limit):], nil
}

// Changed is chat.History's.
func (s *Messages) Changed(_ context.Context, task chat.TaskID, after, upto uint64, limit int) ([]chat.Message, bool, error) {
	all := s.sorted(task, func(m chat.Message) bool { return m.Index > after && m.Index <= upto }, func(a, b chat.Message) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Seq, b.Seq))
	})
	n := min(len(all), limit)
	for n > 0 && n < len(all) && all[n].Index == all[n-1].Index {
		n++
	}
	return all[:n], n < len(all), nil
}

// One is chat.History's.
func (s *Messages) One(_ context.Context, task chat.TaskID, id string) (chat.Message, error) {
	m, ok, err := s.Get(task, id)
	if err == nil && !ok {
		err = fmt.Errorf("message %q: %w", id, chat.ErrNotFound)
	}
	return m, err
}

// Log applies every proposed entry at once to one Room. It is chat.Log.
type Log struct {
	// Clock is the leader's; nil is time.Now.
	Clock func() time.Time
	// Fail, when set, is asked before an entry is appended; its error is
	// Propose's.
	Fail func() error

	mu       sync.Mutex
	index    uint64
	state    *chat.State
	messages *Messages
	room     *chat.Room
	entries  []Entry
}

// Entry is an entry that was applied.
type Entry struct {
	Index uint64
	At    time.Time
	Data  []byte
}

// Propose appends and applies.
func (l *Log) Propose(ctx context.Context, data []byte) (uint64, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Fail != nil {
		if err := l.Fail(); err != nil {
			return 0, err
		}
	}
	now := time.Now
	if l.Clock != nil {
		now = l.Clock
	}
	cmd, err := chat.Decode(data)
	if err != nil {
		return 0, err
	}
	l.index++
	at := now()
	if err := l.state.Apply(l.index, at, cmd, l.messages); err != nil {
		return 0, err
	}
	l.entries = append(l.entries, Entry{Index: l.index, At: at, Data: slices.Clone(data)})
	l.room.Publish(l.index)
	return l.index, nil
}

// Entries returns everything that was applied.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Kit is a Room with what is behind it.
type Kit struct {
	*chat.Room
	Log      *Log
	Messages *Messages
}

// NewKit returns an empty Room that works. Ana and Ben are people to act as,
// Node is a node.
func NewKit() *Kit {
	messages := NewMessages()
	log := &Log{state: chat.NewState(), messages: messages}
	log.room = chat.NewRoom(chat.RoomConfig{State: log.state, Log: log, History: messages})
	return &Kit{Room: log.room, Log: log, Messages: messages}
}

// Authors for tests.
var (
	Ana  = chat.Author{Person: "ana@example.com"}
	Ben  = chat.Author{Person: "ben@example.com"}
	Node = chat.Author{Node: "node-1"}
)

// TB is the part of testing.TB that the helpers need.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Context() context.Context
}

// Must does an op and fails the test when it is refused. It returns the index.
func (k *Kit) Must(t TB, by chat.Author, op chat.Op) uint64 {
	t.Helper()
	index, err := k.Do(t.Context(), by, "", op)
	if err != nil {
		t.Fatalf("doing an op: %v", err)
	}
	return index
}

// Project makes a project with that name (its id too) and returns it.
func (k *Kit) Project(t TB, name string) chat.Project {
	t.Helper()
	k.Must(t, Ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: chat.ProjectID(name), Name: name, Repo: "/srv/" + name + ".git", Branch: "main"}}})
	p, err := k.Room.Project(name)
	if err != nil {
		t.Fatalf("reading project %s: %v", name, err)
	}
	return p
}

// NewTask queues a task by Ana and returns it.
func (k *Kit) NewTask(t TB, project chat.ProjectID, text string) chat.Task {
	t.Helper()
	id := chat.TaskID(chat.NewID())
	k.Must(t, Ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: id, Project: project, Message: chat.NewID(), Text: text}})
	return k.Get(t, id)
}

// Get returns a task that must exist.
func (k *Kit) Get(t TB, id chat.TaskID) chat.Task {
	t.Helper()
	task, err := k.Task(string(id))
	if err != nil {
		t.Fatalf("reading task %s: %v", id, err)
	}
	return task
}

// Start places a queued task on Node and brings it to starting.
func (k *Kit) Start(t TB, id chat.TaskID) chat.Task {
	t.Helper()
	token := k.Must(t, Node, chat.Op{Place: &chat.Place{Task: id, Node: Node.Node, Slot: "slot-1", Note: "ready slot on this machine"}})
	k.Must(t, Node, chat.Op{StepSet: &chat.StepSet{Task: id, Token: token, Name: chat.StepAgent, State: chat.StepDone}})
	return k.Get(t, id)
}

// Work brings a queued task to working: its first queued message is a turn
// that the agent has.
func (k *Kit) Work(t TB, id chat.TaskID) chat.Task {
	t.Helper()
	task := k.Get(t, id)
	if task.Lease == nil {
		task = k.Start(t, id)
	}
	turn := chat.TurnID(chat.NewID())
	k.Must(t, Node, chat.Op{TurnSet: &chat.TurnSet{Task: id, Token: task.Lease.Token, Turn: turn, Prompt: task.Queue[0].ID, Delivery: chat.Sent}})
	k.Must(t, Node, chat.Op{TurnSet: &chat.TurnSet{Task: id, Token: task.Lease.Token, Turn: turn, Delivery: chat.Delivered}})
	return k.Get(t, id)
}

// Emit appends items as the task's workspace: one journal record each, unless
// an item names its own.
func (k *Kit) Emit(t TB, id chat.TaskID, items ...chat.Item) chat.Task {
	t.Helper()
	task := k.Get(t, id)
	for i := range items {
		if items[i].Source == 0 {
			items[i].Source = task.Cursor + uint64(i) + 1
		}
	}
	k.Must(t, Node, chat.Op{Items: &chat.Items{Task: id, Token: task.Lease.Token, Workspace: task.Workspace, From: task.Cursor, Upto: task.Cursor + uint64(len(items)), Items: items}})
	return k.Get(t, id)
}

// Finish ends the turn and its branch: the task is idle.
func (k *Kit) Finish(t TB, id chat.TaskID) chat.Task {
	t.Helper()
	task := k.Get(t, id)
	k.Emit(t, id, chat.Item{TurnEnd: &chat.TurnEnd{Turn: task.Turn.ID, Stop: "end_turn"}})
	k.Must(t, Node, chat.Op{Branch: &chat.Branch{Task: id, Token: task.Lease.Token, Change: chat.Change{Files: 1, Added: 2, Removed: 1, Head: "abc123", Pushed: true}, Done: true}})
	return k.Get(t, id)
}
