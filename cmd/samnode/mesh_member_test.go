package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// TestMeshMembers drains nodes and takes them out: a dead one, a living one,
// and not the last. One that was taken out and comes back stops.
func TestMeshMembers(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m := foundMesh(t)
	a := m.nodes[0]
	b, c, w := m.join(a, "b", true), m.join(a, "c", true), m.join(a, "w", false)
	m.awaitVoters(a, 3)
	m.awaitNode(a, "w", "there", func(x api.Node) bool { return x.Online })

	must[map[string]string](b, "node", "drain", "c")
	must[map[string]string](b, "node", "drain", "c") // is no worse
	m.awaitNode(a, "c", "draining", func(x api.Node) bool { return x.Draining })
	if out, _, _ := a.cli("node", "list"); !strings.Contains(out, "draining") {
		t.Errorf("node list prints\n%s", out)
	}
	c.stop()
	c.start()
	m.awaitNode(a, "c", "draining after a restart", func(x api.Node) bool { return x.Online && x.Draining })
	must[map[string]string](b, "node", "undrain", "c")
	m.awaitNode(a, "c", "ready", func(x api.Node) bool { return !x.Draining })
	for _, verb := range []string{"drain", "undrain", "remove"} {
		said, code := samnode(t, "--api", a.url, "node", verb, "nobody")
		isSaid(t, said, code, exitFailed, "no node")
	}

	c.stop()
	said, code := samnode(t, "dev", "--state", c.state, "--listen", "127.0.0.1:0")
	isSaid(t, said, code, exitRefused, "c is one of 3 nodes of a mesh", "samnode run")
	c.start()

	// A dead core node and a dead worker.
	c.kill()
	w.kill()
	must[map[string]string](b, "node", "remove", "c")
	must[map[string]string](b, "node", "remove", "w")
	m.awaitVoters(a, 1) // two survive no more than one does
	unharmed(t, m, a, "a", "b")
	for _, n := range []*testNode{c, w} {
		name := filepath.Base(n.state)
		said, code = n.runsOut()
		if code != exitRefused || !strings.Contains(said, "this node was removed from its mesh; to come back it needs an invitation") {
			t.Errorf("%s, which was removed while it was dead, exits with %d: %s", name, code, lastLines(said, 20))
		}
		said, code = samnode(t, "run", "--state", n.state, "--listen", "127.0.0.1:0")
		isSaid(t, said, code, exitRefused, "belongs to no mesh any more", "samnode node invite", "another --state")
		said, code = samnode(t, "join", "--state", n.state, "--setup-only", "--name", name, must[api.Invitation](a, "node", "invite").Token)
		isSaid(t, said, code, exitRefused, "holds the state of another mesh", "choose another --state")
	}
	unharmed(t, m, a, "a", "b")

	// The only voter leaves, and the last core node stays.
	if out, errs, code := a.cli("leave"); code != exitDone {
		t.Errorf("leave exits with %d: %s%s", code, out, errs)
	}
	if code := a.exits(); code != exitRefused || !strings.Contains(a.log.String(), "this node was removed from its mesh") {
		t.Errorf("a, which left, exits with %d", code)
	}
	m.leader()
	unharmed(t, m, b, "b")
	for _, args := range [][]string{{"node", "remove", "b"}, {"leave"}} {
		said, code := samnode(t, append([]string{"--api", b.url}, args...)...)
		isSaid(t, said, code, exitRefused, "b is the last core node")
	}

	growsAgain(t, m, b, a, c)
}

