package workspace

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/workspace/devcontainer"
	"github.com/samnode/samnode/workspace/shim"
)

// hooks runs the dev container's lifecycle commands, in order; the commands of
// one hook run beside each other. Those that run once do so on each volume: a
// task that comes from another node begins on a new one.
func (n *run) hooks(ctx context.Context, hooks []devcontainer.Hook, progress func(string)) (string, error) {
	c, err := n.await(ctx)
	if err != nil {
		return "", err
	}
	mark := n.space.Dir + "/.git/samnode-created"
	created, err := c.Exec(ctx, shim.ExecSpec{Args: []string{"test", "-e", mark}})
	if err != nil {
		return "", fmt.Errorf("looking at the volume: %w", err)
	}
	ran := 0
	for _, h := range hooks {
		if h.Once && created == 0 {
			continue
		}
		progress(h.Name + " of " + h.From)
		g, ctx := errgroup.WithContext(ctx)
		for _, cmd := range h.Commands {
			g.Go(func() error { return n.hook(ctx, c, h, cmd, progress) })
		}
		if err := g.Wait(); err != nil {
			return "", err
		}
		ran++
	}
	return fmt.Sprintf("%d hooks", ran), put(ctx, c, mark, nil)
}

func (n *run) hook(ctx context.Context, c *shim.Client, h devcontainer.Hook, cmd devcontainer.Command, progress func(string)) error {
	w := &lineWriter{fn: progress}
	code, err := c.Exec(ctx, shim.ExecSpec{Args: cmd.Argv, Env: n.env, Dir: n.space.Dir, Stdout: w, Stderr: w})
	w.flush()
	if err != nil {
		return fmt.Errorf("running %s: %w", h.Name, err)
	}
	if code != 0 {
		return fmt.Errorf("%s of %s ended with code %d", h.Name, h.From, code)
	}
	return nil
}
