// Package modeltest is the scripted model API that the tests run real agents
// against: the four streaming dialects of the vendors on one address, with no
// model behind them.
//
// The script is chosen by a marker in the user's text, and the place in it by
// the tool results that the request already carries. So the API has no state,
// and retries, resumes and parallel agents all get the right answer:
//
//	SCENARIO=hello                    says a sentence
//	SCENARIO=edit FILE=a.txt          writes the file (several: FILE=a,b); TEXT="what it says"
//	SCENARIO=plan FILE=a.txt          makes a plan, leaves plan mode where there is one, then edits
//	SCENARIO=bash CMD="make"          runs a command that needs permission; N=3 runs it three times
//	SCENARIO=ask                      asks by the agent's own question tool (also: question)
//	SCENARIO=mcp TOOL=name            calls an MCP tool, the first one without TOOL
//	SCENARIO=long N=400               says N words at once
//	SCENARIO=slow N=240 DELAY=250     says N words, one in DELAY milliseconds
//	SCENARIO=endless                  calls tools for ever, turn after turn
//	SCENARIO=silent                   begins to answer, then says nothing more
//	SCENARIO=cut TIMES=1              breaks the connection in the middle of the answer; always without TIMES
//	SCENARIO=overloaded N=3           refuses three times with 529 (503 elsewhere), then says hello; N=always
//	SCENARIO=ratelimit N=2            the same with 429
//	SCENARIO=badkey                   refuses the key with 401
//
// The last marker in a conversation counts; DELAY paces every scenario. What agents send unasked (titles,
// classifiers, counts, lists of models) is answered in kind.
package modeltest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options of the API. The zero value takes any key and does not dawdle.
type Options struct {
	// Key is the only key that is accepted, in the header of each dialect.
	// Empty: any, also none.
	Key string

	// Pace is the pause between two words of every answer.
	Pace time.Duration
}

// Kind says what a request was for.
type Kind string

// The kinds of request.
const (
	Main       Kind = "main"       // a step of a conversation
	Title      Kind = "title"      // a title for the conversation
	Classifier Kind = "classifier" // may this tool run? what comes next?
	Count      Kind = "count"      // tokens
	Models     Kind = "models"     // the list, or one of it
	Hello      Kind = "hello"      // is anyone there
	Unknown    Kind = "unknown"    // not part of the API: answered 404
)

// Request is one request as it arrived.
type Request struct {
	Kind     Kind
	Method   string
	Path     string // with the query
	Dialect  string // anthropic, responses, chat, gemini
	Model    string
	Key      string // as the client sent it, in whatever header
	Scenario string
	Step     int // tool results since the marker
	Status   int // of the answer
	Header   http.Header
	Body     []byte
}

// maxKept bounds the record of a server that runs for long.
const maxKept = 10_000

// API is the handler. It serves the vendors' own paths, bare or below
// /anthropic, /openai and /gemini.
type API struct {
	opts Options

	mu       sync.Mutex
	requests []Request
	refused  map[string]int // how often a conversation's step was refused so far
}

// Handler returns the API for a server of one's own.
func Handler(o Options) *API { return &API{opts: o, refused: map[string]int{}} }

// Server is an API on a loopback port.
type Server struct {
	*API
	URL    string
	server *httptest.Server
}

// New starts a server, which ends with the test. t may be nil; then Close ends
// it. At most one Options is read.
func New(t testing.TB, o ...Options) *Server {
	var opts Options
	if len(o) > 0 {
		opts = o[0]
	}
	api := Handler(opts)
	s := &Server{API: api, server: httptest.NewServer(api)}
	s.URL = s.server.URL
	if t != nil {
		t.Cleanup(s.Close)
	}
	return s
}

// Close ends the server and every answer that still runs.
func (s *Server) Close() {
	s.server.CloseClientConnections()
	s.server.Close()
}

// Requests returns what arrived so far, in order.
func (a *API) Requests() []Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// Steps returns the requests of the kind Main.
func (a *API) Steps() []Request {
	return slices.DeleteFunc(a.Requests(), func(r Request) bool { return r.Kind != Main })
}

