// Package hetznertest is a Hetzner Cloud for tests: servers, actions that take
// time, types, prices, images, addresses, keys, limits and a bill, with state
// and a clock. What it is asked and what it answers can be held against the
// API's OpenAPI description ([Cloud.Validate]), and Hetzner's own command line
// tool works with it. [Cloud.Break] makes it fail in the ways that the real one
// does.
//
// Nothing happens by itself: what there is follows from the clock whenever
// somebody asks. So it needs no goroutine and works in a synctest bubble, with
// [Cloud.Transport] in place of a connection.
package hetznertest

import (
	"cmp"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Config is how the cloud differs from the usual one.
type Config struct {
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Token is the API token that is known; empty: any.
	Token string
	// How long the actions take; zero: 6 s, 4 s, 5 s. Negative: no time.
	CreateTime, StartTime, DeleteTime time.Duration
	// RateLimit is how many calls an hour there may be; zero: 3600.
	RateLimit int
	// ServerLimit and AddressLimit are the account's; zero: 10 and 20.
	ServerLimit, AddressLimit int
	// OnCreate is called in the request that makes a server, before the answer,
	// and OnDelete in the one that begins to delete it. A test boots a container
	// there, in a goroutine of its own.
	OnCreate func(s Server, userData []byte)
	OnDelete func(s Server)
}

// Cloud is one project. It serves the API under /v1.
type Cloud struct {
	URL string // of Start, with /v1; else empty

	cfg Config

	mu        sync.Mutex // covers all below
	next      int64      // id
	servers   []*server  // also those that are gone
	addresses []*address
	actions   []*action
	keys      []sshKey
	types     []*serverType
	images    []*image
	rules     rules
	faults    []*fault
	rate      rate
	calls     []Call
	peak      int   // servers in the making at the same time
	spec      *Spec // nil: nothing is validated
	broken    []Violation
	checked   int
}

// Call is one request that was answered, or not.
type Call struct {
	At     time.Time // when it came
	Method string
	Path   string // with its query
	Status int    // 0: there was no answer
}

// New makes a cloud without servers.
func New(cfg Config) *Cloud {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for d, usual := range map[*time.Duration]time.Duration{
		&cfg.CreateTime: 6 * time.Second, &cfg.StartTime: 4 * time.Second, &cfg.DeleteTime: 5 * time.Second,
	} {
		*d = max(0, cmp.Or(*d, usual))
	}
	cfg.RateLimit = cmp.Or(cfg.RateLimit, 3600)
	cfg.ServerLimit = cmp.Or(cfg.ServerLimit, 10)
	cfg.AddressLimit = cmp.Or(cfg.AddressLimit, 2*cfg.ServerLimit)
	c := &Cloud{cfg: cfg, next: 1000, types: catalog(), images: images(), rules: newRules(cfg)}
	c.rate = rate{limit: cfg.RateLimit, left: float64(cfg.RateLimit), at: cfg.Now()}
	return c
}

// Start serves a new cloud on loopback until the test ends.
func Start(t testing.TB, cfg Config) *Cloud {
	t.Helper()
	c := New(cfg)
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.URL = s.URL + "/v1"
	return c
}

// Transport carries calls to the cloud without a connection. A call ends when
// its context does, as one over a connection would.
func (c *Cloud) Transport() http.RoundTripper { return direct{c} }

type direct struct{ handler http.Handler }

func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	in := req.Clone(req.Context())
	if in.Body == nil {
		in.Body = http.NoBody // as a server has it
	}
	w := httptest.NewRecorder()
	err := d.serve(w, in) // what hangs ends with the context
	if gone := req.Context().Err(); gone != nil {
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	resp := w.Result()
	resp.Request = req
	return resp, nil
}

// serve returns what a client sees of a handler that breaks the connection.
func (d direct) serve(w http.ResponseWriter, req *http.Request) (err error) {
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			err = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		default:
			panic(v)
		}
	}()
	d.handler.ServeHTTP(w, req)
	return nil
}

// Calls are all requests so far, in the order in which they were answered.
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Busiest is the largest number of calls within any time of that length.
func (c *Cloud) Busiest(within time.Duration) int {
	calls, most, first := c.Calls(), 0, 0
	slices.SortFunc(calls, func(a, b Call) int { return a.At.Compare(b.At) })
	for i, call := range calls {
		for call.At.Sub(calls[first].At) >= within {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Peak is how many servers were in the making at the same time at most.
func (c *Cloud) Peak() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peak
}
