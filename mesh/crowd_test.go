package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// pipes is a listener whose callers are pipes.
type pipes struct {
	in     chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.in:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

// call is one more caller, who says nothing.
func (p *pipes) call(t *testing.T) net.Conn {
	near, far := net.Pipe()
	p.in <- far
	t.Cleanup(func() { near.Close() })
	return near
}

// TestACrowdAtOneDoor: those who come to one listener and do not say who they
// are keep others from that one, for a while, and from no other.
func TestACrowdAtOneDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateConfig{})
		defer g.Close()
		said := func(s Service) Identify {
			return func(_ context.Context, c net.Conn) (Visit, error) {
				_, err := io.ReadFull(c, make([]byte, 1))
				return Visit{Service: s, Caller: Caller{Node: "n1"}}, err
			}
		}
		doors := map[Service]*pipes{Calls: newPipes(), Log: newPipes()}
		listeners := make(map[Service]net.Listener)
		for s, p := range doors {
			l, err := g.Listen(s, p.Addr(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Serve(p, said(s)); err != nil {
				t.Fatal(err)
			}
			listeners[s] = l
		}
		enter := func(s Service) error {
			c := doors[s].call(t)
			if _, err := c.Write([]byte{1}); err != nil {
				return err
			}
			_, err := listeners[s].Accept()
			return err
		}
		var crowd []net.Conn
		for range maxIdentifying {
			crowd = append(crowd, doors[Calls].call(t))
		}
		synctest.Wait()
		if err := enter(Calls); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a caller behind a crowd: %v, want it to be turned away", err)
		}
		if err := enter(Log); err != nil {
			t.Errorf("a caller at another door: %v", err)
		}
		for _, c := range crowd { // nobody may stand there for ever
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatalf("one who says nothing: %v, want the end", err)
			}
		}
		if err := enter(Calls); err != nil {
			t.Errorf("a caller after the crowd: %v", err)
		}
	})
}
