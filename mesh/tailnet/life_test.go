package tailnet_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/mesh/tailnet"
)

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
// comes.
func TestLogin(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	control.Ask()
	err := upError(t, tailnet.Config{Hostname: "node-a", ControlURL: control.URL}, 20*time.Second)
	expect(t, err, tailnet.ErrLogin, "open "+control.URL+"/auth/")
	err = upError(t, tailnet.Config{Hostname: "node-a", ControlURL: control.URL, Login: func(string) {}}, 2*time.Second)
	expect(t, err, tailnet.ErrLogin, "open "+control.URL+"/auth/")
}

// TestExpired: a node whose key has expired waits for a person, too. One that
// starts with what it knew of the tailnet finds that out later.
func TestExpired(t *testing.T) {
	t.Parallel()
	for _, cached := range []bool{false, true} {
		control := meshtest.ControlWith(t, meshtest.ControlConfig{NoMapCache: !cached})
		control.Ask()
		conf := tailnet.Config{Dir: t.TempDir(), Login: func(url string) {
			if !control.Confirm(url) {
				t.Errorf("nobody waits at %s", url)
			}
		}}
		n := meshtest.Node(t, control, "node-a", conf)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		control.Expire()
		const says = "its key has expired or somebody logged it out"
		n, err := tailnet.Up(within(t, 20*time.Second), tailnet.Config{Hostname: "node-a", ControlURL: control.URL, Dir: conf.Dir})
		if err != nil {
			expect(t, err, tailnet.ErrLogin, says)
			continue
		}
		if !cached {
			t.Log("the network stack kept what it knew without being told to")
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if w := strings.Join(n.Warnings(), "\n"); strings.Contains(w, says) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("Warnings = %q, which does not say %q", n.Warnings(), says)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestControlAway: a control server that is not there, or has another time,
// does not look like anything else.
func TestControlAway(t *testing.T) {
	t.Parallel()
	control := meshtest.Control(t)
	a := meshtest.Node(t, control, "node-a", tailnet.Config{})
	answer(t, a, mesh.Log)
	conf := tailnet.Config{Dir: t.TempDir(), Port: meshtest.UDPPort(t)}
	b := meshtest.Node(t, control, "node-b", conf)
	answer(t, b, mesh.Calls)
	meets(t, a, b)
	meets(t, b, a)
	if w := a.Warnings(); len(w) > 0 || !b.KeepsMap() {
		t.Errorf("Warnings = %q, KeepsMap = %v", w, b.KeepsMap())
	}
	control.Leave()
	err := upError(t, tailnet.Config{Hostname: "node-c", ControlURL: control.URL}, 2*time.Second)
	expect(t, err, tailnet.ErrControl, control.URL, "refused")
	c, err := a.Dial(t.Context(), b.Addr(), mesh.Calls)
	if err != nil {
		t.Fatalf("running nodes do not go on: %v", err)
	}
	read(t, c)
	// A node that starts now uses what it knew.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := meshtest.Node(t, control, "node-b", conf)
	answer(t, again, mesh.Calls)
	if again.Addr() != b.Addr() {
		t.Errorf("the node was %s and is %s", b.Addr(), again.Addr())
	}
	begin := time.Now()
	for c, err = again.Dial(t.Context(), a.Addr(), mesh.Log); err != nil; c, err = again.Dial(t.Context(), a.Addr(), mesh.Log) {
		if time.Since(begin) > 25*time.Second {
			t.Fatalf("a node that started without a control server: %v", err)
		}
	}
	t.Logf("a node that started without a control server was let in again after %s", time.Since(begin))
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
