package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"
)

// route is one direction between two hosts.
type route struct{ from, to string }

// network carries streams and calls between hosts, as TCP does: in order,
// after a while, and over a route that is cut not at all: then nothing is
// lost, it comes when the route is whole again, unless one end gives up first.
type network struct {
	base time.Duration // that a message takes, one way

	mu    sync.Mutex
	rng   *rand.Rand
	hosts map[string]*host
	cuts  map[route]int           // by how many faults
	slow  map[route]time.Duration // on top of base
	conns map[*conn]struct{}
	whole chan struct{} // closed and replaced when some route is whole again
}

// host is a machine on the network.
type host struct {
	addr string // that it listens at; a node that joins anew has another
	off  bool   // without power
	proc *process
	in   chan *conn // nil: nothing listens
	life *life      // that answers calls; nil: none
}

func newNetwork(rng *rand.Rand, base time.Duration) *network {
	return &network{
		base: base, rng: rng,
		hosts: make(map[string]*host), cuts: make(map[route]int), slow: make(map[route]time.Duration),
		conns: make(map[*conn]struct{}), whole: make(chan struct{}),
	}
}

// hostOf is the host that an address is, or was, of.
func hostOf(addr string) string {
	name, _, _ := strings.Cut(addr, "/")
	return name
}

func (n *network) hostLocked(name string) *host {
	h := n.hosts[name]
	if h == nil {
		h = new(host)
		n.hosts[name] = h
	}
	return h
}

// up puts a process on a host that has power again.
func (n *network) up(p *process, addr string, l *life) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hostLocked(p.host)
	h.addr, h.proc, h.life, h.in = addr, p, l, make(chan *conn, backlog)
	if h.off {
		h.off = false
		n.healedLocked(func(r route) bool { return r.from == p.host || r.to == p.host })
	}
}

const (
	backlog = 32       // connections that nobody accepted yet
	window  = 64 << 10 // bytes under way before a writer waits
)

// down takes a process that is killed off its host. The other ends of its
// connections hear of it, unless the host is without power: they hear when it
// is back.
func (n *network) down(p *process, power bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hostLocked(p.host)
	if h.proc != p {
		return
	}
	h.proc, h.life, h.in, h.off = nil, nil, nil, power
	for c := range n.conns {
		if c.near == p {
			c.closeLocked(power || n.rng.IntN(2) == 0)
		}
	}
}

// cut breaks routes, or mends them again.
func (n *network) cut(broken bool, routes ...route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range routes {
		if broken {
			n.cuts[r]++
			continue
		}
		if n.cuts[r]--; n.cuts[r] == 0 {
			delete(n.cuts, r)
		}
	}
	if !broken {
		n.healedLocked(func(r route) bool {
			for _, x := range routes {
				if x == r {
					return true
				}
			}
			return false
		})
	}
}

// healedLocked makes what waited on these routes arrive soon: senders try
// again ever more rarely.
func (n *network) healedLocked(these func(route) bool) {
	for c := range n.conns {
		if these(c.in.route) && !n.heldLocked(c.in.route) {
			c.in.delayLocked(time.Now().Add(n.againLocked()))
		}
		c.out.stirLocked() // who waits to write to an end that is closed
	}
	close(n.whole)
	n.whole = make(chan struct{})
}

func (n *network) againLocked() time.Duration { return time.Duration(n.rng.Int64N(int64(time.Second))) }

func (n *network) heldLocked(r route) bool {
	return n.cuts[r] > 0 || n.hostLocked(r.from).off || n.hostLocked(r.to).off
}

// delayLocked is how long a message takes now.
func (n *network) delayLocked(r route) time.Duration {
	return n.base + time.Duration(n.rng.Int64N(int64(n.base/2+1))) + n.slow[r]
}

// slowDown makes routes slower by so much, or as fast as before.
func (n *network) slowDown(by time.Duration, routes ...route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range routes {
		n.slow[r] += by
	}
}

// drop resets connections between two hosts.
func (n *network) drop(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.in.route == (route{a, b}) || c.in.route == (route{b, a}) {
			c.resetLocked()
		}
	}
}

// stir makes everyone look again: a process was paused, or goes on.
func (n *network) stir() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.in.stirLocked()
		c.out.stirLocked() // the other end may be closed
	}
}

// travel takes one message over a route.
func (n *network) travel(ctx context.Context, r route) error {
	for {
		n.mu.Lock()
		held, whole, delay := n.heldLocked(r), n.whole, n.delayLocked(r)
		n.mu.Unlock()
		if held {
			select {
			case <-whole:
			case <-ctx.Done():
				return fmt.Errorf("%s to %s: %w", r.from, r.to, context.Cause(ctx))
			}
			n.mu.Lock()
			delay = n.againLocked()
			n.mu.Unlock()
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return fmt.Errorf("%s to %s: %w", r.from, r.to, context.Cause(ctx))
		}
		n.mu.Lock()
		held = n.heldLocked(r)
		n.mu.Unlock()
		if !held {
			return nil
		}
	}
}

// call has the node at a host do f and brings back its answer. With an error of
// the network f may have been done.
func (n *network) call(ctx context.Context, from *process, to string, f func(context.Context, *life) error) error {
	if err := from.pass(ctx); err != nil {
		return err
	}
	ctx, cancel := from.within(ctx)
	defer cancel()
	if err := n.travel(ctx, route{from.host, to}); err != nil {
		return err
	}
	n.mu.Lock()
	l := n.hostLocked(to).life
	n.mu.Unlock()
	answer := error(syscall.ECONNREFUSED)
	if l != nil {
		answer = l.answer(ctx, f)
	}
	if err := n.travel(ctx, route{to, from.host}); err != nil {
		return err
	}
	if err := from.pass(ctx); err != nil {
		return err
	}
	return answer
}
