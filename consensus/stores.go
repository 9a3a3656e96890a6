package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	snapshotsKept = 2
	lockWait      = time.Second // for another process to let go of the state
)

// stores are what a node keeps of the log on disk:
//
//	node.json     whose state this is
//	wal/          the log
//	stable.db     term and vote
//	snapshots/    the newest snapshots
//	copies/       whole copies while they are sent; they have no names
type stores struct {
	log    *logStore
	stable *stableStore
	snaps  *snapshotStore
	close  func() error
}

// openStores opens what is in c.Dir. Writes that fail are told to fail, which
// must make the node stop.
func openStores(c *Config, fail func(error)) (*stores, error) {
	walDir := filepath.Join(c.Dir, "wal")
	if err := os.MkdirAll(walDir, 0o700); err != nil {
		return nil, err
	}
	// The stable store comes first: its lock keeps a second process out.
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(c.Dir, "stable.db"),
		BoltOptions: &bbolt.Options{Timeout: lockWait},
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use by another process", c.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("opening stable store: %w", err)
	}
	wal, closeWAL, err := openWAL(walDir, c.Files, c.SegmentSize, newHclog(c.Logger, "wal"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening log: %w", err), bolt.Close())
	}
	s := &stores{
		log:    &logStore{LogStore: wal, fail: fail},
		stable: &stableStore{StableStore: bolt, fail: fail},
		close:  func() error { return errors.Join(closeWAL(), bolt.Close()) },
	}
	sweepSnapshots(filepath.Join(c.Dir, "snapshots"), c.Logger)
	files, err := raft.NewFileSnapshotStoreWithLogger(c.Dir, snapshotsKept, newHclog(c.Logger, "snapshot"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening snapshots: %w", err), s.close())
	}
	s.snaps = &snapshotStore{
		FileSnapshotStore: files,
		dir:               filepath.Join(c.Dir, "copies"),
		log:               s.log,
		making:            make(chan struct{}, 1),
	}
	if err := sweepCopies(s.snaps.dir); err != nil {
		c.Logger.Warn("removing unfinished copies", "err", err)
	}
	return s, nil
}

// sweepSnapshots removes what a killed process left of unfinished snapshots.
// Raft skips them but never removes them.
func sweepSnapshots(dir string, logger *slog.Logger) {
	left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")) // the pattern is fixed and correct
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			logger.Warn("removing an unfinished snapshot", "path", path, "err", err)
		}
	}
}

// logStore is the log. It puts the leader's time into entries as they are
// appended, and turns the first failed write into the end of the node: after
// one, raft-wal may hold entries of which nobody knows whether they are on
// disk, and only opening it again tells.
type logStore struct {
	raft.LogStore
	fail   func(error)
	failed atomic.Bool
	keep   func() (from uint64, any bool) // nil: another node needs nothing
	recent recent

	// last is the newest time in the log or the state, in ns. The one goroutine
	// that appends reads and writes it; restoring a snapshot may raise it.
	last atomic.Int64
}

// IsMonotonic implements raft.MonotonicLogStore: raft-wal allows no gaps.
func (s *logStore) IsMonotonic() bool { return true }

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if s.failed.Load() {
		return fmt.Errorf("appending to the log: %w", ErrFull)
	}
	s.stamp(logs)
	if err := s.check("appending to the log", s.LogStore.StoreLogs(logs)); err != nil {
		return err
	}
	s.recent.add(logs)
	return nil
}

// GetLog implements raft.LogStore.
func (s *logStore) GetLog(index uint64, to *raft.Log) error {
	if s.recent.get(index, to) {
		return nil
	}
	return s.LogStore.GetLog(index, to)
}

// DeleteRange implements raft.LogStore. What another node still needs after
// the copy it was sent stays: a log that is cut faster than a copy can be sent
// would have it sent for ever.
func (s *logStore) DeleteRange(low, high uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return fmt.Errorf("cutting the log: %w", err)
	}
	if s.keep != nil && low <= first {
		if from, any := s.keep(); any && from <= high {
			high = from - 1
		}
	}
	if low > high {
		return nil
	}
	s.recent.clear()
	return s.check("cutting the log", s.LogStore.DeleteRange(low, high))
}

