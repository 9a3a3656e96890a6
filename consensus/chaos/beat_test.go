package chaos

import (
	"context"
	"errors"
	"time"

	"github.com/samnode/samnode/provision"
)

// beats is a node's signs of life, as cmd/samnode gives them.
func (l *life) beats(ctx context.Context, beat func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; {
		if err := l.proc.pass(ctx); err != nil {
			return err
		}
		sent := time.Now()
		err := l.beatOnce(ctx, beat)
		if err := l.proc.pass(ctx); err != nil {
			return err
		}
		switch {
		case err == nil:
			l.tenure.Renewed(sent)
			wait = 100 * time.Millisecond
			continue
		case isRefusal(err):
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
}

func (l *life) beatOnce(ctx context.Context, beat func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(l.w.plan.leaseFor/2, beatEvery+2*time.Second))
	defer cancel()
	return beat(ctx)
}

// takeBeat puts a beat into the leader's next batch.
func (l *life) takeBeat(ctx context.Context, b provision.Beat, passed bool) error {
	if h := l.heart.Load(); h != nil {
		if err := h.Beat(ctx, b); !errors.Is(err, provision.ErrNotLeading) {
			return err
		}
	}
	leader := l.log.Leader()
	if passed || leader == "" || leader == l.n.name {
		return errNoLeader
	}
	return l.w.net.call(ctx, l.proc, leader, func(ctx context.Context, there *life) error {
		if there.log == nil {
			return errNoLeader
		}
		return there.takeBeat(ctx, b, true)
	})
}

// isRefusal tells a no from an answer that did not come.
func isRefusal(err error) bool {
	for _, no := range []error{errNotMember, errStale, provision.ErrNotFound, provision.ErrRefused, provision.ErrStale, provision.ErrInvalid} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// patiently tries until it works, is refused, or ctx ends.
func (l *life) patiently(ctx context.Context, try func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		if err := l.proc.pass(ctx); err != nil {
			return err
		}
		err := try(ctx)
		if err == nil || isRefusal(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}
