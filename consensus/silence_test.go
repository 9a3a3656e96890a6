package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestASilentLeaderIsReplacedAtOnce: it says nothing more, not even that its
// connections end, as when its power is cut. Times are the bubble's.
func TestASilentLeaderIsReplacedAtOnce(t *testing.T) {
	for _, names := range [][]string{five[:3], five} {
		t.Run(fmt.Sprint(len(names)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClusterOf(t, names, nil)
				say(t, c.logs[names[1]], "one")
				for range 10 {
					time.Sleep(5 * time.Second)
					leader := c.leader(t, names...)
					rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == leader })
					term := c.logs[leader].raft.CurrentTerm()
					c.net.hold(true, leader, sends, requests, answers)
					began := time.Now()
					c.insist(t, rest[0], fmt.Sprint("after term ", term))
					if took := time.Since(began); took > 2*c.logs[leader].conf.HeartbeatTimeout {
						t.Errorf("accepted again after %v", took)
					}
					if got := c.logs[rest[0]].raft.CurrentTerm(); got != term+1 {
						t.Errorf("it took %d elections", got-term)
					}
					c.net.hold(false, leader, sends, requests, answers)
				}
			})
		})
	}
}

// TestALeaderThatSpeaksStays, whoever looks and however often.
func TestALeaderThatSpeaksStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["b"], "one")
		term := c.logs["a"].raft.CurrentTerm()
		for range 50 {
			time.Sleep(90 * time.Millisecond)
			for _, name := range others("a") {
				l := c.logs[name]
				if silent, follows := l.silence(); !follows || silent > l.patience() {
					t.Errorf("%s follows: %v, and has not heard the leader for %v", name, follows, silent)
				}
				l.look()
			}
		}
		if got := c.logs["a"].raft.CurrentTerm(); !c.logs["a"].IsLeader() || got != term {
			t.Errorf("a does not lead in term %d any more, this is term %d", term, got)
		}
	})
}

func TestSilenceIsWhatANodeListenedTo(t *testing.T) {
	const patience, beat = 500 * time.Millisecond, 50 * time.Millisecond
	for name, tc := range map[string]struct {
		silent time.Duration
		rested bool
		wait   time.Duration
		look   bool
	}{
		"it speaks":                        {20 * time.Millisecond, true, 480 * time.Millisecond, false},
		"it speaks, and we were held up":   {20 * time.Millisecond, false, 480 * time.Millisecond, false},
		"it is silent":                     {501 * time.Millisecond, true, beat, true},
		"we were held up, and may be deaf": {10 * time.Second, false, beat, false},
	} {
		if wait, look := heed(tc.silent, patience, beat, tc.rested); wait != tc.wait || look != tc.look {
			t.Errorf("%s: %v, %v, want %v, %v", name, wait, look, tc.wait, tc.look)
		}
	}
}

// TestNobodyWaitsForADeadLeader: calls on the way to it, calls that find no
// place among them, and calls that wait for a connection all turn to the next.
func TestNobodyWaitsForADeadLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["b"], "one") // b has a connection to it, c gets none
		time.Sleep(5 * time.Second)
		c.net.hold(true, "a", sends, requests, answers)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var running sync.WaitGroup
		for i := range 2 * mostCalls {
			running.Go(func() {
				for {
					_, err := c.logs[nodes[1+i%2]].Propose(ctx, Part{Machine: "m", Data: make([]byte, 8<<10)})
					if err == nil {
						return
					}
					if !errors.Is(err, ErrUnknownOutcome) || ctx.Err() != nil {
						t.Errorf("Propose() = %v", err)
						return
					}
				}
			})
		}
		running.Go(func() {
			if _, err := c.logs["c"].Fresh(ctx); err != nil {
				t.Errorf("Fresh() = %v", err)
			}
		})
		running.Wait()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("all are accepted after %v", took)
		}
		c.net.hold(false, "a", sends, requests, answers)
	})
}

// TestAVoteIsAskedOfANodeThatWasRestarted: the connections of an election before
// lead to nobody any more.
func TestAVoteIsAskedOfANodeThatWasRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		b := c.logs["b"]
		say(t, b, "one")
		ask := func() error {
			req := raft.RequestPreVoteRequest{RPCHeader: b.header(), Term: 99}
			return b.wire.Transport.(raft.WithPreVote).RequestPreVote("c", "c", &req, new(raft.RequestPreVoteResponse))
		}
		c.net.hold(true, "c", requests) // so that each needs a connection of its own
		var asking sync.WaitGroup
		for range poolSize {
			asking.Go(func() {
				if err := ask(); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		c.net.hold(false, "c", requests)
		asking.Wait()
		c.stop(t, "c")
		c.start(t, "c")
		say(t, b, "two")
		if err := ask(); err != nil {
			t.Errorf("asking for a vote: %v", err)
		}
		c.stop(t, "c")
		if err := ask(); err == nil {
			t.Error("a node that is away answers")
		}
	})
}
