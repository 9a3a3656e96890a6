package provision

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Day is what the machines that are gone cost in one day. What the others have
// cost so far is not in it: see [Pool.Spent].
type Day struct {
	Date string `json:"date"` // 2026-11-30, UTC
	Cost Money  `json:"cost"`
}

// Share is what one task's leases on bought machines came to, once they ended.
type Share struct {
	Task string        `json:"task"`
	Cost Money         `json:"cost"`
	Held time.Duration `json:"held"`
}

// What is kept of the past.
const (
	maxDays   = 400
	maxShares = 500
)

const date = "2006-01-02"

// PaidUntil is the end of the hour that a server was last charged for. The
// provider counts whole hours from when it made the server. The zero time: it
// is not known yet.
func (b Bought) PaidUntil(now time.Time) time.Time {
	if b.Created.IsZero() {
		return time.Time{}
	}
	return b.Created.Add(time.Duration(b.hours(now)) * time.Hour)
}

// hours is how many hours have started by then: the first one at once.
func (b Bought) hours(now time.Time) int {
	if b.Created.IsZero() {
		return 0
	}
	return 1 + int(max(0, now.Sub(b.Created))/time.Hour)
}

// spent adds what the server cost until now to days.
func (b Bought) spent(now time.Time, add func(day string, cost Money)) {
	for i := range b.hours(now) {
		add(b.Created.Add(time.Duration(i)*time.Hour).UTC().Format(date), b.Hour)
	}
}

// Spent is what bought machines cost until now in the days whose dates begin
// with prefix: 2026-11-30 is a day, 2026-11 a month. Each started hour counts
// whole, on the day (UTC) on which it started. A machine that is bought and
// not made yet counts one hour, today.
func (p Pool) Spent(prefix string, now time.Time) Money {
	var sum Money
	add := func(day string, cost Money) {
		if strings.HasPrefix(day, prefix) {
			sum += cost
		}
	}
	for _, d := range p.Days {
		add(d.Date, d.Cost)
	}
	for _, m := range p.Machines {
		switch {
		case !m.IsBought():
		case m.Bought.Created.IsZero():
			add(now.UTC().Format(date), m.Bought.Hour)
		default:
			m.Bought.spent(now, add)
		}
	}
	return sum
}

// Today is what bought machines cost on the day of now.
func (p Pool) Today(now time.Time) Money { return p.Spent(now.UTC().Format(date), now) }

// Month is what bought machines cost in the month of now.
func (p Pool) Month(now time.Time) Money { return p.Spent(now.UTC().Format("2006-01"), now) }

// settle moves the cost of a machine that is gone to the days of the past.
func (a *applier) settle(m Machine) {
	days := slices.Clone(a.Days)
	m.Bought.spent(a.now, func(day string, cost Money) {
		d, _ := get(days, day, dayKey)
		days = put(days, Day{Date: day, Cost: d.Cost + cost}, dayKey)
	})
	a.Days = days[max(0, len(days)-maxDays):]
	for _, l := range a.Leases {
		if l.Node == m.Node {
			a.share(m, l)
		}
	}
}

// share adds what a lease that ends cost to its task's share.
func (a *applier) share(m Machine, l Lease) {
	if !m.IsBought() {
		return
	}
	s, _ := get(a.Shares, l.Task, shareKey)
	s.Task, s.Cost, s.Held = l.Task, s.Cost+m.costOf(l, a.now), s.Held+max(0, a.now.Sub(l.Since))
	shares := put(slices.Clone(a.Shares), s, shareKey)
	a.Shares = shares[max(0, len(shares)-maxShares):] // ids are in the order of time
}

// costOf is a lease's part of what its machine costs: its time in one of the
// slots. What a machine costs while nobody uses it is nobody's.
func (m Machine) costOf(l Lease, now time.Time) Money {
	held := max(0, now.Sub(l.Since)) / time.Millisecond
	return m.Bought.Hour * Money(held) / Money(max(1, m.Slots)) / Money(time.Hour/time.Millisecond)
}

// TaskCost is what bought machines cost for a task until now, its running
// lease included. Of tasks long ago nothing is known: it is 0.
func (p Pool) TaskCost(task string, now time.Time) Money {
	s, _ := get(p.Shares, task, shareKey)
	if l, has := p.Lease(task); has {
		if m, is := p.Machine(l.Node); is && m.IsBought() {
			s.Cost += m.costOf(l, now)
		}
	}
	return s.Cost
}

func dayKey(d Day) string     { return d.Date }
func shareKey(s Share) string { return s.Task }

// Shortage is a type that could not be had at a location, and until when it is
// not asked for again.
type Shortage struct {
	Type     string    `json:"type"`
	Location string    `json:"location"`
	Trouble  Trouble   `json:"trouble"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
}

// How long it is remembered that something cannot be had.
const (
	soldOutFor  = 10 * time.Minute
	badOfferFor = time.Hour
)

func shortageKey(s Shortage) string { return s.Type + "@" + s.Location }

// lacks notes that a type cannot be had at a location, and forgets what is over.
func (a *applier) lacks(typ, location string, t Trouble, d time.Duration) {
	list := slices.DeleteFunc(slices.Clone(a.Shortages), func(s Shortage) bool { return !a.now.Before(s.Until) })
	a.Shortages = put(list, Shortage{Type: typ, Location: location, Trouble: t, Since: a.now, Until: a.now.Add(d)}, shortageKey)
}

// shortage returns what is known against a type at a location now.
func (p Pool) shortage(typ, location string, now time.Time) (Shortage, bool) {
	s, is := get(p.Shortages, typ+"@"+location, shortageKey)
	return s, is && now.Before(s.Until)
}

// offer returns the provider's offer of a type at a location.
func (p Pool) offer(typ, location string) (Offer, bool) {
	return get(p.Offers, typ+"@"+location, offerKey)
}

func offerKey(o Offer) string { return o.Type + "@" + o.Location }

func compareOffers(a, b Offer) int { return cmp.Compare(offerKey(a), offerKey(b)) }
