package consensus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

var errMachine = errors.New("the store is gone")

// TestTheNodeStops feeds what no machine can go on from. The node must say so,
// refuse everything after it, and be none the worse once the cause is gone.
func TestTheNodeStops(t *testing.T) {
	for name, tc := range map[string]struct {
		apply func(Entry) error                      // of machine m
		bad   func(t *testing.T, l *Log) (err error) // proposes the entry in question
		want  error
		text  string
		heals bool // a restart with a sound machine goes on
	}{
		"a machine fails": {
			apply: func(e Entry) error {
				if string(e.Data) == "bad" {
					return errMachine
				}
				return nil
			},
			bad: proposeBad, want: errMachine, text: "machine m", heals: true,
		},
		"a machine panics": {
			apply: func(e Entry) error {
				if string(e.Data) == "bad" {
					panic("half done")
				}
				return nil
			},
			bad: proposeBad, text: "panic: half done", heals: true,
		},
		"an entry of a newer format": {
			bad: func(t *testing.T, l *Log) error { return applyRaw(l, []byte{entryFormat + 1, 0}) }, want: ErrNewer, text: "entry format 2",
		},
		"an entry that is damaged": {
			bad: func(t *testing.T, l *Log) error { return applyRaw(l, []byte{entryFormat, 0}) }, want: errCorrupt,
		},
		"a part for an unknown machine": {
			bad: func(t *testing.T, l *Log) error {
				b, err := encodeEntry([]Part{{Machine: "m", Data: []byte("x")}, {Machine: "future"}})
				if err != nil {
					t.Fatal(err)
				}
				return applyRaw(l, b)
			}, want: ErrNewer, text: `"future"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &recorder{apply: tc.apply}
				c := testConfig(t, m)
				l := open(t, c)
				say(t, l, "one")
				if err := tc.bad(t, l); err == nil {
					t.Error("the bad entry was acknowledged")
				}
				wantFailed(t, l, tc.want)
				if !strings.Contains(l.Err().Error(), tc.text) {
					t.Errorf("Err() = %v, want %q in it", l.Err(), tc.text)
				}
				if _, err := l.Propose(t.Context(), Part{Machine: "m"}); !errors.Is(err, l.Err()) {
					t.Errorf("Propose() = %v, want %v", err, l.Err())
				}
				if diff := cmp.Diff([]string{"one"}, m.texts()); diff != "" {
					t.Errorf("entries (-want +got):\n%s", diff)
				}
				if l.IsLeader() {
					t.Error("still leads")
				}
				closeLog(t, l)

				c.Machines["m"] = new(recorder)
				l = open(t, c)
				if !tc.heals {
					wantFailed(t, l, tc.want)
					return
				}
				say(t, l, "two")
				if diff := cmp.Diff([]string{"one", "bad", "two"}, c.Machines["m"].(*recorder).texts()); diff != "" {
					t.Errorf("entries after the restart (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func proposeBad(t *testing.T, l *Log) error {
	_, err := l.Propose(t.Context(), Part{Machine: "m", Data: []byte("bad")})
	if !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("Propose() = %v, want ErrUnknownOutcome: the entry is committed", err)
	}
	return err
}

// applyRaw puts into the log what Propose would never write.
func applyRaw(l *Log, b []byte) error {
	f := l.raft.Apply(b, 0)
	if err := f.Error(); err != nil {
		return err
	}
	err, _ := f.Response().(error)
	return err
}

// TestNothingIsAppliedAfterAFailure: what Raft still has under way when a
// machine fails must not reach it.
func TestNothingIsAppliedAfterAFailure(t *testing.T) {
	m := &recorder{apply: func(e Entry) error {
		if string(e.Data) == "bad" {
			return errMachine
		}
		return nil
	}}
	var failures int
	f := newFSM(map[string]Machine{"m": m}, testLogger(t), func(error) { failures++ }, func(int64) {})
	for i, text := range []string{"one", "bad", "two"} {
		b, err := encodeEntry([]Part{{Machine: "m", Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		got, _ := f.Apply(&raft.Log{Index: uint64(i + 1), Data: b}).(error)
		if want := i > 0; errors.Is(got, errMachine) != want {
			t.Errorf("Apply(%s) = %v, want an error: %v", text, got, want)
		}
	}
	if _, err := f.Snapshot(); !errors.Is(err, errMachine) {
		t.Errorf("Snapshot() = %v, want %v: the state may be half of an entry", err, errMachine)
	}
	if texts := m.texts(); !slices.Equal(texts, []string{"one"}) || failures != 1 {
		t.Errorf("the machine has %v after %d failures, want [one] after 1", texts, failures)
	}
}

// TestAMachineBesideAFailedOneHasEachEntryOnce: it goes on after the restart
// without the entry it already has.
func TestAMachineBesideAFailedOneHasEachEntryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(disk)
		c := testConfig(t, &recorder{apply: func(Entry) error { return errMachine }})
		c.Machines["durable"] = &keeper{disk: d} // comes before m
		l := open(t, c)
		parts := []Part{{Machine: "durable", Data: []byte("1")}, {Machine: "m", Data: []byte("1")}}
		if _, err := l.Propose(t.Context(), parts...); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("Propose() = %v, want ErrUnknownOutcome", err)
		}
		wantFailed(t, l, errMachine)
		closeLog(t, l)

		m, durable := new(recorder), &keeper{disk: d}
		c.Machines = map[string]Machine{"m": m, "durable": durable}
		l = open(t, c)
		if _, err := l.Propose(t.Context(), Part{Machine: "m", Data: []byte("2")}); err != nil {
			t.Fatal(err)
		}
		if got, other := m.texts(), durable.texts(); !slices.Equal(got, []string{"1", "2"}) || !slices.Equal(other, []string{"1"}) {
			t.Errorf("m has %v, durable has %v; want [1 2] and [1]", got, other)
		}
	})
}

func TestProposeRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, testConfig(t, new(recorder)))
		for name, tc := range map[string]struct {
			parts []Part
			want  error
		}{
			"nothing":            {},
			"an unknown machine": {parts: []Part{{Machine: "future"}}},
			"too much":           {parts: []Part{{Machine: "m", Data: make([]byte, MaxEntry)}}, want: ErrTooLarge},
		} {
			if _, err := l.Propose(t.Context(), tc.parts...); err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("Propose(%s) = %v, want an error (%v)", name, err, tc.want)
			}
		}
		say(t, l, "one")
		closeLog(t, l)
		if _, err := l.Propose(t.Context(), Part{Machine: "m"}); !errors.Is(err, ErrClosed) {
			t.Errorf("Propose() after Close = %v, want ErrClosed", err)
		}
	})
}

func TestProposeStopsWaitingWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := &recorder{apply: func(Entry) error { <-release; return nil }}
		l := open(t, testConfig(t, m))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Propose(ctx, Part{Machine: "m", Data: []byte("slow")})
		if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Propose() = %v, want ErrUnknownOutcome and DeadlineExceeded", err)
		}
		close(release)
		say(t, l, "next")
		if diff := cmp.Diff([]string{"slow", "next"}, m.texts()); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
	})
}

// TestCloseAnswersWhoWaits: a proposal under way ends before Close does.
func TestCloseAnswersProposalsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &recorder{apply: func(Entry) error { time.Sleep(time.Second); return nil }}
		l := open(t, testConfig(t, m))
		done := make(chan error, 3)
		for range cap(done) {
			go func() {
				_, err := l.Propose(t.Context(), Part{Machine: "m"})
				done <- err
			}()
		}
		time.Sleep(time.Second / 2)
		closeLog(t, l)
		for range cap(done) {
			if err := <-done; err != nil {
				t.Errorf("Propose() = %v, want success: it had begun", err)
			}
		}
	})
}
