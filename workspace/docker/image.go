package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
)

// ImageInfo is what an image says of itself.
type ImageInfo struct {
	ID      string // sha256:...
	User    string
	Env     []string
	Labels  map[string]string
	Workdir string
	Arch    string // e.g. "amd64"
	Size    int64  // bytes
}

// HasImage looks for an image on this machine only, by tag or id.
func (e *Engine) HasImage(ctx context.Context, ref string) (bool, ImageInfo, error) {
	i, err := e.api.ImageInspect(ctx, ref)
	if cerrdefs.IsNotFound(err) {
		return false, ImageInfo{}, nil
	}
	if err != nil {
		return false, ImageInfo{}, wrap("looking for image "+ref, err)
	}
	info := ImageInfo{ID: i.ID, Arch: i.Architecture, Size: i.Size}
	if i.Config != nil {
		info.User, info.Env, info.Labels, info.Workdir = i.Config.User, i.Config.Env, i.Config.Labels, i.Config.WorkingDir
	}
	return true, info, nil
}

// Pull fetches an image from its registry, without credentials. Progress gets
// a line per change of a layer's state; nil is fine. An image that the registry
// does not give out is ErrNoImage.
func (e *Engine) Pull(ctx context.Context, ref string, progress func(line string)) error {
	doing := "pulling image " + ref
	r, err := e.api.ImagePull(ctx, ref, image.PullOptions{})
	if cerrdefs.IsNotFound(err) {
		return fmt.Errorf("%s: %w: %w", doing, ErrNoImage, err)
	}
	if err != nil {
		return wrap(doing, err)
	}
	defer r.Close()
	last := make(map[string]string)
	for dec := json.NewDecoder(r); ; {
		var m struct{ ID, Status, Error string }
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return wrap(doing, err)
		}
		if m.Error != "" {
			return wrap(doing, errors.New(m.Error))
		}
		if progress != nil && last[m.ID] != m.Status {
			last[m.ID] = m.Status
			progress(strings.TrimSpace(m.ID + " " + m.Status))
		}
	}
}

// Where the loader and the C library are in images whose programs are linked
// against glibc. Musl with a compatibility layer has the first, not the second.
var (
	loaders = map[string][]string{
		"amd64": {"/lib64/ld-linux-x86-64.so.2"},
		"arm64": {"/lib/ld-linux-aarch64.so.1"},
	}
	libcs = map[string][]string{
		"amd64": {"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"},
		"arm64": {"/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"},
	}
)

// Glibc says whether programs linked against glibc run in an image: nil or
// ErrNoGlibc. The answer is remembered by image id.
func (e *Engine) Glibc(ctx context.Context, ref string) error {
	ok, info, err := e.HasImage(ctx, ref)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("image %s: %w", ref, ErrNoImage)
	}
	e.mu.Lock()
	known, ok := e.glibc[info.ID]
	e.mu.Unlock()
	if ok {
		return known
	}
	var found error
	err = e.peek(ctx, info.ID, func(id string) error {
		has, err := e.hasAny(ctx, id, loaders[info.Arch])
		if err == nil && has {
			has, err = e.hasAny(ctx, id, libcs[info.Arch])
		}
		if err == nil && !has {
			found = fmt.Errorf("image %s: %w", ref, ErrNoGlibc)
		}
		return err
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.glibc[info.ID] = found
	e.mu.Unlock()
	return found
}

func (e *Engine) hasAny(ctx context.Context, id string, paths []string) (bool, error) {
	for _, p := range paths {
		_, err := e.api.ContainerStatPath(ctx, id, p)
		if err == nil {
			return true, nil
		}
		if !cerrdefs.IsNotFound(err) {
			return false, wrap("looking into an image", err)
		}
	}
	return false, nil
}

// peek hands fn a container of the image that is never started, and removes it.
func (e *Engine) peek(ctx context.Context, ref string, fn func(id string) error) error {
	c, err := e.api.ContainerCreate(ctx,
		&container.Config{Image: ref, Entrypoint: []string{"/none"}, Labels: e.labels(nil)},
		&container.HostConfig{NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		return wrap("looking into image "+ref, err)
	}
	return errors.Join(fn(c.ID), e.Remove(context.WithoutCancel(ctx), c.ID))
}
