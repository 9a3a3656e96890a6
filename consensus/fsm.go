package consensus

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// fsm hands what Raft commits to the machines.
//
// After the first error it refuses everything: the machines must not go on
// with half of an entry. (robustirc marks an entry that makes a machine panic
// as a "message of death" and skips it from then on, so that one entry cannot
// stop every node for ever. Here the nodes stop and a person decides; a
// machine that would rather go on can turn the entry into a value itself.)
type fsm struct {
	machines map[string]Machine // never changes
	names    []string           // of machines, sorted; never changes
	logger   *slog.Logger
	fail     func(error) // tells the Log, which stops
	restored func(ns int64)
	waits    waits         // for pos
	news     chan struct{} // pos has moved; of capacity 1

	mu   sync.Mutex        // protects all below; held while a machine is called
	head snapshotHead      // of what was applied
	pos  position          // the same, entries of Raft's own included
	done map[string]uint64 // machine → newest entry that held a part for it
	err  error             // of the first failure
}

// position is how far the log was applied.
type position struct {
	index, term uint64             // of the newest entry
	config      raft.Configuration // the members as of then
	configIndex uint64             // the entry that made them so
}

func newFSM(machines map[string]Machine, logger *slog.Logger, fail func(error), restored func(ns int64)) *fsm {
	f := &fsm{
		machines: machines,
		names:    slices.Sorted(maps.Keys(machines)),
		logger:   logger,
		fail:     fail,
		restored: restored,
		news:     make(chan struct{}, 1),
		done:     make(map[string]uint64),
	}
	for name, m := range machines {
		f.done[name] = m.Applied()
	}
	return f
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. Each result is nil or an error.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	results := make([]any, len(logs))
	if f.err == nil {
		f.err = f.applyLogs(logs)
		f.settle()
		if f.err != nil {
			f.fail(f.err)
		}
	}
	if f.err != nil {
		for i := range results {
			results[i] = f.err
		}
	}
	return results
}

// applyLogs groups the parts by machine and calls each machine once. Of a
// batch with an entry that cannot be decoded, what comes before it is applied.
func (f *fsm) applyLogs(logs []*raft.Log) error {
	parts := make(map[string][]Entry, len(f.machines))
	head, pos := f.head, f.pos
	var bad error
	for _, l := range logs {
		if l.Index <= pos.index {
			continue // even came before Raft
		}
		switch l.Type {
		case raft.LogCommand:
			if bad = f.sort(parts, l, f.names); bad == nil {
				head = snapshotHead{time: stampOf(l.Data), index: l.Index}
			}
		case raft.LogConfiguration:
			pos.config, pos.configIndex = raft.DecodeConfiguration(l.Data), l.Index
		}
		if bad != nil {
			break
		}
		pos.index, pos.term = l.Index, l.Term
	}
	for _, name := range f.names {
		if err := f.apply(name, parts[name]); err != nil {
			return err
		}
	}
	f.head, f.pos = head, pos
	return bad
}

// sort adds the parts of l that are for the named machines and new to them.
func (f *fsm) sort(to map[string][]Entry, l *raft.Log, names []string) error {
	at, parts, err := decodeEntry(l.Data)
	if err != nil {
		return fmt.Errorf("log entry %d: %w", l.Index, err)
	}
	for _, p := range parts {
		if f.machines[p.Machine] == nil {
			return fmt.Errorf("log entry %d: %w: part for machine %q", l.Index, ErrNewer, p.Machine)
		}
	}
	for _, p := range parts {
		if l.Index > f.done[p.Machine] && slices.Contains(names, p.Machine) {
			to[p.Machine] = append(to[p.Machine], Entry{Index: l.Index, At: at, Data: p.Data})
		}
	}
	return nil
}

func (f *fsm) apply(name string, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	first, last := entries[0].Index, entries[len(entries)-1].Index
	if err := f.guard(func() error { return f.machines[name].Apply(entries) }); err != nil {
		if full(err) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return fmt.Errorf("machine %s, entries %d to %d: %w", name, first, last, err)
	}
	f.done[name] = last
	return nil
}

// guard turns a panic of a machine into an error.
func (f *fsm) guard(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			f.logger.Error("a machine panicked", "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return call()
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap, err := f.captureLocked(false)
	if err != nil {
		return nil, err
	}
	return snap, nil
}

// captureLocked captures all machines as they are now: a Copier whole, when
// that is asked for.
func (f *fsm) captureLocked(whole bool) (*fsmSnapshot, error) {
	if f.err != nil {
		return nil, f.err
	}
	snap := &fsmSnapshot{head: f.head}
	snap.head.whole = whole
	for _, name := range f.names {
		sec := section{machine: name, index: f.done[name]}
		err := f.guard(func() (err error) {
			if c, ok := f.machines[name].(Copier); ok && whole {
				sec.state, err = c.Copy()
			} else {
				sec.state, err = f.machines[name].Snapshot()
			}
			return err
		})
		if err != nil {
			snap.Release()
			return nil, fmt.Errorf("snapshot of machine %s: %w", name, err)
		}
		snap.sections = append(snap.sections, sec)
	}
	return snap, nil
}

// copies tells whether a snapshot of some machine is of no use to another node.
func (f *fsm) copies() bool {
	return slices.ContainsFunc(f.names, func(name string) bool {
		_, ok := f.machines[name].(Copier)
		return ok
	})
}

// Restore implements raft.FSM: another node sent its snapshot because this
// one is too far behind.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	behind, err := f.restore(r)
	if meta := metaOf(r); meta != nil && err == nil {
		f.pos = positionOf(meta)
	}
	f.settle()
	for name := range behind {
		err = fmt.Errorf("snapshot of another node: machine %s: %w", name, ErrManifest)
	}
	if err != nil {
		f.err = err
		f.fail(err)
	}
	return f.err
}

