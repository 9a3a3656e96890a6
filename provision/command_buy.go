package provision

import "time"

// The ops of a [Command] for machines that are bought. Those of a machine's
// steps carry its token, see [Bought].

// Set replaces the policy, and closes the breaker: what it was opened for may
// be mended by this.
type Set struct {
	Policy Policy `json:"policy"`
}

// Resume lifts a stop, and closes the breaker.
type Resume struct{}

// Prices replaces what the provider sells.
type Prices struct {
	Offers []Offer `json:"offers"`
}

// Swept is the reaper's sign of life: it has compared the provider's list with
// the state.
type Swept struct {
	Sweep Sweep `json:"sweep"` // At is set by Apply
}

// Buy begins an op: there is to be one more machine. Refused where the caps,
// the breaker or the offers do not allow it; where the op is known already it
// changes nothing.
type Buy struct {
	Op     string `json:"op"` // ULID
	Task   string `json:"task,omitempty"`
	By     string `json:"by,omitempty"` // person; empty: the leader by itself
	Owner  string `json:"owner,omitempty"`
	Need   Need   `json:"need,omitzero"`
	Reason string `json:"reason"`
}

// Withdraw ends a purchase that is not needed any more. Refused while the
// provider is being asked, and after it.
type Withdraw struct {
	Op     string `json:"op"`
	Reason string `json:"reason"`
}

// Try says that the provider is about to be asked for a server. It comes before
// each create call, and again before the same call is made again because its
// outcome is not known; the provider's answer is to carry the token that it
// sets. Invite lets the server's node in; only Apply binds it to the machine.
type Try struct {
	Machine  string `json:"machine"`
	Token    uint64 `json:"token"`
	Type     string `json:"type"`
	Location string `json:"location"`
	Invite   Invite `json:"invite"`
}

// Made says that the provider has the server.
type Made struct {
	Machine string `json:"machine"`
	Token   uint64 `json:"token"`
	Server  Server `json:"server"` // without its labels
}

// NoKey is the trouble of a create call that was never made: the key, the
// invitation or the user-data could not be had.
const NoKey Trouble = "no boot key"

// Missed says why a create call brought no server, or that nobody knows what it
// brought.
type Missed struct {
	Machine string        `json:"machine"`
	Token   uint64        `json:"token"`
	Trouble Trouble       `json:"trouble"`
	Text    string        `json:"text"`             // a sentence
	Wait    time.Duration `json:"wait,omitempty"`   // how long the provider wants to be left alone
	Server  string        `json:"server,omitempty"` // of [Broken]: the id of what it made, if it said so
}

// Fail says that a machine is of no use: it did not come up in time, or its
// node is silent for long. It will be deleted.
type Fail struct {
	Machine string `json:"machine"`
	Token   uint64 `json:"token"`
	Reason  string `json:"reason"`
}

// Keep has an idle machine kept until then; the zero time takes it back.
type Keep struct {
	Machine string    `json:"machine"`
	Until   time.Time `json:"until,omitzero"`
}

// Label gives a machine its labels.
type Label struct {
	Machine string   `json:"machine"`
	Labels  []string `json:"labels"`
}

// Retire begins to delete a machine: it gets no more leases, and is deleted
// when it has none. One that is wanted only is not bought then. With Idle it is refused to one that has a lease now: "still
// idle" and "draining" are one entry.
type Retire struct {
	Machine string `json:"machine"`
	Op      string `json:"op"` // ULID
	Reason  string `json:"reason"`
	By      string `json:"by,omitempty"` // person; empty: the leader by itself
	Idle    bool   `json:"idle,omitempty"`
}

// Delete says that the provider is about to be asked to delete the server. Its
// node is no member from here on. Refused while the machine has leases, unless
// it failed, or Force: then they run out as those of a removed node do.
type Delete struct {
	Machine string `json:"machine"`
	Token   uint64 `json:"token"`
	Op      string `json:"op,omitempty"` // ULID; used for a machine that failed, which nobody retired
	Force   bool   `json:"force,omitempty"`
}

// Locate gives a machine its server's id that the answer to the create call
// did not bring: the provider lists the server.
type Locate struct {
	Machine string `json:"machine"`
	Token   uint64 `json:"token"`
	Server  Server `json:"server"` // without its labels
}

// Note keeps what the provider said last, in words.
type Note struct {
	Op   string `json:"op"`
	Text string `json:"text"`
}

// Ended says that the provider has no such server: it answered 404 for its id,
// or, where no id is known, has not listed it for long.
type Ended struct {
	Machine string `json:"machine"`
	Token   uint64 `json:"token"`
	Reason  string `json:"reason"`
}

// purchase lists which of these ops are there.
func (c Command) purchase() []bool {
	return []bool{
		c.Set != nil, c.Resume != nil, c.Prices != nil, c.Swept != nil,
		c.Buy != nil, c.Withdraw != nil, c.Try != nil, c.Made != nil, c.Missed != nil, c.Fail != nil,
		c.Keep != nil, c.Label != nil, c.Retire != nil, c.Delete != nil, c.Locate != nil, c.Note != nil, c.Ended != nil,
	}
}

// applyPurchase calls the op's function. An error is a refusal.
func (a *applier) applyPurchase(c Command) error {
	switch {
	case c.Set != nil:
		return a.set(*c.Set)
	case c.Resume != nil:
		return a.resume()
	case c.Prices != nil:
		return a.prices(*c.Prices)
	case c.Swept != nil:
		return a.swept(*c.Swept)
	case c.Buy != nil:
		return a.buy(*c.Buy)
	case c.Withdraw != nil:
		return a.withdraw(*c.Withdraw)
	case c.Try != nil:
		return a.try(*c.Try)
	case c.Made != nil:
		return a.made(*c.Made)
	case c.Missed != nil:
		return a.missed(*c.Missed)
	case c.Fail != nil:
		return a.fail(*c.Fail)
	case c.Keep != nil:
		return a.keep(*c.Keep)
	case c.Label != nil:
		return a.label(*c.Label)
	case c.Retire != nil:
		return a.retire(*c.Retire)
	case c.Delete != nil:
		return a.delete(*c.Delete)
	case c.Locate != nil:
		return a.locate(*c.Locate)
	case c.Note != nil:
		return a.note(*c.Note)
	}
	return a.ended(*c.Ended)
}
