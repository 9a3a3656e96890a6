package acp

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// The pace of the log.
const (
	batchEvery = 75 * time.Millisecond  // between two batches while text comes
	lazyEvery  = 100 * time.Millisecond // when there is only more output of a running tool,
	lazySlow   = 300 * time.Millisecond // which is sent whole each time: this long at lazyBytes
	lazyBytes  = 64 << 10
	batchBytes = 4 << 10   // of text, sent without waiting
	batchMax   = 256 << 10 // one batch, as JSON
	batchHold  = 4 << 20   // waiting for the log; then Add blocks
)

// Batch is what the records (From, Upto] made.
type Batch struct {
	From, Upto uint64
	Items      []chat.Item
}

// Batcher joins the items of many records into few batches. The first of a
// burst goes at once, the next at most every 75 ms or 4 KiB of text. Batches
// are contiguous: one begins where the last ended.
type Batcher struct {
	flush func(context.Context, Batch) error

	mu      sync.Mutex
	queue   []segment     // waiting, in order; guarded by mu with all below
	upto    uint64        // last record that was added
	from    uint64        // last record that was flushed
	text    int           // bytes of text waiting
	held    int           // bytes waiting
	urgent  bool          // something that waits is not lazy
	last    time.Time     // of the last flush
	busy    bool          // a batch is on its way
	changed chan struct{} // closed and replaced when any of these moves
	err     error         // why Run ended
}

// segment becomes one batch.
type segment struct {
	upto  uint64
	size  int
	items []chat.Item
	open  map[string]int // where an item's update may be merged into
}

// NewBatcher batches the records after cursor. flush puts a batch into the
// log; it is called from Run, one batch at a time, and an error of it ends Run.
func NewBatcher(cursor uint64, flush func(context.Context, Batch) error) *Batcher {
	return &Batcher{flush: flush, from: cursor, upto: cursor, changed: make(chan struct{})}
}

// Add takes the items of a record. Records at or below the cursor are
// skipped. It blocks while too much waits for the log, which in the end
// makes the agent wait.
func (b *Batcher) Add(ctx context.Context, seq uint64, items []chat.Item) error {
	b.mu.Lock()
	for b.held > batchHold && b.err == nil {
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	if seq <= b.upto {
		return nil
	}
	b.upto = seq
	if len(items) > 0 {
		b.addLocked(seq, items)
		b.wakeLocked()
	}
	return nil
}

func (b *Batcher) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Batcher) addLocked(seq uint64, items []chat.Item) {
	size := 0
	for i := range items {
		size += itemSize(&items[i])
		b.text += len(items[i].Text)
		b.urgent = b.urgent || !lazy(&items[i])
	}
	if n := len(b.queue); n == 0 || b.queue[n-1].size+size > batchMax {
		b.queue = append(b.queue, segment{open: map[string]int{}})
	}
	s := &b.queue[len(b.queue)-1]
	before := s.size
	for _, it := range items {
		s.add(it)
	}
	s.upto = seq
	b.held += s.size - before
}

// lazy items are more output of a tool that still runs.
func lazy(it *chat.Item) bool {
	t := it.Tool
	return t != nil && t.Status == "" && t.Title == "" && t.Input == "" && t.Diffs == nil && t.Exit == nil
}

// add merges the item into an earlier one of the same id where that says the
// same: text that goes on, a tool's later fields. Nothing moves across the end
// of a turn.
func (s *segment) add(it chat.Item) {
	if i, ok := s.open[it.ID]; ok {
		before := itemSize(&s.items[i])
		if merge(&s.items[i], it) {
			s.size += itemSize(&s.items[i]) - before
			return
		}
	}
	if it.TurnEnd != nil {
		clear(s.open)
	} else {
		s.open[it.ID] = len(s.items)
	}
	s.items = append(s.items, it)
	s.size += itemSize(&it)
}

func merge(to *chat.Item, it chat.Item) bool {
	if to.Kind != it.Kind || it.Ask != nil || it.TurnEnd != nil || it.Usage != nil || len(it.Raw) > 0 {
		return false
	}
	if it.Text != "" || it.Tool == nil && it.Plan == nil {
		if to.Offset+int64(len(to.Text)) != it.Offset {
			return false
		}
	}
	to.Text += it.Text
	to.Closed = to.Closed || it.Closed
	to.Size = max(to.Size, it.Size)
	if it.Plan != nil {
		to.Plan = it.Plan
	}
	if it.Tool != nil {
		if to.Tool == nil {
			return false
		}
		t := *to.Tool
		mergeTool(&t, it.Tool)
		to.Tool = &t
	}
	return true
}

