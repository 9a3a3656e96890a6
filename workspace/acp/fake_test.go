package acp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/samnode/samnode/workspace/acp"
)

// fake is an agent whose turns are written in a test.
type fake struct {
	caps   string // of initialize; empty: resume and load
	deaf   string // a method that gets no answer
	onLoad func(*fake)
	turn   func(f *fake, id json.RawMessage) // answers the prompt itself

	mu     sync.Mutex
	out    io.Writer
	got    []rpc
	signal chan struct{}
}

type rpc struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func (f *fake) main(ctx context.Context, in io.Reader, out io.Writer) error {
	f.mu.Lock()
	f.out, f.signal = out, make(chan struct{})
	f.mu.Unlock()
	lines := make(chan string)
	go func() {
		defer close(lines)
		r := bufio.NewReader(in)
		for {
			l, err := r.ReadString('\n')
			if err != nil {
				return
			}
			select {
			case lines <- l:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				return nil
			}
			var m rpc
			if err := json.Unmarshal([]byte(l), &m); err != nil {
				return err
			}
			f.mu.Lock()
			f.got = append(f.got, m)
			close(f.signal)
			f.signal = make(chan struct{})
			f.mu.Unlock()
			f.take(m)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *fake) take(m rpc) {
	switch m.Method {
	case f.deaf:
		return
	case "initialize":
		caps := f.caps
		if caps == "" {
			caps = `{"loadSession":true,"sessionCapabilities":{"resume":{}}}`
		}
		f.result(m.ID, `{"protocolVersion":1,"agentCapabilities":`+caps+`}`)
	case "session/new":
		f.result(m.ID, `{"sessionId":"s1","modes":{"currentModeId":"default","availableModes":[{"id":"default"},{"id":"yolo"}]}}`)
	case "session/resume":
		f.result(m.ID, `{}`)
	case "session/load":
		if f.onLoad != nil {
			f.onLoad(f)
		}
		f.result(m.ID, `{}`)
	case "session/prompt":
		if f.turn == nil {
			f.result(m.ID, `{"stopReason":"end_turn"}`)
			return
		}
		go f.turn(f, m.ID)
	case "session/set_mode":
		f.result(m.ID, `{}`)
	}
}

func (f *fake) line(s string) {
	f.mu.Lock()
	out := f.out
	f.mu.Unlock()
	_, _ = io.WriteString(out, s+"\n")
}

func (f *fake) result(id json.RawMessage, result string) {
	f.line(`{"jsonrpc":"2.0","id":` + string(id) + `,"result":` + result + `}`)
}

func (f *fake) fail(id json.RawMessage, code int, message string) {
	f.line(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, id, code, message))
}

func (f *fake) update(u string) {
	f.line(`{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":` + u + `}}`)
}

func (f *fake) say(text string) {
	b, _ := json.Marshal(text)
	f.update(`{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":` + string(b) + `}}`)
}

// response waits for our response to the agent's request.
func (f *fake) response(ctx context.Context, id string) (rpc, error) {
	for {
		f.mu.Lock()
		signal := f.signal
		for _, m := range f.got {
			if m.Method == "" && strings.Trim(string(m.ID), `"`) == id {
				f.mu.Unlock()
				return m, nil
			}
		}
		f.mu.Unlock()
		select {
		case <-signal:
		case <-ctx.Done():
			return rpc{}, context.Cause(ctx)
		}
	}
}

// startFake drives a fake agent up to its session.
func startFake(t *testing.T, f *fake) (*journal, *node, func(string)) {
	t.Helper()
	j := newJournal()
	exit := j.start(t, f.main)
	n := attach(t, j, acp.Config{Conversation: acp.ConversationConfig{Workspace: 1, Agent: "Fake", Secret: "FAKE_KEY"}})
	if err := n.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return j, n, exit
}
