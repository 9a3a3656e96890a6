package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// snapshotStore is Raft's store of snapshots on disk. Most of them only name
// what a Copier's own store holds, so when the leader opens one to send it,
// what it gets is a whole copy made at that moment. A whole one that this node
// was sent itself goes on as it is.
type snapshotStore struct {
	*raft.FileSnapshotStore
	dir    string // for whole copies
	log    *logStore
	source copySource // nil until Raft runs: everything is opened as it is

	making chan struct{} // full while a copy is made: one at a time

	mu      sync.Mutex
	current *wholeCopy // that somebody reads, or did just now
	keep    uint64     // the log is kept from here on for a copy; 0: there is none
	mine    string     // id of the snapshot that this node was sent last
}

// copySource is what a snapshotStore needs of its Log.
type copySource interface {
	// copies tells whether a snapshot is of no use to another node.
	copies() bool
	// pin returns an entry up to which everything is applied, as leader.
	pin() (index, term uint64, err error)
	// capture captures all machines whole, at pos or later.
	capture(index, term uint64) (*fsmSnapshot, position, error)
	// leading returns an error once this node does not lead any more.
	leading() error
	// newer tells whether index is beyond what this node has applied: of a
	// snapshot that it is sent.
	newer(index uint64) (bool, error)
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, config raft.Configuration, configIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sent := false
	if s.source != nil {
		var err error
		if sent, err = s.source.newer(index); err != nil {
			return nil, err
		}
	}
	if sent {
		// Raft would drop the log and still think that it ends behind the
		// snapshot, and refuse every entry from then on. The leader's next copy
		// is newer.
		if last, err := s.log.LastIndex(); err != nil || last >= index {
			return nil, errors.Join(fmt.Errorf("the snapshot goes to entry %d, the log here to %d", index, last), err)
		}
	}
	sink, err := s.FileSnapshotStore.Create(version, index, term, config, configIndex, trans)
	if err != nil || !sent {
		return sink, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mine = sink.ID()
	return sink, nil
}

// Open implements raft.SnapshotStore. Raft opens a snapshot to send it, and
// one that it was sent to restore it.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	mine := s.mine == id
	s.mu.Unlock()
	meta, r, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); !ok { // it was read, and is not what was written
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	if mine || s.source == nil || !s.source.copies() {
		return meta, &opened{r, meta}, nil
	}
	var b [headSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("snapshot %s: %w", id, noEOF(err)), r.Close())
	}
	head, err := readHead(bytes.NewReader(b[:]))
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	if head.whole {
		return meta, &opened{replayed{io.MultiReader(bytes.NewReader(b[:]), r), r}, meta}, nil
	}
	if err := r.Close(); err != nil {
		return nil, nil, err
	}
	return s.openWhole()
}

// replayed reads what was already read once more.
type replayed struct {
	io.Reader
	io.Closer
}

// opened is a snapshot that is read. Raft hands it to the fsm wrapped.
type opened struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

// metaOf finds out what a reader that Raft handed over is of; nil: unknown.
func metaOf(r io.ReadCloser) *raft.SnapshotMeta {
	for {
		switch x := r.(type) {
		case *opened:
			return x.meta
		case raft.ReadCloserWrapper:
			r = x.WrappedReadCloser()
		default:
			return nil
		}
	}
}

// wholeCopy is a whole copy in a file that has no name any more, so that
// nothing is left of it once it is closed.
type wholeCopy struct {
	meta    raft.SnapshotMeta
	file    *os.File
	readers int
	unread  *time.Timer // drops it; nil while somebody reads it
}

// linger is how long a copy is kept that nobody reads: sending it may have
// failed, and is tried again.
const linger = time.Minute

// openWhole makes a whole copy, or shares the one that there is.
func (s *snapshotStore) openWhole() (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.making <- struct{}{}
	defer func() { <-s.making }()
	c, err := s.share()
	if err != nil {
		return nil, nil, err
	}
	if c == nil {
		if c, err = s.makeWhole(); err != nil {
			s.mu.Lock()
			s.keep = 0
			s.mu.Unlock()
			return nil, nil, fmt.Errorf("copying the machines: %w", err)
		}
	}
	meta := c.meta
	return &meta, &opened{&copyReader{Reader: io.NewSectionReader(c.file, 0, meta.Size), store: s, copy: c}, &meta}, nil
}

// share returns the copy that there is, with one reader more. One that the log
// does not go on from is of no use: while this node did not lead nothing was
// kept for it.
func (s *snapshotStore) share() (*wholeCopy, error) {
	first, err := s.log.FirstIndex()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.current
	if c == nil {
		return nil, nil
	}
	if c.meta.Index+1 < first {
		s.current, s.keep = nil, 0
		s.dropLocked(c)
		return nil, nil
	}
	c.readers++
	if c.unread != nil {
		c.unread.Stop()
		c.unread = nil
	}
	return c, nil
}

