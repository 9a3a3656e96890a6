package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// TestMeshWorker follows a worker through its life: it joins, runs tasks for
// three core nodes, shows its person the mesh, outlives the core node that it
// talks to, dies in the middle of a turn, comes back, and leaves.
func TestMeshWorker(t *testing.T) {
	needDocker(t)
	t.Parallel()
	m := newMesh(t, "--slots", "1")
	at := m.nodes[0]
	cores := m.alive()
	w := m.join(at, "w", false, "--slots", "2")
	m.awaitNode(at, "w", "as a worker with two slots", func(x api.Node) bool {
		return x.Online && x.Slots == 2 && !x.Core && !x.Voter && x.Version != "" && x.URL == w.url
	})
	if out, _, _ := at.cli("node", "list"); !strings.Contains(out, "worker") {
		t.Errorf("node list prints\n%s", out)
	}
	repo := localRepo(t, nil)
	must[chat.Project](at, "project", "add", "app", "--repo", repo, "--mode", "everything")
	for _, n := range cores {
		must[map[string]string](at, "node", "drain", filepath.Base(n.state))
	}

	v := at.runIdle("app", sh("echo one > one.txt; seq 200000"))
	if string(v.Lease.Node) != "w" || gitIn(t, repo, "show", v.Branch+":one.txt") != "one" {
		t.Fatalf("the task ran under %+v", v.Lease)
	}
	workerPages(t, w, at, v)
	reachedFromElsewhere(t, v, at, w)
	v = coreDies(t, m, w, v)
	v = workerDies(t, m, w, at, v)
	w.start()
	m.await("the old workspace to go", func() bool {
		old := v
		old.Workspace--
		return !strings.Contains(dockerRun(t, "ps", "-a", "--format", "{{.Names}}"), "samnode-"+spaceOf(old))
	})
	workerLeaves(t, m, w, at)
}

// workerPages: the person at the worker sees the mesh, and is a member at most.
func workerPages(t *testing.T, w, at *testNode, v taskView) {
	t.Helper()
	id := string(v.ID)
	for _, args := range []string{"status", "node list", "project list", "task show " + id, "people list", "backup show"} {
		if out, errs, code := w.cli(strings.Fields(args)...); code != exitDone || out == "" {
			t.Errorf("samnode %s at the worker exits with %d: %s", args, code, errs)
		}
	}
	for _, args := range []string{
		"node drain w", "node remove w", "node invite", "people role eve owner", "project add other --repo /x.git",
		"secret list", "secret rm X", "backup now",
	} {
		if out, errs, code := w.cli(strings.Fields(args)...); code != exitRefused || !strings.Contains(errs, "owner") {
			t.Errorf("samnode %s at the worker exits with %d: %s%s", args, code, out, errs)
		}
	}
	if got, want := len(w.items(v.ID)), len(at.items(v.ID)); got != want || got == 0 {
		t.Errorf("the worker shows %d items of the task, a core node %d", got, want)
	}
	if code, body := w.get("/t/" + id); code != http.StatusOK || !strings.Contains(body, "one.txt") {
		t.Errorf("the task's page at the worker: %d", code)
	}
	// No page that a browser has open elsewhere may write here.
	for _, path := range []string{"/t/" + id + "/stop", "/api/v1/leave"} {
		elsewhere := map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
		if code, body := ask(t, http.MethodPost, w.url+path, "", elsewhere); code != http.StatusForbidden {
			t.Errorf("a strange page's form for %s at the worker gets %d: %s", path, code, body)
		}
	}
	must[taskView](w, "task", "say", id, sh("echo two > two.txt"))
	v = at.until(v.ID, "idle after two turns", func(v taskView) bool { return v.State == chat.Idle && v.Turns == 2 && len(v.Queue) == 0 })
	if v.Change.Files != 2 {
		t.Errorf("after what was said at the worker the change is %+v", v.Change)
	}
}

// reachedFromElsewhere: what is only in the workspace is shown at other nodes.
func reachedFromElsewhere(t *testing.T, v taskView, nodes ...*testNode) {
	t.Helper()
	page := "/t/" + string(v.ID)
	var long chat.Message
	for _, i := range asTheyAre(nodes[0].items(v.ID)) {
		if i.Tool != nil && strings.Contains(i.Tool.Output, "199999") {
			long = i
		}
	}
	for i, n := range nodes {
		n.atPrompt(v.ID, "echo a$((20+22))b; cat one.txt", "a42b\r\none")
		port := fmt.Sprint(8120 + i)
		n.atPrompt(v.ID, "python3 -m http.server --bind 127.0.0.1 "+port+" >/dev/null 2>&1 & sleep 1; echo up$((1+1))", "up2")
		body := ""
		deadline := time.Now().Add(20 * time.Second)
		for !strings.Contains(body, port) && time.Now().Before(deadline) {
			_, body = n.get(page + "/ports")
		}
		if !strings.Contains(body, port) {
			t.Errorf("the ports at %s do not have %s", n.url, port)
		}
		if code, body := n.get(page + "/journal"); code != http.StatusOK || !strings.Contains(body, "one.txt") {
			t.Errorf("the journal at %s: %d, %d bytes", n.url, code, len(body))
		}
		if code, body := n.get(page + "/output/" + long.ID); code != http.StatusOK || !strings.Contains(body, "\n100000\n") || len(long.Tool.Output) >= len(body) {
			t.Errorf("the whole output at %s: %d, %d bytes", n.url, code, len(body))
		}
	}
}

