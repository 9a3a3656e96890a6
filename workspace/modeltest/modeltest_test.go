package modeltest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// said is an answer in common form.
type said struct {
	Text string
	Tool string
	Args map[string]any
}

// history is a conversation of one user text and the calls that followed, for
// the four request builders.
type history struct {
	text  string
	done  []done
	tools []string // names; see schemas
}

var schemas = map[string]string{
	"Write":           `{"type":"object","properties":{"file_path":{"type":"string"},"content":{"type":"string"}},"required":["file_path","content"]}`,
	"Read":            `{"type":"object","properties":{"file_path":{"type":"string"}},"required":["file_path"]}`,
	"Bash":            `{"type":"object","properties":{"command":{"type":"string"},"description":{"type":"string"},"timeout":{"type":"number"}},"required":["command","description"]}`,
	"shell":           `{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"}}},"required":["command"]}`,
	"AskUserQuestion": `{"type":"object","properties":{"questions":{"type":"array","items":{"type":"object","properties":{"question":{"type":"string"},"header":{"type":"string"},"options":{"type":"array","items":{"type":"object","properties":{"label":{"type":"string"},"description":{"type":"string"}}}},"multiSelect":{"type":"boolean"}}}}},"required":["questions"]}`,
	"ExitPlanMode":    `{"type":"object","properties":{"plan":{"type":"string"}}}`,
	"update_plan":     `{"type":"object","properties":{"plan":{"type":"array","items":{"type":"object","properties":{"step":{"type":"string"},"status":{"type":"string"}}}}},"required":["plan"]}`,
	"ToolSearch":      `{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]}`,
	"mcp__demo__echo": `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`,
}

type wire struct {
	name  string
	path  string
	build func(h history, stream bool) any
	read  func(body []byte) said
}

type m = map[string]any

var wires = []wire{
	{"anthropic", "/v1/messages", func(h history, stream bool) any {
		msgs := []any{m{"role": "user", "content": h.text}}
		for i, d := range h.done {
			id := fmt.Sprintf("toolu_%d", i)
			msgs = append(msgs, m{"role": "assistant", "content": []any{m{"type": "tool_use", "id": id, "name": d.name, "input": m{}}}},
				m{"role": "user", "content": []any{m{"type": "tool_result", "tool_use_id": id, "content": d.text, "is_error": d.failed}}})
		}
		var tools []any
		for _, n := range h.tools {
			tools = append(tools, m{"name": n, "input_schema": json.RawMessage(schemas[n])})
		}
		return m{"model": "claude-sonnet-5-5", "stream": stream, "messages": msgs, "tools": tools, "system": []any{m{"type": "text", "text": "Primary working directory: /work/repo\nBe good."}}}
	}, readAnthropicStream},
	{"responses", "/v1/responses", func(h history, stream bool) any {
		items := []any{m{"type": "message", "role": "user", "content": []any{m{"type": "input_text", "text": "<cwd>/work/repo</cwd>\n" + h.text}}}}
		for i, d := range h.done {
			id := fmt.Sprintf("call_%d", i)
			items = append(items, m{"type": "function_call", "call_id": id, "name": d.name, "arguments": "{}"},
				m{"type": "function_call_output", "call_id": id, "output": d.text})
		}
		var tools []any
		for _, n := range h.tools {
			tools = append(tools, m{"type": "function", "name": n, "parameters": json.RawMessage(schemas[n])})
		}
		return m{"model": "gpt-6.1-sol", "stream": stream, "instructions": "Be good.", "input": items, "tools": tools}
	}, readResponsesStream},
	{"chat", "/v1/chat/completions", func(h history, stream bool) any {
		msgs := []any{m{"role": "system", "content": "Working directory: /work/repo"}, m{"role": "user", "content": h.text}}
		for i, d := range h.done {
			id := fmt.Sprintf("call_%d", i)
			msgs = append(msgs, m{"role": "assistant", "content": nil, "tool_calls": []any{m{"id": id, "type": "function", "function": m{"name": d.name, "arguments": "{}"}}}},
				m{"role": "tool", "tool_call_id": id, "content": d.text})
		}
		var tools []any
		for _, n := range h.tools {
			tools = append(tools, m{"type": "function", "function": m{"name": n, "parameters": json.RawMessage(schemas[n])}})
		}
		return m{"model": "gpt-6.1-sol", "stream": stream, "messages": msgs, "tools": tools, "stream_options": m{"include_usage": true}}
	}, readChatStream},
	{"gemini", "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse", func(h history, _ bool) any {
		contents := []any{m{"role": "user", "parts": []any{m{"text": "I'm currently working in the directory: /work/repo"}, m{"text": h.text}}}}
		for _, d := range h.done {
			contents = append(contents, m{"role": "model", "parts": []any{m{"functionCall": m{"name": d.name, "args": m{}}}}},
				m{"role": "user", "parts": []any{m{"functionResponse": m{"name": d.name, "response": m{"output": d.text}}}}})
		}
		var fns []any
		for _, n := range h.tools {
			fns = append(fns, m{"name": n, "parametersJsonSchema": json.RawMessage(schemas[n])})
		}
		return m{"contents": contents, "tools": []any{m{"functionDeclarations": fns}}}
	}, readGeminiStream},
}

