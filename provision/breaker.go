package provision

import (
	"fmt"
	"time"
)

// Breaker keeps the mesh from buying after something went wrong that another
// try would not mend. The zero value: nothing did.
//
// Open, nothing is bought. After Until it is half open: one machine is tried,
// and when it comes up the breaker is closed, else open for twice as long. One
// without Until waits for a person: [Resume], or new settings.
type Breaker struct {
	Reason  string    `json:"reason,omitempty"` // a sentence for a person; empty: closed
	Trouble Trouble   `json:"trouble,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Strikes int       `json:"strikes,omitempty"` // how many times in a row
}

// How long a breaker stays open after the first strike, and at most.
const (
	quotaPause = 2 * time.Minute
	quotaMost  = 30 * time.Minute
	failPause  = 15 * time.Minute
	failMost   = 4 * time.Hour
)

// Open tells whether nothing is to be bought now.
func (b Breaker) Open(now time.Time) bool {
	return b.Reason != "" && (b.Until.IsZero() || now.Before(b.Until))
}

// testing tells whether one machine is to show whether buying works again.
func (b Breaker) testing(now time.Time) bool { return b.Reason != "" && !b.Open(now) }

// String says why nothing is bought, and how that ends.
func (b Breaker) String() string {
	switch {
	case b.Reason == "":
		return ""
	case b.Until.IsZero():
		return b.Reason + " Nothing is bought until you have mended that and resumed buying (samnode pool resume)."
	}
	return fmt.Sprintf("%s Nothing is bought until %s; then one machine is tried.", b.Reason, when(b.Until))
}

// trip opens the breaker: without a pause for ever, else for that long, and
// twice as long with each further strike. What comes of calls that were made
// before it opened is not another strike.
func (a *applier) trip(t Trouble, reason string, least, pause, most time.Duration) {
	b := a.Breaker
	if b.Open(a.now) && (b.Until.IsZero() || b.Trouble == t) {
		return
	}
	if b.Trouble != t {
		b.Strikes = 0
	}
	b = Breaker{Reason: short(reason, maxReason), Trouble: t, Since: a.now, Strikes: b.Strikes + 1}
	if pause > 0 {
		b.Until = a.now.Add(max(least, min(most, pause<<min(b.Strikes-1, 10))))
	}
	a.Breaker = b
}

// untrip closes the breaker if that kind of trouble had opened it.
func (a *applier) untrip(kinds ...Trouble) {
	for _, t := range kinds {
		if a.Breaker.Trouble == t {
			a.Breaker = Breaker{}
		}
	}
}
