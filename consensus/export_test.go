package consensus

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exported is what Export of a log wrote.
func exported(t *testing.T, l *Log) []byte {
	t.Helper()
	e, err := l.Export(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(e.Path)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != e.Size {
		t.Errorf("Export.Size = %d, the file has %d", e.Size, len(b))
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(e.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the export is still there (%v)", err)
	}
	return b
}

// TestAnExportBecomesANewMesh: with the same entries, at the same indexes and
// times, and nothing more.
func TestAnExportBecomesANewMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopiers(t)
		say(t, c.logs["a"], numbered(1, 50)...)
		snapshot(t, c.logs["b"])
		say(t, c.logs["a"], numbered(51, 60)...)
		b := exported(t, c.logs["b"])
		before := c.agree(t, "a", "b", "c")[:60]
		say(t, c.logs["a"], "after the export")

		d, other := new(disk), new(recorder)
		conf := testConfig(t, &copier{keeper{disk: d}, new(copyWatch)})
		conf.Machines["other"] = other // new since the export
		if err := Import(t.Context(), conf, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, d.all()); diff != "" {
			t.Fatalf("imported entries (-exported +imported):\n%s", diff)
		}
		if err := Import(t.Context(), conf, bytes.NewReader(b)); err == nil {
			t.Error("imported twice to one folder")
		}
		conf.Bootstrap = false
		conf.Machines["m"] = &copier{keeper{disk: d}, new(copyWatch)}
		l := open(t, conf)
		time.Sleep(time.Minute)
		index := say(t, l, "new")
		if got := d.all(); len(got) != 61 || index <= before[59].Index || !got[60].At.After(before[59].At) {
			t.Errorf("%d entries, the newest at %d, want 61 and after %d", len(got), index, before[59].Index)
		}
		if m, err := l.Members(t.Context()); err != nil || !cmp.Equal(m, []Member{{"a", "a", true}}) {
			t.Errorf("Members() = %v, %v; want a alone", m, err)
		}
		if l.group.get() == c.logs["a"].group.get() {
			t.Error("the new mesh talks to the old one")
		}
		// And again, from the new mesh.
		if again := exported(t, l); len(again) <= len(b) {
			t.Errorf("the second export has %d bytes, the first had %d", len(again), len(b))
		}
	})
}

func TestImportRefuses(t *testing.T) {
	l := open(t, testConfig(t, new(recorder)))
	say(t, l, numbered(1, 20)...)
	b := exported(t, l)
	snapshot(t, l)
	meta, err := l.stores.snaps.List()
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(l.conf.Dir, "snapshots", meta[0].ID, "state.bin"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(b)
	flipped[len(b)/2] ^= 1
	newer := slices.Clone(b)
	newer[3] = 9
	for name, tc := range map[string]struct {
		data   []byte
		config func(c *Config)
		ctx    func(context.Context) context.Context
		want   error
	}{
		"nothing":             {},
		"something else":      {data: bytes.Repeat([]byte("no copy "), 100)},
		"a snapshot":          {data: own},
		"a damaged copy":      {data: flipped},
		"half a copy":         {data: b[:len(b)/2]},
		"no checksum":         {data: b[:len(b)-8]},
		"more than a copy":    {data: append(slices.Clone(b), 1)},
		"a newer copy":        {data: newer, want: ErrNewer},
		"of another machine":  {data: b, config: func(c *Config) { c.Machines = map[string]Machine{"x": new(recorder)} }, want: ErrNewer},
		"a machine in use":    {data: b, config: func(c *Config) { c.Machines["m"] = &keeper{disk: &disk{entries: []Entry{{Index: 1}}}} }},
		"an impatient caller": {data: b, want: context.Canceled, ctx: canceled},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t, new(recorder))
			good := c
			if tc.config != nil {
				tc.config(&c)
			}
			ctx := t.Context()
			if tc.ctx != nil {
				ctx = tc.ctx(ctx)
			}
			if err := Import(ctx, c, bytes.NewReader(tc.data)); err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("Import() = %v, want an error (%v)", err, tc.want)
			}
			// Nothing was begun: the next try succeeds.
			m := new(recorder)
			good.Machines = map[string]Machine{"m": m}
			if err := Import(t.Context(), good, bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(numbered(1, 20), m.texts()); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
	if err := Import(t.Context(), l.conf, bytes.NewReader(b)); err == nil {
		t.Error("imported to a folder in use")
	}
}

func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// TestRecoverOneOfThree: the other two are gone for ever.
func TestRecoverOneOfThree(t *testing.T) {
	for name, tc := range map[string]struct {
		copiers bool
		snaps   bool          // the log begins with a snapshot
		lose    func(d *disk) // what a power cut takes from the store
	}{
		"state in memory":                     {},
		"state in memory, with a snapshot":    {snaps: true},
		"a store":                             {copiers: true},
		"a store, with a manifest":            {copiers: true, snaps: true},
		"a store that lags":                   {copiers: true, snaps: true, lose: func(d *disk) { d.powerCut(d.synced + 2) }},
		"a store that is behind the manifest": {copiers: true, snaps: true, lose: func(d *disk) { d.powerCut(d.synced - 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, func(c *Config) {
					if tc.copiers {
						c.Machines["m"] = new(copier)
					}
				})
				say(t, c.logs["a"], numbered(1, 20)...)
				c.agree(t, nodes...)
				if tc.snaps {
					snapshot(t, c.logs["b"])
				}
				say(t, c.logs["a"], numbered(21, 30)...)
				before := c.agree(t, nodes...)
				stats := c.logs["b"].Stats()
				old := c.logs["b"].group.get()
				for _, name := range nodes {
					c.stop(t, name)
				}

				conf := c.configs["b"]
				m := new(recorder)
				conf.Machines = map[string]Machine{"m": m}
				if d := c.copiers["b"]; d != nil {
					if tc.lose != nil {
						tc.lose(d)
					}
					conf.Machines["m"] = &copier{keeper{disk: d}, c.copied}
				}
				conf.Transport = c.net.transport("b")
				lost, err := Recover(t.Context(), conf)
				if err != nil {
					t.Fatal(err)
				}
				want := Lost{Last: stats.Last, Term: stats.Term, Members: []Member{{"a", "a", true}, {"b", "b", true}, {"c", "c", true}}}
				if diff := cmp.Diff(want, lost); diff != "" {
					t.Errorf("Lost (-want +got):\n%s", diff)
				}
				c.start(t, "b")
				index := say(t, c.logs["b"], "alone")
				got := c.all("b")
				if diff := cmp.Diff(before, got[:len(got)-1]); diff != "" || index <= stats.Last {
					t.Errorf("the entry after the recovery is %d; entries before (-before +after):\n%s", index, diff)
				}
				if c.logs["b"].group.get() == old {
					t.Error("the group is the old one")
				}

				c.oldGroupComesBack(t, len(before)+1)
			})
		})
	}
}

