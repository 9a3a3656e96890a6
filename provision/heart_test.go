package provision

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// oneLog commits commands at once.
type oneLog struct {
	state *State
	delay time.Duration // before a commit

	mu       sync.Mutex
	index    uint64
	commands []Command
	fail     error
}

func (l *oneLog) propose(_ context.Context, c Command) error {
	time.Sleep(l.delay)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	c.Version = Version
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	l.index++
	l.commands = append(l.commands, c)
	return l.state.Apply(l.index, time.Now(), data)
}

// bubble starts a heart over the mesh of member.
func bubble(t *testing.T, test func(t *testing.T, h *Heart, l *oneLog)) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, member()...)
		l := &oneLog{state: s, index: 5}
		h := NewHeart(HeartConfig{Propose: l.propose, State: s})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		synctest.Wait()
		test(t, h, l)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
}

// beat is one call of Beat that a test waits for.
func beat(t *testing.T, h *Heart, node, boot string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- h.Beat(t.Context(), Beat{Node: node, Boot: boot}) }()
	synctest.Wait()
	return done
}

func TestHeartBatches(t *testing.T) {
	bubble(t, func(t *testing.T, h *Heart, l *oneLog) {
		began := time.Now()
		a := beat(t, h, "a", "x")
		time.Sleep(2 * time.Second)
		b := beat(t, h, "b", "y")
		b2 := beat(t, h, "b", "y") // its first call hangs, so it calls again
		for _, done := range []<-chan error{a, b, b2} {
			if err := <-done; err != nil {
				t.Errorf("Beat = %v", err)
			}
		}
		if d := time.Since(began); d != DefaultEvery {
			t.Errorf("the batch took %s", d)
		}
		time.Sleep(20 * time.Second) // nobody waits: no entry
		if len(l.commands) != 1 || len(l.commands[0].Beats.Beats) != 2 || l.commands[0].Version != Version {
			t.Errorf("proposed %+v", l.commands)
		}
		p, _ := l.state.Pool()
		if n, _ := p.Node("b"); n.Index != 6 {
			t.Errorf("b was last heard in entry %d", n.Index)
		}
	})
}

// TestHeartTellsNewsAtOnce: that a node can run tasks, or cannot any more, does
// not wait for the tick; that nothing changed does.
func TestHeartTellsNewsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, h *Heart, l *oneLog) {
		say := func(why string) (took time.Duration) {
			t.Helper()
			began := time.Now()
			if err := h.Beat(t.Context(), Beat{Node: "b", Boot: "y", Report: &Report{Unfit: why}}); err != nil {
				t.Errorf("Beat = %v", err)
			}
			if p, _ := l.state.Pool(); p.Nodes[1].Report.Unfit != why {
				t.Errorf("the node is unfit because of %q, want %q", p.Nodes[1].Report.Unfit, why)
			}
			return time.Since(began)
		}
		say("") // its first report
		const soon = DefaultEvery / 20
		for _, step := range []struct {
			why    string
			atOnce bool
		}{{"Docker does not answer.", true}, {"Docker does not answer.", false}, {"", true}, {"", false}} {
			if took := say(step.why); step.atOnce != (took == soon) || !step.atOnce && took > DefaultEvery {
				t.Errorf("%q took %s", step.why, took)
			}
		}
	})
}

// TestHeartRefusals: who is not the node's process learns it, and does not
// stand in the way of the one that is.
func TestHeartRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, h *Heart, l *oneLog) {
		if err := h.Run(t.Context()); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("a second Run = %v", err)
		}
		right, copied, stranger := beat(t, h, "b", "y"), beat(t, h, "b", "old"), beat(t, h, "c", "z")
		if err := <-right; err != nil {
			t.Errorf("Beat of the node = %v", err)
		}
		if err := <-copied; !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "another samnode runs as node b since") {
			t.Errorf("Beat of a copy = %v", err)
		}
		if err := <-stranger; !errors.Is(err, ErrNotFound) {
			t.Errorf("Beat of a stranger = %v", err)
		}
		p, _ := l.state.Pool()
		if n, _ := p.Node("b"); n.Index != 6 {
			t.Errorf("b was last heard in entry %d", n.Index)
		}
		l.fail = errors.New("no leader")
		if err := <-beat(t, h, "b", "y"); !errors.Is(err, l.fail) {
			t.Errorf("Beat with a failing log = %v", err)
		}
	})
}

func TestHeartCallerGone(t *testing.T) {
	bubble(t, func(t *testing.T, h *Heart, l *oneLog) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Beat(ctx, Beat{Node: "b", Boot: "y"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Beat = %v", err)
		}
		time.Sleep(10 * time.Second)
		if len(l.commands) != 0 {
			t.Errorf("proposed %+v for nobody", l.commands)
		}
	})
}

func TestHeartNotLeading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, member()...)
		l := &oneLog{state: s, index: 5}
		h := NewHeart(HeartConfig{Propose: l.propose, State: s})
		if err := h.Beat(t.Context(), Beat{Node: "a", Boot: "x"}); !errors.Is(err, ErrNotLeading) {
			t.Errorf("Beat before Run = %v", err)
		}
		if got := h.Silent(); got != nil {
			t.Errorf("Silent before Run = %v", got)
		}
		if _, ok := h.HeardAgo("a"); ok {
			t.Error("HeardAgo before Run knows a")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		synctest.Wait()
		last := beat(t, h, "a", "x")
		if err := <-last; !errors.Is(err, ErrNotLeading) {
			t.Errorf("Beat when Run ended = %v", err)
		}
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) || len(l.commands) != 0 {
			t.Errorf("Run = %v after %d commands", err, len(l.commands))
		}
	})
}

