package workspace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

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

	ctx    context.Context // ends with the node, or with ErrLeaseLost
	cancel context.CancelCauseFunc
	news   chan chat.Task // the newest state of the task; capacity 1

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
	shim    *shim.Client  // nil while the container does not answer
	lives   int           // how often it was found to
	answers chan struct{} // closed while it does
	told    uint64        // index of the newest state that was told
}

// shortName names a workspace on this machine: the random end of the task's id
// and the workspace's number. It is short because unix sockets live below it.
func shortName(t chat.Task) string {
	return strings.ToLower(string(t.ID[max(0, len(t.ID)-10):])) + "-" + strconv.Itoa(t.Workspace)
}

// dir is the host's folder of a task's current workspace.
func (r *Runner) dir(t chat.Task) string { return filepath.Join(r.c.Dir, shortName(t)) }

func (r *Runner) newRun(ctx context.Context, t chat.Task) *run {
	n := &run{
		r: r, id: t.ID, token: t.Lease.Token, number: t.Workspace, task: t,
		name: "samnode-" + shortName(t), dir: r.dir(t),
		log:     r.c.Logger.With("task", t.ID, "workspace", t.Workspace, "token", t.Lease.Token),
		news:    make(chan chat.Task, 1),
		answers: make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancelCause(ctx)
	n.news <- t
	return n
}

// tell hands the newest state to main, and ends the run when the lease is not
// its own any more. Runner and main tell, each at its own time: what is older
// than what was told is dropped, and nobody ever waits here.
func (n *run) tell(t chat.Task) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.Index < n.told {
		return
	}
	n.told = t.Index
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

// main works until the lease ends or the node does.
func (n *run) main() {
	defer n.cancel(nil)
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
	project, err := n.r.c.Board.Project(string(n.task.Project))
	if err != nil {
		return fmt.Errorf("reading the project: %w", err)
	}
	n.project = project
	if n.repo, err = n.r.c.Mirrors.Repo(project.Repo); err != nil {
		return failAt(chat.StepMirror, err)
	}
	n.forge = &currentForge{n.r, project.ID, project.Repo}
	if _, err := n.r.c.Forge(project); err != nil {
		return failAt(chat.StepMirror, err)
	}
	if err := n.look(); err != nil {
		return err
	}
	if err := n.openBroker(); err != nil {
		return failAt(chat.StepContainer, err)
	}
	defer n.broker.Close()
	if !n.attach() && !n.begun() {
		if err := n.prepare(); err != nil {
			return err
		}
	}
	return n.converse()
}

// do proposes an op of this lease.
func (n *run) do(op chat.Op) error {
	_, err := n.r.c.Board.Do(n.ctx, n.r.author(), "", op)
	return err
}

// stale is what the broker asks before it lets anything out.
func (n *run) stale() error {
	if n.ctx.Err() != nil {
		return fmt.Errorf("this workspace's lease ended: %w", context.Cause(n.ctx))
	}
	return nil
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

// persist proposes until the log has the op, or it never will: the lease is
// gone, or the state refuses it. A second time is harmless for every op of a
// run. ctx ends the trying.
func (n *run) persist(ctx context.Context, op chat.Op) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		_, err := n.r.c.Board.Do(ctx, n.r.author(), "", op)
		if err == nil || ctx.Err() != nil || errors.Is(err, chat.ErrStale) || errors.Is(err, chat.ErrRefused) || errors.Is(err, chat.ErrInvalid) {
			return err
		}
		n.log.Warn("reporting to the chat; trying again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// insist is persist where nothing is left to do if the op is refused.
func (n *run) insist(op chat.Op) {
	if err := n.persist(n.ctx, op); err != nil {
		n.log.Debug("not taken by the chat", "err", err)
	}
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
