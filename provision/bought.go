package provision

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The states of a machine that is bought, before and after it is one like any
// other:
//
//	wanted → creating → booting → ready ⇄ draining → deleting → (gone)
//	           └────────────┴───────┴→ failed ─────────┘
//
// A wanted one exists in the log only. One that is creating may exist at the
// provider: a create call was made, or is about to be. One that is booting
// exists, and its node has not been heard yet. One that is gone, because the
// provider said so, is in no list any more.
const (
	Wanted   MachineState = "wanted"
	Creating MachineState = "creating"
	Booting  MachineState = "booting"
	Failed   MachineState = "failed" // it is of no use, and is to be deleted
	Deleting MachineState = "deleting"
)

// Bought is what the pool knows of a machine that it buys; the zero value is
// that of one which joined by itself.
//
// Token is the index of the entry that began the machine's present step. What
// comes of a step carries it, and a stale one changes nothing: so an answer
// that a leader of old got is not taken for one to the question of the next.
type Bought struct {
	Op      string `json:"op"`               // that buys it
	Delete  string `json:"delete,omitempty"` // op that deletes it; empty: none yet
	Token   uint64 `json:"token"`
	Attempt int    `json:"attempt"` // of Op, from 1

	// Calls counts the create calls whose outcome is not known. While there are
	// any, there may be a server of this name.
	Calls    int       `json:"calls,omitempty"`
	Server   string    `json:"server,omitempty"` // the provider's id; kept until the provider says that there is none
	Type     string    `json:"type,omitempty"`
	Location string    `json:"location,omitempty"`
	Address  string    `json:"address,omitempty"`
	Disk     int64     `json:"disk,omitempty"` // bytes
	Hour     Money     `json:"hour"`           // price; of a wanted one that of the first choice
	Created  time.Time `json:"created,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`  // the label says so at the provider, too
	Deadline time.Time `json:"deadline,omitzero"` // of this step
	Owner    string    `json:"owner,omitempty"`   // whose tasks it takes; empty: of the first who gets a slot
	Keep     time.Time `json:"keep,omitzero"`     // a person wants it until then
	Why      string    `json:"why,omitempty"`     // it failed
}

// IsBought tells whether the pool buys, or bought, this machine.
func (m Machine) IsBought() bool { return m.Bought.Op != "" }

// exists tells whether the provider may have a server for this machine.
func (b Bought) exists() bool { return b.Server != "" || b.Calls > 0 }

// ServerName is the name of an op's server, and of its node: a function of the
// op, so that a second call to create it is known for what it is. Each attempt
// has its own.
func ServerName(op string, attempt int) string {
	name := "samnode-" + strings.ToLower(op[max(0, len(op)-12):])
	if attempt > 1 {
		name += "-" + strconv.Itoa(attempt)
	}
	return name
}

// bought lists the machines that the pool buys or bought, by name.
func (p Pool) bought() []Machine {
	var list []Machine
	for _, m := range p.Machines {
		if m.IsBought() {
			list = append(list, m)
		}
	}
	return list
}

// idle tells whether a machine has no leases.
func (p Pool) idle(m Machine) bool { return !p.holds(m.Node) }

// OpKind is what an op is to do.
type OpKind string

// The kinds of ops.
const (
	BuyOp    OpKind = "buy"
	DeleteOp OpKind = "delete"
)

// OpState is how far an op came.
type OpState string

// The states of an op. The last three are ends.
const (
	OpOpen      OpState = "open"
	OpDone      OpState = "done" // the node was heard, or the server is gone
	OpFailed    OpState = "failed"
	OpWithdrawn OpState = "withdrawn" // it was not needed any more
)

// Op is one intent to buy or to delete a machine. It is in the log before the
// provider is called.
type Op struct {
	ID      string  `json:"id"` // ULID
	Kind    OpKind  `json:"kind"`
	State   OpState `json:"state"`
	Machine string  `json:"machine"`           // of a purchase that of its newest attempt
	Reason  string  `json:"reason"`            // why it was begun, for a person
	Task    string  `json:"task,omitempty"`    // that it is bought for
	By      string  `json:"by,omitempty"`      // person; empty: the leader by itself
	Owner   string  `json:"owner,omitempty"`   // whose tasks the machine takes
	Need    Need    `json:"need,omitzero"`     // what the machine must have
	Attempt int     `json:"attempt,omitempty"` // of a purchase, from 1
	Tried   []Tried `json:"tried,omitempty"`   // of a purchase, oldest first

	Text    string    `json:"text,omitempty"`   // what is in its way now, as a sentence
	Stalls  int       `json:"stalls,omitempty"` // how many times in a row it could not go on
	Next    time.Time `json:"next,omitzero"`    // when it is tried again
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	History []Event   `json:"history,omitempty"` // oldest first
}

// Tried is one answer to an order.
type Tried struct {
	Type     string    `json:"type"`
	Location string    `json:"location"`
	Attempt  int       `json:"attempt"`
	At       time.Time `json:"at"`
	Trouble  Trouble   `json:"trouble,omitempty"` // empty: it was made, or nobody knows yet
}

// Event is a step of an op, as a sentence.
type Event struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

// MaxAttempts is how many machines an op may have one after the other: one that
// does not come up is deleted, and another one tried.
const MaxAttempts = 3

// What is kept of ops.
const (
	maxOps     = 100 // that have ended
	maxHistory = 24
	maxTried   = 24
	maxReason  = 300 // bytes of a sentence
)

// Op returns the op with that id: an open one, or one of the last that ended.
func (p Pool) Op(id string) (Op, bool) { return get(p.Ops, id, opKey) }

func opKey(o Op) string { return o.ID }

// putOp stores an op. Readers hold the old list: it is not changed.
func (a *applier) putOp(o Op) { a.Ops = put(slices.Clone(a.Ops), o, opKey) }

// log adds a sentence to the op's history.
func (a *applier) log(o *Op, what string) {
	h := o.History[max(0, len(o.History)-maxHistory+1):]
	o.History = append(slices.Clone(h), Event{At: a.now, What: short(what, maxReason)})
}

// logTo is log for the op of that id, if there is one.
func (a *applier) logTo(id, what string) {
	if o, is := a.Op(id); is {
		a.log(&o, what)
		a.putOp(o)
	}
}

// end ends an op, and forgets the one that ended longest ago if there are many.
func (a *applier) end(o Op, state OpState, what string) {
	o.State, o.Ended, o.Text, o.Next, o.Stalls = state, a.now, "", time.Time{}, 0
	a.log(&o, what)
	a.putOp(o)
	oldest, ended := -1, 0
	for i, x := range a.Ops {
		if x.State == OpOpen {
			continue
		}
		ended++
		if oldest < 0 || x.Ended.Before(a.Ops[oldest].Ended) {
			oldest = i
		}
	}
	if ended > maxOps {
		a.Ops = slices.Delete(slices.Clone(a.Ops), oldest, oldest+1)
	}
}

// endOp is end for the op of that id, if it is open.
func (a *applier) endOp(id string, state OpState, what string) {
	if o, is := a.Op(id); is && o.State == OpOpen {
		a.end(o, state, what)
	}
}
