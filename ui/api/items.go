package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/samnode/samnode/chat"
)

// page is how many items one answer or event carries at most.
const page = 500

// heartbeat keeps proxies from closing a quiet stream.
const heartbeat = 20 * time.Second

// items answers with what changed after a cursor, at once.
func (s *server) items(w http.ResponseWriter, r *request) error {
	t := r.task
	after, err := cursor(r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	limit := page
	if q := r.URL.Query().Get("limit"); q != "" {
		if limit, err = strconv.Atoi(q); err != nil || limit < 1 || limit > page {
			return fmt.Errorf("limit is a number from 1 to %d: %w", page, chat.ErrInvalid)
		}
	}
	out := struct {
		Items []chat.Message `json:"items"`
		Index uint64         `json:"index"` // the next cursor
		More  bool           `json:"more"`
	}{Items: []chat.Message{}, Index: after}
	if after < t.Index {
		b, err := s.c.Room.Since(r.Context(), t.ID, after, limit)
		if err != nil {
			return err
		}
		out.Items, out.Index, out.More = append(out.Items, b.Messages...), b.Index, b.More
	}
	return answer(w, http.StatusOK, out)
}

func cursor(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the cursor %q is not a log index: %w", s, chat.ErrInvalid)
	}
	return n, nil
}

// stream is items as server-sent events: one event per cursor step, its id the
// next cursor, so that Last-Event-ID resumes at any node.
func (s *server) stream(w http.ResponseWriter, r *request) error {
	t := r.task
	from := r.Header.Get("Last-Event-ID")
	if from == "" {
		from = r.URL.Query().Get("after")
	}
	after, err := cursor(from)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	for s.stillReads(r, t) {
		err := s.event(w, r, t.ID, &after)
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			return nil // the reader left, or the node ends: it comes back with its cursor
		}
	}
	return nil
}

// event writes the next event, or a comment when nothing happened for long.
func (s *server) event(w http.ResponseWriter, r *request, id chat.TaskID, after *uint64) error {
	ctx, cancel := context.WithTimeout(r.Context(), heartbeat)
	defer cancel()
	b, err := s.c.Room.Since(ctx, id, *after, page)
	if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
		_, err := fmt.Fprint(w, ": alive\n\n")
		return err
	}
	if err != nil {
		return err
	}
	items := b.Messages
	if items == nil {
		items = []chat.Message{}
	}
	data, err := json.Marshal(map[string]any{"task": s.show(b.Task), "items": items})
	if err != nil {
		return err
	}
	*after = b.Index
	_, err = fmt.Fprintf(w, "id: %d\nevent: items\ndata: %s\n\n", b.Index, data)
	return err
}

func (s *server) export(w http.ResponseWriter, r *request) error {
	t := r.task
	format, kind := r.URL.Query().Get("format"), "text/markdown; charset=utf-8"
	switch format {
	case "", "md":
		format = "md"
	case "json":
		kind = "application/json"
	default:
		return fmt.Errorf("format is md or json: %w", chat.ErrInvalid)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "task-"+string(t.ID)+"."+format))
	return s.c.Room.Export(r.Context(), w, t.ID, format)
}
