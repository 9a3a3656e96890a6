package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// steps are plans that together pass every step of buying and deleting.
func steps() map[string]func() *plan {
	with := func(change func(p *plan)) func() *plan {
		return func() *plan {
			p := basic(1)
			change(p)
			return p
		}
	}
	return map[string]func() *plan{
		"all goes well":          with(func(*plan) {}),
		"one never joins":        with(func(p *plan) { p.shy = 1 }),
		"the first is sold out":  with(func(p *plan) { p.gone = "cx33@fsn1" }),
		"answers are lost":       with(func(p *plan) { p.lost = 1; p.reach = 2 * time.Minute }),
		"an action fails":        with(func(p *plan) { p.broken = 1; p.reach = 10 * time.Second }),
		"nobody says what broke": with(func(p *plan) { p.broken = 1; p.reach = 10 * time.Second; p.nameless = true }),
		"deleted by hand":        with(func(p *plan) { p.hand = []time.Duration{5 * time.Minute} }),
		"locked for a while":     with(func(p *plan) { p.locked = 1 }),
	}
}

// TestCrashMatrix kills the leader at every point: before each call to the
// provider, after it and before the answer, after the answer and before the log
// has it, and after the log has it; the first time that it comes there, and the
// second.
func TestCrashMatrix(t *testing.T) {
	times := 2
	if testing.Short() {
		times = 1
	}
	sum := newTally()
	rows := map[string]int{}
	began := time.Now()
	for name, plan := range steps() {
		calm := runPlan(t, plan(), flaws{})
		if len(calm.bad) > 0 {
			t.Fatalf("%s, and nobody dies:\n%s", name, calm.story())
		}
		for _, point := range slices.Sorted(maps.Keys(calm.points)) {
			for no := 1; no <= min(times, calm.points[point]); no++ {
				p := plan()
				p.killAt, p.killNo = point, no
				w := runPlan(t, p, flaws{})
				if len(w.bad) > 0 {
					t.Errorf("%s; the leader dies %s (%d):\n%s", name, point, no, w.story())
				}
				if w.tally.faults["leader killed"] != 1 {
					t.Errorf("%s: nobody died %s (%d)", name, point, no)
				}
				sum.add(w)
				rows[point]++
			}
		}
	}
	for _, kind := range []string{"create", "server", "servers", "delete", "offers", "mint"} {
		for _, when := range []string{"before", "after"} {
			if point := when + " the call to " + kind; rows[point] == 0 {
				t.Errorf("nobody died %s", point)
			}
		}
	}
	for _, kind := range []string{"buy", "try", "made", "missed", "fail", "retire", "delete", "locate", "ended", "prices", "swept"} {
		for _, when := range []string{"before", "after"} {
			if point := when + " the log has " + kind; rows[point] == 0 {
				t.Errorf("nobody died %s", point)
			}
		}
	}
	var b strings.Builder
	for _, point := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "%-32s %d\n", point, rows[point])
	}
	if err := sum.print(&b, time.Since(began)); err != nil {
		t.Error(err)
	}
	t.Log("\n" + b.String())
}
