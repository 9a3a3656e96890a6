package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newCopiers is three voters whose machines' snapshots are manifests, with a
// log that is cut as early as possible.
func newCopiers(t *testing.T) *cluster {
	t.Helper()
	return newCluster(t, func(c *Config) {
		c.Trailing, c.SegmentSize = 1, 1<<10
		c.Machines["m"] = new(copier)
	})
}

// leaveBehind stops c and goes on until the log does not reach back to it.
func (c *cluster) leaveBehind(t *testing.T) {
	t.Helper()
	say(t, c.logs["a"], numbered(1, 10)...)
	c.agree(t, nodes...)
	c.stop(t, "c")
	say(t, c.logs["a"], numbered(11, 100)...)
	snapshot(t, c.logs["a"])
	say(t, c.logs["a"], "101")
}

// write has clients propose at a and b until the returned func is called.
func (c *cluster) write(t *testing.T) (stop func()) {
	ended := make(chan struct{})
	var running sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		l := c.logs[name]
		running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				case <-time.After(200 * time.Millisecond):
					say(t, l, fmt.Sprintf("%s-%d", name, n))
				}
			}
		})
	}
	return func() {
		close(ended)
		running.Wait()
	}
}

func TestANodeFarBehindGetsAWholeCopy(t *testing.T) {
	for name, lost := range map[string]bool{"with an old store": false, "with an empty one": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCopiers(t)
				c.leaveBehind(t)
				if lost {
					c.copiers["c"] = new(disk)
					conf := c.configs["c"]
					conf.Dir = t.TempDir()
					c.configs["c"] = conf
				}
				stop := c.write(t)
				c.start(t, "c")
				time.Sleep(2 * time.Second)
				stop()
				say(t, c.logs["c"], "102")
				c.agree(t, "a", "b", "c")
				if n := c.copied.restores.Load(); n != 1 {
					t.Errorf("%d copies were restored, want 1", n)
				}
				// It goes on from there, and can help others itself.
				c.stop(t, "c")
				c.start(t, "c")
				say(t, c.logs["c"], "103")
				c.agree(t, "a", "b", "c")
				if n := c.copied.restores.Load(); n != 1 {
					t.Errorf("%d copies were restored after a restart, want still 1", n)
				}
				left, err := os.ReadDir(filepath.Join(c.configs["a"].Dir, "copies"))
				if err != nil || len(left) > 0 {
					t.Errorf("copies left: %v, %v", left, err)
				}
			})
		})
	}
}

// TestACopyThatIsSentSlowlyIsSentOnce: the log is cut again and again while it
// is made and sent, but not what the node needs to go on from it.
func TestACopyThatIsSentSlowlyIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopiers(t)
		c.leaveBehind(t)
		c.copied.interrupt(
			func() error { time.Sleep(5 * time.Second); return nil },
			func() error { time.Sleep(20 * time.Second); return nil })
		stop := c.write(t)
		c.start(t, "c")
		for range 10 {
			time.Sleep(3 * time.Second)
			snapshot(t, c.logs["a"])
		}
		stop()
		say(t, c.logs["a"], "102")
		c.agree(t, "a", "b", "c")
		if made, restored := c.copied.copies.Load(), c.copied.restores.Load(); made != 1 || restored != 1 {
			t.Errorf("%d copies made, %d restored; want 1 and 1", made, restored)
		}
		// Once it has caught up nothing is kept for it.
		time.Sleep(2 * linger)
		snapshot(t, c.logs["a"])
		first, err := c.logs["a"].stores.log.FirstIndex()
		if last := c.logs["a"].Stats().Last; err != nil || first+60 < last {
			t.Errorf("the log begins at %d and ends at %d, %v", first, last, err)
		}
	})
}

// TestACopyNeedsNobodyElse: the one node that has all entries makes a copy for
// the one that lacks them although it cannot commit anything before that one
// has it. After a restart, too: its store has more than the newest snapshot.
func TestACopyNeedsNobodyElse(t *testing.T) {
	for name, restarted := range map[string]bool{"running": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCopiers(t)
				c.leaveBehind(t)
				say(t, c.logs["a"], numbered(102, 110)...)
				c.agree(t, "a", "b")
				c.stop(t, "b")
				if restarted {
					c.stop(t, "a")
					c.start(t, "a")
				}
				c.start(t, "c")
				say(t, c.logs["c"], "111")
				c.agree(t, "a", "c")
			})
		})
	}
}

// TestAnOldCopyIsNotSentAgain: while its node did not lead, the log was cut
// where it ends.
func TestAnOldCopyIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopiers(t)
		c.leaveBehind(t)
		c.start(t, "c")
		c.agree(t, "a", "c")
		c.stop(t, "c")
		if err := c.logs["a"].Transfer(t.Context()); err != nil {
			t.Fatal(err)
		}
		say(t, c.logs["b"], numbered(102, 200)...)
		c.agree(t, "b", "a")
		snapshot(t, c.logs["a"])
		if err := c.logs["b"].Transfer(t.Context()); err != nil {
			t.Fatal(err)
		}
		say(t, c.logs["a"], "201")
		c.start(t, "c")
		began := time.Now()
		say(t, c.logs["c"], "202")
		c.agree(t, "a", "c")
		if took := time.Since(began); took > linger/2 {
			t.Errorf("c caught up after %v", took)
		}
	})
}

