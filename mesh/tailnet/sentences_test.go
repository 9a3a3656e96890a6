package tailnet

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/client/tailscale/apitype"
	"tailscale.com/health"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/tsconst"
	"tailscale.com/types/key"

	"github.com/samnode/samnode/mesh"
)

// TestExplain: what control servers are known to say.
func TestExplain(t *testing.T) {
	n := &Node{c: Config{Tag: DefaultTag, ControlURL: "https://control.example"}}
	for _, c := range []struct {
		text string
		is   error
		says string
	}{
		{"authkey already used", ErrKey, "used already"},
		{"authkey expired", ErrKey, "expired"},
		{"invalid authkey", ErrKey, "https://control.example does not know it"},
		{"AuthKey not found", ErrKey, "does not know it"},
		{"register request: http 401: authkey expired", ErrKey, "expired"},
		{"invalid key: unable to validate API key", ErrKey, "does not know it"},
		{"requested tags [tag:samnode] are invalid or not permitted", ErrTag, "tag:samnode"},
		{"tailnet requires logging to be enabled. Remove --no-logs-no-support from tailscaled command line.", nil, "network flow logs"},
		{"the sky is falling", nil, "the sky is falling"},
	} {
		err := n.explain(c.text)
		if c.is != nil && !errors.Is(err, c.is) || c.is == nil && (errors.Is(err, ErrKey) || errors.Is(err, ErrTag)) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %v and %q", c.text, err, c.is, c.says)
		}
	}
}

// TestHealth: an error that is only complained about is not waited out.
func TestHealth(t *testing.T) {
	n := &Node{c: Config{Tag: DefaultTag}}
	login := func(text string) *health.State {
		return &health.State{Warnings: map[health.WarnableCode]health.UnhealthyState{
			tsconst.HealthWarnableLoginState: {Args: health.Args{health.ArgError: text}},
		}}
	}
	for _, c := range []struct {
		name  string
		state *health.State
		final bool
		is    error
	}{
		{"nothing", &health.State{}, false, nil},
		{"a used key", login("register request: http 401: authkey already used"), true, ErrKey},
		{"no connection", login("fetch control key: connection refused"), false, nil},
		{"logs are wanted", &health.State{Warnings: map[health.WarnableCode]health.UnhealthyState{
			tsconst.HealthWarnableLocalLogConfigError: {Text: "The local log is misconfigured: tailnet requires logging to be enabled."},
		}}, true, nil},
	} {
		if final, err := n.healthError(c.state); final != c.final || c.is != nil && !errors.Is(err, c.is) || final && err == nil {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, final, err, c.final, c.is)
		}
	}
}

func TestSkew(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		server time.Time
		says   string
	}{
		{"the same", now, ""},
		{"a minute", now.Add(time.Minute), ""},
		{"an hour ahead", now.Add(-time.Hour), "1h0m0s ahead"},
		{"a day behind", now.Add(24 * time.Hour), "24h0m0s behind"},
	} {
		err := skew(c.server.Format(http.TimeFormat), now)
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrClock) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	if err := skew("some time", now); err != nil {
		t.Errorf("a server without a date: %v", err)
	}
}

// TestLate says what kept a node off when time is over.
func TestLate(t *testing.T) {
	date := time.Now()
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := &Node{c: Config{ControlURL: control.URL}}
	errApprove := errors.New("approve it")
	if err := n.late(ctx, errApprove); !errors.Is(err, errApprove) || !strings.Contains(err.Error(), "answers") {
		t.Errorf("with a control server that answers: %v", err)
	}
	if err := n.late(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with no reason: %v", err)
	}
	date = date.Add(-time.Hour)
	if err := n.late(ctx, errApprove); !errors.Is(err, ErrClock) {
		t.Errorf("with another time: %v, want ErrClock", err)
	}
	control.Close()
	if err := n.late(ctx, errApprove); !errors.Is(err, ErrControl) {
		t.Errorf("without a control server: %v, want ErrControl", err)
	}
	n.c.ControlURL = ":// no URL"
	if err := n.late(ctx, nil); !errors.Is(err, ErrControl) {
		t.Errorf("with no URL: %v, want ErrControl", err)
	}
}

