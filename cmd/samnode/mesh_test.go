package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// lines is a turn that prints numbered lines, one each tenth of a second.
func lines(n int) string {
	return sh(fmt.Sprintf("for i in $(seq %d); do echo \"line $i.\"; sleep 0.1; done; echo done > done.txt", n))
}

// TestMeshLeaderKilled kills the leader while a task runs on another node and
// is watched at a third: the mesh takes writes again, the task goes on, and
// every line is there exactly once, at every node.
func TestMeshLeaderKilled(t *testing.T) {
	needDocker(t)
	t.Parallel()
	m := newMesh(t, "--slots", "1")
	leader := m.leader()
	repo := localRepo(t, nil)
	other := m.others(leader)[0]
	must[chat.Project](other, "project", "add", "app", "--repo", repo, "--mode", "everything")
	must[map[string]string](other, "node", "drain", filepath.Base(leader.state))
	v := must[taskView](other, "task", "run", "--project", "app", lines(60))
	v = other.until(v.ID, "printing", func(v taskView) bool {
		return strings.Contains(fmt.Sprint(toolOutputs(other.items(v.ID))), "line 5.")
	})
	if string(v.Lease.Node) == filepath.Base(leader.state) {
		t.Fatalf("the task runs on %s, which drains", v.Lease.Node)
	}
	leader.kill()
	began := time.Now()
	said := must[taskView](other, "task", "run", "--project", "app", "--mode", "everything", sh("echo second > second.txt"))
	t.Logf("a task was accepted again %s after kill -9 of the leader", time.Since(began).Round(time.Millisecond))

	v = other.idle(v.ID)
	for _, n := range m.alive() {
		at := n.until(v.ID, "idle at "+n.url, func(v taskView) bool { return v.State == chat.Idle })
		out := strings.Join(toolOutputs(n.items(at.ID)), "\n")
		for i := 1; i <= 60; i++ {
			if got := strings.Count(out, fmt.Sprintf("line %d.\n", i)); got != 1 {
				t.Errorf("line %d is there %d times at %s", i, got, n.url)
			}
		}
	}
	if got := gitIn(t, repo, "show", v.Branch+":done.txt"); got != "done" || v.Turns != 1 {
		t.Errorf("done.txt = %q after %d turns", got, v.Turns)
	}
	other.idle(said.ID)
	// The leader comes back and catches up.
	leader.start()
	at := leader.until(said.ID, "there", func(v taskView) bool { return v.State == chat.Idle })
	checkItems(t, leader.items(at.ID), "")
}

// TestMeshNodeDies kills the node that runs a task: its lease runs out, another
// node goes on in workspace 2 from the last pushed commit, and the turn whose
// end nobody saw is asked about, not replayed.
func TestMeshNodeDies(t *testing.T) {
	needDocker(t)
	t.Parallel()
	m := newMesh(t, "--slots", "1")
	repo := localRepo(t, nil)
	first := m.nodes[0]
	must[chat.Project](first, "project", "add", "app", "--repo", repo, "--mode", "everything")
	v := must[taskView](first, "task", "run", "--project", "app", sh("echo one > one.txt"))
	v = first.idle(v.ID)
	dying := m.named(string(v.Lease.Node))
	watch := m.others(dying)[0]
	must[taskView](watch, "task", "say", string(v.ID), sh("echo started; sleep 600"))
	watch.until(v.ID, "at work", func(v taskView) bool {
		return strings.Contains(fmt.Sprint(toolOutputs(watch.items(v.ID))), "started")
	})
	dying.kill()
	v = watch.until(v.ID, "asking", func(v taskView) bool { return v.State == chat.NeedsYou && len(v.Asks) == 1 })
	if v.Turn.Delivery != chat.Unknown || v.Asks[0].Kind != chat.AskDelivery {
		t.Errorf("the turn is %s and asks %+v, want unknown and about its delivery", v.Turn.Delivery, v.Asks)
	}
	must[taskView](watch, "task", "answer", string(v.ID), "discard")
	must[taskView](watch, "task", "say", string(v.ID), sh("cat one.txt; echo two > two.txt"))
	v = watch.until(v.ID, "done elsewhere", func(v taskView) bool {
		return v.State == chat.Idle && v.Workspace == 2 && v.Change.Files == 2
	})
	if string(v.Lease.Node) == filepath.Base(dying.state) {
		t.Errorf("the task is on %s, which is dead", v.Lease.Node)
	}
	for file, want := range map[string]string{"one.txt": "one", "two.txt": "two"} {
		if got := gitIn(t, repo, "show", v.Branch+":"+file); got != want {
			t.Errorf("%s = %q", file, got)
		}
	}
	// The dead node comes back: its lease is gone, and so is its container.
	dying.start()
	m.await("the old workspace to go", func() bool {
		old := v
		old.Workspace = 1
		return !strings.Contains(dockerRun(t, "ps", "-a", "--format", "{{.Names}}"), "samnode-"+spaceOf(old))
	})
}

