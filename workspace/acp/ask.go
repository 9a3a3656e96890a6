package acp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	acp "github.com/coder/acp-go-sdk"

	"github.com/samnode/samnode/chat"
)

// ErrNotOpen means that the agent does not wait for this answer any more.
var ErrNotOpen = errors.New("the agent does not wait for this answer any more")

// ask is a request of the agent that only a person can answer.
type ask struct {
	chat.Ask
	rpc    json.RawMessage // id of the agent's request
	schema formSchema      // of a question
}

// Asks are the open asks, oldest first.
func (c *Conversation) Asks() []chat.Ask {
	var open []chat.Ask
	for _, a := range c.asks {
		open = append(open, a.Ask)
	}
	return open
}

// request takes a request of the agent. What we do not serve is refused at
// once: reading or writing files here would be a way out of the workspace.
func (c *Conversation) request(e envelope) {
	switch e.Method {
	case "session/request_permission":
		c.permission(e)
	case "elicitation/create":
		c.elicitation(e)
	default:
		c.owe(rejectID(c.itemID()), e.ID, nil, acp.NewMethodNotFound(line(e.Method)))
	}
}

// owe notes a response that the agent must get.
func (c *Conversation) owe(id string, rpc json.RawMessage, result any, rpcErr *acp.RequestError) {
	c.owed = append(c.owed, owed{id: id, line: responseLine(rpc, result, rpcErr)})
}

// responseLine is a JSON-RPC response. The values are ours and always encode.
func responseLine(rpc json.RawMessage, result any, rpcErr *acp.RequestError) []byte {
	b, err := json.Marshal(struct {
		Version string            `json:"jsonrpc"`
		ID      json.RawMessage   `json:"id"`
		Result  any               `json:"result,omitempty"`
		Error   *acp.RequestError `json:"error,omitempty"`
	}{"2.0", rpc, result, rpcErr})
	if err != nil {
		panic(fmt.Sprintf("encoding a response: %v", err))
	}
	return b
}

func (c *Conversation) permission(e envelope) {
	var p struct {
		ToolCall maybe[update] `json:"toolCall"`
		Options  list[struct {
			ID   str `json:"optionId"`
			Name str `json:"name"`
			Kind str `json:"kind"`
		}] `json:"options"`
	}
	if json.Unmarshal(e.Params, &p) != nil || len(p.Options) == 0 {
		c.owe(rejectID(c.itemID()), e.ID, nil, acp.NewInvalidParams(nil))
		return
	}
	a := &ask{rpc: e.ID, Ask: chat.Ask{Kind: chat.AskPermission, At: c.at}}
	c.closeRuns()
	if u := p.ToolCall.v; u.ToolCallID != "" {
		t := c.tool(u)
		a.Tool, a.Title = t.item, t.view.Title
		if a.Detail = t.runs; a.Detail == "" {
			a.Detail, _ = t.text.text(maxDetail)
		}
	}
	a.Title = first(a.Title, c.c.Agent+" asks for permission")
	for _, o := range p.Options {
		if len(a.Options) < maxList {
			a.Options = append(a.Options, chat.AskOption{ID: string(o.ID), Name: line(string(o.Name)), Kind: line(string(o.Kind))})
		}
	}
	c.open(a)
}

// commandOf is the command in a tool's input, or the plan to approve.
func commandOf(input json.RawMessage) string {
	var in struct {
		Command any `json:"command"`
		Plan    str `json:"plan"`
	}
	_ = json.Unmarshal(input, &in) // not an object: nothing
	text := string(in.Plan)
	switch v := in.Command.(type) {
	case string:
		text = v
	case []any:
		var words []string
		for _, w := range v {
			words = append(words, fmt.Sprint(w))
		}
		text = strings.Join(words, " ")
	}
	text, _ = cutMiddle(text, maxDetail)
	return text
}

