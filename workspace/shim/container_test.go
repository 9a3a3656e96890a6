package shim

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The real thing: PID 1 of a container without network, capabilities and a
// writable root, as uid 1000, killed and started again on the same volume.
func TestInitOfAContainer(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Docker; -short")
	}
	if out, err := exec.Command("docker", "version").CombinedOutput(); err != nil {
		t.Skipf("needs Docker: %v: %s", err, out)
	}
	b := newBox(t)
	b.start()
	t.Run("it is init, without rights, and its children are its own", func(t *testing.T) {
		out := b.exec(t, "sh", "-c", `id -u; cat /proc/1/comm; grep CapEff /proc/self/status; touch /x || echo read-only`)
		want := "1000\nshim.test\nCapEff:\t0000000000000000\nread-only\n"
		if out != want {
			t.Errorf("inside: %q, want %q", out, want)
		}
	})
	t.Run("orphans are reaped", func(t *testing.T) {
		b.exec(t, "sh", "-c", `for i in 1 2 3 4 5; do (sh -c 'sleep 0.05' &); done`)
		eventually(t, "no process but init is left", func() bool {
			return b.exec(t, "sh", "-c", `n=0; for d in /proc/[0-9]*; do n=$((n+1)); done; echo $n`) == "2\n"
		})
	})
	t.Run("a terminal has its size", func(t *testing.T) {
		term, err := b.OpenTerminal(t.Context(), TerminalSpec{ID: "t", Rows: 33, Cols: 99, Args: []string{"stty", "size"}})
		if err != nil {
			t.Fatal(err)
		}
		defer term.Close()
		shown, ended := watch(t, term)
		if err := <-ended; err != nil || !strings.Contains(shown(), "33 99") {
			t.Errorf("terminal shows %q, %v", shown(), err)
		}
	})
	t.Run("nobody inside may call it", func(t *testing.T) {
		out := b.exec(t, "/shim.test", "agent-process", "hello", "/run/samnode/shim.sock")
		if !strings.Contains(out, ErrRefused.Error()) && !strings.Contains(out, "inside the workspace") {
			t.Errorf("a call from inside got %q", out)
		}
		out = b.exec(t, "sh", "-c", "cat /proc/1/environ || echo closed")
		if !strings.Contains(out, "closed") {
			t.Errorf("init's environment is open inside: %q", out)
		}
	})
	t.Run("the forwarder reaches the host's socket", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(b.dir, "model.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := os.Chmod(filepath.Join(b.dir, "model.sock"), 0o777); err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				fmt.Fprintln(c, "from the host")
				c.Close()
			}
		}()
		if out := b.exec(t, "nc", "127.0.0.1", "7101"); out != "from the host\n" {
			t.Errorf("forwarded: %q", out)
		}
	})
	t.Run("memory that ran out is told", func(t *testing.T) {
		if _, err := b.Start(t.Context(), Spec{ID: "eat", Path: "/shim.test", Args: []string{"agent-process", "eat"}}); err != nil {
			t.Fatal(err)
		}
		n := notes(b.until(t, 1), EventExited)[0]
		if n.Signal != "killed" || !n.OOM {
			t.Errorf("exit note = %+v, want killed and oom", n)
		}
	})
	t.Run("killed and started again it goes on", func(t *testing.T) {
		before, err := b.Hello(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.docker("kill", b.name)
		b.docker("start", b.name)
		b.dial()
		if _, err := b.Start(t.Context(), Spec{ID: "echo", Path: "sh", Args: []string{"-c", `read -r l; echo "got $l"`}}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Send(t.Context(), "m", []byte("hello")); err != nil {
			t.Fatal(err)
		}
		recs := b.until(t, before.Last+1)
		checkDense(t, recs, before.Last+1)
		if got := of(recs, Out); len(got) != 1 || got[0] != "got hello" {
			t.Errorf("agent said %q", got)
		}
	})
	t.Run("docker stop ends it in order", func(t *testing.T) {
		if _, err := b.Start(t.Context(), Spec{ID: "last", Path: "sh", Args: []string{"-c", "cat >/dev/null; echo bye"}}); err != nil {
			t.Fatal(err)
		}
		b.docker("stop", b.name)
		if code := strings.TrimSpace(b.docker("inspect", "-f", "{{.State.ExitCode}}", b.name)); code != "0" {
			t.Errorf("exit code %s\n%s", code, b.docker("logs", b.name))
		}
	})
}

// box is a container on an image of busybox and this test.
type box struct {
	t         *testing.T
	name, dir string
	*Client
}

func newBox(t *testing.T) *box {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs a static busybox")
	}
	b := &box{t: t, name: "workspace-shim-" + strconv.FormatInt(time.Now().UnixNano(), 36), dir: shortTempDir(t)}
	if err := os.Chmod(b.dir, 0o777); err != nil { // the node makes it the workspace's own
		t.Fatal(err)
	}
	static := filepath.Join(t.TempDir(), "shim.test")
	build := exec.Command("go", "test", "-c", "-o", static, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	load := exec.Command("docker", "import", "-", b.name)
	load.Stdin = rootfs(t, static, busybox)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("importing: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		for _, args := range [][]string{{"rm", "-f", b.name}, {"volume", "rm", b.name}, {"rmi", b.name}} {
			if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
				t.Logf("docker %v: %s", args, out)
			}
		}
	})
	return b
}

func rootfs(t *testing.T, shim, busybox string) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, body []byte) {
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "etc", "proc", "dev", "sys", "tmp", "run", "run/samnode"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "workspaces/", Mode: 0o755, Uid: 1000, Gid: 1000}, nil)
	for name, from := range map[string]string{"shim.test": shim, "bin/busybox": busybox} {
		body, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}, body)
	}
	for _, name := range []string{"sh", "id", "cat", "grep", "touch", "sleep", "stty", "nc"} {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("agent:x:1000:1000::/workspaces:/bin/sh\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func (b *box) docker(args ...string) string {
	b.t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (b *box) start() {
	b.t.Helper()
	config, err := json.Marshal(Config{
		Socket: "/run/samnode/shim.sock", Journal: "/workspaces/",
		Forward: []Forward{{Listen: "127.0.0.1:7101", Socket: "/run/samnode/model.sock"}}, Home: "/workspaces", Grace: 2 * time.Second,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.docker("run", "-d", "--name", b.name, "--network", "none", "--user", "1000:1000", "--cap-drop", "ALL",
		"--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/tmp", "--memory", "64m", "--memory-swap", "64m",
		"--pids-limit", "100", "-v", b.dir+":/run/samnode", "-v", b.name+":/workspaces", "-e", "PATH=/bin",
		b.name, "/shim.test", "shim-process", string(config))
	b.dial()
}

func (b *box) dial() {
	b.t.Helper()
	eventually(b.t, "the shim in the container answers", func() bool {
		c, err := Dial(b.t.Context(), filepath.Join(b.dir, "shim.sock"))
		b.Client = c
		return err == nil
	})
}

func (b *box) exec(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := b.Exec(t.Context(), ExecSpec{Args: args, Stdout: &out}); err != nil {
		t.Fatalf("Exec(%q): %v", args, err)
	}
	return out.String()
}

// until reads records from seq from on until an agent's exit.
func (b *box) until(t *testing.T, from uint64) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []Record
	err := b.Records(ctx, from, func(batch []Record) error {
		for _, rec := range batch {
			all = append(all, rec)
			if exited(rec) {
				return errEnough
			}
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	return all
}
