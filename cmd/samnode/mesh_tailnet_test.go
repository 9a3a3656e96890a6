package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/ui/api"
)

// newTailnetMesh sets up three core nodes, a, b and c, on a tailnet: with
// init, invitations and join, as a person would.
func newTailnetMesh(t *testing.T, control *meshtest.ControlServer, args ...string) *testMesh {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("", "st")
	if err != nil {
		t.Fatal(err)
	}
	m := &testMesh{t: t, state: state}
	tail := strings.ToLower(chat.NewID()[18:])
	t.Cleanup(func() { m.tearDown() })
	for i, letter := range []string{"a", "b", "c"} {
		name := letter + tail
		n := &testNode{
			t: t, bin: bin, verb: "run", state: filepath.Join(state, name), args: append(meshTimes(), args...), log: &lockedBuffer{},
		}
		set := []string{"--state", n.state, "--name", name, "--auth-key", "tskey-auth-test", "--setup-only"}
		if i == 0 {
			m.setUpNode(n, append([]string{"init", "--control", control.URL}, set...))
		} else {
			v := must[api.Invitation](m.nodes[0], "node", "invite", "--core")
			m.setUpNode(n, append([]string{"join", "--core", v.Token}, set...))
		}
		m.nodes = append(m.nodes, n)
		m.up(n)
	}
	m.settled()
	return m
}

func (m *testMesh) setUpNode(n *testNode, args []string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, n.bin, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("samnode %s: %v\n%s", args[0], err, out)
	}
}

// proxyFor lets a browser here reach the tailnet as a person does.
func proxyFor(t *testing.T, d *meshtest.Device) string {
	t.Helper()
	forward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: d.Transport(), FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			tunnel(w, r, d)
			return
		}
		forward.ServeHTTP(w, r)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}

// tunnel is what a browser asks of a proxy for a WebSocket.
func tunnel(w http.ResponseWriter, r *http.Request, d *meshtest.Device) {
	far, err := d.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	fmt.Fprint(near, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(far, near)
	io.Copy(near, far)
}

// as asks a node's API as a person on the tailnet.
func as(t *testing.T, d *meshtest.Device, n *testNode, method, path string, in, out any) (int, string) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.page+"/api/v1/"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode < 300 && out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			t.Fatalf("%s %s answers %s: %v", method, path, data, err)
		}
	}
	return resp.StatusCode, string(data)
}

// TestTailnetMesh is the mesh's promise on a real tailnet: a person posts a task
// at one node, it runs on another and is watched at the third. The one that is
// watched at leads, and is killed in mid-stream: the page goes on by itself at
// another node, and every line is there exactly once.
func TestTailnetMesh(t *testing.T) {
	needDocker(t)
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := newTailnetMesh(t, control, "--slots", "1")
	ana, eve := meshtest.Person(t, control, "ana-laptop"), meshtest.Person(t, control, "eve-laptop")
	watched := m.leader()
	posted, runs := m.others(watched)[0], m.others(watched)[1]
	name := func(n *testNode) string { return filepath.Base(n.state) }

	// The machine's own person began the mesh; others need a role.
	if code, text := as(t, ana, posted, "GET", "projects", nil, nil); code != http.StatusForbidden || !strings.Contains(text, "no role in this mesh") {
		t.Errorf("a person without a role gets %d: %s", code, text)
	}
	must[map[string]string](posted, "people", "role", ana.Login, "member")
	if code, text := as(t, eve, watched, "POST", "tasks", map[string]string{"project": "app", "text": "hello"}, nil); code != http.StatusForbidden {
		t.Errorf("a stranger's task gets %d: %s", code, text)
	}
	repo := localRepo(t, nil)
	must[chat.Project](posted, "project", "add", "app", "--repo", repo, "--mode", "everything")
	for _, n := range []*testNode{watched, posted} {
		must[map[string]string](n, "node", "drain", name(n))
	}
	var v taskView
	if code, text := as(t, ana, posted, "POST", "tasks", map[string]string{"project": "app", "text": lines(120)}, &v); code >= 300 {
		t.Fatalf("posting a task as a person gets %d: %s", code, text)
	}
	v = runs.until(v.ID, "printing", func(v taskView) bool {
		return strings.Contains(fmt.Sprint(toolOutputs(runs.items(v.ID))), "line 5.")
	})
	if string(v.Lease.Node) != name(runs) {
		t.Fatalf("the task runs on %s, want %s", v.Lease.Node, name(runs))
	}
	watched.proxy = proxyFor(t, ana)
	p := newTab(t, watched)
	p.expect(`ERR_|Failed to load|EventSource|net::`)
	took := &parts{t: t}
	took.follow(p)
	p.do(chromedp.Navigate(watched.page + "/t/" + string(v.ID)))
	p.wait(`document.body.innerText.includes("line 10.")`)
	p.shot("mesh-watched")
	took.start()
	watched.kill()
	var second taskView
	if code, text := as(t, ana, posted, "POST", "tasks", map[string]string{"project": "app", "text": sh("echo second > second.txt")}, &second); code >= 300 {
		t.Errorf("posting after the leader's death gets %d: %s", code, text)
	}
	took.add(time.Now(), "a person", "has a task accepted at %s", name(posted))
	t.Logf("accepted again %s after kill -9 of the leader", took.since())
	p.wait(fmt.Sprintf("location.host !== %q", strings.TrimPrefix(watched.page, "http://")))
	t.Logf("the page went on at another node %s after the kill", took.since())
	p.shot("mesh-moved")
	p.wait(`document.body.textContent.includes("line 120.")`) // the card folds when it is done
	took.report(posted, runs)
	v = posted.idle(v.ID)
	for _, n := range m.alive() {
		out := strings.Join(toolOutputs(n.items(v.ID)), "\n")
		for i := 1; i <= 120; i++ {
			if got := strings.Count(out, fmt.Sprintf("line %d.\n", i)); got != 1 {
				t.Errorf("line %d is there %d times at %s", i, got, name(n))
			}
		}
	}
	if got := gitIn(t, repo, "show", v.Branch+":done.txt"); got != "done" || v.Turns != 1 {
		t.Errorf("done.txt = %q after %d turns", got, v.Turns)
	}
	p.wait(`document.body.textContent.split("line 115.\n").length === 2`)
	posted.idle(second.ID)
}

