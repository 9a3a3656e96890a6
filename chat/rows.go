package chat

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

func appendRow(rows []Row, kind, id string, value any) ([]Row, error) {
	data, err := json.Marshal(kept(value))
	if err != nil {
		return nil, fmt.Errorf("encoding %s %q: %w", kind, id, err)
	}
	return append(rows, Row{Kind: kind, ID: id, Data: data}), nil
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

// tableRows appends a table's edits, or all of it.
func tableRows[K cmp.Ordered, V any](rows []Row, kind string, t *table[K, V], all bool, id func(K) string) (_ []Row, err error) {
	for k, e := range t.edit {
		switch {
		case !e.gone:
			if rows, err = appendRow(rows, kind, id(k), e.value); err != nil {
				return nil, err
			}
		case !all:
			rows = append(rows, Row{Kind: kind, ID: id(k)})
		}
	}
	if !all {
		return rows, nil
	}
	for k, v := range t.base {
		if _, edited := t.edit[k]; edited {
			continue
		}
		if rows, err = appendRow(rows, kind, id(k), v); err != nil {
			return nil, err
		}
	}
	return rows, nil
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
