package sshd

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestExec(t *testing.T) {
	t.Parallel()
	h := open(t)
	for _, c := range []struct {
		name, stdin, line string
		out, errs         string
		code              int
	}{
		{"exit code", "", "exit 42", "", "", 42},
		{"both outputs", "", "echo out; echo err >&2", "out\n", "err\n", 0},
		{"end of input", "a\nb\n", "wc -l", "2\n", "", 0},
		{"a signal's end", "", "kill -TERM $$", "", "", 128 + 15},
		{"where it runs", "", "pwd; echo $INSIDE", h.dir + "\nyes\n", "", 0},
		{"no such program", "", "nosuchprogram", "", "sh: 1: nosuchprogram: not found\n", 127},
		{"quotes", "", `printf '%s|' 'a b' "c"`, "a b|c|", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, errs, code := h.run(c.stdin, "node", c.line)
			if out != c.out || errs != c.errs || code != c.code {
				t.Errorf("ssh node %q = %q, %q, %d; want %q, %q, %d", c.line, out, errs, code, c.out, c.errs, c.code)
			}
		})
	}
	t.Run("a script on the input of a shell", func(t *testing.T) {
		t.Parallel()
		if out, errs, code := h.run("echo $((6*7))\nexit 3\n", "-T", "node"); out != "42\n" || code != 3 {
			t.Errorf("it gave %q, %q, %d", out, errs, code)
		}
	})
	t.Run("megabytes both ways", func(t *testing.T) {
		t.Parallel()
		want := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB
		if out, errs, code := h.run(want, "node", "cat"); out != want || code != 0 {
			t.Errorf("%d bytes came back, want %d: %s, %d", len(out), len(want), errs, code)
		}
	})
	t.Run("environment", func(t *testing.T) {
		t.Parallel()
		cmd := h.client("ssh", "-o", "SendEnv=LC_TEST LD_PRELOAD GIT_AUTHOR_NAME", "node", `echo "$LC_TEST $GIT_AUTHOR_NAME$LD_PRELOAD."`)
		cmd.Env = append(os.Environ(), "LC_TEST=ü", "GIT_AUTHOR_NAME=ana", "LD_PRELOAD=")
		if out, errs, code := h.finish(cmd, ""); out != "ü ana.\n" || code != 0 {
			t.Errorf("it gave %q, %q, %d", out, errs, code)
		}
		cmd = h.client("ssh", "-o", "SetEnv=PATH=/nowhere", "node", "echo $PATH")
		if out, _, _ := h.finish(cmd, ""); strings.TrimSpace(out) == "/nowhere" {
			t.Error("a client changed PATH")
		}
	})
}

