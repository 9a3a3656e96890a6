package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/shim"
)

// ensureAgent makes sure that an agent with a session runs. While the task
// starts it is a line of the stepper; later, after the agent ended between two
// turns, it is not.
func (n *run) ensureAgent(ctx context.Context) error {
	if n.agentAlive() && n.readyRun > 0 {
		return nil
	}
	n.readyRun, n.mode, n.ownMode, n.model = 0, "", "", ""
	starts := n.task.State == chat.Preparing || n.task.State == chat.Starting
	if !starts {
		_, err := n.startAgent(ctx, func(string) {})
		return err
	}
	if err := n.step(chat.StepAgent, func(ctx context.Context, progress func(string)) (string, error) {
		return n.startAgent(ctx, progress)
	}); err != nil {
		return err
	}
	return n.refresh(nil)
}

func (n *run) startAgent(ctx context.Context, progress func(string)) (note string, err error) {
	c, err := n.await(ctx)
	if err != nil {
		return "", err
	}
	info, err := c.Hello(ctx)
	if err != nil {
		return "", fmt.Errorf("greeting the shim: %w", err)
	}
	process := info.Run
	if !info.Running {
		if process, err = n.spawn(ctx, c, info.Run+1, progress); err != nil {
			return "", failAt(chat.StepAgent, err)
		}
	}
	if err := n.drv.Await(ctx, process); err != nil {
		return "", failAt(chat.StepAgent, fmt.Errorf("waiting for %s: %w", n.agent.Title, err))
	}
	if err := n.drv.Start(ctx, n.task.Session); err != nil {
		return "", failAt(chat.StepAgent, fmt.Errorf("starting %s: %w", n.agent.Title, err))
	}
	n.readyRun = process
	s := n.drv.Session()
	if s.ID != n.task.Session || s.Title != "" {
		op := chat.Op{Session: &chat.Session{Task: n.id, Token: n.token, Session: s.ID, Title: s.Title}}
		if err := n.do(op); err != nil {
			return "", fmt.Errorf("recording the session: %w", err)
		}
	}
	if err := n.followMode(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, mode %s", n.agent.Title, n.task.Mode), nil
}

// spawn writes the agent's configuration into its home and starts it.
func (n *run) spawn(ctx context.Context, c *shim.Client, number int, progress func(string)) (process int, err error) {
	if err := n.r.haveAgent(ctx, n.agent, progress); err != nil {
		return 0, err
	}
	start := n.agent.Start(agents.Place{
		Cwd: n.space.Dir, Home: inHome, Samnode: inBinary, Mode: n.task.Mode, Model: n.task.Model,
	})
	for _, f := range start.Files {
		if err := put(ctx, c, path.Join(inHome, f.Path), f.Data); err != nil {
			return 0, err
		}
	}
	process, err = c.Start(ctx, shim.Spec{
		ID: "agent-" + strconv.Itoa(number), Path: start.Argv[0], Args: start.Argv[1:],
		Env: append(start.Env, n.env...), Dir: n.space.Dir,
	})
	if err != nil {
		return 0, fmt.Errorf("starting the process of %s: %w", n.agent.Title, err)
	}
	return process, nil
}

// put writes a file in the workspace.
func put(ctx context.Context, c *shim.Client, file string, data []byte) error {
	var out bytes.Buffer
	code, err := c.Exec(ctx, shim.ExecSpec{
		Args:  []string{"sh", "-c", `mkdir -p "$(dirname "$1")" && cat > "$1"`, "sh", file},
		Stdin: bytes.NewReader(data), Stdout: io.Discard, Stderr: &out,
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if code != 0 {
		return fmt.Errorf("writing %s: %s", file, out.String())
	}
	return nil
}

// adoptMode takes over the mode that the agent went into by itself: an
// approved plan ends its planning.
func (n *run) adoptMode(ctx context.Context) error {
	is, want := n.drv.Session().Mode, n.agent.Modes[n.task.Mode]
	if is == "" || want == "" || is == want || is == n.ownMode {
		return nil
	}
	if t, err := n.latestTask(); err != nil || t.Mode != n.task.Mode {
		return err // a person's choice comes first
	}
	for _, m := range []chat.Mode{chat.ModePlan, chat.ModeAsk, chat.ModeAcceptEdits, chat.ModeEverything} {
		if n.agent.Modes[m] == is {
			n.mode, n.ownMode = m, ""
			return n.refresh(n.do(chat.Op{TaskEdit: &chat.TaskEdit{Task: n.id, Mode: &m}}))
		}
	}
	n.ownMode = is
	n.note(ctx, "warn", fmt.Sprintf("%s is in a mode of its own now: %s. Choosing a mode for the task ends that.", n.agent.Title, is), "")
	return nil
}

// followModel puts the running session onto the task's model.
func (n *run) followModel(ctx context.Context) error {
	if n.task.Model == "" || n.model == n.task.Model || !n.agentAlive() || n.readyRun == 0 {
		return nil
	}
	err := n.drv.SetOption(ctx, "model", n.task.Model)
	if _, failed := errors.AsType[*acp.FailureError](err); failed || errors.Is(err, acp.ErrNoMode) {
		n.note(ctx, "warn", fmt.Sprintf("%s does not offer the model %q; it stays with its own.", n.agent.Title, n.task.Model), "")
		err = nil
	}
	n.model = n.task.Model
	if err != nil {
		return fmt.Errorf("setting the model: %w", err)
	}
	return nil
}
