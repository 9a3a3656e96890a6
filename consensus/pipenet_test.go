package consensus

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// pipeNet connects nodes by net.Pipe. A node that is cut off reaches nobody
// and nobody reaches it. What a node asks for, is asked and answers can be held
// up each, and arrives once it is let go.
type pipeNet struct {
	mu    sync.Mutex
	nodes map[string]*pipeTransport
	off   map[string]bool
	gates map[gate]chan struct{} // closed while open
}

// gate is one way of traffic of a node.
type gate struct {
	node string
	way  way
}

type way int

const (
	sends    way = iota // all that it writes
	requests            // what it reads of connections that others dialled
	answers             // what it reads of connections that it dialled
)

func newPipeNet() *pipeNet {
	return &pipeNet{
		nodes: make(map[string]*pipeTransport),
		off:   make(map[string]bool),
		gates: make(map[gate]chan struct{}),
	}
}

// pipeTransport is one node's Transport.
type pipeTransport struct {
	net    *pipeNet
	addr   string
	in     chan net.Conn
	closed chan struct{}
	once   sync.Once

	conns []net.Conn // both ends of all; protected by net.mu
}

func (n *pipeNet) transport(addr string) *pipeTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &pipeTransport{net: n, addr: addr, in: make(chan net.Conn), closed: make(chan struct{})}
	n.nodes[addr] = t
	return t
}

// hold stops traffic of a node, or lets it through.
func (n *pipeNet) hold(on bool, node string, ways ...way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range ways {
		if g := (gate{node, w}); on {
			n.gates[g] = make(chan struct{})
		} else {
			close(n.gates[g])
			delete(n.gates, g)
		}
	}
}

// pipeConn is one node's end of a connection.
type pipeConn struct {
	net.Conn
	net   *pipeNet
	addr  string
	reads way
	end   chan struct{}
	once  sync.Once
}

func (c *pipeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.pass(c.reads)
	return n, err
}

func (c *pipeConn) Write(p []byte) (int, error) {
	c.pass(sends)
	return c.Conn.Write(p)
}

func (c *pipeConn) pass(w way) {
	c.net.mu.Lock()
	closed := c.net.gates[gate{c.addr, w}]
	c.net.mu.Unlock()
	if closed == nil {
		return
	}
	select {
	case <-closed:
	case <-c.end:
	}
}

func (c *pipeConn) Close() error {
	c.once.Do(func() { close(c.end) })
	return c.Conn.Close()
}

// cut takes a node off the network, or puts it back.
func (n *pipeNet) cut(addr string, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.off[addr] = off
	if off {
		for _, c := range n.nodes[addr].conns {
			c.Close()
		}
	}
}

func (t *pipeTransport) Dial(ctx context.Context, addr string) (net.Conn, error) {
	one, other := net.Pipe()
	near := &pipeConn{Conn: one, net: t.net, addr: t.addr, reads: answers, end: make(chan struct{})}
	far := &pipeConn{Conn: other, net: t.net, addr: addr, reads: requests, end: make(chan struct{})}
	t.net.mu.Lock()
	peer, off := t.net.nodes[addr], t.net.off[addr] || t.net.off[t.addr]
	if peer != nil && !off {
		t.conns = append(t.conns, near)
		peer.conns = append(peer.conns, far)
	}
	t.net.mu.Unlock()
	if peer == nil || off {
		return nil, fmt.Errorf("%s cannot be reached", addr)
	}
	select {
	case peer.in <- far:
		return near, nil
	case <-peer.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *pipeTransport) Accept() (net.Conn, error) {
	select {
	case c := <-t.in:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

func (t *pipeTransport) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

func (t *pipeTransport) Addr() net.Addr { return pipeAddr(t.addr) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }
