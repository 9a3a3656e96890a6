package scriptagent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// patience bounds every wait for a real process.
const patience = 20 * time.Second

// client is an editor's side of the connection, as a node has it.
type client struct {
	t     *testing.T
	home  string
	cwd   string
	in    *io.PipeWriter
	lines chan []byte
	ended chan error // Main's end
	calls int

	session string
	updates []update             // since the last prompt, or open
	widest  int                  // bytes of the longest message
	ask     func(m incoming) any // answers requests; nil: none may come
	asked   []incoming           // requests that came
	saw     func(u update)       // told each update; may be nil
	notes   []string             // methods of other notifications
}

// update is what the tests look at in a session/update.
type update struct {
	Kind    string          `json:"sessionUpdate"`
	Call    string          `json:"toolCallId"`
	Title   string          `json:"title"`
	Status  string          `json:"status"`
	Content json.RawMessage `json:"content"`
	Raw     struct {
		Exit *int `json:"exit_code"`
	} `json:"rawOutput"`
	Input struct {
		Command string `json:"command"`
	} `json:"rawInput"`
	Entries []struct{ Content, Status string } `json:"entries"`
	Meta    struct {
		Delta struct{ Data string } `json:"terminal_output_delta"`
	} `json:"_meta"`
}

// text is the words of a content, whichever shape it has.
func (u update) text() string {
	type words struct {
		Text    string
		Content struct{ Text string }
	}
	var one words
	if json.Unmarshal(u.Content, &one) == nil {
		return one.Text
	}
	var many []words
	if json.Unmarshal(u.Content, &many) != nil || len(many) == 0 {
		return ""
	}
	return many[0].Content.Text
}

// connect starts an agent whose home is home, "" for a new one.
func connect(t *testing.T, home string, capabilities string) *client {
	t.Helper()
	if home == "" {
		home = t.TempDir()
	}
	t.Setenv("HOME", home)
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	c := &client{t: t, home: home, cwd: t.TempDir(), in: in, lines: make(chan []byte, 4096), ended: make(chan error, 1)}
	go func() {
		err := Main(t.Context(), stdin, stdout)
		stdout.Close()
		c.ended <- err
	}()
	go func() {
		defer close(c.lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			c.lines <- line
		}
	}()
	t.Cleanup(func() {
		in.Close()
		for range c.lines { // until it has ended
		}
	})
	c.must("initialize", `{"protocolVersion":1,"clientCapabilities":`+capabilities+`}`)
	return c
}

// The capabilities of clients.
const (
	plain = `{}`
	live  = `{"_meta":{"terminal_output_delta":true},"elicitation":{"form":{}}}`
)

// start is connect with a new session in a mode.
func start(t *testing.T, mode, capabilities string) *client {
	t.Helper()
	c := connect(t, "", capabilities)
	var made struct{ SessionID string }
	c.decode(c.must("session/new", `{"cwd":`+quoted(c.cwd)+`,"mcpServers":[]}`), &made)
	c.session = made.SessionID
	c.mode(mode)
	return c
}

func (c *client) decode(raw json.RawMessage, v any) {
	c.t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		c.t.Fatalf("%v in %s", err, raw)
	}
}