// data calls fn with each event's data.
func data(body []byte, fn func([]byte)) {
	sc := bufio.NewScanner(bytes.NewReader(body))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if d, ok := strings.CutPrefix(sc.Text(), "data: "); ok && d != "[DONE]" {
			fn([]byte(d))
		}
	}
}

func args(text string) map[string]any {
	if text == "" {
		return nil
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return m{"broken": text}
	}
	return v
}

func readAnthropicStream(body []byte) (s said) {
	var input string
	data(body, func(d []byte) {
		var e struct {
			Block struct{ Type, Name string } `json:"content_block"`
			Delta struct {
				Text    string `json:"text"`
				Partial string `json:"partial_json"`
			} `json:"delta"`
		}
		if json.Unmarshal(d, &e) == nil {
			s.Text += e.Delta.Text
			s.Tool += e.Block.Name
			input += e.Delta.Partial
		}
	})
	s.Args = args(input)
	return s
}

func readResponsesStream(body []byte) (s said) {
	data(body, func(d []byte) {
		var e struct {
			Type  string
			Delta string
			Item  struct{ Type, Name, Arguments string }
		}
		if json.Unmarshal(d, &e) != nil {
			return
		}
		if e.Type == "response.output_text.delta" {
			s.Text += e.Delta
		}
		if e.Type == "response.output_item.done" && e.Item.Type == "function_call" {
			s.Tool, s.Args = e.Item.Name, args(e.Item.Arguments)
		}
	})
	return s
}

func readChatStream(body []byte) (s said) {
	var input string
	data(body, func(d []byte) {
		var e struct {
			Choices []struct {
				Delta struct {
					Content string
					Calls   []struct {
						Function struct{ Name, Arguments string }
					} `json:"tool_calls"`
				}
			}
		}
		if json.Unmarshal(d, &e) != nil {
			return
		}
		for _, c := range e.Choices {
			s.Text += c.Delta.Content
			for _, t := range c.Delta.Calls {
				s.Tool += t.Function.Name
				input += t.Function.Arguments
			}
		}
	})
	s.Args = args(input)
	return s
}

func readGeminiStream(body []byte) (s said) {
	data(body, func(d []byte) {
		var e struct {
			Candidates []struct {
				Content struct {
					Parts []struct {
						Text    string
						Thought bool
						Call    *struct {
							Name string
							Args map[string]any
						} `json:"functionCall"`
					}
				}
			}
		}
		if json.Unmarshal(d, &e) != nil {
			return
		}
		for _, c := range e.Candidates {
			for _, p := range c.Content.Parts {
				if !p.Thought {
					s.Text += p.Text
				}
				if p.Call != nil {
					s.Tool, s.Args = p.Call.Name, p.Call.Args
				}
			}
		}
	})
	return s
}