// coreDies kills the core node that the worker talks to, in the middle of a
// turn: the turn goes on, and every line is there once.
func coreDies(t *testing.T, m *testMesh, w *testNode, v taskView) taskView {
	t.Helper()
	must[taskView](m.nodes[0], "task", "say", string(v.ID), lines(60))
	m.nodes[0].until(v.ID, "printing", func(v taskView) bool {
		return strings.Contains(fmt.Sprint(toolOutputs(m.nodes[0].items(v.ID))), "line 5.")
	})
	id, err := readIdentity(w.state)
	if err != nil {
		t.Fatal(err)
	}
	talks := m.named(id.Cores[0].Node) // the first is the one that answered
	watch := m.others(talks, w)[0]
	talks.kill()
	v = watch.until(v.ID, "done with three turns", func(v taskView) bool {
		if v.State == chat.NeedsYou || v.State == chat.Failed {
			t.Fatalf("the task is %s: %+v", v.State, v.Asks)
		}
		return v.State == chat.Idle && v.Turns == 3 && v.Change.Files == 3
	})
	if string(v.Lease.Node) != "w" || v.Workspace != 1 {
		t.Errorf("the task went to %s, workspace %d", v.Lease.Node, v.Workspace)
	}
	watch.checkOnce(v.ID, 60)
	if out, errs, code := w.cli("status"); code != exitDone {
		t.Errorf("status at the worker exits with %d: %s%s", code, out, errs)
	}
	talks.start()
	return v
}

// workerDies kills the worker in the middle of a turn: its lease runs out, and
// the task goes on at a core node.
func workerDies(t *testing.T, m *testMesh, w, at *testNode, v taskView) taskView {
	t.Helper()
	must[map[string]string](at, "node", "undrain", filepath.Base(at.state))
	must[taskView](at, "task", "say", string(v.ID), sh("echo started; sleep 600"))
	at.until(v.ID, "at work", func(v taskView) bool {
		return strings.Contains(fmt.Sprint(toolOutputs(at.items(v.ID))), "started")
	})
	w.kill()
	at.until(v.ID, "asking", func(v taskView) bool {
		return v.State == chat.NeedsYou && len(v.Asks) == 1 && v.Asks[0].Kind == chat.AskDelivery
	})
	m.awaitNode(at, "w", "silent", func(x api.Node) bool { return !x.Online && len(x.Leases) == 0 })
	must[taskView](at, "task", "answer", string(v.ID), "discard")
	must[taskView](at, "task", "say", string(v.ID), sh("cat one.txt; echo last > last.txt"))
	v = at.until(v.ID, "done elsewhere", func(v taskView) bool {
		return v.State == chat.Idle && v.Workspace == 2 && v.Change.Files == 4
	})
	if string(v.Lease.Node) != filepath.Base(at.state) {
		t.Errorf("the task went on at %s", v.Lease.Node)
	}
	return v
}

// workerLeaves: the node is gone from the mesh, its process ends, and its
// directory says so.
func workerLeaves(t *testing.T, m *testMesh, w, at *testNode) {
	t.Helper()
	m.awaitNode(at, "w", "back", func(x api.Node) bool { return x.Online })
	out, errs, code := w.cli("leave")
	if code != exitDone || !strings.Contains(out, "w has left the mesh") {
		t.Errorf("leave exits with %d: %s%s", code, out, errs)
	}
	if code := w.exits(); code != exitRefused || !strings.Contains(w.log.String(), "this node was removed from its mesh; to come back it needs an invitation") {
		t.Errorf("the node that left exits with %d", code)
	}
	m.await("it to be gone", func() bool { list := m.list(at); _, there := list["w"]; return len(list) == 3 && !there })
	file := filepath.Join(w.state, identityFile)
	if _, err := os.Stat(file); err == nil {
		t.Errorf("%s is still there", file)
	}
	if said, code := w.runsOut(); code != exitRefused || !strings.Contains(said, "left") || !strings.Contains(said, "invitation") {
		t.Errorf("a second start exits with %d: %s", code, said)
	}
	if err := os.Rename(file+".left", file); err != nil { // for the clean-up
		t.Error(err)
	}
}
