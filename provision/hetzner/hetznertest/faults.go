package hetznertest

import (
	"net/http"
	"path"
	"strings"
	"time"
)

// Fault makes calls go wrong. The first that matches a call is taken.
type Fault struct {
	// On is which calls: a method and a path below /v1 in the manner of
	// path.Match, e.g. "POST /servers" or "DELETE /servers/*". Empty: all.
	On string
	// Times is how many calls go wrong; 0: all, until For has passed.
	Times int
	// For is for how long from now; 0: no end.
	For time.Duration
	// After does what was asked first: only the answer goes wrong.
	After bool
	// Delay is how long the answer takes.
	Delay time.Duration
	// Hang gives no answer until the client goes away.
	Hang bool
	// Reset breaks the connection in place of an answer.
	Reset bool
	// Status, Code, Message and Details are the answer; without a status it is
	// the usual one. Without a code it has no JSON, as one by a proxy.
	Status        int
	Code, Message string
	Details       any
	// Body is sent as JSON in place of Code, Message and Details, whatever it is.
	Body string
	// RetryAfter is a header; empty: none.
	RetryAfter string
}

type fault struct {
	Fault
	end time.Time // zero: never
}

// rules are what is refused for as long as it lasts. Cloud.mu covers it.
type rules struct {
	soldOut, unsupported map[string]bool // "type@location"
	closed, noType       map[string]bool
	readOnly, revoked    bool
	lag                  time.Duration
	failures             []Failure
	servers              int // the account's limit
	deleteTime           time.Duration
}

func newRules(cfg Config) rules {
	return rules{
		soldOut: map[string]bool{}, unsupported: map[string]bool{}, closed: map[string]bool{}, noType: map[string]bool{},
		servers: cfg.ServerLimit, deleteTime: cfg.DeleteTime,
	}
}

// Failure is an action that ends in error.
type Failure struct {
	Command       string // create_server, start_server, ...
	Code, Message string
	Times         int // 0: always
}

// The faults that Hetzner's customers have met.

// AnswerLost is a gateway that gives up after the server was made.
func AnswerLost() Fault {
	return Fault{On: "POST /servers", Times: 1, After: true, Status: 504, Code: "timeout", Message: "the request could not be answered in time, please retry"}
}

// AnswerHangs makes the server and never says so.
func AnswerHangs() Fault { return Fault{On: "POST /servers", Times: 1, After: true, Hang: true} }

// CreateHangs makes no server and never says so.
func CreateHangs() Fault { return Fault{On: "POST /servers", Times: 1, Hang: true} }

// AnswerReset makes the server and breaks the connection.
func AnswerReset() Fault { return Fault{On: "POST /servers", Times: 1, After: true, Reset: true} }

// AnswerGarbled makes the server and sends half of the answer.
func AnswerGarbled() Fault {
	return Fault{On: "POST /servers", Times: 1, After: true, Status: 201, Body: `{"server":{"id":10`}
}

// TooMany is a burst of 429 on all calls. retryAfter is in seconds; empty:
// only the RateLimit headers tell.
func TooMany(times int, retryAfter string) Fault {
	return Fault{Times: times, Status: 429, Code: "rate_limit_exceeded", Message: "limit of 3600 requests per hour reached", RetryAfter: retryAfter}
}

// Locked is an action that somebody else began.
func Locked(on string, times int) Fault {
	return Fault{On: on, Times: times, Status: 423, Code: "locked", Message: "server is locked"}
}

// Conflict is a resource that changed meanwhile.
func Conflict(on string, times int) Fault {
	return Fault{On: on, Times: times, Status: 409, Code: "conflict", Message: "the resource has changed during the request, please retry"}
}

// NoPlacement is a host that is full.
func NoPlacement(times int) Fault {
	return Fault{On: "POST /servers", Times: times, Status: 412, Code: "placement_error", Message: "error during placement"}
}

// Down is an API that is away.
func Down(d time.Duration) Fault {
	return Fault{For: d, Status: 503, Code: "service_error", Message: "service is temporarily unavailable"}
}

