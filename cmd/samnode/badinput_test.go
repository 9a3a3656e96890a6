package main

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/git/gittest"
)

// failedAt fails the test unless a task failed at the step with a sentence
// that has all the parts and is one line.
func failedAt(t *testing.T, v taskView, step chat.StepName, retryable bool, parts ...string) {
	t.Helper()
	f := *v.Failure
	if f.Step != step || f.Retryable != retryable || strings.Contains(f.Reason, "\n") {
		t.Errorf("failed at %q, retryable %v: %q; want %q, %v and one line", f.Step, f.Retryable, f.Reason, step, retryable)
	}
	for _, p := range parts {
		if !strings.Contains(f.Reason+"\n"+f.Detail, p) {
			t.Errorf("reason %q with detail %q, want %q in it", f.Reason, f.Detail, p)
		}
	}
	for _, s := range v.Steps {
		if s.Name == step && s.State != chat.StepFailed {
			t.Errorf("step %s is %s, want it failed", step, s.State)
		}
	}
}

const hello = "echo hello > hello.txt"

// well fails the test unless a task is idle and its branch has hello.txt.
func well(t *testing.T, v taskView, repo string) {
	t.Helper()
	if v.State != chat.Idle || v.Failure != nil {
		t.Fatalf("after Retry the task is %s: %+v", v.State, v.Failure)
	}
	if got := gitIn(t, repo, "show", v.Branch+":hello.txt"); got != "hello" {
		t.Errorf("hello.txt on the branch = %q", got)
	}
}

// TestBadRemotes: what repositories and their hosts do wrong. Each is said at
// its step, and Retry goes on when the cause is gone.
func TestBadRemotes(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t, "--slots", "3")
	// One server each, for the faults are the server's.
	serve := func(t *testing.T, project, repo string, files map[string]string, more ...string) (*gittest.Server, *testNode) {
		n, s := n.in(t), gittest.Start(t)
		if repo != "" {
			s.Create(repo)
			if files != nil {
				gittest.Push(t, s.Path(repo), "main", "first", files)
			}
		}
		must[chat.Project](n, append([]string{"project", "add", project, "--repo", s.CloneURL("acme/app"), "--mode", "everything"}, more...)...)
		return s, n
	}
	readme := map[string]string{"README.md": "# app\n"}
	open := func(string, string, bool) error { return nil }

	t.Run("not found", func(t *testing.T) {
		t.Parallel()
		s, n := serve(t, "not-found", "", nil)
		s.Authorize = func(repo, _ string, _ bool) error {
			if _, err := os.Stat(s.Path(repo)); err != nil {
				return gittest.ErrHidden
			}
			return nil
		}
		v := n.runFailed("not-found", sh(hello))
		failedAt(t, v, chat.StepMirror, false, s.CloneURL("acme/app"), "was not found", "check the URL")
		s.Create("acme/app")
		gittest.Push(t, s.Path("acme/app"), "main", "first", readme)
		well(t, n.retry(v.ID), s.Path("acme/app"))
	})
	t.Run("no folder", func(t *testing.T) {
		t.Parallel()
		n := n.in(t)
		dir := filepath.Join(t.TempDir(), "nothing.git")
		must[chat.Project](n, "project", "add", "no-folder", "--repo", dir, "--mode", "everything")
		v := n.runFailed("no-folder", sh(hello))
		failedAt(t, v, chat.StepMirror, false, dir, "was not found")
		if err := os.Rename(localRepo(t, nil), dir); err != nil {
			t.Fatal(err)
		}
		well(t, n.retry(v.ID), dir)
	})
	t.Run("no access", func(t *testing.T) {
		t.Parallel()
		s, n := serve(t, "no-access", "acme/app", readme)
		v := n.runFailed("no-access", sh(hello))
		failedAt(t, v, chat.StepMirror, false, "refused the credentials", "GIT_PASSWORD")
		n.projectSecret("no-access", "GIT_PASSWORD", "wrong-token-of-ana")
		v = n.retry(v.ID)
		failedAt(t, v, chat.StepMirror, false, "refused the credentials", "GIT_PASSWORD")
		n.projectSecret("no-access", "GIT_PASSWORD", s.Grant("acme/app", time.Hour))
		v = n.retry(v.ID)
		well(t, v, s.Path("acme/app"))
		if all := fmt.Sprint(n.latest(v.ID)); strings.Contains(all, "wrong-token-of-ana") {
			t.Error("the chat has the token")
		}
	})
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		s, n := serve(t, "empty", "acme/app", nil)
		s.Authorize = open
		v := n.runIdle("empty", sh(hello))
		well(t, v, s.Path("acme/app"))
		said(t, notes(n.latest(v.ID)), "The repository is empty")
	})
	t.Run("branch missing", func(t *testing.T) {
		t.Parallel()
		s, n := serve(t, "no-branch", "acme/app", readme)
		s.Authorize = open
		v := n.runFailed("no-branch", sh(hello), "--base", "next")
		failedAt(t, v, chat.StepMirror, false, "next")
		gitIn(t, s.Path("acme/app"), "branch", "next", "main")
		well(t, n.retry(v.ID), s.Path("acme/app"))
	})
	t.Run("clone cut", func(t *testing.T) {
		t.Parallel()
		noise := make([]byte, 1<<20)
		_, _ = rand.Read(noise) // never fails
		s, n := serve(t, "cut", "acme/app", map[string]string{"noise.hex": hex.EncodeToString(noise)})
		s.Authorize = open
		s.CutAfter(200 << 10)
		v := n.runFailed("cut", sh(hello))
		failedAt(t, v, chat.StepMirror, true, "was cut", "tried again")
		well(t, n.retry(v.ID), s.Path("acme/app"))
	})
	t.Run("push rejected", func(t *testing.T) {
		t.Parallel()
		s, n := serve(t, "rejected", "acme/app", readme)
		s.Authorize = open
		s.Reject("acme/app", "policy: <b>no</b> pushes on Fridays")
		v := n.runIdle("rejected", sh(hello))
		all := notes(n.latest(v.ID))
		said(t, all, "The branch was not pushed", "no</b> pushes on Fridays", "The commits are kept; the next turn pushes them, too.")
		if v.Change.Pushed || gittest.Tip(t, s.Path("acme/app"), v.Branch) != "" {
			t.Errorf("change = %+v, want nothing pushed", v.Change)
		}
		s.Reject("acme/app", "")
		v = must[taskView](n, "task", "say", string(v.ID), "--wait", sh("echo more > more.txt"))
		well(t, v, s.Path("acme/app"))
		if got := gitIn(t, s.Path("acme/app"), "show", v.Branch+":more.txt"); got != "more" || !v.Change.Pushed || v.Change.Files != 2 {
			t.Errorf("after the second turn more.txt = %q, change = %+v", got, v.Change)
		}
	})
}

