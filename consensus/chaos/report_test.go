package chaos

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// tally is what is counted of a schedule, or of many.
type tally struct {
	schedules                 int
	failed                    []uint64 // seeds
	three, five               int
	faults                    [kinds]int
	restarts, elections       int
	acknowledged, unknown     int
	refused, lost, doubled    int
	reads, looks, acts        int
	granted, twice, overlaps  int
	histories, notLinear      int
	copies, restores, expired atomic.Int64
	bubble                    time.Duration
	leaderless                []time.Duration
	takeover, takeoverAlone   []time.Duration // from a leader's end to the next acknowledged append
	healed, allHealed         time.Duration   // of one
	healedList, allHealedList []time.Duration // of many
}

// add adds what one schedule counted.
func (t *tally) add(w *world) {
	o := &w.tally
	t.schedules++
	if len(w.bad) > 0 {
		t.failed = append(t.failed, w.plan.seed)
	}
	if w.plan.nodes == 3 {
		t.three++
	} else {
		t.five++
	}
	for k, n := range o.faults {
		t.faults[k] += n
	}
	for _, x := range []struct {
		to *int
		n  int
	}{
		{&t.restarts, o.restarts}, {&t.elections, o.elections}, {&t.acknowledged, o.acknowledged}, {&t.unknown, o.unknown},
		{&t.refused, o.refused}, {&t.lost, o.lost}, {&t.doubled, o.doubled}, {&t.reads, o.reads}, {&t.looks, len(w.history.looks)},
		{&t.acts, o.acts}, {&t.granted, o.granted}, {&t.twice, o.twice}, {&t.overlaps, o.overlaps},
		{&t.histories, o.histories}, {&t.notLinear, o.notLinear},
	} {
		*x.to += x.n
	}
	t.copies.Add(o.copies.Load())
	t.restores.Add(o.restores.Load())
	t.expired.Add(o.expired.Load())
	t.bubble += o.bubble
	t.leaderless = append(t.leaderless, o.leaderless...)
	t.takeover = append(t.takeover, o.takeover...)
	t.takeoverAlone = append(t.takeoverAlone, o.takeoverAlone...)
	t.healedList = append(t.healedList, o.healed)
	t.allHealedList = append(t.allHealedList, o.allHealed)
}

// print writes the table.
func (t *tally) print(to io.Writer, wall time.Duration) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("schedules", "%d: %d of 3 core nodes, %d of 5", t.schedules, t.three, t.five)
	row("  failed", "%d", len(t.failed))
	row("time", "%s, of the bubbles %s", wall.Round(time.Second), t.bubble.Round(time.Second))
	for k, n := range t.faults {
		row("  "+kindNames[k], "%d", n)
	}
	row("restarts", "%d", t.restarts)
	row("elections", "%d", t.elections)
	row("appends acknowledged", "%d", t.acknowledged)
	row("  of unknown outcome", "%d", t.unknown)
	row("  refused", "%d", t.refused)
	row("acknowledged appends lost", "%d", t.lost)
	row("appends doubled", "%d", t.doubled)
	row("reads checked", "%d, and %d of leases", t.reads, t.looks)
	row("leases granted", "%d", t.granted)
	row("  expired", "%d", t.expired.Load())
	row("slots or tasks leased twice", "%d", t.twice)
	row("acts under leases", "%d", t.acts)
	row("  overlapping", "%d", t.overlaps)
	row("whole copies made", "%d", t.copies.Load())
	row("  snapshots of others restored", "%d", t.restores.Load())
	row("histories checked", "%d", t.histories)
	row("  not linearizable", "%d", t.notLinear)
	row("without a leader", "%s", quantiles(t.leaderless))
	row("a leader's end to the next append", "%s", quantiles(t.takeover))
	row("  when nothing else was broken", "%s", quantiles(t.takeoverAlone))
	row("all mended to the next append", "%s", quantiles(t.healedList))
	row("  at every node", "%s", quantiles(t.allHealedList))
	w.Flush() //nolint:errcheck // a table that cannot be printed is seen
}

func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "never"
	}
	d = slices.Sorted(slices.Values(d))
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %s, p99 %s, max %s (%d)", at(0.5), at(0.99), at(1), len(d))
}
