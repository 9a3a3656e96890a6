package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/shim"
)

// TestMain is also the shim and what it runs to serve files, which need a
// process of their own.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == "shim":
		dir := os.Args[2]
		err = shim.Main(context.Background(), shim.Config{Socket: filepath.Join(dir, "s"), Journal: dir + "/", Home: dir, Shell: "/bin/sh"})
	case len(os.Args) > 1 && os.Args[1] == "sftp-server":
		err = ServeFiles(os.Stdin, os.Stdout)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// house is a server with one workspace, and a client's configuration for it.
type house struct {
	t      testing.TB
	dir    string // of the workspace
	port   string
	config string
	public string // host key
	shim   *shim.Client
	proc   *exec.Cmd // the shim
	out    atomic.Pointer[error]
	agent  atomic.Bool // may be forwarded

	asks time.Duration // how often whether the caller may stay
	who  atomic.Pointer[shim.Who]

	mu   sync.Mutex
	used []string // what is over, "command: cat"
	uses int      // that go on
}

// open starts a workspace and a server. The client's user names the workspace:
// "space" is one.
func open(t testing.TB, asks ...time.Duration) *house {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("needs the OpenSSH client")
	}
	dir, err := os.MkdirTemp("", "sd") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, dir: dir}
	if len(asks) > 0 {
		h.asks = asks[0]
	}
	h.who.Store(&shim.Who{Person: "ana@example.com", Device: "laptop", By: "ssh"})
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	h.startShim()
	key, err := NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	h.serve(key)
	h.configure(key)
	return h
}

func (h *house) startShim() {
	h.t.Helper()
	h.proc = exec.Command(os.Args[0], "shim", h.dir)
	h.proc.Stderr = os.Stderr
	h.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.proc.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.killShim)
	eventually(h.t, "the shim answers", func() bool {
		c, err := shim.Dial(h.t.Context(), filepath.Join(h.dir, "s"))
		h.shim = c
		return err == nil
	})
}

func (h *house) killShim() {
	if h.proc.ProcessState == nil {
		_ = h.proc.Process.Kill()
		_ = h.proc.Wait() // says that it was killed
	}
}

func (h *house) serve(key []byte) {
	h.t.Helper()
	s := New(Config{
		HostKey: func(context.Context) ([]byte, error) { return key, nil }, Enter: h.enter, AskEvery: h.asks,
		Node: func(host string) bool { return host == "b.mesh.test" },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	_, h.port, _ = net.SplitHostPort(l.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("Serve = %v", err)
		}
	})
}

func (h *house) enter(_ context.Context, _ net.Conn, name string) (*Space, error) {
	if name != "space" {
		return nil, fmt.Errorf("there is no task %.40q", name)
	}
	check := func(context.Context) error {
		if err := h.out.Load(); err != nil {
			return *err
		}
		return nil
	}
	return &Space{Shim: h.shim, Dir: h.dir, Env: []string{"INSIDE=yes", "PATH=" + os.Getenv("PATH")}, Binary: os.Args[0], Shells: "ssh-ana", Agent: h.agent.Load(), Check: check, Did: h.did, Who: *h.who.Load()}, nil
}

func (h *house) did(by Use, what string) func(int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uses++
	return func(int64) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.uses--
		h.used = append(h.used, string(by)+": "+what)
	}
}

// told says what is over, when nothing goes on any more.
func (h *house) told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.uses > 0 {
		return nil
	}
	return slices.Clone(h.used)
}

// throwOut takes the caller's right away.
func (h *house) throwOut() {
	err := errors.New("you are a viewer of this project now")
	h.out.Store(&err)
}

// configure writes what a person would have in ~/.ssh.
func (h *house) configure(key []byte) {
	h.t.Helper()
	public, err := PublicKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.public = public
	dir := h.t.TempDir()
	h.config = filepath.Join(dir, "config")
	write(h.t, filepath.Join(dir, "known"), "node "+public+"\n")
	write(h.t, h.config, fmt.Sprintf(`Host node
  HostName 127.0.0.1
  HostKeyAlias node
  Port %s
  User space
  UserKnownHostsFile %s
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  ControlPath %s/%%C
Host inner
  HostName 127.0.0.1
  HostKeyAlias node
  Port %s
  User space
  ProxyJump node
  UserKnownHostsFile %s
  BatchMode yes
`, h.port, filepath.Join(dir, "known"), h.dir, h.port, filepath.Join(dir, "known")))
}

// client is a program of OpenSSH with its arguments.
func (h *house) client(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(h.t.Context(), program, append([]string{"-F", h.config}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs ssh and returns what came of it.
func (h *house) run(stdin string, args ...string) (out, errs string, code int) {
	h.t.Helper()
	return h.finish(h.client("ssh", args...), stdin)
}

func (h *house) finish(cmd *exec.Cmd, stdin string) (string, string, int) {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		h.t.Fatalf("%v: %v %s", cmd.Args, err, &errs)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually polls a fact about real processes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

// lockedBuffer collects output that is read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
