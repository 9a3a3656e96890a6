// Package meshtest is a tailnet for tests: a control server and a relay in this
// process, real nodes and devices of people on it. Everything is on loopback,
// and needs no account.
//
// It is never part of samnode.
package meshtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/net/netns"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/logger"

	"github.com/samnode/samnode/mesh/tailnet"
)

// Domain is the domain of the tailnet's names.
const Domain = "mesh.test"

// ControlConfig is what a control server needs.
type ControlConfig struct {
	// Listen is where it listens. Empty: a port of 127.0.0.1.
	Listen string
	// NodePrefix begins the host names of devices that get the tag. Empty: "node".
	// The others are people's, each with a login of its own.
	NodePrefix string
	// Tag is the tag of nodes. Empty: that of tailnet.
	Tag string
	// NoMapCache keeps the devices from starting without this server.
	NoMapCache bool
	// Date makes the server's clock differ. Nil: this machine's.
	Date func() time.Time
	Log  *slog.Logger // nil: none
}

// ControlServer is a tailnet's control server, with a relay.
//
// It lets everyone reach everyone, so it tests what nodes themselves refuse. It
// knows no roles but those of Grant, which are everybody's, and says of every
// device that it is online. It does not tell one key from another: see Key.
type ControlServer struct {
	URL string

	c    ControlConfig
	srv  *testcontrol.Server
	http *httptest.Server
	tb   *outside

	mu   sync.Mutex      // held while anything of a device changes
	bare map[string]bool // host names that get no tag, whatever they begin with
}

// StartControl starts a control server. Close it.
func StartControl(ctx context.Context, c ControlConfig) (_ *ControlServer, err error) {
	c.NodePrefix, c.Tag = cmp.Or(c.NodePrefix, "node"), cmp.Or(c.Tag, tailnet.DefaultTag)
	netns.SetEnabled(false) // loopback needs no way around a tailnet of the host's
	envknob.Setenv("TS_DISABLE_PORTMAPPER", "1")
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(c.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("starting the control server: %w", err)
	}
	s := &ControlServer{c: c, tb: new(outside), bare: make(map[string]bool)}
	defer func() {
		if failed, ok := recover().(failure); ok {
			err = errors.Join(fmt.Errorf("starting the relay: %s", string(failed)), l.Close())
		}
	}()
	s.srv = &testcontrol.Server{
		Logf: s.logf, DERPMap: integration.RunDERPAndSTUN(s.tb, logger.Discard, hostOf(l)),
		DNSConfig: &tailcfg.DNSConfig{Proxied: true}, AllOnline: true,
		// No HTTPS: nobody has a certificate for these names.
		DefaultNodeCapabilities: new(tailcfg.NodeCapMap),
		HoldMapRequest:          s.admit,
	}
	s.http = httptest.NewUnstartedServer(s.clock(s.srv))
	s.http.Listener.Close()
	s.http.Listener = &cutter{Listener: l, open: make(map[net.Conn]bool)}
	s.http.Start()
	s.srv.HTTPTestServer = s.http
	s.URL = s.http.URL
	return s, nil
}

// hostOf is where the relay listens: beside the control server.
func hostOf(l net.Listener) string { return l.Addr().(*net.TCPAddr).IP.String() }

func (s *ControlServer) logf(format string, args ...any) {
	if s.c.Log != nil {
		s.c.Log.Debug("Control server", "line", fmt.Sprintf(format, args...))
	}
}

func (s *ControlServer) clock(next http.Handler) http.Handler {
	if s.c.Date == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", s.c.Date().UTC().Format(http.TimeFormat))
		next.ServeHTTP(w, r)
	})
}

// Close ends the server and the relay. What runs on the tailnet goes on.
func (s *ControlServer) Close() {
	s.Leave()
	s.http.Close()
	s.tb.cleanup()
}

// Addresses are those of the devices that there are, by host name.
func (s *ControlServer) Addresses() map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, n := range s.srv.AllNodes() {
		for _, p := range n.Addresses {
			out[n.Hostinfo.Hostname()] = append(out[n.Hostinfo.Hostname()], p.Addr())
		}
	}
	return out
}

// Leave ends the server, as an outage does. The relay goes on.
func (s *ControlServer) Leave() { s.http.Listener.(*cutter).cut() }

// Key is the key that every new device has to come with from now on; empty:
// none. Nodes that were let in come back with theirs only.
func (s *ControlServer) Key(key string) { s.srv.RequireAuthKey = key }

