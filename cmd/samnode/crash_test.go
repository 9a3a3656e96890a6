package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git/gittest"
	"github.com/samnode/samnode/workspace/shim"
)

// seeded is a source of random moments that a failed run can be repeated with.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// again kills the node and starts it on the same state and port.
func (n *testNode) again() {
	n.t.Helper()
	n.kill()
	n.start()
}

// spaceOf is the name of a task's workspace on this machine: that of its folder
// and, behind the prefix, of its container.
func spaceOf(t taskView) string {
	return fmt.Sprintf("%s-%d", strings.ToLower(string(t.ID[len(t.ID)-10:])), t.Workspace)
}

// dockerRun runs the engine's own client.
func dockerRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// inSpace runs a command in a task's container.
func inSpace(t *testing.T, v taskView, script string) string {
	t.Helper()
	return dockerRun(t, "exec", "samnode-"+spaceOf(v), "sh", "-c", script)
}

// asTheyAre are the messages as they are now: the last print of each, in the
// order of seq.
func asTheyAre(items []chat.Message) []chat.Message {
	byID := map[string]int{}
	var list []chat.Message
	for _, m := range items {
		if i, known := byID[m.ID]; known {
			list[i] = m
			continue
		}
		byID[m.ID] = len(list)
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b chat.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return list
}

// told is what a message says, as far as it comes from the agent.
type told struct {
	ID, Text, Output, Status, Title string
	Kind                            chat.Kind
	Exit                            *int
	Closed                          bool
}

// fromJournal reduces a workspace's journal to what the chat must have of it,
// in the order of first appearance.
func fromJournal(t testing.TB, file string, v taskView) []told {
	t.Helper()
	a, err := agents.Lookup(v.Agent)
	if err != nil {
		t.Fatal(err)
	}
	conv := acp.NewConversation(acp.ConversationConfig{Workspace: v.Workspace, Agent: a.Title, Metered: a.Provider != ""})
	var list []told
	at := map[string]int{}
	for r, err := range shim.ReadJournal(file, 1) {
		if err != nil {
			t.Fatal(err)
		}
		items, err := conv.Feed(acp.Record{Seq: r.Seq, At: r.At, Dir: string(r.Dir), ID: r.ID, Run: r.Run, Data: r.Data, Size: r.Size})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			if it.Kind == "" {
				continue
			}
			i, known := at[it.ID]
			if !known {
				i = len(list)
				at[it.ID] = i
				list = append(list, told{ID: it.ID, Kind: it.Kind})
			}
			list[i].take(t, it)
		}
	}
	return list
}

func (m *told) take(t testing.TB, it chat.Item) {
	if it.Text != "" && it.Kind != chat.KindAsk {
		if it.Offset != int64(len(m.Text)) {
			t.Errorf("the text of %s goes on at %d, it has %d bytes", it.ID, it.Offset, len(m.Text))
		}
		m.Text += it.Text
	}
	m.Closed = m.Closed || it.Closed
	if it.Tool == nil {
		return
	}
	last := func(to *string, s string) {
		if s != "" {
			*to = s
		}
	}
	last(&m.Output, it.Tool.Output)
	last(&m.Status, it.Tool.Status)
	last(&m.Title, it.Tool.Title)
	if it.Tool.Exit != nil {
		m.Exit = it.Tool.Exit
	}
}

// fromChat is the same of the chat's messages of one workspace.
func fromChat(items []chat.Message, workspace int) []told {
	var list []told
	for _, m := range items {
		if m.Source == 0 && (m.Kind != chat.KindAsk || m.Ask.Kind == chat.AskDelivery) || m.Workspace != workspace {
			continue // said by people or by the node
		}
		v := told{ID: m.ID, Kind: m.Kind, Text: m.Text, Closed: m.Closed}
		if m.Tool != nil {
			v.Output, v.Status, v.Title, v.Exit = m.Tool.Output, m.Tool.Status, m.Tool.Title, m.Tool.Exit
		}
		list = append(list, v)
	}
	return list
}

// checkJournal compares the chat with the shim's journal of a workspace.
func (n *testNode) checkJournal(v taskView) {
	n.t.Helper()
	file := filepath.Join(n.state, "w", spaceOf(v), "shim", "journal")
	want := fromJournal(n.t, file, v)
	if len(want) == 0 {
		n.t.Error("the journal has nothing for the chat")
	}
	if d := gocmp.Diff(want, fromChat(asTheyAre(n.items(v.ID)), v.Workspace)); d != "" {
		n.t.Errorf("chat and journal of workspace %d (-journal +chat):\n%s", v.Workspace, d)
	}
}

var lineRE = regexp.MustCompile(`(?m)^line (\d+)$`)

