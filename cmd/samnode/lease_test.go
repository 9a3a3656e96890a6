package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// TestSlots gives five tasks to two slots: they take turns, those that wait
// say why, and no slot is ever two tasks'.
func TestSlots(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t, "--slots", "2")
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	ids := map[chat.TaskID]bool{}
	for i := range 5 {
		v := must[taskView](n, "task", "run", "--project", "app", sh(fmt.Sprintf("echo line 1; sleep 0.5; echo %d > n.txt", i)))
		ids[v.ID] = true
	}
	whys, most := map[string]bool{}, 0
	deadline := time.Now().Add(3 * time.Minute)
	for done := 0; done < 5; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 5 tasks are done", done)
		}
		done = 0
		slots := map[string]chat.TaskID{}
		for _, v := range must[[]taskView](n, "task", "list") {
			if v.State == chat.Idle {
				done++
			}
			if v.State == chat.Failed {
				t.Fatalf("task failed: %+v", v.Failure)
			}
			if v.Why != "" {
				whys[v.Why] = true
			}
			if v.Lease == nil {
				continue
			}
			if other, taken := slots[v.Lease.Slot]; taken {
				t.Errorf("slot %s is of %s and of %s", v.Lease.Slot, other, v.ID)
			}
			slots[v.Lease.Slot] = v.ID
		}
		most = max(most, len(slots))
	}
	if most != 2 {
		t.Errorf("at most %d slots were in use, want 2", most)
	}
	for _, want := range []string{"Next in line: all 2 slots are in use.", "2 ahead of you: all 2 slots are in use."} {
		if !whys[want] {
			t.Errorf("no task said %q; they said %v", want, whys)
		}
	}
	for id := range ids {
		v := n.idle(id)
		checkItems(t, n.items(id), "line 1")
		if !v.Change.Pushed || v.Turns != 1 {
			t.Errorf("task %s = %+v after %d turns", id, v.Change, v.Turns)
		}
	}
}

// TestProjectAsksForALabel: a task waits, and says why, until a machine has what
// its project asks for.
func TestProjectAsksForALabel(t *testing.T) {
	needDocker(t)
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything", "--label", "gpu")
	id := n.run("app", sh("echo hello > hello.txt")).ID
	n.until(id, "told that no machine has the label", func(v taskView) bool { return strings.Contains(v.Why, "gpu") })
	nodes := must[[]api.Node](n, "node", "list")
	if got := must[api.Node](n, "node", "label", nodes[0].Name, "gpu"); !slices.Equal(got.Labels, []string{"gpu"}) {
		t.Errorf("its labels are %q", got.Labels)
	}
	if v := n.idle(id); v.Turns != 1 {
		t.Errorf("task = %+v", v)
	}
}

// stopTask presses Stop and waits until the task is stopped.
func (n *testNode) stopTask(v taskView, flags ...string) taskView {
	n.t.Helper()
	must[taskView](n, append([]string{"task", "stop", string(v.ID)}, flags...)...)
	return n.until(v.ID, "stopped", func(v taskView) bool { return v.State == chat.Stopped })
}

// retried presses Retry and waits until the work is done.
func (n *testNode) retried(v taskView, repo string) taskView {
	n.t.Helper()
	must[taskView](n, "task", "retry", string(v.ID))
	v = n.idle(v.ID)
	if got := gitIn(n.t, repo, "show", v.Branch+":done.txt"); got != "done" {
		n.t.Errorf("done.txt = %q", got)
	}
	return v
}

// slow is done at once the second time.
var slow = sh("if [ -e ~/once ]; then echo done > done.txt; else touch ~/once; echo started; sleep 600; fi")

// TestStop presses Stop in each state, with and without force, and Retry.
func TestStop(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t, "--slots", "1")
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	working := func(v taskView) taskView {
		return n.until(v.ID, "working", func(v taskView) bool {
			return v.State == chat.Working && strings.Contains(fmt.Sprint(toolOutputs(n.items(v.ID))), "started")
		})
	}
	first := must[taskView](n, "task", "run", "--project", "app", slow)
	queued := must[taskView](n, "task", "run", "--project", "app", sh("echo done > done.txt"))
	working(first)
	if v := n.stopTask(queued); v.Lease != nil || v.Workspace != 0 || v.Turns != 0 {
		t.Errorf("stopped while queued = %+v", v.Task)
	}
	v := n.stopTask(first)
	if v.Turn.Stop != "cancelled" || v.Lease == nil {
		t.Errorf("stopped while working = turn %+v, lease %+v", v.Turn, v.Lease)
	}
	if v = n.retried(first, repo); v.Turns != 2 || v.Workspace != 1 {
		t.Errorf("retried: turn %d in workspace %d, want 2 in 1", v.Turns, v.Workspace)
	}
	n.retried(queued, repo) // takes the idle one's slot

	third := must[taskView](n, "task", "run", "--project", "app", slow)
	n.until(third.ID, "preparing", func(v taskView) bool { return v.State != chat.Queued })
	if v = n.stopTask(third); v.Turns == 0 && v.Lease != nil {
		t.Errorf("stopped while preparing, it keeps %+v", v.Lease)
	}
	must[taskView](n, "task", "retry", string(third.ID))
	working(third)
	v = n.stopTask(third, "--force")
	if v.Lease != nil || v.Turn.Stop != "cancelled" {
		t.Errorf("stopped by force = lease %+v, turn %+v", v.Lease, v.Turn)
	}
	if w := n.retried(third, repo); w.Workspace != v.Workspace+1 {
		t.Errorf("after force it went on in workspace %d, was %d", w.Workspace, v.Workspace)
	}
}

