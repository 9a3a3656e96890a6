package consensus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestFreshIsNeverStale has readers at every node while the leader is cut off
// again and again, and while everything that a node sends or gets is held up as
// when its process is stopped. What was acknowledged before a read began must
// be there when it returns.
func TestFreshIsNeverStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		var newest atomic.Uint64 // acknowledged entry
		var reads, refused atomic.Int64
		stop := make(chan struct{})
		var running sync.WaitGroup
		loop := func(every time.Duration, f func(ctx context.Context)) {
			running.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(every):
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					f(ctx)
					cancel()
				}
			})
		}
		for _, name := range nodes {
			loop(30*time.Millisecond, func(ctx context.Context) {
				index, err := c.logs[name].Propose(ctx, Part{Machine: "m", Data: []byte(name)})
				for old := newest.Load(); err == nil && index > old && !newest.CompareAndSwap(old, index); old = newest.Load() {
				}
			})
			loop(5*time.Millisecond, func(ctx context.Context) {
				want := newest.Load()
				index, err := c.logs[name].Fresh(ctx)
				if err != nil {
					refused.Add(1)
					return
				}
				reads.Add(1)
				all := c.machines[name].all()
				if len(all) == 0 && want > 0 || len(all) > 0 && all[len(all)-1].Index < want || index < want {
					t.Errorf("%s read up to entry %d, entry %d was acknowledged before", name, index, want)
				}
			})
		}
		for range 3 {
			time.Sleep(500 * time.Millisecond)
			leader := c.leader(t, nodes...)
			c.net.cut(leader, true)
			c.leader(t, others(leader)...)
			time.Sleep(500 * time.Millisecond)
			c.net.cut(leader, false)
		}
		for range 2 {
			time.Sleep(500 * time.Millisecond)
			leader := c.leader(t, nodes...)
			c.net.hold(true, leader, sends, requests, answers)
			c.leader(t, others(leader)...)
			time.Sleep(time.Second)
			c.net.hold(false, leader, sends, requests, answers)
		}
		time.Sleep(time.Second)
		close(stop)
		running.Wait()
		if reads.Load() < 500 || refused.Load() == 0 {
			t.Errorf("%d reads, %d refused: the race did not happen", reads.Load(), refused.Load())
		}
	})
}

// TestFreshCountsOnlyAnswersToItsOwnQuestion: another node was elected, and
// what the old leader hears next are answers from before. Raft's VerifyLeader
// counts them.
func TestFreshCountsOnlyAnswersToItsOwnQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["c"], "one")
		if _, err := c.logs["a"].Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.net.hold(true, "a", requests, answers)
		time.Sleep(110 * time.Millisecond) // a heartbeat to each is answered
		b := c.logs["b"]
		req := raft.TimeoutNowRequest{RPCHeader: c.logs["a"].header()}
		if err := c.logs["c"].wire.TimeoutNow("b", "b", &req, new(raft.TimeoutNowResponse)); err != nil {
			t.Fatal(err)
		}
		c.await(t, "b to lead", b.IsLeader)
		want := say(t, b, "two")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			index, err := c.logs["a"].Fresh(ctx)
			if err == nil && index < want {
				err = errors.New("stale")
			}
			ended <- err
		}()
		synctest.Wait()
		if !c.logs["a"].IsLeader() {
			t.Fatal("a knows already: the test shows nothing")
		}
		c.net.hold(false, "a", answers)
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Fresh() at the old leader = %v, want DeadlineExceeded", err)
		}
		c.net.hold(false, "a", requests)
		if index, err := c.logs["a"].Fresh(t.Context()); err != nil || index < want {
			t.Errorf("Fresh() = %d, %v; want %d or more", index, err, want)
		}
	})
}

func TestFreshWaitsForALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		index := say(t, c.logs["c"], "one")
		for _, name := range nodes {
			if got, err := c.logs[name].Fresh(t.Context()); err != nil || got < index {
				t.Errorf("Fresh() at %s = %d, %v; want %d or more", name, got, err, index)
			}
		}
		c.net.cut("a", true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, err := c.logs["a"].Fresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Fresh() at a leader that is cut off = %d, %v; want DeadlineExceeded", got, err)
		}
		if _, err := c.logs["b"].Fresh(t.Context()); err != nil {
			t.Errorf("Fresh() after an election = %v", err)
		}
		c.stop(t, "b")
		if _, err := c.logs["b"].Fresh(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Fresh() after Close = %v, want ErrClosed", err)
		}
	})
}
