package shim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const guestWait = 15 * time.Second // a connection to a listener that nobody fetches

// Address is a place in the workspace: a port of its loopback interface, or
// the path of a unix socket.
type Address struct {
	Host string `json:"host,omitempty"` // empty, "localhost", a loopback address, the container's name
	Port int    `json:"port,omitempty"`
	Path string `json:"path,omitempty"` // of a unix socket; instead of a port
}

// String is the address as people write it.
func (a Address) String() string {
	if a.Path != "" {
		return a.Path
	}
	return net.JoinHostPort(firstOf(a.Host, "localhost"), strconv.Itoa(a.Port))
}

// hosts are the addresses to try. A workspace has no network of its own, so
// everything but its loopback interface is refused.
func (a Address) hosts() ([]string, error) {
	host := strings.ToLower(strings.TrimSuffix(a.Host, "."))
	name, err := os.Hostname()
	if err == nil && host == strings.ToLower(name) {
		host = ""
	}
	switch host {
	case "", "*", "localhost", "0.0.0.0", "::", "ip6-localhost":
		return []string{"127.0.0.1", "::1"}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return []string{ip.String()}, nil
	}
	return nil, fmt.Errorf("%w: %.100q is outside the workspace, which has no network of its own; localhost is the workspace itself", ErrRefused, a.Host)
}

// path is that of a unix socket, absolute.
func (s *server) path(a Address) string {
	if filepath.IsAbs(a.Path) {
		return a.Path
	}
	return filepath.Join(s.config.Home, a.Path)
}

// dial joins the connection with an address of the workspace.
func (s *server) dial(ctx context.Context, c *net.UnixConn, w *frameWriter, q request) error {
	if q.Address == nil {
		return refuse(w, fmt.Errorf("%w: dial needs an address", ErrInvalid))
	}
	to, err := s.dialInside(ctx, *q.Address)
	if err != nil {
		return refuse(w, err)
	}
	defer to.Close()
	if err := w.writeJSON(kindAnswer, answer{}); err != nil {
		return err
	}
	join(c, to)
	return nil
}

func (s *server) dialInside(ctx context.Context, a Address) (net.Conn, error) {
	if err := s.refuseOwn(a); err != nil {
		return nil, err
	}
	var d net.Dialer
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if a.Path != "" {
		c, err := d.DialContext(ctx, "unix", s.path(a))
		if err != nil {
			return nil, said(a, err)
		}
		return c, nil
	}
	hosts, err := a.hosts()
	if err != nil {
		return nil, err
	}
	var first error
	for _, host := range hosts {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(a.Port)))
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, said(a, first)
}

// said leaves out of the network's error what the address says already.
func said(a Address, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return fmt.Errorf("%s: %w", a, err)
}

// guest is somebody who connected to a listener, and waits to be fetched.
type guest struct {
	ID   string `json:"id"`
	From string `json:"from"` // address
}

// guests are the connections that nobody has fetched yet.
type guests struct {
	mu      sync.Mutex
	waiting map[string]net.Conn // :: id → connection
}

func (g *guests) add(c net.Conn) guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.waiting = map[string]net.Conn{}
	}
	id := rand.Text()
	g.waiting[id] = c
	time.AfterFunc(guestWait, func() {
		if c := g.take(id); c != nil {
			c.Close()
		}
	})
	return guest{ID: id, From: c.RemoteAddr().String()}
}

func (g *guests) take(id string) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.waiting[id]
	delete(g.waiting, id)
	return c
}

// listen tells of each connection to an address of the workspace, for as long
// as the caller stays.
func (s *server) listen(ctx context.Context, c *net.UnixConn, w *frameWriter, q request) error {
	if q.Address == nil {
		return refuse(w, fmt.Errorf("%w: listen needs an address", ErrInvalid))
	}
	l, err := s.listenInside(*q.Address)
	if err != nil {
		return refuse(w, err)
	}
	defer l.Close()
	a := answer{}
	if at, ok := l.Addr().(*net.TCPAddr); ok {
		a.Port = at.Port
	}
	if err := w.writeJSON(kindAnswer, a); err != nil {
		return err
	}
	ctx, cancel := untilGone(ctx, c)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		in, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting at %s: %w", q.Address, err)
		}
		if err := w.writeJSON(kindGuest, s.guests.add(in)); err != nil {
			return err
		}
	}
}

func (s *server) listenInside(a Address) (net.Listener, error) {
	network, at := "unix", s.path(a)
	if a.Path == "" {
		hosts, err := a.hosts()
		if err != nil {
			return nil, err
		}
		network, at = "tcp", net.JoinHostPort(hosts[0], strconv.Itoa(a.Port))
	}
	l, err := net.Listen(network, at) //nolint:noctx // waits for nobody
	if err != nil {
		return nil, said(a, err)
	}
	return l, nil
}

// accept joins the connection with a guest.
func (s *server) accept(c *net.UnixConn, w *frameWriter, q request) error {
	in := s.guests.take(q.ID)
	if in == nil {
		return refuse(w, fmt.Errorf("%w: the connection is gone", ErrNotRunning))
	}
	defer in.Close()
	if err := w.writeJSON(kindAnswer, answer{}); err != nil {
		return err
	}
	join(c, in)
	return nil
}
