package modeltest

import (
	"encoding/json"
	"fmt"
)

// responses is OpenAI's Responses API.
type responses struct{}

func (responses) name() string { return "responses" }

type responsesItem struct {
	Type      string          `json:"type"`
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Output    json.RawMessage `json:"output"`
	Arguments string          `json:"arguments"`
	Tools     []responsesTool `json:"tools"`
}

// responsesTool is a tool, or a namespace of some.
type responsesTool struct {
	Type       string          `json:"type"`
	Name       string          `json:"name"`
	Parameters *schema         `json:"parameters"`
	Tools      []responsesTool `json:"tools"`
}

func (p *prompt) offer(space string, tools []responsesTool) {
	for _, t := range tools {
		switch t.Type {
		case "function", "custom":
			p.tools = append(p.tools, tool{space: space, name: t.Name, schema: t.Parameters, freeform: t.Type == "custom"})
		case "namespace":
			p.offer(t.Name, t.Tools)
		}
	}
}

func (responses) parse(body []byte) (*prompt, error) {
	var req struct {
		Model        string          `json:"model"`
		Stream       bool            `json:"stream"`
		Instructions string          `json:"instructions"`
		Input        json.RawMessage `json:"input"`
		CacheKey     string          `json:"prompt_cache_key"`
		Tools        []responsesTool `json:"tools"`
		Text         struct {
			Format *struct {
				Schema *schema `json:"schema"`
			} `json:"format"`
		} `json:"text"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding request: %w", err)
	}
	p := &prompt{model: req.Model, stream: req.Stream, system: req.Instructions, session: req.CacheKey, tokens: int64(len(body) / 4)}
	if req.Text.Format != nil {
		p.format = req.Text.Format.Schema
	}
	p.offer("", req.Tools)
	var text string
	if json.Unmarshal(req.Input, &text) == nil {
		p.user(text)
		return p, nil
	}
	var items []responsesItem
	if err := json.Unmarshal(req.Input, &items); err != nil {
		return nil, fmt.Errorf("decoding input: %w", err)
	}
	for _, it := range items {
		switch it.Type {
		case "additional_tools": // how codex offers its tools to the newest models
			p.offer("", it.Tools)
		case "function_call", "custom_tool_call":
			p.called(it.CallID, it.Name)
		case "function_call_output", "custom_tool_call_output":
			p.result(it.CallID, outputText(it.Output), false)
		case "message", "":
			p.say(it.Role, textOf(it.Content))
		}
	}
	return p, nil
}

// say takes a text by its role.
func (p *prompt) say(role, text string) {
	switch role {
	case "user":
		p.user(text)
	case "system", "developer":
		p.system += "\n" + text
	}
}

// outputText reads a tool's output: text, or a list, or JSON with the text in it.
func outputText(raw json.RawMessage) string {
	text := textOf(raw)
	var inner struct {
		Output string `json:"output"`
	}
	if json.Unmarshal([]byte(text), &inner) == nil && inner.Output != "" {
		return inner.Output
	}
	return text
}

func (responses) fail(w responseWriter, f fault) {
	failOpenAI(w, f)
}

func failOpenAI(w responseWriter, f fault) {
	status := f.status
	if status == 529 {
		status = 503
	}
	code := map[int]string{400: "invalid_request_error", 401: "invalid_api_key", 429: "rate_limit_exceeded", 503: "server_is_overloaded"}[status]
	f.retryAfter(w.Header())
	writeJSON(w, status, map[string]any{"error": map[string]any{"message": f.text, "type": code, "param": nil, "code": code}})
}

// items are the output of a reply.
func (responses) items(r reply) []map[string]any {
	var out []map[string]any
	if r.text != "" {
		out = append(out, map[string]any{
			"id": fresh("msg_"), "type": "message", "role": "assistant", "status": "completed",
			"content": []any{map[string]any{"type": "output_text", "text": r.text, "annotations": []any{}}},
		})
	}
	if c := r.call; c != nil && c.tool.freeform {
		out = append(out, map[string]any{"id": fresh("ctc_"), "type": "custom_tool_call", "status": "completed", "call_id": fresh("call_"), "name": c.tool.name, "input": c.text})
	} else if c != nil {
		out = append(out, map[string]any{"id": fresh("fc_"), "type": "function_call", "status": "completed", "call_id": fresh("call_"), "name": c.tool.name, "arguments": c.input()})
	}
	if c := r.call; c != nil && c.tool.space != "" && c.tool.space != "functions" { // the namespace of those without
		out[len(out)-1]["namespace"] = c.tool.space
	}
	return out
}

func (responses) response(id string, p *prompt, status string, output any, out int64) map[string]any {
	res := map[string]any{
		"id": id, "object": "response", "created_at": 1767225600, "status": status, "model": p.model, "output": output,
		"parallel_tool_calls": false, "error": nil, "incomplete_details": nil, "usage": nil,
	}
	if status == "completed" {
		res["usage"] = map[string]any{
			"input_tokens": p.tokens, "input_tokens_details": map[string]any{"cached_tokens": 0},
			"output_tokens": out, "output_tokens_details": map[string]any{"reasoning_tokens": 0}, "total_tokens": p.tokens + out,
		}
	}
	return res
}

func (d responses) whole(p *prompt, r reply) any {
	return d.response(fresh("resp_"), p, "completed", d.items(r), r.tokens())
}

func (d responses) write(s *stream, p *prompt, r reply) {
	s.begin("text/event-stream; charset=utf-8")
	id, seq := fresh("resp_"), 0
	send := func(typ string, more map[string]any) {
		more["type"], more["sequence_number"] = typ, seq
		seq++
		s.event(typ, more)
	}
	send("response.created", map[string]any{"response": d.response(id, p, "in_progress", []any{}, 0)})
	send("response.in_progress", map[string]any{"response": d.response(id, p, "in_progress", []any{}, 0)})
	items := d.items(r)
	for i, it := range items {
		added := map[string]any{}
		for k, v := range it {
			added[k] = v
		}
		added["status"] = "in_progress"
		at := func(more map[string]any) map[string]any {
			more["item_id"], more["output_index"] = it["id"], i
			return more
		}
		switch it["type"] {
		case "message":
			added["content"] = []any{}
			send("response.output_item.added", map[string]any{"output_index": i, "item": added})
			part := map[string]any{"type": "output_text", "text": "", "annotations": []any{}}
			send("response.content_part.added", at(map[string]any{"content_index": 0, "part": part}))
			if !s.say(r.text, r, func(delta string) {
				send("response.output_text.delta", at(map[string]any{"content_index": 0, "delta": delta}))
			}) {
				return
			}
			send("response.output_text.done", at(map[string]any{"content_index": 0, "text": r.text}))
			send("response.content_part.done", at(map[string]any{"content_index": 0, "part": it["content"].([]any)[0]}))
		case "function_call":
			added["arguments"] = ""
			send("response.output_item.added", map[string]any{"output_index": i, "item": added})
			for _, delta := range pieces(r.call.input()) {
				send("response.function_call_arguments.delta", at(map[string]any{"delta": delta}))
			}
			send("response.function_call_arguments.done", at(map[string]any{"arguments": r.call.input()}))
		default:
			send("response.output_item.added", map[string]any{"output_index": i, "item": added})
			send("response.custom_tool_call_input.done", at(map[string]any{"input": r.call.text}))
		}
		send("response.output_item.done", map[string]any{"output_index": i, "item": it})
	}
	send("response.completed", map[string]any{"response": d.response(id, p, "completed", items, r.tokens())})
}
