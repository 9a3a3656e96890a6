// Package store keeps a conversation on disk: messages, the small rows of
// [chat.State] and the applied log index, all of one batch in one SQLite
// transaction.
//
// WAL mode with synchronous=NORMAL: a commit does not wait for the disk, and a
// power loss can take the newest commits back but never tears one. What is
// lost is in the log and is applied again. A checkpoint makes durable what is
// committed; only then may the log be cut.
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
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/samnode/samnode/chat"
)

// ErrCorrupt says that the store failed its check and was moved aside. The
// caller may open again: the store is empty then and is filled from the log
// or from another node.
var ErrCorrupt = errors.New("the message store is corrupt")

// Config opens a store.
type Config struct {
	Path   string       // of the database file; its folder is made
	Logger *slog.Logger // default: none
	// Readers is the number of connections for reading; 0: twice the
	// processors, at least 4.
	Readers int
}

// Store is one open database. Reads may come from any goroutine; batches are
// written by one, see [Machine].
type Store struct {
	path   string
	logger *slog.Logger
	write  *sql.DB // one connection
	read   *sql.DB // read-only
	sync   *sql.DB // one connection, for checkpoints beside the writer
	stmts  statements
	reads  readStatements
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
INSERT OR IGNORE INTO info VALUES ('format', 1), ('applied', 0), ('clean', 1);
`

// format is the version of the schema.
const format = 1

// Open opens or makes the store. After a stop that was not clean it is
// checked; a corrupt one is moved aside and the error wraps ErrCorrupt.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{path: cfg.Path, logger: cfg.Logger}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("making the store's folder: %w", err)
	}
	readers := cfg.Readers
	if readers == 0 {
		readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	err := s.open(ctx, readers)
	if err == nil {
		return s, nil
	}
	_ = s.closeAll() // err says what is wrong
	if isCorrupt(err) {
		aside, moveErr := moveAside(cfg.Path)
		s.logger.Error("the message store is corrupt", "path", cfg.Path, "moved_to", aside, "err", err)
		return nil, errors.Join(fmt.Errorf("opening %s (moved to %s): %w: %w", cfg.Path, aside, ErrCorrupt, err), moveErr)
	}
	return nil, fmt.Errorf("opening %s: %w", cfg.Path, err)
}

func (s *Store) open(ctx context.Context, readers int) (err error) {
	if s.write, err = openDB(s.path, "rwc", 1); err != nil {
		return err
	}
	if _, err := s.write.ExecContext(ctx, schema); err != nil {
		return err
	}
	if err := s.checkInfo(ctx); err != nil {
		return err
	}
	if s.sync, err = openDB(s.path, "rw", 1); err != nil {
		return err
	}
	if s.read, err = openDB(s.path, "ro", readers); err != nil {
		return err
	}
	if err := s.stmts.prepare(ctx, s.write); err != nil {
		return err
	}
	return s.reads.prepare(ctx, s.read)
}

// openDB opens the file with the pragmas that every connection gets.
func openDB(path, mode string, conns int) (*sql.DB, error) {
	cache := 2 << 10 // KiB of each reader
	if mode == "rwc" {
		cache = 16 << 10
	}
	dsn := fmt.Sprintf("file:%s?mode=%s&_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(10000)&_pragma=cache_size(-%d)&_pragma=wal_autocheckpoint(4000)", escapePath(path), mode, cache)
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

// checkInfo reads what the store knows of itself and marks it as in use.
func (s *Store) checkInfo(ctx context.Context) error {
	var got, clean int64
	if err := s.write.QueryRowContext(ctx, `SELECT value FROM info WHERE name = 'format'`).Scan(&got); err != nil {
		return err
	}
	if got != format {
		return fmt.Errorf("the store has format %d and this samnode reads %d: it was written by a newer samnode, upgrade this node", got, format)
	}
	if err := s.write.QueryRowContext(ctx, `SELECT value FROM info WHERE name = 'clean'`).Scan(&clean); err != nil {
		return err
	}
	if clean == 0 {
		if err := s.quickCheck(ctx); err != nil {
			return err
		}
	}
	_, err := s.write.ExecContext(ctx, `UPDATE info SET value = 0 WHERE name = 'clean'`)
	return err
}

// quickCheck walks the database after a stop that was not clean.
func (s *Store) quickCheck(ctx context.Context) error {
	began := time.Now()
	var verdict string
	if err := s.write.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errCheck, verdict)
	}
	s.logger.Info("checked the message store after an unclean stop", "path", s.path, "took", time.Since(began))
	return nil
}

var errCheck = errors.New("the check found damage")

// isCorrupt reports whether the database itself is broken.
func isCorrupt(err error) bool {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		const corrupt, notADB = 11, 26 // SQLITE_CORRUPT, SQLITE_NOTADB
		if c := coded.Code() & 0xff; c == corrupt || c == notADB {
			return true
		}
	}
	return errors.Is(err, errCheck)
}

// moveAside renames the database and its companions to a name that is free.
func moveAside(path string) (string, error) {
	aside := path + ".corrupt"
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s.corrupt-%d", path, n)
	}
	if err := os.Rename(path, aside); err != nil {
		return aside, fmt.Errorf("moving the corrupt store aside: %w", err)
	}
	for _, tail := range []string{"-wal", "-shm"} {
		if err := os.Rename(path+tail, aside+tail); err != nil && !errors.Is(err, os.ErrNotExist) {
			return aside, fmt.Errorf("moving the corrupt store aside: %w", err)
		}
	}
	return aside, nil
}

// Close checkpoints and marks the stop as clean.
func (s *Store) Close() error {
	err := errors.Join(s.read.Close(), s.sync.Close())
	if err == nil {
		_, err = s.write.ExecContext(context.Background(), `UPDATE info SET value = 1 WHERE name = 'clean'`)
	}
	if err == nil {
		_, err = s.write.ExecContext(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
	if err := errors.Join(err, s.closeAll()); err != nil {
		return fmt.Errorf("closing %s: %w", s.path, err)
	}
	return nil
}

func (s *Store) closeAll() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.sync, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// checkpointWait is how long a checkpoint waits for readers of old pages.
const checkpointWait = 30 * time.Second

// checkpoint makes durable what is committed now: it moves the WAL into the
// database and syncs both. Writing goes on meanwhile; a reader that stands on
// older pages holds it up, at most for checkpointWait.
func (s *Store) checkpoint(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkpointWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for want := -1; ; {
		var busy, inLog, moved int
		if err := s.sync.QueryRowContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &inLog, &moved); err != nil {
			return fmt.Errorf("checkpointing %s: %w", s.path, err)
		}
		if want < 0 {
			want = inLog
		}
		if busy == 0 && (moved >= want || moved == inLog) { // a WAL that began anew was moved whole
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("checkpointing %s: a reader held %d of %d pages back: %w", s.path, inLog-moved, inLog, context.Cause(ctx))
		}
	}
}

// Load reads the small rows: the state, committed, and the log index that the
// store has reached.
func (s *Store) Load(ctx context.Context) (*chat.State, uint64, error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, fmt.Errorf("loading the state: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var applied uint64
	if err := tx.QueryRowContext(ctx, `SELECT value FROM info WHERE name = 'applied'`).Scan(&applied); err != nil {
		return nil, 0, fmt.Errorf("reading the applied index: %w", err)
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
	state, err := chat.Load(rows)
	return state, applied, err
}

// Backup writes a whole, compact copy of the store to a file that must not
// exist. Applying goes on meanwhile.
func (s *Store) Backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("writing a copy of the store: %w: %s", os.ErrExist, path)
	}
	db, err := openDB(s.path, "rw", 1) // its own: readers may not write, checkpoints must not wait
	if err != nil {
		return fmt.Errorf("opening the store to copy it: %w", err)
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("writing a copy of the store: %w", err)
	}
	return nil
}
