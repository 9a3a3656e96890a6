package hetzner

import (
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/samnode/samnode/provision"
)

// The kinds of calls, as they are counted.
const (
	kindCreate  = "create"
	kindDelete  = "delete"
	kindList    = "list"    // servers
	kindGet     = "get"     // one server
	kindAction  = "actions" // is it done yet
	kindCatalog = "catalog" // types, prices, keys
	kindAddress = "addresses"
	kindOther   = "other"
)

const (
	usualLimit = 3600 // calls an hour; the first answer says what it is for this project
	maxPause   = time.Hour
)

// allowance is a token bucket. With a limit of L calls an hour it holds L/10
// and gains L/2 - L/10 an hour, so that no hour, wherever it begins, sees more
// than L/2. The last quarter of the bucket is for deletes and for the looks
// whether they are over: what costs money can be ended however busy the rest
// was. The very last token is for a look: deletes that are begun again and again
// would never be seen to be over.
//
// Hetzner's own bucket refills all the time, too, and so does not have to be
// waited for until it is full: after a 429 only the part for deletes is left of
// ours, if Hetzner does not say that there is less, and calls pause for as long
// as Retry-After says, or else for a time that doubles with every further 429.
type allowance struct {
	mu      sync.Mutex
	limit   int
	tokens  float64
	at      time.Time // when tokens was right
	until   time.Time // no call before that
	strikes int       // times in a row that Hetzner said 429 without saying for how long
	calls   map[string]int
}

func newAllowance(now time.Time) *allowance {
	a := &allowance{limit: usualLimit, at: now, calls: map[string]int{}}
	a.tokens = a.size()
	return a
}

func (a *allowance) size() float64    { return max(2, float64(a.limit/10)) }
func (a *allowance) reserve() float64 { return float64(int(a.size() / 4)) }

// needLocked is how many tokens there must be for a call.
func (a *allowance) needLocked(kind string) float64 {
	switch kind {
	case kindGet:
		return 1
	case kindDelete:
		return 2
	}
	return 1 + a.reserve()
}

// rate is tokens a second.
func (a *allowance) rate() float64 { return max(1, float64(a.limit)/2-a.size()) / 3600 }

// spend takes a token for one call. Otherwise it returns how long to wait for one.
func (a *allowance) spend(now time.Time, kind string) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refillLocked(now)
	if now.Before(a.until) {
		return a.until.Sub(now), false
	}
	need := a.needLocked(kind)
	if a.tokens < need {
		return time.Duration((need - a.tokens) / a.rate() * float64(time.Second)), false
	}
	a.tokens--
	a.calls[kind]++
	return 0, true
}

func (a *allowance) refillLocked(now time.Time) {
	if past := now.Sub(a.at).Seconds(); past > 0 { // a clock that was set back gives nothing
		a.tokens = min(a.size(), a.tokens+past*a.rate())
	}
	a.at = now
}

// learn takes over what an answer says of the allowance.
func (a *allowance) learn(now time.Time, status int, h http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refillLocked(now)
	if limit, err := strconv.Atoi(h.Get("RateLimit-Limit")); err == nil && limit > 0 {
		a.limit = limit
		a.tokens = min(a.tokens, a.size())
	}
	if left, err := strconv.Atoi(h.Get("RateLimit-Remaining")); err == nil && left >= 0 {
		a.tokens = min(a.tokens, float64(left)) // somebody else calls, too
	}
	pause, said := retryAfter(now, h)
	switch {
	case status == http.StatusTooManyRequests:
		a.tokens = min(a.tokens, a.reserve())
		if !said {
			pause = a.strikeLocked(now, h)
		}
	case status >= http.StatusBadRequest && said:
	default:
		a.strikes = 0
		return
	}
	if until := now.Add(min(pause, maxPause)); until.After(a.until) {
		a.until = until
	}
}

func (a *allowance) strikeLocked(now time.Time, h http.Header) time.Duration {
	pause := time.Second << min(a.strikes, 6)
	a.strikes++
	if sec, err := strconv.ParseInt(h.Get("RateLimit-Reset"), 10, 64); err == nil {
		if whole := time.Unix(sec, 0).Sub(now); whole > 0 {
			pause = min(pause, whole) // by then everything may be called again
		}
	}
	return pause
}

// retryAfter reads a header that holds seconds or a date.
func retryAfter(now time.Time, h http.Header) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if sec, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(sec) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// pause is how long nobody is called.
func (a *allowance) pause(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.until.Sub(now)
}

func (a *allowance) state(now time.Time) provision.Budget {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refillLocked(now)
	b := provision.Budget{
		Limit: a.limit, Hourly: int(a.size() + a.rate()*3600), Left: int(a.tokens),
		Reserve: int(min(a.tokens, a.reserve())), Calls: maps.Clone(a.calls),
	}
	b.Reset = now.Add(time.Duration((a.size() - a.tokens) / a.rate() * float64(time.Second)))
	if now.Before(a.until) {
		b.Until = a.until
	}
	return b
}
