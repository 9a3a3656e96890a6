// Package consensus is one ordered log across the mesh for any set of state
// machines.
//
// An entry holds a part for one or more [Machine]s and the leader's time. Once
// [Log.Propose] returns, a majority of the voters has the entry on disk and
// this node's machines have applied it. Every node's machines get the same
// entries in the same order with the same times, each exactly once.
//
// A proposal whose outcome is unknown (the leader lost its office, the caller
// gave up waiting) may still be committed later: proposals carry an id of
// their own that makes applying them twice harmless.
//
// Any member takes proposals and changes of the members and forwards them to
// the leader. Members join as spares, which have the log and no vote; the
// leader gives votes to the caught-up among them ([Log.Tend]). A node too far
// behind the log is sent a whole copy of the machines, as of one index.
//
// A machine that is not deterministic, or an error of one, stops the node; it
// never splits the mesh.
package consensus

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// Errors of this package.
var (
	// ErrNoLeader: nothing was written, because no node is known to lead.
	ErrNoLeader = errors.New("no node leads the mesh")
	// ErrUnknownOutcome: the entry may be committed, now or later. Propose it
	// again with the same command id.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrFull: the log or the state cannot be written. The node is stopping;
	// nothing that was acknowledged is lost.
	ErrFull = errors.New("the disk cannot be written")
	// ErrTooLarge: the entry is larger than MaxEntry. Nothing was written.
	ErrTooLarge = errors.New("entry too large")
	// ErrClosed: the Log was closed. Nothing was written.
	ErrClosed = errors.New("log closed")
	// ErrLeadershipLost is the cause with which Lead cancels.
	ErrLeadershipLost = errors.New("leadership lost")

	// ErrNewer: the log holds what this version does not know.
	ErrNewer = errors.New("written by a newer samnode: upgrade this node")
	// ErrForeign: the directory holds another node's state, or a machine's
	// store does not belong to this log.
	ErrForeign = errors.New("state of another node or mesh")
	// ErrDamaged: what this node has on disk is not what was written, and not
	// the work of a power cut either. A node of several gets it back from the
	// others; Recover makes do with what is left.
	ErrDamaged = errors.New("this node's log is damaged: remove its folder and join the node again, or recover with what is left")
	// ErrNoState: the directory is empty and Config does not say to begin.
	ErrNoState = errors.New("no state: start a mesh or join one first")
	// ErrManifest is what a Machine's Restore answers when the snapshot only
	// says what its own store should hold, and the store does not hold it.
	// consensus then replays the log if it still reaches back that far.
	ErrManifest = errors.New("the machine's store is behind the snapshot")
)

// Entry is one committed command of one machine.
type Entry struct {
	Index uint64    // of the log entry; grows, with gaps
	At    time.Time // leader's clock, UTC; never goes back from entry to entry
	Data  []byte    // may be kept, must not be changed
}

// Machine is a state machine. Its state is a function of the entries it was
// given and of nothing else. consensus never calls two of its methods at once.
type Machine interface {
	// Apply takes the entries that hold a part for this machine, in order,
	// each exactly once over the machine's whole life. It takes all of them or
	// none, as durably as the machine is durable. An error or a panic stops the
	// node.
	Apply(entries []Entry) error
	// Applied is the highest index that the machine will never need again
	// after a restart: 0 for one that lives in memory, the index that its
	// store holds durably for another. Entries up to it are not given again.
	Applied() uint64
	// Snapshot captures the state as it is between two Applies. It must be
	// cheap, and what it returns must share nothing with the live state: WriteTo
	// runs later, while Apply goes on, and may never run. When WriteTo returns,
	// the log may be cut up to this point, so a machine with a store of its own
	// makes the store durable in WriteTo and writes a small manifest. An
	// io.WriterTo that is also an io.Closer is closed when it is done with.
	Snapshot() (io.WriterTo, error)
	// Restore replaces the state by what Snapshot, or Copy of a Copier, wrote. A
	// machine with a store of its own that cannot do that returns ErrManifest.
	Restore(r io.Reader) error
}

