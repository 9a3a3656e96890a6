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

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

// cluster is some nodes on one pipeNet.
type cluster struct {
	keepers  map[string]*disk // nodes whose machine has a store of its own
	copiers  map[string]*disk // nodes whose machine has one that can be copied
	copied   *copyWatch       // of all copiers
	net      *pipeNet
	configs  map[string]Config
	logs     map[string]*Log
	machines map[string]*recorder
}

var nodes = []string{"a", "b", "c"}

// newCluster starts three voters, a the leader.
func newCluster(t *testing.T, change func(*Config)) *cluster {
	t.Helper()
	return newClusterOf(t, nodes, change)
}

// newClusterOf starts the nodes named as voters, the first one the leader.
func newClusterOf(t *testing.T, names []string, change func(*Config)) *cluster {
	t.Helper()
	c := newMembers(t, names, change)
	for _, name := range names[1:] {
		f := c.logs[names[0]].raft.AddVoter(raft.ServerID(name), raft.ServerAddress(name), 0, 0)
		if err := f.Error(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// newMembers starts the nodes named, of which the first one is a group of one
// and the others its spares.
func newMembers(t *testing.T, names []string, change func(*Config)) *cluster {
	t.Helper()
	c := &cluster{
		net:      newPipeNet(),
		copiers:  make(map[string]*disk),
		copied:   new(copyWatch),
		configs:  make(map[string]Config),
		logs:     make(map[string]*Log),
		machines: make(map[string]*recorder),
	}
	for i, name := range names {
		conf := testConfig(t, new(recorder))
		conf.Node, conf.Bootstrap, conf.Join = name, i == 0, i > 0
		if change != nil {
			change(&conf)
		}
		if _, ok := conf.Machines["m"].(*copier); ok {
			c.copiers[name] = new(disk)
		}
		c.configs[name] = conf
		c.start(t, name)
		first := c.logs[names[0]]
		c.await(t, names[0]+" to lead", first.IsLeader)
		if err := first.AddMember(t.Context(), name, name); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cluster) start(t *testing.T, name string) {
	t.Helper()
	conf := c.configs[name]
	c.machines[name] = new(recorder)
	conf.Machines = map[string]Machine{"m": c.machines[name]}
	if d := c.keepers[name]; d != nil {
		conf.Machines["m"] = &keeper{disk: d}
	}
	if d := c.copiers[name]; d != nil {
		conf.Machines["m"] = &copier{keeper{disk: d}, c.copied}
	}
	conf.Transport = c.net.transport(name)
	c.logs[name] = open(t, conf)
}

// all is what the machine of a node was given.
func (c *cluster) all(name string) []Entry {
	if d := c.copiers[name]; d != nil {
		return d.all()
	}
	return c.machines[name].all()
}

func (c *cluster) stop(t *testing.T, name string) {
	t.Helper()
	closeLog(t, c.logs[name])
}

// leader waits for one among the nodes named.
func (c *cluster) leader(t *testing.T, among ...string) string {
	t.Helper()
	var leader string
	c.await(t, "a leader", func() bool {
		i := slices.IndexFunc(among, func(n string) bool { return c.logs[n].IsLeader() })
		if i >= 0 {
			leader = among[i]
		}
		return i >= 0
	})
	return leader
}

func (c *cluster) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond) // of the bubble's time
	}
	t.Fatalf("waited for %s in vain", what)
}

func others(name string) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == name })
}

// agree waits until the nodes named have applied as much as the first and
// compares what their machines were given, times included.
func (c *cluster) agree(t *testing.T, names ...string) []Entry {
	t.Helper()
	want := c.all(names[0])
	for _, name := range names[1:] {
		c.await(t, name+" to catch up", func() bool { return len(c.all(name)) >= len(want) })
		if diff := cmp.Diff(want, c.all(name)); diff != "" {
			t.Errorf("entries (-%s +%s):\n%s", names[0], name, diff)
		}
	}
	return want
}

func TestThreeNodesAgreeAcrossAFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], numbered(1, 100)...)
		c.agree(t, nodes...)

		c.stop(t, "a")
		second := c.leader(t, "b", "c")
		say(t, c.logs[second], numbered(101, 200)...)

		c.start(t, "a")
		say(t, c.logs[second], "201")
		got := c.agree(t, second, "a", others("a")[0], others("a")[1])
		var texts []string
		for i, e := range got {
			texts = append(texts, string(e.Data))
			if i > 0 && !e.At.After(got[i-1].At) {
				t.Errorf("entry %d at %v, the one before at %v", i, e.At, got[i-1].At)
			}
		}
		if diff := cmp.Diff(numbered(1, 201), texts); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
	})
}

