package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// ErrLastVoter: the member cannot go, because no other could take over.
var ErrLastVoter = errors.New("it is the last voter: add another core node and wait until it has caught up")

// ErrTooFewVoters: without the member no majority of the voters would answer, so
// that nothing could be accepted any more.
var ErrTooFewVoters = errors.New("the mesh would stand still without it")

// errNoHeir: there is no other voter to lead.
var errNoHeir = errors.New("no other voter is there to take over")

// Member is a node of the group. A voter counts for majorities; the others are
// spares, which have the log too.
type Member struct {
	Node  string `json:"node"`
	Addr  string `json:"addr"`
	Voter bool   `json:"voter"`
}

// Leader is the node that leads, as far as this one knows; empty: none does.
func (l *Log) Leader() string {
	_, id := l.raft.LeaderWithID()
	return string(id)
}

// Members are the nodes of the group by name, as this node knows them: the
// newest changes may be missing here or, while no majority has them, go again.
// A node that waits to be added knows none.
func (l *Log) Members(ctx context.Context) ([]Member, error) {
	if l.isEnding() {
		return nil, ErrClosed
	}
	return l.members(), context.Cause(ctx)
}

func (l *Log) members() []Member { return membersOf(l.servers()) }

func membersOf(servers []raft.Server) []Member {
	var out []Member
	for _, s := range servers {
		out = append(out, Member{Node: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// AddMember makes node, which is to be reached at addr, a spare. For one that
// is a member already it only changes the address. A node that lost its Dir is
// removed before it is added again: a voter that forgot what it voted for, and
// what it said it has, could make others lose entries.
//
// Any member takes the call; the errors are those of Propose. After
// ErrUnknownOutcome the same call again is harmless.
func (l *Log) AddMember(ctx context.Context, node, addr string) error {
	if node == "" || addr == "" || len(node) > maxName || len(addr) > maxName {
		return fmt.Errorf("adding a member: want a node and an address of 1 to %d bytes", maxName)
	}
	_, err := l.atLeader(ctx, callAdd, appendBytes(appendBytes(nil, node), addr))
	if err != nil {
		return fmt.Errorf("adding member %s: %w", node, err)
	}
	return nil
}

const maxName = 255

// RemoveMember takes node out of the group; one that is not a member is gone
// already. A leader hands over first, and the last voter to a spare that has
// caught up, if there is one: otherwise it is ErrLastVoter. It is
// ErrTooFewVoters, and nothing changes, when a majority of those who would be
// left does not answer. The node itself may not hear of it.
//
// Any member takes the call; the errors are those of Propose. After
// ErrUnknownOutcome the same call again is harmless.
func (l *Log) RemoveMember(ctx context.Context, node string) error {
	if _, err := l.atLeader(ctx, callRemove, []byte(node)); err != nil {
		return fmt.Errorf("removing member %s: %w", node, err)
	}
	return nil
}

// Transfer hands the leadership to the best other voter. It does nothing when
// this node does not lead.
func (l *Log) Transfer(ctx context.Context) error {
	term, ok := l.reign()
	if !ok {
		return nil
	}
	err := errNoHeir
	for _, heir := range l.heirs(term) {
		if heir.Suffrage != raft.Voter {
			continue
		}
		_, err = call(ctx, l, func() raft.Future { return l.raft.LeadershipTransferToServer(heir.ID, heir.Address) })
		if err == nil || errors.Is(err, raft.ErrNotLeader) {
			return nil
		}
		err = fmt.Errorf("to %s: %w", heir.ID, err)
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("handing over the leadership: %w", err)
}

// heirs are the other members that answer and have almost all of the log, the
// one that has most first.
func (l *Log) heirs(term uint64) []raft.Server {
	match := make(map[raft.ServerID]uint64)
	var out []raft.Server
	for _, s := range l.servers() {
		p := l.wire.peers.at(s.ID, term)
		if s.ID != raft.ServerID(l.conf.Node) && l.answers(p) && l.caughtUp(p) {
			out, match[s.ID] = append(out, s), p.match
		}
	}
	slices.SortStableFunc(out, func(a, b raft.Server) int { return cmp.Compare(match[b.ID], match[a.ID]) })
	return out
}

// answers tells whether a peer is there.
func (l *Log) answers(p peer) bool {
	return !p.contact.IsZero() && time.Since(p.contact) <= l.conf.HeartbeatTimeout
}

// caughtUp tells whether a peer has almost all of the log.
func (l *Log) caughtUp(p peer) bool {
	return p.match > 0 && p.match+slack >= l.raft.LastIndex()
}

// change runs a change of the members. All of them may be done twice.
func (l *Log) change(ctx context.Context, start func() raft.IndexFuture) error {
	future, err := call(ctx, l, start)
	if future == nil {
		return err
	}
	return l.asNotHere(err)
}