// growsAgain gives the names of two nodes that were removed to new ones. A
// living voter is removed at another node, and the leader at its own.
func growsAgain(t *testing.T, m *testMesh, b *testNode, removed ...*testNode) {
	t.Helper()
	m.nodes = []*testNode{b}
	for _, n := range removed {
		if err := os.Rename(n.state, n.state+"-old"); err != nil {
			t.Fatal(err)
		}
		m.join(b, filepath.Base(n.state), true)
	}
	m.awaitVoters(b, 3)
	first := m.leader()
	gone := m.others(first)[0]
	rest := m.others(first, gone)[0]
	for _, n := range []*testNode{gone, first} {
		by := rest
		if n == first {
			by = n // an owner at its own pages
		}
		must[map[string]string](by, "node", "remove", filepath.Base(n.state))
		if code := n.exits(); code != exitRefused || !strings.Contains(n.log.String(), "this node was removed from its mesh") {
			t.Errorf("%s, which was removed, exits with %d", filepath.Base(n.state), code)
		}
	}
	must[chat.Project](rest, "project", "add", "app", "--repo", "/nowhere.git")
	unharmed(t, m, rest, filepath.Base(rest.state))
}

// TestMeshRecover loses two of three core nodes for good. The third becomes a
// mesh of one when a person says so, and grows again.
func TestMeshRecover(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m := foundMesh(t)
	c := m.nodes[0]
	a, b := m.join(c, "b", true), m.join(c, "c", true)
	m.awaitVoters(c, 3)
	must[chat.Project](a, "project", "add", "app", "--repo", "/nowhere.git")
	m.await("all to have it", func() bool {
		var list struct{ Projects []chat.Project }
		return m.get(c, "projects", &list) && len(list.Projects) == 1
	})
	a.kill()
	b.kill()
	m.await("it to notice", func() bool { info, ok := m.info(c); return ok && !info.Quorum })
	if out, _, code := c.cli("status"); code != exitFailed || !strings.Contains(out, "read-only") {
		t.Errorf("status exits with %d:\n%s", code, out)
	}
	out, _, _ := c.cli("doctor", "--state", c.state)
	if !strings.Contains(out, "samnode recover") {
		t.Errorf("the doctor does not say how to go on:\n%s", out)
	}

	said, code := samnode(t, "recover", "--state", c.state, "--yes")
	isSaid(t, said, code, exitRefused, "is in use by another samnode")
	c.kill()
	said, code = samnode(t, "recover", "--state", c.state)
	if code != exitRefused || !strings.Contains(said, "is lost") || !strings.Contains(said, "--yes") {
		t.Errorf("recover without --yes exits with %d: %s", code, said)
	}
	said, code = samnode(t, "recover", "--state", c.state, "--yes")
	for _, part := range []string{"only voter", "ends at index", "is lost", "Given up: b, c.", "samnode run", "samnode node invite --core"} {
		if code != exitDone || !strings.Contains(said, part) {
			t.Errorf("recover --yes exits with %d and does not say %q: %s", code, part, said)
		}
	}
	said, code = samnode(t, "recover", "--state", c.state, "--yes", "--json")
	if code != exitDone || !strings.Contains(said, `"last":`) {
		t.Errorf("recover a second time exits with %d: %s", code, said)
	}
	c.start()
	m.awaitVoters(c, 1)
	must[chat.Project](c, "project", "add", "second", "--repo", "/nowhere.git")
	if list := must[[]chat.Project](c, "project", "list"); len(list) != 2 {
		t.Errorf("after recover there are %d projects, want 2", len(list))
	}

	// The lost ones are out, and one that comes back is in nobody's way.
	m.await("the lost ones to be out", func() bool { return len(m.list(c)) == 1 })
	back, code := a.runsOut()
	if code != exitRefused || !strings.Contains(back, "the mesh has gone on without this node") {
		t.Errorf("a former member exits with %d: %s", code, lastLines(back, 20))
	}
	must[chat.Project](c, "project", "add", "third", "--repo", "/nowhere.git")
	unharmed(t, m, c, "a")
	m.nodes = []*testNode{c}
	m.join(c, "d", true)
	m.join(c, "e", true)
	m.awaitVoters(c, 3)
	m.await("the others to have everything", func() bool {
		var list struct{ Projects []chat.Project }
		return m.get(m.nodes[2], "projects", &list) && len(list.Projects) == 3
	})
	unharmed(t, m, c, "a", "d", "e")
}
