package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// entrance is the listener of one service.
type entrance struct {
	g       *Gate
	service Service
	addr    net.Addr
	closing func() error
	conns   chan net.Conn
	done    chan struct{} // closed by Close
	once    sync.Once
}

// put hands a connection to whoever accepts.
func (e *entrance) put(ctx context.Context, c net.Conn) error {
	select {
	case e.conns <- c:
		select {
		case <-e.done:
			e.drain()
		default:
		}
		return nil
	case <-e.done:
		return fmt.Errorf("calling %s: %w", e.service, net.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("calling %s: this node is too busy to answer", e.service)
	}
}

// Accept implements net.Listener.
func (e *entrance) Accept() (net.Conn, error) {
	select {
	case <-e.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-e.conns:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (e *entrance) Addr() net.Addr { return e.addr }

// Close implements net.Listener. Connections that were taken stay open, the
// others are closed.
func (e *entrance) Close() error {
	err := net.ErrClosed
	e.once.Do(func() {
		err = nil
		e.g.mu.Lock()
		delete(e.g.services, e.service)
		e.g.mu.Unlock()
		close(e.done)
		if e.closing != nil {
			err = e.closing()
		}
		e.drain()
	})
	return err
}

// drain closes what nobody will take.
func (e *entrance) drain() {
	for {
		select {
		case c := <-e.conns:
			c.Close()
		default:
			return
		}
	}
}

// tracked is a connection that the gate knows until it is closed.
type tracked struct {
	net.Conn
	g           *Gate
	from, local net.Addr // as they were at the begin, never nil
}

// LocalAddr implements net.Conn.
func (c *tracked) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *tracked) RemoteAddr() net.Addr { return c.from }

// hungUp is the address of a connection that the network has forgotten: a
// tailnet's has none, not even an empty one, once the other side has hung up.
type hungUp struct{}

func (hungUp) Network() string { return "tcp" }
func (hungUp) String() string  { return "somebody who has hung up" }

// addrOf is an address that can be asked.
func addrOf(a net.Addr) net.Addr {
	if a == nil {
		return hungUp{}
	}
	return a
}

// Close implements net.Conn.
func (c *tracked) Close() error {
	c.g.mu.Lock()
	delete(c.g.open, c)
	c.g.mu.Unlock()
	return c.Conn.Close()
}

// NetConn is the connection as the network made it.
func (c *tracked) NetConn() net.Conn { return c.Conn }

// CloseWrite says that nothing more is written; the other way stays open.
func (c *tracked) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// conn is an accepted connection, which knows who called.
type conn struct {
	*tracked
	caller Caller
	again  func() Caller
}

// Caller says who is at the other end, now.
func (c *conn) Caller() Caller {
	if c.again == nil {
		return c.caller
	}
	return c.again()
}
