package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/workspace/shim"
)

// screen is an ssh client on a terminal of its own. The terminal is one of
// another shim's, which is what makes terminals here.
type screen struct {
	*shim.Terminal
	t   testing.TB
	out *lockedBuffer
	end chan error
}

// terminal starts ssh as a person does who sits at a terminal of that size.
func (h *house) terminal(side *house, id string, rows, cols uint16, args ...string) *screen {
	h.t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		h.t.Fatal(err)
	}
	term, err := side.shim.OpenTerminal(h.t.Context(), shim.TerminalSpec{
		ID: id, Rows: rows, Cols: cols, Args: append([]string{ssh, "-F", h.config}, args...),
		Env: []string{"TERM=xterm-256color", "LC_ALL=C.UTF-8"},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	s := &screen{Terminal: term, t: h.t, out: &lockedBuffer{}, end: make(chan error, 1)}
	go func() {
		_, err := writer{s.out}.copyFrom(term)
		s.end <- err
	}()
	h.t.Cleanup(func() { term.Close() })
	return s
}

func (w writer) copyFrom(r *shim.Terminal) (n int64, err error) {
	buf := make([]byte, 4096)
	for {
		k, err := r.Read(buf)
		if k > 0 {
			if _, err := w.Write(buf[:k]); err != nil {
				return n, err
			}
			n += int64(k)
		}
		if err != nil {
			return n, err
		}
	}
}

func (s *screen) say(line string) {
	s.t.Helper()
	if _, err := s.Write([]byte(line + "\n")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) shows(text string) {
	s.t.Helper()
	eventually(s.t, "the screen shows "+text+", has "+s.out.String(), func() bool { return strings.Contains(s.out.String(), text) })
}

// code waits for the end of ssh.
func (s *screen) code() int {
	s.t.Helper()
	<-s.end
	code, ended := s.Exit()
	if !ended {
		s.t.Fatalf("ssh has not ended: %s", s.out.String())
	}
	return code
}

func TestShell(t *testing.T) {
	t.Parallel()
	h, desk := open(t), open(t)
	s := h.terminal(desk, "one", 31, 97, "node")
	s.say("stty size; echo $TERM; pwd")
	s.shows("31 97\r\nxterm-256color\r\n" + h.dir)
	if err := s.Resize(40, 120); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the size arrives", func() bool { s.say("stty size"); return strings.Contains(s.out.String(), "40 120") })
	s.say("echo run''ning; sleep 600")
	s.shows("running")
	if _, err := s.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	// What is typed while a terminal handles Ctrl-C may be dropped by it.
	eventually(t, "the shell goes on", func() bool { s.say("echo still h''ere"); return strings.Contains(s.out.String(), "still here") })
	s.say("exit 9")
	if code := s.code(); code != 9 {
		t.Errorf("ssh = %d, want 9", code)
	}
	if list, err := h.shim.Terminals(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("after exit there are %v, %v", list, err)
	}
}

// A shell that was left is found again by the next ssh; one that is in use is
// not, and some ask for another.
func TestShellFoundAgain(t *testing.T) {
	t.Parallel()
	h, desk := open(t), open(t)
	attached := func(n int) {
		t.Helper()
		eventually(t, "so many are attached", func() bool {
			list, err := h.shim.Terminals(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sum := 0
			for _, l := range list {
				sum += l.Attached
			}
			return sum == n
		})
	}
	first := h.terminal(desk, "first", 24, 80, "node")
	first.say("mark=first; echo re''ady")
	first.shows("ready")
	second := h.terminal(desk, "second", 24, 80, "node")
	second.say("echo mark=$mark.")
	second.shows("mark=.")
	if err := desk.shim.CloseTerminal(t.Context(), "first"); err != nil { // the window is closed
		t.Fatal(err)
	}
	attached(1)
	fresh := h.terminal(desk, "fresh", 24, 80, "-o", "SetEnv=SAMNODE_SHELL=new", "node")
	fresh.say("echo fresh=$mark.")
	fresh.shows("fresh=.")
	again := h.terminal(desk, "again", 24, 80, "node")
	again.shows("samnode: your shell of")
	again.say("echo again=$mark.")
	again.shows("again=first.")
	shared := [2]*screen{}
	for i, id := range []string{"shared-1", "shared-2"} {
		shared[i] = h.terminal(desk, id, 24, 80, "-o", "SetEnv=SAMNODE_SHELL=pair", "node")
	}
	attached(5)
	shared[0].say("echo to''gether")
	shared[1].shows("together")
	odd := h.terminal(desk, "odd", 24, 80, "-o", "SetEnv=SAMNODE_SHELL=../x", "node")
	odd.shows("is no name")
	if code := odd.code(); code != 255 {
		t.Errorf("an odd name = %d", code)
	}
}

// A command on a terminal ends with its client.
func TestCommandOnTerminal(t *testing.T) {
	t.Parallel()
	h, desk := open(t), open(t)
	s := h.terminal(desk, "one", 24, 80, "-t", "node", "test -t 0 && stty size; exit 6")
	s.shows("24 80")
	if code := s.code(); code != 6 {
		t.Errorf("ssh = %d, want 6", code)
	}
	s = h.terminal(desk, "two", 24, 80, "-t", "node", "echo up; sleep 600")
	s.shows("up")
	if err := desk.shim.CloseTerminal(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool {
		list, err := h.shim.Terminals(t.Context())
		return err == nil && len(list) == 0
	})
	gone := h.terminal(desk, "three", 24, 80, "node")
	gone.say("echo he''re")
	gone.shows("here")
	h.killShim()
	gone.shows("the connection to the shell broke")
	if code := gone.code(); code != 255 {
		t.Errorf("ssh = %d, want 255", code)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	h := open(t)
	mine := t.TempDir()
	text := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	write(t, filepath.Join(mine, "a.txt"), text)
	if err := os.MkdirAll(filepath.Join(mine, "tree", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(mine, "tree", "deep", "b.txt"), "b")
	if _, errs, code := h.finish(h.client("scp", "-rp", filepath.Join(mine, "a.txt"), filepath.Join(mine, "tree"), "node:"), ""); code != 0 {
		t.Fatalf("scp there = %d: %s", code, errs)
	}
	if _, errs, code := h.finish(h.client("scp", "node:a.txt", "node:"+h.dir+"/tree/deep/b.txt", mine), ""); code != 0 {
		t.Fatalf("scp back = %d: %s", code, errs)
	}
	for file, want := range map[string]string{filepath.Join(h.dir, "a.txt"): text, filepath.Join(mine, "a.txt"): text, filepath.Join(mine, "b.txt"): "b"} {
		if got, err := os.ReadFile(file); string(got) != want || err != nil {
			t.Errorf("%s has %d bytes, want %d: %v", file, len(got), len(want), err)
		}
	}
	batch := "pwd\nmkdir d\nput " + filepath.Join(mine, "a.txt") + " d/c.txt\nrename d/c.txt d/e.txt\nln -s e.txt d/link\nchmod 600 d/e.txt\nls -l d\nrm a.txt\n"
	out, errs, code := h.finish(h.client("sftp", "-b", "-", "node"), batch)
	if code != 0 || !strings.Contains(out, "Remote working directory: "+h.dir) || !strings.Contains(out, "-rw-------") {
		t.Errorf("sftp = %d: %s%s", code, out, errs)
	}
	if to, err := os.Readlink(filepath.Join(h.dir, "d", "link")); to != "e.txt" || err != nil {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "a.txt")); !os.IsNotExist(err) {
		t.Errorf("what was removed: %v", err)
	}
	if _, errs, code := h.finish(h.client("scp", "node:nosuch", mine), ""); code != 1 || !strings.Contains(errs, "No such file") {
		t.Errorf("scp of nothing = %d: %s", code, errs)
	}
	h.throwOut()
	if _, errs, code := h.finish(h.client("sftp", "-b", "-", "node"), "ls\n"); code == 0 || !strings.Contains(errs, "you are a viewer") {
		t.Errorf("sftp without the right = %d: %s", code, errs)
	}
}

// rsync runs at both ends, so it has to be in the workspace too.
func TestRsync(t *testing.T) {
	t.Parallel()
	rsync, err := exec.LookPath("rsync")
	if err != nil {
		t.Skip("needs rsync")
	}
	h := open(t)
	mine := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mine, "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(mine, "tree", "a.txt"), strings.Repeat("0123456789abcdef", 1<<16))
	if err := os.Symlink("a.txt", filepath.Join(mine, "tree", "link")); err != nil {
		t.Fatal(err)
	}
	sync := func(from, to string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), rsync, "-az", "--delete", "--itemize-changes", "-e", "ssh -F "+h.config, "--rsync-path", rsync, from, to).CombinedOutput()
		if err != nil {
			t.Fatalf("rsync %s %s: %v %s", from, to, err, out)
		}
		return string(out)
	}
	sync(filepath.Join(mine, "tree"), "node:")
	write(t, filepath.Join(h.dir, "tree", "b.txt"), "b")
	if out := sync("node:tree/", filepath.Join(mine, "tree")); !strings.Contains(out, "b.txt") || strings.Contains(out, "a.txt") {
		t.Errorf("rsync back took %q, want b.txt alone", out)
	}
	if to, err := os.Readlink(filepath.Join(h.dir, "tree", "link")); to != "a.txt" || err != nil {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}
