package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// TestStartOverlaps: the usual container starts beside the fetch. What the
// fetch brings decides all the same.
func TestStartOverlaps(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t, "--slots", "3")
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything", "--publish", "branch")
	const text = "Look\n\n```sh\necho dev=$FROM_DEV.\n```\n"
	first := must[taskView](n, "task", "run", "--project", "app", "--wait", text)
	checkItems(t, n.items(first.ID), "dev=.")

	work := t.TempDir()
	gitIn(t, work, "clone", "-q", repo, ".")
	if err := os.WriteFile(work+"/.devcontainer.json", []byte(`{"image": "`+defaultImage+`", "containerEnv": {"FROM_DEV": "yes"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	gitIn(t, work, "add", ".")
	gitIn(t, work, "commit", "-qm", "a dev container")
	gitIn(t, work, "push", "-q", "origin", "HEAD")
	second := must[taskView](n, "task", "run", "--project", "app", "--wait", text)
	checkItems(t, n.items(second.ID), "dev=yes.")
	for _, s := range second.Steps {
		if s.State != chat.StepDone || s.Name == chat.StepImage && !strings.Contains(s.Note, ".devcontainer.json") {
			t.Errorf("step %+v", s)
		}
	}

	if err := os.Rename(repo, repo+".away"); err != nil {
		t.Fatal(err)
	}
	third, _, code := n.cli("task", "run", "--project", "app", "--base", "main", "--wait", "--json", text)
	if code != exitFailed || !strings.Contains(third, `"step":"`+string(chat.StepMirror)) {
		t.Errorf("without its repository a task exits with %d: %s", code, third)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := exec.CommandContext(t.Context(), "docker", "ps", "-aq", "--filter", "label=samnode.mesh="+n.engineName()).Output()
		if err != nil {
			t.Fatal(err)
		}
		if left := strings.Fields(string(out)); len(left) == 2 { // those of the idle tasks
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%d containers are left, want 2", len(left))
		}
	}
}