// stamp sets the time of entries that have none: those this node appends as
// leader. Entries from another leader have theirs. Every entry of the log
// passes here in order on every node, so whoever leads next goes on from the
// newest time and the log's time never goes back.
func (s *logStore) stamp(logs []*raft.Log) {
	now := time.Now().UnixNano()
	for _, l := range logs {
		if l.Type != raft.LogCommand || !isEntry(l.Data) {
			continue
		}
		if stampOf(l.Data) == 0 {
			setStamp(l.Data, max(now, s.last.Load()+1))
		}
		s.raise(stampOf(l.Data))
	}
}

func (s *logStore) raise(ns int64) {
	for {
		old := s.last.Load()
		if ns <= old || s.last.CompareAndSwap(old, ns) {
			return
		}
	}
}

// recall finds the newest time in the log after a restart.
func (s *logStore) recall() error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	for i := last; i >= first && i > 0; i-- {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			return fmt.Errorf("reading log entry %d: %w", i, err)
		}
		if l.Type == raft.LogCommand && isEntry(l.Data) {
			s.raise(stampOf(l.Data))
			return nil
		}
	}
	return nil
}

func (s *logStore) check(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w: %w", doing, ErrFull, err)
	s.failed.Store(true)
	s.fail(err)
	return err
}

// stableStore keeps term and vote.
type stableStore struct {
	raft.StableStore
	fail func(error)
}

// keyTerm is Raft's own key of the current term.
const keyTerm = "CurrentTerm"

// Set implements raft.StableStore.
func (s *stableStore) Set(key, val []byte) error {
	return s.check(s.StableStore.Set(key, val))
}

// SetUint64 implements raft.StableStore. Raft panics when the term cannot be
// written. Saying that it was is safe here: the node is stopping, the vote and
// the log refuse as well, and a term that was forgotten without a vote or an
// entry in it cannot give two leaders to one term or lose an entry.
func (s *stableStore) SetUint64(key []byte, val uint64) error {
	err := s.check(s.StableStore.SetUint64(key, val))
	if string(key) == keyTerm {
		return nil
	}
	return err
}

func (s *stableStore) check(err error) error {
	if err != nil {
		err = fmt.Errorf("writing term or vote: %w: %w", ErrFull, err)
		s.fail(err)
	}
	return err
}

// full tells whether err comes from a disk or quota without room.
func full(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	// Raft's snapshot store hands on the text only, and SQLite has its own.
	return err != nil && (strings.Contains(err.Error(), syscall.ENOSPC.Error()) || strings.Contains(err.Error(), "disk is full"))
}

// empty tells whether there is no state at all.
func (s *stores) empty() (bool, error) {
	last, err := s.last()
	return last == 0, err
}

// last is where the log ends, or the newest snapshot where that goes on.
func (s *stores) last() (uint64, error) {
	last, err := s.log.LastIndex()
	if err != nil {
		return 0, err
	}
	snaps, err := s.snaps.List()
	if err != nil {
		return 0, err
	}
	if len(snaps) > 0 {
		last = max(last, snaps[0].Index)
	}
	return last, nil
}

// dropOld removes a log that ends before the newest snapshot: this node was
// sent it and died before Raft removed the log, which may not have a gap.
func (s *stores) dropOld() error {
	first, err := s.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	snaps, err := s.snaps.List()
	if err != nil {
		return err
	}
	var snapshot uint64
	if len(snaps) > 0 {
		snapshot = snaps[0].Index
	}
	switch {
	case last > 0 && last < snapshot:
		return s.log.DeleteRange(first, last)
	case first > snapshot+1:
		return fmt.Errorf("%w: it begins at entry %d, the newest snapshot ends at %d", ErrDamaged, first, snapshot)
	}
	return nil
}

// identity is node.json.
type identity struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	Group   string `json:"group,omitempty"` // that it is a member of
}

const identityVersion = 1

// readIdentity tells whose state is in dir: nobody's when it is empty.
func readIdentity(dir string) (id identity, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if errors.Is(err, os.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(data, &id); err != nil {
		return id, fmt.Errorf("reading node.json: %w", err)
	}
	if id.Version > identityVersion {
		return id, fmt.Errorf("node.json: %w", ErrNewer)
	}
	if id.Node == "" {
		return id, errors.New("node.json names no node")
	}
	return id, nil
}

// writeIdentity claims dir, all or nothing.
func writeIdentity(dir string, id identity) error {
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "node.json.tmp")
	if err := writeSynced(tmp, append(data, '\n')); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, "node.json")); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
