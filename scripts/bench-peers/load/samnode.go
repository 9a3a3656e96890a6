package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// samnode says each message in a task, as a person's program does: through the
// API of a node, with an id that makes a retry harmless. An answer means that
// the message is in the log of most nodes, on disk, and applied at the node
// that answers.
//
// The tasks are drafts, which no agent takes up. As people's messages do, each
// waits in its task until it is taken, and only a few wait at a time: between
// measurements the queues are emptied.
type samnode struct {
	name    string
	nodes   []string
	project string
	token   string
	http    *http.Client
	run     string
	tasks   []string
	queue   int

	emptied int64        // messages that do not wait any more
	said    atomic.Int64 // messages so far; the next one goes to the next task
}

func newSamnode(ctx context.Context, o options, name, nodes, token string, clients int) (*samnode, error) {
	t := &samnode{
		name: name, nodes: strings.Split(nodes, ","), project: o.project, token: token,
		run:   strconv.FormatInt(time.Now().UnixNano(), 36),
		tasks: make([]string, o.tasks), queue: o.queue,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: max(clients, together), DisableCompression: true}},
	}
	for i, n := range t.nodes { // each answers before anything is measured
		t.nodes[i] = strings.TrimRight(n, "/")
		if err := t.call(ctx, i, http.MethodGet, "projects/"+t.project, nil); err != nil {
			return nil, fmt.Errorf("asking samnode at %s for its project %s: %w", n, t.project, err)
		}
	}
	err := t.each(0, int64(o.tasks), func(i int64) error {
		t.tasks[i] = fmt.Sprintf("bench-%s-%d", t.run, i)
		in := map[string]any{"id": t.tasks[i], "project": t.project, "text": "Take messages", "draft": true}
		return t.call(ctx, int(i), http.MethodPost, "tasks", in)
	})
	if err != nil {
		return nil, fmt.Errorf("making draft tasks: %w", err)
	}
	return t, nil
}

func (t *samnode) Name() string { return t.name }

// Prepare empties the queues when not all appends would go into them.
func (t *samnode) Prepare(ctx context.Context, appends int) error {
	room := int64(len(t.tasks) * t.queue)
	if int64(appends) > room {
		return fmt.Errorf("%d tasks take %d messages, not %d; give more -tasks or a longer -queue", len(t.tasks), room, appends)
	}
	said := t.said.Load()
	if said-t.emptied+int64(appends) <= room {
		return nil
	}
	err := t.each(t.emptied, said, func(n int64) error {
		return t.call(ctx, int(n), http.MethodDelete, "tasks/"+t.task(n)+"/queue/"+t.message(n), nil)
	})
	t.emptied = said
	return err
}

func (t *samnode) task(n int64) string    { return t.tasks[n%int64(len(t.tasks))] }
func (t *samnode) message(n int64) string { return t.run + "-m" + strconv.FormatInt(n, 10) }

func (t *samnode) Append(ctx context.Context, client int, text string) error {
	n := t.said.Add(1) - 1
	in := map[string]any{"id": t.message(n), "text": text}
	return t.call(ctx, client, http.MethodPost, "tasks/"+t.task(n)+"/messages", in)
}

// together is how many calls are made at once where nothing is measured.
const together = 32

// each calls do with all numbers in [from, to).
func (t *samnode) each(from, to int64, do func(int64) error) error {
	errs := make(chan error, together)
	var wg sync.WaitGroup
	for m := range int64(together) {
		wg.Go(func() {
			for i := from + m; i < to; i += together {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (t *samnode) call(ctx context.Context, client int, method, path string, in any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, t.nodes[client%len(t.nodes)]+"/api/v1/"+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // as much as there is of it
		return fmt.Errorf("%s %s: %w", method, path, &statusError{resp.StatusCode, string(text)})
	}
	_, err = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return err
}

// statusError is an answer that says no.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return http.StatusText(e.code) + ": " + e.text }

func (t *samnode) Close() { t.http.CloseIdleConnections() }
