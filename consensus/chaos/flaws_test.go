package chaos

import (
	"strings"
	"testing"
	"time"
)

// TestTheChecksSeeFlaws runs schedules of implementations that are broken in
// one way each. Some seed must show it, for the reason that is meant.
func TestTheChecksSeeFlaws(t *testing.T) {
	for name, tc := range map[string]struct {
		flaws  flaws
		faults [kinds]int
		shape  func(p *plan, f *fault) // nil: as they come
		want   string                  // in a violation
		from   uint64                  // the first seed, to save time
	}{
		"commands are not known again": {
			flaws{forgets: true}, only(killSends, kill, isolate), nil, "is in its list twice", 0,
		},
		"a lease is granted without a look": {
			flaws{twice: true, unbound: true}, only(usurp), manyLeaders, "has two leases", 0,
		},
		"a leader of old goes on": {
			flaws{unbound: true}, only(usurp), manyLeaders, "is not linearizable", 0,
		},
		"the tenure is ignored": {
			flaws{noTenure: true}, only(isolate), workersAway, "acts under token", 0,
		},
		"a lease is not confirmed": {
			flaws{hasty: true}, only(isolate), workersAway, "acts under token", 31,
		},
		"a sync keeps nothing": {
			flaws{lyingDisks: true}, only(blackout), nil, "is lost", 0,
		},
		"old news is read": {
			flaws{staleReads: true}, only(isolate, deafen), nil, "the history of list", 0,
		},
		"an old holder is shown": {
			flaws{staleReads: true}, only(isolate, deafen), nil, "the history of the board's task", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range uint64(40) {
				seed := tc.from + i
				p := planOf(seed, 12*time.Second, tc.faults)
				for i := range p.faults {
					if tc.shape != nil {
						tc.shape(p, &p.faults[i])
					}
				}
				w := runPlan(t, p, tc.flaws, disks(t))
				for _, bad := range w.bad {
					if strings.Contains(bad, tc.want) {
						t.Logf("seed %d: %.200s", seed, bad)
						return
					}
				}
			}
			t.Error("no seed shows it")
		})
	}
}

// manyLeaders has several nodes schedule at once, over a slow network.
func manyLeaders(p *plan, f *fault) {
	p.latency = 15 * time.Millisecond
	f.last, f.node = 10*time.Second, f.peer
}

// workersAway strikes workers, for longer than a lease.
func workersAway(p *plan, f *fault) {
	f.last += p.leaseFor
	f.node = p.nodes + f.n%p.workers
}
