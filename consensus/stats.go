package consensus

import (
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// Stats is how this node stands, for people and for tests.
type Stats struct {
	Role     string `json:"role"`             // leader, candidate, follower or shutdown
	Leader   string `json:"leader,omitempty"` // node, as far as this one knows
	Quorum   bool   `json:"quorum"`           // false: no node has led for longer than an election takes, so nothing can be written
	Term     uint64 `json:"term"`
	Last     uint64 `json:"last"`     // index of the newest entry in this node's log
	Commit   uint64 `json:"commit"`   // of the newest that is known to be committed
	Applied  uint64 `json:"applied"`  // of the newest that the machines applied
	Snapshot uint64 `json:"snapshot"` // up to which the newest snapshot goes

	Peers    []Peer   `json:"peers,omitempty"` // the other members, by name
	Timeouts Timeouts `json:"timeouts"`
}

// Peer is how another member stands. What follows Voter only the leader knows.
type Peer struct {
	Member
	Match  uint64        `json:"match,omitempty"`  // newest entry it is known to have; 0: not known yet
	Lag    uint64        `json:"lag,omitempty"`    // entries of the leader's log that it is not known to have
	Silent time.Duration `json:"silent,omitempty"` // ns since its last answer; -1: none in this term
	Copied uint64        `json:"copied,omitempty"` // index of the copy that it is sent, or catches up from
}

// Timeouts are those of Config, with the defaults filled in.
type Timeouts struct {
	Heartbeat   time.Duration `json:"heartbeat"` // in ns, as the others
	Election    time.Duration `json:"election"`
	LeaderLease time.Duration `json:"leader_lease"`
}

// Stats reads how this node stands now. The values are of slightly different
// moments.
func (l *Log) Stats() Stats {
	// Raft tells the snapshot's index among its texts only.
	snapshot, err := strconv.ParseUint(l.raft.Stats()["last_snapshot_index"], 10, 64)
	if err != nil {
		l.conf.Logger.Warn("reading raft's figures", "err", err)
	}
	return Stats{
		Role:     roles[l.raft.State()],
		Leader:   l.Leader(),
		Quorum:   l.quorum(),
		Term:     l.raft.CurrentTerm(),
		Last:     l.raft.LastIndex(),
		Commit:   l.raft.CommitIndex(),
		Applied:  l.fsm.waits.applied(),
		Snapshot: snapshot,
		Peers:    l.peers(),
		Timeouts: Timeouts{l.conf.HeartbeatTimeout, l.conf.ElectionTimeout, l.conf.LeaderLeaseTimeout},
	}
}

var roles = map[raft.RaftState]string{
	raft.Leader: "leader", raft.Candidate: "candidate", raft.Follower: "follower", raft.Shutdown: "shutdown",
}

// quorum tells whether this node has known a leader lately.
func (l *Log) quorum() bool {
	if l.Leader() != "" {
		return true
	}
	l.note(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.lost) <= 2*(l.conf.HeartbeatTimeout+l.conf.ElectionTimeout)
}

// peers are the other members.
func (l *Log) peers() []Peer {
	term, leads := l.reign()
	last := l.raft.LastIndex()
	var out []Peer
	for _, m := range l.members() {
		if m.Node == l.conf.Node {
			continue
		}
		p := Peer{Member: m}
		if leads {
			known := l.wire.peers.at(raft.ServerID(m.Node), term)
			p.Match, p.Copied, p.Silent = known.match, known.base, -1
			p.Lag = last - min(last, known.match)
			if !known.contact.IsZero() {
				p.Silent = time.Since(known.contact)
			}
		}
		out = append(out, p)
	}
	return out
}