func post(t *testing.T, ctx context.Context, url, key string, body any) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(mustJSON(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, got
}

func TestScriptsInEveryDialect(t *testing.T) {
	all := []string{"Write", "Read", "Bash", "AskUserQuestion", "mcp__demo__echo"}
	cases := []struct {
		name string
		h    history
		want said
	}{
		{
			"hello says a sentence",
			history{text: "please SCENARIO=hello", tools: all},
			said{Text: "Hello from the scripted model. This is all I have to say."},
		},
		{
			"no marker is a hello",
			history{text: "what is this?", tools: all},
			said{Text: "Hello from the scripted model. This is all I have to say."},
		},
		{
			"edit writes the file below the agent's folder",
			history{text: `SCENARIO=edit FILE=a.txt TEXT="some words"`, tools: all},
			said{"I will write a.txt.", "Write", m{"file_path": "/work/repo/a.txt", "content": "some words\n"}},
		},
		{
			"edit ends when the file is written",
			history{text: "SCENARIO=edit FILE=a.txt", tools: all, done: []done{{"Write", "ok", false}}},
			said{Text: "I wrote a.txt."},
		},
		{
			"edit of two files goes on with the second",
			history{text: "SCENARIO=edit FILE=a.txt,b.txt TEXT=x", tools: all, done: []done{{"Write", "ok", false}}},
			said{"I will write b.txt.", "Write", m{"file_path": "/work/repo/b.txt", "content": "x\n"}},
		},
		{
			"edit reads first when it must",
			history{text: "SCENARIO=edit FILE=a.txt", tools: all, done: []done{{"Write", "Error: file has not been read yet", true}}},
			said{"It exists already: I read it first.", "Read", m{"file_path": "/work/repo/a.txt"}},
		},
		{
			"edit stops when a person says no",
			history{text: "SCENARIO=edit FILE=a.txt", tools: all, done: []done{{"Write", "The user doesn't want to proceed", true}}},
			said{Text: "The edit was refused."},
		},
		{
			"edit without a write tool uses the shell",
			history{text: "SCENARIO=edit FILE=a.txt TEXT=x", tools: []string{"shell"}},
			said{"I run a command.", "shell", m{"command": []any{"bash", "-lc", "printf '%s\\n' 'x' > 'a.txt'"}}},
		},
		{
			"bash fills what the tool requires",
			history{text: `SCENARIO=bash CMD="make all"`, tools: all},
			said{"I run a command.", "Bash", m{"command": "make all", "description": "the script needs it"}},
		},
		{
			"bash tells what came out",
			history{text: "SCENARIO=bash", tools: all, done: []done{{"Bash", "42\n", false}}},
			said{Text: "The command said: 42"},
		},
		{
			"endless never ends",
			history{text: "SCENARIO=endless", tools: []string{"Bash"}, done: []done{{"Bash", "", false}, {"Bash", "", false}}},
			said{"I run a command.", "Bash", m{"command": "true", "description": "the script needs it"}},
		},
		{
			"ask uses the question tool",
			history{text: "SCENARIO=ask", tools: all},
			said{"I need to know one thing.", "AskUserQuestion", m{"questions": []any{m{
				"question": "Which colour should the button have?", "header": "Colour", "multiSelect": false,
				"options": []any{m{"label": "Red", "description": "Red it is"}, m{"label": "Blue", "description": "Blue it is"}},
			}}}},
		},
		{
			"mcp calls the server's tool",
			history{text: "SCENARIO=mcp", tools: all},
			said{"I use mcp__demo__echo.", "mcp__demo__echo", m{"text": "hello"}},
		},
		{
			"plan mode is left with the plan",
			history{text: "Plan mode is active. SCENARIO=plan FILE=a.txt", tools: append(all, "ExitPlanMode")},
			said{"Here is the plan.", "ExitPlanMode", m{"plan": "1. Look at the repository\n2. Write a.txt\n3. Check the result"}},
		},
		{
			"a tool that is only named is fetched first",
			history{text: "Plan mode is active. The following deferred tools are now available:\nExitPlanMode\nX\n SCENARIO=plan", tools: append(all, "ToolSearch")},
			said{"", "ToolSearch", m{"query": "select:ExitPlanMode"}},
		},
		{
			"the plan's file is written before plan mode is left",
			history{text: "Plan mode is active. SCENARIO=plan, plan file: /home/a/.claude/plans/x.md", tools: append(all, "ExitPlanMode")},
			said{"I write the plan down.", "Write", m{"file_path": "/home/a/.claude/plans/x.md", "content": "# Plan\n\n1. Look at the repository\n2. Write hello.txt\n3. Check the result\n"}},
		},
		{
			"plan goes on after approval",
			history{text: "Plan mode is active. SCENARIO=plan FILE=a.txt TEXT=x", tools: append(all, "ExitPlanMode"), done: []done{{"ExitPlanMode", "approved", false}}},
			said{"I will write a.txt.", "Write", m{"file_path": "/work/repo/a.txt", "content": "x\n"}},
		},
	}
	for _, w := range wires {
		for _, tc := range cases {
			t.Run(w.name+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				s := New(t, Options{Key: "right"})
				res, body := post(t, t.Context(), s.URL+w.path, "right", w.build(tc.h, true))
				if res.StatusCode != http.StatusOK {
					t.Fatalf("status = %d: %s", res.StatusCode, body)
				}
				if diff := cmp.Diff(tc.want, w.read(body)); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
				if got := s.Steps(); len(got) != 1 || got[0].Dialect != w.name || got[0].Step != len(tc.h.done) || got[0].Key != "right" {
					t.Errorf("kept requests = %+v", got)
				}
			})
		}
	}
}

