package acp

import (
	"encoding/json"
	"iter"
	"strings"
)

// Output reads a tool call's whole output out of the journal: what the log
// keeps is cut in the middle. source is the record that began the call, as
// chat.Message has it; false means that no call begins there.
func Output(records iter.Seq2[Record, error], source uint64) (string, bool, error) {
	var id str
	var parts strings.Builder // what a terminal printed, in parts
	var last string           // what was last sent whole
	for r, err := range records {
		if err != nil {
			return "", false, err
		}
		u, ok := toolUpdate(r)
		switch {
		case r.Seq < source || !ok:
			continue
		case r.Seq == source:
			id = u.ToolCallID
		case id == "":
			return "", false, nil
		case u.ToolCallID != id:
			continue
		case u.Kind == "tool_call" && (last != "" || parts.Len() > 0):
			return whole(last, &parts), true, nil // another call that took the id again
		}
		if text := contentText(u); text != "" {
			last = text
		}
		m := u.Meta.v
		if m.Delta.ok {
			parts.WriteString(string(m.Delta.v.Data))
		} else if m.Output.ok {
			last = string(m.Output.v.Data)
		}
	}
	return whole(last, &parts), id != "", nil
}

// whole prefers what a terminal printed to what the agent summed up.
func whole(last string, parts *strings.Builder) string {
	if parts.Len() > 0 {
		return parts.String()
	}
	return last
}

// toolUpdate reads a record that is about a tool call.
func toolUpdate(r Record) (update, bool) {
	if r.Dir != Out {
		return update{}, false
	}
	e, ok := decode(r.Data)
	if !ok {
		return update{}, false
	}
	var p struct {
		Update   maybe[update] `json:"update"`
		ToolCall maybe[update] `json:"toolCall"`
	}
	if json.Unmarshal(e.Params, &p) != nil {
		return update{}, false
	}
	u := p.Update.v
	if e.Method == "session/request_permission" {
		u = p.ToolCall.v
	}
	return u, u.ToolCallID != ""
}

// contentText is the text that an update brings, whole.
func contentText(u update) string {
	var parts list[toolContent]
	_ = json.Unmarshal(u.Content, &parts) // never fails: see list
	var texts []string
	for _, p := range parts {
		if p.Type == "content" && p.Content.ok {
			texts = append(texts, p.Content.v.text())
		}
	}
	if len(texts) > 0 {
		return strings.Join(texts, "\n")
	}
	return outputText(u.RawOutput)
}
