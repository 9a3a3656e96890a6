package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// Fresh returns once this node's machines have applied everything that was
// acknowledged, to anyone, before the call, and says up to which entry that
// is. It asks the leader, which asks a majority whether it still leads, and
// waits for an election as Propose does. An error means that it is not known
// how old the state is.
func (l *Log) Fresh(ctx context.Context) (uint64, error) {
	index, err := l.atLeader(ctx, callFresh, nil)
	if err == nil {
		err = l.await(ctx, index)
	}
	if err != nil {
		return 0, fmt.Errorf("catching up: %w", err)
	}
	return index, nil
}

// await waits until this node's machines have applied the entry at index.
func (l *Log) await(ctx context.Context, index uint64) error {
	done := l.fsm.waits.await(index)
	select {
	case <-done:
	case <-ctx.Done():
		l.fsm.waits.forget(done)
		return context.Cause(ctx)
	case <-l.stop:
		return ErrClosed
	}
	if l.fsm.waits.applied() < index {
		return l.Err()
	}
	return nil
}

// readIndex is what a node must have applied to have everything that was
// acknowledged before: this node leads, and knows what is committed.
func (l *Log) readIndex(ctx context.Context) (uint64, error) {
	term, ok := l.reign()
	if !ok {
		return 0, errNotHere
	}
	if l.settled.Load() != term {
		// What the leaders before have acknowledged is not known to be committed
		// until an entry of this term is.
		_, err := call(ctx, l, func() raft.Future { return l.raft.Barrier(0) })
		if err != nil {
			return 0, l.asNotHere(err)
		}
		l.settled.Store(term)
	}
	commit := l.raft.CommitIndex()
	if err := l.confirm(ctx, term); err != nil {
		return 0, err
	}
	return l.newestEntry(commit)
}

// newestEntry is the newest entry up to index that the machines get to see, or
// one that they have seen.
func (l *Log) newestEntry(index uint64) (uint64, error) {
	l.newest.mu.Lock()
	defer l.newest.mu.Unlock()
	if l.newest.of == index {
		return l.newest.entry, nil
	}
	entry, seen := index, l.fsm.waits.applied()
	for ; entry > seen; entry-- {
		var x raft.Log
		err := l.stores.log.GetLog(entry, &x)
		if errors.Is(err, raft.ErrLogNotFound) {
			entry = seen // cut: all of it was applied
			break
		}
		if err != nil {
			return 0, fmt.Errorf("reading log entry %d: %w", entry, err)
		}
		if x.Type == raft.LogCommand || x.Type == raft.LogConfiguration {
			break
		}
	}
	l.newest.of, l.newest.entry = index, entry
	return entry, nil
}

// newest is what newestEntry found last: when nothing is written, many ask for
// the same.
type newest struct {
	mu        sync.Mutex
	of, entry uint64
}

// asNotHere makes an error of a call into Raft that ended because this node
// does not lead one that lets the caller turn to whoever does. Only for calls
// that change nothing, or nothing twice.
func (l *Log) asNotHere(err error) error {
	if isLoss(err) || errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrRaftShutdown) {
		return errNotHere
	}
	return err
}

// oath lets many callers share one round of asking whether this node leads. A
// round is only good for calls from before it began. (Raft's VerifyLeader also
// counts answers to messages from before the call: after this process was
// stopped for a while, those of an office long lost.)
type oath struct {
	mu      sync.Mutex
	next    *round // not begun yet; nil: none
	running bool

	// turns has a channel of capacity 1 for each voter, full while it is asked:
	// one that does not answer is not asked again and again. Only rounds uses it.
	turns map[raft.ServerID]chan struct{}
}

type round struct {
	done chan struct{}
	term uint64 // that a majority confirmed; 0: none did
}

// confirm asks a majority whether this node leads in term.
func (l *Log) confirm(ctx context.Context, term uint64) error {
	l.oath.mu.Lock()
	r := l.oath.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		l.oath.next = r
	}
	if !l.oath.running {
		l.oath.running = l.wire.peers.goUser(l.rounds)
	}
	running := l.oath.running
	l.oath.mu.Unlock()
	if !running {
		return ErrClosed
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.term != term {
		return errNotHere
	}
	return nil
}

// rounds asks as long as somebody wants to know.
func (l *Log) rounds() {
	for {
		l.oath.mu.Lock()
		r := l.oath.next
		l.oath.next, l.oath.running = nil, r != nil
		l.oath.mu.Unlock()
		if r == nil {
			return
		}
		r.term = l.askAll()
		close(r.done)
	}
}

// askAll returns the term in which a majority confirms this node, or 0.
func (l *Log) askAll() uint64 {
	term, ok := l.reign()
	if !ok {
		return 0
	}
	ctx, cancel := context.WithTimeout(l.life, l.conf.HeartbeatTimeout)
	defer cancel()
	servers := l.servers()
	answers := make(chan bool, len(servers))
	if l.oath.turns == nil {
		l.oath.turns = make(map[raft.ServerID]chan struct{})
	}
	voters, yes := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == raft.ServerID(l.conf.Node) {
			yes++
			continue
		}
		turn := l.oath.turns[s.ID]
		if turn == nil {
			turn = make(chan struct{}, 1)
			l.oath.turns[s.ID] = turn
		}
		l.wire.peers.goUser(func() {
			select {
			case turn <- struct{}{}:
			case <-ctx.Done(): // the round is over
				return
			}
			defer func() { <-turn }()
			var resp raft.AppendEntriesResponse
			req := raft.AppendEntriesRequest{RPCHeader: l.header(), Term: term, Leader: l.header().Addr}
			err := l.wire.AppendEntries(s.ID, s.Address, &req, &resp)
			answers <- err == nil && resp.Success && resp.Term == term
		})
	}
	for yes <= voters/2 {
		select {
		case ok := <-answers:
			if ok {
				yes++
			}
		case <-ctx.Done():
			return 0
		}
	}
	return term
}
