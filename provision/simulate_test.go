package provision

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// job is one task of a simulated load.
type job struct {
	at   time.Time
	last time.Duration
}

// The length of a simulation, and what is not decided by the policy. Monday is
// when it begins.
const (
	simDays   = 14
	warmStart = 2 * time.Second
)

var monday = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

// A load makes the tasks of a simulation.
type load struct {
	name string
	jobs func(r *rand.Rand) []job
}

func loads() []load {
	return []load{
		{"0.5/h", func(r *rand.Rand) []job { return poisson(r, 0.5) }},
		{"2/h", func(r *rand.Rand) []job { return poisson(r, 2) }},
		{"8/h", func(r *rand.Rand) []job { return poisson(r, 8) }},
		{"office, 3 devs", func(r *rand.Rand) []job { return office(r, 3, 1.44) }},
		{"bursts of 4-8", func(r *rand.Rand) []job { return bursts(r, 7) }},
	}
}

// length is log-normal: median 12 minutes, mean 20.
func length(r *rand.Rand) time.Duration {
	return time.Duration(12 * float64(time.Minute) * math.Exp(r.NormFloat64()*math.Sqrt(2*math.Log(20.0/12))))
}

func poisson(r *rand.Rand, perHour float64) (jobs []job) {
	for at := time.Duration(0); ; {
		at += time.Duration(r.ExpFloat64() / perHour * float64(time.Hour))
		if at >= simDays*24*time.Hour {
			return jobs
		}
		jobs = append(jobs, job{monday.Add(at), length(r)})
	}
}

// office is developers who each ask so many times an hour from nine to six on
// working days.
func office(r *rand.Rand, devs int, perHour float64) (jobs []job) {
	for range devs {
		for _, j := range poisson(r, perHour) {
			if d, h := j.at.Weekday(), j.at.Hour(); d != time.Saturday && d != time.Sunday && h >= 9 && h < 18 {
				jobs = append(jobs, j)
			}
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return a.at.Compare(b.at) })
	return jobs
}

// bursts are four to eight tasks within a minute, so many times a day.
func bursts(r *rand.Rand, perDay float64) (jobs []job) {
	for _, b := range poisson(r, perDay/24) {
		for range 4 + r.IntN(5) {
			jobs = append(jobs, job{b.at.Add(time.Duration(r.Float64() * float64(time.Minute))), length(r)})
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return a.at.Compare(b.at) })
	return jobs
}

// happening is what a simulation waits for.
type happening struct {
	at      time.Time
	seq     int // of equals the first comes first
	task    string
	ends    bool   // the task; else it arrives
	machine string // that comes up
}

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return cmp.Or(a[i].at.Compare(a[j].at), cmp.Compare(a[i].seq, a[j].seq)) < 0
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	x := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return x
}

// simulation is a pool under a load, with a clock of its own. Everything that
// is decided, Decide, Warm and the state machine decide.
type simulation struct {
	tb      testing.TB
	pool    Pool
	index   uint64
	now     time.Time
	r       *rand.Rand
	agenda  agenda
	seq     int
	wake    time.Time
	jobs    map[string]job
	waiting []Waiting
	ops     int
	sum     *outcome
}

// outcome is what a policy comes to under a load.
type outcome struct {
	tasks, created, peak, cold int
	cost                       Money
	hours, held                float64
	waits                      []time.Duration
}

// simulate runs a load with a seed, and adds what it came to.
func simulate(tb testing.TB, l load, p Policy, price Money, seed uint64, sum *outcome) {
	s := &simulation{tb: tb, now: monday, r: rand.New(rand.NewPCG(seed, 2)), jobs: map[string]job{}, sum: sum}
	s.do(Command{Found: &Found{Mesh: "m1", Node: Node{Name: "core"}}})
	s.do(Command{Prices: &Prices{Offers: []Offer{{Type: p.Sizes[0].Type, Location: "fsn1", CPUs: 4, Hour: price, Orderable: true}}}})
	s.do(Command{Set: &Set{Policy: p}})
	for i, j := range l.jobs(rand.New(rand.NewPCG(seed, 1))) {
		task := fmt.Sprintf("t%06d", i)
		s.jobs[task] = j
		s.at(happening{at: j.at, task: task})
	}
	s.run()
	sum.tasks += len(s.jobs)
	for _, j := range s.jobs {
		sum.held += j.last.Hours()
	}
	cost := s.pool.Spent("20", s.now)
	sum.cost += cost
	sum.hours += float64(cost) / float64(price)
}

func (s *simulation) at(h happening) {
	s.seq++
	h.seq = s.seq
	heap.Push(&s.agenda, h)
}

// do applies a command that is to be taken.
func (s *simulation) do(c Command) {
	s.index++
	s.pool.Index, s.pool.At = s.index, s.now
	if err := (&applier{Pool: &s.pool, index: s.index, now: s.now}).apply(c); err != nil {
		s.tb.Fatalf("%s: %v", text(c), err)
	}
}

func (s *simulation) run() {
	for len(s.agenda) > 0 || !s.wake.IsZero() {
		if len(s.agenda) == 0 || !s.wake.IsZero() && s.wake.Before(s.agenda[0].at) {
			s.now = s.wake
		} else {
			h := heap.Pop(&s.agenda).(happening)
			s.now = h.at
			s.happen(h)
		}
		s.place()
		s.sell()
	}
}

func (s *simulation) happen(h happening) {
	switch {
	case h.machine != "":
		s.do(Command{Join: &Join{Invite: "i-" + h.machine, Hash: hash("b"), Node: Node{Name: h.machine, Addr: h.machine}}})
		s.do(Command{Start: &Start{Node: h.machine, Boot: "b"}})
		s.do(Command{Beats: &Beats{Beats: []Beat{{Node: h.machine, Boot: "b"}}}})
	case h.ends:
		l, _ := s.pool.Lease(h.task)
		s.do(Command{Release: &Release{Task: h.task, Token: l.Token}})
	default:
		s.waiting = append(s.waiting, Waiting{Task: h.task})
	}
}

// place does what Decide says.
func (s *simulation) place() {
	plan := Decide(s.pool, s.waiting, nil, s.now)
	placed := map[string]bool{}
	for _, d := range plan.Decisions {
		if d.Node == "" {
			continue
		}
		s.do(Command{Grant: &Grant{Task: d.Task, Node: d.Node, Slot: d.Slot}})
		placed[d.Task] = true
		j := s.jobs[d.Task]
		wait := s.now.Sub(j.at)
		if wait > 0 {
			s.sum.cold++
		}
		s.sum.waits = append(s.sum.waits, max(wait, warmStart))
		s.at(happening{at: s.now.Add(j.last), task: d.Task, ends: true})
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(w Waiting) bool { return placed[w.Task] })
	for _, b := range plan.Buys {
		s.buy(b)
	}
	s.sum.peak = max(s.sum.peak, len(s.pool.bought()))
}

// buy has the provider make a machine at once; it boots for a minute or more.
func (s *simulation) buy(b Purchase) {
	s.ops++
	s.sum.created++
	op := fmt.Sprintf("OP%06d", s.ops)
	m := ServerName(op, 1)
	s.do(Command{Buy: &Buy{Op: op, Task: b.Task, Need: b.Need, Reason: b.Reason}})
	s.do(Command{Try: &Try{Machine: m, Token: s.index, Type: b.Choice.Type, Location: b.Choice.Location, Invite: Invite{ID: "i-" + m, Hash: hash("b"), Expires: s.now.Add(time.Hour)}}})
	s.do(Command{Made: &Made{Machine: m, Token: s.index, Server: Server{ID: op, Type: b.Choice.Type, Location: b.Choice.Location, Created: s.now}}})
	s.at(happening{at: s.now.Add(time.Minute + time.Duration(s.r.Float64()*float64(30*time.Second))), machine: m})
}

// sell does what Warm says, and looks when it is to be asked again.
func (s *simulation) sell() {
	s.wake = time.Time{}
	for _, st := range Warm(s.pool, nil, s.now) {
		if st.Due {
			op := fmt.Sprintf("DEL%06d", s.index)
			s.do(Command{Retire: &Retire{Machine: st.Machine, Op: op, Reason: st.Reason, Idle: st.Idle}})
			s.do(Command{Delete: &Delete{Machine: st.Machine, Token: s.index}})
			s.do(Command{Ended: &Ended{Machine: st.Machine, Token: s.index}})
			continue
		}
		m, _ := s.pool.Machine(st.Machine)
		if !s.pool.idle(m) {
			continue
		}
		look := st.PaidUntil.Add(-deleteWindow)
		if !look.After(s.now) {
			look = s.now.Add(time.Minute)
		}
		if st.Until.After(s.now) && st.Until.Before(look) {
			look = st.Until
		}
		if s.wake.IsZero() || look.Before(s.wake) {
			s.wake = look
		}
	}
}

// figures are an outcome as a row of the table.
func (o *outcome) figures(seeds int) string {
	slices.Sort(o.waits)
	var sum time.Duration
	for _, w := range o.waits {
		sum += w
	}
	n := len(o.waits)
	return fmt.Sprintf("%.2f\t%.2f\t%.2f\t%d\t%d\t%d\t%.0f\t%.0f",
		float64(o.cost)/float64(o.tasks)/float64(Euro)*100, float64(o.cost)/float64(seeds)/float64(Euro), o.hours/o.held,
		o.created/seeds, o.peak, int(math.Round(100*float64(o.cold)/float64(n))),
		o.waits[n*95/100].Seconds(), (sum / time.Duration(n)).Seconds())
}
