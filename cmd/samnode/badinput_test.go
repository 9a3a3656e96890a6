package main

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	n := newNode(t, "--agents", t.TempDir())
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
