package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// TestMeshThatWentOn gives up two of three core nodes and starts them again:
// together they are a majority of the mesh as it was.
func TestMeshThatWentOn(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m := foundMesh(t)
	a := m.nodes[0]
	b, c := m.join(a, "b", true), m.join(a, "c", true)
	m.awaitVoters(a, 3)
	must[chat.Project](a, "project", "add", "app", "--repo", "/nowhere.git")
	for _, n := range []*testNode{b, c, a} {
		n.kill()
	}
	for _, n := range []*testNode{b, c} {
		copyState(t, n.state, n.state+".copy")
	}
	if said, code := samnode(t, "recover", "--state", a.state, "--yes"); code != exitDone {
		t.Fatalf("recover exits with %d: %s", code, said)
	}

	// While the mesh is away they cannot know, and go on as they did.
	b.start()
	c.start()
	m.awaitVoters(b, 3)
	must[chat.Project](b, "project", "add", "aside", "--repo", "/nowhere.git")
	a.start()
	for _, n := range []*testNode{b, c} {
		overtaken(t, n.log.String, n.exits())
	}
	a.stop()
	for _, n := range []*testNode{b, c} { // and now they know, whoever is there
		said, code := n.runsOut()
		overtaken(t, func() string { return said }, code)
	}
	a.start()
	m.awaitVoters(a, 1)

	// While it is there they do not even begin.
	for _, n := range []*testNode{b, c} {
		if err := os.RemoveAll(n.state); err != nil {
			t.Fatal(err)
		}
		copyState(t, n.state+".copy", n.state)
		n.log = &lockedBuffer{}
		n.start()
	}
	for _, n := range []*testNode{b, c} {
		if out, _, code := n.cli("project", "add", "late", "--repo", "/nowhere.git"); code == exitDone {
			t.Errorf("a node that was given up accepts a project: %s", out)
		}
	}
	for _, n := range []*testNode{b, c} {
		overtaken(t, n.log.String, n.exits())
	}
	m.join(a, "d", true)
	if id := identityOf(t, filepath.Join(m.state, "d")); id.Epoch != identityOf(t, a.state).Epoch || id.Epoch == 0 {
		t.Errorf("a node that joined is of epoch %d", id.Epoch)
	}
	if list := must[[]chat.Project](a, "project", "list"); len(list) != 1 {
		t.Errorf("the mesh has the projects %v, want app alone", list)
	}
	unharmed(t, m, a, "a", "d")

	// Who was given up by mistake can take over again.
	was := identityOf(t, a.state).Epoch
	a.kill()
	if said, code := samnode(t, "recover", "--state", b.state, "--yes"); code != exitDone {
		t.Fatalf("recover exits with %d: %s", code, said)
	}
	if id := identityOf(t, b.state); id.Epoch != was+1 || id.Overtaken != 0 {
		t.Errorf("after recover the epoch is %d and overtaken by %d, want %d and none", id.Epoch, id.Overtaken, was+1)
	}
	b.start()
	m.awaitVoters(b, 1)
}

// overtaken checks how a node ends whose mesh has gone on without it.
func overtaken(t *testing.T, log func() string, code int) {
	t.Helper()
	for _, part := range []string{"the mesh has gone on without this node", "samnode recover", "samnode node invite", "another --state"} {
		if code != exitRefused || !strings.Contains(log(), part) {
			t.Errorf("a node that was given up exits with %d and does not say %q:\n%s", code, part, lastLines(log(), 20))
		}
	}
}

func identityOf(t *testing.T, state string) identity {
	t.Helper()
	id, err := readIdentity(state)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
