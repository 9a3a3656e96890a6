package acp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
)

// journal is the shim in memory: it starts agents, journals their lines and
// takes a line once per id.
type journal struct {
	mu      sync.Mutex
	records []acp.Record
	sent    map[string]uint64
	run     int
	stdin   io.WriteCloser
	changed chan struct{}
	at      time.Time
}

func newJournal() *journal {
	return &journal{sent: map[string]uint64{}, changed: make(chan struct{}), at: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
}

func (j *journal) add(dir, id, data string) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.addLocked(dir, id, []byte(data))
}

func (j *journal) addLocked(dir, id string, data []byte) uint64 {
	j.at = j.at.Add(time.Millisecond)
	j.records = append(j.records, acp.Record{
		Seq: uint64(len(j.records) + 1), At: j.at, Dir: dir, ID: id, Run: j.run, Data: data,
	})
	close(j.changed)
	j.changed = make(chan struct{})
	return uint64(len(j.records))
}

// Send implements acp.Link.
func (j *journal) Send(_ context.Context, id string, line []byte) (uint64, bool, error) {
	j.mu.Lock()
	if seq, ok := j.sent[id]; ok {
		j.mu.Unlock()
		return seq, true, nil
	}
	if j.stdin == nil {
		j.mu.Unlock()
		return 0, false, errors.New("no agent runs")
	}
	seq := j.addLocked(acp.In, id, line)
	j.sent[id] = seq
	stdin := j.stdin
	j.mu.Unlock()
	_, err := stdin.Write(append(append([]byte(nil), line...), '\n'))
	return seq, false, err
}

// start runs an agent until its main returns; exit journals its end.
func (j *journal) start(t *testing.T, main func(ctx context.Context, in io.Reader, out io.Writer) error) (exit func(note string)) {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	j.mu.Lock()
	j.run++
	j.stdin = inW
	j.addLocked(acp.Note, "start", []byte(`{"event":"started"}`))
	j.mu.Unlock()
	var done sync.WaitGroup
	done.Go(func() {
		_ = main(ctx, inR, outW)
		inR.CloseWithError(io.ErrClosedPipe)
		outW.Close()
	})
	done.Go(func() {
		r := bufio.NewReader(outR)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				j.add(acp.Out, "", strings.TrimSuffix(line, "\n"))
			}
			if err != nil {
				return
			}
		}
	})
	var once sync.Once
	exit = func(note string) {
		once.Do(func() {
			cancel()
			inW.Close()
			done.Wait()
			j.mu.Lock()
			defer j.mu.Unlock()
			j.stdin = nil
			if note != "" {
				j.addLocked(acp.Note, "", []byte(note))
			}
		})
	}
	t.Cleanup(func() { exit("") })
	return exit
}

// from waits for the record with that seq.
func (j *journal) from(ctx context.Context, seq uint64) (acp.Record, error) {
	for {
		j.mu.Lock()
		changed := j.changed
		if seq <= uint64(len(j.records)) {
			r := j.records[seq-1]
			j.mu.Unlock()
			return r, nil
		}
		j.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return acp.Record{}, context.Cause(ctx)
		}
	}
}

func (j *journal) all() []acp.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]acp.Record(nil), j.records...)
}

// node attaches to a journal with a driver, as a runner does.
type node struct {
	*acp.Driver
	mu     sync.Mutex
	items  []chat.Item
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func attach(t *testing.T, j *journal, c acp.Config) *node {
	t.Helper()
	if c.Cwd == "" {
		c.Cwd = t.TempDir()
	}
	c.Link = j
	d, err := acp.NewDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Driver: d}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	n.cancel = cancel
	n.done.Go(func() {
		for seq := uint64(1); ; seq++ {
			r, err := j.from(ctx, seq)
			if err != nil {
				return
			}
			items, err := d.Feed(r)
			if err != nil {
				t.Errorf("Feed(%d): %v", seq, err)
				return
			}
			n.mu.Lock()
			n.items = append(n.items, items...)
			n.mu.Unlock()
		}
	})
	n.done.Go(func() { _ = d.Serve(ctx) })
	t.Cleanup(n.detach)
	return n
}

func (n *node) detach() { n.cancel(); n.done.Wait() }

// until waits for the state, bounded by the test's own deadline.
func (n *node) until(t *testing.T, what string, ok func(*acp.Conversation) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		changed := n.Changed()
		var done bool
		n.See(func(c *acp.Conversation) { done = ok(c) })
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		}
	}
}

// board applies items as the chat does: text by offset, fields that come.
type board struct {
	order []string
	byID  map[string]*chat.Message
	ends  []chat.TurnEnd
	usage chat.Usage
}

func apply(t *testing.T, items []chat.Item) *board {
	t.Helper()
	b := &board{byID: map[string]*chat.Message{}}
	for _, it := range items {
		b.apply(t, it)
	}
	return b
}

func (b *board) apply(t *testing.T, it chat.Item) {
	t.Helper()
	if it.Usage != nil {
		b.usage.Input += it.Usage.Input
		b.usage.Output += it.Usage.Output
		b.usage.Cost += it.Usage.Cost
	}
	if it.TurnEnd != nil {
		b.ends = append(b.ends, *it.TurnEnd)
	}
	if it.Kind == "" {
		return
	}
	m := b.byID[it.ID]
	if m == nil {
		m = &chat.Message{ID: it.ID, Kind: it.Kind, Source: it.Source}
		b.byID[it.ID] = m
		b.order = append(b.order, it.ID)
	}
	if m.Kind != it.Kind {
		t.Errorf("item %s changes its kind from %s to %s", it.ID, m.Kind, it.Kind)
	}
	if it.Text != "" {
		have := max(m.Size, int64(len(m.Text)))
		if it.Offset != have {
			t.Errorf("item %s has text at %d, want %d", it.ID, it.Offset, have)
		}
		m.Text += it.Text
		m.Size = it.Size
	}
	if it.Tool != nil {
		if m.Tool == nil {
			m.Tool = &chat.Tool{}
		}
		mergeTool(m.Tool, *it.Tool)
	}
	if it.Plan != nil {
		m.Plan = it.Plan
	}
	if it.Ask != nil {
		m.Ask = it.Ask
	}
	m.Detail += it.Detail
	m.Closed = m.Closed || it.Closed
}

func mergeTool(t *chat.Tool, u chat.Tool) {
	or := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	or(&t.Title, u.Title)
	or(&t.Kind, u.Kind)
	or(&t.Status, u.Status)
	or(&t.Input, u.Input)
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

func (n *node) board(t *testing.T) *board {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	return apply(t, n.items)
}

// of are the messages of a kind, in order.
func (b *board) of(kind chat.Kind) []chat.Message {
	var all []chat.Message
	for _, id := range b.order {
		if b.byID[id].Kind == kind {
			all = append(all, *b.byID[id])
		}
	}
	return all
}

func (b *board) String() string {
	var s strings.Builder
	for _, id := range b.order {
		m := *b.byID[id]
		v, _ := json.Marshal(m)
		fmt.Fprintln(&s, string(v))
	}
	return s.String()
}
