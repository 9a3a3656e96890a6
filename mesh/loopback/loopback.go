// Package loopback is the mesh of one machine: it listens on the loopback
// interface only, and people are the user who runs the node, and root. Other
// nodes of the mesh are told by a secret that they share.
//
// It refuses what a browser could be tricked into: a Host header that is not a
// loopback name (DNS rebinding), and a listen address that others can reach.
package loopback

import (
	"context"
	"fmt"
	"net"
	"os/user"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
)

// owner is the operating system's current user, whose mesh it is.
func owner() (mesh.Caller, error) {
	u, err := user.Current()
	if err != nil {
		return mesh.Caller{}, fmt.Errorf("finding out who runs this node: %w", err)
	}
	return mesh.Caller{Person: chat.Person(u.Username), Local: true}.Granted([]mesh.Grant{{Role: mesh.Owner}}), nil
}

// listen listens on a TCP address of the loopback interface.
func listen(ctx context.Context, addr string) (net.Listener, error) {
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

// IsLoopback says whether a host name or address is one of this machine itself.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