// A client that is killed takes its command along, but not what was to live on.
func TestClientKilled(t *testing.T) {
	t.Parallel()
	h := open(t)
	out := &lockedBuffer{}
	cmd := h.client("ssh", "node", "mkfifo f; nohup sh -c 'echo $$ >f; exec sleep 600' >/dev/null 2>&1 & sleep 0.1; cat f; echo $$; exec sleep 600")
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	eventually(t, "both run", func() bool {
		pids = nil
		for _, f := range strings.Fields(out.String()) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return len(pids) == 2
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	eventually(t, "the command is gone", func() bool { return syscall.Kill(pids[1], 0) != nil })
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Errorf("what was started with nohup: %v", err)
	}
	eventually(t, "the visit is told", func() bool {
		used := h.told()
		return len(used) == 1 && strings.HasPrefix(used[0], "command: ")
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	h := open(t)
	if _, errs, code := h.run("", "nobody@node", "true"); code != 255 || !strings.Contains(errs, `samnode: there is no task "nobody"`) {
		t.Errorf("a task that is not there = %d: %s", code, errs)
	}
	for _, name := range []string{"a\x1b[2Jb", "a\nb", "", strings.Repeat("x", 5000), "\xff\x00"} { // what OpenSSH's own client does not send
		conn, err := net.Dial("tcp", "127.0.0.1:"+h.port)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Connect(t.Context(), conn, h.public, name)
		if !errors.Is(err, ErrNotIn) || !strings.HasPrefix(err.Error(), "there is no task ") || strings.ContainsAny(err.Error(), "\x1b\x00\n") || len(err.Error()) > 200 {
			t.Errorf("the name %.20q = %v", name, err)
		}
		if c != nil {
			t.Error("a client that was refused is in")
		}
	}
	h.throwOut()
	if _, errs, code := h.run("", "node", "true"); code != 255 || !strings.Contains(errs, "samnode: you are a viewer") {
		t.Errorf("one who may not any more = %d: %s", code, errs)
	}
	for _, args := range [][]string{{"-W", "127.0.0.1:9", "node"}, {"-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:9", "node"}} {
		if _, errs, code := h.run("", args...); code != 255 || errs == "" {
			t.Errorf("ssh %v = %d: %s", args, code, errs)
		}
	}
}

// The machine of a workspace goes away in the middle of a command.
func TestWorkspaceGone(t *testing.T) {
	t.Parallel()
	h := open(t)
	out, errs := &lockedBuffer{}, &lockedBuffer{}
	cmd := h.client("ssh", "node", "echo up; sleep 600")
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command runs", func() bool { return out.String() == "up\n" })
	h.killShim()
	_ = cmd.Wait() // its code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 255 || !strings.Contains(errs.String(), "the workspace or its machine is gone") {
		t.Errorf("ssh = %d: %s", code, errs)
	}
	if _, errs, code := h.run("", "node", "true"); code != 255 || !strings.Contains(errs, "samnode: ") {
		t.Errorf("ssh without a workspace = %d: %s", code, errs)
	}
}

// An unknown host key is the client's business, and a known one is checked.
func TestHostKey(t *testing.T) {
	t.Parallel()
	h := open(t)
	other, err := NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := PublicKey(other)
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(t.TempDir(), "known")
	write(t, known, "node "+public+"\n")
	if _, errs, code := h.run("", "-o", "UserKnownHostsFile="+known, "node", "true"); code != 255 || !strings.Contains(errs, "HOST IDENTIFICATION HAS CHANGED") {
		t.Errorf("ssh with another key = %d: %s", code, errs)
	}
	if _, err := PublicKey([]byte("nonsense")); err == nil {
		t.Error("nonsense has a public key")
	}
}

// One connection carries several sessions.
func TestControlMaster(t *testing.T) {
	t.Parallel()
	h := open(t)
	master := h.client("ssh", "-M", "-N", "node")
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the master is there", func() bool { _, _, code := h.run("", "-O", "check", "node"); return code == 0 })
	for i := range 5 {
		if out, errs, code := h.run("", "node", "echo $((2*"+strconv.Itoa(i)+"))"); out != strconv.Itoa(2*i)+"\n" || code != 0 {
			t.Errorf("session %d = %q, %q, %d", i, out, errs, code)
		}
	}
	if _, errs, code := h.run("", "-O", "exit", "node"); code != 0 {
		t.Errorf("ending the master: %d %s", code, errs)
	}
	_ = master.Wait() // it was told to end
	eventually(t, "five commands are told", func() bool {
		return len(slices.DeleteFunc(h.told(), func(u string) bool { return !strings.HasPrefix(u, "command: ") })) == 5
	})
}

func TestGit(t *testing.T) {
	t.Parallel()
	h := open(t)
	git := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=Ana", "-c", "user.email=ana@example.com", "-c", "protocol.version=2"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_SSH_COMMAND=ssh -F "+h.config)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	git(h.dir, "init", "-q", "-b", "main", "repo")
	write(t, filepath.Join(h.dir, "repo", "a.txt"), "hello\n")
	git(filepath.Join(h.dir, "repo"), "add", ".")
	git(filepath.Join(h.dir, "repo"), "commit", "-qm", "first")
	mine := filepath.Join(t.TempDir(), "mine")
	git(h.dir, "clone", "-q", "ssh://node"+h.dir+"/repo", mine)
	write(t, filepath.Join(mine, "b.txt"), "more\n")
	git(mine, "add", ".")
	git(mine, "commit", "-qm", "second")
	git(mine, "push", "-q", "origin", "HEAD:refs/heads/other")
	if got := git(filepath.Join(h.dir, "repo"), "log", "--format=%s", "other"); got != "second\nfirst\n" {
		t.Errorf("the log in the workspace is %q", got)
	}
}
