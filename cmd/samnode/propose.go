package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
)

// proposer is the chat's way into the log. It waits out elections: a proposal
// has its command's id, so that it may be made again when nobody knows what
// became of it.
type proposer struct{ n *node }

// proposeFor is how long a proposal is tried while nobody leads. An election
// takes a second or two; who waits longer is told that there is no majority.
const proposeFor = 15 * time.Second

func (p proposer) Propose(ctx context.Context, data []byte) (uint64, error) {
	return p.n.propose(ctx, consensus.Part{Machine: machineChat, Data: data})
}

func (n *node) propose(ctx context.Context, parts ...consensus.Part) (uint64, error) {
	began := time.Now()
	index, err := n.insist(ctx, parts)
	n.observed(began, err)
	return index, err
}

func (n *node) insist(ctx context.Context, parts []consensus.Part) (uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, proposeFor, errNoLeader)
	defer cancel()
	if err := n.awaitEpoch(ctx); err != nil {
		return 0, err
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		index, err := n.log.Propose(ctx, parts...)
		full := errors.Is(err, consensus.ErrFull)
		if full && (n.log.IsLeader() || n.log.Err() != nil) {
			return index, chat.ErrFull // the log has the rest
		}
		// A leader elsewhere whose disk is full stops, and another one is elected.
		again := full || errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrUnknownOutcome)
		if err == nil || !again || n.log.Err() != nil {
			return index, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}