// TestMeshNodePaused stops a node for longer than its lease. When it wakes, its
// lease is another's: it pushes nothing, keeps its work and says so.
func TestMeshNodePaused(t *testing.T) {
	needDocker(t)
	t.Parallel()
	m := newMesh(t, "--slots", "1")
	repo := localRepo(t, nil)
	watch := m.leader()
	must[chat.Project](watch, "project", "add", "app", "--repo", repo, "--mode", "everything")
	must[map[string]string](watch, "node", "drain", filepath.Base(watch.state))
	v := must[taskView](watch, "task", "run", "--project", "app", sh("echo old > old.txt; echo started; sleep 8; echo late > late.txt"))
	v = watch.until(v.ID, "at work", func(v taskView) bool {
		return strings.Contains(fmt.Sprint(toolOutputs(watch.items(v.ID))), "started")
	})
	paused := m.named(string(v.Lease.Node))
	if err := paused.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	v = watch.until(v.ID, "asking", func(v taskView) bool { return v.State == chat.NeedsYou })
	must[taskView](watch, "task", "answer", string(v.ID), "discard")
	must[taskView](watch, "task", "say", string(v.ID), sh("echo new > new.txt"))
	v = watch.until(v.ID, "done elsewhere", func(v taskView) bool { return v.State == chat.Idle && v.Workspace == 2 && v.Change.Pushed })
	head := gitIn(t, repo, "rev-parse", v.Branch)
	if err := paused.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	watch.until(v.ID, "told what is kept", func(v taskView) bool {
		for _, i := range watch.items(v.ID) {
			if i.Kind == chat.KindStatus && strings.Contains(i.Text, "kept") && i.Workspace != 2 {
				return true
			}
		}
		return false
	})
	if got := gitIn(t, repo, "rev-parse", v.Branch); got != head {
		t.Errorf("the branch moved from %s to %s after the lease was lost", head, got)
	}
}

// TestMeshReadsWithoutMajority stops two of three: pages and API still read,
// writes are refused in a sentence, and both come back with the majority.
func TestMeshReadsWithoutMajority(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes; -short is set")
	}
	t.Parallel()
	m := newMesh(t)
	last := m.nodes[2]
	must[chat.Project](last, "project", "add", "app", "--repo", "/nowhere.git")
	m.nodes[0].kill()
	m.nodes[1].kill()
	m.await("it to notice", func() bool { info, ok := m.info(last); return ok && !info.Quorum })
	if out, errs, code := last.cli("project", "list"); code != exitDone || !strings.Contains(out, "app") {
		t.Errorf("reading exits with %d: %s", code, errs)
	}
	_, errs, code := last.cli("project", "add", "other", "--repo", "/nowhere.git")
	if code == exitDone || !strings.Contains(errs, "majority") && !strings.Contains(errs, "leader") {
		t.Errorf("writing exits with %d: %s", code, errs)
	}
	if _, _, code := last.cli("status"); code != exitFailed {
		t.Errorf("status exits with %d without a majority", code)
	}
	m.nodes[0].start()
	m.leader()
	must[chat.Project](last, "project", "add", "third", "--repo", "/nowhere.git")
}