// projectSecret sets a secret of one project.
func (n *testNode) projectSecret(project, name, value string) {
	n.t.Helper()
	var out strings.Builder
	args := []string{"--api", n.url, "secret", "set", name, "--project", project}
	if code := execute(n.t.Context(), args, strings.NewReader(value), &out, &out); code != exitDone {
		n.t.Fatalf("secret set exits with %d: %s", code, out.String())
	}
}

// TestBadDevContainers: what a dev container does wrong is said at its step,
// with the tool's last lines.
func TestBadDevContainers(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t, "--slots", "3")
	const dockerfile = `{"build": {"dockerfile": "Dockerfile"}}`
	good := map[string]string{".devcontainer/devcontainer.json": `{"image": "` + defaultImage + `"}`}
	for name, c := range map[string]struct {
		files     map[string]string
		agent     string
		step      chat.StepName
		retryable bool
		parts     []string
	}{
		"not-json": {
			files: map[string]string{".devcontainer/devcontainer.json": "{\n\t\"image\": \"x\",\n\t\"name\" \"y\"\n}\n"},
			step:  chat.StepImage, parts: []string{".devcontainer/devcontainer.json", "line 3, column 9"},
		},
		"wrong-type": {
			files: map[string]string{".devcontainer/devcontainer.json": "{\n\t\"image\": 7\n}\n"},
			step:  chat.StepImage, parts: []string{"line 2", "image", "must be a string"},
		},
		"build-fails": {
			files: map[string]string{
				".devcontainer/devcontainer.json": dockerfile,
				".devcontainer/Dockerfile":        "FROM " + defaultImage + "\nRUN echo first; echo the needle; exit 3\n",
			},
			step: chat.StepImage, retryable: true, parts: []string{"Building .devcontainer/devcontainer.json failed", "the needle", "3"},
		},
		"hook-fails": {
			files: map[string]string{".devcontainer/devcontainer.json": `{"image": "` + defaultImage + `", "postCreateCommand": "echo hook says no; exit 9"}`},
			step:  chat.StepHooks, retryable: true, parts: []string{"postCreateCommand", "code 9", "hook says no"},
		},
		"no-git": {
			files: map[string]string{
				".devcontainer/devcontainer.json": dockerfile,
				".devcontainer/Dockerfile":        "FROM " + defaultImage + "\nUSER root\nRUN rm /usr/bin/git\nUSER 1000\n",
			},
			step: chat.StepClone, parts: []string{"the image has no git"}, retryable: true,
		},
		"no-glibc": {
			files: map[string]string{".devcontainer/devcontainer.json": `{"image": "` + bareImage(t) + `"}`},
			agent: "codex",
			step:  chat.StepImage, parts: []string{".devcontainer/devcontainer.json", "glibc", "Debian"}, retryable: false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := n.in(t)
			repo := localRepo(t, c.files)
			must[chat.Project](n, "project", "add", name, "--repo", repo, "--mode", "everything")
			var more []string
			if c.agent != "" {
				more = []string{"--agent", c.agent}
			}
			v := n.runFailed(name, sh(hello), more...)
			failedAt(t, v, c.step, c.retryable, c.parts...)
			if c.agent != "" {
				return
			}
			gittest.Push(t, repo, "main", "repaired", good)
			well(t, n.retry(v.ID), repo)
		})
	}
}