// Copier is a Machine whose Snapshot only names what its own store holds. Copy
// captures the state as Snapshot does, with the same rules, and WriteTo of what
// it returns writes all that Restore needs on a node that has nothing. An
// io.WriterTo that is also an io.Closer is closed when it is done with.
type Copier interface {
	Copy() (io.WriterTo, error)
}

// Part is one machine's part of an entry.
type Part struct {
	Machine string
	Data    []byte
}

// Config says how to open a Log. Dir, Node and Machines must be set.
type Config struct {
	Dir      string             // for the log, the vote and the snapshots; made if missing; of this node only
	Node     string             // this node's name, for ever
	Machines map[string]Machine // by the name their parts carry; never rename one

	// Bootstrap begins a new group with this node as its only voter when Dir is
	// empty; Join waits to be added to a group by AddMember on one of its nodes.
	// Without either an empty Dir is ErrNoState. Both mean nothing once there is
	// state.
	Bootstrap bool
	Join      bool

	Transport Transport    // nil: this node is alone
	Logger    *slog.Logger // nil: slog.Default

	HeartbeatTimeout   time.Duration // silence of the leader before an election; 0: 500 ms
	ElectionTimeout    time.Duration // of a candidate before it tries again, at least HeartbeatTimeout; 0: 500 ms
	LeaderLeaseTimeout time.Duration // without a majority before the leader steps down, at most HeartbeatTimeout; 0: 250 ms

	SnapshotEvery uint64        // entries between snapshots; 0: 8192
	SnapshotCheck time.Duration // how often to look, with a random part of the same length on top; 0: 30 s
	Trailing      uint64        // entries kept in the log after a snapshot, for nodes that are behind; 0: 10240

	MaxAppendEntries int // most entries in one write or one message, which bounds the memory of a node that catches up; 0: 128, at most 1024

	SegmentSize int       // bytes of a log file; 0: 16 MiB
	Files       types.VFS // what the log's files are on, for tests of disks that fail; nil: the system's
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("consensus: Dir is not set")
	case c.Node == "":
		return errors.New("consensus: Node is not set")
	case len(c.Machines) == 0:
		return errors.New("consensus: no Machines")
	case c.Bootstrap && c.Join:
		return errors.New("consensus: Bootstrap and Join exclude each other")
	}
	for name, m := range c.Machines {
		if m == nil || name == "" || len(name) > maxMachine {
			return fmt.Errorf("consensus: machine %q: want a machine and a name of 1 to %d bytes", name, maxMachine)
		}
	}
	return nil
}

func (c *Config) setDefaults() {
	setDefault(&c.Logger, slog.Default())
	setDefault(&c.HeartbeatTimeout, 500*time.Millisecond)
	setDefault(&c.ElectionTimeout, max(500*time.Millisecond, c.HeartbeatTimeout))
	setDefault(&c.LeaderLeaseTimeout, min(250*time.Millisecond, c.HeartbeatTimeout))
	setDefault(&c.SnapshotEvery, 8192)
	setDefault(&c.SnapshotCheck, 30*time.Second)
	setDefault(&c.Trailing, 10240)
	setDefault(&c.MaxAppendEntries, 128)
	setDefault(&c.SegmentSize, 16<<20)
	setDefault(&c.Files, types.VFS(fs.New()))
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

func (c *Config) raft(notify chan<- bool) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.Node)
	conf.HeartbeatTimeout = c.HeartbeatTimeout
	conf.ElectionTimeout = max(c.ElectionTimeout, c.HeartbeatTimeout+1) // room for look
	conf.LeaderLeaseTimeout = c.LeaderLeaseTimeout
	conf.SnapshotThreshold = c.SnapshotEvery
	conf.SnapshotInterval = c.SnapshotCheck
	conf.TrailingLogs = c.Trailing
	conf.MaxAppendEntries = c.MaxAppendEntries
	conf.BatchApplyCh = true
	conf.NoSnapshotRestoreOnStart = true // load does it, for the machines that need it
	conf.NoLegacyTelemetry = true
	conf.ShutdownOnRemove = false // Raft would stop without a word
	conf.NotifyCh = notify
	conf.Logger = newHclog(c.Logger, "raft")
	return conf
}
