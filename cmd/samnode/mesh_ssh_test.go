package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/mesh/tailnet"
	"github.com/samnode/samnode/ui/api"
)

// sshBy is the ssh of a person, whose device is on the tailnet, to a node.
func sshBy(t *testing.T, d *meshtest.Device, n *testNode, more ...string) *sshClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	host := strings.TrimPrefix(n.page, "http://") + ":22"
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go carry(t, d, near, host)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return newSSHClient(t, n, append([]string{"-o", "HostName=127.0.0.1", "-o", "Port=" + port}, more...)...)
}

// carry is a device's own way to a host of the tailnet.
func carry(t *testing.T, d *meshtest.Device, near net.Conn, host string) {
	defer near.Close()
	far, err := d.Dial(t.Context(), "tcp", host)
	if err != nil {
		return // the client sees that nobody answers
	}
	defer far.Close()
	go func() {
		_, _ = io.Copy(far, near) // its end is the other's
		far.Close()
	}()
	_, _ = io.Copy(near, far)
}

// TestTailnetSSH: people of a tailnet get into a workspace with their own ssh,
// at a node that has to ask another one for it. Strangers and viewers do not. A
// shell outlives both nodes' processes.
func TestTailnetSSH(t *testing.T) {
	needDocker(t)
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := newTailnetMesh(t, control, "--slots", "1")
	ana, eve, vic := meshtest.Person(t, control, "ana-laptop"), meshtest.Person(t, control, "eve-laptop"), meshtest.Person(t, control, "vic-laptop")
	runs, door, other := m.nodes[2], m.nodes[0], m.nodes[1]
	must[map[string]string](door, "people", "role", ana.Login, "member")
	must[map[string]string](door, "people", "role", vic.Login, "viewer")
	for _, n := range []*testNode{door, other} {
		must[map[string]string](n, "node", "drain", filepath.Base(n.state))
	}
	v := spaceTask(t, door)
	if string(v.Lease.Node) != filepath.Base(runs.state) {
		t.Fatalf("the task runs on %s", v.Lease.Node)
	}
	at := func(n *testNode) string { return string(v.ID) + "@" + filepath.Base(n.state) }
	c := sshBy(t, ana, door)
	sshCommands(t, c, at(door))
	sshFiles(t, c, at(door))
	sshForwards(t, c, at(door))
	inner := newSSHClient(t, door)
	inner.more = []string{"-o", "BatchMode=yes", "-o", "ProxyCommand=ssh " + strings.Join(append([]string{"-F", c.config}, c.more...), " ") + " -W %h:%p " + at(door)}
	if out, errs, code := inner.run("", "ssh", at(other), "cat hello.txt"); out != "hello\n" || code != 0 {
		t.Errorf("a jump to another node = %q, %q, %d", out, errs, code)
	}
	for d, want := range map[*meshtest.Device]string{eve: "has no role in this mesh", vic: "viewers only read"} {
		out, errs, code := sshBy(t, d, other).run("", "ssh", at(other), "echo in")
		if out != "" || code != 255 || !strings.Contains(errs, want) {
			t.Errorf("%s gets %q, %q, %d", d.Login, out, errs, code)
		}
	}

	shell := c.shell(at(door))
	shell.say("mark=kept; echo re''ady")
	shell.shows("ready")
	door.kill()
	byOther := sshBy(t, ana, other)
	var again *typed
	m.await("the shell at another node", func() bool { // that the other end is dead shows after a while
		again = byOther.shell(at(other))
		again.say("echo mark=$mark.")
		m.await("the shell to answer", func() bool {
			return strings.Contains(again.out.String(), "mark=kept.") || strings.Contains(again.out.String(), "mark=.")
		})
		if strings.Contains(again.out.String(), "mark=kept.") {
			return true
		}
		again.say("exit")
		return false
	})
	runs.kill()
	again.shows("the connection to the shell broke")
	if _ = again.cmd.Wait(); again.cmd.ProcessState.ExitCode() != 255 { // its code is looked at
		t.Errorf("the end of ssh = %d, want 255", again.cmd.ProcessState.ExitCode())
	}
	if _, errs, code := byOther.run("", "ssh", at(other), "true"); code != 255 || !strings.Contains(errs, "samnode: ") {
		t.Errorf("ssh to a dead node's workspace = %d: %s", code, errs)
	}
	runs.start()
	m.await("ssh to get in again", func() bool {
		_, _, code := byOther.run("", "ssh", at(other), "true")
		return code == 0
	})
	last := byOther.shell(at(other))
	last.shows("samnode: your shell of")
	last.say("echo mark=$mark; exit 7")
	last.shows("mark=kept")
	if _ = last.cmd.Wait(); last.cmd.ProcessState.ExitCode() != 7 { // its code is looked at
		t.Errorf("the shell ends with %d, want 7", last.cmd.ProcessState.ExitCode())
	}
}