func (c *client) mode(mode string) {
	c.t.Helper()
	c.must("session/set_mode", `{"sessionId":`+quoted(c.session)+`,"modeId":`+quoted(mode)+`}`)
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (c *client) write(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// send sends a request and returns its id.
func (c *client) send(method, params string) string {
	c.t.Helper()
	c.calls++
	id := strconv.Itoa(c.calls)
	c.write(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + params + `}`)
	return id
}

// until handles what comes until the response of a request.
func (c *client) until(id string) incoming {
	c.t.Helper()
	for {
		var m incoming
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.t.Fatal("the agent ended")
			}
			c.widest = max(c.widest, len(line))
			if !utf8.Valid(line) {
				c.t.Errorf("a message is not UTF-8: %.200q", line)
			}
			if err := json.Unmarshal(line, &m); err != nil {
				c.t.Fatalf("%v in %.200s", err, line)
			}
		case <-time.After(patience):
			c.t.Fatalf("no answer to %s", id)
		}
		switch {
		case m.Method == "" && string(m.ID) == id:
			return m
		case m.Method == "session/update":
			var p struct {
				Session string `json:"sessionId"`
				Update  update
			}
			c.decode(m.Params, &p)
			if p.Session != c.session {
				c.t.Errorf("an update of session %q", p.Session)
			}
			c.updates = append(c.updates, p.Update)
			if c.saw != nil {
				c.saw(p.Update)
			}
		case m.Method != "" && m.ID != nil:
			c.asked = append(c.asked, m)
			if c.ask == nil {
				c.t.Fatalf("asked %s %s", m.Method, m.Params)
			}
			if answer := c.ask(m); answer != nil {
				b, err := json.Marshal(answer)
				if err != nil {
					c.t.Fatal(err)
				}
				c.write(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` + string(b) + `}`)
			}
		default:
			c.notes = append(c.notes, m.Method)
		}
	}
}

// must is a request that is answered without an error.
func (c *client) must(method, params string) json.RawMessage {
	c.t.Helper()
	m := c.until(c.send(method, params))
	if m.Error != nil {
		c.t.Fatalf("%s: %v", method, m.Error)
	}
	return m.Result
}

// prompt sends a prompt and returns its request's id.
func (c *client) prompt(text string) string {
	c.t.Helper()
	c.updates = nil
	return c.send("session/prompt", `{"sessionId":`+quoted(c.session)+`,"prompt":[{"type":"text","text":`+quoted(text)+`}]}`)
}

// stop waits for a prompt's end and returns why it stopped.
func (c *client) stop(id string) string {
	c.t.Helper()
	m := c.until(id)
	if m.Error != nil {
		c.t.Fatalf("session/prompt: %v", m.Error)
	}
	var p struct{ StopReason string }
	c.decode(m.Result, &p)
	return p.StopReason
}

// turn is a prompt that ends by itself.
func (c *client) turn(text string) {
	c.t.Helper()
	if got := c.stop(c.prompt(text)); got != "end_turn" {
		c.t.Fatalf("the turn stopped with %q", got)
	}
}

func (c *client) cancel() {
	c.t.Helper()
	c.write(`{"jsonrpc":"2.0","method":"session/cancel","params":{"sessionId":` + quoted(c.session) + `}}`)
}

// tool is what became of a block.
type tool struct{ Call, Title, Status, Output, Exit string }

// tools puts the updates of each tool call together.
func (c *client) tools() []tool {
	var all []tool
	at := map[string]int{}
	for _, u := range c.updates {
		if u.Kind == "tool_call" {
			at[u.Call] = len(all)
			all = append(all, tool{Call: u.Call, Title: u.Title})
		}
		i, known := at[u.Call]
		if u.Call == "" || !known {
			continue
		}
		if u.Status != "" {
			all[i].Status = u.Status
		}
		all[i].Output += u.text() + u.Meta.Delta.Data
		if u.Raw.Exit != nil {
			all[i].Exit = strconv.Itoa(*u.Raw.Exit)
		}
	}
	return all
}

// said is all that the agent said since the prompt.
func (c *client) said() string {
	var all []string
	for _, u := range c.updates {
		if u.Kind == "agent_message_chunk" {
			all = append(all, u.text())
		}
	}
	return strings.Join(all, "\n")
}

// pids waits for files of the working folder that hold process ids.
func (c *client) pids(names ...string) []int {
	c.t.Helper()
	pids := make([]int, len(names))
	poll(c.t, fmt.Sprint("the files ", names), func() bool {
		for i, name := range names {
			b, err := os.ReadFile(filepath.Join(c.cwd, name))
			if err != nil || !strings.HasSuffix(string(b), "\n") {
				return false
			}
			if pids[i], err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
				c.t.Fatal(err)
			}
		}
		return true
	})
	return pids
}

// gone waits until processes have ended; nobody may have reaped them yet.
func gone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		poll(t, fmt.Sprint("the end of process ", pid), func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				return true
			}
			_, after, _ := strings.Cut(string(b), ") ")
			return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
		})
	}
}

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
