package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/chat"
)

// dockerSocket is an engine's socket that a test takes away and brings back.
type dockerSocket struct {
	t    *testing.T
	path string
	mu   sync.Mutex
	l    net.Listener
}

func (d *dockerSocket) up() {
	l, err := net.Listen("unix", d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	d.l = l
	d.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				e, err := net.Dial("unix", "/var/run/docker.sock")
				if err != nil {
					return
				}
				defer e.Close()
				go func() {
					_, _ = io.Copy(e, c) // either side hangs up
					_ = e.(*net.UnixConn).CloseWrite()
				}()
				_, _ = io.Copy(c, e)
			}()
		}
	}()
}

func (d *dockerSocket) down() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.l != nil {
		_ = d.l.Close() // it may be down already
		d.l = nil
	}
}

// TestDockerNotRunning: a node starts without an engine, says what is missing
// at the step that needs it, and goes on when it is there, without a restart.
func TestDockerNotRunning(t *testing.T) {
	needDocker(t)
	t.Parallel()
	d := &dockerSocket{t: t, path: filepath.Join(t.TempDir(), "d.sock")}
	t.Cleanup(d.down)
	n := startNode(t, "", []string{"DOCKER_HOST=unix://" + d.path})
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	v := n.runFailed("app", sh(hello))
	failedAt(t, v, chat.StepImage, true, "Docker engine does not answer", "systemctl start docker")
	d.up()
	well(t, n.retry(v.ID), repo)
}

// TestFullDisk: a state directory without space is an error to the caller. The
// node loses nothing of what it acknowledged, and goes on with space.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts a file system; -short")
	}
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "s")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("needs the right to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	n := startNode(t, filepath.Join(dir, "state"), nil)
	must[chat.Project](n, "project", "add", "app", "--repo", "/nowhere.git")
	filler := filepath.Join(dir, "filler")
	fill(t, filler, 4<<20)
	var acknowledged []string
	text := strings.Repeat("all work and no play ", 3000)
	refused := ""
	for range 400 {
		id := chat.NewID()
		code, body := n.post("/api/v1/tasks", fmt.Sprintf(`{"id":%q,"project":"app","text":%q,"draft":true}`, id, text))
		if code == http.StatusCreated {
			acknowledged = append(acknowledged, id)
			continue
		}
		if code != http.StatusInsufficientStorage {
			t.Errorf("POST tasks on a full disk = %d", code)
		}
		refused = body
		break
	}
	if len(acknowledged) == 0 || !strings.Contains(refused, "the disk of this node is full: free some space") {
		t.Errorf("after %d tasks: %q", len(acknowledged), refused)
	}
	n.ended()
	if !strings.Contains(n.log.String(), "the log failed, this node stops: the disk of this node is full") {
		t.Error("the node does not say why it stopped")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	n.start()
	out, errs, code := n.cli("task", "list", "--json")
	if code != exitDone {
		t.Fatalf("task list exits with %d: %s", code, errs)
	}
	for _, id := range acknowledged {
		if !strings.Contains(out, id) {
			t.Errorf("task %s was acknowledged and is lost", id)
		}
	}
	must[taskView](n, "task", "run", "--project", "app", "again")
}

// ended waits for a process that stops by itself.
func (n *testNode) ended() {
	n.t.Helper()
	watchdog := time.AfterFunc(time.Minute, func() { _ = n.cmd.Process.Kill() }) // it may have ended meanwhile
	if err := n.cmd.Wait(); err == nil {
		n.t.Error("the node ended as if nothing were wrong")
	}
	if !watchdog.Stop() {
		n.t.Error("the node did not stop by itself")
	}
	n.cmd = nil
}

// fill leaves so many bytes of a file system free.
func fill(t *testing.T, file string, left int64) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(st.Size() - left); err != nil {
		t.Fatal(err)
	}
}
