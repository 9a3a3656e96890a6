package provision

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
	"text/tabwriter"
	"time"
)

// variant is a policy of the table.
type variant struct {
	name   string
	policy Policy
	price  Money
}

const simSeeds = 5

// variants are the default policy, the two that everybody knows, and those that
// are one setting away.
func variants() []variant {
	cx23 := Size{Type: "cx23", Slots: 1}
	size := func(slots int) Size {
		return map[int]Size{1: cx23, 2: {Type: "cx33", Slots: 2}, 4: {Type: "cx43", Slots: 4}}[slots]
	}
	price := map[string]Money{"cx23": 9_600, "cx33": 14_400, "cx43": 26_400, "cpx22": 32_000, "cpx32": 57_700}
	var list []variant
	add := func(name string, s Size, warm time.Duration, whole bool, free, ahead int) {
		p := DefaultPolicy()
		p.Machines, p.PerDay, p.Locations, p.Life = maxBought, maxPerDay, nil, 30*24*time.Hour
		p.Sizes, p.Warm, p.WholeHours, p.Free, p.Prewarm = []Size{s}, warm, whole, free, ahead
		list = append(list, variant{name, p, price[s.Type]})
	}
	const half = 30 * time.Minute
	d := DefaultPolicy()
	add("shipped default (J)", d.Sizes[0], d.Warm, d.WholeHours, d.Free, d.Prewarm)
	add("A destroy at once", size(1), 0, false, 0, 0)
	add("B fixed 30 min warm", size(1), half, false, 0, 0)
	add("C hour-aligned", size(1), 0, true, 0, 0)
	add("D 30 min then align", size(1), half, true, 0, 0)
	add("E C + keep 1", size(1), 0, true, 1, 0)
	add("F predictive (cap 2)", size(1), 0, true, 0, 2)
	add("H C, 2 slots CX33", size(2), 0, true, 0, 0)
	add("I D, 2 slots CX33", size(2), half, true, 0, 0)
	add("K J + predictive cap 2", size(2), half, true, 1, 2)
	add("L D, 4 slots CX43", size(4), half, true, 0, 0)
	add("M C, 4 slots CX43", size(4), 0, true, 0, 0)
	add("A2 at once, 2 slots CX33", size(2), 0, false, 0, 0)
	add("B2 fixed 30, 2 slots CX33", size(2), half, false, 0, 0)
	add("B' fixed 30 min, CPX22", Size{Type: "cpx22", Slots: 1}, half, false, 0, 0)
	add("D' 30 min+align, CPX22", Size{Type: "cpx22", Slots: 1}, half, true, 0, 0)
	add("I' D, 2 slots CPX32", Size{Type: "cpx32", Slots: 2}, half, true, 0, 0)
	return list
}

// table writes what each policy comes to under each load.
func table(tb testing.TB, to io.Writer, loads []load, variants []variant, seeds int) map[string]*outcome {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	all := map[string]*outcome{}
	for _, l := range loads {
		fmt.Fprintf(w, "\n%s\tct/task\tEUR/%d d\tbilled h/task h\tcreated\tpeak\tcold %%\tp95 s\tmean wait s\t\n", l.name, simDays)
		for _, v := range variants {
			o := &outcome{}
			for seed := range uint64(seeds) {
				simulate(tb, l, v.policy, v.price, seed+1, o)
			}
			fmt.Fprintf(w, "%s\t%s\t\n", v.name, o.figures(seeds))
			all[l.name+" "+v.name] = o
		}
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return all
}

// BenchmarkWarmPolicy prints what policies cost and how long tasks wait, over
// the real state machine, Decide and Warm with a virtual clock: two weeks, the
// sums of seeds 1 to 5. A task that waited for a machine to boot is cold.
//
//	go test ./provision -run '^$' -bench WarmPolicy -benchtime 1x
//
// Durations and arrivals are invented; failures and machines that are sold out
// are not in it. Prices are of September 2026: what counts is which is less.
func BenchmarkWarmPolicy(b *testing.B) {
	for b.Loop() {
		all := table(b, os.Stdout, loads(), variants(), simSeeds)
		for _, l := range loads() {
			o := all[l.name+" shipped default (J)"]
			b.ReportMetric(float64(o.cost)/float64(o.tasks)/float64(Euro)*100, "ct/task@"+l.name[:3])
		}
	}
}

// TestWarmPolicySimulation: the same seeds give the same table, and the policy
// is what it is for: less than a fixed time, fewer cold starts than at once.
func TestWarmPolicySimulation(t *testing.T) {
	t.Parallel()
	few, some := loads()[1:2], variants()[:5]
	var one, two bytes.Buffer
	all := table(t, &one, few, some, 1)
	table(t, &two, few, some, 1)
	if one.String() != two.String() {
		t.Errorf("the same seed gives\n%s\nand\n%s", one.String(), two.String())
	}
	ct := func(name string) float64 {
		o := all[few[0].name+" "+name]
		return float64(o.cost) / float64(o.tasks)
	}
	cold := func(name string) int { return all[few[0].name+" "+name].cold }
	if a, b, d := ct("A destroy at once"), ct("B fixed 30 min warm"), ct("D 30 min then align"); !(d < b && b < a) {
		t.Errorf("at once %f, fixed %f, to the hour's end %f:\n%s", a, b, d, one.String())
	}
	if j, b := cold("shipped default (J)"), cold("B fixed 30 min warm"); j*2 > b {
		t.Errorf("%d cold starts with the default, %d with a fixed time:\n%s", j, b, one.String())
	}
	if n := all[few[0].name+" A destroy at once"]; n.cold != n.tasks {
		t.Errorf("%d of %d tasks were cold without a warm machine", n.cold, n.tasks)
	}
	t.Log(one.String())
}
