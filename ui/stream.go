package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/samnode/samnode/chat"
)

const (
	heartbeat  = 15 * time.Second // a comment, so that proxies and browsers see life
	writeLimit = 10 * time.Second // a reader slower than this reconnects
	batchItems = 200
)

// events is one open stream to a browser. The cursor is the log index, the
// same on every node, so a page can go on elsewhere.
type events struct {
	w     http.ResponseWriter
	ctl   *http.ResponseController
	after uint64
	sent  map[string]string // fragments as they were last sent, by element id
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

// write sends one event, or a comment when it has no id.
func (e *events) write(text string) error {
	// A writer without deadlines (a test recorder) is as good.
	_ = e.ctl.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := e.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("writing event: %w", err)
	}
	if err := e.ctl.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("flushing event: %w", err)
	}
	return nil
}

// patch sends fragments under a cursor and moves it.
func (e *events) patch(html string, index uint64) error {
	e.after = index
	if html == "" {
		return nil // the browser's cursor may lag; what it gets twice is an upsert
	}
	var b strings.Builder
	b.WriteString("event: patch\nid: " + strconv.FormatUint(index, 10) + "\n")
	for l := range strings.Lines(html) {
		b.WriteString("data: " + strings.TrimRight(l, "\r\n") + "\n")
	}
	b.WriteString("\n")
	return e.write(b.String())
}

// fresh renders a component unless the browser has it already.
func (e *events) fresh(ctx context.Context, id string, c templ.Component) (string, error) {
	html, err := fragment(ctx, c)
	if err != nil || e.sent[id] == html {
		return "", err
	}
	e.sent[id] = html
	return html, nil
}

func fragment(ctx context.Context, c templ.Component) (string, error) {
	var b bytes.Buffer
	if err := c.Render(ctx, &b); err != nil {
		return "", fmt.Errorf("rendering: %w", err)
	}
	return b.String() + "\n", nil
}

// idle is how a wait ended without news: time for a heartbeat, or the end.
func (e *events) idle(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errGone
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return e.write(": still here\n\n")
	}
	return err
}

var errGone = errors.New("the reader is gone")

// follow runs step until the reader is gone. Before the first event an error
// still has a status; later the stream just ends and the browser comes again.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, step func(context.Context, *events) error) error {
	e, ctx, cancel, err := s.openEvents(w, r)
	if err != nil {
		return err
	}
	defer cancel()
	if err := e.write("retry: 1000\nevent: hello\ndata: " + s.Version + "\n\n"); err != nil {
		return nil //nolint:nilerr // the reader is gone, nobody is left to tell
	}
	for {
		wait, stop := context.WithTimeout(ctx, heartbeat)
		err := step(wait, e)
		if err != nil {
			err = e.idle(ctx, err)
		}
		stop()
		if err != nil {
			if !errors.Is(err, errGone) {
				s.Logger.Info("stream ended", "path", r.URL.Path, "err", err)
			}
			return nil
		}
	}
}

// taskEvents streams one task, and with ?list=1 the rows of the list beside
// it: one connection serves the whole page.
func (s *Server) taskEvents(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	f := &taskFeed{s: s, caller: callerOf(r), tools: map[string]string{}}
	recent, err := s.Room.Messages(r.Context(), t.ID, 0, itemsPerPage)
	if err != nil {
		return fmt.Errorf("reading messages: %w", err)
	}
	f.note(recent)
	if r.URL.Query().Get("list") == "" {
		return s.follow(w, r, func(ctx context.Context, e *events) error {
			html, index, err := f.batch(ctx, e, t.ID)
			if err != nil {
				return err
			}
			return e.patch(html, index)
		})
	}
	return s.follow(w, r, func(ctx context.Context, e *events) error { return f.both(ctx, e, t.ID) })
}

// taskFeed turns batches of one task into fragments.
type taskFeed struct {
	s      *Server
	caller caller
	tools  map[string]string // running tool calls, by message id
	newest string
}

