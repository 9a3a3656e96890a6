package workspace

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/broker"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/git"
	"github.com/samnode/samnode/workspace/shim"
)

// Places inside a container. The sockets of the broker are mounted read-only;
// the shim's folder holds its socket and the journal.
const (
	inShim       = "/run/samnode/shim"
	inBroker     = "/run/samnode/broker"
	inBinary     = "/opt/samnode-shim/samnode"
	inAgents     = "/opt/samnode"
	inHome       = "/home/agent"
	inWorkspaces = "/workspaces"

	modelAddr  = "127.0.0.1:7101"
	gitAddr    = "127.0.0.1:7102"
	egressAddr = "127.0.0.1:7103"
)

// IsOwnPort says whether a port of every workspace is samnode's own: a way out
// by the broker.
func IsOwnPort(port int) bool {
	return slices.ContainsFunc([]string{modelAddr, gitAddr, egressAddr}, func(addr string) bool {
		return strings.HasSuffix(addr, ":"+strconv.Itoa(port))
	})
}

// run is one task under one lease on this node. One goroutine (main) owns it;
// mu covers what the page's calls (terminals, files) read.
type run struct {
	r      *Runner
	id     chat.TaskID
	token  uint64
	number int // of the workspace
	name   string
	dir    string // on the host: sockets and journal
	log    *slog.Logger
	boxes  []docker.State // of a run that only clears what earlier leases left
	ended  uint64         // at its end: the token that is no reason to begin again

	node   context.Context // ends with the node
	ctx    context.Context // ends with it, or with ErrLeaseLost
	cancel context.CancelCauseFunc
	news   chan chat.Task // the newest state of the task; capacity 1
	fence  *fence         // what leaves the workspace passes it
	out    outbox         // what is said on the side
	saving sync.Mutex     // one commit at a time

	task    chat.Task // as main last saw it
	project chat.Project
	forge   Forge
	repo    *git.Repo
	broker  *broker.Broker
	space   git.Workspace
	agent   agents.Agent
	drv     *acp.Driver
	batch   *acp.Batcher
	env     []string // of every process of the workspace
	devEnv  []string // the dev container's part of it
	// Of the agent's process that runs: 0 and empty until it has a session.
	readyRun int
	mode     chat.Mode
	ownMode  string // of the agent, that is none of ours; it was told
	model    string

	mu      sync.Mutex
	shim    *shim.Client   // nil while the container does not answer
	lives   int            // how often it was found to
	answers chan struct{}  // closed while it does
	latest  chat.Task      // the newest state that was told
	seen    chat.Project   // the project as it was read last
	copied  *git.Workspace // the working copy, once it is there
}

// shortName names a workspace on this machine: the random end of the task's id
// and the workspace's number. It is short because unix sockets live below it.
func shortName(t chat.Task) string {
	return strings.ToLower(string(t.ID[max(0, len(t.ID)-10):])) + "-" + strconv.Itoa(t.Workspace)
}

// dir is the host's folder of a task's current workspace.
func (r *Runner) dir(t chat.Task) string { return filepath.Join(r.c.Dir, shortName(t)) }

func (r *Runner) newRun(ctx context.Context, t chat.Task, token uint64) *run {
	n := &run{
		r: r, id: t.ID, token: token, number: t.Workspace, task: t,
		name: "samnode-" + shortName(t), dir: r.dir(t),
		log:     r.c.Logger.With("task", t.ID, "workspace", t.Workspace, "token", token),
		news:    make(chan chat.Task, 1),
		answers: make(chan struct{}),
		latest:  t,
		node:    ctx,
		fence:   newFence(r.c.Tenure),
		out:     outbox{wake: make(chan struct{}, 1)},
	}
	n.ctx, n.cancel = context.WithCancelCause(ctx)
	n.news <- t
	return n
}

