// Package scriptagent is the built-in agent: it runs the fenced shell blocks
// of a prompt, in order, and stops at the first that fails. It has no model,
// needs no key and costs nothing.
//
// It speaks the Agent Client Protocol, version 1, over its standard input and
// output, like every other agent: tool calls with live output, a plan,
// permission requests, cancel, and sessions that can be resumed.
package scriptagent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxLine is the longest line that is read, in bytes.
const maxLine = 64 << 20

// Main serves one client until stdin ends or ctx does. Running blocks are
// killed then. It uses HOME and the working folder that the client names.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	home, err := os.UserHomeDir()
	if err != nil {
		cancel()
		return fmt.Errorf("finding the home folder: %w", err)
	}
	s := &server{
		ctx: ctx, out: stdout, store: store{dir: home + "/.samnode-script"},
		waiting: map[string]chan message{}, sessions: map[string]*session{},
	}
	lines := make(chan []byte)
	read := make(chan error, 1)
	go func() { read <- readLines(ctx, stdin, lines) }() // ends with stdin, or at its next line after ctx
	err = s.loop(lines, read)
	cancel()
	s.prompts.Wait()
	return err
}

// readLines hands on lines until r ends.
func readLines(ctx context.Context, r io.Reader, lines chan<- []byte) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for sc.Scan() {
		select {
		case lines <- bytes.Clone(sc.Bytes()):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return sc.Err()
}

// message is any JSON-RPC message.
type message struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

// incoming is a message with its parts unread.
type incoming struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error is the message.
func (e *rpcError) Error() string { return e.Message }

// The codes of JSON-RPC.
const (
	codeParse   = -32700
	codeInvalid = -32602
	codeMethod  = -32601
	codeInside  = -32603
	codeMissing = -32002
)

// server is the agent's side of the connection.
type server struct {
	ctx     context.Context
	store   store
	prompts sync.WaitGroup

	mu       sync.Mutex // guards all below
	out      io.Writer
	asked    int
	waiting  map[string]chan message // our requests, by id
	sessions map[string]*session
	live     bool // the client takes terminal output in parts
	forms    bool // the client can ask its person questions
}

func (s *server) loop(lines <-chan []byte, read <-chan error) error {
	for {
		select {
		case line := <-lines:
			if len(bytes.TrimSpace(line)) > 0 {
				s.take(line)
			}
		case err := <-read:
			return err
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// take handles one line. Prompts run beside it, so that cancel and answers
// come through.
func (s *server) take(line []byte) {
	var m incoming
	if err := json.Unmarshal(line, &m); err != nil {
		s.write(message{ID: json.RawMessage("null"), Error: &rpcError{codeParse, "not JSON: " + err.Error()}})
		return
	}
	switch {
	case m.Method == "":
		s.answered(m)
	case m.Method == "session/cancel":
		s.cancel(m.Params)
	case m.Method == "session/prompt":
		s.prompt(m)
	case m.ID != nil:
		s.respond(m, s.call(m.Method))
	}
}

// call is the handler of a method.
func (s *server) call(method string) func(json.RawMessage) (any, error) {
	switch method {
	case "initialize":
		return s.initialize
	case "session/new":
		return s.newSession
	case "session/load":
		return func(p json.RawMessage) (any, error) { return s.openSession(p, true) }
	case "session/resume":
		return func(p json.RawMessage) (any, error) { return s.openSession(p, false) }
	case "session/set_mode":
		return s.setMode
	default:
		return func(json.RawMessage) (any, error) {
			return nil, &rpcError{codeMethod, "there is no method " + method}
		}
	}
}

func (s *server) respond(m incoming, handle func(json.RawMessage) (any, error)) {
	result, err := handle(m.Params)
	if err == nil {
		s.write(message{ID: m.ID, Result: result})
		return
	}
	var e *rpcError
	if !errors.As(err, &e) {
		e = &rpcError{codeInside, err.Error()}
	}
	s.write(message{ID: m.ID, Error: e})
}

// write sends a message. A client that is gone closes stdin, too, and that
// ends the program.
func (s *server) write(m message) {
	m.Version = "2.0"
	b, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encoding a message: %v", err)) // the values are ours
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.out.Write(append(b, '\n'))
}

// request asks the client and waits for its response, raw in Result.
func (s *server) request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	s.mu.Lock()
	s.asked++
	id := fmt.Sprintf("ask-%d", s.asked)
	reply := make(chan message, 1)
	s.waiting[id] = reply
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, id)
		s.mu.Unlock()
	}()
	quoted := json.RawMessage(`"` + id + `"`)
	s.write(message{ID: quoted, Method: method, Params: params})
	select {
	case m := <-reply:
		if m.Error != nil {
			return nil, m.Error
		}
		raw, _ := m.Result.(json.RawMessage)
		return raw, nil
	case <-ctx.Done():
		s.write(message{Method: "$/cancel_request", Params: map[string]any{"requestId": id}})
		return nil, context.Cause(ctx)
	}
}

func (s *server) answered(m incoming) {
	var id string
	if json.Unmarshal(m.ID, &id) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if reply := s.waiting[id]; reply != nil {
		delete(s.waiting, id)
		reply <- message{Result: m.Result, Error: m.Error}
	}
}

// update tells the client something of a session.
func (s *server) update(session string, update map[string]any) {
	s.write(message{Method: "session/update", Params: map[string]any{"sessionId": session, "update": update}})
}

func (s *server) say(session, kind, text string) {
	s.update(session, map[string]any{"sessionUpdate": kind, "content": map[string]any{"type": "text", "text": text}})
}