func TestCallerOf(t *testing.T) {
	whois := func(name, login string, caps tailcfg.PeerCapMap, tags ...string) *apitype.WhoIsResponse {
		return &apitype.WhoIsResponse{
			Node:        &tailcfg.Node{Name: name, StableID: "nID", Tags: tags},
			UserProfile: &tailcfg.UserProfile{LoginName: login}, CapMap: caps,
		}
	}
	roles := func(values ...tailcfg.RawMessage) tailcfg.PeerCapMap {
		return tailcfg.PeerCapMap{DefaultCapability: values, "example.com/cap/other": {`{"role":"owner"}`}}
	}
	all := []string{"*"}
	for _, c := range []struct {
		name string
		resp *apitype.WhoIsResponse
		want mesh.Caller
		err  error
	}{
		{"node", whois("core-1.ts.net.", "tagged-devices", roles(`{"role":"owner"}`), "tag:ci", DefaultTag), mesh.Caller{Node: "nID", Name: "core-1"}, nil},
		{"another tag", whois("ci.ts.net.", "tagged-devices", roles(`{"role":"owner"}`), "tag:ci"), mesh.Caller{Name: "ci"}, mesh.ErrStranger},
		{"no login", whois("tv.ts.net.", "", nil), mesh.Caller{Name: "tv"}, mesh.ErrStranger},
		{"no grants", whois("laptop.ts.net.", "ada@example.com", roles()), mesh.Caller{Person: "ada@example.com", Name: "laptop"}, nil},
		{
			"grants", whois("laptop.ts.net.", "ada@example.com", roles(`{"role":"viewer","projects":["*"]}`, `[]`, `{"role":"owner","projects":["p1"]}`, `{"role":"peer"}`)),
			mesh.Caller{
				Person: "ada@example.com", Name: "laptop", Role: mesh.Owner, Projects: []string{"p1"},
				Grants: []mesh.Grant{{Role: mesh.Viewer, Projects: all}, {Role: mesh.Owner, Projects: []string{"p1"}}},
			}, nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := callerOf(c.resp, DefaultTag, DefaultCapability)
			if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v; %s", err, c.err, diff)
			}
		})
	}
}

func TestHost(t *testing.T) {
	n := &Node{
		c: Config{SharedAddr: netip.MustParseAddr("100.127.255.1"), Names: []string{"Sam.example.com"}},
		self: &ipnstate.PeerStatus{
			DNSName: "core-1.tail.ts.net.", HostName: "core", TailscaleIPs: []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd7a::1")},
		},
	}
	for name, want := range map[string]bool{
		"core-1.tail.ts.net": true, "CORE-1.tail.ts.net.": true, "core-1": true, "100.64.0.1": true, "fd7a::1": true, "[fd7a::1]": true,
		"100.127.255.1": true, "sam.example.com": true,
		"core": false, "evil.example": false, "core-1.evil.example": false, "127.0.0.1": false, "": false, "100.64.0.2": false,
	} {
		if got := n.Host(name); got != want {
			t.Errorf("Host(%q) = %v", name, got)
		}
	}
	if got := n.URL(); got != "http://core-1.tail.ts.net" {
		t.Errorf("URL = %s", got)
	}
	n.certs, n.secure = []string{"core-1.tail.ts.net"}, true
	if got := n.URL(); got != "https://core-1.tail.ts.net" {
		t.Errorf("URL with a certificate = %s", got)
	}
}

func TestWarnings(t *testing.T) {
	soon, later := time.Now().Add(24*time.Hour), time.Now().Add(365*24*time.Hour)
	for _, c := range []struct {
		name string
		n    *Node
		says []string
	}{
		{"none", &Node{self: &ipnstate.PeerStatus{KeyExpiry: &later}}, nil},
		{"all", &Node{
			self: &ipnstate.PeerStatus{KeyExpiry: &soon}, away: time.Now().Add(-time.Hour), clock: ErrClock, noCert: errors.New("rate limited"),
			status: statusCache{
				last: &ipnstate.Status{Peer: peers("b", "c", "d")},
				ping: map[tailcfg.StableNodeID]latency{
					"b": {path: "relay fra", at: soon, since: soon.Add(-time.Minute)}, "c": {path: "direct", at: soon}, "d": {path: "relay fra", at: soon, since: soon},
				},
			},
		}, []string{"unreachable since", "clock", "expires on", "rate limited", "b (fra)"}},
	} {
		got := c.n.Warnings()
		if len(got) != len(c.says) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i, s := range c.says {
			if !strings.Contains(got[i], s) {
				t.Errorf("%s: %q does not say %q", c.name, got[i], s)
			}
		}
	}
}

func TestCheckInterfaces(t *testing.T) {
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	usable := false
	for _, i := range list {
		addrs, err := i.Addrs()
		usable = usable || err == nil && len(addrs) > 0 && i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0
	}
	if err := CheckInterfaces(); (err == nil) != usable {
		t.Errorf("CheckInterfaces = %v with %v", err, list)
	}
}

func peers(names ...string) map[key.NodePublic]*ipnstate.PeerStatus {
	m := make(map[key.NodePublic]*ipnstate.PeerStatus)
	for _, name := range names {
		m[key.NewNode().Public()] = &ipnstate.PeerStatus{ID: tailcfg.StableNodeID(name), DNSName: name + ".ts.net."}
	}
	return m
}
