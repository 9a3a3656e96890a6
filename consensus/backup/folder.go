package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// folder keeps backups as files.
type folder struct{ dir string }

// A backup that is being written is .NAME.NUMBER.part. One that nobody wrote
// to for partIdle was left by a process that was killed.
const (
	partSuffix = ".part"
	partIdle   = time.Hour
)

func (f folder) put(ctx context.Context, name string, _ int64, fill func(io.Writer) error) (int64, error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return 0, err
	}
	if i, ok := parseName(name); ok { // room first: what is left of a killed writer may be all of it
		if err := f.tidy(ctx, i.Mesh); err != nil {
			return 0, err
		}
	}
	part, err := os.CreateTemp(f.dir, "."+name+".*"+partSuffix)
	if err != nil {
		return 0, noRoom(err)
	}
	w := &counted{w: part}
	err = fill(w)
	if err == nil {
		err = part.Sync()
	}
	err = errors.Join(err, part.Close())
	if err == nil {
		err = os.Rename(part.Name(), filepath.Join(f.dir, name))
	}
	if err != nil {
		return 0, errors.Join(noRoom(err), os.Remove(part.Name()))
	}
	return w.n, syncDir(f.dir)
}

// noRoom says what to do where the disk is full.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("there is no room for it; free some, or keep fewer backups: %w", err)
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (f folder) list(_ context.Context, only string) ([]Info, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the first backup makes it
	}
	if err != nil {
		return nil, err
	}
	var all []Info
	for _, e := range entries {
		i, ours := parseName(e.Name())
		if only == "" && !ours || only != "" && e.Name() != only {
			continue
		}
		stat, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // removed just now
		case err != nil:
			return nil, err
		case !stat.Mode().IsRegular():
			continue
		case !ours: // the name is a person's choice
			i = Info{Name: only, At: stat.ModTime().UTC().Truncate(time.Second)}
		}
		i.Size = stat.Size()
		all = append(all, i)
	}
	return all, nil
}

func (f folder) open(_ context.Context, name string) (io.ReadCloser, error) {
	file, err := os.Open(filepath.Join(f.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w of that name", ErrNone)
	}
	return file, err
}

func (f folder) remove(_ context.Context, name string) error {
	err := os.Remove(filepath.Join(f.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (f folder) tidy(_ context.Context, mesh string) error {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !isPart(e.Name(), mesh) {
			continue
		}
		stat, err := e.Info()
		if err != nil || time.Since(stat.ModTime()) < partIdle {
			continue // finished just now, or at work
		}
		errs = append(errs, os.Remove(filepath.Join(f.dir, e.Name())))
	}
	return errors.Join(errs...)
}

func isPart(name, mesh string) bool {
	name, ok := strings.CutSuffix(name, partSuffix)
	if !ok || !strings.HasPrefix(name, ".") {
		return false
	}
	i, ok := parseName(strings.TrimSuffix(name[1:], filepath.Ext(name)))
	return ok && i.Mesh == mesh
}
