package acp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// The deadlines of calls. They are inner to the start step's deadline.
const (
	InitializeTimeout = 15 * time.Second
	SessionTimeout    = 60 * time.Second
	SettingTimeout    = 15 * time.Second
	CancelTimeout     = 10 * time.Second // then the runner kills the agent
)

// Errors of calls.
var (
	ErrDead    = errors.New("no agent process runs")
	ErrSilent  = errors.New("the agent did not answer in time")
	ErrNoTurn  = errors.New("no such turn in the journal")
	ErrNoMode  = errors.New("the agent has no such mode")
	ErrUnknown = errors.New("delivery unknown") // of a turn; see chat.Unknown
)

// Server is an MCP server that the agent may use, over HTTP: every agent can.
type Server struct {
	Name    string
	URL     string
	Headers map[string]string
}

// Config of a Driver.
type Config struct {
	Link         Link
	Conversation ConversationConfig
	Cwd          string   // the repository, as the agent sees it
	Servers      []Server // MCP servers of the session; may be nil
	Modes        map[chat.Mode]string
	// NeedResume refuses to begin a fresh session when an earlier one was
	// asked for and cannot be taken up.
	NeedResume bool
	Log        *slog.Logger // nil: silent
}

// Driver makes the calls of a conversation. Records enter by Feed, from one
// goroutine; all other methods may be called from any. A call that was begun
// before a restart of the node goes on where it was: it sends nothing twice
// and takes the answer that the journal may hold already.
type Driver struct {
	c Config

	setting sync.Mutex // one change of a mode or option at a time

	mu      sync.Mutex
	conv    *Conversation // guarded by mu
	changed chan struct{} // closed and replaced after each record
	live    bool          // the journal was read to the end once
	fed     time.Time     // when the last record came, by this node's clock
}

// NewDriver is a driver of an unread journal.
func NewDriver(c Config) (*Driver, error) {
	if c.Link == nil || c.Cwd == "" {
		return nil, errors.New("acp: Link and Cwd are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{c: c, conv: NewConversation(c.Conversation), changed: make(chan struct{})}, nil
}

// Feed takes the next record of the journal and returns its items. The caller
// hands on only those above the log's cursor.
func (d *Driver) Feed(r Record) ([]chat.Item, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	items, err := d.conv.Feed(r)
	d.fed = time.Now()
	d.wakeLocked()
	return items, err
}

func (d *Driver) wakeLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// See calls fn with the conversation, which fn must neither keep nor feed.
func (d *Driver) See(fn func(*Conversation)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(d.conv)
}

// Turn is the newest turn; false before the first.
func (d *Driver) Turn() (t Turn, ok bool) {
	d.See(func(c *Conversation) { t, ok = c.Turn() })
	return t, ok
}

// Session is what is known of the session.
func (d *Driver) Session() (s Session) {
	d.See(func(c *Conversation) { s = c.Session() })
	return s
}

// Changed is closed by the next record.
func (d *Driver) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Live says that the journal was read to its end: from now on what the agent
// waits for is sent. Serve and the calls send nothing before.
func (d *Driver) Live() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = true
	d.wakeLocked()
}

// Serve sends the answers that need no person: refusals of what we do not
// serve, and cancelled requests. What cannot be sent is tried again as long as
// the agent waits for it. Serve returns when ctx ends.
func (d *Driver) Serve(ctx context.Context) error {
	sent := map[string]bool{} // in this process; the link drops what an earlier one sent
	for {
		due, changed := d.due(sent)
		var again <-chan time.Time
		for _, o := range due {
			if err := d.send(ctx, o.id, o.line); err != nil {
				d.c.Log.Warn("answering the agent; trying again", "err", err)
				again = time.After(serveRetry)
				break
			}
			sent[o.id] = true
		}
		if len(due) == 0 {
			clear(sent)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const serveRetry = time.Second

// due is what the agent waits for and was not sent, and the next change.
func (d *Driver) due(sent map[string]bool) ([]owed, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var due []owed
	for _, o := range d.conv.owed {
		if d.live && !sent[o.id] {
			due = append(due, o)
		}
	}
	return due, d.changed
}

// Watch calls fn when an open turn has been without any output for that long,
// once per silence. It says so as a fact and stops nothing; ctx ends it.
func (d *Driver) Watch(ctx context.Context, after time.Duration, fn func(since time.Time)) error {
	var told time.Time
	for {
		d.mu.Lock()
		changed, fed := d.changed, d.fed
		turn, _ := d.conv.Turn()
		open := turn.Open() && len(d.conv.asks) == 0 && d.conv.alive && d.live
		last := d.conv.LastOutput()
		d.mu.Unlock()
		if !open || turn.ID == "" || fed.Equal(told) {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		timer := time.NewTimer(time.Until(fed.Add(after)))
		select {
		case <-timer.C:
			told = fed
			fn(last)
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (d *Driver) send(ctx context.Context, id string, line []byte) error {
	_, duplicate, err := d.c.Link.Send(ctx, id, line)
	if err != nil {
		return fmt.Errorf("sending %s: %w", id, err)
	}
	d.c.Log.Debug("sent to the agent", "id", id, "bytes", len(line), "duplicate", duplicate)
	return nil
}

// requestLine is a JSON-RPC request; id "" makes a notification.
func requestLine(id, method string, params any) ([]byte, error) {
	b, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		ID      string `json:"id,omitempty"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}{"2.0", id, method, params})
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", method, err)
	}
	return b, nil
}

// call sends a request of the current run, unless it is in the journal, and
// waits for its response.
func (d *Driver) call(ctx context.Context, timeout time.Duration, id, method string, params any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s: %w", method, ErrSilent))
	defer cancel()
	var sent bool
	var run int
	d.See(func(c *Conversation) { sent, run = c.asked[id], c.run })
	if !sent {
		line, err := requestLine(id, method, params)
		if err != nil {
			return nil, err
		}
		if err := d.send(ctx, id, line); err != nil {
			return nil, err
		}
	}
	var got reply
	err := d.wait(ctx, func(c *Conversation) (bool, error) {
		var ok bool
		if got, ok = c.replies[id]; ok {
			return true, nil
		}
		if !c.alive || c.run != run {
			return false, &FailureError{*c.crash()}
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	if got.err != nil {
		var f chat.Failure
		d.See(func(c *Conversation) { f = c.failure(got.err) })
		return nil, fmt.Errorf("%s: %w", method, &FailureError{f})
	}
	return got.result, nil
}

// wait blocks until done says so, after each record.
func (d *Driver) wait(ctx context.Context, done func(*Conversation) (bool, error)) error {
	for {
		d.mu.Lock()
		changed := d.changed
		ok, err := done(d.conv)
		d.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
