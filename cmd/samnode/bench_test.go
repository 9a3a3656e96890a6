package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/agents"
)

// BenchmarkStart is a warm task, from POST to the prompt delivered: with its
// parts, and beside it the same done by hand with docker and git. Parts may
// overlap. added-ms is what samnode takes above the hand.
func BenchmarkStart(b *testing.B) {
	needDocker(b)
	for _, repo := range []struct {
		name string
		path func(testing.TB) string
	}{
		{"small", func(tb testing.TB) string { return localRepo(tb, nil) }},
		{"90MB", bigRepo},
	} {
		b.Run("agent=script/repo="+repo.name, func(b *testing.B) { benchmarkStart(b, "script", repo.path(b)) })
	}
	b.Run("agent=claude/repo=small", func(b *testing.B) { benchmarkStart(b, "claude", localRepo(b, nil)) })
}

func benchmarkStart(b *testing.B, agent, repo string) {
	h := newHand(b, agent, repo)
	n := newNode(b, "--slots", "2", "--agents", h.agents)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything", "--publish", "branch")
	n.startOnce(agent) // warms the caches of mirror, image and disk
	h.run()
	sum := map[string]time.Duration{}
	for b.Loop() {
		for part, took := range n.startOnce(agent) {
			sum[part] += took
		}
		for part, took := range h.run() {
			sum["hand-"+part] += took
		}
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(b.N) / float64(time.Millisecond) }
	for part, took := range sum {
		b.ReportMetric(ms(took), part+"-ms")
	}
	b.ReportMetric(ms(sum["total"]-sum["hand-total"]), "added-ms")
	b.ReportMetric(float64(sum["total"])/float64(sum["hand-total"]), "x-hand")
	b.ReportMetric(0, "ns/op") // the parts say it
}

// startOnce runs a task until its prompt is delivered, returns what took how
// long, and waits until its workspace is gone.
func (n *testNode) startOnce(agent string) map[string]time.Duration {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*time.Minute)
	defer cancel()
	c := newClient(n.url)
	began := time.Now()
	var v taskView
	in := map[string]string{"project": "app", "agent": agent, "text": "```sh\ntrue\n```\n"}
	if err := c.call(ctx, "POST", "tasks", in, &v); err != nil {
		n.t.Fatal(err)
	}
	var delivered time.Time
	err := c.follow(ctx, string(v.ID), 0, func(e event) (bool, error) {
		if err := json.Unmarshal(e.Task, &v); err != nil {
			return false, err
		}
		if v.State == chat.Failed {
			return false, fmt.Errorf("the task failed: %+v", v.Failure)
		}
		if delivered.IsZero() && v.Turn != nil && v.Turn.Delivery == chat.Delivered {
			delivered = time.Now()
		}
		return v.State != chat.Idle && (agent == "script" || delivered.IsZero()), nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	parts := map[string]time.Duration{"total": delivered.Sub(began)}
	names := map[chat.StepName]string{
		chat.StepMirror: "mirror", chat.StepImage: "image", chat.StepContainer: "container",
		chat.StepClone: "clone", chat.StepAgent: "agent",
	}
	for _, s := range v.Steps {
		if s.Name == chat.StepMirror {
			parts["claim"] = s.Began.Sub(began)
		}
		if name := names[s.Name]; name != "" {
			parts[name] = s.Ended.Sub(s.Began)
		}
		if s.Name == chat.StepAgent {
			parts["prompt"] = delivered.Sub(s.Ended)
		}
	}
	n.endTask(c, v.ID)
	return parts
}

// endTask gives the workspace back and waits until its container is removed,
// so that the next measurement has the machine for itself.
func (n *testNode) endTask(c *client, id chat.TaskID) {
	n.t.Helper()
	if v := must[taskView](n, "task", "show", string(id)); v.State != chat.Idle {
		if err := c.call(n.t.Context(), "POST", path("tasks", string(id), "stop"), map[string]bool{"force": true}, nil); err != nil {
			n.t.Fatal(err)
		}
	} else if err := c.call(n.t.Context(), "POST", path("tasks", string(id), "release"), nil, nil); err != nil {
		n.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := exec.CommandContext(n.t.Context(), "docker", "ps", "-aq", "--filter", "label=samnode.task="+string(id)).Output()
		if err != nil {
			n.t.Fatal(err)
		}
		if len(out) == 0 {
			return
		}
	}
	n.t.Fatalf("the container of %s is still there", id)
}

// hand does a task's start by hand: fetch the mirror, run a container, clone
// with the mirror as reference, start the agent and hand it a prompt.
type hand struct {
	tb     testing.TB
	bin    string
	repo   string
	mirror string
	agents string
	agent  agents.Agent
	n      int
}

func newHand(tb testing.TB, agent, repo string) *hand {
	tb.Helper()
	h := &hand{tb: tb, repo: repo, mirror: filepath.Join(tb.TempDir(), "mirror.git"), agents: os.Getenv("SAMNODE_AGENTS")}
	if h.agents == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			tb.Skip(err)
		}
		h.agents = filepath.Join(cache, "samnode", "agents")
	}
	var err error
	if h.agent, err = agents.Lookup(agent); err != nil {
		tb.Fatal(err)
	}
	if err := agents.Ready(h.agents, agent); err != nil && !h.agent.BuiltIn() {
		tb.Skipf("%v (scripts/setup installs it)", err)
	}
	if h.bin, err = binary(); err != nil {
		tb.Fatal(err)
	}
	h.do("git", "clone", "-q", "--mirror", "file://"+repo, h.mirror)
	for d := h.mirror; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // read by uid 1000
		_ = os.Chmod(d, 0o755)
	}
	return h
}