// restore takes from a snapshot what the machines do not have yet. It returns
// the machines that hold their state themselves and are behind the snapshot.
func (f *fsm) restore(r io.Reader) (behind map[string]uint64, err error) {
	behind = make(map[string]uint64)
	head, err := readSnapshot(r, func(name string, index uint64, r io.Reader) error {
		m := f.machines[name]
		if m == nil {
			return fmt.Errorf("%w: state of this machine", ErrNewer)
		}
		if index <= f.done[name] {
			return nil
		}
		err := f.guard(func() error { return m.Restore(r) })
		if errors.Is(err, ErrManifest) {
			behind[name] = index
			return nil
		}
		if err != nil {
			return err
		}
		f.done[name] = max(index, m.Applied())
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.head = head
	f.restored(head.time)
	return behind, nil
}

func positionOf(meta *raft.SnapshotMeta) position {
	return position{index: meta.Index, term: meta.Term, config: meta.Configuration, configIndex: meta.ConfigurationIndex}
}

// load brings the machines up to the newest snapshot on this node. Raft goes
// on from there with the log.
func (f *fsm) load(s *stores, batch int) error {
	began := time.Now()
	snaps, err := s.snaps.List()
	if err != nil || len(snaps) == 0 {
		return err
	}
	meta, r, err := s.snaps.Open(snaps[0].ID)
	if err != nil {
		return fmt.Errorf("opening snapshot %s: %w", snaps[0].ID, err)
	}
	defer r.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	behind, err := f.restore(r)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", meta.ID, err)
	}
	f.pos = positionOf(meta)
	f.settle()
	for _, name := range slices.Sorted(maps.Keys(behind)) {
		if err := f.replay(s.log, name, behind[name], batch); err != nil {
			return err
		}
	}
	f.logger.Info("read snapshot", "index", meta.Index, "bytes", meta.Size, "took", time.Since(began))
	return nil
}

// even gives every machine what one of them has: that was committed, and Raft
// finds out later, when a majority is there. Until then a copy could not be
// made of machines at different entries.
func (f *fsm) even(log raft.LogStore, batch int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	newest := slices.Max(slices.Collect(maps.Values(f.done)))
	for f.pos.index < newest {
		var logs []*raft.Log
		for i := f.pos.index + 1; i <= newest && len(logs) < batch; i++ {
			l := new(raft.Log)
			if err := log.GetLog(i, l); err != nil {
				return fmt.Errorf("reading log entry %d: %w", i, err)
			}
			logs = append(logs, l)
		}
		if err := f.applyLogs(logs); err != nil {
			return err
		}
		f.pos.index, f.pos.term = logs[len(logs)-1].Index, logs[len(logs)-1].Term
	}
	f.settle()
	return nil
}

// checkAhead refuses a machine whose store has more than the log ever had: it
// would take new entries for ones it knows, and they would be lost.
func (f *fsm) checkAhead(s *stores) error {
	last, err := s.last()
	if err != nil {
		return err
	}
	for _, name := range f.names {
		if f.done[name] > last {
			return fmt.Errorf("%w, or %w: machine %s has entries up to %d, the log ends at %d", ErrForeign, ErrDamaged, name, f.done[name], last)
		}
	}
	return nil
}

// settle tells everyone how far the log was applied. f.mu is held.
func (f *fsm) settle() {
	f.waits.settle(f.pos.index, f.err != nil)
	wake(f.news)
}

// replay gives a machine the entries up to index again from the log, where it
// still reaches back far enough. They are in a snapshot, hence committed.
func (f *fsm) replay(log raft.LogStore, name string, index uint64, batch int) error {
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	from := f.done[name] + 1
	if first == 0 || first > from {
		return fmt.Errorf("machine %s has entries up to %d, the log begins at %d: %w", name, from-1, first, ErrManifest)
	}
	f.logger.Warn("a machine is behind the snapshot; replaying the log", "machine", name, "from", from, "to", index)
	for from <= index {
		entries := make(map[string][]Entry, 1)
		for range batch {
			var l raft.Log
			if err := log.GetLog(from, &l); err != nil {
				return fmt.Errorf("reading log entry %d: %w", from, err)
			}
			if l.Type == raft.LogCommand {
				if err := f.sort(entries, &l, []string{name}); err != nil {
					return err
				}
			}
			if from++; from > index {
				break
			}
		}
		if err := f.apply(name, entries[name]); err != nil {
			return err
		}
	}
	return nil
}
