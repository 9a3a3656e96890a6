package workspace

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// answers are the errors that the mesh gives; any other is the want of one.
var answers = []error{chat.ErrNotFound, chat.ErrRefused, chat.ErrInvalid, chat.ErrStale, chat.ErrTooLarge}

func isAnswer(err error) bool {
	return err == nil || slices.ContainsFunc(answers, func(a error) bool { return errors.Is(err, a) })
}

func isNil(err error) bool { return err == nil }

// ask repeats a question to the mesh until it is answered or ctx ends: a mesh
// without a leader is no reason to give a task up.
func ask[T any](ctx context.Context, log *slog.Logger, doing string, question func() (T, error)) (T, error) {
	return repeat(ctx, log, doing, isAnswer, question)
}

// repeat does it until its error is final or ctx ends, whose cause is the
// error then.
func repeat[T any](ctx context.Context, log *slog.Logger, doing string, final func(error) bool, do func() (T, error)) (T, error) {
	level := slog.LevelWarn // the first time; a mesh may be away for long
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		v, err := do()
		if final(err) {
			return v, err
		}
		if ctx.Err() != nil {
			return v, context.Cause(ctx)
		}
		log.Log(ctx, level, doing+"; trying again", "err", err)
		level = slog.LevelDebug
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// persist proposes until the log has the op, or it never will: the state
// refuses it. The command's id stays the same, so that one whose outcome was
// not heard is not done twice. ctx ends the trying.
func (r *Runner) persist(ctx context.Context, log *slog.Logger, op chat.Op) error {
	id := chat.NewID()
	_, err := ask(ctx, log, "reporting to the chat", func() (uint64, error) { return r.c.Board.Do(ctx, r.author(), id, op) })
	return err
}

// persist is the Runner's for an op of this lease: a stale token ends the run.
func (n *run) persist(ctx context.Context, op chat.Op) error {
	err := n.r.persist(ctx, n.log, op)
	if errors.Is(err, chat.ErrStale) {
		n.cancel(ErrLeaseLost)
	}
	return err
}

// do proposes an op of this lease.
func (n *run) do(op chat.Op) error { return n.persist(n.ctx, op) }

// insist is do where nothing is left to do if the op is refused.
func (n *run) insist(op chat.Op) {
	if err := n.do(op); err != nil {
		n.log.Debug("not taken by the chat", "err", err)
	}
}

// outbox holds what is said on the side, by whoever must not wait for a mesh
// that is away: usage, refusals, notes. It is told in order.
type outbox struct {
	mu    sync.Mutex
	queue []letter
	wake  chan struct{} // capacity 1
}

type letter struct {
	op   chat.Op
	done chan struct{} // closed when it was told, or refused
}

const (
	maxLetters = 1000            // waiting; an agent may be refused a lot in a long absence
	letterWait = 2 * time.Second // for the chat's order, where the mesh is there
)

// say tells an op, and returns when it is in the chat or that takes too long.
func (n *run) say(ctx context.Context, op chat.Op) {
	l := letter{op, make(chan struct{})}
	n.out.mu.Lock()
	full := len(n.out.queue) >= maxLetters
	if !full {
		n.out.queue = append(n.out.queue, l)
	}
	n.out.mu.Unlock()
	if full {
		n.log.Warn("too much waits to be said in the chat; this is left out", "op", op)
		return
	}
	select {
	case n.out.wake <- struct{}{}:
	default:
	}
	wait := time.NewTimer(letterWait)
	defer wait.Stop()
	select {
	case <-l.done:
	case <-wait.C:
	case <-ctx.Done():
	}
}

// post tells what is in the outbox until the run ends.
func (n *run) post() {
	for {
		n.out.mu.Lock()
		var next letter
		if len(n.out.queue) > 0 {
			next = n.out.queue[0]
		}
		n.out.mu.Unlock()
		if next.done == nil {
			select {
			case <-n.out.wake:
				continue
			case <-n.ctx.Done():
				return
			}
		}
		n.insist(next.op)
		close(next.done)
		n.out.mu.Lock()
		n.out.queue = n.out.queue[1:]
		n.out.mu.Unlock()
	}
}
