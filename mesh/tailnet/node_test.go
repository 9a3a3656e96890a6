package tailnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/mesh/tailnet"
)

// answer says on a service who called.
func answer(t *testing.T, n *tailnet.Node, s mesh.Service) {
	t.Helper()
	l, err := n.Listen(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			who := c.(interface{ Caller() mesh.Caller }).Caller()
			fmt.Fprintf(c, "%s %s", who.Node, who.Name)
			c.Close()
		}
	}()
}

// pages says who asks for a page.
func pages(t *testing.T, n *tailnet.Node) {
	t.Helper()
	l, err := n.Listen(t.Context(), mesh.Pages)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- mesh.Serve(ctx, mesh.ServeConfig{Listener: l, Host: n.Host, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := mesh.WhoIs(r)
			fmt.Fprintf(w, "%s %s %v %v", who.Person, who.Role, who.Projects, err)
		})})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func read(t *testing.T, c net.Conn) string {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func get(t *testing.T, d *meshtest.Device, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, 15*time.Second), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := d.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// meets waits until a node knows another one.
func meets(t *testing.T, a, b *tailnet.Node) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		peers, err := a.Peers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			if p.Addr == b.Addr() {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not see %s", a.Name(), b.Name())
		}
	}
}

// TestMesh is a mesh with two nodes and a person.
func TestMesh(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	errWorker := errors.New("not a core node")
	var b *tailnet.Node
	a := meshtest.Node(t, control, "node-a", tailnet.Config{Allow: func(_ context.Context, s mesh.Service, c mesh.Caller) error {
		if s == mesh.Log && c.Node != "nowhere" {
			return errWorker
		}
		return nil
	}})
	b = meshtest.Node(t, control, "node-b", tailnet.Config{})
	ada := meshtest.Person(t, control, "laptop")
	for _, n := range []*tailnet.Node{a, b} {
		answer(t, n, mesh.Log)
		answer(t, n, mesh.Calls)
		pages(t, n)
	}
	meets(t, a, b)
	meets(t, b, a)

	t.Run("nodes call nodes", func(t *testing.T) {
		c, err := b.Dial(t.Context(), a.Addr(), mesh.Calls)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := read(t, c), b.Addr()+" node-b"; got != want {
			t.Errorf("a hears %q, want %q", got, want)
		}
		if c, err = a.Dial(t.Context(), a.Addr(), mesh.Calls); err != nil {
			t.Fatal(err)
		}
		if got, want := read(t, c), a.Addr()+" node-a"; got != want {
			t.Errorf("a hears %q from itself, want %q", got, want)
		}
	})
	t.Run("who may not, is refused where it dials and where it is accepted", func(t *testing.T) {
		if _, err := a.Dial(t.Context(), b.Addr(), mesh.Log); !errors.Is(err, errWorker) {
			t.Errorf("a dials the log: %v, want %v", err, errWorker)
		}
		if _, err := a.Dial(t.Context(), b.Addr(), mesh.Pages); !errors.Is(err, mesh.ErrNotPerson) {
			t.Errorf("a node dials pages: %v, want ErrNotPerson", err)
		}
		c, err := b.Dial(t.Context(), a.Addr(), mesh.Log) // b thinks that it may
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, c); got != "" {
			t.Errorf("a's log hears %q of b", got)
		}
	})
	t.Run("no such node", func(t *testing.T) {
		if _, err := a.Dial(t.Context(), "nNOSUCH", mesh.Calls); !errors.Is(err, mesh.ErrUnreachable) {
			t.Errorf("Dial = %v, want ErrUnreachable", err)
		}
		if _, err := a.Dial(t.Context(), deviceID(t, ada), mesh.Calls); !errors.Is(err, mesh.ErrStranger) {
			t.Errorf("Dial to a person's device = %v, want ErrStranger", err)
		}
	})
	t.Run("people get pages and nothing else", func(t *testing.T) {
		want := ada.Login + "  [] <nil>"
		for _, url := range []string{a.URL(), "http://node-a", "http://" + ip(t, b, a).String()} {
			if status, body := get(t, ada, url); status != http.StatusOK || body != want {
				t.Errorf("%s: %d %q, want %q", url, status, body, want)
			}
		}
		for _, port := range []string{"6270", "6271"} {
			c, err := ada.Dial(within(t, 5*time.Second), "tcp", "node-a:"+port)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, c); got != "" {
				t.Errorf("a person hears %q on port %s", got, port)
			}
		}
	})
	t.Run("headers change nothing", func(t *testing.T) {
		_, body := get(t, ada, a.URL(), "Tailscale-User-Login", "eve@example.com", "X-Forwarded-User", "eve")
		if want := ada.Login + "  [] <nil>"; body != want {
			t.Errorf("%q, want %q", body, want)
		}
		if status, _ := get(t, ada, a.URL(), "Host", "evil.example"); status != http.StatusMisdirectedRequest {
			t.Errorf("a name rebound to the node: %d", status)
		}
	})
	t.Run("peers", func(t *testing.T) {
		peers, err := a.Peers(t.Context())
		if err != nil || len(peers) != 1 {
			t.Fatalf("Peers = %+v, %v; want b alone", peers, err)
		}
		p := peers[0]
		if p.Addr != b.Addr() || p.Name != "node-b" || p.URL != b.URL() || !p.Online || len(p.IPs) != 2 || p.Latency == 0 || p.Path == "" {
			t.Errorf("Peers = %+v", p)
		}
	})
	t.Run("grants", func(t *testing.T) {
		control.Grant(tailnet.DefaultCapability, `{"role":"member","projects":["p1","p2"]}`, `"garbage"`, `{"role":"viewer","projects":["*"]}`)
		want := ada.Login + " member [p1 p2] <nil>"
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			_, body := get(t, ada, b.URL())
			if body == want {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%q, want %q", body, want)
			}
		}
	})
}

