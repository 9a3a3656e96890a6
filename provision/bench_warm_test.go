package provision_test

import (
	"os"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/simulate"
)

// variants are the default policy, the two that everybody knows, and those that
// are one setting away. No caps hold: they are not what is compared.
func variants() []simulate.Variant {
	cx23, cpx22, cpx32 := provision.Size{Type: "cx23", Slots: 1}, provision.Size{Type: "cpx22", Slots: 1}, provision.Size{Type: "cpx32", Slots: 2}
	cx33, cx43 := provision.Size{Type: "cx33", Slots: 2}, provision.Size{Type: "cx43", Slots: 4}
	var list []simulate.Variant
	add := func(name string, s provision.Size, warm time.Duration, whole bool, free, ahead int) {
		p := provision.DefaultPolicy()
		p.Machines, p.PerDay, p.Locations, p.Life = 100, 10_000*provision.Euro, nil, 30*24*time.Hour
		p.Sizes, p.Warm, p.WholeHours, p.Free, p.Prewarm = []provision.Size{s}, warm, whole, free, ahead
		list = append(list, simulate.Variant{Name: name, Policy: p, Offers: simulate.ListPrices([]string{"fsn1"})})
	}
	const half = 30 * time.Minute
	d := provision.DefaultPolicy()
	add("shipped default (J)", d.Sizes[0], d.Warm, d.WholeHours, d.Free, d.Prewarm)
	add("A destroy at once", cx23, 0, false, 0, 0)
	add("B fixed 30 min warm", cx23, half, false, 0, 0)
	add("C hour-aligned", cx23, 0, true, 0, 0)
	add("D 30 min then align", cx23, half, true, 0, 0)
	add("E C + keep 1", cx23, 0, true, 1, 0)
	add("F predictive (cap 2)", cx23, 0, true, 0, 2)
	add("H C, 2 slots CX33", cx33, 0, true, 0, 0)
	add("I D, 2 slots CX33", cx33, half, true, 0, 0)
	add("K J + predictive cap 2", cx33, half, true, 1, 2)
	add("L D, 4 slots CX43", cx43, half, true, 0, 0)
	add("M C, 4 slots CX43", cx43, 0, true, 0, 0)
	add("A2 at once, 2 slots CX33", cx33, 0, false, 0, 0)
	add("B2 fixed 30, 2 slots CX33", cx33, half, false, 0, 0)
	add("B' fixed 30 min, CPX22", cpx22, half, false, 0, 0)
	add("D' 30 min+align, CPX22", cpx22, half, true, 0, 0)
	add("I' D, 2 slots CPX32", cpx32, half, true, 0, 0)
	return list
}

// BenchmarkWarmPolicy prints what policies cost and how long tasks wait, over
// the real state machine, Decide and Warm with a virtual clock: two weeks, the
// sums of seeds 1 to 5. A task that waited for a machine to boot is cold.
//
//	go test ./provision -run '^$' -bench WarmPolicy -benchtime 1x
//
// Durations and arrivals are invented; failures and machines that are sold out
// are not in it. Prices are of September 2026: what counts is which is less.
// For a mesh's own settings and prices there is samnode pool simulate.
func BenchmarkWarmPolicy(b *testing.B) {
	const days, seeds = 14, 5
	for b.Loop() {
		results, err := simulate.Compare(b.Context(), simulate.Loads(), variants(), days, seeds)
		if err != nil {
			b.Fatal(err)
		}
		if err := simulate.Write(os.Stdout, results, days); err != nil {
			b.Fatal(err)
		}
		for _, r := range results {
			if r.Policy == "shipped default (J)" {
				b.ReportMetric(r.Cents, "ct/task@"+r.Load[:3])
			}
		}
	}
}