// BadGateway is a proxy without an API behind it.
func BadGateway(times int) Fault { return Fault{Times: times, Status: 502} }

// Break adds a fault.
func (c *Cloud) Break(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on := &fault{Fault: f}
	if f.For > 0 {
		on.end = c.cfg.Now().Add(f.For)
	}
	c.faults = append(c.faults, on)
}

// Heal ends everything that goes wrong, and every lack.
func (c *Cloud) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults, c.rules, c.types = nil, newRules(c.cfg), catalog()
	for _, i := range c.images {
		i.gone = false
	}
}

// FailAction lets actions end in error.
func (c *Cloud) FailAction(f Failure) {
	c.change(func() { c.rules.failures = append(c.rules.failures, f) })
}

// SellOut lets nobody have a type at a location. Unless told, the list of types
// goes on to say that it can be had.
func (c *Cloud) SellOut(kind, location string, told bool) {
	c.change(func() {
		c.rules.soldOut[kind+"@"+location] = true
		if t := c.typeLocked(word(kind)); t != nil && told {
			t.lacks = append(t.lacks, location)
		}
	})
}

// Unsupport has a type refused at a location with a 422.
func (c *Cloud) Unsupport(kind, location string) {
	c.change(func() { c.rules.unsupported[kind+"@"+location] = true })
}

// CloseLocation takes no new servers at a location.
func (c *Cloud) CloseLocation(name string) { c.change(func() { c.rules.closed[name] = true }) }

// RemoveType ends a type.
func (c *Cloud) RemoveType(name string) { c.change(func() { c.rules.noType[name] = true }) }

// RemoveImage ends an image.
func (c *Cloud) RemoveImage(name string) {
	c.change(func() {
		for _, i := range c.images {
			i.gone = i.gone || i.name == name
		}
	})
}

// Limit sets how many servers the account may have.
func (c *Cloud) Limit(servers int) { c.change(func() { c.rules.servers = servers }) }

// ReadOnly makes the token one that may only read.
func (c *Cloud) ReadOnly() { c.change(func() { c.rules.readOnly = true }) }

// Revoke makes the token unknown.
func (c *Cloud) Revoke() { c.change(func() { c.rules.revoked = true }) }

// Lag lets lists of servers show what was there some time ago.
func (c *Cloud) Lag(d time.Duration) { c.change(func() { c.rules.lag = d }) }

// SlowDelete is how long deletes take from now on.
func (c *Cloud) SlowDelete(d time.Duration) { c.change(func() { c.rules.deleteTime = d }) }

func (c *Cloud) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// faultLocked takes the first fault for a call.
func (c *Cloud) faultLocked(method, where string) *Fault {
	now := c.cfg.Now()
	for i, f := range c.faults {
		if !f.end.IsZero() && !now.Before(f.end) || !f.matches(method, where) {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				c.faults = append(c.faults[:i:i], c.faults[i+1:]...)
			}
		}
		return &f.Fault
	}
	return nil
}

func (f *Fault) matches(method, where string) bool {
	if f.On == "" {
		return true
	}
	m, pattern, _ := strings.Cut(f.On, " ")
	ok, err := path.Match(pattern, where)
	return err == nil && ok && m == method
}

func (f *Fault) answer() answer {
	a := answer{status: f.Status, plain: http.StatusText(f.Status), wrong: true}
	if f.Code != "" {
		a = fail(f.Status, f.Code, f.Message, f.Details)
	}
	a.header = map[string]string{}
	if f.Body != "" {
		a.plain, a.header["Content-Type"] = f.Body, jsonType
	}
	if f.RetryAfter != "" {
		a.header["Retry-After"] = f.RetryAfter
	}
	return a
}

// failureLocked takes the failure of an action.
func (c *Cloud) failureLocked(command string) *Failure {
	for i, f := range c.rules.failures {
		if f.Command != command {
			continue
		}
		if f.Times > 0 {
			if c.rules.failures[i].Times--; c.rules.failures[i].Times == 0 {
				c.rules.failures = append(c.rules.failures[:i:i], c.rules.failures[i+1:]...)
			}
		}
		return &f
	}
	return nil
}
