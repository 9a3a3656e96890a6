package modeltest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// gemini is Google's generateContent API. The model and the method are in the
// path; a stream is server-sent events or one JSON array.
type gemini struct {
	path string
	sse  bool
}

func (gemini) name() string { return "gemini" }

type geminiPart struct {
	Text    string `json:"text"`
	Thought bool   `json:"thought"`
	Call    *struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"functionCall"`
	Result *struct {
		ID       string          `json:"id"`
		Name     string          `json:"name"`
		Response json.RawMessage `json:"response"`
	} `json:"functionResponse"`
}

type geminiContent struct {
	Role  string       `json:"role"`
	Parts []geminiPart `json:"parts"`
}

func (d gemini) parse(body []byte) (*prompt, error) {
	var req struct {
		Contents []geminiContent `json:"contents"`
		System   *geminiContent  `json:"systemInstruction"`
		Tools    []struct {
			Functions []struct {
				Name       string  `json:"name"`
				Parameters *schema `json:"parameters"`
				JSON       *schema `json:"parametersJsonSchema"`
			} `json:"functionDeclarations"`
		} `json:"tools"`
		Config struct {
			Schema *schema `json:"responseSchema"`
			JSON   *schema `json:"responseJsonSchema"`
		} `json:"generationConfig"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding request: %w", err)
	}
	_, rest, _ := strings.Cut(d.path, "/models/")
	model, method, _ := strings.Cut(rest, ":")
	p := &prompt{model: model, stream: method == "streamGenerateContent", think: true, tokens: int64(len(body) / 4), format: req.Config.Schema}
	if req.Config.JSON != nil {
		p.format = req.Config.JSON
	}
	if req.System != nil {
		for _, part := range req.System.Parts {
			p.system += part.Text + "\n"
		}
	}
	for _, t := range req.Tools {
		for _, f := range t.Functions {
			s := f.Parameters
			if f.JSON != nil {
				s = f.JSON
			}
			p.tools = append(p.tools, tool{name: f.Name, schema: s})
		}
	}
	for _, c := range req.Contents {
		for _, part := range c.Parts {
			switch {
			case part.Result != nil:
				p.geminiResult(part.Result.Name, part.Result.Response)
			case c.Role != "model" && part.Text != "":
				p.user(part.Text)
			}
		}
	}
	return p, nil
}

func (p *prompt) geminiResult(name string, raw json.RawMessage) {
	var res struct {
		Output string `json:"output"`
		Error  string `json:"error"`
	}
	if json.Unmarshal(raw, &res) != nil {
		res.Output = string(raw)
	}
	p.result(name, res.Output+res.Error, res.Error != "")
}

func (gemini) fail(w responseWriter, f fault) {
	status := f.status
	if status == 529 {
		status = 503
	}
	code := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[status]
	f.retryAfter(w.Header())
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": status, "message": f.text, "status": code}})
}

// chunk is one answer; each repeats the sums so far.
func (gemini) chunk(p *prompt, id string, parts []any, out int64, finish bool) map[string]any {
	c := map[string]any{"index": 0, "content": map[string]any{"role": "model", "parts": parts}}
	if finish {
		c["finishReason"] = "STOP"
	}
	return map[string]any{
		"candidates": []any{c}, "modelVersion": p.model, "responseId": id,
		"usageMetadata": map[string]any{"promptTokenCount": p.tokens, "candidatesTokenCount": out, "totalTokenCount": p.tokens + out},
	}
}

func (gemini) parts(r reply) []any {
	var parts []any
	if r.text != "" {
		parts = append(parts, map[string]any{"text": r.text})
	}
	if c := r.call; c != nil {
		parts = append(parts, map[string]any{"functionCall": map[string]any{"id": fresh("call_"), "name": c.tool.name, "args": c.args}})
	}
	return parts
}

func (d gemini) whole(p *prompt, r reply) any {
	return d.chunk(p, fresh("resp_"), d.parts(r), r.tokens(), true)
}

func (d gemini) write(s *stream, p *prompt, r reply) {
	id, out, first := fresh("resp_"), int64(0), true
	s.begin(map[bool]string{true: "text/event-stream", false: "application/json"}[d.sse])
	send := func(parts []any, finish bool) {
		v := d.chunk(p, id, parts, out, finish)
		if d.sse {
			s.event("", v)
			return
		}
		s.raw(map[bool]string{true: "[", false: ",\r\n"}[first] + mustJSON(v))
		first = false
	}
	if r.thought != "" {
		send([]any{map[string]any{"text": r.thought, "thought": true}}, false)
	}
	if r.text != "" && !s.say(r.text, r, func(part string) {
		out += int64(len(part)/4 + 1)
		send([]any{map[string]any{"text": part}}, false)
	}) {
		return
	}
	r.text, out = "", r.tokens()
	parts := d.parts(r)
	if parts == nil {
		parts = []any{map[string]any{"text": ""}}
	}
	send(parts, true)
	if !d.sse {
		s.raw("]")
	}
}