func (h *hand) do(name string, args ...string) {
	h.tb.Helper()
	if out, err := exec.CommandContext(h.tb.Context(), name, args...).CombinedOutput(); err != nil {
		h.tb.Fatalf("%s %q: %v %s", name, args, err, out)
	}
}

// run returns how long each part took.
func (h *hand) run() map[string]time.Duration {
	h.tb.Helper()
	h.n++
	parts := map[string]time.Duration{}
	part := func(name string, do func()) {
		start := time.Now()
		do()
		parts[name] = time.Since(start)
		parts["total"] += parts[name]
	}
	name := fmt.Sprintf("samnode-bench-%d-%d", os.Getpid(), h.n)
	part("mirror", func() { h.do("git", "-C", h.mirror, "fetch", "-q", "--prune", "origin") })
	part("container", func() {
		args := []string{"run", "-d", "--name", name, "--label", "samnode.bench=1", "--init", "--network", "none", "--cap-drop", "ALL",
			"--security-opt", "no-new-privileges", "--read-only", "--user", "1000:1000", "--pids-limit", "1024",
			"--tmpfs", "/tmp:exec", "--tmpfs", "/run:uid=1000,gid=1000", "-w", "/workspaces",
			"-e", "HOME=/home/agent", "-v", name + "-w:/workspaces", "-v", name + "-h:/home/agent", "-v", h.bin + ":/opt/samnode-shim/samnode:ro",
			"-v", h.mirror + ":" + h.mirror + ":ro", "-v", h.repo + ":" + h.repo + ":ro"}
		if _, err := os.Stat(h.agents); err == nil {
			args = append(args, "-v", h.agents+":"+agents.Root+":ro")
		}
		h.do("docker", append(args, "--entrypoint", "sleep", defaultImage, "600")...)
	})
	defer func() {
		h.do("docker", "rm", "-f", name)
		h.do("docker", "volume", "rm", name+"-w", name+"-h")
	}()
	h.do("docker", "exec", name, "git", "config", "--global", "safe.directory", "*")
	part("clone", func() {
		h.do("docker", "exec", name, "git", "clone", "-q", "--reference", h.mirror, "file://"+h.repo, "/workspaces/app")
	})
	part("agent", func() { h.talk(name) })
	return parts
}

