package chat

import (
	"cmp"
	"maps"
	"slices"
)

// table is a map that keeps the edits since the last commit apart. The one
// goroutine that applies commands reads through the edits; readers of Room
// see the base only, which changes in commit, under Room's lock. So nobody
// sees half of a batch, and a failed transaction is dropped by rollback.
//
// Values are never changed in place: an edit puts a new value.
type table[K cmp.Ordered, V any] struct {
	base map[K]V
	edit map[K]entry[V]
}

// entry is an edit: a new value, or the mark that the key is gone.
type entry[V any] struct {
	value V
	gone  bool
}

func newTable[K cmp.Ordered, V any]() table[K, V] {
	return table[K, V]{base: map[K]V{}, edit: map[K]entry[V]{}}
}

func (t *table[K, V]) get(k K) (V, bool) {
	if e, ok := t.edit[k]; ok {
		return e.value, !e.gone
	}
	v, ok := t.base[k]
	return v, ok
}

func (t *table[K, V]) put(k K, v V) { t.edit[k] = entry[V]{value: v} }

func (t *table[K, V]) remove(k K) { t.edit[k] = entry[V]{gone: true} }

// keys are all keys, edits included, in order.
func (t *table[K, V]) keys() []K {
	keys := slices.Collect(maps.Keys(t.base))
	for k, e := range t.edit {
		if _, ok := t.base[k]; !ok && !e.gone {
			keys = append(keys, k)
		}
	}
	keys = slices.DeleteFunc(keys, func(k K) bool { return t.edit[k].gone })
	slices.Sort(keys)
	return keys
}

// commit makes the edits visible and returns their keys.
func (t *table[K, V]) commit() []K {
	keys := make([]K, 0, len(t.edit))
	for k, e := range t.edit {
		keys = append(keys, k)
		if e.gone {
			delete(t.base, k)
		} else {
			t.base[k] = e.value
		}
	}
	clear(t.edit)
	return keys
}

func (t *table[K, V]) rollback() { clear(t.edit) }
