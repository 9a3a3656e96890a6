package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// inTurn runs f, which changes the members, when no other change is going on:
// each is decided on what the one before has left. f goes on when ctx ends, and
// the next one waits for it.
func (l *Log) inTurn(ctx context.Context, f func(ctx context.Context) error) error {
	if err := l.beginCall(); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		l.calls.Done()
		return fmt.Errorf("%w: another change of the members is going on: %w", ErrUnknownOutcome, context.Cause(ctx))
	}
	done := make(chan error, 1)
	go func() {
		defer l.calls.Done()
		defer func() { <-l.turn }()
		done <- f(l.life)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	}
}

// addHere adds a member on the leader.
func (l *Log) addHere(ctx context.Context, body []byte) error {
	node, rest, err := cutBytes(body)
	if err != nil {
		return err
	}
	addr, _, err := cutBytes(rest)
	if err != nil {
		return err
	}
	if _, ok := l.reign(); !ok {
		return errNotHere
	}
	for _, s := range l.servers() {
		switch {
		case string(s.ID) == string(node) && string(s.Address) == string(addr):
			return nil
		case string(s.ID) != string(node) && string(s.Address) == string(addr):
			return fmt.Errorf("address %s is node %s's: remove that one first", addr, s.ID)
		}
	}
	return l.change(ctx, func() raft.IndexFuture {
		// A voter stays one and gets the address.
		return l.raft.AddNonvoter(raft.ServerID(node), raft.ServerAddress(addr), 0, 0)
	})
}

// removeHere removes a member on the leader. When that is this node, another
// one must do it.
func (l *Log) removeHere(ctx context.Context, node string) error {
	term, ok := l.reign()
	if !ok {
		return errNotHere
	}
	id := raft.ServerID(node)
	servers := l.servers()
	i := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	if servers[i].Suffrage == raft.Voter {
		if err := l.replaceVote(ctx, term, id); err != nil {
			return err
		}
	}
	if node == l.conf.Node {
		if err := l.Transfer(ctx); err != nil {
			return err
		}
		return errNotHere
	}
	return l.change(ctx, func() raft.IndexFuture { return l.raft.RemoveServer(id, 0, 0) })
}

// replaceVote makes sure that the voters can do without one of them. The last
// one's vote goes to a spare. A leader that was just elected has not heard the
// others yet, so they get a moment to answer.
func (l *Log) replaceVote(ctx context.Context, term uint64, leaving raft.ServerID) error {
	for began := time.Now(); ; l.pause(ctx) {
		heir, err := l.successor(term, leaving)
		now, ok := l.reign()
		switch {
		case !ok || now != term:
			return errNotHere
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
		case err != nil && time.Since(began) > l.conf.HeartbeatTimeout:
			return err
		case err != nil:
			continue
		case heir.ID == "":
			return nil
		}
		err = l.change(ctx, func() raft.IndexFuture { return l.raft.AddVoter(heir.ID, heir.Address, 0, 0) })
		if err != nil && !errors.Is(err, errNotHere) {
			return fmt.Errorf("giving its vote to %s: %w", heir.ID, err)
		}
		return err
	}
}

// successor finds the spare that gets the vote of the last voter when that one
// leaves; none is needed while the other voters have a majority that answers.
func (l *Log) successor(term uint64, leaving raft.ServerID) (heir raft.Server, err error) {
	var silent []string
	left := 0
	for _, s := range l.servers() {
		if s.ID == leaving || s.Suffrage != raft.Voter {
			continue
		}
		left++
		if s.ID != raft.ServerID(l.conf.Node) && !l.answers(l.wire.peers.at(s.ID, term)) {
			silent = append(silent, string(s.ID))
		}
	}
	if left > 0 {
		if left-len(silent) > left/2 {
			return heir, nil
		}
		return heir, fmt.Errorf("%w: %s %s not answer; bring what is silent back or remove it first",
			ErrTooFewVoters, strings.Join(silent, ", "), plural(len(silent), "does", "do"))
	}
	heirs := slices.DeleteFunc(l.heirs(term), func(s raft.Server) bool { return s.ID == leaving })
	if len(heirs) == 0 {
		return heir, ErrLastVoter
	}
	return heirs[0], nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
