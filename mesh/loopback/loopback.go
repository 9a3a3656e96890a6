// Package loopback is the mesh of one machine: it listens on the loopback
// interface only, and whoever can connect is the person who runs the node.
//
// It refuses what a browser could be tricked into: a Host header that is not a
// loopback name (DNS rebinding), and a listen address that others can reach.
package loopback

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/user"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
)

// Mesh is the loopback twin.
type Mesh struct {
	caller mesh.Caller
}

// New returns the loopback mesh of the operating system's current user, who is
// its owner.
func New() (*Mesh, error) {
	u, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("finding out who runs this node: %w", err)
	}
	return &Mesh{caller: mesh.Caller{Person: chat.Person(u.Username), Role: mesh.Owner}}, nil
}

// Listen listens on a TCP address of the loopback interface.
func (m *Mesh) Listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", addr, err)
	}
	if !IsLoopback(host) {
		return nil, fmt.Errorf("listening on %s: without a tailnet there is no login, so samnode serves loopback addresses only; use 127.0.0.1:PORT and ssh -L, or join a tailnet", addr)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l, nil
}

// WhoIs says who sent a request that came through Listen.
func (m *Mesh) WhoIs(r *http.Request) (mesh.Caller, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !IsLoopback(host) {
		return mesh.Caller{}, fmt.Errorf("call from %s: %w", r.RemoteAddr, mesh.ErrNotLocal)
	}
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	if !IsLoopback(name) {
		return mesh.Caller{}, fmt.Errorf("call for host %q: %w", r.Host, mesh.ErrNotLocal)
	}
	return m.caller, nil
}

// IsLoopback says whether a host name or address is one of this machine itself.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