// TestTwoNodesShareACopy: it is made once.
func TestTwoNodesShareACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopiers(t)
		c.leaveBehind(t)
		c.copied.interrupt(
			func() error { time.Sleep(5 * time.Second); return nil },
			func() error { time.Sleep(5 * time.Second); return nil })
		d := c.configs["c"]
		d.Dir, d.Node = t.TempDir(), "d"
		c.configs["d"], c.copiers["d"] = d, new(disk)
		c.start(t, "d")
		if err := c.logs["b"].AddMember(t.Context(), "d", "d"); err != nil {
			t.Fatal(err)
		}
		c.start(t, "c")
		say(t, c.logs["d"], "102")
		c.agree(t, "d", "a", "b", "c")
		if n := c.copied.copies.Load(); n != 1 {
			t.Errorf("%d copies made, want 1", n)
		}
	})
}

// TestACopyIsInterrupted: whoever dies or is cut off at whatever moment, the
// node has every entry once in the end.
func TestACopyIsInterrupted(t *testing.T) {
	broken := errors.New("killed")
	for name, tc := range map[string]struct {
		write, restore func(c *cluster) error
		fails          bool // c stops by itself and is started again
	}{
		"c dies before it has restored": {restore: func(*cluster) error { return broken }, fails: true},
		"c is cut off while it is made": {write: func(c *cluster) error {
			c.net.cut("c", true)
			time.Sleep(5 * time.Second)
			c.net.cut("c", false)
			return nil
		}},
		"making it fails": {write: func(*cluster) error { return broken }},
		"the leader is cut off while it is made": {write: func(c *cluster) error {
			c.net.cut("a", true)
			time.Sleep(5 * time.Second)
			c.net.cut("a", false)
			return nil
		}},
		"c is cut off while it restores": {restore: func(c *cluster) error {
			c.net.cut("c", true)
			time.Sleep(5 * time.Second)
			c.net.cut("c", false)
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCopiers(t)
				c.leaveBehind(t)
				var once atomic.Bool
				first := func(f func(c *cluster) error) func() error {
					return func() error {
						if f == nil || once.Swap(true) {
							return nil
						}
						return f(c)
					}
				}
				c.copied.interrupt(first(tc.write), first(tc.restore))
				c.start(t, "c")
				if tc.fails {
					wantFailed(t, c.logs["c"], broken)
					c.stop(t, "c")
					// The copy is on disk and the log is the one of before. Another
					// leader does not send it again.
					if err := c.logs["a"].Transfer(t.Context()); err != nil {
						t.Fatal(err)
					}
					c.start(t, "c")
				}
				c.await(t, "the interruption", once.Load)
				say(t, c.logs["b"], "102")
				got := c.agree(t, "b", "a", "c")
				var texts []string
				for _, e := range got {
					texts = append(texts, string(e.Data))
				}
				if diff := cmp.Diff(numbered(1, 102), texts); diff != "" {
					t.Errorf("entries (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestANodeThatHadACopyHandsOnAWholeOne: it leads before it has taken a
// snapshot of its own.
func TestANodeThatHadACopyHandsOnAWholeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopiers(t)
		c.leaveBehind(t)
		c.start(t, "c")
		say(t, c.logs["c"], "102")
		c.agree(t, "a", "b", "c")
		c.stop(t, "b")
		c.copiers["b"] = new(disk)
		conf := c.configs["b"]
		conf.Dir = t.TempDir()
		c.configs["b"] = conf
		time.Sleep(time.Second)
		if err := c.logs["a"].Transfer(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.leader(t, "c")
		c.start(t, "b")
		say(t, c.logs["c"], "103")
		c.agree(t, "c", "a", "b")
		if made, restored := c.copied.copies.Load(), c.copied.restores.Load(); made != 1 || restored != 2 {
			t.Errorf("%d copies made, %d restored; want 1 and 2", made, restored)
		}
	})
}

// TestASnapshotThatTheLogOutlivesIsRefused: see snapshotStore.Create.
func TestASnapshotThatTheLogOutlivesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopiers(t)
		say(t, c.logs["a"], numbered(1, 5)...)
		c.agree(t, nodes...)
		b := c.logs["b"]
		last := b.Stats().Last
		// Entries of a leader that was cut off, which nobody else has.
		c.net.cut("b", true)
		b.stores.snaps.source = applied{b, last - 2}
		defer func() { b.stores.snaps.source = b }()
		for index, want := range map[uint64]bool{last - 1: false, last: false, last + 1: true} {
			sink, err := b.stores.snaps.Create(1, index, 1, b.raft.GetConfiguration().Configuration(), 1, b.wire)
			if (err == nil) != want {
				t.Errorf("a snapshot up to %d with a log up to %d: %v, want success %v", index, last, err, want)
			}
			if err == nil {
				if err := sink.Cancel(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// applied is a source that has applied less than it has.
type applied struct {
	*Log
	index uint64
}

func (a applied) newer(index uint64) (bool, error) { return index > a.index, nil }
