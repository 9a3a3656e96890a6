package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// adaptVersion is part of an adapted image's name; raise it when Adapt changes.
const adaptVersion = "1"

// maxPasswd bounds what is read of an image's user list.
const maxPasswd = 1 << 20

// Adapt returns an image that is fit for a workspace: ref itself where it is
// our base image or built on it, else ref with one small layer on top in which
// uid 1000 has a name, and /workspaces and /home/agent are its own. No program
// of the image is run. The layer is made once per image.
func (e *Engine) Adapt(ctx context.Context, ref string) (string, error) {
	ok, info, err := e.HasImage(ctx, ref)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("image %s: %w", ref, ErrNoImage)
	}
	if info.Labels[labelImage] != "" {
		return ref, nil
	}
	name := "samnode/adapted:" + strings.TrimPrefix(info.ID, "sha256:")[:12] + "-" + adaptVersion
	if ok, _, err := e.HasImage(ctx, name); err != nil || ok {
		return name, err
	}
	err = e.peek(ctx, info.ID, func(id string) error {
		layer, err := e.layer(ctx, id)
		if err != nil {
			return err
		}
		if err := e.api.CopyToContainer(ctx, id, "/", layer, container.CopyToContainerOptions{}); err != nil {
			return wrap("adapting image "+ref, err)
		}
		_, err = e.api.ContainerCommit(ctx, id, container.CommitOptions{
			Reference: name, Comment: "samnode: uid 1000 and its folders",
			// The throwaway container's own labels must not pass for a workspace's.
			Changes: []string{"LABEL " + LabelOwner + "=image " + labelImage + "=adapted"},
		})
		return wrap("adapting image "+ref, err)
	})
	if err != nil {
		return "", err
	}
	e.log.InfoContext(ctx, "adapted an image", "image", ref, "as", name)
	return name, nil
}

// layer is the tar of what the image in container id lacks.
func (e *Engine) layer(ctx context.Context, id string) (io.Reader, error) {
	passwd, err := e.file(ctx, id, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := e.file(ctx, id, "/etc/group")
	if err != nil {
		return nil, err
	}
	shell := "/bin/sh"
	if has, err := e.hasAny(ctx, id, []string{"/bin/bash"}); err != nil {
		return nil, err
	} else if has {
		shell = "/bin/bash"
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	now := time.Unix(0, 0)
	dir := func(name string) error {
		return w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, Uid: UID, Gid: UID, ModTime: now})
	}
	put := func(name string, text []byte) error {
		err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text)), ModTime: now})
		_, werr := w.Write(text)
		return errors.Join(err, werr)
	}
	err = errors.Join(dir(WorkspacesDir[1:]), dir(HomeDir[1:]))
	if text, changed := withID(passwd, fmt.Sprintf("agent:x:%d:%d:samnode agent:%s:%s", UID, UID, HomeDir, shell)); changed {
		err = errors.Join(err, put("etc/passwd", text))
	}
	if text, changed := withID(group, fmt.Sprintf("agent:x:%d:", UID)); changed {
		err = errors.Join(err, put("etc/group", text))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("packing a layer: %w", err)
	}
	return &buf, nil
}

// withID adds a line to a passwd or group file unless its id is taken. A file
// that is missing gets root as well.
func withID(file []byte, line string) (out []byte, changed bool) {
	name, _, _ := strings.Cut(line, ":")
	for _, l := range strings.Split(string(file), "\n") {
		f := strings.Split(l, ":")
		if len(f) > 2 && f[2] == strconv.Itoa(UID) {
			return file, false
		}
		if f[0] == name { // taken by another id: programs look up by id, so the name is free to differ
			line = strings.Replace(line, name, "samnode", 1)
		}
	}
	if len(file) == 0 {
		root := strings.ReplaceAll(strings.Replace(line, "agent", "root", 1), strconv.Itoa(UID), "0")
		file = []byte(strings.ReplaceAll(root, HomeDir, "/") + "\n")
	}
	if file[len(file)-1] != '\n' {
		file = append(file, '\n')
	}
	return append(file, line+"\n"...), true
}

// file reads a small regular file of a container; nil where there is none.
func (e *Engine) file(ctx context.Context, id, path string) ([]byte, error) {
	r, _, err := e.api.CopyFromContainer(ctx, id, path)
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap("reading "+path+" of an image", err)
	}
	defer r.Close()
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil {
		return nil, wrap("reading "+path+" of an image", err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(t, maxPasswd+1))
	if err != nil {
		return nil, wrap("reading "+path+" of an image", err)
	}
	if len(text) > maxPasswd {
		return nil, fmt.Errorf("reading %s of an image: larger than %d bytes", path, maxPasswd)
	}
	return text, nil
}
