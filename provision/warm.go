package provision

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The times of the warm policy.
const (
	// deleteWindow is the end of a paid hour in which an idle machine is deleted: two
	// minutes, and one for the next look.
	deleteWindow = 3 * time.Minute
	// lastCall is too late: the deletion would come when the next hour has begun.
	lastCall = 20 * time.Second
	// recent is how long after a task another one is likely.
	recent = time.Hour
	// lastHour is how long before its end a machine gets no more tasks.
	lastHour = time.Hour
	// past and burst are what prewarming looks at.
	past  = 2 * time.Hour
	burst = 90 * time.Second
	// maxArrivals is how many of them are kept.
	maxArrivals = 256
)

// Stay is what the warm policy says of one bought machine that is ready or
// draining.
type Stay struct {
	Machine   string    `json:"machine"`
	PaidUntil time.Time `json:"paid_until"`
	Until     time.Time `json:"until,omitzero"` // when it goes if it stays idle; zero: it is in use, or stays for now
	Due       bool      `json:"due"`            // it is to go now
	Idle      bool      `json:"idle"`           // but only if it is idle still: see [Retire]
	Reason    string    `json:"reason"`         // a sentence
}

// Warm says how long each bought machine stays. An idle one stays for the
// policy's time at least, and then to the last minutes of the hour that is
// paid. As many free slots as the policy says are kept while the last task is
// under an hour old, and as prewarming wants. Silent machines have no free
// slots. It is a pure function; nothing is deleted until the log says so.
func Warm(p Pool, silent []string, now time.Time) []Stay {
	policy := p.Policy()
	w := warmth{p: p, policy: policy, now: now, silent: silent, wanted: p.wantedFree(policy, now)}
	w.count()
	var stays []Stay
	for _, m := range w.order() {
		stays = append(stays, w.stay(m))
	}
	slices.SortFunc(stays, func(a, b Stay) int { return cmp.Compare(a.Machine, b.Machine) })
	return stays
}

// warmth is the pool while Warm looks at it.
type warmth struct {
	p      Pool
	policy Policy
	now    time.Time
	silent []string
	free   int       // slots of the machines that are not due so far
	wanted int       // of them
	lapses time.Time // when fewer are wanted; zero: nobody knows
}

func (w *warmth) count() {
	for _, m := range w.p.Machines {
		if !slices.Contains(w.silent, m.Node) {
			w.free += len(w.p.Free(m))
		}
	}
	if n := len(w.p.Arrivals); n > 0 {
		w.lapses = w.p.Arrivals[n-1].Add(recent)
	}
}

// order lists the machines to look at: the one whose hour ends first comes
// first, so that it is the one that goes when only one may.
func (w *warmth) order() []Machine {
	var list []Machine
	for _, m := range w.p.bought() {
		if (m.State == Ready || m.State == Draining) && m.Bought.Delete == "" {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b Machine) int {
		return a.Bought.PaidUntil(w.now).Compare(b.Bought.PaidUntil(w.now))
	})
	return list
}

func (w *warmth) stay(m Machine) Stay {
	b := m.Bought
	s := Stay{Machine: m.Node, PaidUntil: b.PaidUntil(w.now), Idle: true}
	end := b.Expires.Add(-lastHour)
	switch {
	case !b.Expires.IsZero() && !w.now.Before(end):
		s.Due, s.Until, s.Idle = true, w.now, false
		s.Reason = "It has lived for as long as the settings say: it gets no more tasks, and goes when it has none."
		return s
	case !w.p.idle(m):
		s.Reason = "It is in use."
		return s
	case w.now.Before(b.Keep):
		s.Until = w.leave(m, b.Keep)
		s.Reason = fmt.Sprintf("Somebody wants it kept until %s.", when(b.Keep))
		return s
	}
	s.Until = w.leave(m, w.warmUntil(m))
	free := len(w.p.Free(m))
	if m.State == Ready && w.free-free < w.wanted && !w.dear(m) {
		s.Reason = "It is kept for the next task."
		s.Until = time.Time{}
		if !w.lapses.IsZero() {
			s.Until = w.leave(m, later(w.warmUntil(m), w.lapses))
		}
		return s
	}
	s.Reason = "It is idle."
	if !w.now.Before(s.Until) {
		s.Due = true
		w.free -= free
	}
	return s
}

// warmUntil is until when an idle machine stays at least.
func (w *warmth) warmUntil(m Machine) time.Time {
	if m.State == Draining || w.dear(m) {
		return w.now
	}
	return m.Idle.Add(w.policy.Warm)
}

// dear tells whether a machine's next hour would cost more than may be spent in
// a day.
func (w *warmth) dear(m Machine) bool { return w.p.dear(m, w.now) }

func (p Pool) dear(m Machine, now time.Time) bool {
	next := m.Bought.PaidUntil(now)
	return !next.IsZero() && p.Spent(next.UTC().Format(date), now)+m.Bought.Hour > p.Policy().PerDay
}

// leave is the first time from then on, and from now, at which an idle machine
// may be deleted.
func (w *warmth) leave(m Machine, from time.Time) time.Time {
	from = later(from, w.now)
	if !w.policy.WholeHours || m.Bought.Created.IsZero() {
		return from
	}
	end := m.Bought.PaidUntil(from)
	if from.After(end.Add(-lastCall)) {
		end = end.Add(time.Hour)
	}
	return later(from, end.Add(-deleteWindow))
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// wantedFree is how many slots are to be free now.
func (p Pool) wantedFree(policy Policy, now time.Time) int {
	n := p.likely(policy, now)
	if l := len(p.Arrivals); l > 0 && now.Sub(p.Arrivals[l-1]) < recent {
		n = max(n, policy.Free)
	}
	return n
}

// likely is how many tasks may come at once, by the largest burst of the last
// two hours, and at most as many as the policy buys ahead for.
func (p Pool) likely(policy Policy, now time.Time) int {
	if policy.Prewarm == 0 {
		return 0
	}
	most, from := 0, 0
	for i, t := range p.Arrivals {
		if now.Sub(t) >= past {
			from = i + 1
			continue
		}
		for t.Sub(p.Arrivals[from]) > burst {
			from++
		}
		most = max(most, i-from+1)
	}
	return min(policy.Prewarm, most)
}

// arrived notes that a task got a slot.
func (a *applier) arrived() {
	list := a.Arrivals
	for len(list) > 0 && (a.now.Sub(list[0]) >= past || len(list) >= maxArrivals) {
		list = list[1:]
	}
	a.Arrivals = append(slices.Clip(list), a.now)
}
