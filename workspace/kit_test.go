package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/git"
	"github.com/samnode/samnode/workspace/git/gittest"
	"github.com/samnode/samnode/workspace/scriptagent"
	"github.com/samnode/samnode/workspace/shim"
)

var _ Tenure = (*provision.Tenure)(nil)

const baseImage = "samnode/base:latest"

// TestMain is also the program that workspaces are started with: their init
// and their built-in agent.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "shim" && os.Args[1] != "agent" {
		os.Exit(m.Run())
	}
	if err := inside(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func inside(what string, args []string) error {
	if what == "agent" {
		return scriptagent.Main(context.Background(), os.Stdin, os.Stdout)
	}
	c := shim.Config{Home: inHome}
	for i := 0; i+1 < len(args); i += 2 {
		switch value := args[i+1]; args[i] {
		case "--socket":
			c.Socket = value
		case "--journal":
			c.Journal = value
		case "--forward":
			listen, socket, _ := strings.Cut(value, "=")
			c.Forward = append(c.Forward, shim.Forward{Listen: listen, Socket: socket})
		}
	}
	return shim.Main(context.Background(), c)
}

func needDocker(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Docker engine; -short is set")
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "image", "inspect", baseImage).CombinedOutput(); err != nil {
		t.Skipf("needs a Docker engine with the base image (scripts/setup): %v %s", err, out)
	}
}

// mesh is what nodes have in common: the chat and the remote.
type mesh struct {
	t    *testing.T
	kit  *chattest.Kit
	repo string // bare
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	needDocker(t)
	m := &mesh{t: t, kit: chattest.NewKit(), repo: filepath.Join(t.TempDir(), "app.git")}
	gittest.Git(t, "", "init", "-q", "--bare", "--initial-branch=main", m.repo)
	gittest.Push(t, m.repo, "main", "first", map[string]string{"README.md": "hello\n"})
	m.kit.Must(t, chattest.Ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{
		ID: "app", Name: "app", Repo: m.repo, Branch: "main", Agent: "script", Mode: chat.ModeEverything,
	}}})
	return m
}

// task makes one of a shell script.
func (m *mesh) task(lines ...string) chat.TaskID {
	m.t.Helper()
	return m.kit.NewTask(m.t, "app", block(lines...)).ID
}

func block(lines ...string) string { return "Do it\n\n```sh\n" + strings.Join(lines, "\n") + "\n```\n" }

// place gives a task's lease to a node.
func (m *mesh) place(id chat.TaskID, node chat.Node) (token uint64) {
	m.t.Helper()
	return m.kit.Must(m.t, chattest.Node, chat.Op{Place: &chat.Place{Task: id, Node: node, Slot: string(node) + "/1"}})
}

func (m *mesh) expire(id chat.TaskID) {
	m.t.Helper()
	t := m.kit.Get(m.t, id)
	m.kit.Must(m.t, chattest.Node, chat.Op{Expire: &chat.Expire{Task: id, Token: t.Lease.Token, Reason: "its node did not answer"}})
}

