package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// What the mesh looks like from one node. The pages show the same values as
// the JSON answers, so there is one set of structs for both.

// Mesh is this node's view of all nodes. Every open page asks it about once a
// second, so its first two methods answer from memory.
type Mesh interface {
	Mesh(context.Context) (MeshInfo, error)
	// Nodes lists the members of the mesh, this node among them.
	Nodes(context.Context) ([]Node, error)
	// Node tells everything about one node, which may mean asking it. An
	// unknown name wraps chat.ErrNotFound; any other error means that the node
	// did not answer, and what Nodes says of it is shown.
	Node(ctx context.Context, name string) (NodeDetail, error)
}

// NodeKeeper changes the members of the mesh. Both are harmless a second time.
type NodeKeeper interface {
	// Drain stops placing tasks on a node, or places them there again.
	Drain(ctx context.Context, by chat.Author, node string, on bool) error
	// Label says what a node has that projects may ask for.
	Label(ctx context.Context, by chat.Author, node string, labels []string) error
	// Remove takes a node out of the mesh for good. A refusal wraps
	// chat.ErrRefused and says what to do first. Trace is a sentence of what is
	// left of it outside of the mesh, and what to do about it; empty: nothing is.
	Remove(ctx context.Context, by chat.Author, node string) (trace string, err error)
}

// Removed is the answer to the removal of a node.
type Removed struct {
	Removed string `json:"removed"`
	Trace   string `json:"trace,omitempty"` // what is left of it elsewhere, and what to do about it
}

// Invitations let machines join, once each.
type Invitations interface {
	// Invitations lists those that nobody used and that have not run out.
	Invitations(context.Context) ([]Invitation, error)
	// Invite makes one. The answer holds the token, which is kept nowhere: the
	// same id a second time wraps chat.ErrRefused.
	Invite(ctx context.Context, by chat.Author, id string, core bool, valid time.Duration) (Invitation, error)
	// Withdraw makes one useless; unknown ones wrap chat.ErrNotFound.
	Withdraw(ctx context.Context, by chat.Author, id string) error
}

// People are the persons who ever called, and what they may do.
type People interface {
	People(context.Context) ([]Person, error)
	// SetRole gives a person a role: owner, member or viewer, or with an empty
	// one takes it away. Taking the last owner's wraps chat.ErrRefused.
	SetRole(ctx context.Context, by chat.Author, person chat.Person, role string) error
}

// Backups are copies of the whole mesh that live elsewhere.
type Backups interface {
	Backup(context.Context) (Backup, error)
	// SetBackup changes where to, when and for whom; a value that cannot be
	// wraps chat.ErrInvalid.
	SetBackup(ctx context.Context, by chat.Author, set BackupSettings) error
	// BackUp makes one now.
	BackUp(ctx context.Context, by chat.Author) (BackupMade, error)
}

// Settings are the values of the mesh that have a name; an unset one is empty.
type Settings interface {
	Setting(name string) string
	SetSetting(ctx context.Context, by chat.Author, name, value string) error
}

// MeshInfo is the mesh as this node sees it.
type MeshInfo struct {
	ID       string            `json:"id"`
	Node     string            `json:"node"`             // the node that answers
	Leader   string            `json:"leader,omitempty"` // empty: none is known
	Members  []Member          `json:"members"`          // of the Raft group
	Voters   int               `json:"voters"`
	Quorum   bool              `json:"quorum"` // enough voters are there to write
	Version  string            `json:"version"`
	Versions map[string]string `json:"versions"`            // by node
	Index    uint64            `json:"index"`               // applied on this node
	Lag      uint64            `json:"lag,omitempty"`       // entries that the leader has and this node has not
	BehindMS int64             `json:"behind_ms,omitempty"` // for how long it has lagged
	Backup   *Backup           `json:"backup,omitempty"`
	Warnings []string          `json:"warnings"` // sentences for a person
}

// Member is a core node in the Raft group: a voter, or a spare.
type Member struct {
	Node  string `json:"node"`
	Voter bool   `json:"voter"`
}

// Node is one node of the mesh.
type Node struct {
	Name     string    `json:"name"`
	URL      string    `json:"url,omitempty"` // of its pages: scheme, host, port
	Self     bool      `json:"self,omitempty"`
	Core     bool      `json:"core"`
	Voter    bool      `json:"voter"`
	Leader   bool      `json:"leader"`
	Online   bool      `json:"online"`
	Since    time.Time `json:"since,omitzero"` // online, or silent, since
	Version  string    `json:"version,omitempty"`
	Draining bool      `json:"draining"`
	Labels   []string  `json:"labels,omitempty"` // what projects may ask for
	Slots    int       `json:"slots"`
	Used     int       `json:"used"`
	Leases   []Lease   `json:"leases,omitempty"`
	Load     *Load     `json:"load,omitempty"`
	Path     *Path     `json:"path,omitempty"`  // from the node that answers; nil: itself, or unknown
	Index    uint64    `json:"index,omitempty"` // applied there
	Lag      uint64    `json:"lag,omitempty"`   // entries behind the leader
	Warnings []string  `json:"warnings,omitempty"`
}