// checkLines holds that the tools' outputs have every numbered line once and
// in order, and returns how many there are.
func checkLines(t *testing.T, items []chat.Message) int {
	t.Helper()
	next := 1
	for _, m := range asTheyAre(items) {
		if m.Tool == nil {
			continue
		}
		for _, l := range lineRE.FindAllStringSubmatch(m.Tool.Output, -1) {
			if l[1] != fmt.Sprint(next) {
				t.Fatalf("line %s comes where line %d should", l[1], next)
			}
			next++
		}
	}
	return next - 1
}

// idle waits until the task rests after its turn.
func (n *testNode) idle(task chat.TaskID) taskView {
	n.t.Helper()
	return n.until(task, "idle", func(t taskView) bool {
		if t.State == chat.Failed || t.State == chat.Stopped {
			n.t.Fatalf("the task is %s: %+v", t.State, t.Failure)
		}
		return t.State == chat.Idle && len(t.Queue) == 0
	})
}

// pullHub is a GitHub with one repository, and a node's project on it.
func pullHub(t *testing.T) (*githubtest.Server, func(*testNode)) {
	t.Helper()
	h := githubtest.Start(t)
	repo := h.Create("acme/app")
	gittest.Push(t, h.Dir("acme/app"), "main", "first", map[string]string{"README.md": "# app\n"})
	token := h.Grant(githubtest.Token{Login: "samnode-bot"})
	return h, func(n *testNode) {
		c := newClient(n.url)
		if err := c.call(t.Context(), http.MethodPut, "secrets/GITHUB_TOKEN", map[string]string{"value": token}, nil); err != nil {
			t.Fatal(err)
		}
		must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything", "--publish", "ready")
	}
}

// hubArgs makes a node know the GitHub.
func hubArgs(t *testing.T, h *githubtest.Server) []string {
	t.Helper()
	u, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--github-api", u.Host + "=" + h.API}
}

// streaming is a task that prints numbered lines in five blocks and writes a
// file in each. The last goes on until the file "enough" comes.
const streaming = "Count for long\n\n" +
	"```sh\nfor i in $(seq 1 150); do echo line $i; sleep 0.01; done; echo one > one.txt\n```\n" +
	"```sh\nfor i in $(seq 151 300); do echo line $i; sleep 0.01; done; echo two > two.txt\n```\n" +
	"```sh\nfor i in $(seq 301 450); do echo line $i; sleep 0.01; done; mkdir three; echo three > three/3.txt\n```\n" +
	"```sh\nseq 451 1500 | sed 's/^/line /'; echo four > four.txt\n```\n" +
	"```sh\ni=1500; while [ ! -e /tmp/enough ]; do i=$((i+1)); echo line $i; sleep 0.01; done; for j in $(seq $((i+1)) $((i+200))); do echo line $j; done; echo $((i+200)) > last.txt\n```\n"

// TestKilledInATurn is the promise of DESIGN.md, section 5: the node dies at
// any moment of a turn, as often as it likes, and every item reaches the chat
// exactly once.
func TestKilledInATurn(t *testing.T) {
	needDocker(t)
	t.Parallel()
	r := seeded(t)
	h, project := pullHub(t)
	n := newNode(t, hubArgs(t, h)...)
	project(n)
	v := must[taskView](n, "task", "run", "--project", "app", streaming)
	n.until(v.ID, "working", func(t taskView) bool { return t.State == chat.Working })
	const kills = 20
	inTurn := 0
	for range kills {
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond) // the random moment
		n.again()
		if v = must[taskView](n, "task", "show", string(v.ID)); v.State == chat.Working {
			inTurn++
		}
	}
	if inTurn != kills {
		t.Errorf("%d of %d kills fell into the turn", inTurn, kills)
	}
	inSpace(t, v, "touch /tmp/enough")
	v = n.idle(v.ID)
	items := n.items(v.ID)
	lines := checkLines(t, items)
	t.Logf("%d lines, %d items, log index %d, after %d kills", lines, len(asTheyAre(items)), v.Index, kills)
	if got := gitIn(t, h.Dir("acme/app"), "show", v.Branch+":last.txt"); got != fmt.Sprint(lines) {
		t.Errorf("the chat has %d lines, the script printed %s", lines, got)
	}
	for file, want := range map[string]string{"one.txt": "one", "two.txt": "two", "three/3.txt": "three", "four.txt": "four"} {
		if got := gitIn(t, h.Dir("acme/app"), "show", v.Branch+":"+file); got != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
	checkItems(t, items, "line 1500")
	n.checkJournal(v)
	checkOneTurn(t, n, v)
	checkOnePull(t, h, v)
}