// TestSilent: b stops beating; a goes on. A start is a sign of life, too.
func TestSilent(t *testing.T) {
	bubble(t, func(t *testing.T, h *Heart, l *oneLog) {
		ctx, stop := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() {
			for h.Beat(ctx, Beat{Node: "a", Boot: "x"}) == nil {
			}
		})
		<-beat(t, h, "b", "y")
		if ago, ok := h.HeardAgo("b"); !ok || ago != 0 {
			t.Errorf("b was heard %s ago, %t", ago, ok)
		}
		time.Sleep(DefaultLeaseFor)
		if got := h.Silent(); got != nil {
			t.Errorf("when its lease ends %v are silent: the leader must be the later one", got)
		}
		time.Sleep(DefaultLeaseFor / 100)
		if got := h.Silent(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("silent = %v, want b", got)
		}
		if ago, _ := h.HeardAgo("b"); ago < DefaultLeaseFor {
			t.Errorf("b was heard %s ago", ago)
		}
		if err := l.propose(ctx, start("b", "z", 2, 2)); err != nil {
			t.Fatal(err)
		}
		if got := h.Silent(); got != nil {
			t.Errorf("after its start %v are silent", got)
		}
		time.Sleep(2 * DefaultLeaseFor)
		if err := l.propose(ctx, remove("b")); err != nil {
			t.Fatal(err)
		}
		if got := h.Silent(); got != nil {
			t.Errorf("%v are silent, and not in the mesh", got)
		}
		if _, ok := h.HeardAgo("b"); ok {
			t.Error("a removed node was heard")
		}
		stop()
		done.Wait()
	})
}

// TestSilentRemoved: a node that was removed while nobody could tell it so acts
// under its leases until its tenure ends, under an old leader and a new one.
func TestSilentRemoved(t *testing.T) {
	for name, elected := range map[string]bool{"the same leader": false, "a new leader": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *Heart, l *oneLog) {
				tenure := NewTenure(0)
				for _, c := range []Command{grant("t1", "b", "b/1"), remove("b")} {
					sent := time.Now()
					if err := <-beat(t, h, "b", "y"); err != nil {
						t.Fatal(err)
					}
					tenure.Renewed(sent)
					if err := l.propose(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
				if elected {
					h = NewHeart(HeartConfig{State: l.state})
					ctx, cancel := context.WithCancel(t.Context())
					ended := make(chan error, 1)
					go func() { ended <- h.Run(ctx) }()
					defer func() { cancel(); <-ended }()
					synctest.Wait()
				}
				if _, ok := h.HeardAgo("b"); ok {
					t.Error("a removed node was heard")
				}
				for range 2 * int(DefaultLeaseFor/time.Second) {
					time.Sleep(time.Second)
					p, _ := l.state.Pool()
					expired := Expired(p, h.Silent())
					if len(expired) == 0 {
						continue
					}
					if tenure.Err() == nil {
						t.Error("the lease ends before its holder gave up")
					}
					if err := l.propose(t.Context(), Command{Release: expired[0].Release()}); err != nil {
						t.Fatal(err)
					}
					if p, _ := l.state.Pool(); len(p.Leases) > 0 || slices.Contains(h.Silent(), "b") {
						t.Errorf("leases %+v, silent %v: want none, and not b", p.Leases, h.Silent())
					}
					return
				}
				t.Error("its lease does not end")
			})
		})
	}
}

// TestSilentNewLeader gives everyone a full term, whatever the state says.
func TestSilentNewLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, member()...)
		l := &oneLog{state: s, index: 5}
		h := NewHeart(HeartConfig{Propose: l.propose, State: s})
		for range 2 {
			time.Sleep(time.Hour)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- h.Run(ctx) }()
			time.Sleep(DefaultLeaseFor)
			if got := h.Silent(); got != nil {
				t.Errorf("a new leader calls %v silent", got)
			}
			time.Sleep(time.Second)
			if got := h.Silent(); len(got) != 2 {
				t.Errorf("silent = %v, want both", got)
			}
			cancel()
			<-ended
		}
	})
}

// TestSilentStalledLeader: a leader that stood still cannot tell.
func TestSilentStalledLeader(t *testing.T) {
	bubble(t, func(t *testing.T, h *Heart, l *oneLog) {
		time.Sleep(20 * time.Second)
		l.delay = 25 * time.Second
		done := beat(t, h, "a", "x")
		time.Sleep(25 * time.Second)
		if got := h.Silent(); got != nil {
			t.Errorf("while the leader stands still %v are silent", got)
		}
		if err := <-done; err != nil {
			t.Errorf("Beat = %v", err)
		}
		l.delay = 0
		time.Sleep(25 * time.Second)
		if got := h.Silent(); got != nil {
			t.Errorf("after the leader stood still %v are silent", got)
		}
		time.Sleep(10 * time.Second)
		if got := h.Silent(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("silent = %v, want both", got)
		}
	})
}
