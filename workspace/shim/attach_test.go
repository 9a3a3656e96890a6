package shim

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestExec(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := func(ctx context.Context, stdin io.Reader, args ...string) (int, string, string, error) {
		var out, errs bytes.Buffer
		code, err := r.Exec(ctx, ExecSpec{Args: args, Stdin: stdin, Stdout: &out, Stderr: &errs})
		return code, out.String(), errs.String(), err
	}
	t.Run("both outputs and the exit code", func(t *testing.T) {
		t.Parallel()
		code, out, errs, err := run(t.Context(), nil, "sh", "-c", "echo out; echo err >&2; exit 7")
		if code != 7 || out != "out\n" || errs != "err\n" || err != nil {
			t.Errorf("Exec = %d, %q, %q, %v", code, out, errs, err)
		}
	})
	t.Run("a signal is 128 and more", func(t *testing.T) {
		t.Parallel()
		if code, _, _, err := run(t.Context(), nil, "sh", "-c", "kill -9 $$"); code != 137 || err != nil {
			t.Errorf("Exec = %d, %v, want 137", code, err)
		}
	})
	t.Run("50 MB pass through unchanged", func(t *testing.T) {
		t.Parallel()
		data := bytes.Repeat([]byte("0123456789abcdef-no-period\n"), 50_000_000/27)
		_, out, _, err := run(t.Context(), bytes.NewReader(data), "cat")
		if err != nil || sha256.Sum256([]byte(out)) != sha256.Sum256(data) {
			t.Errorf("cat gave %d bytes of %d, %v", len(out), len(data), err)
		}
	})
	t.Run("a command that does not read its input ends", func(t *testing.T) {
		t.Parallel()
		if code, _, _, err := run(t.Context(), bytes.NewReader(make([]byte, 10<<20)), "true"); code != 0 || err != nil {
			t.Errorf("Exec = %d, %v", code, err)
		}
	})
	t.Run("no such command", func(t *testing.T) {
		t.Parallel()
		if _, _, _, err := run(t.Context(), nil, "no-such-command"); !errors.Is(err, ErrStart) {
			t.Errorf("Exec = %v, want ErrStart", err)
		}
	})
	t.Run("a background child neither holds it up nor dies with it", func(t *testing.T) {
		t.Parallel()
		_, out, _, err := run(t.Context(), nil, "sh", "-c", "sleep 600 & echo $!")
		pid, convErr := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || convErr != nil || !alive(pid) {
			t.Fatalf("Exec gave %q, %v; alive %t", out, err, alive(pid))
		}
		if _, _, _, err := run(t.Context(), nil, "kill", strconv.Itoa(pid)); err != nil {
			t.Error(err)
		}
	})
	t.Run("cancelled, it dies with its grandchildren, and stdin blocked", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		var out lockedBuffer
		done := make(chan error, 1)
		go func() {
			_, err := r.Exec(ctx, ExecSpec{
				Args:  []string{"sh", "-c", "trap '' TERM; (setsid sleep 600 & echo $!; wait) & echo $$; wait; sleep 600"},
				Stdin: neverEnding{}, Stdout: &out,
			})
			done <- err
		}()
		var pids []int
		eventually(t, "both processes run", func() bool {
			pids = nil
			for _, f := range strings.Fields(out.String()) {
				if pid, err := strconv.Atoi(f); err == nil {
					pids = append(pids, pid)
				}
			}
			return len(pids) == 2
		})
		cancel(errEnough)
		if err := <-done; !errors.Is(err, errEnough) {
			t.Errorf("Exec = %v, want the cause", err)
		}
		for _, pid := range pids {
			eventually(t, "the process is gone", func() bool { return !exists(pid) })
		}
	})
	t.Run("a lost connection kills it", func(t *testing.T) {
		t.Parallel()
		conn, stop, err := r.open(t.Context(), request{Op: "exec", Exec: &ExecSpec{Args: []string{"sh", "-c", "echo $$; sleep 600"}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAnswer(conn); err != nil {
			t.Fatal(err)
		}
		_, b, err := readFrame(conn, maxFrame)
		pid, convErr := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || convErr != nil || !alive(pid) {
			t.Fatalf("output %q, %v", b, err)
		}
		stop()
		eventually(t, "the command is gone", func() bool { return !exists(pid) })
	})
}

type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) { return len(b), nil }

// watch collects what an attachment shows.
func watch(t testing.TB, term *Terminal) (shown func() string, ended <-chan error) {
	t.Helper()
	var out lockedBuffer
	end := make(chan error, 1)
	go func() {
		_, err := io.Copy(&out, term)
		end <- err
	}()
	return out.String, end
}

func (r *rig) term(s TerminalSpec) *Terminal {
	r.t.Helper()
	term, err := r.OpenTerminal(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { term.Close() })
	return term
}

func (r *rig) write(term *Terminal, text string) {
	r.t.Helper()
	if _, err := term.Write([]byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

func contains(shown func() string, text string) func() bool {
	return func() bool { return strings.Contains(shown(), text) }
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	t.Run("two see the same, both type, the size is shared", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		one := r.term(TerminalSpec{ID: "t", Rows: 30, Cols: 100})
		shown1, ended1 := watch(t, one)
		r.write(one, "stty size; echo fir''st\n")
		eventually(t, "the first size", contains(shown1, "30 100"))
		eventually(t, "the first output", contains(shown1, "first"))
		two := r.term(TerminalSpec{ID: "t"})
		shown2, ended2 := watch(t, two)
		eventually(t, "the replay", contains(shown2, "first"))
		if err := two.Resize(50, 132); err != nil {
			t.Fatal(err)
		}
		r.write(two, "stty size; echo sec''ond\n")
		eventually(t, "the second at one", contains(shown1, "second"))
		eventually(t, "the second at two", contains(shown2, "second"))
		if !strings.Contains(shown1(), "50 132") {
			t.Errorf("no new size in %q", shown1())
		}
		infos, err := r.Terminals(t.Context())
		if err != nil || len(infos) != 1 || infos[0].Attached != 2 || infos[0].Rows != 50 || infos[0].Cols != 132 {
			t.Errorf("Terminals = %+v, %v", infos, err)
		}
		r.write(one, "exit 5\n")
		for _, ended := range []<-chan error{ended1, ended2} {
			if err := <-ended; err != nil {
				t.Errorf("attachment ended with %v, want io.EOF", err)
			}
		}
		if shown1() != shown2() {
			t.Errorf("they saw different things:\n%q\n%q", shown1(), shown2())
		}
		if code, ended := two.Exit(); code != 5 || !ended {
			t.Errorf("Exit = %d, %t, want 5, true", code, ended)
		}
		infos, err = r.Terminals(t.Context())
		if err != nil || len(infos) != 0 {
			t.Errorf("Terminals after the end = %+v, %v", infos, err)
		}
	})
	t.Run("it outlives its attachment and replays the last MiB", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		term := r.term(TerminalSpec{ID: "t", Name: "build"})
		shown, _ := watch(t, term)
		r.write(term, "i=0; while [ $i -lt 160000 ]; do i=$((i+1)); echo line-$i; done; echo fin''ished\n")
		eventually(t, "the output", contains(shown, "finished"))
		if n := strings.Count(shown(), "line-"); n < 160000 {
			t.Errorf("the first attachment saw %d lines, want all 160000", n)
		}
		term.Close()
		if err := r.RenameTerminal(t.Context(), "t", "tests"); err != nil {
			t.Error(err)
		}
		eventually(t, "it is detached and renamed", func() bool {
			infos, err := r.Terminals(t.Context())
			return err == nil && len(infos) == 1 && infos[0].Attached == 0 && infos[0].Name == "tests"
		})
		again := r.term(TerminalSpec{ID: "t"})
		shown, _ = watch(t, again)
		r.write(again, "echo ba''ck\n")
		eventually(t, "the shell answers", contains(shown, "back"))
		replay := shown()
		if len(replay) < 1000<<10 || len(replay) > 1100<<10 || !strings.HasPrefix(replay, "line-") || !strings.Contains(replay, "line-160000\r\n") {
			t.Errorf("replay of %d bytes begins %q", len(replay), replay[:min(40, len(replay))])
		}
	})
	t.Run("closing it ends the shell and its session", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		term := r.term(TerminalSpec{ID: "t"})
		shown, ended := watch(t, term)
		r.write(term, "set -m; sleep 600 & echo pid=$!=\n")
		eventually(t, "the job", func() bool { return strings.Count(shown(), "=") > 2 && strings.Contains(shown(), "pid=") })
		var pid int
		eventually(t, "its pid", func() bool {
			for _, part := range strings.Split(shown(), "pid=") {
				if n, err := strconv.Atoi(strings.Split(part, "=")[0]); err == nil {
					pid = n
				}
			}
			return pid != 0
		})
		if err := r.CloseTerminal(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("attachment ended with %v", err)
		}
		eventually(t, "the job is gone", func() bool { return !exists(pid) })
		if err := r.CloseTerminal(t.Context(), "t"); !errors.Is(err, ErrNotFound) {
			t.Errorf("CloseTerminal again = %v, want ErrNotFound", err)
		}
	})
	t.Run("a command of its own in place of the shell", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		term := r.term(TerminalSpec{ID: "t", Args: []string{"sh", "-c", "test -t 0 && test -t 1 && echo tty $TERM; exit 4"}})
		shown, ended := watch(t, term)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if code, _ := term.Exit(); code != 4 || shown() != "tty xterm-256color\r\n" {
			t.Errorf("exit %d, output %q", code, shown())
		}
	})
	t.Run("one that reads nothing holds up nobody, and is shown the end", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		stuck := r.term(TerminalSpec{ID: "t"})
		term := r.term(TerminalSpec{ID: "t"})
		shown, _ := watch(t, term)
		r.write(term, "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); echo line-$i; done; echo fin''ished\n")
		eventually(t, "the output", contains(shown, "finished"))
		if n := strings.Count(shown(), "line-"); n < 500000 {
			t.Errorf("who types saw %d lines, want all 500000", n)
		}
		late, _ := watch(t, stuck)
		eventually(t, "the end at the stuck one", contains(late, "line-500000\r\nfinished"))
		if n := strings.Count(late(), "line-"); n > 250000 || !strings.Contains(late(), "are left out]") {
			t.Errorf("the stuck one was shown %d lines", n)
		}
	})
}

