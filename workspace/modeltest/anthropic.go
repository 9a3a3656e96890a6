package modeltest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// anthropic is the Messages API.
type anthropic struct{}

func (anthropic) name() string { return "anthropic" }

type anthropicBlock struct {
	Type    string          `json:"type"`
	Text    string          `json:"text"`
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Use     string          `json:"tool_use_id"`
	Content json.RawMessage `json:"content"`
	IsError bool            `json:"is_error"`
}

// blocks reads content that is a string or a list.
func blocks(raw json.RawMessage) []anthropicBlock {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []anthropicBlock{{Type: "text", Text: text}}
	}
	var list []anthropicBlock
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

func textOf(raw json.RawMessage) string {
	var b strings.Builder
	for _, x := range blocks(raw) {
		b.WriteString(x.Text)
	}
	return b.String()
}

func (anthropic) parse(body []byte) (*prompt, error) {
	var req struct {
		Model    string          `json:"model"`
		Stream   bool            `json:"stream"`
		System   json.RawMessage `json:"system"`
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Name   string  `json:"name"`
			Schema *schema `json:"input_schema"`
		} `json:"tools"`
		Thinking *struct {
			Type string `json:"type"`
		} `json:"thinking"`
		Metadata struct {
			User string `json:"user_id"`
		} `json:"metadata"`
		Format *struct {
			Schema *schema `json:"schema"`
		} `json:"output_format"`
		Config struct {
			Format *struct {
				Schema *schema `json:"schema"`
			} `json:"format"`
		} `json:"output_config"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding request: %w", err)
	}
	p := &prompt{model: req.Model, stream: req.Stream, system: textOf(req.System), session: req.Metadata.User, tokens: int64(len(body) / 4)}
	p.think = req.Thinking != nil && req.Thinking.Type != "disabled"
	if req.Format != nil {
		p.format = req.Format.Schema
	} else if req.Config.Format != nil {
		p.format = req.Config.Format.Schema
	}
	for _, t := range req.Tools {
		p.tools = append(p.tools, tool{name: t.Name, schema: t.Schema})
	}
	for _, m := range req.Messages {
		for _, b := range blocks(m.Content) {
			switch {
			case b.Type == "tool_use":
				p.called(b.ID, b.Name)
			case b.Type == "tool_result":
				p.result(b.Use, textOf(b.Content), b.IsError)
			case b.Type == "text" && m.Role == "user":
				p.user(b.Text)
			case b.Type == "text" && m.Role == "system":
				p.system += "\n" + b.Text
			}
		}
	}
	return p, nil
}

func (anthropic) fail(w responseWriter, f fault) {
	typ := map[int]string{400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}[f.status]
	f.retryAfter(w.Header())
	writeJSON(w, f.status, map[string]any{"type": "error", "error": map[string]any{"type": typ, "message": f.text}, "request_id": fresh("req_")})
}

func anthropicUsage(p *prompt, out int64) map[string]any {
	return map[string]any{"input_tokens": p.tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": out}
}

func anthropicStop(r reply) string {
	if r.call != nil {
		return "tool_use"
	}
	return "end_turn"
}

func (anthropic) whole(p *prompt, r reply) any {
	content := []any{}
	if r.text != "" {
		content = append(content, map[string]any{"type": "text", "text": r.text})
	}
	if r.call != nil {
		content = append(content, map[string]any{"type": "tool_use", "id": fresh("toolu_"), "name": r.call.tool.name, "input": r.call.args})
	}
	return map[string]any{
		"id": fresh("msg_"), "type": "message", "role": "assistant", "model": p.model, "content": content,
		"stop_reason": anthropicStop(r), "stop_sequence": nil, "usage": anthropicUsage(p, r.tokens()),
	}
}

func (anthropic) write(s *stream, p *prompt, r reply) {
	s.begin("text/event-stream; charset=utf-8")
	s.event("message_start", map[string]any{"type": "message_start", "message": map[string]any{
		"id": fresh("msg_"), "type": "message", "role": "assistant", "model": p.model, "content": []any{},
		"stop_reason": nil, "stop_sequence": nil, "usage": anthropicUsage(p, 1),
	}})
	s.event("ping", map[string]any{"type": "ping"})
	index := 0
	block := func(start map[string]any, deltas func(send func(delta map[string]any)) bool) bool {
		s.event("content_block_start", map[string]any{"type": "content_block_start", "index": index, "content_block": start})
		ok := deltas(func(delta map[string]any) {
			s.event("content_block_delta", map[string]any{"type": "content_block_delta", "index": index, "delta": delta})
		})
		if ok {
			s.event("content_block_stop", map[string]any{"type": "content_block_stop", "index": index})
			index++
		}
		return ok
	}
	if r.thought != "" && p.think {
		block(map[string]any{"type": "thinking", "thinking": "", "signature": ""}, func(send func(map[string]any)) bool {
			send(map[string]any{"type": "thinking_delta", "thinking": r.thought})
			send(map[string]any{"type": "signature_delta", "signature": "c2NyaXB0ZWQ="})
			return true
		})
	}
	if r.text != "" && !block(map[string]any{"type": "text", "text": ""}, func(send func(map[string]any)) bool {
		return s.say(r.text, r, func(part string) { send(map[string]any{"type": "text_delta", "text": part}) })
	}) {
		return
	}
	if r.call != nil {
		block(map[string]any{"type": "tool_use", "id": fresh("toolu_"), "name": r.call.tool.name, "input": map[string]any{}}, func(send func(map[string]any)) bool {
			for _, part := range pieces(r.call.input()) {
				send(map[string]any{"type": "input_json_delta", "partial_json": part})
			}
			return true
		})
	}
	s.event("message_delta", map[string]any{
		"type": "message_delta", "delta": map[string]any{"stop_reason": anthropicStop(r), "stop_sequence": nil},
		"usage": map[string]any{"output_tokens": r.tokens()},
	})
	s.event("message_stop", map[string]any{"type": "message_stop"})
}
