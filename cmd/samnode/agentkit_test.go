package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
