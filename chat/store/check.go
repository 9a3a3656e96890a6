package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/samnode/samnode/chat"
)

// ErrCorrupt says that the store failed its check and was moved aside. The
// caller may open again: the store is empty then and is filled from the log
// or from another node.
var ErrCorrupt = errors.New("the message store is corrupt")

// checkInfo reads what the store knows of itself and marks it as in use.
func (s *Store) checkInfo(ctx context.Context, db *sql.DB) error {
	if err := checkFormat(ctx, db); err != nil {
		return err
	}
	clean, err := info(ctx, db, "clean")
	if err != nil {
		return err
	}
	if clean == 0 {
		began := time.Now()
		if err := quickCheck(ctx, db); err != nil {
			return err
		}
		s.logger.Info("checked the message store after an unclean stop", "path", s.path, "took", time.Since(began))
	}
	_, err = db.ExecContext(ctx, `UPDATE info SET value = 0 WHERE name = 'clean'`)
	return err
}

// querier is a database, a connection or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func info(ctx context.Context, q querier, name string) (value int64, err error) {
	if err := q.QueryRowContext(ctx, `SELECT value FROM info WHERE name = ?`, name).Scan(&value); err != nil {
		return 0, fmt.Errorf("reading the store's %s: %w", name, err)
	}
	return value, nil
}

func checkFormat(ctx context.Context, q querier) error {
	got, err := info(ctx, q, "format")
	if err == nil && got != format {
		err = fmt.Errorf("the store: %w", otherFormat(got))
	}
	return err
}

// otherFormat says of what is not of this format what to do with it.
func otherFormat(got int64) error {
	if got > format {
		return fmt.Errorf("its format is %d and this samnode reads %d: it was %w", got, format, chat.ErrNewer)
	}
	return fmt.Errorf("its format is %d and this samnode reads %d: it was written by an older samnode, start that one", got, format)
}

// quickCheck walks the whole database.
func quickCheck(ctx context.Context, q querier) error {
	var verdict string
	if err := q.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errCheck, verdict)
	}
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
