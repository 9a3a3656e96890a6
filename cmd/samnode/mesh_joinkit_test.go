package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/ui/api"
)

// needProcesses skips with -short.
func needProcesses(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes; -short is set")
	}
}

// foundMesh is a mesh of one core node on loopback, a, which others can join.
func foundMesh(t testing.TB, args ...string) *testMesh {
	t.Helper()
	state, err := os.MkdirTemp("", "sf")
	if err != nil {
		t.Fatal(err)
	}
	m := &testMesh{t: t, state: state}
	t.Cleanup(func() { m.tearDown() })
	m.begin(m.place("a", args...))
	return m
}

// begin makes a node the founder of the mesh.
func (m *testMesh) begin(n *testNode) {
	m.t.Helper()
	if err := beginDev(n.state, filepath.Base(n.state)); err != nil {
		m.t.Fatal(err)
	}
	m.up(n)
	m.leader()
}

// place is a node that has not been set up yet.
func (m *testMesh) place(name string, args ...string) *testNode {
	m.t.Helper()
	bin, err := binary()
	if err != nil {
		m.t.Fatal(err)
	}
	n := &testNode{
		t: m.t, bin: bin, verb: "run", state: filepath.Join(m.state, name),
		args: append(meshTimes(), args...), log: &lockedBuffer{},
	}
	m.nodes = append(m.nodes, n)
	return n
}

// join sets up a new node with an invitation of a core node and starts it.
func (m *testMesh) join(at *testNode, name string, core bool, args ...string) *testNode {
	m.t.Helper()
	n := m.place(name, args...)
	m.enter(at, n, core)
	return n
}

func (m *testMesh) enter(at, n *testNode, core bool) {
	m.t.Helper()
	args := []string{"--setup-only", "--state", n.state, "--name", filepath.Base(n.state)}
	invite := []string{"node", "invite"}
	if core {
		args, invite = append(args, "--core"), append(invite, "--core")
	}
	token := must[api.Invitation](at, invite...).Token
	m.setUpNode(n, append([]string{"join", token}, args...))
	m.up(n)
}

// list is what one node says of all, by name.
func (m *testMesh) list(n *testNode) map[string]api.Node {
	var list nodeList
	if !m.get(n, "nodes", &list) {
		return nil
	}
	all := map[string]api.Node{}
	for _, x := range list.Nodes {
		all[x.Name] = x
	}
	return all
}

// awaitNode waits until one node says of another what is wanted.
func (m *testMesh) awaitNode(at *testNode, name, what string, want func(api.Node) bool) {
	m.t.Helper()
	m.await(name+" "+what, func() bool {
		x, ok := m.list(at)[name]
		return ok && want(x)
	})
}

// awaitVoters waits until so many vote, as a node sees it, and one leads.
func (m *testMesh) awaitVoters(at *testNode, want int) {
	m.t.Helper()
	m.await("voters", func() bool {
		info, ok := m.info(at)
		return ok && info.Voters == want && info.Leader != "" && info.Quorum
	})
}

// exits waits for a process that ends by itself, and returns its exit code.
func (n *testNode) exits() int {
	n.t.Helper()
	watchdog := time.AfterFunc(time.Minute, func() { _ = n.cmd.Process.Kill() }) // it may have ended meanwhile
	_ = n.cmd.Wait()                                                             // the code says it
	if !watchdog.Stop() {
		n.t.Errorf("%s did not stop by itself", filepath.Base(n.state))
	}
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code
}

// runsOut starts the node's process and returns what it said when it has ended
// by itself.
func (n *testNode) runsOut() (said string, code int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.bin, append([]string{n.verb, "--listen", "127.0.0.1:0", "--state", n.state}, n.args...)...)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended || ctx.Err() != nil {
		n.t.Fatalf("%s does not end by itself: %v\n%s", filepath.Base(n.state), err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// samnode runs a command line as a person would, and returns the sentence that
// it ended with.
func samnode(t testing.TB, args ...string) (said string, code int) {
	t.Helper()
	var out, errs strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	code = execute(ctx, args, strings.NewReader(""), &out, &errs)
	all := "\n" + out.String() + errs.String()
	if i := strings.LastIndex(all, "\nsamnode: "); code != exitDone && i >= 0 {
		all = all[i:]
	}
	return strings.TrimSpace(all), code
}

// atPrompt types a line at a terminal of a task, by way of this node, and waits
// for an answer.
func (n *testNode) atPrompt(task chat.TaskID, line, want string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	url := strings.Replace(n.url, "http", "ws", 1) + "/t/" + string(task) + "/terminals/t1/ws?rows=30&cols=100"
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: map[string][]string{"Origin": {n.url}}})
	if err != nil {
		n.t.Fatalf("opening a terminal at %s: %v", n.url, err)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageBinary, []byte(line+"\n")); err != nil {
		n.t.Fatal(err)
	}
	var got strings.Builder
	for !strings.Contains(got.String(), want) {
		_, data, err := conn.Read(ctx)
		if err != nil {
			n.t.Fatalf("the terminal at %s said %q, want %q: %v", n.url, got.String(), want, err)
		}
		got.Write(data)
	}
}

// checkOnce holds that every numbered line of lines is in the task once.
func (n *testNode) checkOnce(task chat.TaskID, upTo int) {
	n.t.Helper()
	times := map[string]int{}
	for _, l := range regexp.MustCompile(`line \d+\.`).FindAllString(strings.Join(toolOutputs(n.items(task)), "\n"), -1) {
		times[l]++
	}
	for l, k := range times {
		if k != 1 {
			n.t.Errorf("%q is there %d times", l, k)
		}
	}
	if len(times) != upTo {
		n.t.Errorf("%d lines are there, want %d", len(times), upTo)
	}
}

// nodeHere runs the core node of a state directory in this process, with
// another machine for the pool if wrap is not nil.
func nodeHere(t *testing.T, state string, wrap func(consensus.Machine) consensus.Machine) *node {
	t.Helper()
	id, err := readIdentity(state)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Config{
		State: state, Node: id.Node, Listen: "127.0.0.1:0", Slots: 1, Agents: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		BeatEvery: 500 * time.Millisecond, LeaseFor: 4 * time.Second, ReplaceAfter: 5 * time.Second,
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{host: host{c: c}, caught: make(chan struct{})}
	openLog := func(ctx context.Context) error {
		conf, err := n.logConfig(ctx)
		if err != nil {
			return err
		}
		if wrap != nil {
			conf.Machines[machinePool] = wrap(conf.Machines[machinePool])
		}
		if conf.Transport, err = n.transport(ctx); err != nil {
			return err
		}
		if n.log, err = consensus.Open(ctx, conf); err != nil {
			return err
		}
		n.group.set(n.log)
		n.onClose(n.log.Close)
		return nil
	}
	for _, step := range []func(context.Context) error{
		n.openState, n.openKey, n.openNetworkHere, openLog, n.openMetrics, n.openSpaces, n.openWorkspacesHere, n.openPages,
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(errors.Join(err, n.close()))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- errors.Join(n.serve(ctx), n.close()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the end of %s: %v", id.Node, err)
		}
	})
	return n
}
