package loopback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/mesh"
)

const dialTimeout = 5 * time.Second // where the caller sets none

// Config is what a node of a mesh on one machine needs.
type Config struct {
	// Listen is where people reach the pages, an address of the loopback
	// interface. Empty: 127.0.0.1:7070. Port 0 picks one.
	Listen string
	// NodeAddr is where the other nodes reach this one and its address in the
	// mesh: keep what Addr says and give it the next time. Empty picks a port of
	// 127.0.0.1.
	NodeAddr string
	// Secret is shared by the nodes of the mesh and keeps other programs of this
	// machine away from what is between nodes. At least 16 bytes.
	Secret []byte
	Allow  mesh.Allow   // nil: every node that has the secret
	Logger *slog.Logger // nil: none
}

// Node is one of several nodes of a mesh on one machine. The nodes share a
// secret; people are whoever runs this node, and root.
type Node struct {
	owner  mesh.Caller // who people are
	gate   *mesh.Gate
	secret []byte
	addr   string       // of this node in the mesh
	pages  net.Listener // people's, raw
	uid    int          // who may use the pages, beside root

	mu    sync.Mutex
	known map[string]*peer // :: address → what was seen of it
}

type peer struct {
	online bool
	seen   time.Time
}

// Up opens the ports of a node. Nothing is accepted before Listen, and calls
// between nodes only for services that are listened for. Close it.
func Up(ctx context.Context, c Config) (*Node, error) {
	if len(c.Secret) < 16 {
		return nil, errors.New("joining the mesh on this machine: its secret has less than 16 bytes")
	}
	person, err := owner()
	if err != nil {
		return nil, err
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:7070"
	}
	if c.NodeAddr == "" {
		c.NodeAddr = "127.0.0.1:0"
	}
	pages, err := listen(ctx, c.Listen)
	if err != nil {
		return nil, err
	}
	nodes, err := listen(ctx, c.NodeAddr)
	if err != nil {
		return nil, errors.Join(err, pages.Close())
	}
	n := &Node{
		owner: person, secret: slices.Clone(c.Secret), addr: nodes.Addr().String(), pages: pages, uid: os.Getuid(),
		gate:  mesh.NewGate(mesh.GateConfig{Allow: c.Allow, Logger: c.Logger}),
		known: make(map[string]*peer),
	}
	if err := n.gate.Serve(nodes, n.answer); err != nil {
		return nil, errors.Join(err, pages.Close())
	}
	return n, nil
}

// Addr is this node's address in the mesh.
func (n *Node) Addr() string { return n.addr }

// URL is where people on this machine reach the pages.
func (n *Node) URL() string { return "http://" + n.pages.Addr().String() }

// Host says whether a request for a name may be answered by the pages.
func (n *Node) Host(name string) bool { return IsLoopback(name) }

// Warnings is empty: a loopback interface has no bad days.
func (n *Node) Warnings() []string { return nil }

// Listen returns the listener of a service, once at a time. Its connections may
// use the service and have a method Caller() mesh.Caller.
func (n *Node) Listen(_ context.Context, s mesh.Service) (net.Listener, error) {
	if s != mesh.Pages {
		return n.gate.Listen(s, addr(n.addr), nil)
	}
	l, err := n.gate.Listen(s, n.pages.Addr(), n.pages.Close)
	if err != nil {
		return nil, err
	}
	if err := n.gate.Serve(n.pages, n.person); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Dial connects to a service of the node at address to, which is to be a node
// of this mesh.
func (n *Node) Dial(ctx context.Context, to string, s mesh.Service) (net.Conn, error) {
	err := n.gate.Check(ctx, s, mesh.Caller{Node: to, Name: to, Local: true})
	var c net.Conn
	if err == nil {
		c, err = n.dial(ctx, to, s)
		n.saw(to, err == nil)
	}
	if err != nil {
		return nil, fmt.Errorf("calling %s of node %s: %w", s, to, err)
	}
	return c, nil
}

func (n *Node) dial(ctx context.Context, to string, s mesh.Service) (net.Conn, error) {
	host, _, err := net.SplitHostPort(to)
	if err != nil || !IsLoopback(host) {
		return nil, fmt.Errorf("%w: nodes without a tailnet are at loopback addresses", mesh.ErrUnreachable)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mesh.ErrUnreachable, err)
	}
	c, err := n.gate.Track(raw)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // it may be closed
	err = n.greet(c, to, s)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Peers are the nodes that called or were dialled since this one started.
func (n *Node) Peers(ctx context.Context) ([]mesh.Peer, error) {
	n.mu.Lock()
	var list []mesh.Peer
	for addr, p := range n.known {
		list = append(list, mesh.Peer{Addr: addr, Name: addr, Online: p.online, Path: "loopback", Seen: p.seen})
	}
	n.mu.Unlock()
	slices.SortFunc(list, func(a, b mesh.Peer) int { return strings.Compare(a.Addr, b.Addr) })
	var wg sync.WaitGroup
	for i := range list {
		wg.Go(func() { n.measure(ctx, &list[i]) })
	}
	wg.Wait()
	return list, ctx.Err()
}

// Close ends every listener and connection of the node.
func (n *Node) Close() error {
	err := n.gate.Close()
	if e := n.pages.Close(); !errors.Is(e, net.ErrClosed) { // nobody listened
		err = errors.Join(err, e)
	}
	return err
}

func (n *Node) saw(addr string, online bool) {
	if addr == n.addr {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.known[addr]
	if p == nil {
		p = new(peer)
		n.known[addr] = p
	}
	if p.online = online; online {
		p.seen = time.Now()
	}
}

// addr is a node's address as a net.Addr.
type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
