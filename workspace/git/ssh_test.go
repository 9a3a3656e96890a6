package git

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// sshd starts OpenSSH's server on loopback for this user, and returns its port
// and the ssh command that may enter.
func sshd(t *testing.T) (port int, command string) {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("SKIPPED: sshd is not installed")
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "client"} {
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: no keys: %s", out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("SKIPPED: %v", err)
		}
	}
	config := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile %s/client.pub\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n", port, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-D", "-e", "-f", filepath.Join(dir, "config"))
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			return port, fmt.Sprintf("ssh -F none -i %s/client -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=%s/known", dir, dir)
		} else if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v %s", err, said.String())
		}
	}
}

func TestRealSSH(t *testing.T) {
	t.Parallel()
	port, command := sshd(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	k := newKit(t)
	k.push("main", "first", map[string]string{"a": "1\n"})
	k.repo = k.mirror(fmt.Sprintf("ssh://%s@127.0.0.1:%d%s", me.Username, port, k.dir))
	auth := func(context.Context) (Auth, error) { return Auth{SSHCommand: command}, nil }
	if err := k.repo.Fetch(t.Context(), auth, nil); err != nil {
		t.Fatalf("Fetch: %v\n%s", err, detail(err))
	}
	s := k.open("", func(a *Access) { a.Auth = auth })
	s.prepare()
	id := s.commit("b", "1")
	if v := s.save(); !v.Pushed || s.tip(task) != id {
		t.Errorf("save = %+v", v)
	}
	k.remote.Reject("acme/widget", "not over ssh")
	s.commit("b", "2")
	if v := s.save(); v.Pushed || !strings.Contains(v.Reason, "not over ssh") {
		t.Errorf("save = %+v", v)
	}

	// A key that the server does not know.
	stranger := filepath.Join(t.TempDir(), "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	wrong := "ssh -F none -i " + stranger + command[strings.Index(command, " -o IdentitiesOnly"):]
	err = k.repo.Fetch(t.Context(), func(context.Context) (Auth, error) { return Auth{SSHCommand: wrong}, nil }, nil)
	if !errors.Is(err, ErrAccess) {
		t.Errorf("Fetch with another key = %v\n%s", err, detail(err))
	}
	none := k.mirror(fmt.Sprintf("ssh://%s@127.0.0.1:%d%s", me.Username, port, filepath.Dir(k.dir)+"/nothing.git"))
	if err := none.Fetch(t.Context(), auth, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("Fetch of nothing = %v\n%s", err, detail(err))
	}
	if got := gittest.Tip(t, k.dir, "refs/heads/"+task); got != id {
		t.Errorf("the remote is at %s, want %s", got, id)
	}
}

func detail(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Out
	}
	return ""
}
