package provision

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// State is the pool's state machine. Apply, Snapshot and Restore are called by
// one goroutine; readers come from any.
type State struct {
	mu       sync.Mutex
	pool     Pool
	outcomes window
	view     *Pool         // the copy that readers share; nil: pool has changed since
	changed  chan struct{} // closed and replaced after every apply
}

// NewState returns an empty pool.
func NewState() *State { return &State{changed: make(chan struct{})} }

// Apply applies one command that the log holds at index, stamped by the leader
// at that time. A refusal is an outcome, see [State.Outcome]; an error means
// that this node must stop.
func (s *State) Apply(index uint64, at time.Time, data []byte) error {
	c, err := Decode(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.Index, s.pool.At = index, at.UTC()
	if _, known := s.outcomes.byID[c.ID]; !known {
		err := (&applier{Pool: &s.pool, index: index, now: at.UTC()}).apply(c)
		if c.ID != "" {
			out, _ := Refusal(err)
			out.Index = index
			s.outcomes.add(remembered{ID: c.ID, Outcome: out})
		}
	}
	s.publish()
	return nil
}

// publish wakes the readers.
func (s *State) publish() {
	s.view = nil
	close(s.changed)
	s.changed = make(chan struct{})
}

// Pool returns the state as it is now, and a channel that is closed when it
// changes.
func (s *State) Pool() (Pool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		p := s.pool // what is not cloned here, Apply replaces and never changes
		p.Nodes = slices.Clone(p.Nodes)
		p.Invites = slices.Clone(p.Invites)
		p.Machines = slices.Clone(p.Machines)
		p.Leases = slices.Clone(p.Leases)
		s.view = &p
	}
	return *s.view, s.changed
}

// Outcome says what became of the command with that id, or false when it is
// not among the last [MaxCommands].
func (s *State) Outcome(id string) (Outcome, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, ok := s.outcomes.byID[id]
	return out, ok
}

// snapshot is the whole state, on its way to a file and back.
type snapshot struct {
	Pool
	Commands []remembered `json:"commands,omitempty"` // oldest first
}

// Snapshot captures the whole state; it is written as JSON.
func (s *State) Snapshot() (io.WriterTo, error) {
	p, _ := s.Pool()
	s.mu.Lock()
	defer s.mu.Unlock()
	return &snapshot{Pool: p, Commands: slices.Clone(s.outcomes.list)}, nil
}

// WriteTo writes the snapshot.
func (s *snapshot) WriteTo(w io.Writer) (int64, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return 0, fmt.Errorf("encoding the pool: %w", err)
	}
	n, err := w.Write(data)
	return int64(n), err
}

// Restore replaces the state by a snapshot.
func (s *State) Restore(r io.Reader) error {
	var in snapshot
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return fmt.Errorf("decoding the pool: %w (%w)", err, ErrNewer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool, s.outcomes = in.Pool, window{}
	for _, c := range in.Commands {
		s.outcomes.add(c)
	}
	s.publish()
	return nil
}