func (s *snapshotStore) makeWhole() (*wholeCopy, error) {
	index, term, err := s.source.pin()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.keep = index
	s.mu.Unlock()
	snap, pos, err := s.source.capture(index, term)
	if err != nil {
		return nil, err
	}
	defer snap.Release()
	file, err := s.tempFile()
	if err != nil {
		return nil, err
	}
	if err := snap.write(&checkedWriter{w: file, check: s.source.leading}); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	c := &wholeCopy{file: file, readers: 1, meta: raft.SnapshotMeta{
		Version:            raft.SnapshotVersionMax,
		ID:                 fmt.Sprintf("copy-%d-%d", pos.term, pos.index),
		Index:              pos.index,
		Term:               pos.term,
		Configuration:      pos.config,
		ConfigurationIndex: pos.configIndex,
		Size:               size,
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = c
	return c, nil
}

// tempFile is a new file without a name.
func (s *snapshotStore) tempFile() (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(s.dir, "copy-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// kept is the first entry that a copy needs the log to keep.
func (s *snapshotStore) kept() (index uint64, any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep, s.keep > 0
}

// copyReader lets go of its copy when it is closed.
type copyReader struct {
	io.Reader
	store *snapshotStore
	copy  *wholeCopy
	once  sync.Once
}

// Close implements io.Closer.
func (r *copyReader) Close() error {
	r.once.Do(func() {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		switch r.copy.readers--; {
		case r.copy.readers > 0:
		case r.store.current == r.copy:
			r.copy.unread = time.AfterFunc(linger, r.store.drop)
		default:
			r.store.dropLocked(r.copy)
		}
	})
	return nil
}

// drop closes the copy that nobody reads.
func (s *snapshotStore) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.current; c != nil && c.readers == 0 {
		s.current, s.keep = nil, 0
		s.dropLocked(c)
	}
}

// dropLocked closes a copy that is not the current one, once nobody reads it.
func (s *snapshotStore) dropLocked(c *wholeCopy) {
	if c.unread != nil {
		c.unread.Stop()
	}
	if c.readers == 0 {
		c.file.Close() // it was only read by now
	}
}

// checkedWriter stops writing when check fails.
type checkedWriter struct {
	w     io.Writer
	check func() error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// The rest is what a Log does as a copySource.

func (l *Log) copies() bool { return l.fsm.copies() }

func (l *Log) pin() (index, term uint64, err error) {
	if err := l.leading(); err != nil {
		return 0, 0, err
	}
	// What was applied is committed. Nothing more can be committed, maybe,
	// before the node that the copy is for has it.
	l.fsm.mu.Lock()
	defer l.fsm.mu.Unlock()
	return l.fsm.pos.index, l.fsm.pos.term, nil
}

func (l *Log) capture(index, term uint64) (*fsmSnapshot, position, error) {
	l.fsm.mu.Lock()
	defer l.fsm.mu.Unlock()
	pos := l.fsm.pos
	if pos.index < index {
		pos.index, pos.term = index, term // what lies between is Raft's own
	}
	for name, done := range l.fsm.done {
		if done > pos.index {
			return nil, pos, fmt.Errorf("machine %s is at entry %d, the others at %d", name, done, pos.index)
		}
	}
	snap, err := l.fsm.captureLocked(true)
	return snap, pos, err
}

func (l *Log) leading() error {
	if l.life.Err() != nil {
		return ErrClosed
	}
	if l.raft.State() != raft.Leader {
		return ErrLeadershipLost
	}
	return nil
}

func (l *Log) newer(index uint64) (bool, error) {
	<-l.opened // Raft works before NewRaft returns
	if l.raft == nil {
		return false, ErrClosed
	}
	return index > l.raft.AppliedIndex(), nil
}

// keepFrom is the first entry that another node needs the log to keep. One that
// does not catch up although it is there must not fill the disk.
func (l *Log) keepFrom() (uint64, bool) {
	<-l.opened // Raft works before NewRaft returns
	if l.raft == nil || l.raft.State() != raft.Leader {
		return 0, false
	}
	index, any := l.stores.snaps.kept()
	if base, ok := l.wire.peers.base(); ok && (!any || base < index) {
		index, any = base, true
	}
	return index, any && index+max(mostKept, 32*l.conf.Trailing) > l.raft.LastIndex()
}

// mostKept is how many entries are kept for others at least, if they need them.
const mostKept = 1 << 18

// sweepCopies removes what a killed process left of copies.
func sweepCopies(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "copy-*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
