// Package store keeps a conversation on disk: messages, the small rows of
// [chat.State] and the applied log index, in SQLite.
//
// The log is what is durable, so nobody waits for the database: [Machine]
// applies to memory, readers see that at once through a backlog of what the
// database does not have yet, and one transaction a few times a second brings
// the backlog there, with the index up to which it goes.
//
// WAL mode with synchronous=NORMAL: a commit does not wait for the disk, and a
// power loss can take the newest commits back but never tears one. What is
// lost is in the log and is applied again. A checkpoint makes durable what is
// committed; only then may the log be cut. A copy reads one moment of the store
// while it is written; a restore puts a copy in the store's place.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/samnode/samnode/chat"
)

// Config opens a store.
type Config struct {
	Path   string       // of the database file; its folder is made
	Logger *slog.Logger // default: none
	// Readers is the number of connections for reading; 0: twice the
	// processors, at least 4.
	Readers int
}

// Store is one open database and what it does not have yet. Reads may come from
// any goroutine; one applies, see [Machine].
type Store struct {
	path    string
	logger  *slog.Logger
	readers int

	backlog backlog
	known   *known      // of the goroutine that applies
	timer   *time.Timer // that writes the backlog
	armed   atomic.Bool // it will

	// writing is held by who writes to the database or replaces its file; it is
	// taken before mu.
	writing sync.Mutex

	// mu is held for writing while the file is replaced, and for reading by
	// whoever else but the writer uses the connections.
	mu sync.RWMutex
	conns
	shut bool // the connections are closed

	pinsMu sync.Mutex
	pins   map[*pin]struct{} // whose transactions are open
}

// conns are the connections to one file.
type conns struct {
	write *sql.DB // one connection
	read  *sql.DB // read-only
	sync  *sql.DB // one connection, for checkpoints beside the writer
	look  look
	stmts statements
	reads readStatements
	keys  map[chat.TaskID]int64 // committed, of the tasks that were written to; the writer's
}

const schema = `
CREATE TABLE IF NOT EXISTS info (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS small (kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS messages (
	place INTEGER PRIMARY KEY, -- task key << 32 | seq: a page is one run of neighbours
	task  INTEGER NOT NULL,
	id    TEXT NOT NULL,
	idx   INTEGER NOT NULL,    -- log index of the last change
	data  BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS messages_id ON messages (task, id);
CREATE INDEX IF NOT EXISTS messages_idx ON messages (task, idx);
INSERT OR IGNORE INTO info VALUES ('format', 2), ('applied', 0), ('clean', 1);
`

// format is the version of the schema and of the rows.
const format = 2

// Open opens or makes the store. After a stop that was not clean it is
// checked; a corrupt one is moved aside and the error wraps ErrCorrupt.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{path: cfg.Path, logger: cfg.Logger, readers: cfg.Readers, known: newKnown(), pins: map[*pin]struct{}{}}
	s.backlog.clear()
	s.timer = time.AfterFunc(time.Hour, s.writeSoon)
	s.timer.Stop()
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.readers == 0 {
		s.readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("making the store's folder: %w", err)
	}
	if err := removeLeftovers(cfg.Path); err != nil {
		return nil, fmt.Errorf("removing half-made copies of the store: %w", err)
	}
	var err error
	if s.conns, err = s.connect(ctx); err == nil {
		return s, nil
	}
	if isCorrupt(err) {
		aside, moveErr := moveAside(cfg.Path)
		s.logger.Error("the message store is corrupt", "path", cfg.Path, "moved_to", aside, "err", err)
		return nil, errors.Join(fmt.Errorf("opening %s (moved to %s): %w: %w", cfg.Path, aside, ErrCorrupt, err), moveErr)
	}
	return nil, fmt.Errorf("opening %s: %w", cfg.Path, err)
}