// Lease is a task on a slot.
type Lease struct {
	Task  chat.TaskID `json:"task"`
	Slot  string      `json:"slot"`
	Token uint64      `json:"token"`
	Since time.Time   `json:"since,omitzero"`
}

// Load is how busy a machine is. Sizes are bytes; a total of 0 is unknown.
type Load struct {
	CPUs      int     `json:"cpus"`
	Load      float64 `json:"load"` // of the last minute
	Memory    int64   `json:"memory"`
	MemoryMax int64   `json:"memory_max"`
	Disk      int64   `json:"disk"`
	DiskMax   int64   `json:"disk_max"`
}

// Path is the way to a node.
type Path struct {
	Direct    bool    `json:"direct"`
	Relay     string  `json:"relay,omitempty"` // its name, when the way is not direct
	LatencyMS float64 `json:"latency_ms"`      // there and back; 0: not measured
}

// NodeDetail is a node with what only the node itself knows. Parts that are
// not known are left out.
type NodeDetail struct {
	Node
	Raft    *Raft     `json:"raft,omitempty"` // nil on workers
	Peers   []Peer    `json:"peers,omitempty"`
	Docker  string    `json:"docker,omitempty"` // its version, or why there is none
	System  string    `json:"system,omitempty"` // "linux/amd64, Debian 13"
	Started time.Time `json:"started,omitzero"` // of the process
	Recent  []Event   `json:"recent,omitempty"` // warnings, the newest first
}

// Raft is a node's part in the group.
type Raft struct {
	Role     string `json:"role"` // leader, follower, candidate
	Term     uint64 `json:"term"`
	Last     uint64 `json:"last"`
	Commit   uint64 `json:"commit"`
	Applied  uint64 `json:"applied"`
	Snapshot uint64 `json:"snapshot"`
}

// Peer is another node as this one sees it.
type Peer struct {
	Node    string    `json:"node"`
	Contact time.Time `json:"contact,omitzero"` // when it was heard last
	Lag     uint64    `json:"lag"`              // entries that it lacks, where this node knows
	Path    *Path     `json:"path,omitempty"`
}

// Event is something that happened on a node.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Invitation is a right to join, good for one machine.
type Invitation struct {
	ID      string      `json:"id"`
	Core    bool        `json:"core"`
	By      chat.Person `json:"by,omitempty"`
	Made    time.Time   `json:"made,omitzero"`
	Expires time.Time   `json:"expires"`
	Token   string      `json:"token,omitempty"`   // only in the answer of Invite
	Command string      `json:"command,omitempty"` // to run on the machine that joins; only there, too
}

// Person is somebody who may call.
type Person struct {
	Person chat.Person `json:"person"`
	Role   string      `json:"role"`           // empty: an owner has to give one
	Since  time.Time   `json:"since,omitzero"` // of the first call
}

// BackupSettings say where backups go, when, and who can open them.
type BackupSettings struct {
	Destination string `json:"destination"`         // a folder of a core node, or s3://bucket/prefix
	Schedule    string `json:"schedule"`            // "daily 03:00", "every 6h", "off"
	Recipient   string `json:"recipient,omitempty"` // public key; a person keeps the secret one
	Keep        int    `json:"keep,omitempty"`      // how many stay; 0: all
}

// Backup is the settings and what came of them.
type Backup struct {
	BackupSettings
	Last   *BackupMade   `json:"last,omitempty"`   // the newest that worked
	Failed *BackupFailed `json:"failed,omitempty"` // the newest attempt, when it failed
	Next   time.Time     `json:"next,omitzero"`
}

// BackupMade is a backup that can be restored.
type BackupMade struct {
	At    time.Time `json:"at"`
	Where string    `json:"where"`
	Size  int64     `json:"size"`
	Index uint64    `json:"index"` // everything up to it is inside
}

// BackupFailed is an attempt and its reason, for a person.
type BackupFailed struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// ErrNoMajority means that the mesh cannot write at this moment: it has no
// leader, or no majority to elect one. What was asked for was not acknowledged
// and may be asked for again under the same id.
var ErrNoMajority = errors.New("the mesh cannot write")

// ReadOnly is ErrNoMajority in words: what is missing, and when it ends.
func ReadOnly(m MeshInfo, nodes []Node) string {
	if m.Quorum {
		return "The mesh has no leader at this moment. Try again in a few seconds: what has an id is done once."
	}
	var silent []string
	for _, n := range nodes {
		if n.Voter && !n.Online {
			silent = append(silent, n.Name)
		}
	}
	if len(silent) == 0 {
		return "The mesh has no majority: it is read-only until enough core nodes are back."
	}
	slices.Sort(silent)
	return "The mesh has no majority: it is read-only until " + strings.Join(silent, " or ") + " is back."
}