// mergeTool takes what the later update has.
func mergeTool(t, u *chat.Tool) {
	t.Title, t.Kind = first(u.Title, t.Title), first(u.Kind, t.Kind)
	t.Status, t.Input = first(u.Status, t.Status), first(u.Input, t.Input)
	if u.Output != "" {
		t.Output, t.Size = u.Output, u.Size
	}
	if u.Locations != nil {
		t.Locations = u.Locations
	}
	if u.Diffs != nil {
		t.Diffs = u.Diffs
	}
	if u.Exit != nil {
		t.Exit = u.Exit
	}
	if !u.Ended.IsZero() {
		t.Ended = u.Ended
	}
}

// itemSize is about what the item takes as JSON, never much less.
func itemSize(it *chat.Item) int {
	n := 160 + jsonSize(it.Text) + jsonSize(it.Detail) + len(it.Raw)*4/3
	if t := it.Tool; t != nil {
		n += 200 + jsonSize(t.Title) + jsonSize(t.Input) + jsonSize(t.Output)
		for i := range t.Diffs {
			n += 60 + jsonSize(t.Diffs[i].Path) + jsonSize(t.Diffs[i].Old) + jsonSize(t.Diffs[i].New)
		}
		for i := range t.Locations {
			n += 30 + jsonSize(t.Locations[i].Path)
		}
	}
	for i := range it.Plan {
		n += 60 + jsonSize(it.Plan[i].Text)
	}
	if a := it.Ask; a != nil {
		n += 200 + jsonSize(a.Title) + jsonSize(a.Detail) + 400*len(a.Options)
		for i := range a.Fields {
			n += 100 + jsonSize(a.Fields[i].Label)
			for _, c := range a.Fields[i].Choices {
				n += 4 + jsonSize(c)
			}
		}
	}
	return n
}

func jsonSize(s string) (n int) {
	for _, r := range s {
		n += cost(r)
	}
	return n
}

// Run flushes until ctx ends or flush fails. What waits when ctx ends is
// lost here and made again from the journal.
func (b *Batcher) Run(ctx context.Context) error {
	for {
		batch, err := b.next(ctx)
		if err == nil {
			if err = b.flush(ctx, batch); err != nil {
				err = fmt.Errorf("logging records %d to %d: %w", batch.From, batch.Upto, err)
			}
		}
		b.mu.Lock()
		b.last, b.busy = time.Now(), false
		if err == nil {
			b.from = batch.Upto
		}
		b.err = err
		b.wakeLocked()
		b.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// Flushed blocks until every record up to seq that made items is in the log.
func (b *Batcher) Flushed(ctx context.Context, seq uint64) error {
	for {
		b.mu.Lock()
		changed, err := b.changed, b.err
		done := b.from >= seq || b.upto >= seq && len(b.queue) == 0 && !b.busy
		b.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next waits for the next batch's time and takes it.
func (b *Batcher) next(ctx context.Context) (Batch, error) {
	for {
		b.mu.Lock()
		changed := b.changed
		wait, ready := b.dueLocked()
		if ready {
			batch := b.takeLocked()
			b.mu.Unlock()
			return batch, nil
		}
		b.mu.Unlock()
		if err := sleep(ctx, wait, changed); err != nil {
			return Batch{}, err
		}
	}
}

// dueLocked says whether a batch is due, or in how long; below zero: never
// without something new.
func (b *Batcher) dueLocked() (time.Duration, bool) {
	if len(b.queue) == 0 {
		return -1, false
	}
	every := batchEvery
	if !b.urgent {
		every = min(max(lazySlow*time.Duration(b.held)/lazyBytes, lazyEvery), lazySlow)
	}
	wait := every - time.Since(b.last)
	return wait, wait <= 0 || b.text >= batchBytes || len(b.queue) > 1
}

func (b *Batcher) takeLocked() Batch {
	s := b.queue[0]
	b.queue = b.queue[1:]
	b.held -= s.size
	b.busy = true
	batch := Batch{From: b.from, Upto: s.upto, Items: s.items}
	if len(b.queue) == 0 { // records without items ride along
		batch.Upto = b.upto
		b.text, b.held, b.urgent = 0, 0, false
	}
	return batch
}

func sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}) error {
	var timer <-chan time.Time
	if wait >= 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-changed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
