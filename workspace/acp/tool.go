package acp

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/samnode/samnode/chat"
)

// tool is a tool call as merged so far.
type tool struct {
	item   string    // id of its message
	view   chat.Tool // without Output, Diffs and Input, which are kept apart
	turn   bool      // the turn it began in is over
	begun  bool      // it was emitted
	text   body      // its content, or its raw output
	term   body      // what its terminal printed; shown instead of text
	opened bool      // it has terminal output
	deltas bool      // it came in parts, so terminal_output means all of it
	fresh  bool      // there is output that was not emitted
	runs   string    // the command or plan in its input
}

func (t *tool) done() bool {
	return t.view.Status == "completed" || t.view.Status == "failed" || t.view.Status == "cancelled"
}

// tool upserts a tool call; a field that the update lacks keeps its value.
func (c *Conversation) tool(u update) *tool {
	t := c.tools[string(u.ToolCallID)]
	if t == nil || t.turn && u.Kind == "tool_call" {
		t = &tool{item: c.itemID()}
		c.tools[string(u.ToolCallID)] = t
	}
	var d chat.Tool
	wasDone := t.done()
	set(&d.Title, &t.view.Title, line(string(u.Title)))
	set(&d.Kind, &t.view.Kind, line(string(u.ToolKind)))
	if !wasDone { // a late pending does not open it again
		set(&d.Status, &t.view.Status, line(string(u.Status)))
	}
	if locations := places(u.Locations); locations != nil {
		d.Locations = locations
	}
	if input := compact(u.RawInput); input != "" {
		d.Input, _ = cutMiddle(input, maxInput)
		t.runs = first(commandOf(u.RawInput), t.runs)
	}
	d.Diffs = t.content(u)
	t.terminal(u, &d)
	if t.done() && !wasDone {
		d.Ended = c.at
	}
	t.output(&d, wasDone)
	if !t.begun || !blank(d) {
		t.begun = true
		c.emit(chat.Item{ID: t.item, Kind: chat.KindTool, Tool: &d, Closed: t.done()})
	}
	return t
}

// set notes a changed value in the delta and in what is known.
func set(delta, known *string, v string) {
	if v != "" && v != *known {
		*delta, *known = v, v
	}
}

func blank(d chat.Tool) bool {
	return d.Title == "" && d.Kind == "" && d.Status == "" && d.Locations == nil && d.Input == "" &&
		d.Output == "" && d.Diffs == nil && d.Exit == nil && d.Ended.IsZero()
}

func places(from list[location]) []chat.Location {
	var to []chat.Location
	for _, l := range from {
		if l.Path != "" && len(to) < maxList {
			to = append(to, chat.Location{Path: line(string(l.Path)), Line: int(l.Line.count())})
		}
	}
	return to
}

// content takes the update's content and raw output, and returns its diffs.
func (t *tool) content(u update) []chat.FileDiff {
	var parts list[toolContent]
	if len(u.Content) > 0 {
		_ = json.Unmarshal(u.Content, &parts) // never fails: see list
	}
	var diffs []chat.FileDiff
	var text bytes.Buffer
	for _, p := range parts {
		switch {
		case p.Type == "diff" && len(diffs) < maxList:
			diffs = append(diffs, chat.FileDiff{Path: line(string(p.Path)), Old: string(p.OldText), New: string(p.NewText)})
		case p.Type == "content" && p.Content.ok:
			if text.Len() > 0 {
				text.WriteByte('\n')
			}
			text.WriteString(p.Content.v.text())
		}
	}
	switch {
	case text.Len() > 0:
		t.replace(&t.text, text.String())
	case t.text.size == 0 && len(diffs) == 0:
		if out := outputText(u.RawOutput); out != "" {
			t.replace(&t.text, out)
		}
	}
	cutDiffs(diffs)
	return diffs
}

// cutDiffs shares the room of one item among its diffs.
func cutDiffs(diffs []chat.FileDiff) {
	if len(diffs) == 0 {
		return
	}
	room := maxDiffs / len(diffs) / 2
	for i := range diffs {
		d := &diffs[i]
		size := int64(len(d.Old) + len(d.New))
		var a, b int64
		d.Old, a = cutMiddle(d.Old, room)
		d.New, b = cutMiddle(d.New, room)
		if a+b > 0 {
			d.Size = size
		}
	}
}

// outputText is a raw output in words: a text, or the text inside an object,
// or the JSON itself.
func outputText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var o struct {
		Output    str `json:"output"`
		Formatted str `json:"formatted_output"`
		Stdout    str `json:"stdout"`
		Error     str `json:"error"`

		Exit json.RawMessage `json:"exit_code"`
	}
	if json.Unmarshal(raw, &o) == nil {
		if text := first(string(o.Formatted), string(o.Output), string(o.Stdout), string(o.Error)); text != "" {
			return text
		}
		if len(o.Exit) > 0 {
			return "" // a command that printed nothing
		}
	}
	return compact(raw)
}

// terminal takes what codex and claude put into _meta.
func (t *tool) terminal(u update, d *chat.Tool) {
	m := u.Meta.v
	if m.Delta.ok {
		t.opened, t.deltas, t.fresh = true, true, true
		t.term.add(string(m.Delta.v.Data))
	}
	if m.Output.ok {
		t.opened = true
		if t.deltas {
			t.replace(&t.term, string(m.Output.v.Data))
		} else {
			t.fresh = true
			t.term.add(string(m.Output.v.Data))
		}
	}
	if m.Exit.ok && m.Exit.v.Code.ok && t.view.Exit == nil {
		code := m.Exit.v.Code.v
		t.view.Exit, d.Exit = &code, &code
	}
}

// output puts the output into the delta: short while the tool runs, whole
// (cut at chat.MaxBody) when it has ended.
func (t *tool) output(d *chat.Tool, wasDone bool) {
	b := &t.text
	if t.opened {
		b = &t.term
	}
	ends := t.done() && !wasDone
	if b.size == 0 || !t.fresh && !ends {
		return
	}
	limit := maxLive
	if t.done() {
		limit = chat.MaxBody
	}
	t.fresh = false
	d.Output, d.Size = b.text(limit)
}

// replace sets a body that agents send whole, often unchanged.
func (t *tool) replace(b *body, s string) {
	var v body
	if v.set(s); v != *b {
		*b, t.fresh = v, true
	}
}

// closeTools marks the tools that will not end any more.
func (c *Conversation) closeTools() {
	for _, t := range c.openTools() {
		t.view.Status = "cancelled"
		d := chat.Tool{Status: "cancelled", Ended: c.at}
		t.output(&d, false)
		c.emit(chat.Item{ID: t.item, Kind: chat.KindTool, Tool: &d, Closed: true})
	}
}

// openTools are the tools that have not ended, in the order they began.
func (c *Conversation) openTools() []*tool {
	var open []*tool
	for _, t := range c.tools {
		if t.begun && !t.done() {
			open = append(open, t)
		}
	}
	slices.SortFunc(open, func(a, b *tool) int { return compareIDs(a.item, b.item) })
	return open
}

// dropTools frees the output of tools that ended with the turn.
func (c *Conversation) dropTools() {
	for _, t := range c.tools {
		t.turn = true
		if t.done() {
			t.text, t.term = body{}, body{}
		}
	}
}

// compareIDs orders item ids of one workspace by record.
func compareIDs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare([]byte(a), []byte(b))
}
