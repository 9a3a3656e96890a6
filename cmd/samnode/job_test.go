package main

import (
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// TestMainJob is the promise of the README: a task on a repository given by
// its path runs, streams, pushes a branch, and is merged.
func TestMainJob(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, nil)
	p := must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	if p.Name != "app" || p.Repo != repo {
		t.Fatalf("project add = %+v", p)
	}
	task := must[taskView](n, "task", "run", "--project", "app", "--wait", "Write a line\n\n```sh\necho hello > hello.txt\nls\n```\n")
	if task.State != chat.Idle || task.Failure != nil {
		t.Fatalf("task = %+v", task)
	}
	if got := gitIn(t, repo, "show", task.Branch+":hello.txt"); got != "hello" {
		t.Errorf("hello.txt on the branch = %q", got)
	}
	if !task.Change.Pushed || task.Change.Files != 1 || task.Change.Added != 1 {
		t.Errorf("change = %+v, want one pushed file with one line", task.Change)
	}
	checkItems(t, n.items(task.ID), "hello.txt")

	must[map[string]string](n, "task", "merge", string(task.ID), "--method", "squash")
	if got := gitIn(t, repo, "show", "main:hello.txt"); got != "hello" {
		t.Errorf("hello.txt on main = %q", got)
	}
	md, _, code := n.cli("task", "export", string(task.ID))
	if code != exitDone || !strings.Contains(md, "echo hello") {
		t.Errorf("export = %d %s", code, md)
	}
}

// checkItems holds the rules of a task's messages: seq is dense, ids are
// unique, and some tool printed what it should.
func checkItems(t *testing.T, items []chat.Message, printed string) {
	t.Helper()
	seen, found := map[string]bool{}, false
	var seqs = map[uint64]bool{}
	for _, m := range items {
		if seen[m.ID] {
			continue // it changed between two pages
		}
		seen[m.ID], seqs[m.Seq] = true, true
		found = found || m.Tool != nil && strings.Contains(m.Tool.Output, printed)
	}
	for i := range uint64(len(seqs)) {
		if !seqs[i+1] {
			t.Errorf("seq %d is missing in %d items", i+1, len(seqs))
		}
	}
	if !found {
		t.Errorf("no tool printed %q: %+v", printed, items)
	}
}
