// Package simulate says what a policy of buying and keeping machines would come
// to: it runs the pool of package provision, its state machine with Decide and
// Warm, under an invented load with a clock of its own.
//
// It is a pure function of its input: equal seeds give equal figures. A machine
// boots for 60 to 90 seconds, the provider answers at once and never fails, and
// nobody's own machines take tasks. So the figures are good for comparing two
// policies, not as a forecast of a bill.
package simulate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/samnode/samnode/provision"
)

// The bounds of a scenario.
const (
	MaxDays  = 100
	MaxSeeds = 100
)

// warmStart is how long a task waits that finds a slot at once.
const warmStart = 2 * time.Second

// Scenario is a policy under a load.
type Scenario struct {
	Policy provision.Policy  // its caps hold here, too
	Offers []provision.Offer // what the provider sells, all the time
	Load   Load
	Days   int // 1 to MaxDays; the first is a Monday
	Seeds  int // 1 to MaxSeeds: that many runs, with other tasks in each
}

// Figures are what a scenario comes to, over the runs of all its seeds.
type Figures struct {
	Tasks    int     `json:"tasks"`
	Cents    float64 `json:"cents_per_task"`   // euro cents
	Euros    float64 `json:"euros"`            // of one run
	Billed   float64 `json:"billed_per_held"`  // hours that are paid for each hour that a task ran
	Machines int     `json:"machines"`         // made in one run
	Peak     int     `json:"peak"`             // machines at once
	Cold     float64 `json:"cold_percent"`     // of tasks that waited, for a machine to boot or for room under the caps
	P95      float64 `json:"p95_wait_seconds"` // 95 of 100 tasks started sooner
	Mean     float64 `json:"mean_wait_seconds"`
	Stuck    string  `json:"stuck,omitempty"` // why a task waited for more than three days; then nothing else is said
}

// Run runs a scenario. It fails when the policy is not one, and when ctx ends.
func (s Scenario) Run(ctx context.Context) (Figures, error) {
	if s.Days < 1 || s.Days > MaxDays || s.Seeds < 1 || s.Seeds > MaxSeeds {
		return Figures{}, fmt.Errorf("a simulation takes 1 to %d days and 1 to %d seeds, not %d and %d", MaxDays, MaxSeeds, s.Days, s.Seeds)
	}
	if err := s.Policy.Check(); err != nil {
		return Figures{}, err
	}
	var sum tally
	for seed := range uint64(s.Seeds) {
		err := s.run(ctx, seed+1, &sum)
		var stuck *stuckError
		switch {
		case errors.As(err, &stuck):
			return Figures{Stuck: stuck.why}, nil
		case err != nil:
			return Figures{}, err
		}
	}
	return sum.figures(s.Seeds), nil
}

// run adds what one seed comes to.
func (s Scenario) run(ctx context.Context, seed uint64, sum *tally) error {
	p := &play{state: provision.NewState(), now: monday(), r: rand.New(rand.NewPCG(seed, 2)), jobs: map[string]job{}, sum: sum}
	for i, j := range s.Load.jobs(rand.New(rand.NewPCG(seed, 1)), s.Days) {
		task := fmt.Sprintf("t%06d", i)
		p.jobs[task] = j
		p.at(happening{at: j.at, task: task})
	}
	policy := s.Policy
	policy.Stopped = false // the question is what buying would come to
	p.do(provision.Command{Found: &provision.Found{Mesh: "simulated", Node: provision.Node{Name: "core"}}})
	p.do(provision.Command{Prices: &provision.Prices{Offers: s.Offers}})
	p.do(provision.Command{Set: &provision.Set{Policy: policy}})
	if err := p.run(ctx); err != nil {
		return fmt.Errorf("simulating %s: %w", s.Load.Name, err)
	}
	sum.tasks += len(p.jobs)
	for _, j := range p.jobs {
		sum.held += j.last
	}
	return nil
}

// tally is what the runs of a scenario came to so far.
type tally struct {
	tasks, created, peak, cold int
	cost                       provision.Money
	paid, held                 time.Duration
	waits                      []time.Duration
}

func (t *tally) waited(d time.Duration) {
	if d > 0 {
		t.cold++
	}
	t.waits = append(t.waits, max(d, warmStart))
}

func (t *tally) figures(seeds int) Figures {
	f := Figures{Tasks: t.tasks, Euros: euros(t.cost) / float64(seeds), Machines: t.created / seeds, Peak: t.peak}
	if t.tasks == 0 {
		return f
	}
	slices.Sort(t.waits)
	var sum time.Duration
	for _, w := range t.waits {
		sum += w
	}
	f.Cents = 100 * euros(t.cost) / float64(t.tasks)
	f.Billed = t.paid.Hours() / t.held.Hours()
	f.Cold = 100 * float64(t.cold) / float64(t.tasks)
	f.P95 = t.waits[t.tasks*95/100].Seconds()
	f.Mean = (sum / time.Duration(t.tasks)).Seconds()
	return f
}

func euros(m provision.Money) float64 { return float64(m) / float64(provision.Euro) }
