package tailnet

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/samnode/samnode/mesh"
)

// takeTimeout is how long a connection waits for the gate.
const takeTimeout = 5 * time.Second

// ListenPorts is Listen for mesh.Ports: all the ports of this node that no other
// service has and that open says yes to, for each connection. It must not block.
// They are served with TLS when the caller begins so, and this node has a
// certificate.
func (n *Node) ListenPorts(_ context.Context, open func(port uint16) bool) (net.Listener, error) {
	in := &flows{conns: make(chan net.Conn), done: make(chan struct{}), at: addr(n.Addr())}
	forget := n.srv.RegisterFallbackTCPHandler(func(_, dst netip.AddrPort) (func(net.Conn), bool) {
		if !open(dst.Port()) {
			return nil, false
		}
		return in.put, true
	})
	out, err := n.gate.Listen(mesh.Ports, in.at, func() error { forget(); return in.Close() })
	if err != nil {
		forget()
		return nil, err
	}
	if err := n.gate.Serve(in, n.identifyPort); err != nil {
		return nil, fmt.Errorf("listening on the tailnet for %s: %w", mesh.Ports, err)
	}
	return out, nil
}

// identifyPort is identify for a port that speaks what its caller does.
func (n *Node) identifyPort(ctx context.Context, c net.Conn) (mesh.Visit, error) {
	v, err := n.identify(mesh.Ports, nil)(ctx, c)
	if err != nil {
		return v, err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return v, fmt.Errorf("waiting for the caller's first word: %w", err)
	}
	const handshake = 22 // begins TLS, and no request of HTTP
	n.mu.Lock()
	secure := len(n.certs) > 0 && first[0] == handshake
	n.mu.Unlock()
	v.Wrap = func(c net.Conn) net.Conn {
		c = &begun{Conn: c, first: first}
		if secure {
			return tls.Server(c, n.tlsConfig())
		}
		return c
	}
	return v, nil
}

// begun is a connection whose first bytes were read already.
type begun struct {
	net.Conn
	first []byte
}

// Read implements io.Reader.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 && len(p) > 0 {
		k := copy(p, b.first)
		b.first = b.first[k:]
		return k, nil
	}
	return b.Conn.Read(p)
}

// NetConn is the connection itself, which knows who called.
func (b *begun) NetConn() net.Conn { return b.Conn }

// flows is a listener of connections that come one by one.
type flows struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	at    addr
}

func (f *flows) put(c net.Conn) {
	timer := time.NewTimer(takeTimeout)
	defer timer.Stop()
	select {
	case f.conns <- c:
	case <-f.done:
		c.Close()
	case <-timer.C:
		c.Close()
	}
}

// Accept implements net.Listener.
func (f *flows) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *flows) Close() error {
	f.once.Do(func() { close(f.done) })
	return nil
}

// Addr implements net.Listener.
func (f *flows) Addr() net.Addr { return f.at }
