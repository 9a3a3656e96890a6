package files

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
)

// Serve answers one call from in on out, with dir as the working copy. It is
// what runs in the workspace. The end of ctx leaves nothing half written.
func Serve(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	r := bufio.NewReaderSize(in, block)
	var q request
	if err := readLine(r, maxRequest, &q); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return writeLine(out, refusal(fmt.Errorf("opening the working copy: %w", err)))
	}
	defer root.Close()
	s := &server{root: root, dir: dir, out: out}
	done := make(chan error, 1)
	go func() { done <- s.do(ctx, q, r) }()
	if q.Op == "look" || q.Op == "archive" {
		select { // nobody listens any more, and a write would wait for that
		case <-ctx.Done():
			return context.Cause(ctx)
		case err = <-done:
		}
	} else {
		err = <-done
	}
	if err != nil && !s.begun { // else the other end sees that there is no end
		err = writeLine(out, refusal(err))
	}
	return err
}

// server answers one call.
type server struct {
	root  *os.Root
	dir   string
	out   io.Writer
	begun bool // the answer is on its way
}

func (s *server) do(ctx context.Context, q request, in io.Reader) error {
	p, err := Clean(string(q.Path))
	if err != nil {
		return err
	}
	switch q.Op {
	case "look":
		return s.look(p, q)
	case "archive":
		return s.archive(p)
	case "write":
		return s.write(ctx, p, q, &blocks{r: in})
	case "mkdir":
		return s.mkdir(p)
	case "remove":
		return s.remove(p, q.All)
	case "rename":
		return s.rename(p, string(q.To))
	}
	return fmt.Errorf("there is no operation %q", q.Op)
}

func (s *server) answer(a answer) error {
	s.begun = true
	return writeLine(s.out, a)
}

// at is a path as os.Root wants it.
func at(p string) string {
	if p == "" {
		return "."
	}
	return p
}

// why says an error of the file system for people.
func (s *server) why(p string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return gone(p)
	case errors.Is(err, os.ErrExist), errors.Is(err, syscall.ENOTEMPTY):
		return there(p)
	case errors.Is(err, os.ErrPermission):
		return refused("the workspace's user has no right to %s", Quote(p))
	case errors.Is(err, syscall.ELOOP):
		return refused("%s is a link that leads in a circle", Quote(p))
	case errors.Is(err, syscall.ENAMETOOLONG):
		return invalid("the name of %s is too long", Quote(p))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &problem{"the workspace's disk is full", ErrFull}
	case errors.Is(err, syscall.EROFS):
		return refused("%s is on a disk that is only read", Quote(p))
	case strings.Contains(err.Error(), "path escapes from parent"): // os has no name for it
		return s.leadsOut(p)
	}
	return fmt.Errorf("%s: %w", Quote(p), err)
}

// leadsOut names the link on a path that leads out.
func (s *server) leadsOut(p string) error {
	parts := strings.Split(p, "/")
	for i := range parts {
		link := path.Join(parts[:i+1]...)
		to, err := s.root.Readlink(link)
		if err != nil {
			continue
		}
		if _, err := s.root.Stat(link); err != nil {
			return refused("%s is a link to %s: only links that stay in the working copy, and are relative, are followed", Quote(link), Quote(to))
		}
	}
	return refused("%s leads out of the workspace", Quote(p))
}

func kindOf(m os.FileMode) Kind {
	switch {
	case m.IsRegular():
		return File
	case m.IsDir():
		return Folder
	case m&os.ModeSymlink != 0:
		return Link
	case m&os.ModeNamedPipe != 0:
		return FIFO
	case m&os.ModeSocket != 0:
		return Socket
	}
	return Device
}

func infoOf(name string, f os.FileInfo) Info {
	i := Info{Name: Bytes(name), Kind: kindOf(f.Mode()), Mode: uint32(f.Mode().Perm()), Changed: f.ModTime().UTC()}
	if i.Kind == File {
		i.Size = f.Size()
	}
	return i
}

// stat describes a path, and where it leads if it is a link.
func (s *server) stat(p string) (Info, error) {
	f, err := s.root.Lstat(at(p))
	if err != nil {
		return Info{}, s.why(p, err)
	}
	i := infoOf(path.Base(p), f)
	if i.Kind != Link {
		return i, nil
	}
	to, err := s.root.Readlink(at(p))
	if err != nil {
		return Info{}, s.why(p, err)
	}
	i.Link = Bytes(to[:min(len(to), maxLink)])
	if f, err = s.root.Stat(at(p)); err == nil { // else it leads nowhere
		i.Leads = kindOf(f.Mode())
	}
	return i, nil
}

// open opens a file or a folder for reading. Nothing else is opened, and should
// it have become something else meanwhile, nothing waits for it.
func (s *server) open(p string) (*os.File, os.FileInfo, error) {
	f, err := s.root.Stat(at(p))
	if err != nil {
		if i, lerr := s.stat(p); lerr == nil && i.Kind == Link && errors.Is(err, os.ErrNotExist) {
			return nil, nil, &problem{fmt.Sprintf("%s is a link to %s, which is not there", Quote(p), Quote(string(i.Link))), ErrNotFound}
		}
		return nil, nil, s.why(p, err)
	}
	if k := kindOf(f.Mode()); k != File && k != Folder {
		return nil, nil, special(p, k)
	}
	in, err := s.root.OpenFile(at(p), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, s.why(p, err)
	}
	if f, err = in.Stat(); err == nil {
		if k := kindOf(f.Mode()); k != File && k != Folder {
			err = special(p, k)
		}
	}
	if err != nil {
		in.Close()
		return nil, nil, err
	}
	return in, f, nil
}

func special(p string, k Kind) error {
	return refused("%s is a %s: it is shown, and never opened", Quote(p), k)
}