// sshForwards reaches a port of the workspace, which has no network of its own,
// and lets it reach one here.
func sshForwards(t *testing.T, c *sshClient, to string) {
	t.Helper()
	here, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "from outside") })}
	go srv.Serve(here)
	t.Cleanup(func() { srv.Close() })
	socket := filepath.Join(t.TempDir(), "l")
	cmd := c.command("ssh", "-o", "ExitOnForwardFailure=yes", "-L", socket+":localhost:8123", "-R", "8124:"+here.Addr().String(), to,
		"python3 -m http.server 8123 --bind 127.0.0.1")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it does not end by itself
		_ = cmd.Wait()
	})
	web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		Dial:              func(string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}} //nolint:staticcheck // a test's
	m := &testMesh{t: t}
	m.await("the port of the workspace", func() bool {
		resp, err := web.Get("http://workspace/hello.txt")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && string(text) == "hello\n"
	})
	if out, errs, code := c.run("", "ssh", to, "curl -s --noproxy '*' http://127.0.0.1:8124/"); out != "from outside" || code != 0 {
		t.Errorf("the port from outside = %q, %q, %d", out, errs, code)
	}
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
}

// TestTailnetSSHRoles: a role in one project opens the workspaces of that one
// alone.
func TestTailnetSSHRoles(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := &testMesh{t: t, state: t.TempDir()}
	t.Cleanup(m.tearDown)
	n := m.place("sshroles")
	m.setUpNode(n, []string{"init", "--control", control.URL, "--state", n.state, "--name", "sshroles", "--auth-key", "tskey-auth-test", "--setup-only"})
	m.up(n)
	ben := meshtest.Person(t, control, "ben-laptop")
	must[chat.Project](n, "project", "add", "app", "--repo", "/nowhere.git")
	must[chat.Project](n, "project", "add", "other", "--repo", "/elsewhere.git")
	draft := func(project string) string {
		var v taskView
		if err := newClient(n.url).call(t.Context(), http.MethodPost, "tasks", map[string]any{"project": project, "text": "hello", "draft": true}, &v); err != nil {
			t.Fatal(err)
		}
		return string(v.ID)
	}
	app, other := draft("app"), draft("other")
	c := sshBy(t, ben, n)
	says := func(task string) string {
		_, errs, code := c.run("", "ssh", task+"@sshroles", "true")
		if code != 255 {
			t.Errorf("ssh to a task without a workspace = %d: %s", code, errs)
		}
		return errs
	}
	if got := says(app); !strings.Contains(got, "no role in this mesh") {
		t.Errorf("without a grant: %s", got)
	}
	control.Grant(tailnet.DefaultCapability, `{"role":"viewer","projects":["app"]}`)
	m.await("the grant to arrive", func() bool { return strings.Contains(says(app), "viewers only read") })
	control.Grant(tailnet.DefaultCapability, `{"role":"member","projects":["app"]}`)
	m.await("the better grant to arrive", func() bool { return strings.Contains(says(app), "no workspace of this task is alive") })
	if got := says(other); !strings.Contains(got, "There is no task") {
		t.Errorf("in another project: %s", got)
	}
}

// TestWorkerSSH: the workspace is on a worker, and the person at one. Each asks
// a core node.
func TestWorkerSSH(t *testing.T) {
	needDocker(t)
	t.Parallel()
	m := foundMesh(t)
	a := m.nodes[0]
	w := m.join(a, "w", false)
	m.awaitNode(a, "w", "there", func(x api.Node) bool { return x.Online && x.Slots > 0 })
	must[map[string]string](a, "node", "drain", "a")
	v := spaceTask(t, a)
	if string(v.Lease.Node) != "w" {
		t.Fatalf("the task runs on %s", v.Lease.Node)
	}
	for _, at := range []*testNode{a, w} {
		if out, errs, code := at.cli("ssh", string(v.ID), "cat hello.txt; exit 5"); out != "hello\n" || code != 5 {
			t.Errorf("samnode ssh at %s = %q, %q, %d", filepath.Base(at.state), out, errs, code)
		}
		c := newSSHClient(t, at)
		sshFiles(t, c, string(v.ID)+"@samnode")
	}
}
