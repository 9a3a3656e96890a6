package tailnet_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/mesh/tailnet"
)

// TestHeadscale is a mesh under a real control server: keys, roles, leaving, and
// the control server's death.
func TestHeadscale(t *testing.T) {
	h := meshtest.HeadscaleServer(t)
	control := &meshtest.ControlServer{URL: h.URL}
	key := h.NodeKey(t, false)
	a := meshtest.Node(t, control, "core-1", tailnet.Config{AuthKey: key})
	err := upError(t, tailnet.Config{Hostname: "core-2", ControlURL: h.URL, AuthKey: key}, 20*time.Second)
	expect(t, err, tailnet.ErrKey, "used already")
	err = upError(t, tailnet.Config{Hostname: "core-2", ControlURL: h.URL, AuthKey: h.PersonKey(t, "alice")}, 20*time.Second)
	expect(t, err, tailnet.ErrTag, "a device of alice")

	conf := tailnet.Config{AuthKey: h.NodeKey(t, false), Dir: t.TempDir(), Port: meshtest.UDPPort(t)}
	b := meshtest.Node(t, control, "core-2", conf)
	for _, n := range []*tailnet.Node{a, b} {
		answer(t, n, mesh.Calls)
		pages(t, n)
	}
	meets(t, a, b)
	for person, want := range map[string]string{"alice": "alice owner [*] <nil>", "bob": "bob member [p1 p2] <nil>", "carol": "carol  [] <nil>"} {
		d := meshtest.PersonWith(t, meshtest.PersonConfig{Control: h.URL, Hostname: person + "s-laptop", AuthKey: h.PersonKey(t, person)})
		if status, body := get(t, d, a.URL()); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", person, status, body, want)
		}
		c, err := d.Dial(within(t, 5*time.Second), "tcp", "core-1:6271")
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, c); got != "" {
			t.Errorf("%s hears %q on the port of nodes", person, got)
		}
	}
	reach := func(from *tailnet.Node, to string) {
		t.Helper()
		c, err := from.Dial(t.Context(), to, mesh.Calls)
		if err != nil {
			t.Fatal(err)
		}
		if read(t, c) == "" {
			t.Errorf("%s does not let %s in", to, from.Addr())
		}
	}
	reach(a, b.Addr())

	worker := meshtest.Node(t, control, "worker-1", tailnet.Config{AuthKey: h.NodeKey(t, true)})
	meets(t, a, worker)
	if err := worker.Logout(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := a.Dial(t.Context(), worker.Addr(), mesh.Calls); errors.Is(err, mesh.ErrUnreachable) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a worker that has left is still there")
		}
	}

	// b dies and comes back, under the same address.
	addr := b.Addr()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Dial(t.Context(), addr, mesh.Calls); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("dialling a dead node: %v, want ErrUnreachable", err)
	}
	b = meshtest.Node(t, control, "core-2", conf)
	answer(t, b, mesh.Calls)
	reach(b, a.Addr())
	reach(a, addr)

	// The control server dies: what runs goes on, and a node comes back without it.
	h.Kill(t)
	reach(a, addr)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = meshtest.Node(t, control, "core-2", conf)
	if b.Addr() != addr {
		t.Errorf("from its cache the node is %s, want %s", b.Addr(), addr)
	}
}
