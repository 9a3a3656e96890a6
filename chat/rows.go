package chat

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Row is one small thing as a store keeps it. Data is JSON; nil: the row is
// gone.
type Row struct {
	Kind string
	ID   string
	Data []byte
}

// Edit is one small thing that changed. What it holds never changes, so it can
// be encoded later, and by another goroutine.
type Edit struct {
	Kind string
	ID   string

	value any // nil: gone
}

// Row encodes the edit.
func (e Edit) Row() (Row, error) {
	r := Row{Kind: e.Kind, ID: e.ID}
	if e.value == nil {
		return r, nil
	}
	var err error
	if r.Data, err = json.Marshal(kept(e.value)); err != nil {
		return r, fmt.Errorf("encoding %s %q: %w", e.Kind, e.ID, err)
	}
	return r, nil
}

// kept is a value as its row has it: the texts of queued messages are in the
// messages already, and a task's row is written with each of them.
func kept(value any) any {
	t, ok := value.(*Task)
	if !ok || len(t.Queue) == 0 {
		return value
	}
	bare := *t
	bare.Queue = slices.Clone(t.Queue)
	for i := range bare.Queue {
		bare.Queue[i].Text = ""
	}
	return &bare
}

// fill gives the queued messages of the tasks their texts again.
func (s *State) fill(text func(TaskID, string) (string, error)) error {
	for _, e := range s.tasks.edit {
		for i := range e.value.Queue {
			p := &e.value.Queue[i]
			if p.Text != "" {
				continue // no message is empty
			}
			var err error
			if p.Text, err = text(e.value.ID, p.ID); err != nil {
				return fmt.Errorf("reading the message %q that waits in task %s: %w", p.ID, e.value.ID, err)
			}
		}
	}
	return nil
}

// tableEdits appends a table's edits, or all of it.
func tableEdits[K ~string, V any](edits []Edit, kind string, t *table[K, V], all bool) []Edit {
	for k, e := range t.edit {
		edit := Edit{Kind: kind, ID: string(k)}
		if !e.gone {
			edit.value = e.value
		}
		edits = append(edits, edit)
	}
	if !all {
		return edits
	}
	for k, v := range t.base {
		if _, edited := t.edit[k]; !edited {
			edits = append(edits, Edit{Kind: kind, ID: string(k), value: v})
		}
	}
	return edits
}

// perRow is how many remembered commands share a row: one is written with each
// few of them, and never a row for each.
const perRow = 64

// appendCommands appends the rows of the commands that were remembered, or of
// all.
func (s *State) appendCommands(edits []Edit, all bool) []Edit {
	done := map[uint64]bool{}
	add := func(slot uint64) {
		row := slot / perRow
		if done[row] {
			return
		}
		done[row] = true
		list := make([]command, 0, perRow)
		for i := row * perRow; i < (row+1)*perRow; i++ {
			if c, ok := s.commands.get(i); ok {
				list = append(list, c)
			}
		}
		edits = append(edits, Edit{Kind: rowCommand, ID: itoa(row), value: list})
	}
	for slot := range s.commands.edit {
		add(slot)
	}
	if all {
		for slot := range s.commands.base {
			add(slot)
		}
	}
	return edits
}

func (s *State) loadCommands(data []byte) error {
	var list []command
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, c := range list {
		s.commands.put(c.Number%s.window, c)
		s.numbers.put(c.ID, c.Number)
	}
	return nil
}

func loadInto[K cmp.Ordered, V any](t *table[K, V], key K, data []byte) error {
	var v V
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	t.put(key, v)
	return nil
}

// utc makes a time what JSON gives back: UTC, no monotonic clock, a year that
// can be written. A time outside of that is no time.
func utc(t time.Time) time.Time {
	t = t.UTC().Round(0)
	if y := t.Year(); y < 1 || y > 9000 {
		return time.Time{}
	}
	return t
}
