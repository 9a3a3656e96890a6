package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// sshClient is the ssh of a person, with the block that samnode prints.
type sshClient struct {
	t      *testing.T
	config string
	more   []string // options
}

func newSSHClient(t *testing.T, n *testNode, more ...string) *sshClient {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("needs the OpenSSH client")
	}
	block, err := exec.CommandContext(t.Context(), n.bin, "--api", n.url, "ssh-config").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := &sshClient{t: t, config: filepath.Join(t.TempDir(), "config"), more: append([]string{"-o", "BatchMode=yes"}, more...)}
	if err := os.WriteFile(c.config, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// command is a program of OpenSSH.
func (c *sshClient) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.t.Context(), program, append(append([]string{"-F", c.config}, c.more...), args...)...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs it and returns what came of it.
func (c *sshClient) run(stdin, program string, args ...string) (out, errs string, code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := c.command(program, args...)
	cmd = exec.CommandContext(ctx, cmd.Args[0], cmd.Args[1:]...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &o, &e
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		c.t.Fatalf("%v: %v %s", cmd.Args, err, &e)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// typed is an ssh on a terminal, whose input stays open.
type typed struct {
	t   *testing.T
	cmd *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out *lockedBuffer
}

// shell opens a shell on a terminal, as a person does.
func (c *sshClient) shell(args ...string) *typed {
	c.t.Helper()
	s := &typed{t: c.t, cmd: c.command("ssh", append([]string{"-tt"}, args...)...), out: &lockedBuffer{}}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	in, err := s.cmd.StdinPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	s.in = in
	c.t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		_ = s.cmd.Wait()
	})
	return s
}

func (s *typed) say(line string) {
	s.t.Helper()
	if _, err := s.in.Write([]byte(line + "\n")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *typed) shows(text string) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(s.out.String(), text) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the shell shows %q, not %q", s.out.String(), text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// spaceTask is an idle task with a workspace.
func spaceTask(t *testing.T, n *testNode) taskView {
	t.Helper()
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything")
	return must[taskView](n, "task", "run", "--project", "app", "--wait", sh("echo hello > hello.txt"))
}

// TestSSH: the ssh that everyone has gets into a workspace of a node without a
// tailnet, by way of the API, and so does samnode itself. A shell outlives the
// node.
func TestSSH(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	v := spaceTask(t, n)
	c := newSSHClient(t, n)
	to := string(v.ID) + "@samnode"
	sshCommands(t, c, to)
	sshFiles(t, c, to)
	sshOwnCommand(t, n, string(v.ID))
	name := strings.TrimPrefix(v.Branch, "samnode/")
	for _, host := range []string{name + ".samnode", strings.ToLower(string(v.ID)) + ".samnode", name + "@samnode"} {
		if out, errs, code := c.run("", "ssh", host, "cat hello.txt"); out != "hello\n" || code != 0 {
			t.Errorf("ssh %s = %q, %q, %d", host, out, errs, code)
		}
	}
	if _, errs, code := c.run("", "ssh", "nothing.samnode", "true"); code != 255 || !strings.Contains(errs, "There is no task") {
		t.Errorf("ssh to no workspace's name = %d: %s", code, errs)
	}

	sshAgent(t, n, c, to)
	if _, errs, code := c.run("", "ssh", "nosuchtask@samnode", "true"); code != 255 || !strings.Contains(errs, "There is no task") {
		t.Errorf("ssh to no task = %d: %s", code, errs)
	}
	var draft taskView
	if err := newClient(n.url).call(t.Context(), http.MethodPost, "tasks", map[string]any{"project": "app", "text": "later", "draft": true}, &draft); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := c.run("", "ssh", string(draft.ID)+"@samnode", "true"); code != 255 || !strings.Contains(errs, "samnode task say "+string(draft.ID)) {
		t.Errorf("ssh to a task without a workspace = %d: %s", code, errs)
	}

	shell := c.shell(to)
	shell.say("mark=kept; echo re''ady")
	shell.shows("ready")
	n.kill()
	_ = shell.cmd.Wait() // its connection is gone
	n.start()
	n.until(v.ID, "there again", func(v taskView) bool { return v.State == chat.Idle })
	m := &testMesh{t: t}
	m.await("ssh to get in again", func() bool {
		_, _, code := c.run("", "ssh", to, "true")
		return code == 0
	})
	again := c.shell(to)
	again.shows("samnode: your shell of")
	again.say("echo mark=$mark; exit 7")
	again.shows("mark=kept")
	if err := again.cmd.Wait(); again.cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("the shell's end = %v, want code 7", err)
	}
	must[taskView](n, "task", "release", string(v.ID))
	if _, errs, code := c.run("", "ssh", to, "true"); code != 255 || !strings.Contains(errs, "samnode task retry "+string(v.ID)) {
		t.Errorf("ssh to an idle task without a workspace = %d: %s", code, errs)
	}
	must[taskView](n, "task", "retry", string(v.ID))
	started := n.until(v.ID, "with a workspace again", func(v taskView) bool { return v.State == chat.Idle && v.Lease != nil })
	if out, errs, code := c.run("", "ssh", to, "cat hello.txt"); out != "hello\n" || code != 0 || started.Turns != v.Turns {
		t.Errorf("ssh to a workspace that was started = %q, %q, %d, after %d turns", out, errs, code, started.Turns)
	}
	n.stop() // which ends every stay
	n.start()
	said := fmt.Sprint(n.items(v.ID))
	for _, want := range []string{"was in the workspace for ", "from the node's own machine: "} {
		if !strings.Contains(said, want) {
			t.Errorf("the task does not say %q: %s", want, said)
		}
	}
}

// sshAgent takes a person's agent along, which an owner of the project has to
// allow.
func sshAgent(t *testing.T, n *testNode, c *sshClient, to string) {
	t.Helper()
	dir := t.TempDir()
	key, socket := filepath.Join(dir, "key"), filepath.Join(dir, "agent")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "my-own-key", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	agent := exec.CommandContext(t.Context(), "ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	with := func(program string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		out, _ := cmd.CombinedOutput() // what it says is looked at
		return string(out)
	}
	(&testMesh{t: t}).await("the agent", func() bool { return strings.Contains(with("ssh-add", key), "Identity added") })
	list := c.command("ssh", "-A", to, "ssh-add -l").Args
	if out := with(list[0], list[1:]...); strings.Contains(out, "my-own-key") {
		t.Errorf("an agent came in unasked: %s", out)
	}
	must[chat.Project](n, "project", "set", "app", "--ssh-agent")
	if out := with(list[0], list[1:]...); !strings.Contains(out, "my-own-key") {
		t.Errorf("an agent that may come in: %s", out)
	}
}

// sshCommands are commands with their input, outputs and ends.
func sshCommands(t *testing.T, c *sshClient, to string) {
	t.Helper()
	out, errs, code := c.run("", "ssh", to, "id -u; cat hello.txt; echo no >&2; exit 42")
	if out != "1000\nhello\n" || errs != "no\n" || code != 42 {
		t.Errorf("a command = %q, %q, %d", out, errs, code)
	}
	if out, errs, code := c.run("a\nb\n", "ssh", to, "wc -l; kill -TERM $$"); strings.TrimSpace(out) != "2" || code != 128+15 {
		t.Errorf("a killed command = %q, %q, %d", out, errs, code)
	}
	if out, errs, code := c.run("git rev-parse --abbrev-ref HEAD\n", "ssh", "-T", to); !strings.HasPrefix(out, "samnode/") || code != 0 {
		t.Errorf("a script = %q, %q, %d", out, errs, code)
	}
	if _, errs, code := c.run("", "ssh", "-W", "192.0.2.1:80", to); code != 255 || !strings.Contains(errs, "outside the workspace") {
		t.Errorf("an address outside = %d: %s", code, errs)
	}
}

// sshFiles copies files there and back, and clones what is there.
func sshFiles(t *testing.T, c *sshClient, to string) {
	t.Helper()
	mine := t.TempDir()
	if err := os.WriteFile(filepath.Join(mine, "a.bin"), bytes.Repeat([]byte("samnode\n"), 1<<18), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := c.run("", "scp", filepath.Join(mine, "a.bin"), to+":app/sub.bin"); code != 0 {
		t.Errorf("scp there = %d: %s", code, errs)
	}
	if _, errs, code := c.run("", "scp", to+":../../workspaces/app/sub.bin", filepath.Join(mine, "b.bin")); code != 0 {
		t.Errorf("scp back = %d: %s", code, errs)
	}
	a, errA := os.ReadFile(filepath.Join(mine, "a.bin"))
	b, errB := os.ReadFile(filepath.Join(mine, "b.bin"))
	if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) {
		t.Errorf("what came back has %d bytes, not %d: %v", len(b), len(a), err)
	}
	if out, errs, code := c.run("pwd\ncd app\nls -l sub.bin\nrm sub.bin\n", "sftp", "-b", "-", to); code != 0 || !strings.Contains(out, "2097152") || !strings.Contains(out, "/home/agent") {
		t.Errorf("sftp = %d: %s%s", code, out, errs)
	}
	sshRsync(t, c, to)
	dir, _, _ := c.run("", "ssh", to, "pwd")
	clone := exec.CommandContext(t.Context(), "git", "clone", "-q", "ssh://"+to+strings.TrimSpace(dir), filepath.Join(mine, "clone"))
	clone.Env = append(os.Environ(), "GIT_SSH_COMMAND=ssh "+strings.Join(append([]string{"-F", c.config}, c.more...), " "))
	if out, err := clone.CombinedOutput(); err != nil {
		t.Errorf("git clone: %v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(mine, "clone", "hello.txt")); string(got) != "hello\n" || err != nil {
		t.Errorf("the clone has %q, %v", got, err)
	}
}

// sshRsync sends a folder there, changes a file of it, and sends what changed.
func sshRsync(t *testing.T, c *sshClient, to string) {
	t.Helper()
	mine := t.TempDir()
	shell := "ssh " + strings.Join(append([]string{"-F", c.config}, c.more...), " ")
	for _, want := range []string{"one.txt two.txt", "two.txt"} {
		text := []byte("as of " + want)
		files := strings.Fields(want)
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(mine, f), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.CommandContext(t.Context(), "rsync", "-a", "--out-format=%n", "-e", shell, mine+"/", to+":synced").CombinedOutput()
		if got := strings.Fields(strings.ReplaceAll(string(out), "./\n", "")); err != nil || !slices.Equal(got, files) {
			t.Errorf("rsync sends %q, not %q: %v", got, files, err)
		}
	}
	if out, errs, code := c.run("", "ssh", to, "cat synced/two.txt && rm -r synced"); out != "as of two.txt" || code != 0 {
		t.Errorf("what rsync sent = %q, %q, %d", out, errs, code)
	}
}

// sshOwnCommand is samnode ssh, which needs no client.
func sshOwnCommand(t *testing.T, n *testNode, task string) {
	t.Helper()
	if out, errs, code := n.cli("ssh", task, "cat", "hello.txt;", "echo", "no", ">&2;", "exit", "9"); out != "hello\n" || errs != "no\n" || code != 9 {
		t.Errorf("samnode ssh = %q, %q, %d", out, errs, code)
	}
	if out, errs, code := n.cli("ssh", "-t", task, "stty size"); strings.TrimSpace(out) != "24 80" || code != 0 {
		t.Errorf("samnode ssh -t = %q, %q, %d", out, errs, code)
	}
	if out, errs, code := n.cli("ssh", "--list", task); code != 0 || errs != "" {
		t.Errorf("samnode ssh --list = %q, %q, %d", out, errs, code)
	}
	if _, errs, code := n.cli("ssh", "-t", "--watch", "nothing", task); code != 255 || !strings.Contains(errs, "there is no shell") {
		t.Errorf("samnode ssh --watch = %q, %d", errs, code)
	}
	if _, _, code := n.cli("ssh", "--watch", "t1", "--new", task); code != exitUsage {
		t.Errorf("--watch and --new = %d", code)
	}
	if _, errs, code := n.cli("ssh", "nosuchtask", "true"); code != exitRefused || !strings.Contains(errs, "There is no task") {
		t.Errorf("samnode ssh to nothing = %d: %s", code, errs)
	}
	if _, errs, code := n.cli("ssh"); code != exitUsage || !strings.Contains(errs, "which task?") {
		t.Errorf("samnode ssh alone = %d: %s", code, errs)
	}
	if out, errs, code := n.cli("ssh-config", "--known-hosts"); !strings.Contains(out, " ssh-ed25519 AAAA") || code != 0 {
		t.Errorf("ssh-config --known-hosts = %q, %q, %d", out, errs, code)
	}
}

// The host key is there as soon as the mesh is, no task ever gets it, and an
// owner can have another. What asks for another protocol gets no connection.
func TestSSHHostKey(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	n := newNode(t)
	key := must[sshInfo](n, "ssh-config").HostKey
	n.stop()
	n.start()
	if again := must[sshInfo](n, "ssh-config").HostKey; again != key {
		t.Errorf("after a restart the key is %s, was %s", again, key)
	}
	if !isCoreSecret(secretHostKey) {
		t.Error("tasks get the host key")
	}
	must[map[string]string](n, "secret", "rm", secretHostKey)
	m := &testMesh{t: t}
	m.await("another key", func() bool { return must[sshInfo](n, "ssh-config").HostKey != key })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+"/api/v1/ssh", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("another protocol = %d", resp.StatusCode)
	}
}
