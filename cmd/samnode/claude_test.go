package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git/gittest"
	"github.com/samnode/samnode/workspace/modeltest"
)

// TestClaudeOnGitHub is the main job with the real Claude Code: an edit asked
// and answered, a pushed branch, one pull request that a second turn updates,
// and a second workspace that goes on with the conversation.
func TestClaudeOnGitHub(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	n := newAgentNode(t, "claude", apiFlag(hub)...)
	token := hub.Grant(githubtest.Token{Login: "ana", Repos: []string{widget}})
	n.secret("GITHUB_TOKEN", token)
	must[chat.Project](n.testNode, "project", "add", "widget", "--repo", hub.Git.CloneURL(widget), "--agent", "claude", "--mode", "ask", "--publish", "ready")

	id := n.run("widget", "Write it. SCENARIO=edit FILE=a.txt TEXT=alpha").ID
	if ask := n.allow(id); !strings.Contains(ask.Title+ask.Detail, "a.txt") {
		t.Errorf("ask = %+v", ask)
	}
	first := n.turn(id, 1)
	if got := gittest.Git(t, hub.Dir(widget), "show", first.Branch+":a.txt"); got != "alpha" {
		t.Errorf("a.txt on the branch = %q", got)
	}
	pr := first.PullRequest
	if pr == nil || pr.Number != 1 || hub.Pulls(widget) != 1 || pr.State != "open" {
		t.Fatalf("pull request = %+v, %d of them\n%s", pr, hub.Pulls(widget), n.talk(id))
	}
	if first.Usage.Input == 0 || first.Usage.Output == 0 || first.Usage.Cost == 0 || first.Session == "" {
		t.Errorf("usage %+v, session %q", first.Usage, first.Session)
	}
	_, body, _ := hub.Pull(widget, 1)

	// The agent commits by itself.
	n.say(id, `Commit it. SCENARIO=bash CMD="echo more >> a.txt; git commit -qam 'By Claude'; env"`)
	n.allow(id)
	second := n.turn(id, 2)
	if second.PullRequest == nil || second.PullRequest.Number != 1 || hub.Pulls(widget) != 1 || second.Session != first.Session {
		t.Errorf("second turn: %+v, session %s was %s", second.PullRequest, second.Session, first.Session)
	}
	if log := gittest.Git(t, hub.Dir(widget), "log", "--format=%s", second.Branch); !strings.Contains(log, "By Claude") {
		t.Errorf("log of the branch: %s", log)
	}
	if _, now, _ := hub.Pull(widget, 1); now == body {
		t.Errorf("the pull request's text did not follow: %s", now)
	}
	n.hides(id, realKey, token)
	if strings.Contains(n.talk(id), realKey) {
		t.Error("the chat holds the key")
	}
	steps := n.api.Steps()
	if len(steps) == 0 || slices.ContainsFunc(steps, func(r modeltest.Request) bool { return r.Key != realKey }) {
		t.Errorf("the model API did not get its key in each of %d requests", len(steps))
	}

	n.secondWorkspace(t, id, second)
	if hub.Pulls(widget) != 1 {
		t.Errorf("%d pull requests", hub.Pulls(widget))
	}
}

// secondWorkspace releases the task's workspace and goes on in the next one.
func (n *agentNode) secondWorkspace(t *testing.T, id chat.TaskID, before taskView) {
	t.Helper()
	was := len(n.latest(id))
	if err := newClient(n.url).call(t.Context(), http.MethodPost, path("tasks", string(id), "release"), nil, nil); err != nil {
		t.Fatal(err)
	}
	n.until(id, "released", func(t taskView) bool { return t.Lease == nil })
	seen := len(n.api.Steps())
	n.say(id, "Go on. SCENARIO=hello")
	third := n.turn(id, 3)
	if third.Workspace != 2 || third.Session != before.Session || third.Branch != before.Branch {
		t.Errorf("workspace %d, session %s (was %s)", third.Workspace, third.Session, before.Session)
	}
	steps := n.api.Steps()[seen:]
	if len(steps) == 0 || !bytes.Contains(steps[len(steps)-1].Body, []byte("By Claude")) {
		t.Error("the model does not see the conversation before")
	}
	messages := n.latest(id)
	texts := map[string]int{}
	for _, m := range messages {
		if m.Kind == chat.KindUser {
			texts[m.Text]++
		}
	}
	for text, times := range texts {
		if times != 1 {
			t.Errorf("%q is %d times in the chat", text, times)
		}
	}
	if added := len(messages) - was; added > 6 {
		t.Errorf("the second workspace brought %d messages:\n%s", added, n.talk(id))
	}
	n.said(id, "Hello from the scripted model")
	var item struct{ Index uint64 }
	if out, _, _ := n.cli("task", "logs", string(id), "--json"); json.NewDecoder(strings.NewReader(out)).Decode(&item) != nil || item.Index == 0 {
		t.Error("items carry no index")
	}
}

