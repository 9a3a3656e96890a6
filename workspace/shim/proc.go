package shim

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procs starts all processes of the workspace and reaps every child of this
// process, its own and the orphans that the kernel gives to an init. It is the
// only one that waits: os/exec beside it would lose exit codes.
type procs struct {
	log   *slog.Logger
	sigs  chan os.Signal
	ended chan struct{}

	token string // of this shim, in the marks of its processes

	mu    sync.Mutex // also held over fork, so that no child is reaped unknown
	live  map[int]*proc
	count int // ever started
}

// proc is a started process. It leads its own session and process group.
type proc struct {
	pid  int
	mark string // in its environment and so in that of its descendants; unique on the machine

	done   chan struct{}      // closed when it was reaped
	status syscall.WaitStatus // valid after done
}

func newProcs(log *slog.Logger) *procs {
	p := &procs{log: log, sigs: make(chan os.Signal, 1), ended: make(chan struct{}), token: rand.Text(), live: map[int]*proc{}}
	signal.Notify(p.sigs, unix.SIGCHLD)
	go p.reap()
	return p
}

// Close stops reaping.
func (p *procs) Close() {
	signal.Stop(p.sigs)
	close(p.sigs)
	<-p.ended
}

func (p *procs) reap() {
	defer close(p.ended)
	for range p.sigs {
		for p.reapOne() {
		}
	}
}

func (p *procs) reapOne() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if child := p.live[pid]; child != nil {
		delete(p.live, pid)
		child.status = status
		close(child.done)
	}
	return true
}

// command is what to start. Files become its stdin, stdout and stderr.
type command struct {
	path  string   // empty: args[0]
	args  []string // argv, at least one
	env   []string
	dir   string
	files [3]*os.File
	tty   bool // stdin is its controlling terminal
}

func (p *procs) start(c command) (*proc, error) {
	p.mu.Lock()
	p.count++
	mark := fmt.Sprintf("SAMNODE_PROCESS=%s-%d", p.token, p.count)
	p.mu.Unlock()
	env := dedup(append(slices.Clone(c.env), mark))
	path, err := lookPath(firstOf(c.path, c.args[0]), c.dir, env)
	if err != nil {
		return nil, err
	}
	attr := &syscall.ProcAttr{
		Dir: c.dir, Env: env,
		Files: []uintptr{c.files[0].Fd(), c.files[1].Fd(), c.files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: c.tty},
	}
	if os.Getpid() != 1 {
		attr.Sys.Pdeathsig = syscall.SIGKILL // as an init's end does. It is the thread's end, and only one with a locked goroutine ends before us: there is none
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pid, err := syscall.ForkExec(path, c.args, attr)
	if err != nil {
		return nil, fmt.Errorf("%w: starting %s in %s: %w", ErrStart, path, c.dir, err)
	}
	child := &proc{pid: pid, mark: mark, done: make(chan struct{})}
	p.live[pid] = child
	return child, nil
}

// signal reaches the process group.
func (c *proc) signal(s syscall.Signal) { _ = syscall.Kill(-c.pid, s) } // ESRCH: gone, as wished

// sweep kills what is left of the process: its group, its session, and what
// left both but still carries the mark. It repeats until it finds nothing.
// Outside a container the others' processes are in /proc too, hence the mark.
func (c *proc) sweep(log *slog.Logger) {
	for range 20 {
		c.signal(syscall.SIGKILL)
		left := c.descendants()
		for _, pid := range left {
			log.Debug("killing what the process left", "leader", c.pid, "pid", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond) // they die by the kernel's schedule; no event tells
	}
}

func (c *proc) descendants() []int {
	var found []int
	for _, pid := range pids() {
		if pid == os.Getpid() {
			continue
		}
		s, err := readStat(pid)
		if err != nil || s.state == 'Z' || s.state == 'X' {
			continue
		}
		if s.session == c.pid || s.group == c.pid || hasEnv(pid, c.mark) {
			found = append(found, pid)
		}
	}
	return found
}

func pids() []int {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil // only a malformed pattern
	}
	all := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

type stat struct {
	name           string
	state          byte
	group, session int
	started        uint64 // clock ticks since boot
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("unknown form of /proc/%d/stat", pid)
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return stat{}, fmt.Errorf("short /proc/%d/stat", pid)
	}
	s := stat{name: string(b[open+1 : end]), state: f[0][0]}
	s.group, _ = strconv.Atoi(f[2])
	s.session, _ = strconv.Atoi(f[3])
	s.started, _ = strconv.ParseUint(f[19], 10, 64)
	return s, nil
}

func hasEnv(pid int, mark string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || mark == "" {
		return false
	}
	return slices.ContainsFunc(bytes.Split(b, []byte{0}), func(v []byte) bool { return string(v) == mark })
}

// lookPath finds the program by the PATH of env, not by ours.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // ForkExec resolves it in dir
	}
	var tried string
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			tried = p
		}
	}
	for _, d := range filepath.SplitList(tried) {
		p := filepath.Join(d, name)
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && unix.Access(p, unix.X_OK) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s is not in PATH %s", ErrStart, name, tried)
}

// dedup keeps the last value of each name.
func dedup(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, v := range env {
		name, _, ok := strings.Cut(v, "=")
		if !ok {
			continue
		}
		if i, known := at[name]; known {
			out[i] = v
			continue
		}
		at[name] = len(out)
		out = append(out, v)
	}
	return out
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// oomKills counts the processes that the memory limit killed in this
// container so far; -1 when the kernel does not tell.
func oomKills() int64 {
	for _, name := range []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
				if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
					return n
				}
			}
		}
	}
	return -1
}
