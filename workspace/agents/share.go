package agents

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Parts lists the folders that the agent needs, Node's first. They are named
// after all that is in them, so one of that name is the same on every machine.
func Parts(name string) ([]string, error) {
	parts, err := partsOf([]string{name})
	if err != nil {
		return nil, err
	}
	folders := make([]string, len(parts))
	for i, p := range parts {
		folders[i] = p.folder(arch())
	}
	return folders, nil
}

// Pack writes a part that is installed in dir, as Take reads it: a tar of its
// folder, compressed with zstd. One that is not there is ErrNotInstalled.
func Pack(ctx context.Context, dir, folder string, w io.Writer) error {
	if folder == "" || folder != filepath.Base(folder) || strings.HasPrefix(folder, ".") {
		return fmt.Errorf("%q is %w: it is no name of a part", folder, ErrNotInstalled)
	}
	root := filepath.Join(dir, "lib", folder)
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is %w", folder, ErrNotInstalled)
	} else if err != nil {
		return fmt.Errorf("packing %s: %w", folder, err)
	}
	// Machines are close to each other: speed counts more than size.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return fmt.Errorf("packing %s: %w", folder, err)
	}
	t := tar.NewWriter(z)
	err = t.AddFS(cutShort{os.DirFS(root).(linkFS), ctx})
	if err = errors.Join(err, t.Close(), z.Close()); err != nil {
		return fmt.Errorf("packing %s: %w", folder, err)
	}
	return nil
}

type linkFS interface {
	fs.FS
	fs.ReadLinkFS
}

// cutShort is a file system whose files cannot be opened after ctx.
type cutShort struct {
	linkFS
	ctx context.Context
}

// Open implements fs.FS.
func (c cutShort) Open(name string) (fs.File, error) {
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	return c.linkFS.Open(name)
}

// Take puts an agent, and the Node it runs on, into dir: the parts that are
// not there as another machine packed them, which fetch reads. Otherwise it is
// like Install.
func Take(ctx context.Context, dir, name string, fetch func(ctx context.Context, folder string) (io.ReadCloser, error), progress func(string)) error {
	parts, err := partsOf([]string{name})
	if err != nil {
		return err
	}
	return bring(ctx, dir, parts, progress, func(in installer, ctx context.Context, stage string, p part) error {
		r, err := fetch(ctx, p.folder(in.arch))
		if err != nil {
			return err
		}
		return errors.Join(unpack(stage, r), r.Close())
	})
}

// unpack reads what Pack wrote. Nothing of it lands outside dir.
func unpack(dir string, r io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	defer root.Close()
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	defer z.Close()
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = unpackOne(root, h, t)
		}
		if err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
	}
}

// maxWindow bounds the memory of unpacking; Pack's level uses 4 MiB.
const maxWindow = 32 << 20

func unpackOne(root *os.Root, h *tar.Header, r io.Reader) error {
	name, mode := path.Clean(h.Name), h.FileInfo().Mode().Perm()
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("%s is neither a file, nor a folder, nor a link", name)
}
