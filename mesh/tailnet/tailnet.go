// Package tailnet is the mesh over a tailnet: Tailscale's, or one whose control
// server is headscale. It runs a whole tailnet node inside this process; on the
// host nothing listens but one UDP port of WireGuard.
//
// Nodes are told by their tag, people by their login. Both come from the
// network, for each connection, and never from a header. Policy files are the
// user's and may allow everything, so who may use what is checked here as well.
//
// Only this package and mesh/meshtest know tailscale.com.
package tailnet

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tailscale.com/client/local"
	"tailscale.com/envknob"
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tsnet"

	"github.com/samnode/samnode/mesh"
)

// What a policy file is to name.
const (
	DefaultTag        = "tag:samnode"
	DefaultCapability = "samnode.dev/cap/samnode"
)

// The ports of the services. Pages have two.
const (
	portSSH   = 22
	portHTTP  = 80
	portHTTPS = 443
	portLog   = 6270
	portCalls = 6271
)

const (
	upTimeout   = 2 * time.Minute // where the caller sets none
	dialTimeout = 10 * time.Second
)

// Config is what a node on a tailnet needs.
type Config struct {
	// Dir holds the node's key: who has a copy of it is this node. It is made
	// with mode 0700, and is to lie outside every workspace.
	Dir string
	// Hostname is what the node asks to be called. It may get another name.
	Hostname string
	// ControlURL is the control server. Empty: Tailscale's.
	ControlURL string
	// AuthKey lets a new node in, and is not looked at again. Its tags are the
	// node's. Empty: a person logs in, see Login.
	AuthKey string
	// Ephemeral nodes vanish from the tailnet when they are gone. With headscale
	// the key decides.
	Ephemeral bool
	// Port is the UDP port of WireGuard, different for each node of a host. Keep
	// it with the state: a node that comes back on another port is not reached for
	// 5 s. 0 picks one.
	Port uint16
	// Tag tells nodes of this mesh from everything else. Empty: DefaultTag.
	Tag string
	// RequestTag asks the control server for the tag, for a person who owns it and
	// logs in. A key carries its tags itself, and headscale refuses to be asked
	// beside it. It is not to change later.
	RequestTag bool
	// Capability is the app capability by which the policy grants roles to people.
	// Empty: DefaultCapability.
	Capability string
	// Allow is asked about nodes with the tag. Nil: they may.
	Allow mesh.Allow
	// Login is told where a person can let this node in. Nil: that is an error.
	Login func(url string)
	// SharedAddr is an address on which every node serves the pages, too, and which
	// each announces as a route: whoever is alive answers. The policy has to
	// approve it, and people's devices to accept routes. Zero: none.
	SharedAddr netip.Addr
	// Names are further host names of the pages, such as the one of SharedAddr.
	Names []string
	// NoHTTPS leaves the tailnet's certificates alone.
	NoHTTPS bool
	Logger  *slog.Logger // nil: none
}

// Node is this process on a tailnet.
type Node struct {
	c      Config
	logger *slog.Logger
	srv    *tsnet.Server
	lc     *local.Client
	gate   *mesh.Gate
	who    callers
	status statusCache
	met    sync.Map        // :: id of a peer that knows this node's key → true
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // what watches until then

	mu     sync.Mutex
	self   *ipnstate.PeerStatus
	suffix string    // of the tailnet's names
	certs  []string  // names that the control server gives certificates for
	secure bool      // there is a certificate
	noCert error     // why there is none
	clock  error     // what is wrong with it
	off    error     // why this node is off the tailnet; nil: it is not
	login  string    // where a person can let it in again; "": it is in
	away   time.Time // since when the control server is; zero: it is not
}

// Up joins the tailnet, or comes back to it, and returns when the node is
// reachable. Its errors say what to do. Without a deadline of ctx it waits for
// two minutes. Close the node.
func Up(ctx context.Context, c Config) (*Node, error) {
	c.Tag, c.Capability = cmp.Or(c.Tag, DefaultTag), cmp.Or(c.Capability, DefaultCapability)
	if c.Dir == "" {
		return nil, errors.New("joining the tailnet: no directory for the node's key")
	}
	if err := CheckInterfaces(); err != nil {
		return nil, fmt.Errorf("joining the tailnet: %w", err)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("joining the tailnet: %w", err)
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("joining the tailnet: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	envknob.SetNoLogsNoSupport() // what nodes say to each other is nobody else's business
	n := &Node{c: c, logger: c.Logger, gate: mesh.NewGate(mesh.GateConfig{Allow: c.Allow, Logger: c.Logger})}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.srv = &tsnet.Server{
		Dir: c.Dir, Hostname: c.Hostname, ControlURL: c.ControlURL, AuthKey: c.AuthKey,
		Ephemeral: c.Ephemeral, Port: c.Port, Logf: n.logf, UserLogf: n.logf,
	}
	if c.RequestTag {
		n.srv.AdvertiseTags = []string{c.Tag}
	}
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("joining the tailnet: %w", err), n.Close())
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, upTimeout)
		defer cancel()
	}
	var err error
	if n.lc, err = n.srv.LocalClient(); err != nil { // starts it
		return n.explain(err.Error())
	}
	if err := n.awaitRunning(ctx); err != nil {
		return err
	}
	n.awaitMap(ctx)
	status, err := n.srv.Up(ctx)
	if err != nil {
		return n.explain(err.Error())
	}
	if status, err = n.awaitTag(ctx, status); err != nil {
		return err
	}
	n.learn(status)
	if n.c.SharedAddr.IsValid() {
		if err := n.announceShared(ctx); err != nil {
			return err
		}
	}
	n.tasks.Go(n.watch)
	return nil
}

