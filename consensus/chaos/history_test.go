package chaos

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/samnode/samnode/consensus"
)

// journal is the log as the machines of all nodes were given it, while their
// processes lived. Two that differ are a violation at once.
type journal struct {
	broken func(format string, args ...any)

	mu      sync.Mutex
	entries map[string]map[uint64]consensus.Entry // by machine and index
}

func newJournal(broken func(string, ...any)) *journal {
	return &journal{broken: broken, entries: map[string]map[uint64]consensus.Entry{machineBoard: {}, machinePool: {}}}
}

// add takes an entry that a machine of p was given; without a journal nobody
// keeps it. What a killed process still applies did not happen: a sync that
// would have come first did not.
func (j *journal) add(p *process, machine string, e consensus.Entry) {
	if j == nil || p.dead() {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	known, is := j.entries[machine][e.Index]
	switch {
	case !is:
		e.Data = slices.Clone(e.Data)
		j.entries[machine][e.Index] = e
	case !known.At.Equal(e.At) || !bytes.Equal(known.Data, e.Data):
		j.broken("two nodes have different entries %d of machine %s: %s at %v, and %s at %v", e.Index, machine, known.Data, known.At, e.Data, e.At)
	}
}

// list is a machine's entries in order.
func (j *journal) list(machine string) []consensus.Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []consensus.Entry
	for _, e := range j.entries[machine] {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b consensus.Entry) int {
		if a.Index < b.Index {
			return -1
		}
		return 1
	})
	return out
}

// span is when something happened, by the history's clock. An end of never: it
// may happen still.
type span struct{ began, ended int64 }

const never = int64(1) << 62

// history is what clients, schedulers and holders did and were told. Its clock
// counts events: of two, the one with the lower count was over before the
// other began, or they overlapped.
type history struct {
	clock atomic.Int64

	mu      sync.Mutex
	spans   map[string]span // of proposals, by id
	appends []*appended
	reads   []read
	acts    []*act
	looks   []look
}

// appended is one append as its client saw it.
type appended struct {
	id, list string
	span     span
	place    int    // that it was told; 0: not acknowledged
	sure     bool   // it was told that nothing was written
	at       string // node that acknowledged it
}

type read struct {
	list string
	span span
	n    int
	sum  uint64
}

// act is a time in which a holder did something under a lease that others
// could see.
type act struct {
	task, slot, node string
	token            uint64
	span             span
	from, to         time.Time
}

// look is a fresh read of who has a task.
type look struct {
	task, slot string // either
	token      uint64
	span       span
}

func newHistory() *history { return &history{spans: make(map[string]span)} }

func (h *history) now() int64 { return h.clock.Add(1) }

// called notes that the command with that id is proposed.
func (h *history) called(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, again := h.spans[id]; !again {
		h.spans[id] = span{h.now(), never}
	}
}

// returned notes that it was acknowledged.
func (h *history) returned(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.spans[id]; s.ended == never {
		s.ended = h.now()
		h.spans[id] = s
	}
}

func (h *history) add(to func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	to()
}

// record keeps what happens for one that reads of a failed schedule.
type record struct {
	began time.Time
	file  *os.File // that gets all of it as it happens; nil: none does

	mu    sync.Mutex
	lines []string
	bad   []string
}

func (r *record) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, r.writeLocked(fmt.Sprintf(format, args...)))
}

// write writes a line to the file only.
func (r *record) write(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeLocked(text)
}

func (r *record) writeLocked(text string) string {
	line := fmt.Sprintf("%9.3fs %s", time.Since(r.began).Seconds(), text)
	if r.file != nil {
		fmt.Fprintln(r.file, line) //nolint:errcheck // it is for whoever looks for a fault
	}
	return line
}

// broken notes a violation.
func (r *record) broken(format string, args ...any) {
	r.say("VIOLATION: "+format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad = append(r.bad, fmt.Sprintf(format, args...))
}
