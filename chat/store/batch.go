package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/samnode/samnode/chat"
)

// statements are those of the writer.
type statements struct {
	get, put, taskKey, newTask, putSmall, dropSmall, applied *sql.Stmt
}

func (p *statements) prepare(ctx context.Context, db *sql.DB) error {
	return prepareAll(ctx, db, map[**sql.Stmt]string{
		&p.get:       `SELECT data FROM messages WHERE task = ? AND id = ?`,
		&p.put:       `INSERT INTO messages (place, task, id, idx, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT (place) DO UPDATE SET id = excluded.id, idx = excluded.idx, data = excluded.data`,
		&p.taskKey:   `SELECT key FROM tasks WHERE id = ?`,
		&p.newTask:   `INSERT INTO tasks (id) VALUES (?)`,
		&p.putSmall:  `INSERT INTO small (kind, id, data) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET data = excluded.data`,
		&p.dropSmall: `DELETE FROM small WHERE kind = ? AND id = ?`,
		&p.applied:   `UPDATE info SET value = ? WHERE name = 'applied'`,
	})
}

func prepareAll(ctx context.Context, db *sql.DB, texts map[**sql.Stmt]string) (err error) {
	for stmt, text := range texts {
		if *stmt, err = db.PrepareContext(ctx, text); err != nil {
			return fmt.Errorf("preparing %q: %w", text, err)
		}
	}
	return nil
}

// batch is one transaction. It is chat.Messages: what is put is kept until the
// end, so a message that grows many times in a batch is written once.
type batch struct {
	ctx   context.Context
	s     *Store
	tx    *sql.Tx
	keys  map[chat.TaskID]int64 // that the store's do not have yet
	held  map[held]chat.Message
	order []held

	committing bool // the commit was tried
}

type held struct {
	task chat.TaskID
	id   string
}

func (s *Store) begin(ctx context.Context) (*batch, error) {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("beginning a transaction: %w", err)
	}
	return &batch{ctx: ctx, s: s, tx: tx, keys: map[chat.TaskID]int64{}, held: map[held]chat.Message{}}, nil
}

// Get returns a message; the batch's own puts come first.
func (b *batch) Get(task chat.TaskID, id string) (chat.Message, bool, error) {
	if m, ok := b.held[held{task, id}]; ok {
		return m.Clone(), true, nil
	}
	key, known, err := b.key(task)
	if err != nil || !known {
		return chat.Message{}, false, err
	}
	var data []byte
	err = b.tx.StmtContext(b.ctx, b.s.stmts.get).QueryRowContext(b.ctx, key, id).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Message{}, false, nil
	}
	if err != nil {
		return chat.Message{}, false, fmt.Errorf("reading message %q: %w", id, err)
	}
	m, err := decodeMessage(data)
	return m, err == nil, err
}

// Put holds a message for the end of the batch.
func (b *batch) Put(m chat.Message) error {
	k := held{m.Task, m.ID}
	if _, ok := b.held[k]; !ok {
		b.order = append(b.order, k)
	}
	b.held[k] = m.Clone()
	return nil
}

// key is the number of a task.
func (b *batch) key(task chat.TaskID) (int64, bool, error) {
	if key, ok := b.s.keys[task]; ok {
		return key, true, nil
	}
	if key, ok := b.keys[task]; ok {
		return key, true, nil
	}
	var key int64
	err := b.tx.StmtContext(b.ctx, b.s.stmts.taskKey).QueryRowContext(b.ctx, string(task)).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("reading the key of task %s: %w", task, err)
	}
	b.keys[task] = key
	return key, true, nil
}

func (b *batch) newKey(task chat.TaskID) (int64, error) {
	res, err := b.tx.StmtContext(b.ctx, b.s.stmts.newTask).ExecContext(b.ctx, string(task))
	if err != nil {
		return 0, fmt.Errorf("writing the key of task %s: %w", task, err)
	}
	key, err := res.LastInsertId()
	b.keys[task] = key
	return key, err
}

// commit writes everything and the applied index.
func (b *batch) commit(rows []chat.Row, applied uint64) error {
	if err := b.flush(); err != nil {
		return err
	}
	put, drop := b.tx.StmtContext(b.ctx, b.s.stmts.putSmall), b.tx.StmtContext(b.ctx, b.s.stmts.dropSmall)
	for _, r := range rows {
		var err error
		if r.Data == nil {
			_, err = drop.ExecContext(b.ctx, r.Kind, r.ID)
		} else {
			_, err = put.ExecContext(b.ctx, r.Kind, r.ID, r.Data)
		}
		if err != nil {
			return fmt.Errorf("writing %s %q: %w", r.Kind, r.ID, err)
		}
	}
	if _, err := b.tx.StmtContext(b.ctx, b.s.stmts.applied).ExecContext(b.ctx, int64(applied)); err != nil {
		return fmt.Errorf("writing the applied index: %w", err)
	}
	b.committing = true
	if err := b.tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	maps.Copy(b.s.keys, b.keys)
	return nil
}

// flush writes the messages that were put.
func (b *batch) flush() error {
	put := b.tx.StmtContext(b.ctx, b.s.stmts.put)
	for _, k := range b.order {
		m := b.held[k]
		key, known, err := b.key(m.Task)
		if err == nil && !known {
			key, err = b.newKey(m.Task)
		}
		if err != nil {
			return err
		}
		data, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encoding message %q: %w", m.ID, err)
		}
		if m.Seq == 0 || m.Seq > maxSeq {
			return fmt.Errorf("message %q has the seq %d", m.ID, m.Seq)
		}
		if _, err := put.ExecContext(b.ctx, place(key, m.Seq), key, m.ID, int64(m.Index), data); err != nil {
			return fmt.Errorf("writing message %q: %w", m.ID, err)
		}
	}
	return nil
}

// maxSeq is what fits beside the task's key.
const maxSeq = 1<<32 - 1

func place(key int64, seq uint64) int64 { return key<<32 | int64(seq) }

func decodeMessage(data []byte) (chat.Message, error) {
	var m chat.Message
	if err := json.Unmarshal(data, &m); err != nil {
		return chat.Message{}, fmt.Errorf("decoding a message: %w", err)
	}
	return m, nil
}