// TestClaudeConverses walks one conversation through what a person does in it:
// answers a question, refuses a tool, lets it plan, changes the mode, stops it
// in the middle of a sentence.
func TestClaudeConverses(t *testing.T) {
	t.Parallel()
	n := newAgentNode(t, "claude")
	repo := localRepo(t, nil)
	must[chat.Project](n.testNode, "project", "add", "app", "--repo", repo, "--agent", "claude", "--mode", "ask")

	id := n.run("app", "SCENARIO=ask").ID
	question := n.ask(id, chat.AskQuestion)
	if len(question.Fields) == 0 || !slices.Equal(question.Fields[0].Choices, []string{"Red", "Blue"}) {
		t.Fatalf("question = %+v", question)
	}
	must[taskView](n.testNode, "task", "answer", string(id), question.Fields[0].Name+"=Blue", "accept")
	n.turn(id, 1)
	n.said(id, "You answered: ")
	n.said(id, "Blue")

	// A permission is refused; nothing happens on the disk.
	n.say(id, "SCENARIO=edit FILE=refused.txt")
	ask := n.ask(id, chat.AskPermission)
	i := slices.IndexFunc(ask.Options, func(o chat.AskOption) bool { return o.Kind == "reject_once" })
	must[taskView](n.testNode, "task", "answer", string(id), ask.Options[max(i, 0)].ID)
	n.until(id, "at rest", func(t taskView) bool { return t.Turns == 2 && rests(t.Task) })
	if out := n.inside(id, "ls /workspaces/app"); strings.Contains(out, "refused") {
		t.Errorf("the refused edit was made: %s", out)
	}

	// Plan mode: the plan is a question; its answer begins the work.
	n.patch("tasks/"+string(id), map[string]string{"mode": "plan"})
	n.say(id, "SCENARIO=plan FILE=planned.txt TEXT=planned")
	plan := n.ask(id, chat.AskPermission)
	if plan.Title != "Approve Plan" || !strings.Contains(plan.Detail, "Look at the repository") || plan.Options[0].Kind != "allow_once" {
		t.Fatalf("plan = %+v", plan)
	}
	must[taskView](n.testNode, "task", "answer", string(id), plan.Options[0].ID)
	if ask := n.allow(id); ask.Title != "Write planned.txt" {
		t.Errorf("after the plan it asks %+v", ask)
	}
	planned := n.turn(id, 3)
	if got := gitIn(t, repo, "show", planned.Branch+":planned.txt"); got != "planned" {
		t.Errorf("planned.txt = %q", got)
	}
	if planned.Mode != chat.ModeAsk {
		t.Errorf("after the plan was approved the mode is %s", planned.Mode)
	}

	// Stop in the middle of a sentence, then go on.
	n.say(id, "SCENARIO=slow N=2000 DELAY=100")
	n.until(id, "speaking", func(taskView) bool { return strings.Contains(n.talk(id), "word3 ") })
	must[taskView](n.testNode, "task", "stop", string(id))
	stopped := n.until(id, "stopped", func(t taskView) bool { return rests(t.Task) })
	if stopped.State != chat.Stopped || stopped.Turn.Stop != "cancelled" || stopped.Lease == nil {
		t.Errorf("stopped: %+v", stopped.Task)
	}
	n.say(id, "SCENARIO=hello")
	after := n.turn(id, 5)
	if after.Session != stopped.Session {
		t.Errorf("session %s, was %s", after.Session, stopped.Session)
	}

	// The mode changes while it runs: what asked before asks no more.
	n.say(id, `SCENARIO=endless CMD="date >> dates; sleep 0.2"`)
	n.allow(id)
	n.ask(id, chat.AskPermission)
	n.patch("tasks/"+string(id), map[string]string{"mode": "everything"})
	n.allow(id)
	n.until(id, "at work unasked", func(v taskView) bool {
		return v.State == chat.Working && strings.Count(n.talk(id), "dates") > 4
	})
	must[taskView](n.testNode, "task", "stop", string(id))
	n.until(id, "stopped", func(t taskView) bool { return t.State == chat.Stopped })
	n.say(id, "SCENARIO=hello")
	n.turn(id, 7)
	if t.Failed() {
		t.Log(n.talk(id))
	}
}