// Ask makes every new device wait for a person, who is shown a URL.
func (s *ControlServer) Ask() { s.srv.RequireAuth = true }

// Confirm is the person at the URL.
func (s *ControlServer) Confirm(url string) bool { return s.srv.CompleteAuth(url) }

// Bare keeps the tag from a device with this host name.
func (s *ControlServer) Bare(hostname string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bare[hostname] = true
}

// Expire ends the keys of all devices.
func (s *ControlServer) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.srv.AllNodes() {
		n.KeyExpiry = time.Now().Add(-time.Minute)
		s.srv.UpdateNode(n)
	}
}

// Grant gives everybody roles everywhere: JSON values of a capability.
func (s *ControlServer) Grant(capability string, values ...string) {
	raw := make([]tailcfg.RawMessage, len(values))
	for i, v := range values {
		raw[i] = tailcfg.RawMessage(v)
	}
	s.srv.SetGlobalAppCaps(tailcfg.PeerCapMap{tailcfg.PeerCapability(capability): raw})
}

// Route leads an address to one node, as the control server does with routes
// that it approved.
func (s *ControlServer) Route(addr netip.Addr, node string) {
	for _, n := range s.srv.AllNodes() {
		var routes []netip.Prefix
		if string(n.StableID) == node {
			routes = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
		}
		s.srv.SetSubnetRoutes(n.Key, routes)
	}
}

// admit sees every request of a device before it is answered. What a device
// says of itself is taken in while nobody else changes a device.
func (s *ControlServer) admit(req *tailcfg.MapRequest) (done func()) {
	s.mu.Lock()
	s.dress(req)
	if req.Stream {
		s.mu.Unlock() // it says nothing, and lasts
		return nil
	}
	return s.mu.Unlock
}

// dress gives a new device its name and, if it is a node, its tag, before it or
// anyone else hears of it. A name that is taken gets a number, and a device
// that goes by another name gets that.
func (s *ControlServer) dress(req *tailcfg.MapRequest) {
	n := s.srv.Node(req.NodeKey)
	if n == nil {
		return
	}
	host := n.Hostinfo.Hostname()
	if req.Hostinfo != nil && !req.Stream {
		host = req.Hostinfo.Hostname
	}
	short, _, dressed := strings.Cut(n.Name, ".")
	if dressed && (short == host || strings.HasPrefix(short, host+"-")) {
		return
	}
	n.Name = s.freeName(host, n.ID) + "." + Domain + "."
	if strings.HasPrefix(host, s.c.NodePrefix) && !s.bare[host] {
		n.Tags = []string{s.c.Tag}
	}
	s.srv.UpdateNode(n)
	if !s.c.NoMapCache {
		// As a good policy says: see tailnet.Policy.
		s.srv.SetNodeCapMap(n.Key, tailcfg.NodeCapMap{tailcfg.NodeAttrCacheNetworkMaps: nil})
	}
}

func (s *ControlServer) freeName(host string, of tailcfg.NodeID) string {
	taken := make(map[string]bool)
	for _, n := range s.srv.AllNodes() {
		if name, _, dressed := strings.Cut(n.Name, "."); dressed && n.ID != of {
			taken[name] = true
		}
	}
	name := host
	for i := 1; taken[name]; i++ {
		name = fmt.Sprintf("%s-%d", host, i)
	}
	return name
}

// outside is a test where there is none.
type outside struct {
	testing.TB // nil; what is not below is not called
	cleanups   []func()
}

type failure string

func (*outside) Helper()                      {}
func (*outside) Logf(string, ...any)          {}
func (o *outside) Cleanup(f func())           { o.cleanups = append(o.cleanups, f) }
func (*outside) Fatal(args ...any)            { panic(failure(fmt.Sprint(args...))) }
func (*outside) Fatalf(f string, args ...any) { panic(failure(fmt.Sprintf(f, args...))) }

func (o *outside) cleanup() {
	for _, f := range o.cleanups {
		f()
	}
	o.cleanups = nil
}

// cutter is a listener that can end with all its connections. An HTTP server
// forgets those of devices, which speak another protocol on them.
type cutter struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]bool
}

// Accept implements net.Listener.
func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.open[conn] = true
		c.mu.Unlock()
	}
	return conn, err
}

func (c *cutter) cut() {
	c.Listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
	clear(c.open)
}
