package chat

import "slices"

// appendText lets a message's text grow by what it does not have yet. Size
// counts the bytes once some were cut. It reports whether bytes came.
func appendText(m *Message, it Item) (bool, error) {
	text := clean(it.Text)
	have := max(m.Size, int64(len(m.Text)))
	switch {
	case text == "" && it.Size <= have:
		return false, nil
	case it.Offset > have:
		return false, refuse(CodeRefused, "The text of %s has a gap: it has %d bytes and the rest begins at %d.", quote(m.ID), have, it.Offset)
	case it.Offset < 0:
		return false, refuse(CodeInvalid, "An offset is not below zero.")
	}
	if skip := have - it.Offset; skip < int64(len(text)) {
		text = text[skip:]
	} else {
		text = ""
	}
	total := max(have+int64(len(text)), it.Size)
	if m.Size == 0 || m.Size == int64(len(m.Text)) { // nothing was cut so far
		m.Text = clean(cutEnd(m.Text+text, MaxBody))
	}
	if total > int64(len(m.Text)) {
		m.Size = total
	}
	return total > have, nil
}

// mergeTool takes from a tool update what it carries and reports whether
// output moved. A field that it lacks is left as it was.
func mergeTool(m *Message, u Tool) bool {
	if m.Tool == nil {
		m.Tool = &Tool{}
	}
	t := m.Tool
	t.Title = or(line(u.Title, 300), t.Title)
	t.Kind = or(cutEnd(u.Kind, 40), t.Kind)
	t.Status = or(cutEnd(u.Status, 40), t.Status)
	if len(u.Locations) > 0 {
		t.Locations = slices.Clone(u.Locations[:min(len(u.Locations), 100)])
	}
	if u.Input != "" {
		t.Input, _ = cutMiddle(clean(u.Input), MaxBody)
	}
	moved := len(u.Diffs) > 0
	if u.Output != "" {
		moved = moved || u.Output != t.Output
		var size int64
		t.Output, size = cutMiddle(clean(u.Output), MaxBody)
		t.Size = max(size, u.Size)
	}
	if len(u.Diffs) > 0 {
		t.Diffs = cutDiffs(u.Diffs)
	}
	if u.Exit != nil {
		t.Exit = clonePtr(u.Exit)
	}
	if ended := utc(u.Ended); !ended.IsZero() {
		t.Ended = ended
	}
	return moved
}

// cutDiffs shares MaxBody among a tool call's diffs.
func cutDiffs(diffs []FileDiff) []FileDiff {
	diffs = slices.Clone(diffs[:min(len(diffs), 50)])
	part := MaxBody / (2 * len(diffs))
	for i := range diffs {
		d := &diffs[i]
		whole := int64(len(d.Old) + len(d.New))
		var cutOld, cutNew int64
		d.Old, cutOld = cutMiddle(clean(d.Old), max(part, 200))
		d.New, cutNew = cutMiddle(clean(d.New), max(part, 200))
		if cutOld > 0 || cutNew > 0 {
			d.Size = max(whole, d.Size)
		}
	}
	return diffs
}

// mergeRest takes the fields that are replaced when present.
func mergeRest(m *Message, it Item) {
	if len(it.Plan) > 0 {
		m.Plan = slices.Clone(it.Plan[:min(len(it.Plan), 200)])
		for i, p := range m.Plan {
			m.Plan[i].Text = cutChars(p.Text, 500)
		}
	}
	if it.Diff != nil {
		m.Diff = clonePtr(it.Diff)
	}
	m.Level = or(cutEnd(it.Level, 20), m.Level)
	if it.Detail != "" {
		m.Detail, _ = cutMiddle(clean(it.Detail), MaxBody/2)
	}
	if raw := rawOf(it.Raw); raw != nil {
		m.Raw = raw
	}
	m.Closed = m.Closed || it.Closed
}