// echoSocket answers what it read after the end of the input.
func echoSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				b, err := io.ReadAll(c)
				if err == nil {
					_, _ = fmt.Fprintf(c, "%d bytes: ", len(b))
					_, _ = c.Write(b)
				}
			})
		}
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestForwardAndDial(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(shortTempDir(t), "echo")
	echoSocket(t, socket)
	port := freePort(t)
	at := fmt.Sprintf("127.0.0.1:%d", port)
	r := newRig(t, Forward{Listen: at, Socket: socket})
	other := filepath.Join(shortTempDir(t), "echo")
	echoSocket(t, other)
	ways := []func() (net.Conn, error){
		func() (net.Conn, error) { return net.Dial("tcp", at) }, // as programs of the workspace do
		func() (net.Conn, error) { return r.Dial(t.Context(), Address{Path: other}) },
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			c, err := ways[i%2]()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			text := strings.Repeat(fmt.Sprint("connection ", i, " "), 1000*(i%10))
			if _, err := c.Write([]byte(text)); err != nil {
				t.Error(err)
			}
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(c)
			if want := fmt.Sprintf("%d bytes: %s", len(text), text); string(got) != want || err != nil {
				t.Errorf("connection %d answered %d bytes, %v, want %d", i, len(got), err, len(want))
			}
		})
	}
	wg.Wait()
	if _, err := r.Dial(t.Context(), Address{Port: freePort(t)}); err == nil {
		t.Error("dialling a closed port succeeded")
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mine []int
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		if err != nil {
			t.Skipf("no %s here: %v", network, err)
		}
		defer l.Close()
		mine = append(mine, l.Addr().(*net.TCPAddr).Port)
	}
	all, err := r.AllPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, port := range mine {
		at := slices.IndexFunc(all, func(p Port) bool { return p.Port == port })
		if at < 0 {
			t.Fatalf("port %d is not listed", port)
		}
		p := all[at]
		if want := []string{"127.0.0.1", "::1"}[i]; p.Address != want || p.PID == 0 || p.Process != "shim.test" ||
			time.Since(p.Since) > time.Hour || time.Since(p.Since) < -time.Minute {
			t.Errorf("port %d = %+v", port, p)
		}
	}
	few, err := r.Ports(t.Context())
	if err != nil || slices.ContainsFunc(few, func(p Port) bool { return p.Port >= 32768 }) {
		t.Errorf("Ports = %+v, %v, want none from 32768 on", few, err)
	}
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c, err := net.Dial("unix", r.config.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &frameWriter{w: c}
	if err := w.writeJSON(kindRequest, request{Protocol: Protocol + 1, Op: "hello"}); err != nil {
		t.Fatal(err)
	}
	if _, err := readAnswer(bufio.NewReader(c)); !errors.Is(err, ErrProtocol) {
		t.Errorf("another version got %v, want ErrProtocol", err)
	}
	if _, err := r.ask(t.Context(), request{Op: "dance"}, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unknown call got %v, want ErrInvalid", err)
	}
}
