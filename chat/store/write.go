package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/samnode/samnode/chat"
)

// When the backlog is written to the database. An item that grows all the time
// is written once for each time; what is not written when the node dies comes
// from the log again.
const (
	writeEvery = time.Second
	writeAt    = 8 << 20  // bytes in the backlog: at once
	backlogMax = 16 << 20 // bytes in the backlog: whoever applies waits
)

// statements are those of the writer.
type statements struct {
	put, taskKey, newTask, putSmall, dropSmall, applied *sql.Stmt
}

func (p *statements) prepare(ctx context.Context, db *sql.DB) error {
	return prepareAll(ctx, db, map[**sql.Stmt]string{
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

// soon sees to it that the backlog is written, at once or in a while.
func (s *Store) soon() {
	bytes, failed := s.backlog.waits()
	if bytes >= writeAt && failed == nil {
		s.timer.Reset(0)
	} else if s.armed.CompareAndSwap(false, true) {
		s.timer.Reset(writeEvery)
	}
}

// makeRoom waits for the database when too much waits for it, and asks it again
// when it could not be written.
func (s *Store) makeRoom() error {
	if bytes, failed := s.backlog.waits(); bytes < backlogMax && failed == nil {
		return nil
	}
	return s.flush(context.Background())
}

// writeSoon is what the timer calls.
func (s *Store) writeSoon() {
	s.armed.Store(false)
	if err := s.flush(context.Background()); err != nil && !errors.Is(err, errShut) {
		s.logger.Error("writing the message store", "path", s.path, "err", err)
		s.soon()
	}
}

var errShut = errors.New("the message store is closed")

// flush writes the backlog, all of it in one transaction. What failed stays in
// the backlog and is written the next time: a block may be written twice.
func (s *Store) flush(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.flushLocked(ctx)
}

// flushLocked is flush for who has s.writing.
func (s *Store) flushLocked(ctx context.Context) error {
	if s.isShut() {
		return errShut
	}
	b := s.backlog.take()
	if b == nil {
		return nil
	}
	err := s.writeBlock(ctx, b)
	s.backlog.wrote(err)
	return err
}

func (s *Store) writeBlock(ctx context.Context, b *block) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	w := &writer{ctx: ctx, s: s, tx: tx, keys: map[chat.TaskID]int64{}}
	if err := w.block(b); err != nil {
		if rollback := tx.Rollback(); rollback != nil {
			s.logger.Debug("rolling back", "err", rollback) // a full disk ends the transaction by itself
		}
		return err
	}
	for task, key := range w.keys {
		s.keys[task] = key
	}
	return nil
}

// writer writes one block in a transaction.
type writer struct {
	ctx  context.Context
	s    *Store
	tx   *sql.Tx
	keys map[chat.TaskID]int64 // that the store's do not have yet
}

func (w *writer) block(b *block) error {
	if err := w.messages(b); err != nil {
		return err
	}
	if err := w.edits(b); err != nil {
		return err
	}
	if _, err := w.tx.StmtContext(w.ctx, w.s.stmts.applied).ExecContext(w.ctx, int64(b.applied)); err != nil {
		return fmt.Errorf("writing the applied index: %w", err)
	}
	if err := w.tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// placed is a message and where it belongs.
type placed struct {
	key   int64
	place int64
	*chat.Message
}

// messages writes them in the order of their places.
func (w *writer) messages(b *block) error {
	var all []placed
	for task, of := range b.messages {
		key, err := w.key(task)
		if err != nil {
			return err
		}
		for _, m := range of {
			all = append(all, placed{key, place(key, m.Seq), m})
		}
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	put := w.tx.StmtContext(w.ctx, w.s.stmts.put)
	for _, m := range all {
		data, err := json.Marshal(m.Message)
		if err != nil {
			return fmt.Errorf("encoding message %q: %w", m.ID, err)
		}
		if _, err := put.ExecContext(w.ctx, m.place, m.key, m.ID, int64(m.Index), data); err != nil {
			return fmt.Errorf("writing message %q: %w", m.ID, err)
		}
	}
	return nil
}

// edits writes the small rows.
func (w *writer) edits(b *block) error {
	put, drop := w.tx.StmtContext(w.ctx, w.s.stmts.putSmall), w.tx.StmtContext(w.ctx, w.s.stmts.dropSmall)
	for _, e := range b.edits {
		r, err := e.Row()
		if err != nil {
			return err
		}
		if r.Data == nil {
			_, err = drop.ExecContext(w.ctx, r.Kind, r.ID)
		} else {
			_, err = put.ExecContext(w.ctx, r.Kind, r.ID, r.Data)
		}
		if err != nil {
			return fmt.Errorf("writing %s %q: %w", r.Kind, r.ID, err)
		}
	}
	return nil
}

// key is the number of a task, a new one when it has none.
func (w *writer) key(task chat.TaskID) (int64, error) {
	if key, ok := w.s.keys[task]; ok {
		return key, nil
	}
	var key int64
	err := w.tx.StmtContext(w.ctx, w.s.stmts.taskKey).QueryRowContext(w.ctx, string(task)).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		var res sql.Result
		if res, err = w.tx.StmtContext(w.ctx, w.s.stmts.newTask).ExecContext(w.ctx, string(task)); err == nil {
			key, err = res.LastInsertId()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("numbering task %s: %w", task, err)
	}
	w.keys[task] = key
	return key, nil
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
