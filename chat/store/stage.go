package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/samnode/samnode/chat"
)

// stage is one Apply: what it puts is nobody else's until it is done. It is
// chat.Messages.
type stage struct {
	s *Store
	b *block
}

var _ chat.Messages = (*stage)(nil)

// Get returns the newest: of this Apply, of the backlog, of the database.
func (g *stage) Get(task chat.TaskID, id string) (chat.Message, bool, error) {
	if m, ok := g.b.get(task, id); ok {
		return *m, true, nil
	}
	if m, ok := g.s.backlog.get(task, id); ok {
		return *m, true, nil
	}
	return g.lookup(context.Background(), task, id)
}

// Put stages a message.
func (g *stage) Put(m chat.Message) error {
	if m.Seq == 0 || m.Seq > maxSeq {
		return fmt.Errorf("message %q has the seq %d", m.ID, m.Seq)
	}
	g.b.put(&m)
	g.s.known.add(m.Task, m.ID)
	return nil
}

// lookup asks the database, unless it is known that it has no such message.
func (g *stage) lookup(ctx context.Context, task chat.TaskID, id string) (chat.Message, bool, error) {
	g.s.mu.RLock()
	defer g.s.mu.RUnlock()
	if !g.s.known.has(task) {
		if err := g.learn(ctx, task); err != nil {
			return chat.Message{}, false, err
		}
	}
	if g.s.known.lacks(task, id) {
		return chat.Message{}, false, nil
	}
	m, err := one(ctx, g.s.look.one, task, id)
	if errors.Is(err, chat.ErrNotFound) {
		return chat.Message{}, false, nil
	}
	return m, err == nil, err
}

// learn makes the ids of a task's messages known.
func (g *stage) learn(ctx context.Context, task chat.TaskID) error {
	g.s.known.begin(task)
	for id := range g.b.messages[task] {
		g.s.known.add(task, id)
	}
	for id := range g.s.backlog.of(task) {
		g.s.known.add(task, id)
	}
	return g.s.look.eachID(ctx, task, func(id string) { g.s.known.add(task, id) })
}

// look is the connection on which Apply reads.
type look struct {
	db       *sql.DB
	one, ids *sql.Stmt
}

func openLook(ctx context.Context, path string) (l look, err error) {
	if l.db, err = openDB(path, "ro", 1); err != nil {
		return l, err
	}
	return l, prepareAll(ctx, l.db, map[**sql.Stmt]string{
		&l.one: selectOne,
		&l.ids: `SELECT id FROM messages WHERE task = (SELECT key FROM tasks WHERE id = ?) LIMIT ?`,
	})
}

func (l *look) eachID(ctx context.Context, task chat.TaskID, do func(id string)) error {
	rows, err := l.ids.QueryContext(ctx, string(task), maxKnownOf+1)
	if err != nil {
		return fmt.Errorf("reading the message ids of task %s: %w", task, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("reading the message ids of task %s: %w", task, err)
		}
		do(id)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the message ids of task %s: %w", task, err)
	}
	return nil
}