// open shows an ask. Its id comes from the record of the agent's request.
func (c *Conversation) open(a *ask) {
	a.ID = c.itemID()
	c.asks = append(c.asks, a)
	shown := a.Ask
	c.emit(chat.Item{ID: a.ID, Kind: chat.KindAsk, Text: a.Title, Ask: &shown})
}

// formSchema is the form of a question: flat, as ACP requires.
type formSchema struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Required   list[str]                  `json:"required"`
}

type property struct {
	Type        str          `json:"type"`
	Title       str          `json:"title"`
	Description str          `json:"description"`
	Enum        list[str]    `json:"enum"`
	OneOf       list[choice] `json:"oneOf"`
	Items       maybe[struct {
		Enum  list[str]    `json:"enum"`
		AnyOf list[choice] `json:"anyOf"`
	}] `json:"items"`
}

type choice struct {
	Const str `json:"const"`
	Title str `json:"title"`
}

func (c *Conversation) elicitation(e envelope) {
	var p struct {
		Mode    str               `json:"mode"`
		Message str               `json:"message"`
		Schema  maybe[formSchema] `json:"requestedSchema"`
		Tool    str               `json:"toolCallId"`
	}
	if json.Unmarshal(e.Params, &p) != nil || !p.Schema.ok {
		c.owe(rejectID(c.itemID()), e.ID, map[string]string{"action": "decline"}, nil) // a page to visit
		return
	}
	a := &ask{rpc: e.ID, schema: p.Schema.v, Ask: chat.Ask{Kind: chat.AskQuestion, At: c.at}}
	a.Title = first(line(string(p.Message)), c.c.Agent+" asks")
	if message := string(p.Message); message != a.Title {
		a.Detail, _ = cutMiddle(message, maxDetail)
	}
	if t := c.tools[string(p.Tool)]; t != nil {
		a.Tool = t.item
	}
	for _, name := range fieldNames(e.Params, p.Schema.v) {
		if len(a.Fields) < maxList {
			a.Fields = append(a.Fields, field(name, p.Schema.v))
		}
	}
	a.Options = []chat.AskOption{{ID: "accept", Name: "Answer"}, {ID: "decline", Name: "Skip"}}
	c.closeRuns()
	c.open(a)
}

// fieldNames orders the form's fields as the agent wrote them: JSON objects
// lose their order in Go, so it is taken from the text.
func fieldNames(params json.RawMessage, s formSchema) []string {
	names := slices.Sorted(maps.Keys(s.Properties))
	text := string(params)
	if at := strings.Index(text, `"properties"`); at >= 0 {
		text = text[at:]
	}
	place := func(name string) int {
		q, err := json.Marshal(name)
		if err != nil {
			return len(text)
		}
		if at := strings.Index(text, string(q)+":"); at >= 0 {
			return at
		}
		return len(text)
	}
	slices.SortStableFunc(names, func(a, b string) int { return place(a) - place(b) })
	return names
}

// field is one input of a question.
func field(name string, s formSchema) chat.AskField {
	var p property
	_ = json.Unmarshal(s.Properties[name], &p) // not an object: a text field
	f := chat.AskField{Name: name, Type: "string", Required: slices.Contains(s.Required, str(name))}
	f.Label = first(line(string(p.Title)), name)
	if d := line(string(p.Description)); d != "" {
		f.Label += ": " + d
	}
	switch p.Type {
	case "number", "integer":
		f.Type = "number"
	case "boolean":
		f.Type = "boolean"
	case "array":
		f.Type = "choices"
	}
	for _, o := range p.choices() {
		f.Choices = append(f.Choices, string(o.Title))
	}
	if f.Type == "string" && len(f.Choices) > 0 {
		f.Type = "choice"
	}
	return f
}

// choices are what a field allows; Title is what is shown, Const what is sent.
func (p property) choices() []choice {
	all := append(p.OneOf, p.Items.v.AnyOf...)
	for _, v := range append(p.Enum, p.Items.v.Enum...) {
		all = append(all, choice{Const: v})
	}
	for i := range all {
		if all[i].Title == "" {
			all[i].Title = all[i].Const
		}
	}
	return all[:min(len(all), maxList)]
}

