package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Propose appends one entry with a part for each machine named and returns its
// index once it is committed and this node's machines have applied it. Any
// member takes it; the leader appends it. It may wait for an election; ctx
// bounds that.
//
// Errors: ErrNoLeader (nothing was written), ErrUnknownOutcome (it may be
// committed: propose it again with the same command id), ErrFull (the leader
// cannot write any more, the outcome may be unknown too), ErrTooLarge,
// ErrClosed, and after a failure of the node what Err says.
func (l *Log) Propose(ctx context.Context, parts ...Part) (uint64, error) {
	for _, p := range parts {
		if l.conf.Machines[p.Machine] == nil {
			return 0, fmt.Errorf("proposing: no machine %q", p.Machine)
		}
	}
	data, err := encodeEntry(parts)
	if err != nil {
		return 0, fmt.Errorf("proposing: %w", err)
	}
	index, err := l.atLeader(ctx, callPropose, data)
	if err != nil {
		return 0, fmt.Errorf("proposing: %w", err)
	}
	if err := l.await(ctx, index); err != nil {
		return 0, fmt.Errorf("proposing: %w: entry %d is committed but not applied here: %w", ErrUnknownOutcome, index, err)
	}
	return index, nil
}

// perform does on the leader what a call asks. errNotHere means that this node
// does not lead, and that nothing was done.
func (l *Log) perform(ctx context.Context, kind callKind, body []byte) (uint64, error) {
	switch kind {
	case callPropose:
		if err := l.checkEntry(body); err != nil {
			return 0, err
		}
		return l.append(ctx, body)
	case callFresh:
		return l.readIndex(ctx)
	case callAdd:
		return 0, l.inTurn(ctx, func(ctx context.Context) error { return l.addHere(ctx, body) })
	case callRemove:
		return 0, l.inTurn(ctx, func(ctx context.Context) error { return l.removeHere(ctx, string(body)) })
	default:
		return 0, fmt.Errorf("%w: call of kind %d", ErrNewer, kind)
	}
}

// checkEntry refuses what would stop the nodes that apply it. Another node may
// be newer, and its clock does not count.
func (l *Log) checkEntry(data []byte) error {
	if len(data) > MaxEntry {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxEntry)
	}
	_, parts, err := decodeEntry(data)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if l.conf.Machines[p.Machine] == nil {
			return fmt.Errorf("%w: the leader has no machine %q", ErrNewer, p.Machine)
		}
	}
	setStamp(data, 0)
	return nil
}

// append hands an entry to Raft.
func (l *Log) append(ctx context.Context, data []byte) (uint64, error) {
	future, err := call(ctx, l, func() raft.ApplyFuture { return l.raft.Apply(data, 0) })
	switch {
	case future == nil:
		return 0, err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return 0, errNotHere
	case err != nil:
		return 0, l.unknown(err)
	}
	if err, ok := future.Response().(error); ok {
		return 0, l.unknown(err)
	}
	return future.Index(), nil
}

// unknown says that an entry may or may not be committed, and why.
func (l *Log) unknown(err error) error {
	switch {
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		err = ErrLeadershipLost
	case errors.Is(err, raft.ErrRaftShutdown):
		err = ErrClosed
	}
	if failed := l.Err(); failed != nil {
		err = failed
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// call starts a call into Raft and waits for its end, or for ctx's. Without a
// future nothing was started, or nobody knows how it ends: err tells.
func call[F raft.Future](ctx context.Context, l *Log, start func() F) (future F, err error) {
	if err := l.beginCall(); err != nil {
		return future, err
	}
	type end struct {
		future F
		err    error
	}
	done := make(chan end, 1)
	go func() {
		defer l.calls.Done()
		f := start()
		done <- end{f, f.Error()}
	}()
	select {
	case e := <-done:
		return e.future, e.err
	case <-ctx.Done():
		return future, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	}
}

// beginCall makes halt wait until calls.Done, or refuses.
func (l *Log) beginCall() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending != nil {
		return l.ending
	}
	l.calls.Add(1)
	return nil
}

// isEnding tells whether new calls are refused.
func (l *Log) isEnding() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ending != nil
}

// awaitLeader waits until a node leads, as far as this one knows.
func (l *Log) awaitLeader(ctx context.Context) (raft.Server, error) {
	for {
		l.mu.Lock()
		moved, ending := l.moved, l.ending
		l.mu.Unlock()
		if ending != nil {
			return raft.Server{}, ending
		}
		if addr, id := l.raft.LeaderWithID(); id != "" {
			return raft.Server{ID: id, Address: addr}, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return raft.Server{}, fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx))
		}
	}
}
