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
	"strings"
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

// upError is what a person reads who starts a node that does not get in.
func upError(t *testing.T, c tailnet.Config, d time.Duration) error {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	n, err := tailnet.Up(within(t, d), c)
	if err == nil {
		n.Close()
	}
	return err
}

func TestUpRefuses(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	url := control.URL
	control.Bare("node-bare")
	for _, c := range []struct {
		name string
		c    tailnet.Config
		is   error
		says []string
	}{
		{"no directory", tailnet.Config{}, nil, []string{"no directory"}},
		{"without the tag", tailnet.Config{Hostname: "node-bare", ControlURL: url}, tailnet.ErrTag, []string{"a device of user-", "headscale nodes tag", "tag:samnode"}},
		{"another mesh's tag", tailnet.Config{Hostname: "node-other", ControlURL: url, Tag: "tag:other"}, tailnet.ErrTag, []string{"a device with tag:samnode", "without tag:other"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.c.Hostname != "" {
				c.c.Dir = t.TempDir()
			}
			n, err := tailnet.Up(within(t, 20*time.Second), c.c)
			if err == nil {
				n.Close()
			}
			expect(t, err, c.is, c.says...)
		})
	}
}

func expect(t *testing.T, err, is error, says ...string) {
	t.Helper()
	if is != nil && !errors.Is(err, is) {
		t.Errorf("Up = %v, want %v", err, is)
	}
	for _, s := range says {
		if !strings.Contains(fmt.Sprint(err), s) {
			t.Errorf("Up = %v, which does not say %q", err, s)
		}
	}
}

// TestKeys: one key lets one node in, which comes back without it.
func TestKeys(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	control.Key("hskey-auth-first")
	a := meshtest.Node(t, control, "node-a", tailnet.Config{AuthKey: "hskey-auth-first"})
	_ = a
	control.Key("hskey-auth-second") // the first is used up
	err := upError(t, tailnet.Config{Hostname: "node-b", ControlURL: control.URL, AuthKey: "hskey-auth-first"}, 20*time.Second)
	expect(t, err, tailnet.ErrKey, "does not know it", control.URL)
}

// TestLogin: a node without a key waits for a person, and says so when nobody
// comes. So does one whose key has expired.
func TestLogin(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	control.Ask()
	err := upError(t, tailnet.Config{Hostname: "node-a", ControlURL: control.URL}, 20*time.Second)
	expect(t, err, tailnet.ErrLogin, "open "+control.URL+"/auth/")
	err = upError(t, tailnet.Config{Hostname: "node-a", ControlURL: control.URL, Login: func(string) {}}, 2*time.Second)
	expect(t, err, tailnet.ErrLogin, "open "+control.URL+"/auth/")
	dir := t.TempDir()
	n := meshtest.Node(t, control, "node-b", tailnet.Config{Dir: dir, Login: func(url string) {
		if !control.Confirm(url) {
			t.Errorf("nobody waits at %s", url)
		}
	}})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	control.Expire()
	err = upError(t, tailnet.Config{Hostname: "node-b", ControlURL: control.URL, Dir: dir}, 20*time.Second)
	expect(t, err, tailnet.ErrLogin, "its key has expired or somebody logged it out")
}

// TestControlAway: a control server that is not there, or has another time,
// does not look like anything else.
func TestControlAway(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	a := meshtest.Node(t, control, "node-a", tailnet.Config{})
	b := meshtest.Node(t, control, "node-b", tailnet.Config{})
	answer(t, b, mesh.Calls)
	meets(t, a, b)
	if w := a.Warnings(); len(w) > 0 {
		t.Errorf("Warnings = %q", w)
	}
	control.Leave()
	err := upError(t, tailnet.Config{Hostname: "node-c", ControlURL: control.URL}, 2*time.Second)
	expect(t, err, tailnet.ErrControl, control.URL, "refused")
	c, err := a.Dial(t.Context(), b.Addr(), mesh.Calls)
	if err != nil {
		t.Fatalf("running nodes do not go on: %v", err)
	}
	read(t, c)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if w := a.Warnings(); len(w) > 0 {
			if !strings.Contains(w[0], "control server unreachable since") {
				t.Errorf("Warnings = %q", w)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("no warning of a control server that is away")
		}
	}
}

// TestSharedAddr: one address for all nodes, served by whichever the control
// server picks, and the person is still who they are.
func TestSharedAddr(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	shared := netip.MustParseAddr("100.127.255.1")
	nodes := make([]*tailnet.Node, 2)
	for i := range nodes {
		nodes[i] = meshtest.Node(t, control, fmt.Sprintf("node-%d", i), tailnet.Config{SharedAddr: shared, Names: []string{"sam"}})
		pages(t, nodes[i])
	}
	ada := meshtest.Person(t, control, "laptop")
	if err := ada.AcceptRoutes(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		control.Route(shared, n.Addr())
		want := ada.Login + "  [] <nil>"
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			// Until the device knows the route, it asks the host's network.
			got := ""
			ada.Client.CloseIdleConnections()
			resp, err := ada.Client.Get("http://" + shared.String())
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				got = string(body)
			}
			if got == want {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%q, %v; want %q", got, err, want)
			}
		}
	}
	if status, body := get(t, ada, "http://"+shared.String(), "Host", "sam"); status != http.StatusOK {
		t.Errorf("by its name: %d %q", status, body)
	}
}

// TestLogout: a node that leaves is off the tailnet, and its state is of no use.
func TestLogout(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	dir := t.TempDir()
	a := meshtest.Node(t, control, "node-a", tailnet.Config{Dir: dir})
	if err := a.Logout(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Listen(t.Context(), mesh.Calls); !errors.Is(err, mesh.ErrNotUp) {
		t.Errorf("Listen = %v, want ErrNotUp", err)
	}
	control.Ask()
	err := upError(t, tailnet.Config{Hostname: "node-a", ControlURL: control.URL, Dir: dir}, 20*time.Second)
	expect(t, err, tailnet.ErrLogin, "open ")
}
