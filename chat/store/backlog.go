package store

import (
	"maps"
	"sync"

	"github.com/samnode/samnode/chat"
)

// backlog is what was applied and is not in the database yet. Readers look
// here first; the writer takes it a block at a time.
type backlog struct {
	mu      sync.RWMutex
	filling *block
	writing *block // nil: none is being written
	failed  error  // why the last block could not be written; nil: it was
}

// block is the newest of everything that changed over a run of log entries.
type block struct {
	applied  uint64 // the last of them
	messages map[chat.TaskID]map[string]*chat.Message
	edits    map[editKey]chat.Edit
	bytes    int // about what it holds
}

type editKey struct{ kind, id string }

func newBlock() *block {
	return &block{messages: map[chat.TaskID]map[string]*chat.Message{}, edits: map[editKey]chat.Edit{}}
}

func (b *block) empty() bool { return b.applied == 0 }

func (b *block) get(task chat.TaskID, id string) (*chat.Message, bool) {
	m, ok := b.messages[task][id]
	return m, ok
}

func (b *block) put(m *chat.Message) {
	of := b.messages[m.Task]
	if of == nil {
		of = map[string]*chat.Message{}
		b.messages[m.Task] = of
	}
	if old, ok := of[m.ID]; ok {
		b.bytes -= sizeOf(old)
	}
	b.bytes += sizeOf(m)
	of[m.ID] = m
}

// sizeOf is about what a message takes in memory.
func sizeOf(m *chat.Message) int {
	const bare = 512
	size := bare + len(m.Text) + len(m.Detail) + len(m.Raw)
	if m.Tool != nil {
		size += len(m.Tool.Input) + len(m.Tool.Output)
		for _, d := range m.Tool.Diffs {
			size += len(d.Old) + len(d.New)
		}
	}
	return size
}

// merge adds what is newer.
func (b *block) merge(newer *block) {
	for _, of := range newer.messages {
		for _, m := range of {
			b.put(m)
		}
	}
	maps.Copy(b.edits, newer.edits)
	b.applied = max(b.applied, newer.applied)
}

// add takes what one Apply changed.
func (l *backlog) add(staged *block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filling.merge(staged)
}

// waits says how much is to be written, and why the last block could not be.
func (l *backlog) waits() (bytes int, failed error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.filling.bytes, l.failed
}

// take hands out what is to be written, nil for nothing. Readers see it until
// wrote.
func (l *backlog) take() *block {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.filling.empty() {
		return nil
	}
	l.writing, l.filling = l.filling, newBlock()
	return l.writing
}

// wrote ends what take began. What could not be written is to be written again.
func (l *backlog) wrote(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
	if err != nil {
		l.writing.merge(l.filling)
		l.filling = l.writing
	}
	l.writing = nil
}

// clear forgets everything.
func (l *backlog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filling, l.writing, l.failed = newBlock(), nil, nil
}

// get returns a message that waits.
func (l *backlog) get(task chat.TaskID, id string) (*chat.Message, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if m, ok := l.filling.get(task, id); ok {
		return m, true
	}
	if l.writing == nil {
		return nil, false
	}
	return l.writing.get(task, id)
}

// of returns the newest of a task's messages that wait, by id.
func (l *backlog) of(task chat.TaskID) map[string]*chat.Message {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.writing == nil || len(l.writing.messages[task]) == 0 {
		return maps.Clone(l.filling.messages[task])
	}
	out := maps.Clone(l.writing.messages[task])
	maps.Copy(out, l.filling.messages[task])
	return out
}

// overlay puts messages that wait over those that were read from the database
// after them: the newer of each counts, and of those only what keep takes.
func overlay(read []chat.Message, waiting map[string]*chat.Message, keep func(*chat.Message) bool) []chat.Message {
	if len(waiting) == 0 {
		return read
	}
	var out []chat.Message
	for i := range read {
		m := &read[i]
		if w, ok := waiting[m.ID]; ok && w.Index <= m.Index {
			delete(waiting, m.ID) // written meanwhile
		} else if ok {
			continue
		}
		out = append(out, *m)
	}
	for _, m := range waiting {
		if keep(m) {
			out = append(out, m.Clone())
		}
	}
	return out
}
