package workspace

import (
	"context"
	"errors"
	"fmt"

	"github.com/samnode/samnode/workspace/agents"
)

// Supply gets the base image, without which there are no tasks here, so that the
// first one does not wait for it.
func (r *Runner) Supply(ctx context.Context) error { return r.haveBaseImage(ctx, func(string) {}) }

// SupplyAgents gets the agents that other nodes have, before the first task
// that needs one.
func (r *Runner) SupplyAgents(ctx context.Context) error {
	for _, a := range agents.All() {
		if err := r.haveAgent(ctx, a, func(string) {}); err != nil && !errors.Is(err, agents.ErrNotInstalled) {
			return err
		}
	}
	return nil
}

// haveAgent takes an agent from another node where it is missing.
func (r *Runner) haveAgent(ctx context.Context, a agents.Agent, progress func(string)) error {
	if a.BuiltIn() {
		return nil
	}
	r.agents.Lock() // one that comes is waited for
	defer r.agents.Unlock()
	missing := agents.Ready(r.c.Agents, a.Name)
	if missing == nil || r.c.AgentPart == nil {
		return missing
	}
	progress("taking " + a.Title + " from another node")
	err := agents.Take(ctx, r.c.Agents, a.Name, r.c.AgentPart, nil)
	if errors.Is(err, agents.ErrNotInstalled) {
		return fmt.Errorf("no other node of this version has it, and %w", missing)
	}
	return err
}

// haveBaseImage takes the base image from another node where it is missing, or
// from a registry.
func (r *Runner) haveBaseImage(ctx context.Context, progress func(string)) error {
	r.supply.Lock() // one that comes is not fetched twice
	defer r.supply.Unlock()
	ok, _, err := r.c.Engine.HasImage(ctx, r.c.Image)
	if err != nil || ok {
		return err
	}
	given := r.takeBaseImage(ctx, progress)
	if given == nil {
		return nil
	}
	if err := r.c.Engine.Pull(ctx, r.c.Image, progress); err != nil {
		return fmt.Errorf("%w: the base image %s is missing; scripts/image builds it (%w)", err, r.c.Image, given)
	}
	return nil
}

// takeBaseImage takes the base image from another node.
func (r *Runner) takeBaseImage(ctx context.Context, progress func(string)) error {
	if r.c.BaseImage == nil {
		return errors.New("no other node was asked for it")
	}
	progress("taking the base image from another node")
	in, err := r.c.BaseImage(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.c.Engine.Load(ctx, in), in.Close())
}
