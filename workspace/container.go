package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/shim"
)

// Names of what outlives a workspace, by task: the next workspace on this node
// goes on with them. Several nodes may share an engine, and a task goes from
// one to another.
func (n *run) volume() string { return n.outlives("work") }
func (n *run) home() string   { return n.outlives("home") }

func (n *run) outlives(what string) string {
	return "samnode-" + what + "-" + string(n.r.c.Node) + "-" + strings.ToLower(string(n.id))
}

func (n *run) labels() map[string]string {
	return map[string]string{
		docker.LabelTask: string(n.id), docker.LabelWorkspace: strconv.Itoa(n.number), docker.LabelToken: strconv.FormatUint(n.token, 10),
	}
}

// startContainer makes and starts the container and waits for its shim.
func (n *run) startContainer(ctx context.Context, image string) error {
	shimDir := filepath.Join(n.dir, "shim")
	if err := own(shimDir); err != nil {
		return err
	}
	spec := docker.Spec{
		Name: n.name, Image: image, Labels: n.labels(),
		Cmd: []string{inBinary, "shim",
			"--socket", filepath.Join(inShim, "shim.sock"), "--journal", filepath.Join(inShim, "journal"),
			"--forward", modelAddr + "=" + inBroker + "/model.sock",
			"--forward", gitAddr + "=" + inBroker + "/git.sock",
			"--forward", egressAddr + "=" + inBroker + "/egress.sock"},
		Env: n.devEnv, // also what a later node finds, which attaches without having built
		Dir: inWorkspaces, Volume: n.volume(), Home: n.home(),
		Binds: []docker.Bind{
			{Host: n.r.c.Binary, Container: inBinary, ReadOnly: true},
			{Host: shimDir, Container: inShim},
			{Host: filepath.Join(n.dir, "broker"), Container: inBroker, ReadOnly: true},
			{Host: n.repo.Path(), Container: n.repo.Path(), ReadOnly: true},
		},
		CPUs: n.r.c.CPUs, Memory: n.r.c.Memory,
	}
	if n.r.c.Agents != "" {
		// It is made here where there is none: an agent may come while the container runs.
		if err := os.MkdirAll(n.r.c.Agents, 0o755); err != nil {
			return fmt.Errorf("making the folder of agents: %w", err)
		}
		spec.Binds = append(spec.Binds, docker.Bind{Host: n.r.c.Agents, Container: inAgents, ReadOnly: true})
	}
	if _, err := n.r.c.Engine.Create(ctx, spec); err != nil {
		return fmt.Errorf("making the container: %w", err)
	}
	if err := n.r.c.Engine.Start(ctx, n.name); err != nil {
		return fmt.Errorf("starting the container: %w", err)
	}
	return n.dialShim(ctx)
}

// own makes a folder that the workspace's user may write.
func own(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the workspace's folder: %w", err)
	}
	if os.Geteuid() == docker.UID {
		return nil
	}
	if err := os.Chown(dir, docker.UID, docker.UID); err != nil {
		return fmt.Errorf("giving the workspace its folder (samnode runs as root or as uid %d): %w", docker.UID, err)
	}
	return nil
}

// dialShim waits until the shim answers, or the container has ended.
func (n *run) dialShim(ctx context.Context) error {
	c, err := n.waitShim(ctx, n.name, "shim")
	if err != nil {
		return err
	}
	n.found(c)
	return nil
}

// waitShim dials the shim of a container, whose socket is in a folder of dir.
func (n *run) waitShim(ctx context.Context, container, folder string) (*shim.Client, error) {
	for try := 1; ; try++ {
		c, err := shim.Dial(ctx, filepath.Join(n.dir, folder, "shim.sock"))
		if err == nil {
			return c, nil
		}
		if try%10 == 0 { // asking the engine costs more than dialling
			st, err := n.r.c.Engine.Inspect(ctx, container)
			if err != nil {
				return nil, fmt.Errorf("looking at the container: %w", err)
			}
			if !st.Running {
				return nil, n.died(ctx, st)
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the shim: %w", errors.Join(err, context.Cause(ctx)))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// died says why a container does not run, with the last that it printed.
func (n *run) died(ctx context.Context, st docker.State) error {
	logs, err := n.r.c.Engine.Logs(ctx, st.ID, 20)
	why := fmt.Errorf("the container ended with code %d %s", st.ExitCode, st.Error)
	if st.OOMKilled {
		why = fmt.Errorf("the container was killed: it used more memory than its limit")
	}
	return withLines(errors.Join(why, err), logs)
}

// attach finds the workspace of an earlier run under this lease: its container
// runs, its shim answers and its agent is alive.
func (n *run) attach() bool {
	st, err := n.r.c.Engine.Inspect(n.ctx, n.name)
	if err != nil || !st.Running {
		return false
	}
	ctx, cancel := context.WithTimeout(n.ctx, 5*time.Second)
	defer cancel()
	if err := n.dialShim(ctx); err != nil {
		n.log.Warn("attaching to the workspace", "err", err)
		return false
	}
	info, err := n.shim.Hello(ctx)
	return err == nil && info.Running
}

// begun says that the workspace was there before this run: what is missing of
// it is brought back, or gone for good.
func (n *run) begun() bool {
	return n.task.State != chat.Preparing && n.task.State != chat.Starting
}
