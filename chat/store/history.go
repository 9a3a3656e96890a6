package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/samnode/samnode/chat"
)

// readStatements are those of the readers.
type readStatements struct {
	taskKey, from, before, changed, rest, one *sql.Stmt
}

func (p *readStatements) prepare(ctx context.Context, db *sql.DB) error {
	return prepareAll(ctx, db, map[**sql.Stmt]string{
		&p.taskKey: `SELECT key FROM tasks WHERE id = ?`,
		&p.from:    `SELECT data FROM messages WHERE place >= ? AND place <= ? ORDER BY place LIMIT ?`,
		&p.before:  `SELECT data FROM messages WHERE place > ? AND place < ? ORDER BY place DESC LIMIT ?`,
		&p.changed: `SELECT data FROM messages WHERE task = ? AND idx > ? AND idx <= ? ORDER BY idx, place LIMIT ?`,
		&p.rest:    `SELECT data FROM messages WHERE task = ? AND idx = ? AND place > ? ORDER BY place`,
		&p.one:     selectOne,
	})
}

const selectOne = `SELECT data FROM messages WHERE task = (SELECT key FROM tasks WHERE id = ?) AND id = ?`

// keyLocked is the number of a task, 0 for one without messages.
func (s *Store) keyLocked(ctx context.Context, task chat.TaskID) (int64, error) {
	var key int64
	err := s.reads.taskKey.QueryRowContext(ctx, string(task)).Scan(&key)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("reading the key of task %s: %w", task, err)
	}
	return key, nil
}

func list(ctx context.Context, stmt *sql.Stmt, args ...any) ([]chat.Message, error) {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, fmt.Errorf("reading messages: %w", err)
	}
	defer rows.Close()
	var out []chat.Message
	for rows.Next() {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return nil, fmt.Errorf("reading messages: %w", err)
		}
		m, err := decodeMessage(data)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading messages: %w", err)
	}
	return out, nil
}

// Page is chat.History's: ascending by seq, from r.From on, or the newest
// below r.Before.
func (s *Store) Page(ctx context.Context, task chat.TaskID, r chat.Range, limit int) ([]chat.Message, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	waiting := s.backlog.of(task) // before the database is read: what is written meanwhile is in one of the two
	key, err := s.keyLocked(ctx, task)
	if err != nil {
		return nil, err
	}
	if r.From > 0 {
		out, err := list(ctx, s.reads.from, place(key, min(r.From, maxSeq)), place(key, maxSeq), limit)
		if err != nil {
			return nil, err
		}
		out = overlay(out, waiting, func(m *chat.Message) bool { return m.Seq >= r.From })
		sortBySeq(out)
		return out[:min(len(out), limit)], nil
	}
	before := r.Before
	if before == 0 || before > maxSeq {
		before = maxSeq
	}
	out, err := list(ctx, s.reads.before, place(key, 0), place(key, before), limit)
	if err != nil {
		return nil, err
	}
	out = overlay(out, waiting, func(m *chat.Message) bool { return m.Seq < before })
	sortBySeq(out)
	return out[max(0, len(out)-limit):], nil
}

func sortBySeq(list []chat.Message) {
	slices.SortFunc(list, func(a, b chat.Message) int { return cmp.Compare(a.Seq, b.Seq) })
}

// Changed is chat.History's: by (Index, Seq), the messages of one index
// together.
func (s *Store) Changed(ctx context.Context, task chat.TaskID, after, upto uint64, limit int) (out []chat.Message, more bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	upto = min(upto, math.MaxInt64)
	waiting := s.backlog.of(task) // see Page
	key, err := s.keyLocked(ctx, task)
	if err != nil {
		return nil, false, err
	}
	for more = true; more && len(out) < max(limit, 1) && after < upto; {
		var read []chat.Message
		var end uint64 // up to which all were read
		if read, end, err = s.changedLocked(ctx, key, after, upto, limit); err != nil {
			return nil, false, err
		}
		out = append(out, overlay(read, waiting, func(m *chat.Message) bool { return m.Index > after && m.Index <= end })...)
		after, more = end, end < upto
	}
	slices.SortFunc(out, func(a, b chat.Message) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Seq, b.Seq))
	})
	out, cut := cutAt(out, limit)
	return out, more && len(out) > 0 || cut, nil
}

// changedLocked reads about limit changed messages, and up to which index they
// are all.
func (s *Store) changedLocked(ctx context.Context, key int64, after, upto uint64, limit int) ([]chat.Message, uint64, error) {
	limit = max(limit, 1)
	out, err := list(ctx, s.reads.changed, key, int64(after), int64(upto), limit)
	if err != nil || len(out) < limit {
		return out, upto, err
	}
	last := out[len(out)-1]
	rest, err := list(ctx, s.reads.rest, key, int64(last.Index), place(key, last.Seq))
	return append(out, rest...), last.Index, err
}

// cutAt cuts a list that is sorted by index behind limit messages, and behind
// all of the last one's index.
func cutAt(list []chat.Message, limit int) (_ []chat.Message, cut bool) {
	if limit <= 0 || len(list) <= limit {
		return list, false
	}
	end := limit
	for end < len(list) && list[end].Index == list[limit-1].Index {
		end++
	}
	return list[:end], end < len(list)
}

// One is chat.History's.
func (s *Store) One(ctx context.Context, task chat.TaskID, id string) (chat.Message, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if m, ok := s.backlog.get(task, id); ok {
		return m.Clone(), nil
	}
	return one(ctx, s.reads.one, task, id)
}

func one(ctx context.Context, stmt *sql.Stmt, task chat.TaskID, id string) (chat.Message, error) {
	var data []byte
	err := stmt.QueryRowContext(ctx, string(task), id).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Message{}, fmt.Errorf("message %q of task %s: %w", id, task, chat.ErrNotFound)
	}
	if err != nil {
		return chat.Message{}, fmt.Errorf("reading message %q: %w", id, err)
	}
	return decodeMessage(data)
}