// answered notes that the agent has its answer.
func (c *Conversation) answered(id string) {
	if i := slices.IndexFunc(c.asks, func(a *ask) bool { return a.ID == id }); i >= 0 {
		c.closeAsk(c.asks[i], "Answered.")
	}
}

// withdraw takes the agent's $/cancel_request: it does not wait any more.
func (c *Conversation) withdraw(params json.RawMessage) {
	var p struct {
		ID json.RawMessage `json:"requestId"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	for _, a := range slices.Clone(c.asks) {
		if string(a.rpc) == string(p.ID) {
			c.closeAsk(a, "The agent withdrew it.")
			c.owe(answerID(a.ID), a.rpc, cancelled(a.Kind), nil)
		}
	}
}

// closeAsks closes what nobody needs to answer any more.
func (c *Conversation) closeAsks(why string) {
	for _, a := range slices.Clone(c.asks) {
		c.closeAsk(a, why)
		if c.alive {
			c.owe(answerID(a.ID), a.rpc, cancelled(a.Kind), nil)
		}
	}
}

func (c *Conversation) closeAsk(a *ask, why string) {
	c.asks = slices.DeleteFunc(c.asks, func(v *ask) bool { return v == a })
	shown := a.Ask
	shown.Closed = why
	c.emit(chat.Item{ID: a.ID, Kind: chat.KindAsk, Ask: &shown, Closed: true})
}

// cancelled is the result that says that nobody decided.
func cancelled(kind chat.AskKind) any {
	if kind == chat.AskQuestion {
		return map[string]string{"action": "cancel"}
	}
	return acp.RequestPermissionResponse{Outcome: acp.NewRequestPermissionOutcomeCancelled()}
}

// answer is the line that carries a person's answer to the agent.
func (c *Conversation) answer(id string, v chat.Answer) ([]byte, error) {
	i := slices.IndexFunc(c.asks, func(a *ask) bool { return a.ID == id })
	if i < 0 {
		return nil, ErrNotOpen
	}
	a := c.asks[i]
	if !slices.ContainsFunc(a.Options, func(o chat.AskOption) bool { return o.ID == v.Option }) {
		return nil, fmt.Errorf("%w: %q is not among the options of this request", chat.ErrInvalid, v.Option)
	}
	if a.Kind == chat.AskPermission {
		return responseLine(a.rpc, acp.RequestPermissionResponse{
			Outcome: acp.NewRequestPermissionOutcomeSelected(acp.PermissionOptionId(v.Option)),
		}, nil), nil
	}
	result := map[string]any{"action": v.Option}
	if v.Option == "accept" {
		result["content"] = a.schema.content(v.Values)
	}
	return responseLine(a.rpc, result, nil), nil
}

// content turns the form's texts into the types that the agent asked for; a
// text that is of another type goes as it is, for the agent to refuse. Several
// choices come as lines. Empty fields are left out.
func (s formSchema) content(values map[string]string) map[string]any {
	content := map[string]any{}
	for name, text := range values {
		if raw, known := s.Properties[name]; known && text != "" {
			var p property
			_ = json.Unmarshal(raw, &p) // not an object: a text field
			content[name] = p.value(text)
		}
	}
	return content
}

func (p property) value(text string) any {
	switch p.Type {
	case "integer", "number":
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			return v
		}
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			return v
		}
	case "boolean":
		if v, err := strconv.ParseBool(text); err == nil {
			return v
		}
	case "array":
		all := []string{}
		for l := range strings.Lines(text) {
			if l = strings.TrimSpace(l); l != "" {
				all = append(all, p.pick(l))
			}
		}
		return all
	}
	return p.pick(text)
}

// pick is the value behind what was shown.
func (p property) pick(shown string) string {
	for _, o := range p.choices() {
		if string(o.Title) == shown {
			return string(o.Const)
		}
	}
	return shown
}
