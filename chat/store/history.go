package store

import (
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
	taskKey, from, before, changed, rest, one, count *sql.Stmt
}

func (p *readStatements) prepare(ctx context.Context, db *sql.DB) error {
	return prepareAll(ctx, db, map[**sql.Stmt]string{
		&p.taskKey: `SELECT key FROM tasks WHERE id = ?`,
		&p.from:    `SELECT data FROM messages WHERE place >= ? AND place <= ? ORDER BY place LIMIT ?`,
		&p.before:  `SELECT data FROM messages WHERE place > ? AND place < ? ORDER BY place DESC LIMIT ?`,
		&p.changed: `SELECT data FROM messages WHERE task = ? AND idx > ? AND idx <= ? ORDER BY idx, place LIMIT ?`,
		&p.rest:    `SELECT data FROM messages WHERE task = ? AND idx = ? AND place > ? ORDER BY place`,
		&p.one:     `SELECT data FROM messages WHERE task = ? AND id = ?`,
		&p.count:   `SELECT count(*) FROM messages WHERE place > ? AND place <= ?`,
	})
}

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
	key, err := s.keyLocked(ctx, task)
	if err != nil || key == 0 {
		return nil, err
	}
	if r.From > 0 {
		return list(ctx, s.reads.from, place(key, min(r.From, maxSeq)), place(key, maxSeq), limit)
	}
	before := r.Before
	if before == 0 || before > maxSeq {
		before = maxSeq
	}
	out, err := list(ctx, s.reads.before, place(key, 0), place(key, before), limit)
	slices.Reverse(out)
	return out, err
}

// Changed is chat.History's: by (Index, Seq), the messages of one index
// together.
func (s *Store) Changed(ctx context.Context, task chat.TaskID, after, upto uint64, limit int) ([]chat.Message, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, err := s.keyLocked(ctx, task)
	if err != nil || key == 0 || after >= math.MaxInt64 {
		return nil, false, err
	}
	out, err := list(ctx, s.reads.changed, key, int64(after), int64(min(upto, math.MaxInt64)), limit+1)
	if err != nil || len(out) <= limit {
		return out, false, err
	}
	next := out[limit]
	out = out[:limit]
	if limit == 0 || next.Index != out[limit-1].Index {
		return out, true, nil
	}
	last := out[limit-1]
	rest, err := list(ctx, s.reads.rest, key, int64(last.Index), place(key, last.Seq))
	if err != nil {
		return nil, false, err
	}
	out = append(out, rest...)
	return out, last.Index < upto, nil
}

// One is chat.History's.
func (s *Store) One(ctx context.Context, task chat.TaskID, id string) (chat.Message, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, err := s.keyLocked(ctx, task)
	if err != nil {
		return chat.Message{}, err
	}
	var data []byte
	err = s.reads.one.QueryRowContext(ctx, key, id).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Message{}, fmt.Errorf("message %q of task %s: %w", id, task, chat.ErrNotFound)
	}
	if err != nil {
		return chat.Message{}, fmt.Errorf("reading message %q: %w", id, err)
	}
	return decodeMessage(data)
}

// Count is the number of a task's messages.
func (s *Store) Count(ctx context.Context, task chat.TaskID) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, err := s.keyLocked(ctx, task)
	if err != nil || key == 0 {
		return 0, err
	}
	var n int
	if err := s.reads.count.QueryRowContext(ctx, place(key, 0), place(key, maxSeq)).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting the messages of task %s: %w", task, err)
	}
	return n, nil
}