// talk starts the agent and speaks ACP until the prompt is on its stdin.
func (h *hand) talk(name string) {
	h.tb.Helper()
	start := h.agent.Start(agents.Place{Cwd: "/workspaces/app", Home: "/home/agent", Samnode: "/opt/samnode-shim/samnode", Mode: chat.ModeEverything})
	for _, f := range start.Files {
		file := filepath.Join("/home/agent", f.Path)
		cmd := exec.CommandContext(h.tb.Context(), "docker", "exec", "-i", name, "sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$1"`, "sh", file)
		cmd.Stdin = bytes.NewReader(f.Data)
		if out, err := cmd.CombinedOutput(); err != nil {
			h.tb.Fatalf("writing %s: %v %s", file, err, out)
		}
	}
	args := []string{"exec", "-i", "-w", "/workspaces/app"}
	for _, e := range start.Env {
		args = append(args, "-e", e)
	}
	ctx, cancel := context.WithTimeout(h.tb.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append(append(args, name), start.Argv...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		h.tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.tb.Fatal(err)
	}
	lines := bufio.NewReaderSize(out, 1<<20)
	session := ""
	for id, call := range []string{
		`"initialize","params":{"protocolVersion":1,"clientCapabilities":{}}`,
		`"session/new","params":{"cwd":"/workspaces/app","mcpServers":[]}`,
	} {
		fmt.Fprintf(in, `{"jsonrpc":"2.0","id":%d,"method":%s}`+"\n", id, call)
		session = answerTo(h.tb, lines, id)
	}
	fmt.Fprintf(in, `{"jsonrpc":"2.0","id":9,"method":"session/prompt","params":{"sessionId":%q,"prompt":[{"type":"text","text":"hello"}]}}`+"\n", session)
	in.Close()
	cancel()       // its answer is not measured
	_ = cmd.Wait() // says that it was killed
}

// answerTo reads up to a call's answer and returns the session in it.
func answerTo(tb testing.TB, lines *bufio.Reader, id int) string {
	tb.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			tb.Fatalf("reading the agent: %v", err)
		}
		var m struct {
			ID     *int `json:"id"`
			Method string
			Error  json.RawMessage
			Result struct {
				Session string `json:"sessionId"`
			}
		}
		if json.Unmarshal([]byte(line), &m) != nil || m.ID == nil || *m.ID != id || m.Method != "" {
			continue
		}
		if m.Error != nil {
			tb.Fatalf("the agent says %s", line)
		}
		return m.Result.Session
	}
}

// bigRepo is a bare repository with 3000 files of together 90 MB, of text that
// packs to about half. It is made once per machine.
func bigRepo(tb testing.TB) string {
	tb.Helper()
	repo := filepath.Join(os.TempDir(), "samnode-bench-90mb-1.git")
	if _, err := os.Stat(repo); err == nil {
		return repo
	}
	tmp, err := os.MkdirTemp(os.TempDir(), "samnode-bench-new-")
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		tb.Fatal(err)
	}
	gitIn(tb, tmp, "init", "-q", "--bare", ".")
	cmd := exec.CommandContext(tb.Context(), "git", "-C", tmp, "-c", "core.compression=1", "fast-import", "--quiet")
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	writeBig(in)
	in.Close()
	if err := cmd.Wait(); err != nil {
		tb.Fatalf("git fast-import: %v %s", err, &errs)
	}
	if err := os.Rename(tmp, repo); err != nil && !os.IsExist(err) {
		tb.Fatal(err)
	}
	return repo
}

func writeBig(to io.Writer) {
	w := bufio.NewWriterSize(to, 1<<20)
	defer w.Flush() // a git that ended says so in Wait
	const word = "abcdefghijklmnopqrstuvwxyz_ (){}"
	rng := rand.New(rand.NewPCG(1, 2))
	fmt.Fprint(w, "commit refs/heads/main\ncommitter Ana <ana@example.com> 1700000000 +0000\ndata 6\nfirst\n")
	var text strings.Builder
	for f := range 3000 {
		text.Reset()
		for text.Len() < 30_000 {
			bits := rng.Uint64()
			for range 12 {
				text.WriteByte(word[bits&31])
				bits >>= 5
			}
			if bits&7 == 0 {
				text.WriteByte('\n')
			}
		}
		fmt.Fprintf(w, "M 100644 inline src/d%02d/f%04d.txt\ndata %d\n%s\n", f/60, f, text.Len(), text.String())
	}
}
