package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// CastEvent is something that a recorded terminal showed.
type CastEvent struct {
	Shell   string    `json:"shell"` // its id
	Started time.Time `json:"started"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`           // see the constants
	Data    []byte    `json:"data,omitempty"` // output
	Rows    uint16    `json:"rows,omitempty"`
	Cols    uint16    `json:"cols,omitempty"`
	Name    string    `json:"name,omitempty"` // at the begin
	Maker   string    `json:"maker,omitempty"`
}

// The kinds of CastEvent.
const (
	CastBegin  = "begin" // of a terminal, or of what is left of it after nobody listened
	CastOutput = "output"
	CastResize = "resize"
	CastEnd    = "end"
)

// tape is the place that the recording of a terminal has reached. It lives with
// the terminal, so that a node that comes back goes on where the last stopped.
type tape struct {
	view *view

	mu    sync.Mutex
	sizes []tapeSize
	taken bool // somebody listens
}

type tapeSize struct {
	after      int64 // bytes shown before it
	rows, cols uint16
}

// resized notes a new size; a nil tape does not care.
func (t *tape) resized(s *screen, rows, cols uint16) {
	if t == nil {
		return
	}
	s.mu.Lock()
	head := s.head
	s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sizes) < 1000 { // of a terminal that nobody listens to
		t.sizes = append(t.sizes, tapeSize{head, rows, cols})
	}
}

// size is the next new size that belongs before the byte at.
func (t *tape) size(at int64) (tapeSize, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sizes) == 0 || t.sizes[0].after > at {
		return tapeSize{}, false
	}
	s := t.sizes[0]
	t.sizes = t.sizes[1:]
	return s, true
}

func (t *tape) take() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken {
		return false
	}
	t.taken = true
	return true
}

func (t *tape) isTaken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken
}

func (t *tape) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = false
}

func (ts *terminals) setRecording(on bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.record = on
}

const maxTapes = 32 // of terminals that ended while nobody listened

// tapeLocked begins a recording, and forgets the oldest that nobody fetched.
func (ts *terminals) tapeLocked(t *terminal) {
	ts.tapes = append(ts.tapes, t)
	for i := 0; i < len(ts.tapes) && len(ts.tapes) > maxTapes; {
		if t := ts.tapes[i]; ts.open[t.id] == t || t.tape.isTaken() {
			i++
			continue
		}
		ts.tapes = slices.Delete(ts.tapes, i, i+1)
	}
	close(ts.began)
	ts.began = make(chan struct{})
}

func (ts *terminals) tapeDone(t *terminal) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.tapes = slices.DeleteFunc(ts.tapes, func(o *terminal) bool { return o == t })
}

// recorded lists what is recorded, and what is closed when there is more.
func (ts *terminals) recorded() (list []*terminal, more <-chan struct{}) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return slices.Clone(ts.tapes), ts.began
}

// record streams what the recorded terminals show until the caller leaves.
func (s *server) record(ctx context.Context, c *net.UnixConn, w *frameWriter) error {
	ctx, cancel := untilGone(ctx, c)
	defer cancel()
	if err := w.writeJSON(kindAnswer, answer{}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		list, more := s.terms.recorded()
		for _, t := range list {
			if t.tape.take() {
				wg.Go(func() {
					defer t.tape.giveBack()
					defer t.screen.ignore(t.tape.view)
					if err := t.play(ctx, w); err != nil {
						cancel()
						return
					}
					s.terms.tapeDone(t)
				})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}

// play says what a terminal shows until it ends.
func (t *terminal) play(ctx context.Context, w *frameWriter) error {
	say := func(e CastEvent) error {
		e.Shell, e.Started, e.At = t.id, t.started, time.Now().UTC()
		return w.writeJSON(kindCast, e)
	}
	t.screen.listen(t.tape.view)
	info := t.info(nil)
	if err := say(CastEvent{Kind: CastBegin, Rows: info.Rows, Cols: info.Cols, Name: info.Name, Maker: info.Maker.Person}); err != nil {
		return err
	}
	for {
		at := t.screen.place(t.tape.view)
		for size, ok := t.tape.size(at); ok; size, ok = t.tape.size(at) {
			if err := say(CastEvent{Kind: CastResize, Rows: size.rows, Cols: size.cols}); err != nil {
				return err
			}
		}
		b, _, err := t.screen.next(ctx, t.tape.view)
		if err != nil {
			return err
		}
		if b == nil {
			t.screen.detach(t.tape.view)
			return say(CastEvent{Kind: CastEnd})
		}
		if err := say(CastEvent{Kind: CastOutput, Data: b}); err != nil {
			return err
		}
	}
}

// Record calls fn with what recorded terminals show, those that are open first,
// until ctx ends or the shim is gone. The programs wait for fn, a while.
func (c *Client) Record(ctx context.Context, fn func(CastEvent) error) error {
	conn, stop, err := c.open(ctx, request{Op: "record"}, nil)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	defer stop()
	if _, err := readAnswer(conn); err != nil {
		return fmt.Errorf("recording: %w", cause(ctx, err))
	}
	for r := bufio.NewReaderSize(conn, 64<<10); ; {
		kind, b, err := readFrame(r, maxFrame)
		if err != nil {
			return fmt.Errorf("recording: %w", cause(ctx, err))
		}
		var e CastEvent
		if kind != kindCast {
			err = fmt.Errorf("%w: frame %q", ErrInvalid, kind)
		} else if err = json.Unmarshal(b, &e); err == nil {
			err = fn(e)
		}
		if err != nil {
			return fmt.Errorf("recording: %w", err)
		}
	}
}
