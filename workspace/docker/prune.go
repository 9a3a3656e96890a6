package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
)

// made are the repositories whose images samnode makes on a machine and can
// make again. The base image is not among them.
var made = []string{"samnode/dev:", "samnode/adapted:"}

// Keep notes that an image that samnode made was used just now, so that Prune
// leaves it. Other images need no note.
func (e *Engine) Keep(ctx context.Context, ref string) error {
	for _, m := range made {
		if strings.HasPrefix(ref, m) {
			// The engine remembers when an image was last tagged, also as what it is.
			return wrap("noting the use of image "+ref, e.api.ImageTag(ctx, ref, ref))
		}
	}
	return nil
}

// Prune removes the images that samnode made, that no container uses, and that
// were neither made nor kept for longer than unused. It returns their names;
// one that cannot be removed does not stop the others.
func (e *Engine) Prune(ctx context.Context, unused time.Duration) (removed []string, err error) {
	return e.prune(ctx, unused, "")
}

// prune looks at the tags with the prefix only.
func (e *Engine) prune(ctx context.Context, unused time.Duration, prefix string) (removed []string, err error) {
	containers, err := e.api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, wrap("listing containers", err)
	}
	used := make(map[string]bool)
	for _, c := range containers {
		used[c.ImageID] = true
	}
	images, err := e.api.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, wrap("listing images", err)
	}
	var failed []error
	for _, i := range images {
		for _, ref := range i.RepoTags {
			if used[i.ID] || !strings.HasPrefix(ref, prefix) {
				continue
			}
			gone, err := e.pruneOne(ctx, ref, unused)
			if gone {
				removed = append(removed, ref)
			}
			failed = append(failed, err)
		}
	}
	return removed, errors.Join(failed...)
}

func (e *Engine) pruneOne(ctx context.Context, ref string, unused time.Duration) (gone bool, err error) {
	if ok, err := e.stale(ctx, ref, unused); err != nil || !ok {
		return false, err
	}
	_, err = e.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
	if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) { // somebody was faster: removed it, or uses it
		return false, nil
	}
	return err == nil, wrap("removing image "+ref, err)
}

// stale says whether an image is of our making and unused for that long.
func (e *Engine) stale(ctx context.Context, ref string, unused time.Duration) (bool, error) {
	ours := false
	for _, m := range made {
		ours = ours || strings.HasPrefix(ref, m)
	}
	if !ours {
		return false, nil
	}
	i, err := e.api.ImageInspect(ctx, ref)
	if cerrdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at image %s: %w", ref, err)
	}
	return time.Since(i.Metadata.LastTagTime) > unused, nil
}
