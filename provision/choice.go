package provision

import (
	"fmt"
	"slices"
	"time"
)

// Choice is a type at a location that a machine may be bought as.
type Choice struct {
	Type     string `json:"type"`
	Location string `json:"location"`
	Slots    int    `json:"slots"`
	Hour     Money  `json:"hour"`
	Refused  string `json:"refused,omitempty"` // why it is not taken, as the end of a sentence

	Again time.Time `json:"again,omitzero"` // refused: when it is asked for again
}

func (c Choice) String() string {
	return fmt.Sprintf("%s at %s for %s an hour", c.Type, c.Location, c.Hour)
}

// Choices are the ways to buy a machine for a need, best first: the policy's
// sizes in their order, each at the policy's locations in theirs. Whether one
// can be ordered is what the provider says of that location, and what was seen
// there in the last minutes.
func (p Pool) Choices(need Need, now time.Time) []Choice {
	var list []Choice
	policy := p.Policy()
	for _, s := range policy.Sizes {
		for _, l := range p.locations(policy, s.Type) {
			o, sold := p.offer(s.Type, l)
			c := Choice{Type: s.Type, Location: l, Slots: s.Slots, Hour: o.Hour}
			if sold {
				c.Refused, c.Again = p.refuses(o, s, need, now)
			} else {
				c.Refused = "the provider does not sell it there"
			}
			list = append(list, c)
		}
	}
	return list
}

// locations are where a type may be bought.
func (p Pool) locations(policy Policy, typ string) []string {
	if len(policy.Locations) > 0 {
		return policy.Locations
	}
	var all []string
	for _, o := range p.Offers {
		if o.Type == typ {
			all = append(all, o.Location)
		}
	}
	return all
}

// refuses says why an offer is not taken for a need, or nothing.
func (p Pool) refuses(o Offer, s Size, need Need, now time.Time) (why string, again time.Time) {
	if why := tooSmall(o.CPUs, o.Mem, o.Disk, need); why != "" {
		return why, again
	}
	if !has(s.Labels, need.Labels) {
		return lacksLabel(s.Labels, need.Labels), again
	}
	if need.Location != "" && need.Location != o.Location {
		return "the task wants " + need.Location, again
	}
	if known, is := p.shortage(o.Type, o.Location, now); is {
		return fmt.Sprintf("it was %s there at %s, and is asked for again from %s", known.Trouble, clock(known.Since), clock(known.Until)), known.Until
	}
	if !o.Orderable {
		return "the provider does not take orders for it there now", again
	}
	return "", again
}

// tooSmall says what a machine has too little of; what is 0 is not known, and
// does not count.
func tooSmall(cpus int, mem, disk int64, need Need) string {
	switch {
	case cpus > 0 && cpus < need.CPUs:
		return fmt.Sprintf("it has %d processors, and the task needs %d", cpus, need.CPUs)
	case mem > 0 && mem < need.Mem:
		return fmt.Sprintf("it has %.1f GiB of memory, and the task needs %.1f", gib(mem), gib(need.Mem))
	case disk > 0 && disk < need.Disk:
		return fmt.Sprintf("it has %.0f GiB of disk, and the task needs %.0f", gib(disk), gib(need.Disk))
	}
	return ""
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

// lacksLabel says which label is missing.
func lacksLabel(those, these []string) string {
	i := slices.IndexFunc(these, func(l string) bool { return !slices.Contains(those, l) })
	return "it does not have the label " + these[i]
}

// first returns the best choice that is not refused.
func first(list []Choice) (Choice, bool) {
	i := slices.IndexFunc(list, func(c Choice) bool { return c.Refused == "" })
	if i < 0 {
		return Choice{}, false
	}
	return list[i], true
}

// noChoice says why no choice can be had: the reason of the one that may be had
// again first, else of the first.
func noChoice(list []Choice) limit {
	if len(list) == 0 {
		return limit{why: "The settings name nothing to buy."}
	}
	c := list[0]
	for _, x := range list {
		if !x.Again.IsZero() && (c.Again.IsZero() || x.Again.Before(c.Again)) {
			c = x
		}
	}
	text := fmt.Sprintf("Nothing can be bought now: %s at %s: %s", c.Type, c.Location, c.Refused)
	if n := len(list) - 1; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return limit{why: text + ".", until: c.Again}
}

// limit is why nothing is bought although it could be had, and when that may
// end; the zero time: nobody knows.
type limit struct {
	why   string
	until time.Time
	full  bool // there are as many machines as there may be
}

// mayBuy says what keeps the pool from one more machine at that price, or
// nothing. More machines and money are about to be spent.
func (p Pool) mayBuy(price Money, now time.Time, more int, spend Money) limit {
	policy := p.Policy()
	count := len(p.bought()) + more
	day := p.Today(now) + spend
	switch {
	case policy.Stopped:
		return limit{why: "Buying is stopped until somebody lifts that (samnode pool resume)."}
	case p.Breaker.Open(now):
		return limit{why: p.Breaker.String(), until: p.Breaker.Until}
	case policy.Machines == 0:
		return limit{why: "The settings say that no machines are bought."}
	case count >= policy.Machines:
		return limit{why: fmt.Sprintf("%d of at most %d machines are bought: another one may be when one of them is deleted%s.", count, policy.Machines, p.soonest(now)), until: p.leaves(now), full: true}
	case day+price > policy.PerDay:
		next := nextDay(now)
		return limit{why: fmt.Sprintf("Of %s a day %s are spent: buying goes on at %s.", policy.PerDay, day, when(next)), until: next}
	case p.Breaker.testing(now) && (more > 0 || p.buying() > 0):
		return limit{why: "One machine is tried first: " + p.Breaker.Reason}
	}
	return limit{}
}

// buying counts the purchases that are under way.
func (p Pool) buying() (n int) {
	for _, o := range p.Ops {
		if o.Kind == BuyOp && o.State == OpOpen {
			n++
		}
	}
	return n
}

// leaves is when the first of the machines may be deleted, as things are.
func (p Pool) leaves(now time.Time) (first time.Time) {
	for _, s := range Warm(p, nil, now) {
		if !s.Until.IsZero() && (first.IsZero() || s.Until.Before(first)) {
			first = s.Until
		}
	}
	return first
}

func (p Pool) soonest(now time.Time) string {
	if t := p.leaves(now); !t.IsZero() {
		return ", at " + clock(t) + " at the soonest"
	}
	return ""
}

func nextDay(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}

// clock writes a time of about now into a sentence.
func clock(t time.Time) string { return t.UTC().Format("15:04 UTC") }
