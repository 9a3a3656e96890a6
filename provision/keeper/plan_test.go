package keeper

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/samnode/samnode/provision"
)

// plan is what is to happen in one run: a function of its seed.
type plan struct {
	seed   uint64
	policy provision.Policy
	jobs   []job
	reach  time.Duration // until then faults happen

	slow   time.Duration   // an entry takes so long at most
	kills  float64         // that a leader dies at a point, see world.point
	killAt string          // a point at which the first leader dies; empty: none
	killNo int             // at its how many-th time, from 1
	hiccup float64         // that an entry is committed and nobody is told
	jumps  []jump          // of the leaders' clocks
	hand   []time.Duration // when somebody deletes a server by hand

	down, denied, nokey spell
	quota               int    // servers that the account may have; 0: any number
	gone                string // type@location that is not sold any more

	limited, capacity, foreign, lost, hangs, broken, locked, lag float64
	lagMost                                                      time.Duration
	never, late, twice, dies, off                                float64  // machines
	shy                                                          int      // the first so many machines never join
	nameless                                                     bool     // what is broken has no id
	stuck                                                        string   // a server that cannot be asked for
	strays                                                       []string // more servers of ours that nobody knows
}

// job is one task.
type job struct {
	task  string
	at    time.Duration
	last  time.Duration
	need  provision.Need
	owner string
}

type jump struct{ at, by time.Duration }

// spell is a time in which something is so.
type spell struct{ from, to time.Duration }

func (s spell) at(t time.Duration) bool { return t >= s.from && t < s.to }

// basic is a plan without faults: three tasks at once, one more soon after.
func basic(seed uint64) *plan {
	p := provision.DefaultPolicy()
	p.Sizes = []provision.Size{{Type: "cx33", Slots: 2}, {Type: "cpx22", Slots: 1}}
	p.Locations = []string{"fsn1", "nbg1"}
	p.Machines, p.PerDay, p.Shared = 3, 5*provision.Euro, true
	return &plan{seed: seed, policy: p, reach: 75 * time.Minute, slow: 50 * time.Millisecond, lagMost: 2 * time.Minute, jobs: []job{
		{task: "t1", last: 10 * time.Minute}, {task: "t2", last: 20 * time.Minute}, {task: "t3", last: 15 * time.Minute},
		{task: "t4", at: 30 * time.Minute, last: 10 * time.Minute},
	}}
}

// random is a plan with some of the faults, some of them often.
func random(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 7))
	p := basic(seed)
	p.jobs, p.reach = nil, 4*time.Hour
	p.policy.Machines = 1 + r.IntN(4)
	p.policy.Shared = r.IntN(2) == 0
	p.policy.WholeHours = r.IntN(4) > 0
	p.policy.Warm = time.Duration(r.IntN(4)) * 10 * time.Minute
	p.policy.Free, p.policy.Prewarm = r.IntN(2), r.IntN(3)/2*2
	if r.IntN(4) == 0 {
		p.policy.PerDay = provision.Money(100_000 + r.IntN(400_000))
	}
	for i := range 2 + r.IntN(12) {
		j := job{task: fmt.Sprintf("t%02d", i), at: time.Duration(r.IntN(120)) * time.Minute, last: time.Duration(1+r.IntN(40)) * time.Minute, owner: "ann"}
		if r.IntN(3) == 0 {
			j.at = 0
		}
		if r.IntN(4) == 0 {
			j.need.CPUs = 3
		}
		if r.IntN(4) == 0 {
			j.owner = "bob"
		}
		p.jobs = append(p.jobs, j)
	}
	p.faults(r)
	return p
}

func (p *plan) faults(r *rand.Rand) {
	some := func(most float64) float64 {
		if r.IntN(5) < 3 {
			return 0
		}
		return r.Float64() * most
	}
	within := func(most time.Duration) (s spell) {
		if r.IntN(4) == 0 {
			s.from = time.Duration(r.Int64N(int64(90 * time.Minute)))
			s.to = s.from + time.Duration(r.Int64N(int64(most)))
		}
		return s
	}
	p.kills, p.hiccup = some(0.1), some(0.05)
	if r.IntN(4) == 0 {
		p.slow = time.Duration(1+r.IntN(10)) * time.Second
	}
	p.lagMost = time.Duration(1+r.IntN(8)) * time.Minute
	p.limited, p.capacity, p.foreign, p.lost = some(0.1), some(0.6), some(0.1), some(0.5)
	p.hangs, p.broken, p.locked, p.lag = some(0.3), some(0.3), some(0.9), some(0.8)
	p.never, p.late, p.twice, p.dies, p.off = some(0.3), some(0.2), some(0.5), some(0.2), some(0.2)
	p.down, p.denied, p.nokey = within(70*time.Minute), within(30*time.Minute), within(20*time.Minute)
	if r.IntN(4) == 0 {
		p.quota = 1 + r.IntN(3)
	}
	if r.IntN(5) == 0 {
		p.gone = "cx33@fsn1"
	}
	for range r.IntN(3) {
		p.jumps = append(p.jumps, jump{time.Duration(r.IntN(180)) * time.Minute, time.Duration(r.IntN(240)-120) * time.Minute})
	}
	for range r.IntN(3) {
		p.hand = append(p.hand, time.Duration(r.IntN(180))*time.Minute)
	}
}

func (p *plan) String() string {
	return fmt.Sprintf("seed %d: %d tasks, %d machines, %s a day, warm %s; kills %.2f hiccups %.2f slow %s; rate limit %.2f sold out %.2f foreign %.2f lost %.2f hangs %.2f broken %.2f locked %.2f lag %.2f (%s); never %.2f late %.2f twice %.2f dies %.2f off %.2f; down %v denied %v no key %v quota %d gone %q jumps %v by hand %v",
		p.seed, len(p.jobs), p.policy.Machines, p.policy.PerDay, p.policy.Warm, p.kills, p.hiccup, p.slow, p.limited, p.capacity, p.foreign, p.lost, p.hangs, p.broken, p.locked, p.lag, p.lagMost,
		p.never, p.late, p.twice, p.dies, p.off, p.down, p.denied, p.nokey, p.quota, p.gone, p.jumps, p.hand)
}
