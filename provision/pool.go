// Package provision is the pool that every node agrees on: machines, their
// slots, and the leases that give a task the right to a slot.
//
// The state is a pure function of the log, like package chat's, and lives in
// memory: it is small, and Raft's snapshot holds it whole. [Schedule] decides
// from the state alone which queued task gets which slot and why; the leader
// proposes what it says. Buying machines comes on top of this: a bought
// machine is a machine like any other once it is ready.
//
// The package imports the standard library only.
package provision

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// ErrNewer is returned for a command that this code cannot read.
var ErrNewer = errors.New("written by a newer samnode: upgrade this node")

// MachineState is where a machine stands.
type MachineState string

// The states of a machine that joined by itself. Ready means that its node
// announced itself, never just that the machine runs.
const (
	Ready    MachineState = "ready"
	Draining MachineState = "draining" // no new leases
)

// Machine is what a node runs on, as the pool sees it.
type Machine struct {
	Node  string       `json:"node"`
	State MachineState `json:"state"`
	Slots int          `json:"slots"`
	CPUs  int          `json:"cpus"`
	Mem   int64        `json:"mem"` // bytes
	Since time.Time    `json:"since"`
}

// Lease is a task's right to a slot. Token is the index of the log entry that
// granted it.
type Lease struct {
	Task  string    `json:"task"`
	Node  string    `json:"node"`
	Slot  string    `json:"slot"`
	Token uint64    `json:"token"`
	Since time.Time `json:"since"`
}

// SlotName names the i-th slot of a node, from 1.
func SlotName(node string, i int) string { return node + "/" + strconv.Itoa(i) }

// Pool is a copy of the state that a caller may keep.
type Pool struct {
	Machines []Machine `json:"machines"` // by node name
	Leases   []Lease   `json:"leases"`   // by slot
	Index    uint64    `json:"index"`
}

// Free lists the free slots of a machine that takes new leases, in order.
func (p Pool) Free(m Machine) []string {
	if m.State != Ready {
		return nil
	}
	var free []string
	for i := range m.Slots {
		slot := SlotName(m.Node, i+1)
		if !slices.ContainsFunc(p.Leases, func(l Lease) bool { return l.Slot == slot }) {
			free = append(free, slot)
		}
	}
	return free
}

// Lease returns the task's lease, if it has one.
func (p Pool) Lease(task string) (Lease, bool) {
	i := slices.IndexFunc(p.Leases, func(l Lease) bool { return l.Task == task })
	if i < 0 {
		return Lease{}, false
	}
	return p.Leases[i], true
}

// Command is one entry for the pool. Exactly one op is set. Every op is
// harmless when applied twice, so commands need no id.
type Command struct {
	Version int      `json:"v"`
	Machine *Machine `json:"machine,omitempty"`
	Grant   *Grant   `json:"grant,omitempty"`
	Release *Release `json:"release,omitempty"`
}

// Grant gives a free slot of a ready machine to a task without a lease.
// Anything else changes nothing.
type Grant struct {
	Task string `json:"task"`
	Node string `json:"node"`
	Slot string `json:"slot"`
}

// Release ends the lease with that token; a stale token changes nothing.
type Release struct {
	Task  string `json:"task"`
	Token uint64 `json:"token"`
}

// Version is the newest command version that this code reads and writes.
const Version = 1

func (c Command) validate() error {
	if c.Version < 1 || c.Version > Version {
		return fmt.Errorf("pool command version %d: %w", c.Version, ErrNewer)
	}
	n := 0
	for _, set := range []bool{c.Machine != nil, c.Grant != nil, c.Release != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("pool command with %d ops: %w", n, ErrNewer)
	}
	return nil
}
