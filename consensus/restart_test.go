package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft-wal/fs"
)

func numbered(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func TestMachineInMemoryComesBackFromSnapshotAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(recorder)
		c := testConfig(t, m)
		c.Trailing = 1
		l := open(t, c)
		say(t, l, numbered(1, 20)...)
		snapshot(t, l)
		say(t, l, numbered(21, 30)...)
		before := m.all()
		closeLog(t, l)

		m = new(recorder)
		c.Machines["m"] = m
		l = open(t, c)
		say(t, l, "31")
		if diff := cmp.Diff(numbered(1, 31), m.texts()); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, m.all()[:30]); diff != "" {
			t.Errorf("entries after the restart (-before +after):\n%s", diff)
		}
		if m.restores != 1 {
			t.Errorf("restored %d times, want 1", m.restores)
		}
		if s := l.Stats(); s.Snapshot == 0 || s.Role != "leader" || s.Applied != s.Last {
			t.Errorf("Stats() = %+v, want a leader with a snapshot that applied all", s)
		}
	})
}

// TestDurableMachine restarts a machine with a store of its own beside one in
// memory. Each must have every entry once.
func TestDurableMachine(t *testing.T) {
	for name, tc := range map[string]struct {
		trailing uint64
		keep     func(d *disk) int // entries that survive on the machine's disk
		want     error
	}{
		"ahead of the snapshot":                        {trailing: 1, keep: func(d *disk) int { return len(d.entries) }},
		"at the snapshot":                              {trailing: 1, keep: func(d *disk) int { return d.synced }},
		"between snapshot and end":                     {trailing: 1, keep: func(d *disk) int { return d.synced + 3 }},
		"behind the snapshot, log still there":         {trailing: 1000, keep: func(d *disk) int { return d.synced - 5 }},
		"lost, log still there":                        {trailing: 1000, keep: func(*disk) int { return 0 }},
		"behind the snapshot, log cut: must not start": {trailing: 1, keep: func(d *disk) int { return d.synced - 5 }, want: ErrManifest},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := new(disk)
				c := testConfig(t, &keeper{disk: d})
				c.Machines["other"] = new(recorder)
				c.Trailing = tc.trailing
				l := open(t, c)
				say(t, l, numbered(1, 20)...)
				snapshot(t, l)
				say(t, l, numbered(21, 30)...)
				closeLog(t, l)
				d.powerCut(tc.keep(d))
				behind := len(d.entries) < d.synced

				m, other := &keeper{disk: d}, new(recorder)
				c.Machines = map[string]Machine{"m": m, "other": other}
				if tc.want != nil {
					if _, err := Open(t.Context(), c); !errors.Is(err, tc.want) {
						t.Errorf("Open() = %v, want %v", err, tc.want)
					}
					return
				}
				l = open(t, c)
				if restored := m.restores > 0; restored != behind {
					t.Errorf("restored = %v, behind the snapshot = %v", restored, behind)
				}
				say(t, l, "31")
				if diff := cmp.Diff(numbered(1, 31), m.texts()); diff != "" {
					t.Errorf("entries (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestOneEntryForTwoMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat, d := new(recorder), new(disk)
		c := testConfig(t, chat)
		c.Machines["pool"] = &keeper{disk: d}
		l := open(t, c)
		for i := range 10 {
			parts := []Part{{Machine: "m", Data: fmt.Append(nil, i)}, {Machine: "pool", Data: fmt.Append(nil, -i)}}
			if i%3 == 0 {
				parts = parts[1:]
			}
			if _, err := l.Propose(t.Context(), parts...); err != nil {
				t.Fatal(err)
			}
			if i == 5 {
				snapshot(t, l)
			}
		}
		before := chat.all()
		closeLog(t, l)
		d.powerCut(8)

		chat = new(recorder)
		c.Machines = map[string]Machine{"m": chat, "pool": &keeper{disk: d}}
		l = open(t, c)
		say(t, l, "end")
		got := chat.all()
		if diff := cmp.Diff(before, got[:len(got)-1]); diff != "" {
			t.Errorf("machine m (-before +after):\n%s", diff)
		}
		var both []uint64
		for _, e := range d.entries {
			if slices.ContainsFunc(got, func(g Entry) bool { return g.Index == e.Index && g.At.Equal(e.At) }) {
				both = append(both, e.Index)
			}
		}
		if len(d.entries) != 10 || len(both) != 6 {
			t.Errorf("pool has %d entries, %d of them shared; want 10 and 6", len(d.entries), len(both))
		}
	})
}

func TestTimeNeverGoesBack(t *testing.T) {
	for name, cut := range map[string]bool{"from the log": false, "from the snapshot": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := new(recorder)
				c := testConfig(t, m)
				l := open(t, c)
				// The leader's clock was an hour ahead when it stamped this.
				ahead := time.Now().Add(time.Hour)
				l.stores.log.raise(ahead.UnixNano())
				say(t, l, "1", "2")
				if cut {
					snapshot(t, l)
					last, err := l.stores.log.LastIndex()
					if err != nil {
						t.Fatal(err)
					}
					closeLog(t, l)
					dropLog(t, c, last)
				} else {
					closeLog(t, l)
				}

				m = new(recorder)
				c.Machines["m"] = m
				l = open(t, c)
				time.Sleep(time.Minute)
				say(t, l, "3")
				time.Sleep(2 * time.Hour)
				say(t, l, "4")
				got := m.all()
				for i := 1; i < len(got); i++ {
					if !got[i].At.After(got[i-1].At) {
						t.Errorf("entry %d at %v, the one before at %v", i, got[i].At, got[i-1].At)
					}
				}
				if !got[0].At.After(ahead) || !got[3].At.Equal(time.Now()) {
					t.Errorf("times %v and %v, want after %v and now", got[0].At, got[3].At, ahead)
				}
			})
		})
	}
}

