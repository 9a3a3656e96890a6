package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrNewer is returned for what this code cannot read.
var ErrNewer = errors.New("written by a newer samnode: upgrade this node")

// Version is the newest command version that this code reads and writes.
const Version = 1

// Command is one entry for the pool. Exactly one op is set. Every op is
// harmless when applied twice. With an id, a second apply of the same id
// changes nothing at all, and [State.Outcome] says what became of the first;
// without one nobody asks.
type Command struct {
	Version int    `json:"v"`
	ID      string `json:"id,omitempty"`

	Found    *Found    `json:"found,omitempty"`
	Invite   *Invite   `json:"invite,omitempty"`
	Uninvite *Uninvite `json:"uninvite,omitempty"`
	Join     *Join     `json:"join,omitempty"`
	Start    *Start    `json:"start,omitempty"`
	Beats    *Beats    `json:"beats,omitempty"`
	Drain    *Drain    `json:"drain,omitempty"`
	Remove   *Remove   `json:"remove,omitempty"`
	Grant    *Grant    `json:"grant,omitempty"`
	Release  *Release  `json:"release,omitempty"`

	Set      *Set      `json:"set,omitempty"`
	Resume   *Resume   `json:"resume,omitempty"`
	Prices   *Prices   `json:"prices,omitempty"`
	Swept    *Swept    `json:"swept,omitempty"`
	Buy      *Buy      `json:"buy,omitempty"`
	Withdraw *Withdraw `json:"withdraw,omitempty"`
	Try      *Try      `json:"try,omitempty"`
	Made     *Made     `json:"made,omitempty"`
	Missed   *Missed   `json:"missed,omitempty"`
	Fail     *Fail     `json:"fail,omitempty"`
	Keep     *Keep     `json:"keep,omitempty"`
	Label    *Label    `json:"label,omitempty"`
	Retire   *Retire   `json:"retire,omitempty"`
	Delete   *Delete   `json:"delete,omitempty"`
	Locate   *Locate   `json:"locate,omitempty"`
	Note     *Note     `json:"note,omitempty"`
	Ended    *Ended    `json:"ended,omitempty"`

	// Machine is how a lone node announced itself before there was a mesh. It is
	// read from logs of that time and does nothing once a mesh is founded.
	Machine *Machine `json:"machine,omitempty"`
}

// Found makes the mesh with its first node, a core node. Refused where there
// is a mesh already, unless Over is its id: then what the pool holds came from
// a backup of it, and its nodes, invitations and leases end here.
type Found struct {
	Mesh string `json:"mesh"` // ULID
	Node Node   `json:"node"` // Name, Addr, Version and URL
	Over string `json:"over,omitempty"`
}

// Invite lets one node join until Expires. Hash is the SHA-256 of the secret
// in hex: the secret itself is with the person who asked for it. Invitations
// that have run out are forgotten when the next one is made.
type Invite struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"`
	Core    bool      `json:"core,omitempty"` // good for a core node, too
	By      string    `json:"by,omitempty"`   // person
	Expires time.Time `json:"expires"`
	Machine string    `json:"machine,omitempty"` // the bought machine that it lets in, and nobody else; only [Try] makes such a one
}

// Uninvite takes an invitation back that nobody used.
type Uninvite struct {
	ID string `json:"id"`
}

// Join makes a node a member. It uses the invitation up; the same node at the
// same address with the same invitation again is the same join.
type Join struct {
	Invite string `json:"invite"` // id
	Hash   string `json:"hash"`
	Node   Node   `json:"node"` // Name, Addr, Core, Version and URL; the rest is set by Apply
}

// Start announces a node's process and its machine, and is its first sign of
// life. Refused to a process that runs from a copied state directory: its
// generation is one that another process has had.
type Start struct {
	Node       string  `json:"node"`
	Addr       string  `json:"addr"`
	Boot       string  `json:"boot"`
	Generation uint64  `json:"generation"`
	Version    string  `json:"version"`
	URL        string  `json:"url,omitempty"`
	Slots      int     `json:"slots"` // 0: it takes no tasks
	CPUs       int     `json:"cpus"`
	Mem        int64   `json:"mem"` // bytes
	Report     *Report `json:"report,omitempty"`
}

// Beats are the signs of life of many nodes in one entry. Each renews the
// node's leases. One of a process that is not the node's is ignored.
type Beats struct {
	Beats []Beat `json:"beats"`
}

// Beat is one node's sign of life. Without a report the last one stands.
type Beat struct {
	Node   string  `json:"node"`
	Boot   string  `json:"boot"`
	Report *Report `json:"report,omitempty"`
}

// Drain keeps new leases from a machine, or lets them come again. It holds
// until it is taken back, whatever the node does. Taken back, it also ends an
// op that was to delete the machine and has not begun to.
type Drain struct {
	Node string `json:"node"`
	On   bool   `json:"on"`
}

// Remove ends a node's membership and its machine. One that was bought has
// failed then, and is deleted. Its leases run out as those
// of a silent node do: it may not have heard yet that it was removed. The last
// core node stays. The name may join again with a new invitation, once its
// leases have ended.
type Remove struct {
	Node string `json:"node"`
}

// Grant gives a free slot of a ready machine to a task without a lease.
// Anything else is refused.
//
// A bought machine takes one owner's tasks only, unless the policy shares it:
// that of the first who got a slot there.
type Grant struct {
	Task  string `json:"task"`
	Node  string `json:"node"`
	Slot  string `json:"slot"`
	Owner string `json:"owner,omitempty"` // whose task it is
}

// Release ends the lease with that token; a stale token changes nothing.
//
// Index makes it an expiry: not 0, it ends the lease only if no entry after
// that one renewed it. So a node that is heard between the leader's look at the
// pool and this entry keeps its lease.
type Release struct {
	Task  string `json:"task"`
	Token uint64 `json:"token"`
	Index uint64 `json:"index,omitempty"` // [Lease].Index as the leader saw it
}

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

func (c Command) validate() error {
	if c.Version < 1 || c.Version > Version {
		return fmt.Errorf("pool command version %d: %w", c.Version, ErrNewer)
	}
	n := 0
	for _, set := range append(c.purchase(),
		c.Found != nil, c.Invite != nil, c.Uninvite != nil, c.Join != nil, c.Start != nil, c.Beats != nil,
		c.Drain != nil, c.Remove != nil, c.Grant != nil, c.Release != nil, c.Machine != nil,
	) {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("pool command with %d ops: %w", n, ErrNewer)
	}
	return nil
}