func deviceID(t *testing.T, d *meshtest.Device) string {
	t.Helper()
	lc, err := d.LocalClient()
	if err != nil {
		t.Fatal(err)
	}
	s, err := lc.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(s.Self.ID)
}

// ip is where a sees b.
func ip(t *testing.T, a, b *tailnet.Node) netip.Addr {
	t.Helper()
	peers, err := a.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		if p.Addr == b.Addr() {
			return p.IPs[0]
		}
	}
	t.Fatalf("%s does not see %s", a.Name(), b.Name())
	return netip.Addr{}
}

// TestRestart: a node that comes back with its state is the same node, under
// whatever name, and dials at once.
func TestRestart(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	a := meshtest.Node(t, control, "node-a", tailnet.Config{})
	answer(t, a, mesh.Log)
	conf := tailnet.Config{Dir: t.TempDir(), Port: meshtest.UDPPort(t)}
	b := meshtest.Node(t, control, "node-b", conf)
	answer(t, b, mesh.Log)
	meets(t, a, b)
	c, err := b.Dial(t.Context(), a.Addr(), mesh.Log)
	if err != nil {
		t.Fatal(err)
	}
	read(t, c)
	addr := b.Addr()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(t.Context(), a.Addr(), mesh.Log); !errors.Is(err, mesh.ErrNotUp) {
		t.Errorf("a closed node dials: %v, want ErrNotUp", err)
	}
	b = meshtest.Node(t, control, "node-renamed", conf)
	answer(t, b, mesh.Log)
	if b.Addr() != addr {
		t.Fatalf("the node was %s and is %s", addr, b.Addr())
	}
	begin := time.Now()
	if c, err = b.Dial(t.Context(), a.Addr(), mesh.Log); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if read(t, c); took > time.Second {
		t.Errorf("the first dial after a restart took %s", took)
	}
	t.Logf("the first dial after a restart took %s", took)
	if c, err = a.Dial(t.Context(), addr, mesh.Log); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, c), a.Addr()+" node-a"; got != want {
		t.Errorf("b hears %q, want %q", got, want)
	}
	if info, err := os.Stat(conf.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the node's key lies in a directory with mode %v, %v", info.Mode(), err)
	}
}

// TestCloseManyConnections: the network stack waits for ever for more than 512
// connections, so they are closed before.
func TestCloseManyConnections(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	a := meshtest.Node(t, control, "node-a", tailnet.Config{})
	b := meshtest.Node(t, control, "node-b", tailnet.Config{})
	l, err := a.Listen(t.Context(), mesh.Calls)
	if err != nil {
		t.Fatal(err)
	}
	meets(t, b, a)
	const conns = 700
	accepted := make(chan error, 1)
	go func() {
		for range conns {
			if _, err := l.Accept(); err != nil {
				accepted <- err
				return
			}
		}
		accepted <- nil
	}()
	for range conns {
		if _, err := b.Dial(t.Context(), a.Addr(), mesh.Calls); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	for _, n := range []*tailnet.Node{a, b} {
		begin := time.Now()
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		t.Logf("closing %d connections took %s", conns, time.Since(begin))
	}
}
