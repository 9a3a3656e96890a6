package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// transport is a process's consensus.Transport.
type transport struct {
	net    *network
	proc   *process
	addr   string
	closed chan struct{}
}

func (n *network) transport(p *process, addr string) *transport {
	return &transport{net: n, proc: p, addr: addr, closed: make(chan struct{})}
}

// Dial connects as TCP does: over a cut route it waits, where nothing listens
// it is refused.
func (t *transport) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n, to := t.net, hostOf(addr)
	if err := t.proc.pass(ctx); err != nil {
		return nil, err
	}
	if err := n.travel(ctx, route{t.proc.host, to}); err != nil {
		return nil, err
	}
	near := n.connect(t.proc, addr)
	if err := n.travel(ctx, route{to, t.proc.host}); err != nil {
		if near != nil {
			near.Close()
		}
		return nil, err
	}
	if near == nil {
		return nil, fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)
	}
	return near, t.proc.pass(context.Background())
}

// connect makes a connection that waits at addr to be accepted, nil: nothing
// listens there.
func (n *network) connect(p *process, addr string) *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hostLocked(hostOf(addr))
	if h.in == nil || h.addr != addr || p.dead() {
		return nil
	}
	there, back := &pipe{route: route{p.host, h.proc.host}}, &pipe{route: route{h.proc.host, p.host}}
	near, far := &conn{net: n, near: p, in: back, out: there}, &conn{net: n, near: h.proc, in: there, out: back}
	select {
	case h.in <- far:
	default:
		return nil // the backlog is full
	}
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near
}

// Accept implements net.Listener.
func (t *transport) Accept() (net.Conn, error) {
	t.net.mu.Lock()
	in := t.net.hostLocked(t.proc.host).in
	if t.net.hosts[t.proc.host].proc != t.proc {
		in = nil
	}
	t.net.mu.Unlock()
	select {
	case c := <-in:
		return c, t.proc.pass(context.Background())
	case <-t.closed:
	case <-t.proc.ctx.Done():
		<-t.closed // its end is on the way
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (t *transport) Close() error {
	close(t.closed)
	return nil
}

// Addr implements net.Listener.
func (t *transport) Addr() net.Addr { return address(t.addr) }

type address string

func (address) Network() string  { return "chaos" }
func (a address) String() string { return string(a) }

// pipe is one direction of a connection. network.mu protects it.
type pipe struct {
	route route
	queue []chunk
	size  int       // bytes in queue
	last  time.Time // arrival of the newest
	fin   bool      // nothing follows
	reset bool      // the same, and the other end is gone
	gone  bool      // nobody reads any more
	wake  chan struct{}
}

// chunk is what one Write wrote.
type chunk struct {
	at   time.Time // of its arrival
	data []byte
}

// stirLocked makes who waits look again.
func (p *pipe) stirLocked() {
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// delayLocked makes what is under way arrive at that time at the earliest.
func (p *pipe) delayLocked(to time.Time) {
	for i := range p.queue {
		if p.queue[i].at.Before(to) {
			p.queue[i].at = to
		}
	}
	if p.last.Before(to) {
		p.last = to
	}
	p.stirLocked()
}

// conn is one end of a connection. network.mu protects its fields.
type conn struct {
	net    *network
	near   *process
	in     *pipe
	out    *pipe
	closed bool
	rd, wd time.Time // deadlines
}

// waitLocked waits until something changes in a pipe, or for until.
func (n *network) waitLocked(p *pipe, until time.Time) {
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	wake := p.wake
	n.mu.Unlock()
	defer n.mu.Lock()
	if until.IsZero() {
		<-wake
		return
	}
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	select {
	case <-wake:
	case <-late.C:
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, p := c.net, c.in
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		until, now := c.rd, time.Now()
		paused, _ := c.near.state()
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case paused:
			until = time.Time{} // it notices later
		case !c.rd.IsZero() && !now.Before(c.rd):
			return 0, os.ErrDeadlineExceeded
		case n.heldLocked(p.route):
		case len(p.queue) > 0 && now.Before(p.queue[0].at):
			until = earlier(until, p.queue[0].at)
		case len(p.queue) > 0:
			return p.takeLocked(b), nil
		case p.reset:
			return 0, syscall.ECONNRESET
		case p.fin && now.Before(p.last):
			until = earlier(until, p.last)
		case p.fin:
			return 0, io.EOF
		}
		n.waitLocked(p, until)
	}
}

func (p *pipe) takeLocked(b []byte) int {
	head := &p.queue[0]
	k := copy(b, head.data)
	head.data = head.data[k:]
	p.size -= k
	if len(head.data) == 0 {
		p.queue = p.queue[1:]
	}
	p.stirLocked()
	return k
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, p := c.net, c.out
	if c.near.sends() {
		return 0, errDead
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		until := c.wd
		paused, _ := c.near.state()
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case paused:
			until = time.Time{}
		case !c.wd.IsZero() && !time.Now().Before(c.wd):
			return 0, os.ErrDeadlineExceeded
		case p.gone && !n.heldLocked(p.route) && !n.heldLocked(c.in.route):
			return 0, syscall.EPIPE
		case p.size == 0 || p.size+len(b) <= window:
			at := time.Now().Add(n.delayLocked(p.route))
			if at.Before(p.last) {
				at = p.last
			}
			p.last = at
			p.queue = append(p.queue, chunk{at, append([]byte(nil), b...)})
			p.size += len(b)
			p.stirLocked()
			return len(b), nil
		}
		n.waitLocked(p, until)
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.closeLocked(false)
	return nil
}

// closeLocked ends this end. What is under way arrives unless it is lost.
func (c *conn) closeLocked(lost bool) {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.net.conns, c)
	c.out.fin, c.in.gone = true, true
	if at := time.Now().Add(c.net.delayLocked(c.out.route)); c.out.last.Before(at) {
		c.out.last = at
	}
	if lost {
		c.out.reset, c.out.queue, c.out.size = true, nil, 0
	}
	c.in.stirLocked()
	c.out.stirLocked()
}

// resetLocked breaks the connection for both ends, but for what is cut off.
func (c *conn) resetLocked() {
	for _, p := range []*pipe{c.in, c.out} {
		p.reset, p.gone, p.queue, p.size = true, true, nil, 0
		p.stirLocked()
	}
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return address(c.out.route.from) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return address(c.out.route.to) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.deadline(&c.rd, c.in, t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.deadline(&c.wd, c.out, t) }

func (c *conn) deadline(field *time.Time, p *pipe, t time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if *field = t; !t.IsZero() {
		p.stirLocked()
	}
	return nil
}
