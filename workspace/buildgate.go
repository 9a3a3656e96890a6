package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/samnode/samnode/workspace/docker"
)

// A dev container's build runs a stranger's commands as root. They run in the
// network of a container of ours, the build's gate, which has the profile of
// every workspace and so no network but its loopback: the only way out is the
// broker's egress, with the project's list, as for the agent later.

func (n *run) gateName() string { return n.name + buildSuffix }

// openBuildGate starts the gate and waits until it lets something through.
func (n *run) openBuildGate(ctx context.Context) error {
	if err := n.haveBaseImage(ctx, func(string) {}); err != nil {
		return err
	}
	if err := n.r.c.Engine.Remove(ctx, n.gateName()); err != nil { // of a node that was killed; its folder goes
		return fmt.Errorf("removing an older container of the build's network: %w", err)
	}
	dir := filepath.Join(n.dir, "build")
	if err := errors.Join(os.RemoveAll(dir), own(dir)); err != nil {
		return fmt.Errorf("making a folder for the build: %w", err)
	}
	_, err := n.r.c.Engine.Create(ctx, docker.Spec{
		Name: n.gateName(), Image: n.r.c.Image, Labels: n.labels(), Dir: "/",
		Cmd: []string{
			inBinary, "shim",
			"--socket", filepath.Join(inShim, "shim.sock"), "--journal", filepath.Join(inShim, "journal"),
			"--forward", egressAddr + "=" + inBroker + "/egress.sock",
		},
		Binds: []docker.Bind{
			{Host: n.r.c.Binary, Container: inBinary, ReadOnly: true},
			{Host: dir, Container: inShim},
			{Host: filepath.Join(n.dir, "broker"), Container: inBroker, ReadOnly: true},
		},
		Memory: 256 << 20, Pids: 64,
	})
	if err != nil {
		return fmt.Errorf("making the container for the build's network: %w", err)
	}
	if err := n.r.c.Engine.Start(ctx, n.gateName()); err != nil {
		return fmt.Errorf("starting the container for the build's network: %w", err)
	}
	if _, err := n.waitShim(ctx, n.gateName(), "build"); err != nil {
		return fmt.Errorf("waiting for the build's network: %w", err)
	}
	return nil
}

// closeBuildGate removes the gate. The next build of the task, or the sweep
// after the lease, tries again what fails here.
func (n *run) closeBuildGate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := n.r.c.Engine.Remove(ctx, n.gateName())
	if err := errors.Join(err, os.RemoveAll(filepath.Join(n.dir, "build"))); err != nil {
		n.log.Warn("removing the container of the build's network", "err", err)
	}
}
