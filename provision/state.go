package provision

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// State is the pool's state machine. Apply, Snapshot and Restore are called by
// one goroutine; readers come from any.
type State struct {
	mu      sync.Mutex
	pool    Pool
	changed chan struct{} // closed and replaced after every apply
}

// NewState returns an empty pool.
func NewState() *State { return &State{changed: make(chan struct{})} }

// Decode reads a command and refuses what this version does not know.
func Decode(data []byte) (Command, error) {
	var c Command
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Command{}, fmt.Errorf("decoding pool command: %w (%w)", err, ErrNewer)
	}
	return c, c.validate()
}

// Apply applies one command that the log holds at index, stamped by the leader
// at that time. An error means that this node must stop.
func (s *State) Apply(index uint64, at time.Time, data []byte) error {
	c, err := Decode(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.Index = index
	switch {
	case c.Machine != nil:
		s.putMachine(*c.Machine, at)
	case c.Grant != nil:
		s.grant(*c.Grant, index, at)
	case c.Release != nil:
		s.pool.Leases = slices.DeleteFunc(s.pool.Leases, func(l Lease) bool {
			return l.Task == c.Release.Task && l.Token == c.Release.Token
		})
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *State) putMachine(m Machine, at time.Time) {
	m.Since = at
	i, found := slices.BinarySearchFunc(s.pool.Machines, m.Node, func(m Machine, n string) int {
		return strings.Compare(m.Node, n)
	})
	if found {
		m.Since = s.pool.Machines[i].Since
		s.pool.Machines[i] = m
		return
	}
	s.pool.Machines = slices.Insert(s.pool.Machines, i, m)
}

func (s *State) grant(g Grant, index uint64, at time.Time) {
	if _, has := s.pool.Lease(g.Task); has {
		return
	}
	for _, m := range s.pool.Machines {
		if m.Node == g.Node && slices.Contains(s.pool.Free(m), g.Slot) {
			s.pool.Leases = append(s.pool.Leases, Lease{Task: g.Task, Node: g.Node, Slot: g.Slot, Token: index, Since: at})
			slices.SortFunc(s.pool.Leases, func(a, b Lease) int { return strings.Compare(a.Slot, b.Slot) })
			return
		}
	}
}

// Pool returns a copy of the state, and a channel that is closed when it
// changes.
func (s *State) Pool() (Pool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pool
	p.Machines = slices.Clone(p.Machines)
	p.Leases = slices.Clone(p.Leases)
	return p, s.changed
}

// Snapshot returns the whole state as JSON.
func (s *State) Snapshot() (io.WriterTo, error) {
	p, _ := s.Pool()
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding the pool: %w", err)
	}
	return bytes.NewReader(data), nil
}

// Restore replaces the state by a snapshot.
func (s *State) Restore(r io.Reader) error {
	var p Pool
	if err := json.NewDecoder(r).Decode(&p); err != nil {
		return fmt.Errorf("decoding the pool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool = p
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}