// oldGroupComesBack starts the nodes that b has left behind. b has so many
// entries.
func (c *cluster) oldGroupComesBack(t *testing.T, entries int) {
	t.Helper()
	// The others come back after all: they do no harm, to anyone.
	c.start(t, "a")
	c.start(t, "c")
	say(t, c.logs["a"], "of the old group")
	time.Sleep(5 * time.Second)
	say(t, c.logs["b"], "of the new one")
	if got := c.all("b"); len(got) != entries+1 {
		t.Errorf("b has %d entries, want %d", len(got), entries+1)
	}
	// And join with new folders.
	c.stop(t, "c")
	conf := c.configs["c"]
	conf.Dir = t.TempDir()
	c.configs["c"] = conf
	if c.copiers["c"] != nil {
		c.copiers["c"] = new(disk)
	}
	c.start(t, "c")
	if err := c.logs["b"].AddMember(t.Context(), "c", "c"); err != nil {
		t.Fatal(err)
	}
	say(t, c.logs["c"], "joined")
	c.agree(t, "c", "b")
}

func TestRecoverRefuses(t *testing.T) {
	empty := testConfig(t, new(recorder))
	if _, err := Recover(t.Context(), empty); !errors.Is(err, ErrNoState) {
		t.Errorf("Recover(empty) = %v, want ErrNoState", err)
	}
	used := testConfig(t, new(recorder))
	l := open(t, used)
	say(t, l, "one")
	if _, err := Recover(t.Context(), used); err == nil {
		t.Error("recovered a folder in use")
	}
	closeLog(t, l)
	used.Node = "b"
	if _, err := Recover(t.Context(), used); !errors.Is(err, ErrForeign) {
		t.Errorf("Recover(another node's) = %v, want ErrForeign", err)
	}
	used.Node = "a"
	for range 2 { // it can be repeated
		used.Machines["m"] = new(recorder)
		if _, err := Recover(t.Context(), used); err != nil {
			t.Error(err)
		}
	}
}

// TestRecoverWithoutADamagedSnapshot: the log, where it reaches back far
// enough, has everything too.
func TestRecoverWithoutADamagedSnapshot(t *testing.T) {
	for name, tc := range map[string]struct {
		trailing uint64
		want     string // in the error of Recover
	}{
		"the log has everything": {trailing: 1000},
		"the log was cut":        {trailing: 1, want: "import a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t, new(recorder))
			c.Trailing, c.SegmentSize = tc.trailing, 1<<10
			l := open(t, c)
			say(t, l, numbered(1, 50)...)
			snapshot(t, l)
			say(t, l, "51")
			closeLog(t, l)
			state, err := filepath.Glob(filepath.Join(c.Dir, "snapshots", "*", "state.bin"))
			if err != nil || len(state) != 1 {
				t.Fatal(state, err)
			}
			b, err := os.ReadFile(state[0])
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(state[0], b, 0o600); err != nil {
				t.Fatal(err)
			}

			c.Machines["m"] = new(recorder)
			if _, err := Open(t.Context(), c); !errors.Is(err, ErrDamaged) {
				t.Errorf("Open() = %v, want ErrDamaged", err)
			}
			lost, err := Recover(t.Context(), c)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("Recover() = %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil || len(lost.Aside) != 1 {
				t.Fatalf("Recover() = %+v, %v; want the snapshot put aside", lost, err)
			}
			m := new(recorder)
			c.Machines["m"] = m
			l = open(t, c)
			say(t, l, "52")
			if diff := cmp.Diff(numbered(1, 52), m.texts()); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}
