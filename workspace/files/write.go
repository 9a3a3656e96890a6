package files

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// place is where a change may be made: the folder by its real path, without
// links, and the name in it.
func (s *server) place(p string) (string, error) {
	if p == "" {
		return "", refused("the working copy itself is not changed from here")
	}
	folder, err := s.real(path.Dir(p))
	if err != nil {
		return "", err
	}
	to := path.Join(folder, path.Base(p))
	if slices.Contains(strings.Split(to, "/"), gitDir) {
		return "", refused("%s is git's own, and is not changed from here", Quote(to))
	}
	return to, nil
}

// real resolves the links of a folder's path: the kernel says where what was
// opened is.
func (s *server) real(folder string) (string, error) {
	in, f, err := s.open(folder)
	if err != nil {
		return "", err
	}
	defer in.Close()
	if !f.IsDir() {
		return "", refused("%s is no folder", Quote(folder))
	}
	top, err := s.root.Open(".")
	if err != nil {
		return "", s.why("", err)
	}
	defer top.Close()
	where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", in.Fd()))
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", Quote(folder), err)
	}
	base, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", top.Fd()))
	if err != nil {
		return "", fmt.Errorf("finding the working copy: %w", err)
	}
	rel, err := filepath.Rel(base, where)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", gone(folder) // it was moved meanwhile
	}
	return rel, nil
}

// parents makes the folders that a new path lacks.
func (s *server) parents(p string) error {
	parts := strings.Split(p, "/")
	for i := range parts[:len(parts)-1] {
		folder := path.Join(parts[:i+1]...)
		if _, err := s.root.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			if err != nil {
				return s.why(folder, err)
			}
			continue
		}
		if err := s.mkdirAt(folder); err != nil && !errors.Is(err, ErrExists) {
			return err
		}
	}
	return nil
}

// write puts a file at a path, whole or not at all.
func (s *server) write(ctx context.Context, p string, q request, in io.Reader) error {
	if err := s.parents(p); err != nil {
		return err
	}
	to, err := s.place(p)
	if err != nil {
		return err
	}
	mode, err := s.over(p, to, q)
	if err != nil {
		return err
	}
	if err := writeLine(s.out, answer{}); err != nil { // now it may come
		return err
	}
	temp, err := s.fill(ctx, to, mode, in)
	if err != nil {
		return s.why(p, err)
	}
	if q.Replace {
		err = s.root.Rename(temp, to)
	} else if err = s.root.Link(temp, to); err == nil { // fails where something is
		err = s.root.Remove(temp)
	}
	if err != nil {
		return errors.Join(s.why(p, err), s.clear(temp))
	}
	i, err := s.stat(to)
	if err != nil {
		return err
	}
	return s.answer(answer{Info: i})
}

// over says whether a file may be put there, and with which rights: those of
// the one that it replaces.
func (s *server) over(p, to string, q request) (os.FileMode, error) {
	old, err := s.root.Lstat(to)
	if errors.Is(err, os.ErrNotExist) {
		mode := os.FileMode(q.Mode).Perm()
		if mode == 0 {
			mode = 0o644
		}
		return mode, CheckName(path.Base(to))
	}
	if err != nil {
		return 0, s.why(p, err)
	}
	switch k := kindOf(old.Mode()); {
	case k == Link:
		where, err := s.root.Readlink(to)
		if err != nil {
			return 0, s.why(p, err)
		}
		return 0, refused("%s is a link to %s: write there, or remove the link first", Quote(p), Quote(where))
	case k != File:
		return 0, refused("%s is there already, and is a %s", Quote(p), k)
	case !q.Replace:
		return 0, there(p)
	}
	return old.Mode().Perm(), nil
}

// fill writes a temporary file for to. It stands in git's own folder, where
// nobody takes it for work, and on the same disk.
func (s *server) fill(ctx context.Context, to string, mode os.FileMode, in io.Reader) (string, error) {
	folder := gitDir
	if f, err := s.root.Lstat(gitDir); err != nil || !f.IsDir() {
		folder = path.Dir(to)
	}
	temp := path.Join(folder, "samnode-upload-"+rand.Text())
	out, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { // a read that waits cannot be told of the end of ctx
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, in, make([]byte, block))
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = errCut
	}
	if err == nil {
		err = out.Chmod(mode)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", errors.Join(err, s.clear(temp))
	}
	return temp, nil
}

// clear removes a temporary file that is not needed any more.
func (s *server) clear(temp string) error {
	if err := s.root.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clearing up: %w", err)
	}
	return nil
}

func (s *server) mkdir(p string) error {
	if p == "" {
		return there(".")
	}
	if err := s.parents(p); err != nil {
		return err
	}
	if err := s.mkdirAt(p); err != nil {
		return err
	}
	i, err := s.stat(p)
	if err != nil {
		return err
	}
	return s.answer(answer{Info: i})
}

func (s *server) mkdirAt(p string) error {
	to, err := s.place(p)
	if err != nil {
		return err
	}
	if err := CheckName(path.Base(to)); err != nil {
		return err
	}
	return s.why(p, s.root.Mkdir(to, 0o755))
}

// remove removes a file or a link itself; a folder with what is in it only when
// all is said.
func (s *server) remove(p string, all bool) error {
	to, err := s.place(p)
	if err != nil {
		return err
	}
	i, err := s.stat(to)
	if err != nil {
		return err
	}
	if all {
		err = s.root.RemoveAll(to)
	} else if err = s.root.Remove(to); errors.Is(err, syscall.ENOTEMPTY) {
		return refused("%s is a folder and not empty", Quote(p))
	}
	if err != nil {
		return s.why(p, err)
	}
	return s.answer(answer{Info: i})
}

func (s *server) rename(p, new string) error {
	new, err := Clean(new)
	if err != nil {
		return err
	}
	from, err := s.place(p)
	if err != nil {
		return err
	}
	if _, err := s.stat(from); err != nil {
		return err
	}
	to, err := s.place(new)
	if err != nil {
		return err
	}
	if err := CheckName(path.Base(to)); err != nil {
		return err
	}
	if _, err := s.root.Lstat(to); !errors.Is(err, os.ErrNotExist) {
		return cmp.Or(s.why(new, err), there(new))
	}
	if err := s.root.Rename(from, to); errors.Is(err, syscall.EINVAL) {
		return refused("%s cannot be moved into itself", Quote(p))
	} else if err != nil {
		return s.why(new, err)
	}
	i, err := s.stat(to)
	if err != nil {
		return err
	}
	return s.answer(answer{Info: i})
}