func (f *taskFeed) note(messages []chat.Message) {
	for _, m := range messages {
		if m.Kind != chat.KindTool || m.Tool == nil {
			continue
		}
		if m.Tool.Status == "in_progress" || m.Tool.Status == "pending" {
			f.tools[m.ID], f.newest = line(m.Tool.Title, 120), m.ID
			continue
		}
		delete(f.tools, m.ID)
	}
}

func (f *taskFeed) activity() string {
	if text, ok := f.tools[f.newest]; ok {
		return text
	}
	for _, text := range f.tools {
		return text
	}
	return ""
}

// batch waits for what changed in the task and renders it: items first, then
// the regions around them.
func (f *taskFeed) batch(ctx context.Context, e *events, id chat.TaskID) (string, uint64, error) {
	b, err := f.s.Room.Since(ctx, id, e.after, batchItems)
	if err != nil {
		return "", 0, err
	}
	f.note(b.Messages)
	html, err := f.render(ctx, e, b)
	return html, b.Index, err
}

func (f *taskFeed) render(ctx context.Context, e *events, b chat.Batch) (string, error) {
	var out strings.Builder
	for _, m := range b.Messages {
		it := f.s.item(b.Task, m)
		if it.Ask != nil {
			it.Ask.FormID = derive(m.ID, string(f.caller.Person)) // the same each time, so that nothing is sent twice
		}
		html, err := fragment(ctx, itemView(it))
		if err != nil {
			return "", err
		}
		out.WriteString(html)
	}
	v := f.s.regions(b.Task, f.caller, f.activity())
	v.FormID = derive(string(b.Task.ID), strconv.FormatInt(b.Task.Since.UnixMilli(), 10), strconv.Itoa(len(b.Task.Queue)))
	for i := range v.Pinned {
		v.Pinned[i].FormID = v.FormID
	}
	if v.Delivery != nil {
		v.Delivery.FormID = v.FormID
	}
	for _, region := range []struct {
		id   string
		view templ.Component
	}{
		{"stepper", stepperView(v.Stepper, v.May)}, {"title", titleView(v)}, {"chips", headView(v)}, {"banner", bannerView(v)},
		{"strip", stripView(v)}, {"queue", queueView(v)}, {"dock", dockView(v)}, {"mode", taskMode(v)},
	} {
		html, err := e.fresh(ctx, region.id, region.view)
		if err != nil {
			return "", err
		}
		out.WriteString(html)
	}
	return out.String(), nil
}

// both follows every task for the list, and the page's own in full.
func (f *taskFeed) both(ctx context.Context, e *events, id chat.TaskID) error {
	tasks, index, err := f.s.Room.TasksSince(ctx, e.after)
	if err != nil {
		return err
	}
	html, err := f.s.rows(ctx, e, tasks, "")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.ID != id {
			continue
		}
		part, upto, err := f.batch(ctx, e, id)
		if err != nil {
			return err
		}
		html, index = html+part, min(index, upto) // never beyond what was sent
	}
	return e.patch(html, index)
}

// rows renders the list rows that changed in a way that shows.
func (s *Server) rows(ctx context.Context, e *events, tasks []chat.Task, project chat.ProjectID) (string, error) {
	var out strings.Builder
	names, now := s.projectNames(), s.Room.Now()
	for _, t := range tasks {
		if project != "" && t.Project != project {
			continue
		}
		r := taskRow(t, names[t.Project], now)
		if t.Archived {
			r.Group = "archived" // the page takes the row away
		}
		html, err := e.fresh(ctx, "row-"+r.ID, rowView(r))
		if err != nil {
			return "", err
		}
		out.WriteString(html)
	}
	return out.String(), nil
}

// listEvents streams the rows of a task list.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) error {
	project := chat.ProjectID(r.URL.Query().Get("project"))
	return s.follow(w, r, func(ctx context.Context, e *events) error {
		tasks, index, err := s.Room.TasksSince(ctx, e.after)
		if err != nil {
			return err
		}
		html, err := s.rows(ctx, e, tasks, project)
		if err != nil {
			return err
		}
		return e.patch(html, index)
	})
}
