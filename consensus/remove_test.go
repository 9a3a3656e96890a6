package consensus

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// removal starts to remove a member and returns where its end is told.
func (c *cluster) removal(t *testing.T, at, member string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		done <- c.logs[at].RemoveMember(ctx, member)
	}()
	return done
}

// TestTheHeirOfTheLastVoterKeepsItsVote: who looks after the voters finds two
// of them, one too many, while the last one hands over.
func TestTheHeirOfTheLastVoterKeepsItsVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMembers(t, five[:2], nil)
		say(t, c.logs["a"], "one")
		c.agree(t, "a", "b")
		conf := TendConfig{Want: 5, After: time.Minute}
		time.Sleep(time.Second)
		removed := c.removal(t, "a", "a")
		var err error
		for n, done := 1, false; !done; n++ {
			if n%100 == 0 {
				time.Sleep(time.Millisecond)
			}
			if _, tendErr := c.logs["a"].tend(t.Context(), &conf, make(map[string]time.Time)); tendErr != nil && !errors.Is(tendErr, errNotHere) {
				t.Errorf("tending the voters: %v", tendErr)
			}
			select {
			case err = <-removed:
				done = true
			default:
				runtime.Gosched()
			}
		}
		if err != nil {
			t.Fatalf("RemoveMember(the last voter) = %v, want it to hand over", err)
		}
		say(t, c.logs["b"], "two")
		if got, err := c.logs["b"].Members(t.Context()); err != nil || !cmp.Equal(got, []Member{{"b", "b", true}}) {
			t.Errorf("Members() = %v, %v, want b alone", got, err)
		}
	})
}

// TestTwoWhoGoAtOnce: one of them stays, and with it the group.
func TestTwoWhoGoAtOnce(t *testing.T) {
	for _, first := range []string{"a", "b"} {
		t.Run(first+" first", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newMembers(t, five[:2], nil)
				say(t, c.logs["a"], "one")
				c.agree(t, "a", "b")
				c.tend(t, TendConfig{Every: 5 * time.Millisecond}, "a", "b")
				time.Sleep(time.Second)
				c.net.hold(true, "b", requests)
				errs := make(map[string]<-chan error)
				for _, name := range append([]string{first}, others(first)...)[:2] {
					errs[name] = c.removal(t, "a", name)
					time.Sleep(20 * time.Millisecond)
				}
				c.net.hold(false, "b", requests)
				var stayed string
				for name, err := range errs {
					switch err := <-err; {
					case errors.Is(err, ErrLastVoter):
						stayed += name
					case err != nil:
						t.Errorf("RemoveMember(%s) = %v, want nothing or ErrLastVoter", name, err)
					}
				}
				if stayed != "a" && stayed != "b" {
					t.Fatalf("%q stayed, want one of two", stayed)
				}
				say(t, c.logs[stayed], "two")
				if got, err := c.logs[stayed].Members(t.Context()); err != nil || !cmp.Equal(got, []Member{{stayed, stayed, true}}) {
					t.Errorf("Members() = %v, %v, want %s alone", got, err, stayed)
				}
			})
		})
	}
}

// TestAMajorityStaysWhenAVoterGoes: while one of three is away, both others are
// needed, also the leader that is asked to go.
func TestAMajorityStaysWhenAVoterGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "one")
		c.agree(t, nodes...)
		c.net.cut("c", true)
		time.Sleep(5 * time.Second)
		for _, name := range []string{"b", "a"} {
			err := <-c.removal(t, "b", name)
			if !errors.Is(err, ErrTooFewVoters) || !strings.Contains(err.Error(), "c does not answer") {
				t.Errorf("RemoveMember(%s) with c away = %v, want ErrTooFewVoters that names c", name, err)
			}
		}
		if !c.logs["a"].IsLeader() {
			t.Error("a handed over although it stays")
		}
		say(t, c.logs["b"], "two")
		if err := <-c.removal(t, "b", "c"); err != nil {
			t.Errorf("RemoveMember(the one that is away) = %v", err)
		}
		c.tend(t, TendConfig{}, "a", "b")
		c.awaitVoters(t, "a", "a")
		if err := <-c.removal(t, "a", "b"); err != nil {
			t.Errorf("RemoveMember(the spare) = %v", err)
		}
		say(t, c.logs["a"], "three")
	})
}

// TestARemovalThatIsGivenUpGoesOn: and what comes next waits for its end.
func TestARemovalThatIsGivenUpGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "one")
		c.agree(t, nodes...)
		c.net.hold(true, "b", requests)
		c.net.hold(true, "c", requests)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := c.logs["a"].RemoveMember(ctx, "c"); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("RemoveMember() given up = %v, want ErrUnknownOutcome", err)
		}
		removed := c.removal(t, "a", "c")
		time.Sleep(20 * time.Millisecond)
		c.net.hold(false, "b", requests)
		c.net.hold(false, "c", requests)
		if err := <-removed; err != nil {
			t.Errorf("RemoveMember() again = %v", err)
		}
		c.awaitVoters(t, "a", "a", "b")
	})
}
