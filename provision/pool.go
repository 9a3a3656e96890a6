// Package provision is the pool that every node agrees on: the mesh and its
// nodes, invitations, machines, their slots, and the leases that give a task
// the right to a slot.
//
// The state is a pure function of the log, like package chat's, and lives in
// memory: it is small, and Raft's snapshot holds it whole. [Schedule] decides
// from the state alone which queued task gets which slot and why; the leader
// proposes what it says. A bought machine is a machine like any other once it
// is ready; before and after, [Op] and [Bought] have what there is to know.
// [Decide] says which waiting tasks need one more, [Warm] which idle machines
// may go, and [Reap] what at the provider is nobody's; package keeper does what
// they say.
//
// Two parts hold clocks, and keep them out of the state: [Heart], with which
// the leader knows who is alive, and [Tenure], with which a node knows that its
// leases are still its own.
//
// The package imports the standard library only.
package provision

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// MachineState is where a machine stands.
type MachineState string

// The states of a machine that takes tasks, or could. Ready means that its node
// announced itself, and of a bought one that it was heard after that, never
// just that the machine runs.
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

	Idle   time.Time `json:"idle,omitzero"` // since when it has no lease, if it had one or is bought
	Labels []string  `json:"labels,omitempty"`
	Bought Bought    `json:"bought,omitzero"`
}

// Lease is a task's right to a slot. Token is the index of the log entry that
// granted it.
type Lease struct {
	Task    string    `json:"task"`
	Node    string    `json:"node"`
	Slot    string    `json:"slot"`
	Token   uint64    `json:"token"`
	Since   time.Time `json:"since"`
	Renewed time.Time `json:"renewed,omitzero"` // by its node's newest sign of life
	Index   uint64    `json:"index,omitempty"`  // of the entry that renewed it last
}

// SlotName names the i-th slot of a node, from 1.
func SlotName(node string, i int) string { return node + "/" + strconv.Itoa(i) }

// Pool is the state at one index. Readers share it: keep it, but do not change
// it.
type Pool struct {
	Mesh     Mesh         `json:"mesh,omitzero"`
	Nodes    []Node       `json:"nodes"`    // by name
	Invites  []Invitation `json:"invites"`  // by id
	Machines []Machine    `json:"machines"` // by node name
	Leases   []Lease      `json:"leases"`   // by slot
	Index    uint64       `json:"index"`
	At       time.Time    `json:"at,omitzero"` // the newest entry's time

	Rules     *Policy     `json:"policy,omitempty"`    // nil: [DefaultPolicy]
	Ops       []Op        `json:"ops,omitempty"`       // by id: all that are open, and the last that ended
	Offers    []Offer     `json:"offers,omitempty"`    // by type and location
	Shortages []Shortage  `json:"shortages,omitempty"` // by type and location
	Breaker   Breaker     `json:"breaker,omitzero"`
	Days      []Day       `json:"days,omitempty"`     // by date
	Shares    []Share     `json:"shares,omitempty"`   // by task
	Arrivals  []time.Time `json:"arrivals,omitempty"` // when tasks got slots in the last hours
	Sweep     Sweep       `json:"sweep,omitzero"`
}

// Node returns the node of that name.
func (p Pool) Node(name string) (Node, bool) { return get(p.Nodes, name, nodeKey) }

// Machine returns the machine of that node; a node has one from its first
// start on, and a bought one before it has a node.
func (p Pool) Machine(node string) (Machine, bool) { return get(p.Machines, node, machineKey) }

// Free lists the free slots of a machine that takes new leases, in order.
func (p Pool) Free(m Machine) []string {
	if m.State != Ready {
		return nil
	}
	var free []string
	for i := range m.Slots {
		slot := SlotName(m.Node, i+1)
		if _, taken := find(p.Leases, slot, leaseKey); !taken {
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

// holds tells whether a node of that name has leases, member or not.
func (p Pool) holds(node string) bool {
	return slices.ContainsFunc(p.Leases, func(l Lease) bool { return l.Node == node })
}

func nodeKey(n Node) string         { return n.Name }
func inviteKey(i Invitation) string { return i.ID }
func machineKey(m Machine) string   { return m.Node }
func leaseKey(l Lease) string       { return l.Slot }

// find says where in a list that is sorted by key an item is, or belongs.
func find[T any](list []T, id string, key func(T) string) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(item T, id string) int { return cmp.Compare(key(item), id) })
}

func get[T any](list []T, id string, key func(T) string) (item T, ok bool) {
	i, ok := find(list, id, key)
	if ok {
		item = list[i]
	}
	return item, ok
}

// put replaces the item with the same key, or inserts it.
func put[T any](list []T, item T, key func(T) string) []T {
	i, found := find(list, key(item), key)
	if found {
		list[i] = item
		return list
	}
	return slices.Insert(list, i, item)
}
