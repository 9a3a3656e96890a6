package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git/gittest"
	"github.com/samnode/samnode/workspace/modeltest"
)

// realKey is the key that the scripted model API wants. A workspace never sees
// it.
const realKey = "sk-real-4f1c0b"

const widget = "acme/widget"

// installedAgents is the folder of this machine's agents, or the test is
// skipped.
func installedAgents(t *testing.T, name string) string {
	t.Helper()
	needDocker(t)
	dir := os.Getenv("SAMNODE_AGENTS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("SKIPPED: %v", err)
		}
		dir = filepath.Join(cache, "samnode", "agents")
	}
	if err := agents.Ready(dir, name); err != nil {
		t.Skipf("SKIPPED: %v (scripts/setup installs it)", err)
	}
	return dir
}

// agentNode is a node whose agents talk to a scripted model API.
type agentNode struct {
	*testNode
	api *modeltest.API
}

// noRetry says of a refusal that lasts that trying again is of no use, as
// vendors can: Claude Code tries for three minutes else.
type noRetry struct{ http.Handler }

func (h noRetry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if last := bytes.LastIndex(body, []byte("SCENARIO=")); last >= 0 && bytes.Contains(body[last:], []byte("N=always STOP")) {
		w.Header().Set("X-Should-Retry", "false")
	}
	h.Handler.ServeHTTP(w, r)
}

func newAgentNode(t *testing.T, agent string, args ...string) *agentNode {
	t.Helper()
	dir := installedAgents(t, agent)
	api := modeltest.Handler(modeltest.Options{Key: realKey})
	server := httptest.NewServer(noRetry{api})
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	args = append([]string{"--agents", dir, "--slots", "8", "--model-api", "anthropic=" + server.URL + ",openai=" + server.URL}, args...)
	n := &agentNode{newNode(t, args...), api}
	n.secret("ANTHROPIC_API_KEY", realKey)
	n.secret("OPENAI_API_KEY", realKey)
	return n
}

// patch changes a task or a project by the API.
func (n *testNode) patch(path string, change any) {
	n.t.Helper()
	if err := newClient(n.url).call(n.t.Context(), http.MethodPatch, path, change, nil); err != nil {
		n.t.Fatal(err)
	}
}

// run posts a task and say a follow-up; turn waits for the end of the turn
// with that number and for what is published after it.
func (n *testNode) run(project, text string, args ...string) taskView {
	n.t.Helper()
	return must[taskView](n, append([]string{"task", "run", "--project", project, text}, args...)...)
}

func (n *testNode) say(task chat.TaskID, text string) {
	n.t.Helper()
	must[taskView](n, "task", "say", string(task), text)
}

func (n *testNode) turn(task chat.TaskID, number int) taskView {
	n.t.Helper()
	t := n.until(task, "at rest", func(t taskView) bool {
		return t.Turns >= number && rests(t.Task) || t.State == chat.Failed || t.State == chat.Stopped
	})
	if t.State != chat.Idle || t.Turn == nil || t.Turn.Number != number {
		n.t.Fatalf("after turn %d the task is %+v\n%s", number, t.Task, n.talk(task))
	}
	return t
}

// ask waits until the task asks a person something of that kind.
func (n *testNode) ask(task chat.TaskID, kind chat.AskKind) chat.Ask {
	n.t.Helper()
	var ask chat.Ask
	n.until(task, "asking: "+string(kind), func(t taskView) bool {
		i := slices.IndexFunc(t.Asks, func(a chat.Ask) bool { return a.Kind == kind && a.Answer == nil && a.Closed == "" })
		if i >= 0 {
			ask = t.Asks[i]
		} else if rests(t.Task) && t.State != chat.NeedsYou {
			n.t.Fatalf("the task rests and asks nothing: %+v\n%s", t.Task, n.talk(task))
		}
		return i >= 0
	})
	return ask
}

// allow answers one permission request with what lets it through once.
func (n *testNode) allow(task chat.TaskID) chat.Ask {
	n.t.Helper()
	ask := n.ask(task, chat.AskPermission)
	i := slices.IndexFunc(ask.Options, func(o chat.AskOption) bool { return o.Kind == "allow_once" })
	if i < 0 {
		n.t.Fatalf("nothing allows it once: %+v", ask)
	}
	must[taskView](n, "task", "answer", string(task), "--ask", ask.ID, ask.Options[i].ID)
	return ask
}

// talk is a task's chat as lines, to search and to show.
func (n *testNode) talk(task chat.TaskID) string {
	n.t.Helper()
	var b strings.Builder
	for _, m := range n.latest(task) {
		b.WriteString(line(m))
	}
	return b.String()
}

func line(m chat.Message) string {
	text := string(m.Kind) + ": " + m.Text
	if m.Detail != "" {
		text += " (" + m.Detail + ")"
	}
	if m.Tool != nil {
		text += m.Tool.Title + " " + m.Tool.Status + "\n" + m.Tool.Output
	}
	if m.Ask != nil {
		text += m.Ask.Title + " " + m.Ask.Detail + " " + m.Ask.Closed
	}
	return text + "\n"
}

