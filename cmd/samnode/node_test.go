package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// binary builds the program once for all tests of this package: static, as it
// is shipped, for it runs as init in containers.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "samnode-test-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "samnode")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	// Workspaces of uid 1000 run it by bind mount.
	return bin, os.Chmod(dir, 0o755)
})

// testNode is a samnode process with its own state.
type testNode struct {
	t     testing.TB
	bin   string
	state string
	verb  string // dev, or run for a node that was set up
	args  []string
	env   []string
	url   string // of its API, for this machine
	page  string // of its pages, for people on its tailnet
	proxy string // through which a browser gets there; empty: none
	cmd   *exec.Cmd
	log   *lockedBuffer
}

// lockedBuffer is what the process logs, readable while it runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// needDocker skips without an engine or the base image, which scripts/test
// brings.
func needDocker(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Docker engine; -short is set")
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "image", "inspect", defaultImage).CombinedOutput(); err != nil {
		t.Skipf("needs a Docker engine with the base image (scripts/setup): %v %s", err, out)
	}
}

// newNode starts a node that the test's end stops and cleans up after.
func newNode(t testing.TB, args ...string) *testNode {
	t.Helper()
	return startNode(t, "", nil, args...)
}

// startNode is newNode with a state directory of the test's choice and more
// environment.
func startNode(t testing.TB, state string, env []string, args ...string) *testNode {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// The name is the mesh's on the engine: one per test, so that tests never
	// touch each other's containers.
	name := "t" + strings.ToLower(chat.NewID()[14:])
	if state == "" {
		if state, err = os.MkdirTemp("", "sn"); err != nil {
			t.Fatal(err)
		}
	}
	n := &testNode{t: t, bin: bin, state: state, env: env, verb: "dev", args: append([]string{"--name", name}, args...), log: &lockedBuffer{}}
	t.Cleanup(func() {
		n.stop()
		n.clean()
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.log)
		}
		if err := os.RemoveAll(state); err != nil {
			t.Error(err)
		}
	})
	n.start()
	return n
}

// engineName is the label of what this node has on the engine.
func (n *testNode) engineName() string {
	id, err := readIdentity(n.state)
	if err != nil {
		return ""
	}
	return id.engineName()
}

// clean removes what the node's workspaces left on the engine.
func (n *testNode) clean() {
	n.t.Helper()
	name := n.engineName()
	if _, err := exec.LookPath("docker"); err != nil || name == "" {
		return
	}
	script := `docker ps -aq --filter label=samnode.mesh=$0 | xargs -r docker rm -f; docker volume ls -q --filter label=samnode.mesh=$0 | xargs -r docker volume rm`
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "sh", "-c", script, name).CombinedOutput(); err != nil && !testing.Short() {
		n.t.Logf("cleaning up: %v %s", err, out)
	}
}

// start runs the process and waits for the line with its URL.
func (n *testNode) start() {
	n.t.Helper()
	listen := "127.0.0.1:0"
	if n.url != "" {
		listen = strings.TrimPrefix(n.url, "http://") // again where pages know it
	}
	n.cmd = exec.Command(n.bin, append([]string{n.verb, "--listen", listen, "--state", n.state}, n.args...)...)
	n.cmd.Env = append(os.Environ(), n.env...)
	n.cmd.Stderr = n.log
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	here := ""
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "on this machine: "); ok {
			here = url
		}
		if url, ok := strings.CutPrefix(lines.Text(), "samnode is ready: "); ok {
			n.page, n.url = url, cmp.Or(here, url)
			go io.Copy(io.Discard, out)
			return
		}
	}
	n.t.Fatalf("the node did not start: %v\n%s", n.cmd.Wait(), n.log)
}

// stop ends the process as systemd would.
func (n *testNode) stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	if err := n.cmd.Wait(); err != nil && !n.t.Failed() {
		n.t.Errorf("the node's end: %v\n%s", err, n.log)
	}
	n.cmd = nil
}

// kill ends it as a power cut would.
func (n *testNode) kill() {
	n.t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	_ = n.cmd.Wait() // says that it was killed
	n.cmd = nil
}

// cli runs a subcommand against the node and returns what it printed and its
// exit code.
func (n *testNode) cli(args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(n.t.Context(), 5*time.Minute)
	defer cancel()
	code = execute(ctx, append([]string{"--api", n.url}, args...), strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// must runs a subcommand that has to succeed and decodes its JSON.
func must[T any](n *testNode, args ...string) T {
	n.t.Helper()
	out, errs, code := n.cli(append(args, "--json")...)
	var v T
	if code != exitDone {
		n.t.Fatalf("samnode %q exits with %d: %s%s", args, code, out, errs)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		n.t.Fatalf("samnode %q prints %q: %v", args, out, err)
	}
	return v
}

// until polls a task until it is as wanted.
func (n *testNode) until(task chat.TaskID, what string, want func(taskView) bool) taskView {
	n.t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		t := must[taskView](n, "task", "show", string(task))
		if want(t) {
			return t
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("task never was %s: %+v", what, t)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// items are all messages of a task, by the API.
func (n *testNode) items(task chat.TaskID) []chat.Message {
	n.t.Helper()
	out, errs, code := n.cli("task", "logs", string(task), "--json")
	if code != exitDone {
		n.t.Fatalf("task logs: %s", errs)
	}
	var list []chat.Message
	d := json.NewDecoder(strings.NewReader(out))
	for d.More() {
		var m chat.Message
		if err := d.Decode(&m); err != nil {
			n.t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// git runs git in a folder and returns its output.
func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=Ana", "-c", "user.email=ana@example.com", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// localRepo is a bare repository with one commit on main.
func localRepo(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	work, bare := filepath.Join(dir, "work"), filepath.Join(dir, "app.git")
	gitIn(t, dir, "init", "-q", work)
	if files == nil {
		files = map[string]string{"README.md": "# app\n"}
	}
	for name, text := range files {
		file := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	gitIn(t, work, "add", ".")
	gitIn(t, work, "commit", "-qm", "first")
	gitIn(t, dir, "clone", "-q", "--bare", work, bare)
	return bare
}
