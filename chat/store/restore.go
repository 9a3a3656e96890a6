package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/samnode/samnode/chat"
)

// What stands beside the store for a while carries its name and a mark.
const (
	copyMark    = ".copy-"
	restoreMark = ".restore"
)

// companions are the files that SQLite keeps beside a database in use.
var companions = []string{"-wal", "-shm", "-journal"}

// Restore accepts a manifest that this store has reached. One above it with
// the database behind it replaces the store: readers wait meanwhile, and a
// crash leaves the old store or the new one. Without it the error is an
// ErrBehind: the messages are not in it.
func (m *Machine) Restore(r io.Reader) error {
	if m.dead != nil {
		return m.dead
	}
	in := bufio.NewReader(r)
	got, err := readManifest(in)
	switch {
	case err != nil:
		return fmt.Errorf("reading the manifest: %w", err)
	case got.Format != format:
		return fmt.Errorf("the manifest: %w", otherFormat(int64(got.Format)))
	case got.Index <= m.Applied():
		return nil
	case got.Bytes == 0:
		return fmt.Errorf("the snapshot is at index %d, the store at %d: %w", got.Index, m.Applied(), ErrBehind)
	}
	if err := m.replace(context.Background(), in, got); err != nil {
		return fmt.Errorf("restoring the store at index %d: %w", got.Index, err)
	}
	return nil
}

// readManifest reads the line that a snapshot or a copy begins with.
func readManifest(r *bufio.Reader) (manifest, error) {
	line, err := r.ReadSlice('\n') // bounded by the reader's buffer
	if err != nil && err != io.EOF {
		return manifest{}, err
	}
	var got manifest
	if err := json.Unmarshal(line, &got); err != nil {
		return manifest{}, err
	}
	if got.Bytes < 0 {
		return manifest{}, fmt.Errorf("a database of %d bytes", got.Bytes)
	}
	return got, nil
}

// replace puts the database that r holds in the place of the store.
func (m *Machine) replace(ctx context.Context, r io.Reader, got manifest) error {
	s := m.store
	fresh := s.path + restoreMark
	if err := receive(r, fresh, got.Bytes); err != nil {
		return errors.Join(err, removeDB(fresh))
	}
	state, err := verify(ctx, fresh, got.Index)
	if err == nil {
		err = s.swap(ctx, fresh)
	}
	if err != nil {
		if s.isShut() {
			m.dead = fmt.Errorf("%w: %w", ErrDead, err)
			err = m.dead
		}
		return errors.Join(err, removeDB(fresh))
	}
	m.state = state
	m.applied.Store(got.Index)
	if m.room != nil {
		m.room.Reset(state, got.Index)
	}
	s.logger.Info("restored the message store", "path", s.path, "index", got.Index, "bytes", got.Bytes)
	return nil
}

// receive writes the database to a file, durably.
func receive(r io.Reader, path string, size int64) error {
	if err := checkRoom(filepath.Dir(path), size); err != nil {
		return err
	}
	if err := removeDB(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyN(f, r, size)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the database ends after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// verify checks a database that came from elsewhere, marks it as whole and
// returns its state.
func verify(ctx context.Context, path string, index uint64) (_ *chat.State, err error) {
	db, err := openDB(path, "rw", 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := quickCheck(ctx, db); err != nil {
		return nil, err
	}
	if err := checkFormat(ctx, db); err != nil {
		return nil, err
	}
	state, applied, err := load(ctx, db)
	if err != nil {
		return nil, err
	}
	if applied != index {
		return nil, fmt.Errorf("the database is at index %d, its manifest says %d", applied, index)
	}
	for _, q := range []string{`UPDATE info SET value = 1 WHERE name = 'clean'`, `PRAGMA wal_checkpoint(TRUNCATE)`} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return nil, err
		}
	}
	return state, nil
}

// swap replaces the file of the store by another while nobody reads. Copies
// that are being made end.
func (s *Store) swap(ctx context.Context, fresh string) error {
	if err := s.unpin(errReplaced); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, step := range s.swapSteps(fresh) {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// swapSteps are the steps of a swap. A crash between any two leaves one whole
// store: before the rename the old one, which needs no WAL from the first step
// on, then the new one, which has none.
func (s *Store) swapSteps(fresh string) []func(context.Context) error {
	return []func(context.Context) error{
		s.emptyWALLocked,
		func(context.Context) error {
			s.shut = true
			return s.close()
		},
		func(context.Context) error { // the old WAL must never meet the new file
			return errors.Join(alone(fresh), alone(s.path), syncDir(s.path))
		},
		func(context.Context) error { return os.Rename(fresh, s.path) },
		func(context.Context) error { return syncDir(s.path) },
		func(ctx context.Context) error {
			c, err := s.connect(ctx)
			if err == nil {
				s.conns, s.shut, s.known = c, false, newKnown()
				s.backlog.clear() // the new file is ahead of it
			}
			return err
		},
	}
}

// emptyWALLocked moves the whole WAL into the database and cuts it.
func (s *Store) emptyWALLocked(ctx context.Context) error {
	var busy, inLog, moved int
	if err := s.write.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &inLog, &moved); err != nil {
		return fmt.Errorf("emptying the WAL: %w", err)
	}
	if busy != 0 {
		return errors.New("emptying the WAL: somebody reads the store")
	}
	return nil
}

func (s *Store) isShut() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shut
}

// alone says that a closed database has nothing beside it: SQLite removes the
// WAL when the last connection is closed.
func alone(path string) error {
	for _, tail := range companions {
		if _, err := os.Lstat(path + tail); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s is in use by another program", path), err)
		}
	}
	return nil
}

// removeDB removes a database and what stands beside it.
func removeDB(path string) error {
	var errs []error
	for _, tail := range append([]string{""}, companions...) {
		if err := os.Remove(path + tail); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeLeftovers removes what a crash left of copies and restores.
func removeLeftovers(path string) error {
	found, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range found {
		rest, ours := strings.CutPrefix(f.Name(), filepath.Base(path))
		if ours && (strings.HasPrefix(rest, copyMark) || strings.HasPrefix(rest, restoreMark)) {
			errs = append(errs, os.Remove(filepath.Join(filepath.Dir(path), f.Name())))
		}
	}
	return errors.Join(errs...)
}

// syncDir makes the names in a file's folder durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// roomKept is what a copy leaves free on the disk: for the log, which stops
// this node when it cannot be written.
const roomKept = 128 << 20

// checkRoom refuses what would fill the disk.
func checkRoom(dir string, size int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("reading how full the disk is: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < size+roomKept {
		return fmt.Errorf("the disk has %d MiB free and a copy of the store needs %d MiB: free some space", free>>20, (size+roomKept)>>20)
	}
	return nil
}
