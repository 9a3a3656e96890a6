package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"modernc.org/sqlite"
)

// Why a copy ended before it was made.
var (
	errReplaced = errors.New("the store was replaced while it was copied")
	errClosed   = errors.New("the store was closed while it was copied")
	errReleased = errors.New("the copy was released")
)

// Copy pins what the store has now, at the cost of one connection. WriteTo of
// what it returns writes the manifest, a line, and behind it the database as
// it was, while Apply goes on; [Machine.Restore] of another node takes both.
// It is also an io.Closer, which must be called: until WriteTo has read the
// database or Close is called, the WAL grows.
func (m *Machine) Copy() (io.WriterTo, error) {
	if m.dead != nil {
		return nil, m.dead
	}
	if err := m.store.flush(context.Background()); err != nil {
		return nil, fmt.Errorf("writing the store to copy it: %w", err)
	}
	p, err := m.store.pin(context.Background(), m.Applied())
	if err != nil {
		return nil, fmt.Errorf("pinning the store to copy it: %w", err)
	}
	return &copied{pin: p, manifest: manifest{Format: format, Index: m.Applied()}}, nil
}

// copied is a copy of the store at one index. Its methods are called one at a
// time.
type copied struct {
	pin      *pin
	manifest manifest
	file     *os.File // of the copy, without a name; nil: not made yet
}

// WriteTo makes the copy in a file beside the store, lets go of the pin, and
// writes manifest and copy. However slow w is, it holds up nothing.
func (c *copied) WriteTo(w io.Writer) (int64, error) {
	if c.file == nil {
		var err error
		if c.file, err = c.pin.copyAside(); err != nil {
			return 0, fmt.Errorf("copying the store at index %d: %w", c.manifest.Index, err)
		}
	}
	st, err := c.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("reading the copy of the store: %w", err)
	}
	c.manifest.Bytes = st.Size()
	line, err := json.Marshal(c.manifest)
	if err != nil {
		return 0, fmt.Errorf("encoding the manifest: %w", err)
	}
	n, err := w.Write(append(line, '\n'))
	if err != nil {
		return int64(n), fmt.Errorf("writing the manifest: %w", err)
	}
	sent, err := io.Copy(w, io.NewSectionReader(c.file, 0, c.manifest.Bytes))
	if err == nil && sent != c.manifest.Bytes {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return int64(n) + sent, fmt.Errorf("writing the copy of the store: %w", err)
	}
	return int64(n) + sent, nil
}

// Close lets go of the pin and of the copy.
func (c *copied) Close() error {
	err := c.pin.release(errReleased)
	if c.file != nil {
		err = errors.Join(err, c.file.Close())
	}
	return err
}

// pin is a read transaction on a connection of its own: what the store had at
// one index. The lock is held for each use, so that who replaces the store can
// take it away in between.
type pin struct {
	store *Store

	mu     sync.Mutex
	db     *sql.DB
	conn   *sql.Conn
	backup *sqlite.Backup // nil: none is being made
	ended  error          // why it was released; nil: it is held
}

// pin begins a transaction that sees the store at that index.
func (s *Store) pin(ctx context.Context, index uint64) (*pin, error) {
	db, err := openDB(s.path, "ro", 1)
	if err != nil {
		return nil, err
	}
	p := &pin{store: s, db: db}
	if err := p.begin(ctx, index); err != nil {
		return nil, errors.Join(err, p.release(errReleased))
	}
	s.pinsMu.Lock()
	defer s.pinsMu.Unlock()
	s.pins[p] = struct{}{}
	return p, nil
}

func (p *pin) begin(ctx context.Context, index uint64) (err error) {
	if p.conn, err = p.db.Conn(ctx); err != nil {
		return err
	}
	if _, err := p.conn.ExecContext(ctx, `BEGIN`); err != nil {
		return err
	}
	applied, err := info(ctx, p.conn, "applied") // the first read is what takes the snapshot
	if err == nil && uint64(applied) != index {
		err = fmt.Errorf("the store is at index %d, want %d", applied, index)
	}
	return err
}

// release ends the transaction, for the reason that later uses are told. A
// second call changes nothing.
func (p *pin) release(why error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.releaseLocked(why)
}

func (p *pin) releaseLocked(why error) error {
	if p.ended != nil {
		return nil
	}
	p.ended = why
	var errs []error
	if p.backup != nil {
		p.backup.Finish() //nolint:errcheck // it was given up, or has said what is wrong
	}
	if p.conn != nil {
		_, err := p.conn.ExecContext(context.Background(), `ROLLBACK`)
		errs = append(errs, err, p.conn.Close())
	}
	errs = append(errs, p.db.Close())
	p.store.pinsMu.Lock()
	defer p.store.pinsMu.Unlock()
	delete(p.store.pins, p)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("releasing the copied store: %w", err)
	}
	return nil
}

// unpin releases all pins.
func (s *Store) unpin(why error) error {
	s.pinsMu.Lock()
	var all []*pin
	for p := range s.pins {
		all = append(all, p)
	}
	s.pinsMu.Unlock()
	var errs []error
	for _, p := range all {
		errs = append(errs, p.release(why))
	}
	return errors.Join(errs...)
}

// pinned reports whether a copy is being made or about to be.
func (s *Store) pinned() bool {
	s.pinsMu.Lock()
	defer s.pinsMu.Unlock()
	return len(s.pins) > 0
}

// copyAside makes the copy in a file that has no name any more when it is
// returned, and releases the pin, whatever comes of it.
func (p *pin) copyAside() (_ *os.File, err error) {
	defer func() { err = errors.Join(err, p.release(errReleased)) }()
	f, err := os.CreateTemp(filepath.Dir(p.store.path), filepath.Base(p.store.path)+copyMark+"*")
	if err != nil {
		return nil, err
	}
	err = p.fill(f.Name())
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// stepPages is how many pages are copied before others may use the lock: a few
// milliseconds' worth.
const stepPages = 256

// fill copies page by page into the file. It needs no journal and no sync: a
// copy that was not finished is thrown away.
func (p *pin) fill(path string) error {
	err := p.use(func() error {
		if err := p.checkRoom(); err != nil {
			return err
		}
		return p.conn.Raw(func(raw any) (err error) {
			c, ok := raw.(interface {
				NewBackup(dst string) (*sqlite.Backup, error)
			})
			if !ok {
				return fmt.Errorf("the driver's %T makes no copies", raw)
			}
			p.backup, err = c.NewBackup("file:" + escapePath(path) + "?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=cache_size(-2048)")
			return err
		})
	})
	for more := true; more && err == nil; {
		err = p.use(func() (err error) {
			more, err = p.backup.Step(stepPages)
			return err
		})
	}
	if err != nil {
		return err
	}
	return p.use(func() error {
		b := p.backup
		p.backup = nil
		return b.Finish()
	})
}

// use does something with the transaction unless it has ended.
func (p *pin) use(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return p.ended
	}
	return do()
}

// checkRoom refuses a copy that would fill the disk: the log needs it, too.
func (p *pin) checkRoom() error {
	var pages, size int64
	ctx := context.Background()
	if err := p.conn.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages); err != nil {
		return err
	}
	if err := p.conn.QueryRowContext(ctx, `PRAGMA page_size`).Scan(&size); err != nil {
		return err
	}
	return checkRoom(filepath.Dir(p.store.path), pages*size)
}
