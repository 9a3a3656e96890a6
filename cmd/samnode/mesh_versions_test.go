package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/ui/api"
)

// newerPool is the pool of a samnode to come, which knows one more command.
type newerPool struct{ consensus.Machine }

var wonder = []byte(`{"v":2,"id":"wonder","wonder":{}}`)

func newer(m consensus.Machine) consensus.Machine { return newerPool{m} }

func (m newerPool) Apply(entries []consensus.Entry) error {
	known := slices.DeleteFunc(slices.Clone(entries), func(e consensus.Entry) bool { return bytes.Equal(e.Data, wonder) })
	return m.Machine.Apply(known)
}

// ofVersion builds the program under a version's name.
func ofVersion(t *testing.T, v string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "samnode")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X main.version="+v, "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", v, err, out)
	}
	return bin
}

// TestMeshVersions runs an older node among newer ones. The mesh says so; a
// command that the older one cannot read stops it, and it alone, until it is
// upgraded.
func TestMeshVersions(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m := &testMesh{t: t, state: t.TempDir()}
	t.Cleanup(func() { m.tearDown() })
	old := m.place("old")
	old.bin = ofVersion(t, "0.9.1")
	m.begin(old)
	var upgraded []*node
	for _, name := range []string{"b", "c"} {
		n := m.place(name)
		token := must[api.Invitation](old, "node", "invite", "--core").Token
		m.setUpNode(n, []string{"join", "--core", token, "--setup-only", "--state", n.state, "--name", name})
		upgraded = append(upgraded, nodeHere(t, n.state, newer))
		n.url = upgraded[len(upgraded)-1].base
	}
	b := m.nodes[1]
	m.awaitVoters(b, 3)
	for _, n := range []*testNode{old, b} {
		m.awaitNode(n, "b", "of its version", func(x api.Node) bool { return x.Version == version })
		out, _, code := n.cli("status")
		for _, part := range []string{"0.9.1", version, "the nodes run different versions: upgrade the older ones"} {
			if code != exitDone || !strings.Contains(out, part) {
				t.Errorf("status exits with %d and lacks %q:\n%s", code, part, out)
			}
		}
		if out, _, _ := n.cli("node", "list"); !strings.Contains(out, "0.9.1") || !strings.Contains(out, version) {
			t.Errorf("node list prints\n%s", out)
		}
		if out, _, _ := n.cli("doctor", "--state", n.state); !strings.Contains(out, "upgrade the older ones") {
			t.Errorf("the doctor says\n%s", out)
		}
	}

	if _, err := upgraded[0].propose(t.Context(), consensus.Part{Machine: machinePool, Data: wonder}); err != nil {
		t.Errorf("a command of the newer version: %v", err)
	}
	if code := old.exits(); code != exitRefused || !strings.Contains(old.log.String(), "this node stops") || !strings.Contains(old.log.String(), "upgrade this node") {
		t.Errorf("the older node exits with %d", code)
	}
	must[chat.Project](b, "project", "add", "app", "--repo", "/nowhere.git")
	if said, code := old.runsOut(); code != exitRefused || !strings.Contains(said, "upgrade this node") {
		t.Errorf("a second start of the older node exits with %d: %s", code, said)
	}
	old.url = nodeHere(t, old.state, newer).base
	m.await("the upgraded node to have everything", func() bool {
		var list struct{ Projects []chat.Project }
		return m.get(old, "projects", &list) && len(list.Projects) == 1
	})
	m.awaitVoters(old, 3)
	m.await("all to be of one version", func() bool {
		out, _, code := old.cli("status")
		return code == exitDone && !strings.Contains(out, "different versions")
	})
}
