package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/chat"
)

// smallDisk mounts a file system of its own for a node's state.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("needs the right to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestMeshFullDisks fills the disk of a follower and then the leader's. Each
// stops and says why; the mesh goes on, and no write is refused that another
// node could take. With room they come back.
func TestMeshFullDisks(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	disks := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		disks[name] = smallDisk(t, "96m")
	}
	m := &testMesh{t: t, state: t.TempDir()}
	t.Cleanup(func() { m.tearDown() })
	for name, dir := range disks {
		m.place(name).state = filepath.Join(dir, name)
	}
	a := m.nodes[0]
	m.begin(a)
	for _, n := range m.nodes[1:] {
		m.enter(a, n, true)
	}
	m.awaitVoters(a, 3)
	must[chat.Project](a, "project", "add", "app", "--repo", "/nowhere.git")

	var all []string
	leader := m.leader()
	follower := m.others(leader)[0]
	all = append(all, fillsUp(t, follower, leader)...)
	freed(t, m, follower, all)
	leader = m.leader()
	all = append(all, fillsUp(t, leader, m.others(leader)[0])...)
	m.leader()
	freed(t, m, leader, all)
	unharmed(t, m, a, "a", "b", "c")
}

// fillsUp leaves little room on a node's disk and writes at another until the
// node stops. It returns what was acknowledged.
func fillsUp(t *testing.T, n, at *testNode) (ids []string) {
	t.Helper()
	fill(t, filepath.Join(filepath.Dir(n.state), "filler"), 1<<20)
	ended := make(chan int, 1)
	go func() { ended <- n.exits() }()
	text := strings.Repeat("all work and no play ", 3000)
	for code := -1; code < 0; {
		select {
		case code = <-ended:
			if code != exitFailed {
				t.Errorf("the node with the full disk exits with %d", code)
			}
		default:
		}
		id := chat.NewID() // one more after the end
		status, body := at.post("/api/v1/tasks", fmt.Sprintf(`{"id":%q,"project":"app","text":%q,"draft":true}`, id, text))
		if status != http.StatusCreated {
			t.Fatalf("after %d tasks another node answers %d: %s", len(ids), status, body)
		}
		ids = append(ids, id)
	}
	if !strings.Contains(n.log.String(), "this node stops: the disk of this node is full: free some space") {
		t.Error("the node does not say why it stopped")
	}
	t.Logf("%s stopped after %d tasks", filepath.Base(n.state), len(ids))
	return ids
}

// freed makes room again: the node comes back and has everything.
func freed(t *testing.T, m *testMesh, n *testNode, ids []string) {
	t.Helper()
	if err := os.Remove(filepath.Join(filepath.Dir(n.state), "filler")); err != nil {
		t.Fatal(err)
	}
	n.start()
	m.await("it to have everything", func() bool {
		var list struct{ Tasks []chat.Task }
		return m.get(n, "tasks", &list) && len(list.Tasks) >= len(ids)
	})
	out, errs, code := n.cli("task", "list", "--json")
	if code != exitDone {
		t.Fatalf("task list exits with %d: %s", code, errs)
	}
	for _, id := range ids {
		if !strings.Contains(out, id) {
			t.Errorf("task %s was acknowledged and is lost", id)
		}
	}
	m.awaitVoters(n, 3)
}
