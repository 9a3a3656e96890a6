package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/git/gittest"
)

// TestPlainRemoteMerges: a branch is merged from the API in each of the three
// ways; what cannot be merged is refused with the names of the files; and a
// task goes on after its merge.
func TestPlainRemoteMerges(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, map[string]string{"README.md": "# app\n", "shared.txt": "one\n"})
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	tasks := map[string]taskView{}
	for _, method := range []string{"squash", "rebase", "merge", "conflict"} {
		text := sh("echo "+method+" > "+method+".txt", "git add .", "git commit -qm 'first of "+method+"'", "echo two >> "+method+".txt")
		if method == "conflict" {
			text = sh("echo theirs > shared.txt; echo 'a <b>' > 'odd name.txt'")
		}
		tasks[method] = must[taskView](n, "task", "run", "--project", "app", text)
	}
	for method, v := range tasks {
		tasks[method] = n.until(v.ID, "idle", func(v taskView) bool { return v.State == chat.Idle })
	}
	for method, parents := range map[string]int{"squash": 1, "rebase": 1, "merge": 2} {
		v := tasks[method]
		before := gitIn(t, repo, "rev-list", "--count", "main")
		code, body := n.post("/api/v1/tasks/"+string(v.ID)+"/merge", `{"method":"`+method+`"}`)
		if code != http.StatusOK {
			t.Fatalf("%s = %d %s", method, code, body)
		}
		if got := gitIn(t, repo, "show", "main:"+method+".txt"); got != method+"\ntwo" {
			t.Errorf("%s.txt on main = %q", method, got)
		}
		if got := len(strings.Fields(gitIn(t, repo, "rev-list", "--parents", "-1", "main"))) - 1; got != parents {
			t.Errorf("the tip after %s has %d parents, want %d", method, got, parents)
		}
		commits := map[string]string{"squash": "1", "rebase": "2", "merge": "3"}[method]
		if got := gitIn(t, repo, "rev-list", "--count", "main") + "-" + before; got != plus(before, commits)+"-"+before {
			t.Errorf("%s adds %s commits, want %s", method, got, commits)
		}
		v = must[taskView](n, "task", "show", string(v.ID))
		if v.PullRequest == nil || v.PullRequest.State != "merged" || v.Change.Merged == "" {
			t.Errorf("after %s: pull request %+v, change %+v", method, v.PullRequest, v.Change)
		}
		said(t, notes(n.latest(v.ID)), "Merged into main as", "("+method+")")
		if code, body := n.post("/api/v1/tasks/"+string(v.ID)+"/merge", `{}`); code != http.StatusConflict || !strings.Contains(body, "already") {
			t.Errorf("merging %s twice = %d %s", method, code, body)
		}
	}
	n.conflictThenGoOn(t, repo, tasks["conflict"], tasks["squash"])
	if code, body := n.post("/api/v1/tasks/"+string(tasks["merge"].ID)+"/merge", `{"method":"octopus"}`); code != http.StatusBadRequest || !strings.Contains(body, "octopus") {
		t.Errorf("an unknown method = %d %s", code, body)
	}
}

func plus(a, b string) string {
	var x, y int
	fmt.Sscan(a, &x)
	fmt.Sscan(b, &y)
	return fmt.Sprint(x + y)
}

// conflictThenGoOn: a conflict is refused and can be solved by the next turn;
// a merged task's next turn makes a change again.
func (n *testNode) conflictThenGoOn(t *testing.T, repo string, conflict, merged taskView) {
	t.Helper()
	gittest.Push(t, repo, "main", "meanwhile", map[string]string{"shared.txt": "ours\n"})
	for _, method := range []string{"merge", "squash", "rebase"} {
		code, body := n.post("/api/v1/tasks/"+string(conflict.ID)+"/merge", `{"method":"`+method+`"}`)
		if code != http.StatusConflict || !strings.Contains(body, "shared.txt") || strings.Contains(body, "odd name") {
			t.Errorf("%s of a conflict = %d %s, want the file's name", method, code, body)
		}
	}
	must[taskView](n, "task", "say", string(conflict.ID), "--wait", sh("git fetch -q origin", "git merge -q -X theirs -m 'Merge main' origin/main"))
	must[map[string]string](n, "task", "merge", string(conflict.ID))
	if got := gitIn(t, repo, "show", "main:odd name.txt"); got != "a <b>" {
		t.Errorf("after the conflict was solved: %q", got)
	}

	v := must[taskView](n, "task", "say", string(merged.ID), "--wait", sh("echo after > after.txt"))
	if v.State != chat.Idle || !v.Change.Pushed || v.Change.Files == 0 || v.Change.Merged != "" {
		t.Errorf("a turn after the merge: %s, change %+v", v.State, v.Change)
	}
	must[map[string]string](n, "task", "merge", string(merged.ID), "--method", "squash")
	if got := gitIn(t, repo, "show", "main:after.txt"); got != "after" {
		t.Errorf("after.txt on main = %q", got)
	}
}
