package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/samnode/samnode/chat"
)

const (
	beatEvery  = time.Second      // a page that hears nothing for much longer looks for another node
	writeLimit = 10 * time.Second // a reader slower than this reconnects
	batchItems = 200
)

// events is one open stream to a browser. The cursor is the log index, the
// same on every node, so a page can go on elsewhere.
type events struct {
	w     http.ResponseWriter
	ctl   *http.ResponseController
	after uint64            // the cursor that the reader came with
	sent  map[string]string // fragments as they were last sent, by element id
	wrote time.Time
	hint  string // where to go on, as it was last told
	asked time.Time
}

// openEvents answers the headers. The cursor is Last-Event-ID, else ?after.
func (s *Server) openEvents(w http.ResponseWriter, r *http.Request) (*events, context.Context, context.CancelFunc, error) {
	cursor := r.Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = r.URL.Query().Get("after")
	}
	after, err := strconv.ParseUint(cursor, 10, 64)
	if err != nil && cursor != "" {
		return nil, nil, nil, fmt.Errorf("%w: the cursor is a log index", chat.ErrInvalid)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	e := &events{w: w, ctl: http.NewResponseController(w), after: after, sent: map[string]string{}}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.done, cancel)
	return e, ctx, func() { stop(); cancel() }, nil
}

// write sends the parts of one event.
func (e *events) write(parts ...string) error {
	// A writer without deadlines (a test recorder) is as good.
	_ = e.ctl.SetWriteDeadline(time.Now().Add(writeLimit))
	for _, p := range parts {
		if _, err := io.WriteString(e.w, p); err != nil {
			return fmt.Errorf("writing event: %w", err)
		}
	}
	if err := e.ctl.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("flushing event: %w", err)
	}
	e.wrote = time.Now()
	return nil
}

// patch sends pieces under a cursor. The browser's cursor may lag: what it gets
// twice is an upsert.
func (e *events) patch(index uint64, pieces ...string) error {
	if len(pieces) == 0 {
		return nil
	}
	head := "event: patch\nid: " + strconv.FormatUint(index, 10) + "\n"
	return e.write(append(append([]string{head}, pieces...), "\n")...)
}

// piece is an element as an event carries it, rendered once for all streams.
type piece struct{ id, data string }

// newPiece renders an element into the lines of an event.
func newPiece(ctx context.Context, id string, c templ.Component) (piece, error) {
	var b bytes.Buffer
	if err := c.Render(ctx, &b); err != nil {
		return piece{}, fmt.Errorf("rendering: %w", err)
	}
	return piece{id, dataLines(b.String())}, nil
}

func dataLines(html string) string {
	var b strings.Builder
	b.Grow(len(html) + 64)
	for l := range strings.Lines(html) {
		b.WriteString("data: ")
		b.WriteString(strings.TrimRight(l, "\r\n"))
		b.WriteByte('\n')
	}
	return b.String()
}

// fresh are the pieces that the browser does not have yet.
func (e *events) fresh(pieces ...piece) []string {
	var out []string
	for _, p := range pieces {
		if e.sent[p.id] != p.data {
			e.sent[p.id] = p.data
			out = append(out, p.data)
		}
	}
	return out
}

var errGone = errors.New("the reader is gone")

// follow runs step until the reader is gone; a step waits at most until its
// context ends, and is called again then. Before the first event an error still has a status; later the
// stream just ends and the browser comes again.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, step func(context.Context, *events) error) error {
	e, ctx, cancel, err := s.openEvents(w, r)
	if err != nil {
		return err
	}
	defer cancel()
	if err := e.write("retry: 500\nevent: hello\ndata: " + s.Version + "\n\n"); err != nil {
		return nil //nolint:nilerr // the reader is gone, nobody is left to tell
	}
	asked := time.Now()
	for err == nil {
		if time.Since(asked) >= rolePause {
			asked, err = time.Now(), s.still(r)
		}
		if err == nil {
			err = s.steps(ctx, e, step)
		}
	}
	if !errors.Is(err, errGone) {
		s.Logger.Info("stream ended", "path", r.URL.Path, "err", err)
	}
	return nil
}

// steps runs steps until the next beat is due.
func (s *Server) steps(ctx context.Context, e *events, step func(context.Context, *events) error) error {
	wait, stop := context.WithDeadline(ctx, e.wrote.Add(s.beatEvery))
	defer stop()
	for {
		err := step(wait, e)
		switch {
		case ctx.Err() != nil:
			return errGone
		case err == nil || errors.Is(err, context.DeadlineExceeded):
			err = s.beat(ctx, e)
		}
		if err != nil || wait.Err() != nil {
			return err
		}
	}
}

// beat tells the browser that the node lives, unless it just heard something,
// and where it can go on when it does not: once per look at the mesh at most.
func (s *Server) beat(ctx context.Context, e *events) error {
	if time.Since(e.wrote) >= s.beatEvery {
		if err := e.write("event: beat\ndata: 1\n\n"); err != nil {
			return err
		}
	}
	now := time.Now()
	if s.Mesh == nil || now.Sub(e.asked) < aroundFor {
		return nil
	}
	e.asked = now
	a := s.around(ctx)
	if a.hint != e.hint {
		e.hint = a.hint
		if err := e.write("event: nodes\ndata: " + a.hint + "\n\n"); err != nil {
			return err
		}
	}
	if lines := e.fresh(a.top); len(lines) > 0 {
		return e.write("event: patch\n", lines[0], "\n") // without an id: the cursor stays
	}
	return nil
}
