package acp

import (
	"bytes"
	"encoding/json"
	"strings"
)

// envelope is any JSON-RPC message.
type envelope struct {
	ID     json.RawMessage `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *rpcError       `json:"error,omitempty"`
}

// rpcError is the error of a response.
type rpcError struct {
	Code    int             `json:"code"`
	Message str             `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// decode reads a line; false: it is not JSON-RPC.
func decode(data []byte) (envelope, bool) {
	var e envelope
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '{' {
		return e, false
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, false
	}
	if string(e.ID) == "null" {
		e.ID = nil
	}
	return e, e.Method != "" || e.ID != nil
}

// id is the request's id when it is one of ours: a string.
func (e envelope) id() string {
	var s string
	if json.Unmarshal(e.ID, &s) != nil {
		return ""
	}
	return s
}

// The tolerant types below take what an agent sends in place of what the
// schema says: a number for a string, null or an object for a list.

// str is a string; anything else keeps its JSON as text, null is "".
type str string

// UnmarshalJSON never fails.
func (s *str) UnmarshalJSON(b []byte) error {
	var v string
	switch {
	case json.Unmarshal(b, &v) == nil:
		*s = str(v)
	default:
		*s = str(b)
	}
	return nil
}

// num is a number; anything else is 0.
type num float64

// UnmarshalJSON never fails.
func (n *num) UnmarshalJSON(b []byte) error {
	var v float64
	if json.Unmarshal(b, &v) == nil {
		*n = num(v)
	}
	return nil
}

// count is a not negative whole number that survives any input.
func (n num) count() int64 {
	if n <= 0 || n > 1<<53 {
		return 0
	}
	return int64(n)
}

// list is a list whose bad elements are left out.
type list[T any] []T

// UnmarshalJSON never fails.
func (l *list[T]) UnmarshalJSON(b []byte) error {
	var raw []json.RawMessage
	if json.Unmarshal(b, &raw) != nil {
		return nil //nolint:nilerr // what is no list has no elements
	}
	for _, r := range raw {
		var v T
		if json.Unmarshal(r, &v) == nil {
			*l = append(*l, v)
		}
	}
	return nil
}

// maybe is a value that may be missing or of another type.
type maybe[T any] struct {
	v  T
	ok bool
}

// UnmarshalJSON never fails.
func (m *maybe[T]) UnmarshalJSON(b []byte) error {
	if string(b) != "null" && json.Unmarshal(b, &m.v) == nil {
		m.ok = true
	}
	return nil
}

// update is any session/update, and the tool call of a permission request.
type update struct {
	Kind      str             `json:"sessionUpdate"`
	Content   json.RawMessage `json:"content"` // a block or a list of tool content
	MessageID str             `json:"messageId"`

	ToolCallID str                `json:"toolCallId"`
	Title      str                `json:"title"`
	ToolKind   str                `json:"kind"`
	Status     str                `json:"status"`
	Locations  list[location]     `json:"locations"`
	RawInput   json.RawMessage    `json:"rawInput"`
	RawOutput  json.RawMessage    `json:"rawOutput"`
	Meta       maybe[meta]        `json:"_meta"`
	Entries    list[planEntry]    `json:"entries"`
	Plan       maybe[planUpdate]  `json:"plan"`
	Commands   list[command]      `json:"availableCommands"`
	ModeID     str                `json:"currentModeId"`
	Options    list[configOption] `json:"configOptions"`
	Used       num                `json:"used"`
	Size       num                `json:"size"`
	Cost       maybe[costAmount]  `json:"cost"`
}

type location struct {
	Path str `json:"path"`
	Line num `json:"line"`
}

type planEntry struct {
	Content  str `json:"content"`
	Status   str `json:"status"`
	Priority str `json:"priority"`
}

// planUpdate is the unstable plan_update's plan.
type planUpdate struct {
	Entries list[planEntry] `json:"entries"`
	Content str             `json:"content"`
}

type command struct {
	Name        str `json:"name"`
	Description str `json:"description"`
}

type costAmount struct {
	Amount   num `json:"amount"`
	Currency str `json:"currency"`
}

// meta is where codex and claude put a command's output.
type meta struct {
	Output maybe[terminalOutput] `json:"terminal_output"`
	Delta  maybe[terminalOutput] `json:"terminal_output_delta"`
	Exit   maybe[terminalExit]   `json:"terminal_exit"`
}

type terminalOutput struct {
	Data str `json:"data"`
}

type terminalExit struct {
	Code   maybe[int] `json:"exit_code"`
	Signal str        `json:"signal"`
}

// block is a content block of any type.
type block struct {
	Type     str             `json:"type"`
	Text     str             `json:"text"`
	Data     str             `json:"data"`
	MimeType str             `json:"mimeType"`
	URI      str             `json:"uri"`
	Name     str             `json:"name"`
	Resource maybe[resource] `json:"resource"`
}

type resource struct {
	URI      str `json:"uri"`
	Text     str `json:"text"`
	Blob     str `json:"blob"`
	MimeType str `json:"mimeType"`
}

// text is the block in words. Pictures and sounds are named, not carried: the
// whole stays in the journal.
func (b block) text() string {
	switch b.Type {
	case "text":
		return string(b.Text)
	case "image", "audio":
		return "[" + string(b.Type) + " " + string(b.MimeType) + "]"
	case "resource_link":
		return "[" + first(string(b.Name), string(b.URI)) + "](" + string(b.URI) + ")"
	case "resource":
		r := b.Resource.v
		if r.Text != "" {
			return string(r.Text)
		}
		return "[" + first(string(r.URI), "resource") + " " + string(r.MimeType) + "]"
	default:
		return first(string(b.Text), "["+string(b.Type)+"]")
	}
}

// toolContent is one element of a tool call's content.
type toolContent struct {
	Type    str          `json:"type"`
	Content maybe[block] `json:"content"`
	Path    str          `json:"path"`
	OldText str          `json:"oldText"`
	NewText str          `json:"newText"`
}

// configOption is a choice the session offers: mode, model, effort.
type configOption struct {
	ID       str               `json:"id"`
	Name     str               `json:"name"`
	Category str               `json:"category"`
	Current  str               `json:"currentValue"`
	Options  list[configValue] `json:"options"`
}

// configValue is a value, or a group of values.
type configValue struct {
	Value   str               `json:"value"`
	Name    str               `json:"name"`
	Options list[configValue] `json:"options"`
}

// first is the first string that is not empty.
func first(s ...string) string {
	for _, v := range s {
		if strings.TrimSpace(v) != "" {
			return v
		}
	}
	return ""
}

// compact is raw JSON on one line, "" for nothing worth showing.
func compact(raw json.RawMessage) string {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", "{}", "[]", `""`:
		return ""
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}
