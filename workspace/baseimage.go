package workspace

import (
	"context"
	"errors"
	"fmt"
)

// Supply gets the base image, so that the first task here does not wait for it.
func (r *Runner) Supply(ctx context.Context) error { return r.haveBaseImage(ctx, func(string) {}) }

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