// TestAnyMemberProposes: the leader appends, and the node that was asked has
// applied it when it returns.
func TestAnyMemberProposes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		for i, name := range []string{"b", "c", "a", "c", "b"} {
			began := time.Now()
			say(t, c.logs[name], fmt.Sprint(i))
			if got := c.machines[name].texts(); len(got) != i+1 || got[i] != fmt.Sprint(i) {
				t.Errorf("%s has %v after its own proposal %d", name, got, i)
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("%s waited %v for its own entry: nobody told it that it is committed", name, took)
			}
		}
		c.agree(t, nodes...)
		if s := c.logs["b"].Stats(); s.Role != "follower" || s.Leader != "a" || !s.Quorum {
			t.Errorf("Stats() of a follower = %+v, want follower of a", s)
		}
		// What a node that does not lead refuses was not written.
		if _, err := c.logs["b"].append(t.Context(), []byte("x")); !errors.Is(err, errNotHere) {
			t.Errorf("append() on a follower = %v, want errNotHere", err)
		}
		if _, err := c.logs["b"].Propose(t.Context(), Part{Machine: "m", Data: make([]byte, MaxEntry)}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Propose(too much) = %v, want ErrTooLarge", err)
		}
	})
}

// TestProposalsRaceALostLeadership cuts the leader off while many propose. What
// was acknowledged is there exactly once; what failed may be there or not.
func TestProposalsRaceALostLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "first")
		var mu sync.Mutex
		acked := make(map[string]uint64)
		var unknown int
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for i := range 8 {
			clients.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
					}
					text := fmt.Sprintf("%d-%d", i, n)
					for _, node := range nodes {
						ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
						index, err := c.logs[node].Propose(ctx, Part{Machine: "m", Data: []byte(text)})
						cancel()
						mu.Lock()
						if err == nil {
							acked[text] = index
						} else if errors.Is(err, ErrUnknownOutcome) {
							unknown++
						} else if !errors.Is(err, ErrNoLeader) {
							t.Errorf("Propose() = %v", err)
						}
						mu.Unlock()
						if !errors.Is(err, ErrNoLeader) {
							break
						}
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		c.net.cut("a", true)
		second := c.leader(t, "b", "c")
		time.Sleep(2 * time.Second)
		c.net.cut("a", false)
		time.Sleep(2 * time.Second)
		close(stop)
		clients.Wait()
		leader := c.leader(t, nodes...)
		say(t, c.logs[leader], "last")

		seen := make(map[string]uint64)
		for _, e := range c.agree(t, append([]string{leader}, others(leader)...)...) {
			if seen[string(e.Data)] != 0 {
				t.Errorf("%s is in the log twice", e.Data)
			}
			seen[string(e.Data)] = e.Index
		}
		for text, index := range acked {
			if seen[text] != index {
				t.Errorf("%s was acknowledged at %d and is at %d", text, index, seen[text])
			}
		}
		if unknown == 0 || len(acked) < 100 {
			t.Errorf("%d acknowledged, %d unknown, second leader %s: the race did not happen", len(acked), unknown, second)
		}
	})
}

// TestANodeFarBehindGetsASnapshot: the log does not reach back for it any more.
func TestANodeFarBehindGetsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The log keeps what its newest file holds, so files must be small.
		c := newCluster(t, func(c *Config) { c.Trailing, c.SegmentSize = 1, 4<<10 })
		say(t, c.logs["a"], numbered(1, 10)...)
		c.agree(t, nodes...)
		c.stop(t, "c")
		say(t, c.logs["a"], numbered(11, 300)...)
		snapshot(t, c.logs["a"])
		say(t, c.logs["a"], "301")
		c.start(t, "c")
		c.agree(t, "a", "c")
		if c.machines["c"].restores == 0 {
			t.Error("c got no snapshot")
		}
		// It goes on from there after a restart of its own.
		c.stop(t, "c")
		c.start(t, "c")
		say(t, c.logs["a"], "302")
		c.agree(t, "a", "b", "c")
	})
}

// TestAManifestFromAnotherNodeStopsTheNode: such a machine cannot use it, and
// must not go on as if it had.
func TestAManifestFromAnotherNodeStopsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, func(c *Config) { c.Trailing, c.SegmentSize = 1, 4<<10 })
		say(t, c.logs["a"], "one")
		c.agree(t, nodes...)
		c.stop(t, "c")
		say(t, c.logs["a"], numbered(2, 300)...)
		snapshot(t, c.logs["a"])
		c.keepers = map[string]*disk{"c": new(disk)}
		c.start(t, "c")
		wantFailed(t, c.logs["c"], ErrManifest)
		say(t, c.logs["a"], "the others go on")
		c.agree(t, "a", "b")
	})
}

func TestLeadRunsWhileThisNodeLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "one")
		ctx, cancel := context.WithCancelCause(t.Context())
		var mu sync.Mutex
		var running, most int
		terms := make(map[string]int)
		ended := make(chan error, len(nodes))
		for _, name := range nodes {
			go func() {
				ended <- c.logs[name].Lead(ctx, func(ctx context.Context) error {
					mu.Lock()
					if n := len(c.machines[name].all()); n == 0 {
						t.Errorf("%s leads before it has applied what was committed", name)
					}
					running++
					terms[name]++
					most = max(most, running)
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					running--
					mu.Unlock()
					return context.Cause(ctx)
				})
			}()
		}
		c.await(t, "a to run", func() bool { mu.Lock(); defer mu.Unlock(); return terms["a"] == 1 && running == 1 })
		c.net.cut("a", true)
		second := c.leader(t, "b", "c")
		c.await(t, second+" to run alone", func() bool { mu.Lock(); defer mu.Unlock(); return terms[second] == 1 && running == 1 })
		c.net.cut("a", false)
		time.Sleep(5 * time.Second)

		over := errors.New("over")
		cancel(over)
		for range nodes {
			if err := <-ended; !errors.Is(err, over) {
				t.Errorf("Lead() = %v, want the cause of its context", err)
			}
		}
		if running != 0 {
			t.Errorf("%d still run", running)
		}
	})
}

// TestALeaderOfOldWritesNothing: what it decided does not reach the log by way
// of the new leader, nor in a later office of its own.
func TestALeaderOfOldWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		contexts := make(chan context.Context, 2)
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			ended <- c.logs["a"].Lead(ctx, func(ctx context.Context) error {
				contexts <- context.WithoutCancel(ctx) // one that has not noticed
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		propose := func(ctx context.Context, text string) error {
			_, err := c.logs["a"].Propose(ctx, Part{Machine: "m", Data: []byte(text)})
			return err
		}
		first := <-contexts
		if err := propose(first, "one"); err != nil {
			t.Fatal(err)
		}
		refused := func() {
			t.Helper()
			if err := propose(first, "stale"); !errors.Is(err, ErrNoLeader) || !errors.Is(err, ErrLeadershipLost) {
				t.Errorf("Propose() of an office that is over = %v, want ErrNoLeader and ErrLeadershipLost", err)
			}
			if err := c.logs["a"].RemoveMember(first, "c"); !errors.Is(err, ErrLeadershipLost) {
				t.Errorf("RemoveMember() of an office that is over = %v, want ErrLeadershipLost", err)
			}
		}
		if err := c.logs["a"].Transfer(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := c.leader(t, "b", "c")
		refused()
		if err := propose(t.Context(), "two"); err != nil {
			t.Errorf("Propose() of anybody else at a node that does not lead = %v", err)
		}
		if err := c.logs[second].raft.LeadershipTransferToServer("a", "a").Error(); err != nil {
			t.Fatal(err)
		}
		again := <-contexts
		refused()
		if err := propose(again, "three"); err != nil {
			t.Errorf("Propose() in the new office = %v", err)
		}
		if diff := cmp.Diff([]string{"one", "two", "three"}, c.machines["a"].texts()); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		cancel()
		<-ended
	})
}

// TestLeadWaitsForAHandOver: one that fails leaves this node the leader.
func TestLeadWaitsForAHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "one")
		c.net.hold(true, "b", requests)
		handed := make(chan error, 1)
		go func() { handed <- c.logs["a"].raft.LeadershipTransferToServer("b", "b").Error() }()
		time.Sleep(10 * time.Millisecond)
		ended, ran := errors.New("over"), false
		err := c.logs["a"].Lead(t.Context(), func(context.Context) error { ran = true; return ended })
		if !errors.Is(err, ended) || !ran {
			t.Errorf("Lead() = %v while another is to take over, ran = %v; want what run returns", err, ran)
		}
		if err := <-handed; err == nil {
			t.Error("b took over although nothing reached it")
		}
		c.net.hold(false, "b", requests)
	})
}

func TestLeadReturnsWhatRunFailsWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, testConfig(t, new(recorder)))
		broken := errors.New("broken")
		if err := l.Lead(t.Context(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("Lead() = %v, want %v", err, broken)
		}
		// A run that is content is not called again; the end of the Log ends Lead.
		calls := 0
		ended := make(chan error)
		go func() { ended <- l.Lead(t.Context(), func(context.Context) error { calls++; return nil }) }()
		time.Sleep(time.Second)
		closeLog(t, l)
		if err := <-ended; !errors.Is(err, ErrClosed) || calls != 1 {
			t.Errorf("Lead() = %v after %d calls, want ErrClosed after 1", err, calls)
		}
	})
}