// checkOneTurn: one turn, delivered and ended once, and one prompt in the
// journal.
func checkOneTurn(t *testing.T, n *testNode, v taskView) {
	t.Helper()
	if v.Turns != 1 || v.Turn.Delivery != chat.Delivered || v.Turn.Stop != "end_turn" || v.Workspace != 1 {
		t.Errorf("turn = %+v of %d in workspace %d, want one that was delivered and ended", v.Turn, v.Turns, v.Workspace)
	}
	prompts, ends := 0, 0
	for r, err := range shim.ReadJournal(filepath.Join(n.state, "w", spaceOf(v), "shim", "journal"), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Dir == shim.In && strings.HasPrefix(r.ID, "prompt-") {
			prompts++
		}
		if note, ok := r.Note(); ok && note.Event == shim.EventExited {
			ends++
		}
	}
	if prompts != 1 || ends != 0 {
		t.Errorf("the journal has %d prompts and %d ends of the agent, want 1 and 0", prompts, ends)
	}
}

func checkOnePull(t *testing.T, h *githubtest.Server, v taskView) {
	t.Helper()
	if got := h.Pulls("acme/app"); got != 1 || v.PullRequest == nil || v.PullRequest.Number != 1 {
		t.Errorf("%d pull requests, the task has %+v, want one", got, v.PullRequest)
	}
	if got := gitIn(t, h.Dir("acme/app"), "rev-list", "--count", "main.."+v.Branch); got != "1" {
		t.Errorf("%s commits on the branch, want the one of the turn's end", got)
	}
}

// TestKilledWhilePublishing kills the node at the worst moments: when the
// remote has the push, when it looks for the pull request, and when GitHub
// opens it and the answer finds nobody.
func TestKilledWhilePublishing(t *testing.T) {
	needDocker(t)
	t.Parallel()
	h, project := pullHub(t)
	die, dead := make(chan string), make(chan bool)
	var mu sync.Mutex
	at, pushes := map[string]bool{}, 0
	moment := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		if what == "push" {
			pushes++
			what = fmt.Sprint("push request ", min(pushes, 2))
		}
		if !at[what] {
			at[what] = true
			die <- what
			<-dead
		}
	}
	authorize := h.Git.Authorize
	h.Git.Authorize = func(repo, token string, write bool) error {
		if write {
			moment("push")
		}
		return authorize(repo, token, write)
	}
	h.Before(func(req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/pulls") {
			moment(req.Method + " pulls")
		}
	})
	n := newNode(t, hubArgs(t, h)...)
	project(n)
	v := must[taskView](n, "task", "run", "--project", "app", "Write\n\n```sh\necho hello | tee hello.txt\n```\n")
	for kills := 0; kills < 4; {
		select {
		case what := <-die:
			t.Log("killed at: ", what)
			n.kill()
			dead <- true
			n.start()
			kills++
		case <-time.After(2 * time.Minute):
			t.Fatalf("publishing never came to all its moments: %v", at)
		}
	}
	v = n.idle(v.ID)
	if got := gitIn(t, h.Dir("acme/app"), "show", v.Branch+":hello.txt"); got != "hello" {
		t.Errorf("hello.txt = %q", got)
	}
	checkItems(t, n.items(v.ID), "hello")
	n.checkJournal(v)
	checkOneTurn(t, n, v)
	checkOnePull(t, h, v)
	for _, m := range n.items(v.ID) {
		if m.Kind == chat.KindError {
			t.Errorf("an error in the chat: %+v", m)
		}
	}
}

// TestKilledAtTheStart kills the node at random moments between the message
// and the agent: fetching, making the container, cloning, the agent's start.
func TestKilledAtTheStart(t *testing.T) {
	needDocker(t)
	t.Parallel()
	r := seeded(t)
	n := newNode(t)
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	seen := map[string]int{}
	for i := range 5 {
		v := must[taskView](n, "task", "run", "--project", "app", fmt.Sprintf("Task %d\n\n```sh\necho line 1; echo %d > n.txt\n```\n", i, i))
		for range 3 {
			time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond) // the random moment
			n.kill()
			n.start()
			seen[where(must[taskView](n, "task", "show", string(v.ID)))]++
		}
		v = n.idle(v.ID)
		if got := gitIn(t, repo, "show", v.Branch+":n.txt"); got != fmt.Sprint(i) {
			t.Errorf("n.txt = %q, want %d", got, i)
		}
		checkItems(t, n.items(v.ID), "line 1")
		n.checkJournal(v)
		checkOneTurn(t, n, v)
	}
	t.Logf("killed at: %v", seen)
}

// where is the step or state that a task is in.
func where(v taskView) string {
	for _, s := range v.Steps {
		if s.State == chat.StepRunning {
			return string(s.Name)
		}
	}
	return string(v.State)
}
