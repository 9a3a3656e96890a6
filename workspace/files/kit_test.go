package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/samnode/samnode/workspace/shim"
)

// The test binary is also the program that serves files.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "serve-files" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := Serve(ctx, os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run is a shim's Exec without a container: a process that gets SIGTERM when
// its caller leaves.
func run(ctx context.Context, s shim.ExecSpec) (int, error) {
	cmd := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), s.Env...), s.Dir
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	in, err := cmd.StdinPipe()
	if err != nil {
		return -1, err
	}
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	go func() {
		_, _ = io.Copy(in, s.Stdin) // its end is the program's
		in.Close()
	}()
	err = cmd.Wait()
	if ctx.Err() != nil {
		return -1, context.Cause(ctx)
	}
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		err = nil
	}
	return cmd.ProcessState.ExitCode(), err
}

// space is a working copy with a secret beside it.
type space struct {
	*Client
	t    *testing.T
	dir  string
	next string // the folder beside it
}

const secret = "do not read this"

func newSpace(t *testing.T) *space {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &space{t: t, dir: filepath.Join(top, "app"), next: filepath.Join(top, "outside")}
	s.Client = NewClient(run, s.dir, os.Args[0], "serve-files", s.dir)
	s.ok(os.MkdirAll(filepath.Join(s.dir, ".git", "hooks"), 0o755))
	s.ok(os.Mkdir(s.next, 0o755))
	s.ok(os.WriteFile(filepath.Join(s.next, "secret"), []byte(secret), 0o644))
	return s
}

func (s *space) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *space) put(name, text string) {
	s.t.Helper()
	p := filepath.Join(s.dir, name)
	s.ok(os.MkdirAll(filepath.Dir(p), 0o755))
	s.ok(os.WriteFile(p, []byte(text), 0o644))
}

func (s *space) link(to, name string) {
	s.t.Helper()
	s.ok(os.Symlink(to, filepath.Join(s.dir, name)))
}

// read is the whole content of a file, by way of the program.
func (s *space) read(p string) (string, error) {
	v, err := s.Look(s.t.Context(), p, 0, -1, 0)
	if err != nil {
		return "", err
	}
	if v.Body == nil {
		return "", fmt.Errorf("%s is a %s", p, v.Kind)
	}
	b, err := io.ReadAll(v.Body)
	return string(b), errors.Join(err, v.Body.Close())
}

// has reads a file of the working copy behind the program's back.
func (s *space) has(name, want string) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil || string(b) != want {
		s.t.Errorf("%q = %.60q, %v; want %.60q", name, b, err, want)
	}
}

// refuses wants an error of a kind, with words for people.
func (s *space) refuses(err, kind error, words ...string) {
	s.t.Helper()
	if !errors.Is(err, kind) {
		s.t.Errorf("error = %v, want %v", err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			s.t.Errorf("error = %v, want the words %q", err, w)
		}
	}
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
		s.t.Errorf("error has control characters: %q", err)
	}
}

func names(list []Info) []string {
	var out []string
	for _, i := range list {
		out = append(out, string(i.Name))
	}
	return out
}
