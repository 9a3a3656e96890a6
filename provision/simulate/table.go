package simulate

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/provision"
)

// Variant is a policy with a name for tables, and what its machines cost.
type Variant struct {
	Name   string
	Policy provision.Policy
	Offers []provision.Offer
}

// AtOnce is the policy without any warm time: a machine goes with its last task.
func AtOnce(p provision.Policy) provision.Policy { return Fixed(p, 0) }

// Fixed is the policy with a warm time that is the same for all machines,
// whatever hour is paid and however many tasks come.
func Fixed(p provision.Policy, warm time.Duration) provision.Policy {
	p.Warm, p.WholeHours, p.Free, p.Prewarm = warm, false, 0, 0
	return p
}

// Result is what a variant comes to under one load.
type Result struct {
	Load   string `json:"load"`
	Policy string `json:"policy"`
	Figures
}

// Compare runs each variant under each load, several at a time, and returns the
// results load by load in the order given. An error names the variant.
func Compare(ctx context.Context, loads []Load, variants []Variant, days, seeds int) ([]Result, error) {
	results := make([]Result, len(loads)*len(variants))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, l := range loads {
		for k, v := range variants {
			g.Go(func() error {
				f, err := Scenario{Policy: v.Policy, Offers: v.Offers, Load: l, Days: days, Seeds: seeds}.Run(ctx)
				if err != nil {
					return fmt.Errorf("%s: %w", v.Name, err)
				}
				results[i*len(variants)+k] = Result{Load: l.Name, Policy: v.Name, Figures: f}
				return nil
			})
		}
	}
	return results, g.Wait()
}

// Write writes results as a table for people, a block for each load. Days is
// the length of a run.
func Write(to io.Writer, results []Result, days int) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	load := ""
	for _, r := range results {
		if r.Load != load {
			if load != "" {
				fmt.Fprintln(w)
			}
			load = r.Load
			fmt.Fprintf(w, "%s\tct/task\t€/%d d\tcold %%\tp95 wait s\tmean wait s\tmachines made\tat once\tpaid h/task h\t\n", load, days)
		}
		if r.Stuck != "" {
			fmt.Fprintf(w, "%s\t-\t-\t-\t-\t-\t-\t-\t-\t  %s\n", r.Policy, r.Stuck)
			continue
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%d\t%d\t%.2f\t\n", r.Policy, r.Cents, r.Euros, r.Cold, r.P95, r.Mean, r.Machines, r.Peak, r.Billed)
	}
	return w.Flush()
}
