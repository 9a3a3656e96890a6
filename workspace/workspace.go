// Package workspace runs leased tasks on this node. For each it makes the
// container with its volume, clones the repository, starts the agent under the
// shim, carries what the agent says into the log, and publishes the branch.
//
// A task's run holds nothing that the log, the shim's journal and the volume
// do not hold too: the node can be killed at any moment, and the next run
// under the same lease attaches and goes on from the last record that is in
// the log.
//
// The mesh may be away: what a run has to tell it waits, and nothing fails for
// it. A node that is away for longer than its tenure lets nothing out of its
// workspaces, until the log has confirmed each lease again. Where a lease has
// ended, what the task's branch lacks is committed on the volume and said.
package workspace

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/broker"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/git"
)

// Errors of this package. ErrLeaseLost is the cause of a run's context when it
// ends. ErrAway is for what a Config's functions ask of other nodes: they wrap
// it when nobody answers, and the run asks again instead of failing.
var (
	ErrLeaseLost   = errors.New("the lease ended")
	ErrNoWorkspace = errors.New("no workspace is alive")
	ErrAway        = errors.New("the mesh cannot be asked now")
)

// Board is what a run needs of the chat. chat.Room is one.
type Board interface {
	// TasksSince blocks until a task changed after that index.
	TasksSince(ctx context.Context, after uint64) ([]chat.Task, uint64, error)
	// Do proposes an op and waits until it is applied here. The same id again
	// is harmless; a refusal wraps one of chat's errors.
	Do(ctx context.Context, by chat.Author, id string, op chat.Op) (uint64, error)
	Task(id string) (chat.Task, error)
	Project(id string) (chat.Project, error)
	Message(ctx context.Context, task chat.TaskID, id string) (chat.Message, error)
	Messages(ctx context.Context, task chat.TaskID, before uint64, limit int) ([]chat.Message, error)
}

// Forge is where a project's repository lives.
type Forge interface {
	// Auth returns credentials that are good for at least a few minutes.
	Auth(ctx context.Context) (git.Auth, error)
	// EnsurePull opens the task's pull request or updates the one that is
	// open, with what the messages say. A forge without pull requests answers
	// with the task's compare view.
	EnsurePull(ctx context.Context, t chat.Task, messages []chat.Message, draft bool) (*chat.PullRequest, error)
	// PullStatus says how it stands, with a sentence per news since the last
	// call; nil: nothing new.
	PullStatus(ctx context.Context, t chat.Task) (*chat.PullRequest, []string, error)
}

// Config of a Runner. Every field is needed unless it says otherwise.
type Config struct {
	Node   chat.Node
	Mesh   string // names this mesh's containers; two meshes may share a Docker engine
	Dir    string // of this node's workspaces; short, for it holds unix sockets
	Binary string // the samnode program, static, mounted into containers as their init
	Image  string // base image
	// BaseImage reads the base image from a node that has it, as
	// [docker.Engine.Load] takes it; nil: a registry is asked.
	BaseImage func(ctx context.Context) (io.ReadCloser, error)
	Agents    string // folder of the installed agents, mounted read-only
	// AgentPart reads a part of an agent from a node that has it, as
	// [agents.Take] takes it; nil: what is installed here is all.
	AgentPart func(ctx context.Context, folder string) (io.ReadCloser, error)
	Tools     string // folder of the dev container CLI

	Board  Board
	Tenure Tenure // nil: always held, this node is a mesh of its own

	Engine  *docker.Engine
	Mirrors *git.Mirrors
	Forge   func(chat.Project) (Forge, error)
	// Secret returns a project's secret, or the mesh's of that name, or an
	// error that wraps chat.ErrNotFound or, from far away, ErrAway.
	Secret func(ctx context.Context, p chat.ProjectID, name string) (string, error)
	// Upstream replaces a provider's base URL (a gateway, or a test); may be nil.
	Upstream map[string]string

	// Silence is how long an open turn may be without output before the chat
	// says so; 0: 5 minutes.
	Silence time.Duration
	// TidyEvery is how often the node looks for what ended workspaces left; 0:
	// a minute.
	TidyEvery time.Duration

	CPUs   float64 // per workspace; 0: no limit
	Memory int64   // bytes per workspace; 0: no limit
	Logger *slog.Logger
}

// Runner runs this node's leases.
type Runner struct {
	c      Config
	runs   runs
	supply sync.Mutex // held while the base image is fetched
	agents sync.Mutex // held while an agent is
}

// New checks the configuration; Run does the work.
func New(c Config) (*Runner, error) {
	if c.Board == nil || c.Engine == nil || c.Mirrors == nil || c.Forge == nil || c.Secret == nil {
		return nil, errors.New("workspace: incomplete configuration")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Silence == 0 {
		c.Silence = silence
	}
	if c.Tenure == nil {
		c.Tenure = always{}
	}
	return &Runner{c: c, runs: runs{byTask: map[chat.TaskID]*run{}}}, nil
}

func (r *Runner) author() chat.Author { return chat.Author{Node: r.c.Node} }

// credential maps a provider to the secrets that may hold its key, best first.
func credential(provider string) []struct{ name, kind string } {
	type s = struct{ name, kind string }
	switch provider {
	case "anthropic":
		return []s{{"CLAUDE_CODE_OAUTH_TOKEN", broker.Bearer}, {"ANTHROPIC_API_KEY", broker.APIKey}}
	case "openai":
		return []s{{"OPENAI_API_KEY", broker.Bearer}}
	case "gemini":
		return []s{{"GEMINI_API_KEY", broker.APIKey}}
	default:
		return nil
	}
}
