package modeltest

import (
	"encoding/json"
	"fmt"
)

// completions is OpenAI's chat completions API, which many others speak too.
type completions struct{}

func (completions) name() string { return "chat" }

func (completions) parse(body []byte) (*prompt, error) {
	var req struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		User     string `json:"user"`
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
			CallID  string          `json:"tool_call_id"`
			Calls   []struct {
				ID       string `json:"id"`
				Function struct {
					Name string `json:"name"`
				} `json:"function"`
			} `json:"tool_calls"`
		} `json:"messages"`
		Tools []struct {
			Function struct {
				Name       string  `json:"name"`
				Parameters *schema `json:"parameters"`
			} `json:"function"`
		} `json:"tools"`
		Options struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
		Format *struct {
			JSON struct {
				Schema *schema `json:"schema"`
			} `json:"json_schema"`
		} `json:"response_format"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding request: %w", err)
	}
	p := &prompt{model: req.Model, stream: req.Stream, usage: req.Options.Usage, session: req.User, tokens: int64(len(body) / 4)}
	if req.Format != nil {
		p.format = req.Format.JSON.Schema
	}
	for _, t := range req.Tools {
		p.tools = append(p.tools, tool{name: t.Function.Name, schema: t.Function.Parameters})
	}
	for _, m := range req.Messages {
		for _, c := range m.Calls {
			p.called(c.ID, c.Function.Name)
		}
		if m.Role == "tool" {
			p.result(m.CallID, textOf(m.Content), false)
			continue
		}
		p.say(m.Role, textOf(m.Content))
	}
	return p, nil
}

func (completions) fail(w responseWriter, f fault) { failOpenAI(w, f) }

func completionsUsage(p *prompt, r reply) map[string]any {
	return map[string]any{
		"prompt_tokens": p.tokens, "completion_tokens": r.tokens(), "total_tokens": p.tokens + r.tokens(),
		"prompt_tokens_details": map[string]any{"cached_tokens": 0},
	}
}

func completionsStop(r reply) string {
	if r.call != nil {
		return "tool_calls"
	}
	return "stop"
}

func (completions) whole(p *prompt, r reply) any {
	msg := map[string]any{"role": "assistant", "content": r.text}
	if c := r.call; c != nil {
		msg["tool_calls"] = []any{map[string]any{"id": fresh("call_"), "type": "function", "function": map[string]any{"name": c.tool.name, "arguments": c.input()}}}
	}
	return map[string]any{
		"id": fresh("chatcmpl-"), "object": "chat.completion", "created": 1767225600, "model": p.model,
		"choices": []any{map[string]any{"index": 0, "message": msg, "finish_reason": completionsStop(r)}}, "usage": completionsUsage(p, r),
	}
}

func (completions) write(s *stream, p *prompt, r reply) {
	s.begin("text/event-stream; charset=utf-8")
	id := fresh("chatcmpl-")
	send := func(choices []any, usage any) {
		s.event("", map[string]any{"id": id, "object": "chat.completion.chunk", "created": 1767225600, "model": p.model, "choices": choices, "usage": usage})
	}
	delta := func(d map[string]any, finish any) {
		send([]any{map[string]any{"index": 0, "delta": d, "finish_reason": finish}}, nil)
	}
	delta(map[string]any{"role": "assistant", "content": ""}, nil)
	if r.text != "" && !s.say(r.text, r, func(part string) { delta(map[string]any{"content": part}, nil) }) {
		return
	}
	if c := r.call; c != nil {
		delta(map[string]any{"tool_calls": []any{map[string]any{
			"index": 0, "id": fresh("call_"), "type": "function",
			"function": map[string]any{"name": c.tool.name, "arguments": ""},
		}}}, nil)
		for _, part := range pieces(c.input()) {
			delta(map[string]any{"tool_calls": []any{map[string]any{"index": 0, "function": map[string]any{"arguments": part}}}}, nil)
		}
	}
	delta(map[string]any{}, completionsStop(r))
	if p.usage {
		send([]any{}, completionsUsage(p, r))
	}
	s.raw("data: [DONE]\n\n")
}
