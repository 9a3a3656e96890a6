package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/mesh"
)

// fakeTailnet is a tailnet with a control server, as traces see it.
type fakeTailnet struct {
	peers   []mesh.Peer
	members []string
	keys    error // of the credentials
	api     error // of the API
	forgot  []string
}

func (f *fakeTailnet) Forget(_ context.Context, addr netip.Addr) error {
	f.forgot = append(f.forgot, addr.String())
	return f.api
}

func (f *fakeTailnet) traces() *traces {
	return &traces{
		peers:  func(context.Context) ([]mesh.Peer, error) { return f.peers, nil },
		server: func() (forgetter, error) { return f, f.keys },
		member: func(addr string) bool { return strings.Contains(strings.Join(f.members, " "), addr) },
		logger: slog.New(slog.DiscardHandler),
	}
}

func TestTracesOfRemovedNodes(t *testing.T) {
	ip := []netip.Addr{netip.MustParseAddr("100.64.0.7")}
	online := mesh.Peer{Addr: "n7", Name: "samnode-w", IPs: ip, Online: true}
	dead := online
	dead.Online = false
	for name, c := range map[string]struct {
		f      fakeTailnet
		says   string // at once
		later  string // after two minutes; "": it left no trace
		forgot int
	}{
		"dead":             {fakeTailnet{peers: []mesh.Peer{dead}}, "", "", 1},
		"alive":            {fakeTailnet{peers: []mesh.Peer{online}}, "as soon as the node has stopped", "", 1},
		"gone by itself":   {fakeTailnet{}, "", "", 0},
		"no credentials":   {fakeTailnet{peers: []mesh.Peer{dead}, keys: errNoKeys}, "remove it in the control server's list", "w's device (samnode-w, 100.64.0.7) stays on the tailnet", 0},
		"the API is away":  {fakeTailnet{peers: []mesh.Peer{dead}, api: errors.New("it is away")}, "tries again: it is away", "tries again: it is away", 2},
		"bad credentials":  {fakeTailnet{peers: []mesh.Peer{dead}, keys: errors.New("half of a key")}, "tries again: half of a key", "half of a key", 0},
		"a member again":   {fakeTailnet{peers: []mesh.Peer{online}, members: []string{"n7"}}, "", "", 0},
		"without address":  {fakeTailnet{peers: []mesh.Peer{{Addr: "n7", Name: "samnode-w"}}}, "", "", 0},
		"others are there": {fakeTailnet{peers: []mesh.Peer{dead, {Addr: "n8", IPs: []netip.Addr{netip.MustParseAddr("100.64.0.8")}}}}, "", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := c.f.traces()
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- tr.run(ctx) }()
				said := tr.add(t.Context(), "w", "n7")
				if !strings.Contains(said, c.says) || (said == "") != (c.says == "") {
					t.Errorf("says %q, want %q", said, c.says)
				}
				time.Sleep(2*time.Minute + time.Second)
				cancel()
				<-ended
				later := strings.Join(tr.texts(), "\n")
				if !strings.Contains(later, c.later) || (later == "") != (c.later == "") {
					t.Errorf("says %q later, want %q", later, c.later)
				}
				if n := len(c.f.forgot); n < c.forgot || c.forgot < 2 && n > c.forgot || n > 3 {
					t.Errorf("the API was asked to forget %v, want %d times", c.f.forgot, c.forgot)
				}
				for _, addr := range c.f.forgot {
					if addr != "100.64.0.7" {
						t.Errorf("the API was asked to forget %s", addr)
					}
				}
			})
		})
	}
	if (*traces)(nil).add(t.Context(), "w", "n7") != "" || (*traces)(nil).texts() != nil {
		t.Error("a node on no tailnet leaves traces")
	}
}
