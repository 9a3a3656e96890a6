package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var five = []string{"a", "b", "c", "d", "e"}

// voters are the voters as a node knows them.
func (c *cluster) voters(t *testing.T, node string) []string {
	t.Helper()
	members, err := c.logs[node].Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range members {
		if m.Voter {
			out = append(out, m.Node)
		}
	}
	return out
}

// tend runs Tend on the nodes named until the test ends.
func (c *cluster) tend(t *testing.T, conf TendConfig, names ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(names))
	for _, name := range names {
		go func() { ended <- c.logs[name].Tend(ctx, conf) }()
	}
	t.Cleanup(func() {
		cancel()
		for range names {
			if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed) {
				t.Errorf("Tend() = %v, want the cause of its context", err)
			}
		}
	})
}

func (c *cluster) awaitVoters(t *testing.T, node string, want ...string) {
	t.Helper()
	c.await(t, fmt.Sprintf("voters %v", want), func() bool { return slices.Equal(c.voters(t, node), want) })
}

func TestSparesBecomeVoters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMembers(t, five, nil)
		say(t, c.logs["d"], "a spare proposes")
		if got := c.voters(t, "a"); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("voters %v before anyone tends them, want [a]", got)
		}
		c.tend(t, TendConfig{Want: 3}, five...)
		c.awaitVoters(t, "a", "a", "b", "c")
		time.Sleep(time.Minute)
		c.awaitVoters(t, "e", "a", "b", "c")
		say(t, c.logs["e"], "two")
		c.agree(t, five...)
	})
}

func TestTwoMembersHaveOneVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMembers(t, five[:2], nil)
		c.tend(t, TendConfig{}, "a", "b")
		time.Sleep(time.Minute)
		c.awaitVoters(t, "a", "a")
		// The other one is no loss.
		c.stop(t, "b")
		say(t, c.logs["a"], "alone")
	})
}

func TestASilentVoterIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMembers(t, five[:4], nil)
		c.tend(t, TendConfig{After: 30 * time.Second}, five[:4]...)
		c.awaitVoters(t, "a", "a", "b", "c")
		c.net.cut("b", true)
		time.Sleep(20 * time.Second)
		c.awaitVoters(t, "a", "a", "b", "c")
		c.awaitVoters(t, "a", "a", "c", "d")
		// With the replacement, one more may go.
		c.net.cut("c", true)
		say(t, c.logs["d"], "one")
		c.net.cut("b", false)
		c.net.cut("c", false)
		c.agree(t, "d", "a", "b", "c")
	})
}

func TestTheMeshsOwnSignOfSilenceCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMembers(t, five[:4], nil)
		silent := func(node string) bool { return node == "c" }
		c.tend(t, TendConfig{After: 30 * time.Second, Silent: silent}, five[:4]...)
		c.awaitVoters(t, "a", "a", "b", "d")
	})
}

func TestMembersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMembers(t, five[:3], nil)
		c.tend(t, TendConfig{}, five[:3]...)
		c.awaitVoters(t, "a", "a", "b", "c")

		// From a node that does not lead, twice, and the leader itself.
		for range 2 {
			if err := c.logs["b"].RemoveMember(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		want := []Member{{"b", "b", true}, {"c", "c", false}}
		leader := c.leader(t, "b", "c")
		if leader == "c" {
			want = []Member{{"b", "b", false}, {"c", "c", true}}
		}
		c.await(t, "one voter of two", func() bool { return len(c.voters(t, leader)) == 1 })
		for _, name := range []string{"b", "c"} {
			c.await(t, name+" to know", func() bool {
				got, err := c.logs[name].Members(t.Context())
				return err == nil && cmp.Equal(want, got)
			})
		}
		say(t, c.logs["c"], "without a")
		c.stop(t, "a")

		// Somebody else's address, then one that changed.
		if err := c.logs["c"].AddMember(t.Context(), "x", "b"); err == nil {
			t.Error("two members have one address")
		}
		for range 2 {
			if err := c.logs["c"].AddMember(t.Context(), "d", "wrong"); err != nil {
				t.Fatal(err)
			}
		}
		conf := c.configs["a"]
		conf.Dir, conf.Node, conf.Bootstrap, conf.Join = t.TempDir(), "d", false, true
		c.configs["d"] = conf
		c.start(t, "d")
		if err := c.logs["c"].AddMember(t.Context(), "d", "d"); err != nil {
			t.Fatal(err)
		}
		say(t, c.logs[leader], "with d")
		c.agree(t, "b", "c", "d")
	})
}

