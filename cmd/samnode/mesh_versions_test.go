package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/ui/api"
)

// newerPool is the pool of a samnode to come, which knows one more command.
type newerPool struct{ consensus.Machine }

var wonder = []byte(`{"v":2,"id":"wonder","wonder":{}}`)

func (m newerPool) Apply(entries []consensus.Entry) error {
	known := slices.DeleteFunc(slices.Clone(entries), func(e consensus.Entry) bool { return bytes.Equal(e.Data, wonder) })
	return m.Machine.Apply(known)
}

// newerNode runs the core node of a state directory in this process, as one of
// a samnode to come.
func newerNode(t *testing.T, state string) *node {
	t.Helper()
	id, err := readIdentity(state)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Config{
		State: state, Node: id.Node, Listen: "127.0.0.1:0", Slots: 1, Agents: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		BeatEvery: 500 * time.Millisecond, LeaseFor: 4 * time.Second, ReplaceAfter: 5 * time.Second,
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{host: host{c: c}, caught: make(chan struct{})}
	newer := func(ctx context.Context) error {
		conf, err := n.logConfig(ctx)
		if err != nil {
			return err
		}
		conf.Machines[machinePool] = newerPool{conf.Machines[machinePool]}
		if conf.Transport, err = n.transport(ctx); err != nil {
			return err
		}
		if n.log, err = consensus.Open(ctx, conf); err != nil {
			return err
		}
		n.group.set(n.log)
		n.onClose(n.log.Close)
		return nil
	}
	for _, step := range []func(context.Context) error{
		n.openState, n.openKey, n.openNetworkHere, newer, n.openMetrics, n.openSpaces, n.openWorkspacesHere, n.openPages,
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(errors.Join(err, n.close()))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- errors.Join(n.serve(ctx), n.close()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the end of the newer %s: %v", id.Node, err)
		}
	})
	return n
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
	var newer []*node
	for _, name := range []string{"b", "c"} {
		n := m.place(name)
		token := must[api.Invitation](old, "node", "invite", "--core").Token
		m.setUpNode(n, []string{"join", "--core", token, "--setup-only", "--state", n.state, "--name", name})
		newer = append(newer, newerNode(t, n.state))
		n.url = newer[len(newer)-1].base
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

	if _, err := newer[0].propose(t.Context(), consensus.Part{Machine: machinePool, Data: wonder}); err != nil {
		t.Errorf("a command of the newer version: %v", err)
	}
	if code := old.exits(); code != exitFailed || !strings.Contains(old.log.String(), "this node stops") || !strings.Contains(old.log.String(), "upgrade this node") {
		t.Errorf("the older node exits with %d", code)
	}
	must[chat.Project](b, "project", "add", "app", "--repo", "/nowhere.git")
	if said, code := old.runsOut(); code != exitFailed || !strings.Contains(said, "upgrade this node") {
		t.Errorf("a second start of the older node exits with %d: %s", code, said)
	}
	upgraded := newerNode(t, old.state)
	old.url = upgraded.base
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
