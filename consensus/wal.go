package consensus

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// openWAL opens the log in dir and returns what closes it. It covers four
// holes of raft-wal 0.4.0:
//
//   - Close leaves the meta database open, so a second Open in the same
//     process waits for its lock forever. Here the caller closes it.
//   - A segment whose index block was begun, but which was not recorded as
//     sealed (the process died, the disk was full), opens as a tail that refuses
//     every append, even when the index was never finished: repairTail.
//   - A segment whose end was cut off (DeleteRange of a suffix, as a follower
//     does after an election) has no index block and cannot be read after a
//     restart (hashicorp/raft-wal#31): filer.Open.
//   - Damage goes unnoticed, or takes what is behind it along: checkSegments.
func openWAL(dir string, files types.VFS, segmentSize int, logger hclog.Logger) (*raftwal.WAL, func() error, error) {
	segments := filer{segment.NewFiler(dir, files)}
	meta := &metaStore{files: files, segments: segments, logger: logger}
	w, err := raftwal.Open(dir,
		raftwal.WithSegmentSize(segmentSize),
		raftwal.WithLogger(logger),
		raftwal.WithSegmentFiler(segments),
		raftwal.WithMetaStore(meta),
	)
	if err != nil {
		if errors.Is(err, types.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, nil, errors.Join(err, meta.Close())
	}
	return w, func() error { return errors.Join(w.Close(), meta.Close()) }, nil
}

// filer reads a sealed segment that has no index by scanning it.
type filer struct{ *segment.Filer }

// Open implements types.SegmentFiler.
func (f filer) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	if info.IndexStart == 0 {
		// The writer keeps the index in memory; it is used for reading only.
		return f.RecoverTail(info)
	}
	return f.Filer.Open(info)
}

// metaStore is raft-wal's own meta database with a repair on load.
type metaStore struct {
	metadb.BoltMetaDB
	files    types.VFS
	segments filer
	logger   hclog.Logger
}

// Load implements types.MetaStore.
func (m *metaStore) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return state, err
	}
	torn, err := checkSegments(m.files, dir, state.Segments)
	if err != nil {
		return state, err
	}
	if torn {
		m.logger.Warn("the last write of the log was cut off and is left out")
	}
	if err := m.syncTail(dir, state.Segments); err != nil {
		return state, fmt.Errorf("syncing the last log segment: %w", err)
	}
	changed, err := m.repairTail(&state)
	if err != nil {
		return state, fmt.Errorf("repairing the last log segment: %w", err)
	}
	if !changed {
		return state, nil
	}
	return state, m.CommitState(state)
}

// syncTail makes what is in the last segment durable. A process that was killed
// between a write and its sync leaves a batch that only the system's cache has;
// from now on this node says that it has it.
func (m *metaStore) syncTail(dir string, segments []types.SegmentInfo) error {
	if len(segments) == 0 {
		return nil
	}
	f, err := m.files.OpenWriter(dir, segment.FileName(segments[len(segments)-1]))
	if errors.Is(err, os.ErrNotExist) {
		return nil // not made yet
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// repairTail goes on after a segment that has an index block but is not
// recorded as sealed. It becomes sealed in the meta data up to its last whole
// batch, without the index, which may be cut short; and an empty segment
// follows, whose file raft-wal makes when it does not find it.
func (m *metaStore) repairTail(state *types.PersistentState) (changed bool, err error) {
	if len(state.Segments) == 0 {
		return false, nil
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return false, nil
	}
	w, err := m.segments.RecoverTail(*tail)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer w.Close()
	sealed, _, err := w.Sealed()
	if err != nil || !sealed {
		return false, err
	}
	last := w.LastIndex()
	if last == 0 {
		// Not one batch is whole: raft-wal makes the file anew.
		return false, m.segments.Delete(tail.BaseIndex, tail.ID)
	}
	tail.SealTime, tail.MaxIndex = time.Now(), last
	next := types.SegmentInfo{
		ID:         state.NextSegmentID,
		BaseIndex:  last + 1,
		MinIndex:   last + 1,
		SizeLimit:  tail.SizeLimit,
		Codec:      tail.Codec,
		CreateTime: time.Now(),
	}
	state.Segments = append(state.Segments, next)
	state.NextSegmentID++
	return true, nil
}