// bareImage is an image with one file: no glibc, no git, no shell.
func bareImage(t *testing.T) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := "samnode-test-bare:" + strings.ToLower(chat.NewID()[14:])
	c := exec.Command("docker", "import", "-", name)
	c.Stdin = &buf
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", name).Run() })
	return name
}

// TestBadAgents: an agent that nobody knows is refused, one that is not
// installed fails at its step with the command that brings it.
func TestBadAgents(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything")
	for _, args := range [][]string{
		{"task", "run", "--project", "app", "hello", "--agent"},
		{"project", "add", "other", "--repo", "/x.git", "--agent"},
	} {
		out, errs, code := n.cli(append(args, "<script>alert(1)</script>")...)
		if code != exitUsage || !strings.Contains(errs, "there are script, claude") {
			t.Errorf("an unknown agent: exits with %d: %s%s", code, out, errs)
		}
	}
	v := n.runFailed("app", "hello", "--agent", "codex")
	failedAt(t, v, chat.StepAgent, false, "samnode agents install codex")
}

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

// TestHostileText: text of every kind in every field is kept as text or
// refused with a sentence; the pages show none of it as markup.
func TestHostileText(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	hostile := []string{"<script>alert(1)</script>", "a\x00b", "a\nb", "a\u202egpj.exe", "--upload-pack=touch", strings.Repeat("x", 5000), "../../etc", "", "caf\u00e9 \U0001f600", "\xff\xfe"}
	for _, h := range hostile {
		for _, args := range [][]string{
			{"project", "add", "--repo", repo, "--", h},
			{"project", "add", "p" + strings.ToLower(chat.NewID()[16:]), "--repo=" + h},
			{"project", "add", "q" + strings.ToLower(chat.NewID()[16:]), "--repo=" + repo, "--branch=-" + h},
			{"task", "run", "--project=" + h, "hello"},
			{"task", "run", "--project=app", "--mode=x" + h, "hello"},
			{"task", "show", "--", "t" + h},
			{"task", "merge", "--method=" + h, "--", "t" + h},
		} {
			out, errs, code := n.cli(args...)
			switch {
			case code == exitDone && args[0] == "project" && strings.HasPrefix(args[2], "p"):
				// A path that may exist one day.
			case code != exitUsage && code != exitFailed:
				t.Errorf("samnode %.80q exits with %d: %.300s%.300s", args, code, out, errs)
			case errs == "" || len(errs) > 4000 || strings.ContainsAny(errs, "\x00\x1b\u202e"):
				t.Errorf("samnode %.80q says %.300q", args, errs)
			}
		}
	}
	for _, h := range []string{"ext::sh -c touch% /tmp/x", "http://u:secret@host/x.git", "file://host/x", "https://host/?q=1", "-oProxyCommand=x:y"} {
		_, errs, code := n.cli("project", "add", "bad", "--repo="+h)
		if code != exitUsage || !strings.Contains(errs, "cannot be used") || strings.Contains(errs, "secret@") {
			t.Errorf("repository %q: exits with %d: %s", h, code, errs)
		}
	}
	huge := strings.Repeat("y", 10<<20)
	if resp, body := n.post("/api/v1/tasks", `{"project":"app","text":"`+huge+`"}`); resp != http.StatusRequestEntityTooLarge || len(body) > 1000 {
		t.Errorf("10 MiB of text: %d %.300s", resp, body)
	}
	v := n.runIdle("app", "<script>alert('title')</script> \u202egpj \x1b[31m<img src=x onerror=alert(2)>\n\n```sh\n"+
		`printf '<script>alert(3)</script>\033[2J\377\376\n'`+"\n"+
		`echo x > '<img src=x onerror=alert(4)>.txt'; echo y > "$(printf 'new\nline')"; echo z > "$(printf 'bad\377utf8')"; echo w > "$(printf 'right\342\200\256left')"`+"\n```\n")
	if v.Change.Files != 4 || !v.Change.Pushed {
		t.Errorf("change = %+v, want four pushed files", v.Change)
	}
	for _, path := range []string{"/", "/p/app", "/t/" + string(v.ID), "/t/" + string(v.ID) + "/diff", "/t/" + string(v.ID) + "/files", "/search?q=" + url.QueryEscape("<script>")} {
		code, body := n.get(path)
		if code != http.StatusOK && code != http.StatusNotFound {
			t.Errorf("GET %s = %d", path, code)
		}
		for _, bad := range []string{"<script>alert", "<img src=x", "\x1b", "\u202e"} {
			if strings.Contains(body, bad) {
				t.Errorf("GET %s has %q as it is", path, bad)
			}
		}
	}
}

