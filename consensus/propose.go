package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Propose appends one entry with a part for each machine named and returns its
// index once it is committed and this node's machines have applied it. It may
// wait for an election; ctx bounds that.
//
// Errors: ErrNoLeader (nothing was written), ErrUnknownOutcome (it may be
// committed: propose it again with the same command id), ErrFull (nothing can
// be written here any more, the outcome may be unknown too), ErrTooLarge,
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
	for {
		if err := l.awaitLead(ctx); err != nil {
			return 0, fmt.Errorf("proposing: %w", err)
		}
		index, again, err := l.append(ctx, data)
		if !again {
			return index, err
		}
	}
}

// append hands data to Raft. again says that it was refused before anything
// was written, because this node does not lead any more.
func (l *Log) append(ctx context.Context, data []byte) (index uint64, again bool, err error) {
	future, err := call(ctx, l, func() raft.ApplyFuture { return l.raft.Apply(data, 0) })
	switch {
	case future == nil:
		return 0, false, fmt.Errorf("proposing: %w", err)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return 0, true, nil
	case err != nil:
		return 0, false, fmt.Errorf("proposing: %w", l.unknown(err))
	}
	if err, ok := future.Response().(error); ok {
		return 0, false, fmt.Errorf("proposing: %w", l.unknown(err))
	}
	return future.Index(), false, nil
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

// awaitLead waits while nobody leads. It returns nil when this node does.
func (l *Log) awaitLead(ctx context.Context) error {
	for {
		l.mu.Lock()
		moved, ending := l.moved, l.ending
		l.mu.Unlock()
		if ending != nil {
			return ending
		}
		if l.raft.State() == raft.Leader {
			return nil
		}
		if _, id := l.raft.LeaderWithID(); id != "" && id != raft.ServerID(l.conf.Node) {
			return fmt.Errorf("%w: %s does", ErrNoLeader, id)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx))
		}
	}
}