// tell hands the newest state to main, and ends the run when the lease is not
// its own any more. One that clears up only remembers it. Runner and main tell, each at its own time: what is older
// than what was told is dropped, and nobody ever waits here.
func (n *run) tell(t chat.Task) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.Index < n.latest.Index {
		return
	}
	n.latest = t
	if len(n.boxes) > 0 {
		return
	}
	if t.Lease == nil || t.Lease.Token != n.token {
		n.cancel(ErrLeaseLost)
		return
	}
	select {
	case <-n.news:
	default:
	}
	n.news <- t
}

// newest is the newest state of the task that was told.
func (n *run) newest() chat.Task {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.latest
}

// workingCopy is where the agent's files are; false: not yet.
func (n *run) workingCopy() (git.Workspace, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.copied == nil {
		return git.Workspace{}, false
	}
	return *n.copied, true
}

func (n *run) hasWorkingCopy() {
	n.mu.Lock()
	defer n.mu.Unlock()
	space := n.space
	n.copied = &space
}

// main works until the lease ends or the node does.
func (n *run) main() {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer n.cancel(nil)
	n.ended = n.token
	wg.Go(n.guard)
	wg.Go(n.post)
	err := n.work()
	switch cause := context.Cause(n.ctx); {
	case errors.Is(cause, ErrLeaseLost):
		n.log.Info("lease ended")
		n.teardown()
	case cause != nil:
		n.log.Info("detached: the agent goes on under its shim")
	case errors.Is(err, errGone):
		n.bury(err)
		n.teardown()
	case err != nil:
		n.fail(err)
		n.teardown()
	}
}

// work opens the broker, makes or finds the workspace, and talks with the
// agent until something ends it.
func (n *run) work() error {
	if err := n.look(); err != nil {
		return err
	}
	if err := n.openBroker(); err != nil {
		return failAt(chat.StepContainer, err)
	}
	defer n.broker.Close()
	if !n.attach() && !n.begun() {
		if err := n.unlessCut(n.ctx, func(context.Context) error { return n.prepare() }); err != nil {
			return err
		}
	}
	n.hasWorkingCopy()
	return n.converse()
}

// unlessCut does it under the right to act, and again when that was lost
// meanwhile: the mesh was away, and that fails no task.
func (n *run) unlessCut(ctx context.Context, do func(context.Context) error) error {
	for {
		right, err := n.fence.pass(ctx)
		if err != nil {
			return err
		}
		err = do(ctx)
		if err == nil || ctx.Err() != nil || !n.fence.lost(right) {
			return err
		}
		n.log.Warn("failed while cut off from the mesh; again when it is back", "err", err)
	}
}

// failure is an error that knows its step.
type failure struct {
	step chat.StepName
	err  error
}

func failAt(step chat.StepName, err error) error { return &failure{step, err} }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Errors of the parts may carry more for a person than their sentence.
type (
	detailed interface {
		error
		Detail() string // the tool's own last lines
	}
	retryable interface {
		error
		Retryable() bool
	}
)

// fail reports the end of the lease with its reason. The report is repeated
// until it is in the log or the lease is another's.
func (n *run) fail(err error) {
	f := chat.Failure{Reason: sentence(err), Retryable: true}
	if at, ok := errors.AsType[*failure](err); ok {
		f.Step = at.step
	}
	if d, ok := errors.AsType[detailed](err); ok {
		f.Detail = tail(d.Detail(), 20)
	}
	if r, ok := errors.AsType[retryable](err); ok {
		f.Retryable = r.Retryable()
	}
	if errors.Is(err, agents.ErrNotInstalled) || errors.Is(err, docker.ErrNoGlibc) {
		f.Retryable = false // a person has to change something first
	}
	n.log.Warn("task failed", "step", f.Step, "reason", f.Reason)
	n.insist(chat.Op{End: &chat.End{Task: n.id, Token: n.token, Failure: &f}})
}

// sentence is an error's text as a person reads it.
func sentence(err error) string {
	s := strings.TrimSpace(err.Error())
	if s == "" {
		return "Unknown error."
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// tail keeps the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