// logf keeps the network's own lines out of the log of people.
func (n *Node) logf(format string, args ...any) {
	if n.logger.Enabled(n.ctx, slog.LevelDebug) {
		n.logger.Debug("Tailnet", "line", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// learn keeps what the network says about this node. While the node is off, what
// it was before counts.
func (n *Node) learn(s *ipnstate.Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// A node that started with what it knew of the tailnet runs on while the
	// control server waits for a person.
	if n.login = s.AuthURL; n.login == "" && s.BackendState == ipn.NeedsLogin.String() {
		n.login = n.control()
	}
	if n.off = nil; s.BackendState != ipn.Running.String() {
		n.off = fmt.Errorf("%w: the network stack says %s", mesh.ErrNotUp, s.BackendState)
		return
	}
	n.self = s.Self
	n.certs = s.CertDomains
	if n.c.NoHTTPS {
		n.certs = nil
	}
	if s.CurrentTailnet != nil {
		n.suffix = s.CurrentTailnet.MagicDNSSuffix
	}
}

// Addr is this node's address in the mesh, for as long as it has its Dir.
func (n *Node) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return string(n.self.ID)
}

// Name is the node's host name on the tailnet: the one it asked for, unless
// another had it.
func (n *Node) Name() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return shortName(n.self)
}

// URL is where people reach the pages. It is a secure origin for browsers when
// the tailnet gave this node a certificate.
func (n *Node) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.secure {
		return "https://" + n.certs[0]
	}
	return "http://" + fullName(n.self)
}

// Host says whether a request for a name may be answered by the pages.
func (n *Node) Host(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == fullName(n.self) || name == shortName(n.self) {
		return true
	}
	for _, own := range slices.Concat(n.certs, n.c.Names) {
		if name == strings.ToLower(own) {
			return true
		}
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	if err != nil {
		return false
	}
	return slices.Contains(slices.Concat(n.self.TailscaleIPs, []netip.Addr{n.c.SharedAddr}), ip)
}

// fullName is a host name with the tailnet's domain, or an address where the
// tailnet has no names.
func fullName(p *ipnstate.PeerStatus) string {
	if name := strings.TrimSuffix(p.DNSName, "."); name != "" {
		return strings.ToLower(name)
	}
	if len(p.TailscaleIPs) > 0 {
		return p.TailscaleIPs[0].String()
	}
	return strings.ToLower(p.HostName)
}

func shortName(p *ipnstate.PeerStatus) string {
	name, _, _ := strings.Cut(strings.ToLower(cmp.Or(p.DNSName, p.HostName)), ".")
	return name
}

func port(s mesh.Service) (int, error) {
	switch s {
	case mesh.Pages:
		return portHTTP, nil
	case mesh.Log:
		return portLog, nil
	case mesh.Calls:
		return portCalls, nil
	case mesh.SSH:
		return portSSH, nil
	}
	return 0, fmt.Errorf("there is no service %q", s)
}

// Listen returns the listener of a service, once at a time. Its connections may
// use the service and have a method Caller() mesh.Caller. Pages are listened
// for with and without TLS.
func (n *Node) Listen(_ context.Context, s mesh.Service) (net.Listener, error) {
	p, err := port(s)
	if err != nil {
		return nil, fmt.Errorf("listening on the tailnet: %w", err)
	}
	var feeds []net.Listener
	closeAll := func() error {
		var errs []error
		for _, l := range feeds {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	listen := func(addr string, who mesh.Identify) error {
		l, err := n.srv.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listening on the tailnet for %s: %w", s, err)
		}
		feeds = append(feeds, l)
		return n.gate.Serve(l, who)
	}
	name := net.JoinHostPort(n.Addr(), strconv.Itoa(p))
	out, err := n.gate.Listen(s, addr(name), closeAll)
	if err != nil {
		return nil, err
	}
	err = listen(":"+strconv.Itoa(p), n.identify(s, nil))
	if s == mesh.Pages && err == nil {
		err = n.listenMore(listen)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// listenMore adds the ways to the pages that not every tailnet has.
func (n *Node) listenMore(listen func(string, mesh.Identify) error) error {
	if a := n.c.SharedAddr; a.IsValid() {
		if err := listen(netip.AddrPortFrom(a, portHTTP).String(), n.identify(mesh.Pages, nil)); err != nil {
			return err
		}
	}
	n.mu.Lock()
	certs := n.certs
	n.mu.Unlock()
	if len(certs) == 0 {
		return nil
	}
	n.tasks.Go(func() { n.fetchCertificate(certs[0]) })
	conf := n.tlsConfig()
	wrap := func(c net.Conn) net.Conn { return tls.Server(c, conf) }
	return listen(":"+strconv.Itoa(portHTTPS), n.identify(mesh.Pages, wrap))
}

// tlsConfig serves the tailnet's certificate.
func (n *Node) tlsConfig() *tls.Config {
	return &tls.Config{GetCertificate: n.lc.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
}

// addr is a place on the tailnet as a net.Addr.
type addr string

func (addr) Network() string  { return "tailnet" }
func (a addr) String() string { return string(a) }
