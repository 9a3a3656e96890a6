package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"
)

// Volume is a named volume of ours.
type Volume struct {
	Name    string
	Labels  map[string]string
	Path    string // on the engine's machine
	Created time.Time
}

// CreateVolume makes a named volume. One that is ours and of the same mesh and
// task is adopted, for a task's volume may outlive its workspace; any other of
// that name is ErrForeign. Its root belongs to uid 1000 from the first Create
// that mounts it.
func (e *Engine) CreateVolume(ctx context.Context, name string, labels map[string]string) error {
	labels = e.labels(labels)
	v, err := e.api.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: labels})
	if err != nil {
		return wrap("creating volume "+name, err)
	}
	for _, l := range []string{LabelOwner, LabelMesh, LabelTask} {
		if v.Labels[l] != labels[l] {
			return fmt.Errorf("volume %s: label %s is %q, not %q: %w", name, l, v.Labels[l], labels[l], ErrForeign)
		}
	}
	return nil
}

// RemoveVolume removes a named volume of ours and all that is in it. One that
// is gone is no error; one in use by a container is.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	v, err := e.api.VolumeInspect(ctx, name)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return wrap("looking for volume "+name, err)
	}
	if !e.owned(v.Labels) {
		return fmt.Errorf("volume %s: %w", name, ErrForeign)
	}
	if err := wrap("removing volume "+name, e.api.VolumeRemove(ctx, name, false)); !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// ListVolumes returns every volume of ours that carries all the labels given.
func (e *Engine) ListVolumes(ctx context.Context, labels map[string]string) ([]Volume, error) {
	found, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: e.filter(labels)})
	if err != nil {
		return nil, wrap("listing volumes", err)
	}
	list := make([]Volume, 0, len(found.Volumes))
	for _, v := range found.Volumes {
		list = append(list, Volume{Name: v.Name, Labels: v.Labels, Path: v.Mountpoint, Created: moment(v.CreatedAt)})
	}
	return list, nil
}

// giveVolumes makes uid 1000 the owner of the roots of the named volumes.
// Without capabilities nobody inside could do it. A prepared image needs
// nothing: the engine gives a new volume the owner of the image's folder.
func (e *Engine) giveVolumes(ctx context.Context, id string, s Spec) error {
	if s.Volume == "" && (s.Home == "" || strings.HasPrefix(s.Home, "/")) {
		return nil
	}
	if _, info, err := e.HasImage(ctx, s.Image); err != nil || info.Labels[labelImage] != "" {
		return err
	}
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	// Numbers, not names: the image may have no such user.
	err := w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, Uid: UID, Gid: UID, ModTime: time.Unix(0, 0)})
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("packing a folder: %w", err)
	}
	dirs := map[string]string{WorkspacesDir: s.Volume, HomeDir: s.Home}
	for dir, vol := range dirs {
		if vol == "" || strings.HasPrefix(vol, "/") {
			continue
		}
		if err := e.api.CopyToContainer(ctx, id, dir, bytes.NewReader(root.Bytes()), container.CopyToContainerOptions{}); err != nil {
			return wrap("giving volume "+vol+" to the agent", err)
		}
	}
	return nil
}
