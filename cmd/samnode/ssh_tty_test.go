package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/workspace/shim"
)

// TestSSHOnTerminal: samnode ssh on a person's terminal gives it to the shell,
// follows its size, and gives it back. What makes the terminal is a shim.
func TestSSHOnTerminal(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	v := spaceTask(t, n)
	desk := newDesk(t, n)
	term, err := desk.OpenTerminal(t.Context(), shim.TerminalSpec{ID: "desk", Rows: 31, Cols: 97, Args: []string{"sh"}, Env: []string{"TERM=vt220", "PS1=desk$ "}})
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	s := &typed{t: t, in: term, out: &lockedBuffer{}}
	go func() {
		buf := make([]byte, 4096)
		for {
			k, err := term.Read(buf)
			s.out.Write(buf[:k]) // it cannot fail
			if err != nil {
				return
			}
		}
	}()
	s.say("stty -a >before; " + n.bin + " --api " + n.url + " ssh " + string(v.ID))
	s.say("stty size; echo $TERM; cat hello.txt")
	s.shows("31 97\r\nvt220\r\nhello")
	if err := term.Resize(40, 120); err != nil {
		t.Fatal(err)
	}
	m := &testMesh{t: t}
	m.await("the size to arrive", func() bool { s.say("stty size"); return strings.Contains(s.out.String(), "40 120") })
	s.say("exit 9")
	s.shows("logout\r\ndesk$ ")
	s.say("echo code=$?; stty -a | diff -I rows - before && echo sa''me")
	s.shows("code=9")
	s.shows("same")
}

// newDesk is a shim on this machine, outside any workspace.
func newDesk(t *testing.T, n *testNode) *shim.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "dk") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(n.bin, "shim", "--socket", filepath.Join(dir, "s"), "--journal", dir+"/", "--home", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	var c *shim.Client
	m := &testMesh{t: t}
	m.await("the shim", func() bool {
		c, err = shim.Dial(t.Context(), filepath.Join(dir, "s"))
		return err == nil
	})
	return c
}
