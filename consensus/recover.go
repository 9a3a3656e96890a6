package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// Lost is what Recover could not ask anyone about.
type Lost struct {
	// Last is the newest entry that was here, and Term the leadership it is of.
	// What was acknowledged behind it is lost; what is before it and was not
	// acknowledged counts from now on.
	Last uint64 `json:"last"`
	Term uint64 `json:"term"`

	// Members are those of the group that is given up, this node included. The
	// others cannot come back with what they have: their folders are removed,
	// and they join again.
	Members []Member `json:"members"`

	// Aside are damaged parts of the log that were put aside.
	Aside []string `json:"aside,omitempty"`
}

// Recover makes the state of a node that is stopped a new group with that node
// as its only voter, for when a majority of the old one will not come back.
// Everything in its log counts as committed. The caller makes sure that nobody
// uses c.Dir; of c.Transport only the address is used. Recover can be repeated.
func Recover(ctx context.Context, c Config) (Lost, error) {
	if err := c.validate(); err != nil {
		return Lost{}, err
	}
	c.setDefaults()
	c.Bootstrap, c.Join = false, false
	r := &recovery{conf: &c}
	err := r.run(ctx)
	if err != nil {
		if full(err) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return Lost{}, fmt.Errorf("recovering %s: %w", c.Dir, err)
	}
	return r.lost, nil
}

// recovery is one Recover.
type recovery struct {
	conf   *Config
	stores *stores
	fsm    *fsm
	lost   Lost
}

func (r *recovery) run(ctx context.Context) (err error) {
	c := r.conf
	g, err := claim(c)
	if err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stores.close()) }()
	empty, err := r.stores.empty()
	if err != nil {
		return err
	}
	if empty && len(r.lost.Aside) == 0 {
		return ErrNoState
	}
	var failed error
	r.fsm = newFSM(c.Machines, c.Logger, func(err error) { failed = err }, r.stores.log.raise)
	if err := r.load(); err != nil {
		return err
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	// First the group: nobody may reach the new one as a member of the old.
	if err := g.set(newGroupID()); err != nil {
		return err
	}
	return r.begin()
}

// open opens the stores, without a log that is damaged.
func (r *recovery) open() (err error) {
	r.stores, err = openStores(r.conf, func(error) {}) // every error is returned as well
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	r.conf.Logger.Warn("the log is damaged; going on without it", "err", err)
	if err := r.putAside(filepath.Join(r.conf.Dir, "wal")); err != nil {
		return err
	}
	r.stores, err = openStores(r.conf, func(error) {})
	return err
}

func (r *recovery) putAside(path string) error {
	to := filepath.Join(r.conf.Dir, fmt.Sprintf("damaged-%s-%s", time.Now().UTC().Format("20060102T150405"), filepath.Base(path)))
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("putting aside what is damaged: %w", err)
	}
	r.lost.Aside = append(r.lost.Aside, to)
	return nil
}

// load brings the machines up to the newest snapshot that can be read.
func (r *recovery) load() error {
	for {
		err := r.fsm.load(r.stores, r.conf.MaxAppendEntries)
		if !errors.Is(err, ErrDamaged) {
			return err
		}
		snaps, listErr := r.stores.snaps.List()
		if listErr != nil {
			return listErr
		}
		r.conf.Logger.Warn("a snapshot is damaged; going on without it", "id", snaps[0].ID, "err", err)
		if err := r.putAside(filepath.Join(r.conf.Dir, "snapshots", snaps[0].ID)); err != nil {
			return err
		}
	}
}

// apply gives the machines the rest of the log.
func (r *recovery) apply(ctx context.Context) error {
	pos := r.fsm.pos
	first, err := r.stores.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := r.stores.log.LastIndex()
	if err != nil {
		return err
	}
	if first > pos.index+1 { // without its snapshot
		for name, done := range r.fsm.done {
			if done+1 < first {
				return fmt.Errorf("machine %s has entries up to %d, the log begins at %d: import a backup", name, done, first)
			}
		}
		pos.index = first - 1
	}
	for pos.index < last {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var batch []*raft.Log
		for i := pos.index + 1; i <= last && len(batch) < r.conf.MaxAppendEntries; i++ {
			l := new(raft.Log)
			if err := r.stores.log.GetLog(i, l); err != nil {
				return fmt.Errorf("reading log entry %d: %w", i, err)
			}
			batch = append(batch, l)
		}
		for _, result := range r.fsm.ApplyBatch(batch) {
			if err, ok := result.(error); ok {
				return err
			}
		}
		pos.index, pos.term = batch[len(batch)-1].Index, batch[len(batch)-1].Term
	}
	r.lost.Last, r.lost.Term = pos.index, pos.term
	r.lost.Members = membersOf(r.fsm.pos.config.Servers)
	return nil
}

// begin makes what the machines have the beginning of the new group, one entry
// after everything that was. The log goes last: until then it can be read
// again.
func (r *recovery) begin() error {
	index, term := r.lost.Last, max(r.lost.Term, 1)
	for name, done := range r.fsm.done {
		if done > index { // of a log that was put aside
			r.conf.Logger.Warn("a machine has more than the log; the others go on without that", "machine", name, "applied", done, "log", r.lost.Last)
			index = done
		}
	}
	if index == 0 {
		return errors.New("nothing is left: import a backup")
	}
	current, err := r.stores.stable.GetUint64([]byte(keyTerm))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("reading the term: %w", err)
	}
	if index > r.lost.Last {
		term = max(term, current)
	}
	if current < term {
		if err := r.stores.stable.SetUint64([]byte(keyTerm), term); err != nil {
			return err
		}
	}
	snap, err := r.fsm.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Release()
	sink, err := r.stores.createOwn(r.conf, index+1, term)
	if err != nil {
		return err
	}
	if err := snap.Persist(sink); err != nil {
		return err
	}
	first, err := r.stores.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := r.stores.log.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	return r.stores.log.DeleteRange(first, last)
}