// joinTailnet makes a machine of the tailnet a worker.
func (m *testMesh) joinTailnet(at *testNode, args ...string) *testNode {
	m.t.Helper()
	name := "w" + filepath.Base(at.state)[1:]
	w := m.place(name, args...)
	v := must[api.Invitation](at, "node", "invite")
	m.setUpNode(w, []string{"join", v.Token, "--state", w.state, "--name", name, "--auth-key", "tskey-auth-test", "--setup-only"})
	m.up(w)
	return w
}

// TestTailnetWorker: the core node that a worker talks to dies, and on a tailnet
// does not even end its connections. The worker goes on with another one: it
// keeps its lease, and every line is there exactly once.
func TestTailnetWorker(t *testing.T) {
	needDocker(t)
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := newTailnetMesh(t, control, "--slots", "1", "--lease", "10s")
	at := m.nodes[0]
	w := m.joinTailnet(at, "--slots", "1", "--lease", "10s")
	name := filepath.Base(w.state)
	m.awaitNode(at, name, "as a worker", func(x api.Node) bool { return x.Online && x.Slots == 1 && !x.Core })
	_, errs, code := sshBy(t, meshtest.Person(t, control, "ana-laptop"), w).run("", "ssh", "task@"+name, "true")
	if code != 255 || !strings.Contains(errs, "workers do not answer ssh; core nodes do, for every workspace: ssh TASK@samnode-") {
		t.Errorf("ssh to a worker = %d: %s", code, errs)
	}
	repo := localRepo(t, nil)
	must[chat.Project](at, "project", "add", "app", "--repo", repo, "--mode", "everything")
	for _, n := range m.others(w) {
		must[map[string]string](at, "node", "drain", filepath.Base(n.state))
	}
	v := must[taskView](at, "task", "run", "--project", "app", lines(150))
	at.until(v.ID, "printing", func(v taskView) bool {
		return strings.Contains(fmt.Sprint(toolOutputs(at.items(v.ID))), "line 5.")
	})
	id, err := readIdentity(w.state)
	if err != nil {
		t.Fatal(err)
	}
	talks := m.named(id.Cores[0].Node)
	watch := m.others(talks, w)[0]
	took := &parts{t: t}
	took.start()
	talks.kill()
	printed := func() int { return strings.Count(strings.Join(toolOutputs(watch.items(v.ID)), "\n"), "line ") }
	before := printed()
	for printed() < before+10 && took.since() < time.Minute {
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("the worker's lines go on %s after kill -9 of its core node", took.since())
	v = watch.idle(v.ID)
	if string(v.Lease.Node) != name || v.Workspace != 1 || v.Turns != 1 {
		t.Errorf("the task went to %s, workspace %d, in %d turns", v.Lease.Node, v.Workspace, v.Turns)
	}
	watch.checkOnce(v.ID, 150)
}
