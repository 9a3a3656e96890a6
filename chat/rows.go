package chat

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

func appendRow(rows []Row, kind, id string, value any) ([]Row, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %q: %w", kind, id, err)
	}
	return append(rows, Row{Kind: kind, ID: id, Data: data}), nil
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