// until waits for a state of the task.
func (m *mesh) until(id chat.TaskID, what string, want func(chat.Task) bool) chat.Task {
	m.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		t := m.kit.Get(m.t, id)
		switch {
		case want(t):
			return t
		case t.State == chat.Failed || time.Now().After(deadline):
			m.t.Fatalf("waiting until the task is %s: it is %s, %+v, %+v\n%s", what, t.State, t.Failure, t.Steps, strings.Join(m.said(id), "\n"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (m *mesh) idle(id chat.TaskID) chat.Task {
	m.t.Helper()
	return m.until(id, "idle", func(t chat.Task) bool { return t.State == chat.Idle })
}

// printed waits until a tool of the task has printed something.
func (m *mesh) printed(id chat.TaskID, text string) {
	m.t.Helper()
	m.until(id, "at "+text, func(chat.Task) bool {
		return slices.ContainsFunc(m.kit.Messages.All(id), func(msg chat.Message) bool { return msg.Tool != nil && strings.Contains(msg.Tool.Output, text) })
	})
}

// said are the nodes' own words in the task's chat.
func (m *mesh) said(id chat.TaskID) []string {
	var list []string
	for _, msg := range m.kit.Messages.All(id) {
		if msg.Kind == chat.KindStatus || msg.Kind == chat.KindError {
			list = append(list, string(msg.Kind)+" "+msg.Text)
		}
	}
	return list
}

// saidOnce checks that one of the nodes' words has that in it, and no more.
func (m *mesh) saidOnce(id chat.TaskID, text string) {
	m.t.Helper()
	n := 0
	for _, s := range m.said(id) {
		if strings.Contains(s, text) {
			n++
		}
	}
	if n != 1 {
		m.t.Errorf("%q was said %d times:\n%s", text, n, strings.Join(m.said(id), "\n"))
	}
}

// tip is the remote's commit of the task's branch, or "".
func (m *mesh) tip(t chat.Task) string {
	m.t.Helper()
	return strings.TrimSpace(gittest.Git(m.t, m.repo, "for-each-ref", "--format=%(objectname)", "refs/heads/"+t.Branch))
}

// errAway is what a mesh without a leader answers.
var errAway = errors.New("no leader")

// board is one node's way to the chat, which can be cut.
type board struct {
	*chat.Room
	mu     sync.Mutex
	away   bool                                        // nothing is answered
	behind bool                                        // what others changed is not told
	before func(op chat.Op) error                      // asked before each op
	after  func(op chat.Op, index uint64) (lost error) // and after it was done: the answer is lost on the way
	ids    map[string]string                           // command id → its op
	frozen map[chat.TaskID]chat.Task                   // while behind; without a state: never heard of
}

func (b *board) set(change func(*board)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

func (b *board) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return errAway
	}
	return nil
}

func (b *board) lags() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.behind
}

func (b *board) TasksSince(ctx context.Context, after uint64) ([]chat.Task, uint64, error) {
	for {
		if err := b.err(); err != nil {
			return nil, after, err
		}
		if !b.lags() {
			wait, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			tasks, index, err := b.Room.TasksSince(wait, after)
			cancel()
			if err == nil && !b.lags() && b.err() == nil {
				return tasks, index, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, after, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (b *board) Do(ctx context.Context, by chat.Author, id string, op chat.Op) (uint64, error) {
	if err := b.err(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	before, after := b.before, b.after
	b.mu.Unlock()
	if before != nil {
		if err := before(op); err != nil {
			return 0, err
		}
	}
	index, err := b.Room.Do(ctx, by, id, op)
	if err == nil && after != nil {
		err = after(op, index)
	}
	return index, err
}

func (b *board) Task(id string) (chat.Task, error) {
	if err := b.err(); err != nil {
		return chat.Task{}, err
	}
	b.mu.Lock()
	old, frozen := b.frozen[chat.TaskID(id)]
	b.mu.Unlock()
	if frozen && old.State == "" {
		return old, chat.ErrNotFound
	}
	if frozen {
		return old, nil
	}
	return b.Room.Task(id)
}

func (b *board) Project(id string) (chat.Project, error) {
	if err := b.err(); err != nil {
		return chat.Project{}, err
	}
	return b.Room.Project(id)
}

func (b *board) Message(ctx context.Context, task chat.TaskID, id string) (chat.Message, error) {
	if err := b.err(); err != nil {
		return chat.Message{}, err
	}
	return b.Room.Message(ctx, task, id)
}

func (b *board) Messages(ctx context.Context, task chat.TaskID, before uint64, limit int) ([]chat.Message, error) {
	if err := b.err(); err != nil {
		return nil, err
	}
	return b.Room.Messages(ctx, task, before, limit)
}

// plain is the forge of a remote without pull requests.
type plain struct{}

func (plain) Auth(context.Context) (git.Auth, error) { return git.Auth{}, nil }

func (plain) EnsurePull(_ context.Context, t chat.Task, _ []chat.Message, _ bool) (*chat.PullRequest, error) {
	return &chat.PullRequest{URL: "/t/" + string(t.ID), State: "open"}, nil
}

func (plain) PullStatus(context.Context, chat.Task) (*chat.PullRequest, []string, error) {
	return nil, nil, nil
}

// leaseFor is short, so that a tenure is lost soon.
const leaseFor = time.Second

// member is one node of the mesh.
type member struct {
	*mesh
	name   chat.Node
	board  *board
	tenure *provision.Tenure
	runner *Runner
	config Config
	log    *logged
	stop   func() // detaches

	mu    sync.Mutex
	beats bool // the mesh hears of it
}

// member makes a node and starts it.
func (m *mesh) member(name string) *member {
	m.t.Helper()
	return m.memberWith(name, func(*Config) {})
}

func (m *mesh) memberWith(name string, change func(*Config)) *member {
	m.t.Helper()
	dir, err := os.MkdirTemp("", "sn")
	if err != nil {
		m.t.Fatal(err)
	}
	n := &member{
		mesh: m, name: chat.Node(name + strings.ToLower(chat.NewID()[18:])), log: &logged{}, beats: true,
		board: &board{Room: m.kit.Room}, tenure: provision.NewTenure(leaseFor),
	}
	engine, err := docker.Open(m.t.Context(), docker.Config{Mesh: string(n.name)})
	if err != nil {
		m.t.Fatal(err)
	}
	mirrors, err := git.Open(git.Config{Dir: filepath.Join(dir, "mirrors")})
	if err != nil {
		m.t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	n.config = Config{
		Node: n.name, Dir: filepath.Join(dir, "w"), Binary: program, Image: baseImage, Agents: filepath.Join(dir, "agents"),
		Board: n.board, Tenure: n.tenure, Engine: engine, Mirrors: mirrors,
		Forge:  func(chat.Project) (Forge, error) { return plain{}, nil },
		Secret: func(context.Context, chat.ProjectID, string) (string, error) { return "", chat.ErrNotFound },
		Logger: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	change(&n.config)
	m.t.Cleanup(func() {
		n.stop()
		n.clean()
		if m.t.Failed() {
			m.t.Logf("log of %s:\n%s", n.name, n.log)
		}
		if err := errors.Join(engine.Close(), os.RemoveAll(dir)); err != nil {
			m.t.Error(err)
		}
	})
	n.start()
	return n
}

func (n *member) clean() {
	script := `docker ps -aq --filter label=samnode.mesh=$0 | xargs -r docker rm -f; docker volume ls -q --filter label=samnode.mesh=$0 | xargs -r docker volume rm`
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "sh", "-c", script, string(n.name)).CombinedOutput(); err != nil {
		n.t.Logf("cleaning up: %v %s", err, out)
	}
}

// start runs the node until stop.
func (n *member) start() {
	n.t.Helper()
	runner, err := New(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	n.runner = runner
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := runner.Run(ctx); !errors.Is(err, context.Canceled) {
			n.t.Errorf("Run = %v", err)
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			n.mu.Lock()
			if n.beats {
				n.tenure.Renewed(time.Now())
			}
			n.mu.Unlock()
			time.Sleep(leaseFor / 10)
		}
	})
	n.stop = func() { cancel(); wg.Wait() }
}

// lose keeps the node's signs of life from the mesh until its tenure ran out.
func (n *member) lose() {
	n.t.Helper()
	n.mu.Lock()
	n.beats = false
	n.mu.Unlock()
	<-n.tenure.Lost()
}

func (n *member) hold() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.beats = true
}

// inside runs a script in the task's container.
func (n *member) inside(t chat.Task, script string) (string, error) {
	out, err := exec.CommandContext(n.t.Context(), "docker", "exec", "samnode-"+shortName(t), "sh", "-c", script).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// onVolume runs a script where the task's volume is, in a container of its own.
func (n *member) onVolume(t chat.Task, script string) string {
	n.t.Helper()
	volume := (&run{r: n.runner, id: t.ID}).volume()
	out, err := exec.CommandContext(n.t.Context(), "docker", "run", "--rm", "--network", "none", "--user", "1000:1000", "-v", volume+":/workspaces",
		"-v", n.mirror()+":"+n.mirror()+":ro", "--entrypoint", "sh", baseImage, "-c", "cd /workspaces/app && "+script).CombinedOutput()
	if err != nil {
		n.t.Fatalf("on the volume: %v %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// containers are how many the node has.
func (n *member) containers() int {
	n.t.Helper()
	list, err := n.config.Engine.List(n.t.Context(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return len(list)
}

// gone waits until the node has no container and no run.
func (n *member) gone() {
	n.t.Helper()
	for deadline := time.Now().Add(time.Minute); n.containers() > 0 || len(n.runner.Running()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("%d containers are left, %v run", n.containers(), n.runner.Running())
		}
	}
}

// logged is a node's log.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (m *mesh) git(args ...string) string {
	m.t.Helper()
	return strings.TrimSpace(gittest.Git(m.t, m.repo, args...))
}

// kept is what a node said that it keeps of a lease.
func (m *mesh) kept(id chat.TaskID, token uint64) chat.Message {
	m.t.Helper()
	msg, err := m.kit.Message(m.t.Context(), id, fmt.Sprintf("kept-%d", token))
	if err != nil {
		m.t.Fatal(err)
	}
	return msg
}

func (m *mesh) eventually(what string, is func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("not after a minute: %s", what)
		}
	}
}

func dockerDo(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput(); err != nil {
		t.Fatalf("docker %v: %v %s", args, err, out)
	}
}

func (n *member) mirror() string {
	n.t.Helper()
	r, err := n.config.Mirrors.Repo(n.repo)
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Path()
}

// push is a person's push to the base branch.
func (m *mesh) push(files map[string]string) {
	m.t.Helper()
	gittest.Push(m.t, m.repo, "main", "more", files)
}
