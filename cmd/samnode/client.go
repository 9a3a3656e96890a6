package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// defaultAPI is where `samnode dev` listens when nothing else is said.
const defaultAPI = "http://127.0.0.1:7070"

var errUnreachable = errors.New("no node answers")

// apiError is a node's refusal.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

func (e *apiError) exitCode() int {
	switch e.status {
	case http.StatusConflict, http.StatusForbidden:
		return exitRefused
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return exitUsage
	default:
		return exitFailed
	}
}

// client talks to one node's API.
type client struct {
	base  string
	http  *http.Client
	limit time.Duration // for one call
}

func newClient(base string) *client {
	return &client{base: strings.TrimRight(base, "/") + "/api/v1/", http: &http.Client{}, limit: time.Minute}
}

// wait is the client for a call that may take long.
func (c *client) wait(limit time.Duration) *client {
	return &client{base: c.base, http: c.http, limit: limit}
}

// path joins escaped segments.
func path(parts ...string) string {
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// call sends in as JSON when it is not nil, and decodes the answer into out
// when that is not nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	resp, err := c.do(ctx, method, path, in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("reading the node's answer: %w", err)
	}
	return nil
}

// do returns an answer that is not an error; the caller closes its body.
func (c *client) do(ctx context.Context, method, path string, in any, header http.Header) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, &exitError{exitUsage, "--api is not the URL of a node: " + err.Error()}
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w at %s (is `samnode dev` running?): %w", errUnreachable, c.base, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

func refusal(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("reading the node's answer: %w", err)
	}
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(data, &e) != nil || e.Error == "" {
		e.Error = resp.Status + ": " + strings.TrimSpace(string(data))
	}
	return &apiError{resp.StatusCode, e.Error}
}

// event is one step of a task's stream.
type event struct {
	Task  json.RawMessage   `json:"task"`
	Items []json.RawMessage `json:"items"`
}

// follow hands on a task's events from a cursor until fn says stop. It
// connects again by itself when the stream breaks, and gives up when no node
// answers for half a minute.
func (c *client) follow(ctx context.Context, task string, after uint64, fn func(event) (more bool, err error)) error {
	last := time.Now()
	for {
		more, err := c.followOnce(ctx, task, &after, func(e event) (bool, error) {
			last = time.Now()
			return fn(e)
		})
		if !more {
			return err
		}
		if err != nil && (!errors.Is(err, errUnreachable) || time.Since(last) > 30*time.Second) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// followOnce reads one connection. more says whether it is worth another.
func (c *client) followOnce(ctx context.Context, task string, after *uint64, fn func(event) (bool, error)) (more bool, err error) {
	header := http.Header{"Last-Event-Id": {strconv.FormatUint(*after, 10)}}
	resp, err := c.do(ctx, http.MethodGet, path("tasks", task, "stream"), nil, header)
	if err != nil {
		return errors.Is(err, errUnreachable) && ctx.Err() == nil, err
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	next := *after
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return ctx.Err() == nil, context.Cause(ctx)
		}
		field, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ": ")
		switch field {
		case "id":
			if next, err = strconv.ParseUint(value, 10, 64); err != nil {
				return false, fmt.Errorf("reading the stream's cursor: %w", err)
			}
		case "data":
			var e event
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				return false, fmt.Errorf("reading the stream: %w", err)
			}
			if more, err := fn(e); err != nil || !more {
				return false, err
			}
			*after = next
		}
	}
}
