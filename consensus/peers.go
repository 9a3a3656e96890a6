package consensus

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// peers is what this node, as leader, knows of how far the others are. Raft
// keeps that to itself, so it is read off the messages.
type peers struct {
	news  chan struct{} // a peer has more entries; of capacity 1
	slack uint64        // entries that a peer may lack that does not need base any more

	mu     sync.Mutex
	term   uint64 // that the rest is about
	of     map[raft.ServerID]*peer
	closed bool
	users  sync.WaitGroup // messages of our own to them on the way
}

// peer is one other node, in the term of its peers.
type peer struct {
	match   uint64    // newest entry it is known to have
	told    uint64    // newest entry it was told is committed
	telling bool      // a message of our own is on the way
	contact time.Time // newest answer

	// base is the index of the snapshot it was sent, until it has caught up
	// with the log from there: that part of the log must stay. 0: none.
	base uint64
}

func newPeers(trailing uint64) *peers {
	return &peers{slack: min(slack, trailing/2), news: make(chan struct{}, 1), of: make(map[raft.ServerID]*peer)}
}

// atLocked returns the peer in term, nil when the term is over.
func (ps *peers) atLocked(id raft.ServerID, term uint64) *peer {
	if term > ps.term {
		ps.term = term
		clear(ps.of)
	}
	if term < ps.term {
		return nil
	}
	p := ps.of[id]
	if p == nil {
		p = new(peer)
		ps.of[id] = p
	}
	return p
}

// at returns what is known of a peer in term.
func (ps *peers) at(id raft.ServerID, term uint64) peer {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.of[id]; p != nil && ps.term == term {
		return *p
	}
	return peer{}
}

// answered takes note of the answer to a message.
func (ps *peers) answered(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.atLocked(id, req.Term)
	if p == nil || resp.Term > req.Term {
		return
	}
	p.contact = time.Now()
	if !resp.Success {
		// It has lost what it had: its folder was removed.
		p.match, p.told = min(p.match, resp.LastLog), min(p.told, resp.LastLog)
		return
	}
	has := req.PrevLogEntry
	if n := len(req.Entries); n > 0 {
		has = req.Entries[n-1].Index
	}
	p.match = max(p.match, has)
	p.told = max(p.told, min(req.LeaderCommitIndex, has))
	if p.match > p.base && p.match+ps.slack >= req.LeaderCommitIndex {
		p.base = 0
	}
}

// slack is how many entries a node may lack that has caught up: under load a
// few batches are always on the way.
const slack = 1024

// sending keeps the log from base on for a peer that is sent a snapshot.
func (ps *peers) sending(id raft.ServerID, term, base uint64) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.atLocked(id, term); p != nil {
		p.base, p.contact = base, time.Now()
	}
}

// sent takes note of the answer to a snapshot.
func (ps *peers) sent(id raft.ServerID, term, base uint64, ok bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.atLocked(id, term)
	switch {
	case p == nil:
	case ok:
		p.contact, p.match = time.Now(), max(p.match, base)
	case p.base == base:
		p.base = 0
	}
}

// base is the lowest entry that a peer still needs from the log after its
// snapshot. A peer that was silent for too long is sent another one.
func (ps *peers) base() (index uint64, any bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.of {
		if p.base == 0 || time.Since(p.contact) > 2*stallTime {
			continue
		}
		if !any || p.base < index {
			index, any = p.base, true
		}
	}
	return index, any
}

// beginTell claims the right to tell a peer that the entries up to commit are
// committed: it has them, and no other message will say it.
func (ps *peers) beginTell(id raft.ServerID, term, commit uint64) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.atLocked(id, term)
	if ps.closed || p == nil || p.telling || p.told >= commit || p.match < commit {
		return false
	}
	p.telling = true
	ps.users.Add(1)
	return true
}

func (ps *peers) endTell(id raft.ServerID, term, commit uint64) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.users.Done()
	p := ps.atLocked(id, term)
	if p == nil {
		return
	}
	p.telling = false
	if p.told >= commit && p.match > commit {
		wake(ps.news) // that may be committed by now
	}
}

// end keeps new messages from being sent.
func (ps *peers) end() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.closed = true
}

// goUser runs f unless everything is ending.
func (ps *peers) goUser(f func()) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return false
	}
	ps.users.Go(f)
	return true
}

// watched is Raft's transport. It reads off how far the peers are.
type watched struct {
	*raft.NetworkTransport
	streams *streamLayer
	peers   *peers
}

// AppendEntries implements raft.Transport.
func (w *watched) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := w.NetworkTransport.AppendEntries(id, to, req, resp); err != nil {
		return err
	}
	w.peers.answered(id, req, resp)
	if len(req.Entries) > 0 {
		wake(w.peers.news)
	}
	return nil
}

// RequestPreVote implements raft.Transport.
func (w *watched) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return w.elect(to, func() error { return w.NetworkTransport.RequestPreVote(id, to, req, resp) })
}

// RequestVote implements raft.Transport.
func (w *watched) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return w.elect(to, func() error { return w.NetworkTransport.RequestVote(id, to, req, resp) })
}

// elect asks a peer for a vote. The connections that are kept to it may be of
// an election long ago, before it was started again. Without its vote the next
// election is a while away; so it is asked over others.
func (w *watched) elect(to raft.ServerAddress, ask func() error) error {
	began := time.Now()
	err := ask()
	for range poolSize {
		if err == nil || errors.Is(err, errNotDialled) || time.Since(began) > voteTime {
			return err
		}
		w.streams.hangUp(to)
		err = ask()
	}
	return err
}

// InstallSnapshot implements raft.Transport. It may take as long as it takes,
// unless the peer does not answer heartbeats either.
func (w *watched) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	w.peers.sending(id, req.Term, req.LastLogIndex)
	done := make(chan struct{})
	began := time.Now()
	watching := w.peers.goUser(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(stallTime / 6):
			}
			if heard := w.peers.at(id, req.Term).contact; time.Since(heard) > stallTime && time.Since(began) > stallTime {
				w.streams.hangUp(to)
			}
		}
	})
	err := w.NetworkTransport.InstallSnapshot(id, to, req, resp, data)
	if watching {
		close(done)
	}
	w.peers.sent(id, req.Term, req.LastLogIndex, err == nil && resp.Success)
	return err
}

// wake leaves a signal in a channel of capacity 1.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
