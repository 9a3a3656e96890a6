package workspace

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/workspace/broker"
)

var discard = slog.New(slog.DiscardHandler)

// fenced is a run whose mesh confirms, or says what it says.
func fenced(t *testing.T, tenure Tenure, do func(op chat.Op) error) *run {
	t.Helper()
	n := fakeRun(t, func(_ string, op chat.Op) error { return do(op) })
	n.r.c.Tenure = tenure
	n.fence = newFence(tenure)
	return n
}

func TestFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tenure := provision.NewTenure(30 * time.Second)
		var asked []chat.Item // read after synctest.Wait only
		var away atomic.Bool
		n := fenced(t, tenure, func(op chat.Op) error {
			if away.Load() {
				return errAway
			}
			asked = append(asked, op.Note.Item)
			return nil
		})
		go n.guard()
		synctest.Wait()
		if err := n.stale(); !errors.Is(err, broker.ErrForNow) || !strings.Contains(err.Error(), "has not reached the mesh yet") {
			t.Errorf("before the mesh was reached: %v", err)
		}
		away.Store(true)
		tenure.Renewed(time.Now())
		synctest.Wait()
		if err := n.stale(); !errors.Is(err, broker.ErrForNow) || !strings.Contains(err.Error(), "asks whether") {
			t.Errorf("before the lease was confirmed: %v", err)
		}
		away.Store(false)
		time.Sleep(5 * time.Second)
		tenure.Renewed(time.Now())
		right, err := n.fence.pass(n.ctx)
		if err != nil || n.stale() != nil || n.fence.lost(right) {
			t.Errorf("confirmed: %v, %v", err, n.stale())
		}
		synctest.Wait()
		if len(asked) != 1 || asked[0].Text != "" || asked[0].Kind != "" {
			t.Errorf("the first question said %+v", asked)
		}
		out, stop := n.within(t.Context())
		defer stop()

		time.Sleep(40 * time.Second)
		synctest.Wait()
		if err := n.stale(); !errors.Is(err, broker.ErrForNow) || !strings.Contains(err.Error(), "has not reached the mesh for") {
			t.Errorf("cut off: %v", err)
		}
		if !errors.Is(context.Cause(out), broker.ErrForNow) || !n.fence.lost(right) {
			t.Errorf("what is on its way out ends with %v", context.Cause(out))
		}
		late, stopLate := n.within(t.Context())
		defer stopLate()
		if late.Err() == nil {
			t.Error("something may begin to leave")
		}
		passed := make(chan error)
		go func() { _, err := n.fence.pass(n.ctx); passed <- err }()
		synctest.Wait()
		tenure.Renewed(time.Now())
		if err := <-passed; err != nil {
			t.Errorf("waiting: %v", err)
		}
		synctest.Wait()
		if len(asked) != 2 || !strings.Contains(asked[1].Text, "a was cut off from the mesh from ") || n.stale() != nil || !n.fence.lost(right) {
			t.Errorf("back: %+v, %v", asked, n.stale())
		}
	})
}

// A lease that ended in the absence is never acted on again, and no question
// that the mesh does not answer is taken for a yes.
func TestFenceOfALeaseThatEnded(t *testing.T) {
	t.Parallel()
	for _, end := range []error{chat.ErrStale, chat.ErrNotFound, chat.ErrRefused} {
		synctest.Test(t, func(t *testing.T) {
			tenure := provision.NewTenure(30 * time.Second)
			var answer atomic.Pointer[error]
			says := func(err error) { answer.Store(&err) }
			says(nil)
			n := fenced(t, tenure, func(chat.Op) error { return *answer.Load() })
			go n.guard()
			tenure.Renewed(time.Now())
			if _, err := n.fence.pass(n.ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			says(errAway)
			for range 100 {
				tenure.Renewed(time.Now())
				time.Sleep(time.Second)
				if n.stale() == nil {
					t.Fatal("it opened without an answer")
				}
			}
			says(end)
			time.Sleep(10 * time.Second)
			if err := n.stale(); err == nil || errors.Is(err, broker.ErrForNow) || !errors.Is(context.Cause(n.ctx), ErrLeaseLost) {
				t.Errorf("the mesh said %v: %v, %v", end, err, context.Cause(n.ctx))
			}
		})
	}
}

// flicker is a tenure that was lost and is held again before anybody looked.
type flicker struct {
	always
	lost chan struct{}
}

func (f *flicker) Lost() <-chan struct{} { return f.lost }

func TestFenceSeesALossThatIsOver(t *testing.T) {
	t.Parallel()
	tenure := &flicker{lost: make(chan struct{})}
	f := newFence(tenure)
	f.confirm(tenure.Lost())
	if f.err() != nil {
		t.Fatalf("confirmed: %v", f.err())
	}
	close(tenure.lost)
	tenure.lost = make(chan struct{})
	if err := f.err(); !errors.Is(err, broker.ErrForNow) {
		t.Errorf("a loss that is over: %v, want a doubt", err)
	}
	f.confirm(tenure.Lost())
	if f.err() != nil {
		t.Errorf("confirmed again: %v", f.err())
	}
}

// A node that is a mesh of its own asks nobody.
func TestNoFence(t *testing.T) {
	t.Parallel()
	n := fenced(t, always{}, func(chat.Op) error { t.Error("it asked"); return nil })
	if right, err := n.fence.pass(t.Context()); err != nil || n.stale() != nil || n.fence.lost(right) {
		t.Errorf("pass = %v, %v", err, n.stale())
	}
	go n.guard()
	ctx, stop := n.within(t.Context())
	defer stop()
	n.cancel(nil) // the node stops
	if n.stale() == nil {
		t.Error("a node that stopped lets things out")
	}
	time.Sleep(10 * time.Millisecond)
	if ctx.Err() != nil {
		t.Errorf("a push on its way was broken off: %v", context.Cause(ctx))
	}
	n = fenced(t, always{}, func(chat.Op) error { return nil })
	ctx, stop = n.within(t.Context())
	defer stop()
	n.cancel(ErrLeaseLost)
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), ErrLeaseLost) {
		t.Errorf("cause = %v", context.Cause(ctx))
	}
}
