package shim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The forms of exec and of terminals that a person's shell needs.
func TestShellForms(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := func(ctx context.Context, s ExecSpec, stdin string) (string, int, error) {
		var out bytes.Buffer
		s.Stdin, s.Stdout, s.Stderr = strings.NewReader(stdin), &out, &out
		code, err := r.Exec(ctx, s)
		return out.String(), code, err
	}
	t.Run("a line for the shell", func(t *testing.T) {
		t.Parallel()
		out, code, err := run(t.Context(), ExecSpec{Command: "echo $0 'a b'; exit 7"}, "")
		if out != "sh a b\n" || code != 7 || err != nil {
			t.Errorf("it gave %q, %d, %v", out, code, err)
		}
	})
	t.Run("a login shell reads its lines", func(t *testing.T) {
		t.Parallel()
		out, code, err := run(t.Context(), ExecSpec{}, "echo $0\nexit 4\n")
		if out != "-sh\n" || code != 4 || err != nil {
			t.Errorf("it gave %q, %d, %v", out, code, err)
		}
	})
	t.Run("signals reach the group", func(t *testing.T) {
		t.Parallel()
		signals, pr, pw := make(chan syscall.Signal), &lockedBuffer{}, make(chan int, 1)
		go func() {
			code, err := r.Exec(t.Context(), ExecSpec{
				Command: "trap 'echo got' USR1; echo up; while :; do sleep 0.05; done", Signals: signals, Stdout: pr,
			})
			if err != nil {
				t.Error(err)
			}
			pw <- code
		}()
		eventually(t, "the command runs", func() bool { return strings.Contains(pr.String(), "up") })
		signals <- syscall.SIGUSR1
		eventually(t, "the trap says so", func() bool { return strings.Contains(pr.String(), "got") })
		signals <- syscall.SIGKILL
		if code := <-pw; code != 128+9 {
			t.Errorf("exit code %d, want 137", code)
		}
	})
	t.Run("a caller that hangs up leaves what wants to live", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		out, done := &lockedBuffer{}, make(chan error, 1)
		go func() {
			_, err := r.Exec(ctx, ExecSpec{
				HangUp: true, Stdout: out, Stdin: neverEnding{},
				Command: "mkfifo f; sh -c 'echo $$ >f; exec sleep 600' </dev/null >/dev/null 2>&1 & cat f; sleep 600 & echo $!; echo $$; wait",
			})
			done <- err
		}()
		var pids []int
		eventually(t, "three processes run", func() bool {
			pids = nil
			for _, f := range strings.Fields(out.String()) {
				pid, err := strconv.Atoi(f)
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			return len(pids) == 3
		})
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Exec = %v", err)
		}
		eventually(t, "the others are gone", func() bool { return !exists(pids[1]) && !exists(pids[2]) })
		if !alive(pids[0]) {
			t.Error("what has no more to do with the caller died")
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	t.Run("a program on the connection itself", func(t *testing.T) {
		t.Parallel()
		c, err := r.Serve(t.Context(), ExecSpec{Args: []string{"sh", "-c", "read line; echo $line for $WHOM; cat; echo end"}, Env: []string{"WHOM=ana"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "hello\nmore"); err != nil {
			t.Fatal(err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if out, err := io.ReadAll(c); string(out) != "hello for ana\nmoreend\n" || err != nil {
			t.Errorf("it gave %q, %v", out, err)
		}
		if _, err := r.Serve(t.Context(), ExecSpec{Args: []string{"no-such-program"}}); !errors.Is(err, ErrStart) {
			t.Errorf("a program that is not there = %v", err)
		}
		if _, err := r.Serve(t.Context(), ExecSpec{Command: "true"}); !errors.Is(err, ErrInvalid) {
			t.Errorf("a line for the shell = %v", err)
		}
	})
	t.Run("a terminal for one at a time", func(t *testing.T) {
		t.Parallel()
		spec := TerminalSpec{ID: "mine", Alone: true}
		first, err := r.OpenTerminal(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.OpenTerminal(t.Context(), spec); !errors.Is(err, ErrBusy) {
			t.Errorf("a second one = %v, want ErrBusy", err)
		}
		first.Close()
		eventually(t, "it is free again", func() bool {
			again, err := r.OpenTerminal(t.Context(), spec)
			if err != nil {
				return false
			}
			again.Close()
			return true
		})
		if err := r.CloseTerminal(t.Context(), "mine"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a terminal for one line", func(t *testing.T) {
		t.Parallel()
		term, err := r.OpenTerminal(t.Context(), TerminalSpec{ID: "line", Command: "test -t 0 && exit 5"})
		if err != nil {
			t.Fatal(err)
		}
		defer term.Close()
		if _, err := io.Copy(io.Discard, term); err != nil {
			t.Error(err)
		}
		if code, ended := term.Exit(); code != 5 || !ended {
			t.Errorf("Exit = %d, %t", code, ended)
		}
	})
}

func TestDialOutside(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, host := range []string{"192.0.2.1", "example.com", "::ffff:192.0.2.1", "169.254.169.254", "fe80::1"} {
		if _, err := r.Dial(t.Context(), Address{Host: host, Port: 80}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "outside the workspace") {
			t.Errorf("Dial(%s) = %v, want ErrRefused", host, err)
		}
		if _, err := r.Listen(t.Context(), Address{Host: host}); !errors.Is(err, ErrRefused) {
			t.Errorf("Listen(%s) = %v, want ErrRefused", host, err)
		}
	}
}

// A listener in the workspace hands its connections to the node, each way and
// with half of it closed.
func TestListen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, at := range []Address{{}, {Host: "127.0.0.1"}, {Path: "in.sock"}} {
		l, err := r.Listen(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		to := Address{Host: "localhost", Port: l.Port()}
		if at.Path != "" {
			to = Address{Path: filepath.Join(r.config.Home, at.Path)}
		}
		for range 3 {
			guest, err := r.Dial(t.Context(), to) // a program of the workspace would do the same
			if err != nil {
				t.Fatal(err)
			}
			fetch, from, err := l.Next()
			if err != nil {
				t.Fatal(err)
			}
			if at.Path == "" && !strings.HasPrefix(from, "127.0.0.1:") {
				t.Errorf("it came from %q", from)
			}
			node, err := fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, guest, node)
			if _, err := fetch(t.Context()); !errors.Is(err, ErrNotRunning) {
				t.Errorf("fetched twice: %v", err)
			}
		}
		l.Close()
		eventually(t, "nobody listens", func() bool {
			c, err := r.Dial(t.Context(), to)
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		if _, _, err := l.Next(); err == nil {
			t.Error("a closed listener has a next connection")
		}
	}
}

// exchange sends a text each way, of which the first has ended before the other
// begins.
func exchange(t *testing.T, a, b net.Conn) {
	t.Helper()
	defer a.Close()
	defer b.Close()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		if _, err := way[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := way[0].(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(way[1])
		if string(got) != "hello" || err != nil {
			t.Fatalf("the other end read %q, %v", got, err)
		}
	}
}
