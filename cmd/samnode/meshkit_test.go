package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// testMesh is a mesh of several samnode processes.
type testMesh struct {
	t     testing.TB
	state string
	nodes []*testNode // by number; a dead one has no cmd
}

// meshTimes makes a mesh quick to notice who is gone.
func meshTimes() []string {
	return []string{"--beat", "500ms", "--lease", "4s", "--replace-after", "5s"}
}

// newMesh sets up a mesh of three core nodes on loopback, each a process.
func newMesh(t testing.TB, args ...string) *testMesh {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("", "sm")
	if err != nil {
		t.Fatal(err)
	}
	m := &testMesh{t: t, state: state}
	name := "m" + strings.ToLower(chat.NewID()[18:])
	t.Cleanup(func() { m.tearDown() })
	m.setUp(bin, name)
	for i := range 3 {
		n := &testNode{
			t: t, bin: bin, verb: "run", state: filepath.Join(state, fmt.Sprintf("%s-%d", name, i+1)),
			args: append(meshTimes(), args...), log: &lockedBuffer{},
		}
		m.nodes = append(m.nodes, n)
		m.up(n)
	}
	m.settled()
	return m
}

// tearDown stops every node and removes what it left.
func (m *testMesh) tearDown() {
	m.t.Helper()
	for _, n := range m.nodes {
		n.stop()
		n.clean()
		if m.t.Failed() {
			m.t.Logf("log of %s:\n%s", filepath.Base(n.state), lastLines(n.log.String(), 60))
		}
	}
	if err := os.RemoveAll(m.state); err != nil {
		m.t.Error(err)
	}
}

// setUp lets one process make the three directories.
func (m *testMesh) setUp(bin, name string) {
	m.t.Helper()
	log := &lockedBuffer{}
	cmd := exec.Command(bin, "dev", "--nodes", "3", "--listen", "127.0.0.1:0", "--state", m.state, "--name", name)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "samnode is ready: ") {
		m.t.Fatalf("dev --nodes 3 printed %q: %v\n%s", lines.Text(), cmd.Wait(), log)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		m.t.Fatalf("the end of dev --nodes 3: %v\n%s", err, log)
	}
}

// up starts a node; alone of three it is there, but cannot write.
func (m *testMesh) up(n *testNode) {
	m.t.Helper()
	n.start()
}

// settled waits until all three vote and are heard.
func (m *testMesh) settled() {
	m.t.Helper()
	m.await("three voters that are heard", func() bool {
		info, ok := m.info(m.alive()[0])
		if !ok || info.Voters != 3 || info.Leader == "" {
			return false
		}
		var list nodeList
		return m.get(m.alive()[0], "nodes", &list) && len(list.Nodes) >= 3 && !slices.ContainsFunc(list.Nodes, func(n api.Node) bool { return !n.Online || n.Slots == 0 })
	})
}

func (m *testMesh) await(what string, ok func() bool) {
	m.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			m.t.Fatalf("waited for %s in vain", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// alive are the nodes whose process runs.
func (m *testMesh) alive() []*testNode {
	return slices.DeleteFunc(slices.Clone(m.nodes), func(n *testNode) bool { return n.cmd == nil })
}

// get reads from one node's API, once.
func (m *testMesh) get(n *testNode, path string, into any) bool {
	c := http.Client{Timeout: 2 * time.Second}
	resp, err := c.Get(n.url + "/api/v1/" + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(into) == nil
}

func (m *testMesh) info(n *testNode) (api.MeshInfo, bool) {
	var info api.MeshInfo
	ok := m.get(n, "mesh", &info)
	return info, ok
}

// leader waits for a node that those who live agree on.
func (m *testMesh) leader() *testNode {
	m.t.Helper()
	var found *testNode
	m.await("a leader", func() bool {
		names := map[string]bool{}
		for _, n := range m.alive() {
			info, ok := m.info(n)
			if !ok || info.Leader == "" {
				return false
			}
			names[info.Leader] = true
		}
		if len(names) != 1 {
			return false
		}
		for _, n := range m.alive() {
			if names[filepath.Base(n.state)] {
				found = n
			}
		}
		return found != nil
	})
	return found
}

// named is the node of that name.
func (m *testMesh) named(name string) *testNode {
	m.t.Helper()
	i := slices.IndexFunc(m.nodes, func(n *testNode) bool { return filepath.Base(n.state) == name })
	if i < 0 {
		m.t.Fatalf("there is no node %s", name)
	}
	return m.nodes[i]
}

// others are the nodes that live, but these.
func (m *testMesh) others(but ...*testNode) []*testNode {
	return slices.DeleteFunc(m.alive(), func(n *testNode) bool { return slices.Contains(but, n) })
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
