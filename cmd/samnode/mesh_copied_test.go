package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/ui/api"
)

// TestCopiedState starts a copy of a node's state directory beside it: of a
// core node and of a worker, at the same port and at another. The copy stops
// and says why, and the first goes on.
func TestCopiedState(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m := foundMesh(t)
	a := m.nodes[0]
	b, w := m.join(a, "b", true), m.join(a, "w", false)
	m.awaitNode(a, "b", "there", func(x api.Node) bool { return x.Online })
	m.awaitNode(a, "w", "there", func(x api.Node) bool { return x.Online })
	for _, n := range []*testNode{b, w} {
		name := filepath.Base(n.state)
		n.stop()
		twin := &testNode{t: t, bin: n.bin, verb: "run", state: n.state + "-copy", args: n.args}
		copyState(t, n.state, twin.state)
		n.start()
		m.awaitNode(a, name, "back", func(x api.Node) bool { return x.Online })
		if said, code := twin.runsOut(); code != exitFailed || !strings.Contains(said, "address already in use") {
			t.Errorf("a copy of %s at the same port exits with %d: %s", name, code, said)
		}
		id, err := readIdentity(twin.state)
		if err != nil {
			t.Fatal(err)
		}
		id.NodeAddr = ""
		if err := id.write(twin.state); err != nil {
			t.Fatal(err)
		}
		if said, code := twin.runsOut(); code != exitRefused || !strings.Contains(said, "another --state") {
			t.Errorf("a copy of %s at another port exits with %d: %s", name, code, said)
		}
		m.awaitNode(a, name, "still there", func(x api.Node) bool { return x.Online })
		must[[]chat.Project](n, "project", "list")
	}
	unharmed(t, m, a, "a", "b", "w")
}

// TestTailnetCopiedState does the same where a node's address is its key, which
// the copy has, too.
func TestTailnetCopiedState(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := &testMesh{t: t, state: t.TempDir()}
	t.Cleanup(func() { m.tearDown() })
	a, w := m.place("a"), m.place("w")
	flags := func(n *testNode) []string {
		return []string{"--state", n.state, "--name", filepath.Base(n.state), "--auth-key", "tskey-auth-test", "--setup-only"}
	}
	m.setUpNode(a, append([]string{"init", "--control", control.URL}, flags(a)...))
	m.up(a)
	m.leader()
	m.setUpNode(w, append([]string{"join", must[api.Invitation](a, "node", "invite").Token}, flags(w)...))
	twin := m.place("w-copy")
	copyState(t, w.state, twin.state)
	m.up(w)
	m.awaitNode(a, "w", "there", func(x api.Node) bool { return x.Online })
	for range 2 {
		said, code := twin.runsOut()
		if code != exitRefused || !strings.Contains(said, "state directory was copied") || !strings.Contains(said, "remove the copy") {
			t.Errorf("the copy exits with %d: %s", code, lastLines(said, 30))
		}
	}
	// Two with one key are in each other's way on the tailnet while both are up.
	m.await("the first to be itself again", func() bool { _, _, code := w.cli("status"); return code == exitDone })
	w.stop()
	w.start()
	m.awaitNode(a, "w", "back", func(x api.Node) bool { return x.Online })
	unharmed(t, m, a, "a", "w")
}
