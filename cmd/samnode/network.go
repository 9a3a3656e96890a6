package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/loopback"
	"github.com/samnode/samnode/mesh/tailnet"
	"github.com/samnode/samnode/ui/preview"
)

// openNetwork puts this node on its network. On a tailnet the person at this
// machine gets the pages on its loopback interface, too.
func (h *host) openNetwork(ctx context.Context, allow mesh.Allow) error {
	err := h.openMesh(ctx, allow)
	if err != nil {
		return err
	}
	h.client = mesh.NewClient(h.net.Dial, callCodes)
	h.onClose(func() error { h.client.Close(); return nil })
	h.nodes = mesh.NewHTTPClient(h.net.Dial)
	h.onClose(func() error { h.nodes.CloseIdleConnections(); return nil })
	h.base = h.net.URL()
	return nil
}

func (h *host) openMesh(ctx context.Context, allow mesh.Allow) error {
	if h.id.Network == onTailnet {
		return h.openTailnet(ctx, allow)
	}
	n, err := loopback.Up(ctx, loopback.Config{
		Listen: h.c.Listen, NodeAddr: h.id.NodeAddr, Secret: h.id.Secret, Allow: allow, Logger: h.c.Logger,
	})
	if err != nil {
		return err
	}
	h.net = n
	h.onClose(n.Close)
	if h.id.NodeAddr == n.Addr() {
		return nil
	}
	h.id.NodeAddr = n.Addr()
	if h.boot == "" {
		return nil // being set up: it is written down when that worked
	}
	return h.id.write(h.c.State)
}

// memoryLimit keeps the network's buffers small under bulk traffic: a core node
// is to stay within 150 MB (DESIGN.md section 9), its preallocated buffers of
// 34 MB included. It is a soft limit, so a node that needs more gets it.
const memoryLimit = 256 << 20

func (h *host) openTailnet(ctx context.Context, allow mesh.Allow) error {
	conf, err := h.id.tailnet(h.c, allow)
	if err != nil {
		return err
	}
	tailnet.LimitMemory(memoryLimit)
	n, err := tailnet.Up(ctx, conf)
	if err != nil {
		return err
	}
	h.net = n
	h.onClose(n.Close)
	if h.c.Listen == "off" {
		return nil
	}
	local, err := loopback.Up(ctx, loopback.Config{Listen: h.c.Listen, Secret: token(32), Logger: h.c.Logger})
	if err != nil {
		return err
	}
	h.local = local
	h.onClose(local.Close)
	return nil
}

// here is the URL of the pages for the person at this machine.
func (h *host) here() string {
	if h.local != nil {
		return h.local.URL()
	}
	return h.base
}

// tailnet is how the identity is on its tailnet.
func (id identity) tailnet(c Config, allow mesh.Allow) (tailnet.Config, error) {
	conf := tailnet.Config{
		Dir: c.dir("tailnet"), Hostname: id.Hostname, ControlURL: id.Control, AuthKey: c.AuthKey, Port: id.UDPPort,
		RequestTag: id.RequestTag, Allow: allow, Logger: c.Logger, Login: c.Login,
	}
	if id.Shared == "" {
		return conf, nil
	}
	var err error
	if conf.SharedAddr, err = netip.ParseAddr(id.Shared); err != nil {
		return conf, &exitError{exitUsage, fmt.Sprintf("--shared-address %q is no address: %v", id.Shared, err)}
	}
	return conf, nil
}

// servePages answers people on each of the node's networks.
func (h *host) servePages(ctx context.Context, g *errgroup.Group, handler http.Handler, drain func()) error {
	for _, n := range []network{h.net, h.local} {
		if n == nil {
			continue
		}
		l, err := n.Listen(ctx, mesh.Pages)
		if err != nil {
			return fmt.Errorf("listening for people: %w", err)
		}
		g.Go(func() error {
			return mesh.Serve(ctx, mesh.ServeConfig{Listener: l, Handler: handler, Host: hostsOf(n), Drain: drain, Logger: h.c.Logger})
		})
	}
	return nil
}

// serveCalls answers other nodes.
func (h *host) serveCalls(ctx context.Context, g *errgroup.Group, handler http.Handler) error {
	l, err := h.net.Listen(ctx, mesh.Calls)
	if err != nil {
		return fmt.Errorf("listening for other nodes: %w", err)
	}
	g.Go(func() error {
		return mesh.Serve(ctx, mesh.ServeConfig{Listener: l, Handler: handler, Logger: h.c.Logger})
	})
	return nil
}

// transport carries Raft over the mesh. Nil: this node is a mesh of its own,
// and stays one.
func (h *host) transport(ctx context.Context) (consensus.Transport, error) {
	if h.c.Alone {
		return nil, nil
	}
	l, err := h.net.Listen(ctx, mesh.Log)
	if err != nil {
		return nil, fmt.Errorf("listening for the log: %w", err)
	}
	return &logTransport{l, h.net}, nil
}

// logTransport is the mesh as the log sees it.
type logTransport struct {
	net.Listener
	net network
}

// Dial implements consensus.Transport.
func (t *logTransport) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return t.net.Dial(ctx, addr, mesh.Log)
}

// Addr implements net.Listener.
func (t *logTransport) Addr() net.Addr { return meshAddr(t.net.Addr()) }

// meshAddr is a node's stable address.
type meshAddr string

func (meshAddr) Network() string  { return "mesh" }
func (a meshAddr) String() string { return string(a) }

// hostsOf are the names of a node's pages on a network, and of previews. Those
// are below localhost, so nobody else's page can go by one; `samnode open`
// brings them here.
func hostsOf(n network) func(name string) bool {
	return func(name string) bool { return n.Host(name) || preview.IsHost(name) }
}