func (a *API) keep(r Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.requests) >= maxKept {
		a.requests = slices.Delete(a.requests, 0, maxKept/2)
	}
	a.requests = append(a.requests, r)
}

// refuse counts a refusal of one step and reports whether it is still due.
func (a *API) refuse(step string, times int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if times >= 0 && a.refused[step] >= times {
		return false
	}
	a.refused[step]++
	return true
}

// ServeHTTP answers one request and keeps it.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	rec := Request{Kind: Unknown, Method: r.Method, Path: r.URL.RequestURI(), Key: keyOf(r), Header: r.Header.Clone(), Body: body}
	path := r.URL.Path
	for _, prefix := range []string{"/anthropic", "/openai", "/gemini"} {
		path = strings.TrimPrefix(path, prefix)
	}
	sw := &statusWriter{ResponseWriter: w}
	defer func() {
		rec.Status = sw.status
		a.keep(rec)
	}()
	a.route(sw, r, path, body, &rec)
}

// route finds the dialect by the path.
func (a *API) route(w http.ResponseWriter, r *http.Request, path string, body []byte, rec *Request) {
	var d dialect
	switch {
	case path == "/" || path == "" || path == "/api/hello":
		rec.Kind = Hello
		writeJSON(w, http.StatusOK, map[string]any{"message": "hello"})
		return
	case path == "/v1/messages" || path == "/v1/messages/count_tokens":
		d = anthropic{}
	case path == "/v1/responses":
		d = responses{}
	case path == "/v1/chat/completions":
		d = completions{}
	case strings.Contains(path, "/models/") && strings.Contains(path, ":"):
		d = gemini{path: path, sse: r.URL.Query().Get("alt") == "sse"}
	case strings.HasPrefix(path, "/v1"):
		a.models(w, r, path, rec)
		return
	default:
		writeJSON(w, http.StatusNotFound, map[string]any{"error": map[string]any{"message": "no such path: " + path}})
		return
	}
	rec.Dialect = d.name()
	p, err := d.parse(body)
	if err != nil {
		d.fail(w, fault{http.StatusBadRequest, "request not understood: " + err.Error(), 0})
		return
	}
	rec.Model = p.model
	rec.Kind, rec.Scenario, rec.Step = p.kind(), p.scenario(), len(p.done)
	if a.opts.Key != "" && rec.Key != a.opts.Key {
		d.fail(w, fault{http.StatusUnauthorized, "invalid key", 0})
		return
	}
	if strings.HasSuffix(path, "count_tokens") || strings.HasSuffix(path, ":countTokens") {
		rec.Kind = Count
		writeJSON(w, http.StatusOK, map[string]any{"input_tokens": p.tokens, "totalTokens": p.tokens})
		return
	}
	a.answer(w, r, d, p, rec.Kind)
}

// models answers the list and single models.
func (a *API) models(w http.ResponseWriter, r *http.Request, path string, rec *Request) {
	_, name, ok := strings.Cut(path, "/models")
	if !ok || r.Method != http.MethodGet {
		writeJSON(w, http.StatusNotFound, map[string]any{"error": map[string]any{"message": "no such path: " + path}})
		return
	}
	rec.Kind = Models
	one := func(id string) map[string]any {
		return map[string]any{
			"id": id, "name": "models/" + id, "object": "model", "type": "model", "display_name": id, "displayName": id,
			"created_at": "2026-01-01T00:00:00Z", "created": 1767225600, "owned_by": "modeltest",
		}
	}
	if name = strings.Trim(name, "/"); name != "" {
		writeJSON(w, http.StatusOK, one(name))
		return
	}
	var all []any
	for _, id := range []string{"claude-sonnet-5-5", "claude-haiku-5-5", "gpt-6.1-sol", "gemini-3.8-flash"} {
		all = append(all, one(id))
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": all, "models": all, "has_more": false})
}

// keyOf is the key a client sent, wherever it put it.
func keyOf(r *http.Request) string {
	for _, h := range []string{"X-Api-Key", "X-Goog-Api-Key"} {
		if v := r.Header.Get(h); v != "" {
			return v
		}
	}
	if v, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return v
	}
	return r.URL.Query().Get("key")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
