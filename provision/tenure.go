package provision

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultLeaseFor is how long a lease outlives its node's last sign of life.
const DefaultLeaseFor = 30 * time.Second

// wake is how often a tenure looks at the wall clock, which no timer follows.
const wake = time.Second

// Tenure is a node's own view of its right to its leases: it is valid for
// LeaseFor after the sending of the last sign of life that the mesh
// acknowledged. That is a necessary condition only: which leases the node has,
// the state says. See [Heart] for why the leader never gives a lease away that
// a tenure still covers.
type Tenure struct {
	leaseFor time.Duration
	wall     func() time.Time

	mu    sync.Mutex
	sent  time.Time     // of the newest acknowledged beat; zero: none yet
	valid bool          // as the channels say it
	lost  chan struct{} // closed: not valid
	held  chan struct{} // closed: valid
	timer *time.Timer   // runs while valid
}

// NewTenure returns the tenure of a node that has not reached the mesh yet.
// Zero takes [DefaultLeaseFor].
func NewTenure(leaseFor time.Duration) *Tenure {
	if leaseFor <= 0 {
		leaseFor = DefaultLeaseFor
	}
	t := &Tenure{leaseFor: leaseFor, wall: time.Now, lost: make(chan struct{}), held: make(chan struct{})}
	close(t.lost)
	return t
}

// Renewed tells of an acknowledged beat, or start. Sent is the time, from
// time.Now, before it was sent: the leader counts from when it got it.
func (t *Tenure) Renewed(sent time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check() // a loss that nobody has looked at yet is one all the same
	if sent.After(t.sent) {
		t.sent = sent
	}
	t.check()
}

// Err is nil while the tenure is valid, else a sentence. What acts under a
// lease asks just before it acts.
func (t *Tenure) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch age := t.check(); {
	case t.valid:
		return nil
	case t.sent.IsZero():
		return errors.New("this node has not reached the mesh yet: it has no leases")
	default:
		return fmt.Errorf("this node has not reached the mesh for %d s: its leases may be another's now", int(age.Seconds()))
	}
}

// Lost returns a channel that is closed once the tenure has run out. After that
// it stays closed; a tenure that became valid again has another.
func (t *Tenure) Lost() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check()
	return t.lost
}

// Held returns a channel that is closed once the tenure is valid. After that it
// stays closed; a tenure that ran out has another.
func (t *Tenure) Held() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check()
	return t.held
}

// check makes the channels say what the clocks say. A closed channel never
// opens again, so each change makes the other one new.
func (t *Tenure) check() (age time.Duration) {
	age = t.age()
	valid := !t.sent.IsZero() && age < t.leaseFor
	switch {
	case valid && !t.valid:
		t.lost = make(chan struct{})
		close(t.held)
	case !valid && t.valid:
		t.held = make(chan struct{})
		close(t.lost)
	}
	t.valid = valid
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if valid {
		t.timer = time.AfterFunc(min(t.leaseFor-age, wake), t.look)
	}
	return age
}

func (t *Tenure) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check()
}

// age is how long ago the newest acknowledged beat was sent: the larger of what
// two clocks say. The monotonic one stands still while a laptop sleeps, and the
// wall clock can be set back.
func (t *Tenure) age() time.Duration {
	return max(time.Since(t.sent), t.wall().Round(0).Sub(t.sent.Round(0)))
}