func TestTheLastVoterStaysUntilAnotherCanTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMembers(t, five[:2], nil)
		say(t, c.logs["a"], "one")
		c.agree(t, "a", "b")
		c.net.cut("b", true)
		time.Sleep(5 * time.Second)
		if err := c.logs["a"].RemoveMember(t.Context(), "a"); !errors.Is(err, ErrLastVoter) {
			t.Errorf("RemoveMember(last voter) = %v, want ErrLastVoter", err)
		}
		c.net.cut("b", false)
		time.Sleep(5 * time.Second)
		if err := c.logs["b"].RemoveMember(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		say(t, c.logs["b"], "two")
		if got, err := c.logs["b"].Members(t.Context()); err != nil || !cmp.Equal(got, []Member{{"b", "b", true}}) {
			t.Errorf("Members() = %v, %v, want b alone", got, err)
		}
		// And over the wire it is the same error.
		if err := c.logs["b"].RemoveMember(t.Context(), "b"); !errors.Is(err, ErrLastVoter) {
			t.Errorf("RemoveMember(last voter) = %v, want ErrLastVoter", err)
		}
	})
}

func TestTransferHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "one")
		time.Sleep(time.Second)
		if err := c.logs["b"].Transfer(t.Context()); err != nil || !c.logs["a"].IsLeader() {
			t.Errorf("Transfer() of a follower = %v, a leads: %v; want nothing to happen", err, c.logs["a"].IsLeader())
		}
		began := time.Now()
		if err := c.logs["a"].Transfer(t.Context()); err != nil {
			t.Fatal(err)
		}
		say(t, c.logs["a"], "two")
		if took := time.Since(began); took > 200*time.Millisecond || c.logs["a"].IsLeader() {
			t.Errorf("handing over took %v, a leads: %v", took, c.logs["a"].IsLeader())
		}
		c.net.cut("b", true)
		c.net.cut("c", true)
		c.await(t, "the loss to be seen", func() bool { return !c.logs["b"].Stats().Quorum && !c.logs["a"].Stats().Quorum })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := c.logs["a"].Propose(ctx, Part{Machine: "m"}); !errors.Is(err, ErrNoLeader) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Propose() without a majority = %v, want ErrNoLeader when ctx ends", err)
		}
	})
}

// TestTheLeaderKnowsHowFarTheOthersAre: and those who do not lead say nothing
// about it.
func TestTheLeaderKnowsHowFarTheOthersAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "one")
		c.agree(t, nodes...)
		c.net.cut("c", true)
		say(t, c.logs["a"], numbered(2, 11)...)
		time.Sleep(2 * time.Second)
		s := c.logs["a"].Stats()
		if len(s.Peers) != 2 || s.Peers[0].Node != "b" || s.Peers[1].Node != "c" {
			t.Fatalf("peers %+v, want b and c", s.Peers)
		}
		if b := s.Peers[0]; !b.Voter || b.Lag != 0 || b.Match != s.Last || b.Silent > 200*time.Millisecond {
			t.Errorf("b = %+v, want a voter that has everything", b)
		}
		if c := s.Peers[1]; c.Lag != 10 || c.Silent < 2*time.Second {
			t.Errorf("c = %+v, want one that lacks 10 entries and is silent", c)
		}
		want := Timeouts{Heartbeat: 500 * time.Millisecond, Election: 500 * time.Millisecond, LeaderLease: 250 * time.Millisecond}
		if s.Timeouts != want {
			t.Errorf("timeouts %+v, want %+v", s.Timeouts, want)
		}
		for _, p := range c.logs["b"].Stats().Peers {
			if p.Match != 0 || p.Silent != 0 {
				t.Errorf("a follower says of %s: %+v", p.Node, p)
			}
		}
		c.net.cut("c", false)
		c.await(t, "c to catch up", func() bool { return c.logs["a"].Stats().Peers[1].Lag == 0 })
	})
}

// TestANodeThatWasAloneGetsItsAddress: the others must reach it once it does
// not lead any more.
func TestANodeThatWasAloneGetsItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := testConfig(t, new(recorder))
		l := open(t, conf)
		say(t, l, "alone")
		closeLog(t, l)
		conf.Transport = newPipeNet().transport("somewhere")
		conf.Machines["m"] = new(recorder)
		l = open(t, conf)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Tend(ctx, TendConfig{}) }()
		time.Sleep(5 * time.Second)
		if m, err := l.Members(t.Context()); err != nil || !cmp.Equal(m, []Member{{"a", "somewhere", true}}) {
			t.Errorf("Members() = %v, %v; want a at its address", m, err)
		}
		cancel()
		<-ended
	})
}
