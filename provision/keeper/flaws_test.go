package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// busyAndShort has machines go as soon as they are idle, while tasks come all
// the time and the log is slow.
func busyAndShort(p *plan) {
	p.slow, p.policy.Warm, p.policy.WholeHours, p.policy.Free, p.policy.Prewarm = 5*time.Second, 0, false, 0, 0
	for i := range p.jobs {
		p.jobs[i].at, p.jobs[i].last = time.Duration(i)*3*time.Minute, 3*time.Minute
	}
}

// TestTheChecksSeeFlaws plays random plans with implementations that are broken
// in one way each. Some seed must show it, for the reason that is meant.
func TestTheChecksSeeFlaws(t *testing.T) {
	for name, tc := range map[string]struct {
		flaws flaws
		shape func(p *plan) // nil: as they come
		want  []string      // in a violation
	}{
		"a name is not a function of the op": {flaws{renames: true}, func(p *plan) { p.lost = 0.7 }, []string{"at once"}},
		"the reaper sees nothing":            {flaws{blind: true}, func(p *plan) { p.hangs, p.lost = 0.5, 0.5 }, []string{"(samnode-op", "is left, and nobody knows it"}},
		"what is not listed is gone":         {flaws{hasty: true}, func(p *plan) { p.lag, p.lagMost = 1, 10*time.Minute }, []string{"(samnode-op", "is left, and nobody knows it"}},
		"idle is not looked at again":        {flaws{greedy: true}, busyAndShort, []string{"while it works on"}},
		"each purchase is begun twice":       {flaws{double: true}, func(p *plan) { p.policy.Machines = 4 }, []string{"has purchases"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(1000) { // the first few show it, nearly always
				p := random(seed + 1)
				if tc.shape != nil {
					tc.shape(p)
				}
				w := runPlan(t, p, tc.flaws)
				for _, bad := range w.bad {
					if !slices.ContainsFunc(tc.want, func(part string) bool { return !strings.Contains(bad, part) }) {
						t.Logf("seed %d: %.200s", seed+1, bad)
						return
					}
				}
			}
			t.Error("no seed shows it")
		})
	}
}