// TestClaudeAndItsModel is what a person reads when the model API refuses, and
// that the conversation goes on after it.
func TestClaudeAndItsModel(t *testing.T) {
	t.Parallel()
	n := newAgentNode(t, "claude")
	must[chat.Project](n.testNode, "project", "add", "app", "--repo", localRepo(t, nil), "--agent", "claude", "--mode", "everything")
	id := n.run("app", "SCENARIO=overloaded N=3").ID
	if out := n.fault(id, 1); strings.Contains(out, "overloaded") {
		t.Errorf("three times overloaded is told: %s", out)
	}
	n.said(id, "Hello from the scripted model")
	number := 1
	for _, c := range []struct{ prompt, want string }{
		{"SCENARIO=overloaded N=always STOP", "The model's servers are overloaded. Try again in a few minutes."},
		{"SCENARIO=ratelimit N=always STOP", "The model's rate limit or quota is used up for now. Try again later, or use another key."},
		{"SCENARIO=badkey", "samnode secret set ANTHROPIC_API_KEY"},
	} {
		number++
		n.say(id, c.prompt)
		if out := n.fault(id, number); !strings.Contains(out, c.want) {
			t.Errorf("%s: the chat says %q, not %q\n%s", c.prompt, out, c.want, n.talk(id))
		}
	}
	if _, errs, code := n.cli("secret", "rm", "ANTHROPIC_API_KEY"); code != exitDone {
		t.Fatal(errs)
	}
	number++
	n.say(id, "SCENARIO=hello")
	if out := n.fault(id, number); !strings.Contains(out, "samnode secret set ANTHROPIC_API_KEY") {
		t.Errorf("without a key: %q\n%s", out, n.talk(id))
	}
	n.secret("ANTHROPIC_API_KEY", realKey)
	number++
	n.say(id, "Now it is there. SCENARIO=edit FILE=end.txt")
	if out := n.fault(id, number); out != "" {
		t.Errorf("with the key again: %s", out)
	}
	n.said(id, "I wrote end.txt.")

	// A refusal that goes on is told while the agent tries again by itself.
	n.say(id, "SCENARIO=overloaded N=always")
	n.until(id, "told of", func(taskView) bool {
		return strings.Contains(n.talk(id), "The model API of anthropic refuses calls for now (529). The agent tries again by itself.")
	})
	must[taskView](n.testNode, "task", "stop", string(id))
	n.until(id, "stopped", func(t taskView) bool { return t.State == chat.Stopped })
	if t.Failed() {
		t.Log(n.talk(id))
	}
}

// TestClaudeDies is the end of an agent in the middle of a turn, its silence,
// and a budget that is used up: each is a person's to decide.
func TestClaudeDies(t *testing.T) {
	t.Parallel()
	n := newAgentNode(t, "claude", "--silence", "2s")
	repo := localRepo(t, nil)
	must[chat.Project](n.testNode, "project", "add", "app", "--repo", repo, "--agent", "claude", "--mode", "everything")

	id := n.run("app", `SCENARIO=slow N=40 DELAY=100`).ID
	n.until(id, "speaking", func(taskView) bool { return strings.Contains(n.talk(id), "word3 ") })
	n.inside(id, "echo kept > /workspaces/app/kept.txt; kill -9 $(pidof node)")
	ask := n.ask(id, chat.AskDelivery)
	if len(ask.Options) != 2 {
		t.Errorf("ask = %+v", ask)
	}
	must[taskView](n.testNode, "task", "answer", string(id), "again")
	again := n.turn(id, 2)
	n.said(id, "word40")
	if got := gitIn(t, repo, "show", again.Branch+":kept.txt"); got != "kept" {
		t.Errorf("kept.txt = %q", got)
	}

	n.say(id, "SCENARIO=silent")
	n.until(id, "told of the silence", func(taskView) bool { return strings.Contains(n.talk(id), "No output for") })
	must[taskView](n.testNode, "task", "stop", string(id))
	n.until(id, "stopped", func(t taskView) bool { return t.State == chat.Stopped })

	// All is spent already: the next call is refused until it is raised.
	n.patch("projects/app", map[string]any{"budget": 1})
	n.say(id, "SCENARIO=hello")
	n.ask(id, chat.AskBudget)
	n.until(id, "at rest", func(t taskView) bool { return t.State == chat.Idle })
	must[taskView](n.testNode, "task", "answer", string(id), "raise", "budget=900000000")
	raised := n.turn(id, 5)
	if raised.Budget != 900000000 || len(raised.Asks) != 0 {
		t.Errorf("raised: %+v", raised.Task)
	}
	n.said(id, "The budget was raised. Go on where you were stopped.")
	n.said(id, "Hello from the scripted model")
	if t.Failed() {
		t.Log(n.talk(id))
	}
}

// TestAgentNotInstalled fails at the agent's step and says how to install it.
func TestAgentNotInstalled(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t, "--agents", t.TempDir())
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--agent", "claude")
	id := n.run("app", "SCENARIO=hello").ID
	v := n.until(id, "failed", func(t taskView) bool { return rests(t.Task) })
	if v.State != chat.Failed || v.Failure == nil || v.Failure.Step != chat.StepAgent || !strings.Contains(v.Failure.Reason, "samnode agents install claude") {
		t.Errorf("failure = %+v", v.Failure)
	}
}