func (n *testNode) get(path string) (int, string) {
	n.t.Helper()
	resp, err := http.Get(n.url + path)
	if err != nil {
		n.t.Fatal(err)
	}
	return readAll(n.t, resp)
}

func (n *testNode) post(path, body string) (int, string) {
	n.t.Helper()
	resp, err := http.Post(n.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	return readAll(n.t, resp)
}

func readAll(t testing.TB, resp *http.Response) (int, string) {
	t.Helper()
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// TestSentTwice: a form or a call that arrives twice is one task, one message.
func TestSentTwice(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything")
	id := chat.NewID()
	body := fmt.Sprintf(`{"id":%q,"project":"app","text":%q}`, id, sh("echo once >> once.txt"))
	for range 3 {
		if code, out := n.post("/api/v1/tasks", body); code != http.StatusCreated {
			t.Fatalf("POST tasks = %d %s", code, out)
		}
	}
	task := chat.TaskID(id)
	n.until(task, "idle", func(v taskView) bool { return v.State == chat.Idle })
	msg := fmt.Sprintf(`{"id":%q,"text":%q}`, chat.NewID(), sh("echo twice >> once.txt"))
	for range 3 {
		if code, out := n.post("/api/v1/tasks/"+id+"/messages", msg); code >= 300 {
			t.Fatalf("POST messages = %d %s", code, out)
		}
	}
	v := n.until(task, "idle after two turns", func(v taskView) bool {
		return v.State == chat.Idle && v.Turn != nil && v.Turn.Number == 2 && len(v.Queue) == 0
	})
	p := must[chat.Project](n, "project", "show", "app")
	if got := gitIn(t, p.Repo, "show", v.Branch+":once.txt"); got != "once\ntwice" {
		t.Errorf("once.txt = %q", got)
	}
	users := 0
	for _, m := range n.latest(task) {
		if m.Kind == chat.KindUser {
			users++
		}
	}
	if list := must[[]taskView](n, "task", "list"); len(list) != 1 || users != 2 {
		t.Errorf("%d tasks, %d messages of the person; want 1 and 2", len(list), users)
	}
}

// TestPlainRemoteMerges: a branch is merged from the API in each of the three
// ways; what cannot be merged is refused with the names of the files; and a
// task goes on after its merge.
func TestPlainRemoteMerges(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, map[string]string{"README.md": "# app\n", "shared.txt": "one\n"})
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	tasks := map[string]taskView{}
	for _, method := range []string{"squash", "rebase", "merge", "conflict"} {
		text := sh("echo "+method+" > "+method+".txt", "git add .", "git commit -qm 'first of "+method+"'", "echo two >> "+method+".txt")
		if method == "conflict" {
			text = sh("echo theirs > shared.txt; echo 'a <b>' > 'odd name.txt'")
		}
		tasks[method] = must[taskView](n, "task", "run", "--project", "app", text)
	}
	for method, v := range tasks {
		tasks[method] = n.until(v.ID, "idle", func(v taskView) bool { return v.State == chat.Idle })
	}
	for method, parents := range map[string]int{"squash": 1, "rebase": 1, "merge": 2} {
		v := tasks[method]
		before := gitIn(t, repo, "rev-list", "--count", "main")
		code, body := n.post("/api/v1/tasks/"+string(v.ID)+"/merge", `{"method":"`+method+`"}`)
		if code != http.StatusOK {
			t.Fatalf("%s = %d %s", method, code, body)
		}
		if got := gitIn(t, repo, "show", "main:"+method+".txt"); got != method+"\ntwo" {
			t.Errorf("%s.txt on main = %q", method, got)
		}
		if got := len(strings.Fields(gitIn(t, repo, "rev-list", "--parents", "-1", "main"))) - 1; got != parents {
			t.Errorf("the tip after %s has %d parents, want %d", method, got, parents)
		}
		commits := map[string]string{"squash": "1", "rebase": "2", "merge": "3"}[method]
		if got := gitIn(t, repo, "rev-list", "--count", "main") + "-" + before; got != plus(before, commits)+"-"+before {
			t.Errorf("%s adds %s commits, want %s", method, got, commits)
		}
		v = must[taskView](n, "task", "show", string(v.ID))
		if v.PullRequest == nil || v.PullRequest.State != "merged" || v.Change.Merged == "" {
			t.Errorf("after %s: pull request %+v, change %+v", method, v.PullRequest, v.Change)
		}
		said(t, notes(n.latest(v.ID)), "Merged into main as", "("+method+")")
		if code, body := n.post("/api/v1/tasks/"+string(v.ID)+"/merge", `{}`); code != http.StatusConflict || !strings.Contains(body, "already") {
			t.Errorf("merging %s twice = %d %s", method, code, body)
		}
	}
	n.conflictThenGoOn(t, repo, tasks["conflict"], tasks["squash"])
	if code, body := n.post("/api/v1/tasks/"+string(tasks["merge"].ID)+"/merge", `{"method":"octopus"}`); code != http.StatusBadRequest || !strings.Contains(body, "octopus") {
		t.Errorf("an unknown method = %d %s", code, body)
	}
}

func plus(a, b string) string {
	var x, y int
	fmt.Sscan(a, &x)
	fmt.Sscan(b, &y)
	return fmt.Sprint(x + y)
}

// conflictThenGoOn: a conflict is refused and can be solved by the next turn;
// a merged task's next turn makes a change again.
func (n *testNode) conflictThenGoOn(t *testing.T, repo string, conflict, merged taskView) {
	t.Helper()
	gittest.Push(t, repo, "main", "meanwhile", map[string]string{"shared.txt": "ours\n"})
	for _, method := range []string{"merge", "squash", "rebase"} {
		code, body := n.post("/api/v1/tasks/"+string(conflict.ID)+"/merge", `{"method":"`+method+`"}`)
		if code != http.StatusConflict || !strings.Contains(body, "shared.txt") || strings.Contains(body, "odd name") {
			t.Errorf("%s of a conflict = %d %s, want the file's name", method, code, body)
		}
	}
	must[taskView](n, "task", "say", string(conflict.ID), "--wait", sh("git fetch -q origin", "git merge -q -X theirs -m 'Merge main' origin/main"))
	must[map[string]string](n, "task", "merge", string(conflict.ID))
	if got := gitIn(t, repo, "show", "main:odd name.txt"); got != "a <b>" {
		t.Errorf("after the conflict was solved: %q", got)
	}

	v := must[taskView](n, "task", "say", string(merged.ID), "--wait", sh("echo after > after.txt"))
	if v.State != chat.Idle || !v.Change.Pushed || v.Change.Files == 0 || v.Change.Merged != "" {
		t.Errorf("a turn after the merge: %s, change %+v", v.State, v.Change)
	}
	must[map[string]string](n, "task", "merge", string(merged.ID), "--method", "squash")
	if got := gitIn(t, repo, "show", "main:after.txt"); got != "after" {
		t.Errorf("after.txt on main = %q", got)
	}
}
