package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sshAgent starts an agent with one key and returns its socket and the key's
// file.
func sshAgent(t *testing.T) (socket, key string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ag") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, key = filepath.Join(dir, "s"), filepath.Join(dir, "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anas-key", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Kill()
		_ = agent.Wait() // says that it was killed
	})
	eventually(t, "the agent has the key", func() bool {
		add := exec.CommandContext(t.Context(), "ssh-add", "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		return add.Run() == nil
	})
	return socket, key
}

// TestAgentForwarding: -A leads into a workspace of a project that allows it,
// and into no other.
func TestAgentForwarding(t *testing.T) {
	h := open(t)
	socket, _ := sshAgent(t)
	list := func() (string, int) {
		cmd := h.client("ssh", "-A", "node", `ssh-add -l; echo "at $SSH_AUTH_SOCK"`)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		out, errs, code := h.finish(cmd, "")
		return out + errs, code
	}
	if out, _ := list(); strings.Contains(out, "anas-key") || !strings.Contains(out, "at \n") {
		t.Errorf("without the project's leave: %q", out)
	}
	h.agent.Store(true)
	for range 2 { // the path is free again some time after the first
		eventually(t, "the agent is in there, where shells that stayed look for it", func() bool {
			out, code := list()
			if code != 0 || !strings.Contains(out, "anas-key") {
				t.Errorf("with it: %d, %q", code, out)
			}
			return t.Failed() || strings.Contains(out, "at /tmp/ssh-ana-agent\n")
		})
	}
}

// TestAnyKey: a client that cannot come without a key comes with any, and one
// that is refused is told so once.
func TestAnyKey(t *testing.T) {
	h := open(t)
	_, key := sshAgent(t)
	with := []string{"-o", "PreferredAuthentications=publickey", "-o", "IdentitiesOnly=yes", "-i", key}
	out, errs, code := h.run("", append(with, "node", "echo in")...)
	if code != 0 || out != "in\n" {
		t.Errorf("with a key: %d, %q, %q", code, out, errs)
	}
	_, errs, code = h.run("", append(with, "-l", "nowhere", "node", "true")...)
	if code != 255 || strings.Count(errs, "there is no task") != 1 {
		t.Errorf("to nowhere: %d, %q", code, errs)
	}
	_, errs, code = h.run("", "-l", "nowhere", "-o", "IdentitiesOnly=yes", "-i", key, "node", "true") // none, then the key
	if code != 255 || strings.Count(errs, "there is no task") != 1 || strings.Contains(errs, "password") {
		t.Errorf("with none, then a key: %d, %q", code, errs)
	}
}
