package files

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	s := newSpace(t)
	ctx := t.Context()
	i, err := s.Write(ctx, "new/folder/a.txt", strings.NewReader("one"), false, 0)
	if s.ok(err); i.Size != 3 || i.Mode != 0o644 || i.Kind != File {
		t.Errorf("wrote %+v", i)
	}
	s.has("new/folder/a.txt", "one")
	unread := strings.NewReader("two")
	_, err = s.Write(ctx, "new/folder/a.txt", unread, false, 0)
	if s.refuses(err, ErrExists, "is there already"); unread.Len() != 3 {
		t.Error("what was refused was read")
	}
	s.has("new/folder/a.txt", "one")
	s.ok(os.Chmod(filepath.Join(s.dir, "new/folder/a.txt"), 0o751))
	if i, err = s.Write(ctx, "new/folder/a.txt", strings.NewReader(""), true, 0o600); err != nil || i.Mode != 0o751 || i.Size != 0 {
		t.Errorf("replaced: %+v, %v", i, err)
	}
	if i, err = s.Write(ctx, "run.sh", strings.NewReader("#!"), false, 0o755); err != nil || i.Mode != 0o755 {
		t.Errorf("a program: %+v, %v", i, err)
	}
	_, err = s.Write(ctx, "new", strings.NewReader("x"), true, 0)
	s.refuses(err, ErrRefused, "is a folder")
	_, err = s.Write(ctx, "run.sh/x", strings.NewReader("x"), true, 0)
	s.refuses(err, ErrRefused, "is no folder")
	s.link("run.sh", "to-run")
	_, err = s.Write(ctx, "to-run", strings.NewReader("x"), true, 0)
	s.refuses(err, ErrRefused, "a link to “run.sh”")
	s.link("new", "to-new")
	_, err = s.Write(ctx, "to-new/folder/b.txt", strings.NewReader("b"), false, 0)
	s.ok(err)
	s.has("new/folder/b.txt", "b")
	s.noTemp()
}

// noTemp checks that no temporary file was left anywhere.
func (s *space) noTemp() {
	s.t.Helper()
	s.ok(filepath.WalkDir(s.dir, func(p string, _ os.DirEntry, err error) error {
		if strings.Contains(p, "samnode-upload-") {
			s.t.Errorf("%s was left", p)
		}
		return err
	}))
}

// breaking is an upload that breaks off.
type breaking struct {
	n   int
	err error
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.n -= len(p); b.n < 0 {
		return 0, b.err
	}
	return len(p), nil
}

// Half of a file is never written, whoever breaks off.
func TestAWriteThatBreaksOff(t *testing.T) {
	s := newSpace(t)
	s.put("a.txt", "as it was")
	cut := errors.New("the browser went away")
	_, err := s.Write(t.Context(), "a.txt", &breaking{1 << 20, cut}, true, 0)
	s.refuses(err, cut)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(make([]byte, 1<<20)) // it is written, or the other end is gone
		cancel()
	}()
	if _, err = s.Write(ctx, "a.txt", r, true, 0); err == nil {
		t.Error("a cancelled write is done")
	}
	r.Close()
	_, err = s.Write(t.Context(), "none/b.txt", &breaking{10, cut}, false, 0)
	s.refuses(err, cut)
	s.has("a.txt", "as it was")
	if _, err := os.Lstat(filepath.Join(s.dir, "none/b.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("b.txt: %v", err)
	}
	s.noTemp()
}

func TestGitIsNotChanged(t *testing.T) {
	s := newSpace(t)
	s.put(".git/config", "[core]\n")
	s.put("sub/.git/config", "[core]\n")
	s.put("x", "x")
	s.link(".git/hooks", "hooks")
	for _, p := range []string{".git/config", ".git/hooks/pre-commit", "hooks/pre-commit", ".git", "sub/.git/config", "new/.git"} {
		_, err := s.Write(t.Context(), p, strings.NewReader("x"), true, 0)
		s.refuses(err, ErrRefused)
		_, err = s.Rename(t.Context(), "x", p)
		if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrNotFound) {
			t.Errorf("renaming to %s: %v", p, err)
		}
	}
	for _, p := range []string{".git/config", ".git", "sub/.git", ".git/hooks"} {
		_, err := s.Remove(t.Context(), p, true)
		s.refuses(err, ErrRefused, "git's own")
		_, err = s.Rename(t.Context(), p, "y")
		s.refuses(err, ErrRefused, "git's own")
	}
	if got, err := s.read(".git/config"); got != "[core]\n" || err != nil {
		t.Errorf("reading git's own = %q, %v", got, err)
	}
	s.has("x", "x")
}

func TestMkdirRemoveRename(t *testing.T) {
	s := newSpace(t)
	ctx := t.Context()
	_, err := s.Mkdir(ctx, "a/b/c")
	s.ok(err)
	_, err = s.Mkdir(ctx, "a/b")
	s.refuses(err, ErrExists)
	s.put("a/b/c/x", "x")
	_, err = s.Remove(ctx, "a", false)
	s.refuses(err, ErrRefused, "not empty")
	_, err = s.Rename(ctx, "a", "a/b/a")
	s.refuses(err, ErrRefused, "into itself")
	_, err = s.Rename(ctx, "a/b", "moved")
	s.ok(err)
	s.has("moved/c/x", "x")
	s.put("y", "y")
	_, err = s.Rename(ctx, "y", "moved/c/x")
	s.refuses(err, ErrExists, "“moved/c/x” is there already")
	_, err = s.Rename(ctx, "nothing", "z")
	s.refuses(err, ErrNotFound)
	_, err = s.Rename(ctx, "y", "no/folder/y")
	s.refuses(err, ErrNotFound, "no/folder")
	s.link("moved", "l")
	_, err = s.Remove(ctx, "l", true)
	s.ok(err)
	s.has("moved/c/x", "x") // the link went, and nothing else
	_, err = s.Remove(ctx, "moved", true)
	s.ok(err)
	_, err = s.Remove(ctx, "moved", true)
	s.refuses(err, ErrNotFound)
	for _, p := range []string{"", "."} {
		_, err = s.Remove(ctx, p, true)
		s.refuses(err, ErrRefused, "the working copy itself")
	}
}

// The other end may be the agent: what it says is bounded.
func TestALyingServer(t *testing.T) {
	for name, script := range map[string]string{
		"nothing":      `exit 0`,
		"noise":        `echo hello`,
		"no end":       `printf '{"info":'`,
		"dies":         `echo why >&2; exit 3`,
		"endless line": `yes | tr -d '\n'`,
		"negative":     `echo '{"info":{"kind":"file"},"length":-5}'`,
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClient(run, "/", "/bin/sh", "-c", script)
			if v, err := c.Look(t.Context(), "x", 0, -1, 0); err == nil {
				t.Errorf("looked at %+v", v)
			}
			if i, err := c.Write(t.Context(), "x", strings.NewReader("x"), true, 0); err == nil {
				t.Errorf("wrote %+v", i)
			}
		})
	}
	short := NewClient(run, "/", "/bin/sh", "-c", `echo '{"info":{"kind":"file","size":9},"length":9}'; printf half`)
	v, err := short.Look(t.Context(), "x", 0, -1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(v.Body); string(b) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half of a file = %q, %v", b, err)
	}
}