// dropLog cuts the whole log, as after a snapshot that nothing trails.
func dropLog(t *testing.T, c Config, last uint64) {
	t.Helper()
	w, closeWAL, err := openWAL(filepath.Join(c.Dir, "wal"), fs.New(), c.SegmentSize, newHclog(testLogger(t), "wal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteRange(1, last); err != nil {
		t.Fatal(err)
	}
	if err := closeWAL(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	used := testConfig(t, new(recorder))
	l := open(t, used)
	say(t, l, "one")

	closed := testConfig(t, new(recorder))
	closeLog(t, open(t, closed))
	for name, tc := range map[string]struct {
		config func(c *Config)
		want   error  // nil: any
		text   string // in the error
	}{
		"an empty directory":   {config: func(c *Config) { c.Bootstrap = false }, want: ErrNoState},
		"another node's state": {config: func(c *Config) { c.Dir, c.Node = closed.Dir, "b" }, want: ErrForeign, text: `"a"`},
		"a directory in use":   {config: func(c *Config) { c.Dir = used.Dir }, text: "in use"},
		"a store of another log": {config: func(c *Config) {
			c.Machines["m"] = &keeper{disk: &disk{entries: []Entry{{Index: 99}}}}
		}, want: ErrForeign, text: "machine m"},
		"no node":                     {config: func(c *Config) { c.Node = "" }},
		"no directory":                {config: func(c *Config) { c.Dir = "" }},
		"no machines":                 {config: func(c *Config) { c.Machines = nil }},
		"a nil machine":               {config: func(c *Config) { c.Machines["n"] = nil }},
		"timeouts that do not nest":   {config: func(c *Config) { c.LeaderLeaseTimeout = time.Hour }},
		"state put together by hand":  {config: func(c *Config) { c.Dir = withoutIdentity(t, closed.Dir) }, want: ErrForeign},
		"identity of a newer version": {config: func(c *Config) { c.Dir = withIdentity(t, `{"version":9,"node":"a"}`) }, want: ErrNewer},
		"damaged identity":            {config: func(c *Config) { c.Dir = withIdentity(t, `{`) }},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t, new(recorder))
			tc.config(&c)
			l, err := Open(t.Context(), c)
			if err == nil {
				closeLog(t, l)
				t.Fatal("Open() succeeded")
			}
			if tc.want != nil && !errors.Is(err, tc.want) || !bytes.Contains([]byte(err.Error()), []byte(tc.text)) {
				t.Errorf("Open() = %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
}

func withoutIdentity(t *testing.T, from string) string {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "node.json")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func withIdentity(t *testing.T, text string) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAFirstStartThatWasCutOffIsDoneAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig(t, new(recorder))
		// All that a kill between term and first entry leaves.
		if err := writeIdentity(c.Dir, identity{Version: identityVersion, Node: c.Node}); err != nil {
			t.Fatal(err)
		}
		full := c
		full.setDefaults()
		s, err := openStores(&full, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		if err := s.stable.SetUint64([]byte(keyTerm), 1); err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		say(t, open(t, c), "one")
	})
}

func TestUnfinishedSnapshotsAreSwept(t *testing.T) {
	c := testConfig(t, new(recorder))
	left := filepath.Join(c.Dir, "snapshots", "2-7-1.tmp")
	closeLog(t, open(t, c))
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	closeLog(t, open(t, c))
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", left, err)
	}
}
