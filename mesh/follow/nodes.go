package follow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	checkPath = "/api/v1/nodes"
	mostNodes = 256
	listLimit = 1 << 20
)

// target is a node, and its requests' life: when the node is given up, so are
// they.
type target struct {
	base *url.URL
	core atomic.Bool

	ctx    context.Context
	cancel context.CancelFunc
}

// nodes knows the nodes of the mesh and which of them requests go to. It is a
// transport, whose requests go there.
type nodes struct {
	stay      bool
	apart     func(string) bool
	pace      time.Duration
	transport *http.Transport
	once      *http.Transport // the same, with a new connection for each request
	logger    *slog.Logger

	mu      sync.Mutex
	list    []*target // those to begin with, then the learnt ones
	first   int       // how many there are to begin with
	current *target
	moving  chan struct{} // closed when the search that goes on is over; nil: none
}

func newNodes(c Config, logger *slog.Logger) (*nodes, error) {
	if c.Apart == nil {
		c.Apart = func(string) bool { return false }
	}
	n := &nodes{stay: c.Stay, apart: c.Apart, pace: cmp.Or(c.Pace, time.Second), transport: marking(c.Transport), logger: logger, first: len(c.Nodes)}
	for _, s := range c.Nodes {
		base, err := parseBase(s)
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, newTarget(base, false))
	}
	n.once = n.transport.Clone()
	n.once.DisableKeepAlives = true
	if len(n.list) == 0 {
		return nil, errors.New("following a mesh: give the URL of one of its nodes")
	}
	n.current = n.list[0]
	return n, nil
}

func newTarget(base *url.URL, core bool) *target {
	t := &target{base: base}
	t.core.Store(core)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, fmt.Errorf("%q is not the URL of a node: it looks like http://node1.example.ts.net", s)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func (n *nodes) now() *target {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current
}

func (n *nodes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.list {
		t.cancel()
	}
	n.transport.CloseIdleConnections()
}

// watch checks the node that requests go to, and learns the others from it. A
// node that refuses connections is given up at once, a silent one when it was
// silent twice.
func (n *nodes) watch(ctx context.Context) {
	silent := 0
	for {
		t := n.now()
		list, err := n.check(ctx, t)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			silent = 0
			n.learn(list)
		case !refused(err) && silent == 0:
			silent++
			continue
		default:
			silent = 0
			n.logger.Debug("A node does not answer", "node", t.base.Host, "err", err)
			if _, err := n.leave(ctx, t); err != nil {
				n.logger.Debug("Looking for a node", "err", err)
			}
		}
		select {
		case <-time.After(n.pace):
		case <-ctx.Done():
			return
		}
	}
}

func refused(err error) bool {
	_, dial := errors.AsType[*dialError](err)
	timeout, ok := errors.AsType[net.Error](err)
	return dial && !(ok && timeout.Timeout())
}

type listed struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	Core bool   `json:"core"`
}

// check asks a node for the nodes it knows. One that answers anything but that
// it is broken is alive, and may not be willing to tell.
func (n *nodes) check(ctx context.Context, t *target) ([]listed, error) {
	ctx, cancel := context.WithTimeout(ctx, n.pace)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base.String()+checkPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	var body struct {
		Nodes []listed `json:"nodes"`
	}
	if resp.StatusCode != http.StatusOK || n.stay {
		return nil, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, listLimit)).Decode(&body); err != nil {
		n.logger.Debug("A node's list of nodes makes no sense", "node", t.base.Host, "err", err)
	}
	return body.Nodes, nil
}

// learn takes in what a node says about the others. Those to begin with stay.
func (n *nodes) learn(list []listed) {
	if len(list) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.list
	n.list = slices.Clone(old[:n.first])
	for _, l := range list[:min(len(list), mostNodes)] {
		base, err := parseBase(l.URL)
		if err != nil {
			continue // a node without pages
		}
		same := func(t *target) bool { return *t.base == *base }
		if i := slices.IndexFunc(n.list, same); i >= 0 {
			n.list[i].core.Store(l.Core)
			continue
		}
		if i := slices.IndexFunc(old, same); i >= 0 {
			old[i].core.Store(l.Core)
			n.list = append(n.list, old[i])
			continue
		}
		n.list = append(n.list, newTarget(base, l.Core))
	}
	if !slices.Contains(n.list, n.current) {
		n.list = append(n.list, n.current) // it answers, so it counts
	}
}

// leave gives a node up and returns another one that answers, or the same when
// it does after all. Whoever comes while the search goes on waits for its end.
func (n *nodes) leave(ctx context.Context, dead *target) (*target, error) {
	n.mu.Lock()
	if n.current != dead {
		defer n.mu.Unlock()
		return n.current, nil
	}
	if wait := n.moving; wait != nil {
		n.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if now := n.now(); now != dead {
			return now, nil
		}
		return nil, errNone
	}
	done := make(chan struct{})
	n.moving = done
	candidates := slices.Clone(n.list)
	n.mu.Unlock()
	found := n.search(dead, candidates)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.moving = nil
	close(done)
	if found == nil {
		return nil, errNone
	}
	if found == dead {
		return dead, nil
	}
	// What waits for the dead node is to ask the living one.
	dead.cancel()
	dead.ctx, dead.cancel = context.WithCancel(context.Background())
	n.current = found
	n.logger.Info("Following another node", "node", found.base.Host)
	return found, nil
}

// errNone is returned when no node answers.
var errNone = errors.New("no node of the mesh answers; is this computer on the network, and any node up?")

// search asks all nodes at once and returns the best that answers first: the
// one that was followed, else a core node, else any.
func (n *nodes) search(last *target, candidates []*target) *target {
	ctx, cancel := context.WithTimeout(context.Background(), n.pace)
	defer cancel()
	answers := make(chan *target, len(candidates))
	for _, t := range candidates {
		go func() {
			if _, err := n.check(ctx, t); err != nil {
				t = nil
			}
			answers <- t
		}()
	}
	rank := func(t *target) int {
		switch {
		case t == nil:
			return 0
		case t == last:
			return 3
		case t.core.Load():
			return 2
		}
		return 1
	}
	var found *target
	var soon <-chan time.Time
	for range candidates {
		select {
		case t := <-answers:
			if rank(t) > rank(found) {
				found = t
			}
		case <-soon:
			return found
		}
		if found == last && found != nil {
			return found
		}
		if found != nil && soon == nil {
			soon = time.After(100 * time.Millisecond)
		}
	}
	return found
}