// connect opens the connections to the file and marks it as in use.
func (s *Store) connect(ctx context.Context) (_ conns, err error) {
	c := conns{keys: map[chat.TaskID]int64{}}
	defer func() {
		if err != nil {
			_ = c.close() // err says what is wrong
		}
	}()
	if c.write, err = openDB(s.path, "rwc", 1); err != nil {
		return c, err
	}
	if _, err := c.write.ExecContext(ctx, schema); err != nil {
		return c, err
	}
	if err := s.checkInfo(ctx, c.write); err != nil {
		return c, err
	}
	if c.sync, err = openDB(s.path, "rw", 1); err != nil {
		return c, err
	}
	if c.read, err = openDB(s.path, "ro", s.readers); err != nil {
		return c, err
	}
	if c.look, err = openLook(ctx, s.path); err != nil {
		return c, err
	}
	if err := c.stmts.prepare(ctx, c.write); err != nil {
		return c, err
	}
	return c, c.reads.prepare(ctx, c.read)
}

// walKept is the size to which a WAL that grew while a reader stood on old
// pages is cut again.
const walKept = 64 << 20

// openDB opens the file with the pragmas that every connection gets.
func openDB(path, mode string, conns int) (*sql.DB, error) {
	cache := 2 << 10 // KiB of each reader
	if mode == "rwc" {
		cache = 16 << 10
	}
	dsn := fmt.Sprintf("file:%s?mode=%s&_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(10000)&_pragma=cache_size(-%d)&_pragma=wal_autocheckpoint(4000)&_pragma=journal_size_limit(%d)", escapePath(path), mode, cache, walKept)
	if mode == "ro" {
		dsn = fmt.Sprintf("file:%s?mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(10000)&_pragma=cache_size(-%d)", escapePath(path), cache)
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(0)
	return db, nil
}

func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

// Close writes the backlog, checkpoints and marks the stop as clean.
func (s *Store) Close() error {
	unpinned := s.unpin(errClosed)
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.flushLocked(context.Background()); err != nil && !errors.Is(err, errShut) {
		unpinned = errors.Join(unpinned, err)
	}
	s.timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return unpinned
	}
	s.shut = true
	err := errors.Join(unpinned, s.read.Close(), s.sync.Close(), s.look.db.Close())
	if err == nil {
		_, err = s.write.ExecContext(context.Background(), `UPDATE info SET value = 1 WHERE name = 'clean'`)
	}
	if err == nil {
		_, err = s.write.ExecContext(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
	if err := errors.Join(err, s.close()); err != nil {
		return fmt.Errorf("closing %s: %w", s.path, err)
	}
	return nil
}

func (c *conns) close() error {
	var errs []error
	for _, db := range []*sql.DB{c.read, c.sync, c.look.db, c.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Load reads the small rows: the state, committed, and the log index that the
// store has reached.
func (s *Store) Load(ctx context.Context) (*chat.State, uint64, error) {
	if err := s.flush(ctx); err != nil {
		return nil, 0, fmt.Errorf("loading the state: %w", err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return load(ctx, s.read)
}

func load(ctx context.Context, db *sql.DB) (*chat.State, uint64, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, fmt.Errorf("loading the state: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	applied, err := info(ctx, tx, "applied")
	if err != nil {
		return nil, 0, err
	}
	found, err := tx.QueryContext(ctx, `SELECT kind, id, data FROM small`)
	if err != nil {
		return nil, 0, fmt.Errorf("loading the state: %w", err)
	}
	defer found.Close()
	var rows []chat.Row
	for found.Next() {
		var r chat.Row
		if err := found.Scan(&r.Kind, &r.ID, &r.Data); err != nil {
			return nil, 0, fmt.Errorf("loading the state: %w", err)
		}
		rows = append(rows, r)
	}
	if err := found.Err(); err != nil {
		return nil, 0, fmt.Errorf("loading the state: %w", err)
	}
	if err := found.Close(); err != nil { // before the texts are read
		return nil, 0, fmt.Errorf("loading the state: %w", err)
	}
	state, err := chat.Load(rows, func(task chat.TaskID, id string) (string, error) {
		var data []byte
		err := tx.QueryRowContext(ctx, `SELECT data FROM messages WHERE task = (SELECT key FROM tasks WHERE id = ?) AND id = ?`, string(task), id).Scan(&data)
		if err != nil {
			return "", err
		}
		m, err := decodeMessage(data)
		return m.Text, err
	})
	return state, uint64(applied), err
}