func toolOutputs(items []chat.Message) []string {
	var out []string
	for _, m := range asTheyAre(items) {
		if m.Tool != nil {
			out = append(out, m.Tool.Output)
		}
	}
	return out
}

// TestStopWhilePublishing: what is on its way is finished, then the task is
// stopped; Retry of a turn that ended well does nothing twice.
func TestStopWhilePublishing(t *testing.T) {
	needDocker(t)
	t.Parallel()
	h, project := pullHub(t)
	reached, goOn := make(chan bool), make(chan bool)
	var once sync.Once
	h.Before(func(req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/pulls") {
			once.Do(func() { reached <- true; <-goOn })
		}
	})
	n := newNode(t, hubArgs(t, h)...)
	project(n)
	v := must[taskView](n, "task", "run", "--project", "app", sh("echo done > done.txt"))
	<-reached
	if v = must[taskView](n, "task", "stop", string(v.ID)); v.State != chat.Publishing || !v.Stopping {
		t.Errorf("stop while publishing = %s, stopping %t", v.State, v.Stopping)
	}
	goOn <- true
	v = n.until(v.ID, "stopped", func(v taskView) bool { return v.State == chat.Stopped })
	if v = n.retried(v, h.Dir("acme/app")); v.Turns != 1 {
		t.Errorf("%d turns, want 1", v.Turns)
	}
	checkOnePull(t, h, v)
}

// TestTwoAnswer: of two who answer the same permission at once, one is heard,
// and the other is told.
func TestTwoAnswer(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "ask")
	v := must[taskView](n, "task", "run", "--project", "app", sh("echo done > done.txt"))
	v = n.until(v.ID, "asking", func(v taskView) bool { return len(v.Asks) == 1 })
	options := []string{"run", "skip"}
	codes := make([]int, 2)
	var wg sync.WaitGroup
	for i, option := range options {
		wg.Go(func() {
			codes[i], _ = n.post("/"+path("api", "v1", "tasks", string(v.ID), "asks", v.Asks[0].ID), `{"option":"`+option+`"}`)
		})
	}
	wg.Wait()
	winner := 0
	if codes[1] == http.StatusOK {
		winner = 1
	}
	if codes[winner] != http.StatusOK || codes[1-winner] != http.StatusConflict {
		t.Fatalf("the answers got %v, want one 200 and one 409", codes)
	}
	v = n.idle(v.ID)
	answered := ""
	for _, m := range asTheyAre(n.items(v.ID)) {
		if m.Ask != nil && m.Ask.Answer != nil {
			answered += m.Ask.Answer.Option
		}
	}
	if answered != options[winner] || (v.Change.Files == 1) != (answered == "run") {
		t.Errorf("%q was heard, %q answered first; %d files", answered, options[winner], v.Change.Files)
	}
}

// TestOneNodePerState: a second process on the same directory says what to do.
func TestOneNodePerState(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, n.bin, "dev", "--listen", "127.0.0.1:0", "--state", n.state).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is in use by another samnode; stop it or choose another --state") {
		t.Errorf("a second node on the state directory: %v\n%s", err, out)
	}
	must[[]taskView](n, "task", "list") // the first is as it was
}

// TestDetach ends the node as systemd would, in the middle of a turn. The
// agent goes on without it, and nothing that it said is missing afterwards.
func TestDetach(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	v := must[taskView](n, "task", "run", "--project", "app",
		sh("i=0; while [ ! -e /tmp/enough ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo $i > last.txt"))
	n.until(v.ID, "working", func(v taskView) bool { return len(toolOutputs(n.items(v.ID))) > 0 })
	v = must[taskView](n, "task", "show", string(v.ID))
	for range 3 {
		n.stop()
		if got := inSpace(t, v, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'script'"); got == "0" {
			t.Error("the agent is gone with the node")
		}
		n.start()
	}
	n.stop()
	inSpace(t, v, "touch /tmp/enough") // the turn ends while nobody looks
	n.start()
	v = n.idle(v.ID)
	if got := fmt.Sprint(checkLines(t, n.items(v.ID))); got != gitIn(t, repo, "show", v.Branch+":last.txt") {
		t.Errorf("the chat has %s lines, the script printed %s", got, gitIn(t, repo, "show", v.Branch+":last.txt"))
	}
	n.checkJournal(v)
	checkOneTurn(t, n, v)
}

// TestHugeOutput prints a line of 20 MiB and 20 MiB of lines: the chat has the
// beginning, the end and the size, and the node stays small.
func TestHugeOutput(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	v := n.runIdle("app",
		sh("echo begin; head -c 20971520 /dev/zero | tr '\\0' x; echo; echo the end of one")+"\n"+
			sh("yes 'a line of some length' | head -c 20971520; echo; echo the end of many")+"\n"+
			sh("head -c 3000000 /dev/urandom; echo; echo the end of noise; echo done > done.txt"))
	outputs := toolOutputs(n.items(v.ID))
	if len(outputs) != 3 {
		t.Fatalf("%d tools, want 3", len(outputs))
	}
	for i, want := range []string{"the end of one", "the end of many", "the end of noise"} {
		if !strings.Contains(outputs[i], want) || len(outputs[i]) > chat.MaxBody {
			t.Errorf("output %d has %d bytes and ends with %.200q", i, len(outputs[i]), outputs[i][max(0, len(outputs[i])-200):])
		}
	}
	n.checkJournal(v)
	if mib := peak(t, n.cmd.Process.Pid); mib > 300 {
		t.Errorf("the node took %d MiB", mib)
	} else {
		t.Logf("the node took %d MiB at most", mib)
	}
}

// peak is the most memory that a process had at once, in MiB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
