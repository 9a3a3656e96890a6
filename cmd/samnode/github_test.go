package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/forge/githubtest"
)

// shell is a task for the built-in agent.
func shell(lines string) string { return "Do it\n\n```sh\n" + lines + "\n```\n" }

// TestGitHubApp is a task whose repository is opened by a GitHub App: the pull
// request is a draft while a message waits, then ready; what checks, reviewers
// and a merge say there arrives in the chat.
func TestGitHubApp(t *testing.T) {
	needDocker(t)
	t.Parallel()
	hub := newHub(t)
	n := newNode(t, apiFlag(hub)...)
	app := hub.Install(githubtest.App{Repos: []string{widget}, May: map[string]string{
		"contents": "write", "pull_requests": "write", "metadata": "read", "checks": "read", "statuses": "read",
	}})
	n.secret("GITHUB_APP_ID", strconv.FormatInt(app.ID, 10))
	n.secret("GITHUB_APP_INSTALLATION", strconv.FormatInt(app.Installation, 10))
	n.secret("GITHUB_APP_KEY", string(app.Key))
	must[chat.Project](n, "project", "add", "widget", "--repo", hub.Git.CloneURL(widget), "--mode", "everything", "--publish", "draft")

	id := n.run("widget", shell("echo one > a.txt\nuntil test -e go; do sleep 0.1; done; rm go")).ID
	n.until(id, "working", func(t taskView) bool { return t.State == chat.Working })
	n.say(id, shell("until test -e go; do sleep 0.1; done; rm go\necho two >> a.txt"))
	let := func(number int) {
		n.until(id, "at it", func(t taskView) bool { return t.Turns == number && t.State == chat.Working })
		n.inside(id, "touch /workspaces/widget/go")
	}
	let(1)
	draft := n.until(id, "a draft", func(t taskView) bool { return t.PullRequest != nil && t.Turns == 2 })
	if draft.PullRequest.State != "draft" || draft.PullRequest.Number != 1 {
		t.Errorf("pull request = %+v", draft.PullRequest)
	}
	let(2)
	ready := n.turn(id, 2)
	if _, _, state := hub.Pull(widget, 1); ready.PullRequest.State != "open" || state != "open" || hub.Pulls(widget) != 1 {
		t.Errorf("pull request = %+v; there it is %s", ready.PullRequest, state)
	}

	hub.AddCheck(widget, ready.Branch, githubtest.Check{Name: "build", Status: "completed", Conclusion: "failure"})
	hub.AddReview(widget, 1, "bo", "CHANGES_REQUESTED", "Not yet.")
	n.until(id, "reviewed", func(t taskView) bool {
		return t.PullRequest.Checks == "failure" && t.PullRequest.Review == "changes_requested"
	})
	n.until(id, "told", func(taskView) bool {
		talk := n.talk(id)
		return strings.Contains(talk, "build") && strings.Contains(talk, "bo ")
	})
	hub.MergePull(widget, 1)
	n.until(id, "merged", func(t taskView) bool { return t.PullRequest.State == "merged" })
}

// TestPullRequestRefused is what the chat says when GitHub does not take the
// pull request, or does not let anyone in.
func TestPullRequestRefused(t *testing.T) {
	needDocker(t)
	t.Parallel()
	hub := newHub(t)
	n := newNode(t, append(apiFlag(hub), "--slots", "4")...)
	hub.NoDrafts(widget)
	must[chat.Project](n, "project", "add", "widget", "--repo", hub.Git.CloneURL(widget), "--mode", "everything", "--publish", "ready")

	n.secret("GITHUB_TOKEN", hub.Grant(githubtest.Token{Login: "ana", May: map[string]string{"contents": "write", "metadata": "read", "pull_requests": "read"}}))
	id := n.run("widget", shell("echo one > a.txt")).ID
	lacks := n.turn(id, 1)
	if !lacks.Change.Pushed || lacks.PullRequest != nil {
		t.Errorf("task = %+v", lacks.Task)
	}
	n.said(id, "The pull request was not updated: ")
	n.said(id, "the token may not do that; it needs pull_requests=write")

	// With a better token the next turn opens it.
	n.secret("GITHUB_TOKEN", hub.Grant(githubtest.Token{Login: "ana"}))
	n.say(id, shell("echo two >> a.txt"))
	if v := n.turn(id, 2); v.PullRequest == nil || v.PullRequest.Number != 1 {
		t.Errorf("pull request = %+v\n%s", v.PullRequest, n.talk(id))
	}

	// The repository takes no drafts (422): an ordinary one is opened.
	n.patch("projects/widget", map[string]string{"publish": "draft"})
	other := n.run("widget", shell("echo other > b.txt; exit 3")).ID
	if v := n.turn(other, 1); v.PullRequest == nil || v.PullRequest.State != "open" {
		t.Errorf("pull request = %+v\n%s", v.PullRequest, n.talk(other))
	}

	// No way in at all: the step says why.
	n.secret("GITHUB_TOKEN", "wrong")
	last := n.run("widget", shell("true")).ID
	failed := n.until(last, "failed", func(t taskView) bool { return rests(t.Task) })
	if failed.State != chat.Failed || failed.Failure.Step != chat.StepMirror || !strings.Contains(failed.Failure.Reason, "GITHUB_TOKEN") {
		t.Errorf("failure = %+v", failed.Failure)
	}
}