func (n *testNode) said(task chat.TaskID, want string) {
	n.t.Helper()
	if talk := n.talk(task); !strings.Contains(talk, want) {
		n.t.Errorf("the chat lacks %q:\n%s", want, talk)
	}
}

// inside runs a shell command in a task's container, as the agent's user.
func (n *testNode) inside(task chat.TaskID, script string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	id, err := exec.CommandContext(ctx, "docker", "ps", "-q", "--filter", "label=samnode.task="+string(task)).Output()
	if err != nil || len(bytes.TrimSpace(id)) == 0 {
		n.t.Fatalf("finding the container: %v %s", err, id)
	}
	out, err := exec.CommandContext(ctx, "docker", "exec", strings.TrimSpace(string(id)), "sh", "-c", script).CombinedOutput()
	if err != nil {
		n.t.Fatalf("in the container: %v %s", err, out)
	}
	return string(out)
}

// hides checks that nothing in the workspace holds a secret: no process's
// environment or arguments, and no file that its user can read.
func (n *testNode) hides(task chat.TaskID, secrets ...string) {
	n.t.Helper()
	out := n.inside(task, `cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n'; grep -rIhs . /home/agent /workspaces /run /tmp /etc 2>/dev/null || true`)
	if !strings.Contains(out, "ANTHROPIC_BASE_URL=") && !strings.Contains(out, "CODEX_HOME=") {
		n.t.Errorf("the environment of no agent was read: %.2000s", out)
	}
	for _, s := range secrets {
		if at := strings.Index(out, s); at >= 0 {
			n.t.Errorf("the workspace holds a secret: %q", out[max(0, at-200):at+len(s)])
		}
	}
}

// newHub is a GitHub with one repository of one commit, held against GitHub's
// own description where that is installed.
func newHub(t *testing.T) *githubtest.Server {
	t.Helper()
	hub := githubtest.Start(t)
	hub.Create(widget)
	gittest.Push(t, hub.Dir(widget), "main", "first", map[string]string{"README.md": "# widget\n"})
	if spec, err := githubtest.LoadSpec(); err == nil {
		hub.Validate(spec)
		t.Cleanup(func() {
			for _, f := range hub.Faults() {
				t.Errorf("not as GitHub specifies: %s", f)
			}
		})
	}
	return hub
}

func apiFlag(hub *githubtest.Server) []string {
	return []string{"--github-api", strings.TrimPrefix(hub.URL, "http://") + "=" + hub.API, "--poll-pulls", "200ms"}
}

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

// fault waits for the end of a turn that went wrong and returns what was said.
func (n *testNode) fault(task chat.TaskID, number int) string {
	n.t.Helper()
	n.turn(task, number)
	var texts []string
	for _, m := range n.latest(task) {
		if m.Turn == number && (m.Kind == chat.KindError || m.Kind == chat.KindStatus) {
			texts = append(texts, m.Text+" "+m.Detail)
		}
	}
	return strings.Join(texts, "\n")
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

// TestCodex is a task with the real codex, in each of its modes.
func TestCodex(t *testing.T) {
	t.Parallel()
	n := newAgentNode(t, "codex")
	repo := localRepo(t, nil)
	must[chat.Project](n.testNode, "project", "add", "app", "--repo", repo, "--agent", "codex", "--mode", "everything")
	id := n.run("app", "SCENARIO=edit FILE=a.txt TEXT=alpha").ID
	first := n.turn(id, 1)
	if got := gitIn(t, repo, "show", first.Branch+":a.txt"); got != "alpha" {
		t.Errorf("a.txt = %q", got)
	}
	if first.Usage.Input == 0 || first.Usage.Output == 0 || first.Session == "" {
		t.Errorf("usage %+v, session %q", first.Usage, first.Session)
	}
	n.hides(id, realKey)
	steps := n.api.Steps()
	if len(steps) == 0 || slices.ContainsFunc(steps, func(r modeltest.Request) bool { return r.Key != realKey }) {
		t.Errorf("the model API did not get its key in each of %d requests", len(steps))
	}
	asks := map[chat.Mode]string{}
	for i, mode := range []chat.Mode{chat.ModeAcceptEdits, chat.ModeAsk} {
		n.patch("tasks/"+string(id), map[string]chat.Mode{"mode": mode})
		n.say(id, "SCENARIO=edit FILE="+string(mode)+".txt TEXT=beta")
		n.until(id, "done", func(v taskView) bool {
			if v.State == chat.NeedsYou {
				asks[mode] += n.allow(id).Detail
				return false
			}
			return v.Turns == 2+i && rests(v.Task)
		})
		if !strings.Contains(asks[mode], string(mode)+".txt") {
			t.Errorf("%s asks %q\n%s", mode, asks[mode], n.talk(id))
		}
		if got := gitIn(t, repo, "show", first.Branch+":"+string(mode)+".txt"); got != "beta" {
			t.Errorf("%s.txt = %q", mode, got)
		}
	}
	if talk := n.talk(id); strings.Contains(talk, "Blocked") {
		t.Errorf("codex looks for the web by itself:\n%s", talk)
	}
}

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