func TestFaults(t *testing.T) {
	for _, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := New(t, Options{Key: "right"})
			status := func(key, text string) int {
				res, _ := post(t, t.Context(), s.URL+w.path, key, w.build(history{text: text}, true))
				return res.StatusCode
			}
			over := map[bool]int{true: 529, false: 503}[w.name == "anthropic"]
			got := []int{status("wrong", "hi"), status("right", "SCENARIO=badkey")}
			for range 4 {
				got = append(got, status("right", "SCENARIO=overloaded"))
			}
			for range 3 {
				got = append(got, status("right", "SCENARIO=ratelimit N=2"))
			}
			for range 5 {
				got = append(got, status("right", "SCENARIO=overloaded N=always"))
			}
			want := []int{401, 401, over, over, over, 200, 429, 429, 200, over, over, over, over, over}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSilentAnswerEndsWithItsClient(t *testing.T) {
	s := New(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/messages", strings.NewReader(mustJSON(wires[0].build(history{text: "SCENARIO=silent"}, true))))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	for line := ""; !strings.Contains(line, "moment"); {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatalf("before the silence: %v", err)
		}
	}
	cancel()
	if _, err := io.ReadAll(r); err == nil {
		t.Error("the answer ended by itself")
	}
}

func TestCutAnswerBreaksOff(t *testing.T) {
	s := New(t)
	res, err := http.Post(s.URL+"/v1/messages", "application/json", strings.NewReader(mustJSON(wires[0].build(history{text: "SCENARIO=cut"}, true))))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil || len(body) == 0 {
		t.Errorf("read %d bytes, err = %v; want some bytes and an error", len(body), err)
	}
}

func TestWhatAgentsSendUnasked(t *testing.T) {
	s := New(t, Options{Key: "k"})
	res, err := http.Head(s.URL + "/anthropic/api/hello")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	title := m{
		"model": "x", "system": "Generate a concise title", "messages": []any{m{"role": "user", "content": "SCENARIO=edit FILE=a"}},
		"output_config": m{"format": m{"type": "json_schema", "schema": m{"type": "object", "properties": m{"title": m{"type": "string"}}}}},
	}
	_, titled := post(t, t.Context(), s.URL+"/v1/messages", "k", title)
	_, counted := post(t, t.Context(), s.URL+"/v1/messages/count_tokens", "k", title)
	_, judged := post(t, t.Context(), s.URL+"/v1/messages", "k", m{"model": "x", "system": "Answer <block>yes</block> or <block>no</block>", "messages": []any{m{"role": "user", "content": "rm -rf"}}})
	for text, body := range map[string][]byte{`{\"title\":\"Scripted task\"}`: titled, `"input_tokens":`: counted, "block\\u003eno": judged} {
		if !strings.Contains(string(body), text) {
			t.Errorf("answer = %s, want %s in it", body, text)
		}
	}
	var kinds []Kind
	for _, r := range s.Requests() {
		kinds = append(kinds, r.Kind)
	}
	if diff := cmp.Diff([]Kind{Hello, Title, Count, Classifier}, kinds); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

func TestAnswersWithoutStreamAreValidJSON(t *testing.T) {
	s := New(t)
	for _, w := range wires {
		path := strings.Replace(strings.TrimSuffix(w.path, "?alt=sse"), "streamGenerateContent", "generateContent", 1)
		_, body := post(t, t.Context(), s.URL+path, "", w.build(history{text: "SCENARIO=bash", tools: []string{"Bash"}}, false))
		if !json.Valid(body) || !strings.Contains(string(body), "mkdir -p build") {
			t.Errorf("%s: %s", w.name, body)
		}
	}
	_, array := post(t, t.Context(), s.URL+strings.TrimSuffix(wires[3].path, "?alt=sse"), "", wires[3].build(history{text: "hi"}, true))
	var chunks []any
	if err := json.Unmarshal(array, &chunks); err != nil || len(chunks) < 2 {
		t.Errorf("Gemini's array = %v (%v)", chunks, err)
	}
}
