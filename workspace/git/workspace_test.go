package git

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/workspace/git/gittest"
)

func TestPrepareBorrowsFromTheMirror(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.Dir = filepath.Join(t.TempDir(), "widget") // another disk
	s.push("main", "big", map[string]string{"big": noise(1 << 20)})
	s.fetch()
	if p := s.prepare(); p.State != "fresh" || len(p.Notes) != 0 {
		t.Errorf("prepare = %+v", p)
	}
	packs, _ := filepath.Glob(filepath.Join(s.Dir, ".git/objects/pack/*.pack"))
	if len(packs) != 0 {
		t.Errorf("the workspace has packs of its own: %v", packs)
	}
	if got := s.must("branch", "--show-current"); got != task {
		t.Errorf("on branch %q", got)
	}
	if got := s.must("status", "--porcelain"); got != "" {
		t.Errorf("status: %s", got)
	}
	if got := s.must("log", "-1", "--format=%an", "origin/HEAD"); got != "Ana" {
		t.Errorf("origin/HEAD: %s", got)
	}
	s.commit("x", "1")
	if got := s.must("log", "-1", "--format=%an <%ae>"); got != "Agent <agent@example.com>" {
		t.Errorf("author = %s", got)
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	start := s.must("rev-parse", "HEAD")
	if v := s.save(); v.Head != start || v.Committed || !v.Pushed {
		t.Errorf("nothing to save: %+v", v)
	}
	// Hooks of the repository must not run, nor keep work from being saved.
	hook := filepath.Join(s.Dir, ".git/hooks/pre-commit")
	if err := os.MkdirAll(filepath.Dir(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ntouch ran\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("new file with spaces", "1")
	s.write("src/a.txt", "changed\n")
	if err := os.Remove(filepath.Join(s.Dir, "README.md")); err != nil {
		t.Fatal(err)
	}
	v := s.save()
	if !v.Committed || !v.Pushed || v.Head != s.tip(task) || v.Reason != "" || len(v.Notes) != 0 {
		t.Errorf("save = %+v, the remote has %s", v, s.tip(task))
	}
	if diff := cmp.Diff("README.md\nnew file with spaces\nsrc/a.txt", gittest.Git(t, s.dir, "diff", "--name-only", start, task)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "ran")); err == nil {
		t.Error("the hook ran")
	}
	if again := s.save(); again.Head != v.Head || again.Committed || !again.Pushed {
		t.Errorf("again: %+v", again)
	}
}

func TestSaveSaysWhyThePushWasRefused(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.remote.Reject("acme/widget", "no pushes on Fridays")
	s.write("a", "1")
	v := s.save()
	if !v.Committed || v.Pushed || !strings.Contains(v.Reason, "no pushes on Fridays") {
		t.Errorf("save = %+v", v)
	}
	s.remote.Reject("acme/widget", "")
	if again := s.save(); again.Committed || !again.Pushed || again.Head != v.Head || s.tip(task) != v.Head {
		t.Errorf("again = %+v", again)
	}
}

func TestSaveWhereverTheAgentIs(t *testing.T) {
	t.Parallel()
	t.Run("on a branch of its own", func(t *testing.T) {
		t.Parallel()
		s := seeded(t, nil)
		s.must("checkout", "-q", "-b", "my-idea")
		s.commit("idea", "1")
		s.write("more", "1")
		if v := s.save(); !v.Pushed || v.Head != s.must("rev-parse", "my-idea") || s.tip(task) != v.Head {
			t.Errorf("save = %+v", v)
		}
	})
	t.Run("on no branch", func(t *testing.T) {
		t.Parallel()
		s := seeded(t, nil)
		s.must("checkout", "-q", "--detach")
		s.write("idea", "1")
		if v := s.save(); !v.Pushed || !v.Committed || s.tip(task) != v.Head {
			t.Errorf("save = %+v", v)
		}
	})
	t.Run("on a branch that left the task's", func(t *testing.T) {
		t.Parallel()
		s := seeded(t, nil)
		mine := s.commit("mine", "1")
		s.must("push", "-q", "origin", "HEAD")
		s.must("checkout", "-q", "-b", "elsewhere", "origin/main")
		s.write("other", "1")
		v := s.save()
		if s.tip(task) != mine || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "elsewhere") {
			t.Errorf("save = %+v", v)
		}
		if s.must("status", "--porcelain") != "" {
			t.Error("the work is not committed")
		}
	})
	t.Run("in the middle of a merge", func(t *testing.T) {
		t.Parallel()
		s := seeded(t, nil)
		s.must("checkout", "-q", "-b", "other")
		s.commit("src/a.txt", "other\n")
		s.must("checkout", "-q", task)
		s.commit("src/a.txt", "mine\n")
		if out, err := s.git("merge", "other"); err == nil {
			t.Fatalf("no conflict: %s", out)
		}
		before := s.must("status", "--porcelain")
		v := s.save()
		if len(v.Notes) != 1 || v.Committed || s.must("status", "--porcelain") != before {
			t.Errorf("save = %+v, status %s", v, s.must("status", "--porcelain"))
		}
		if got := s.must("show", "refs/samnode/wip:src/a.txt"); !strings.Contains(got, "<<<<<<<") {
			t.Errorf("the copy has %q", got)
		}
		if p := s.prepare(); p.State != "busy" || len(p.Notes) != 1 {
			t.Errorf("prepare = %+v", p)
		}
	})
}

func TestOldDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		local func(s *space) // what the disk has that the remote does not
		far   map[string]string
		state string
		notes int
	}{
		{"as the remote", nil, nil, "same", 0},
		{"ahead", func(s *space) { s.commit("mine", "1") }, nil, "ahead", 0},
		{"ahead, uncommitted", func(s *space) { s.write("mine", "1") }, nil, "ahead", 1},
		{"behind", nil, map[string]string{"theirs": "1"}, "behind", 1},
		{"both, other files", func(s *space) { s.commit("mine", "1") }, map[string]string{"theirs": "1"}, "merged", 1},
		{"both, uncommitted", func(s *space) { s.write("mine", "1") }, map[string]string{"theirs": "1"}, "merged", 2},
		{"conflict", func(s *space) { s.commit("src/a.txt", "mine\n") }, map[string]string{"src/a.txt": "theirs\n"}, "kept", 1},
		{"conflict, uncommitted", func(s *space) { s.write("src/a.txt", "mine\n") }, map[string]string{"src/a.txt": "theirs\n"}, "kept", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := seeded(t, nil)
			s.commit("begun", "1")
			s.save()
			if c.local != nil {
				c.local(s)
			}
			theirs := s.tip(task)
			if c.far != nil {
				theirs = s.push(task, "from another machine", c.far)
			}
			// A container that was killed.
			if err := os.WriteFile(filepath.Join(s.Dir, ".git/index.lock"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			p := s.prepare()
			if p.State != c.state || len(p.Notes) != c.notes {
				t.Errorf("prepare = %+v, want %s with %d notes", p, c.state, c.notes)
			}
			if s.must("status", "--porcelain") != "" {
				t.Errorf("status: %s", s.must("status", "--porcelain"))
			}
			// The remote's commits are never lost, and a save goes through.
			if _, err := s.git("merge-base", "--is-ancestor", theirs, "HEAD"); err != nil {
				t.Error("the branch lacks the remote's newest commit")
			}
			if v := s.save(); !v.Pushed || s.tip(task) != s.must("rev-parse", "HEAD") {
				t.Errorf("save = %+v", v)
			}
			if c.local == nil {
				return
			}
			// Nor is the disk's work, wherever it is now.
			if c.state != "kept" && s.must("show", "HEAD:mine") != "1" {
				t.Error("the disk's work is gone")
			}
			if c.state == "kept" {
				if got := s.must("show", strings.Fields(s.must("for-each-ref", "--format=%(refname)", "refs/heads/samnode-kept-*"))[0]+":src/a.txt"); got != "mine" {
					t.Errorf("the kept branch has %q", got)
				}
			}
		})
	}
}

func TestOldDiskOnAnotherBranch(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.commit("begun", "1")
	s.save()
	s.must("checkout", "-q", "main", "--")
	s.must("checkout", "-q", "--detach")
	left := s.commit("nowhere", "1")
	p := s.prepare()
	if p.State != "same" || s.must("branch", "--show-current") != task || len(p.Notes) != 1 {
		t.Errorf("prepare = %+v", p)
	}
	if out := s.must("branch", "--contains", left); !strings.Contains(out, "samnode-kept-") {
		t.Errorf("the commit of no branch is on %q", out)
	}
}

func TestPrepareCutAnywhere(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	files := map[string]string{}
	step := 8 * time.Millisecond // between the moments of two cuts
	if testing.Short() {
		step *= 4
	}
	for i := range 300 {
		files[filepath.Join("many", strings.Repeat("x", i%7+1), noise(i + 20)[:i%15+5])] = noise(2000)
	}
	s.push("main", "many", files)
	s.fetch()
	s.Dir = filepath.Join(t.TempDir(), "widget")
	// Killed after growing times, until one gets to its end by itself.
	var last string
	for i := 0; ; i++ {
		if i == 100 {
			t.Fatalf("never got to the end, the last said:\n%s", last)
		}
		prepare := s.Prepare()
		ctx, cancel := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, prepare.Argv[0], prepare.Argv[1:]...)
		cmd.Env = append(workspaceEnv(s.Workspace), prepare.Env...)
		timer := time.AfterFunc(time.Duration(i)*step+time.Duration(max(0, i-60))*time.Second/2, cancel)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		out, err := cmd.Output()
		timer.Stop()
		cancel()
		if err == nil {
			if p, err := ParsePrepared(string(out)); err != nil || p.Head == "" {
				t.Fatalf("prepare = %+v, %v", p, err)
			}
			break
		}
		last = string(out)
	}
	if got := s.must("status", "--porcelain"); got != "" {
		t.Errorf("status: %s", got)
	}
	if got := s.must("rev-parse", "HEAD"); got != s.tip("main") {
		t.Errorf("HEAD = %s", got)
	}
	s.must("fsck")
}

// What a container that was killed leaves behind does not stop the next one.
func TestPrepareClearsOldLocks(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.prepare()
	s.push("main", "newer", map[string]string{"newer": "1\n"})
	for _, name := range []string{"index", "HEAD", "config", "packed-refs", "refs/remotes/origin/main", "refs/remotes/origin/HEAD", "refs/heads/" + task} {
		s.write(".git/"+name+".lock", "")
	}
	s.prepare()
	if got := s.must("rev-parse", "refs/remotes/origin/main"); got != s.tip("main") {
		t.Errorf("origin/main = %s, want %s", got, s.tip("main"))
	}
}

func TestEmptyRepositoryGetsItsFirstCommit(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.fetch()
	s := k.open("", nil)
	if p := s.prepare(); p.State != "fresh" || p.Head != "" || len(p.Notes) != 1 {
		t.Errorf("prepare = %+v", p)
	}
	if v := s.save(); v.Head != "" || v.Committed || v.Pushed {
		t.Errorf("save of nothing = %+v", v)
	}
	s.write("README.md", "# New\n")
	if p := s.prepare(); p.State != "ahead" || p.Head == "" {
		t.Errorf("prepare on a disk with work = %+v", p)
	}
	v := s.save()
	if !v.Pushed || s.tip(task) != v.Head {
		t.Errorf("save = %+v", v)
	}
	if st, err := s.repo.Stat(t.Context(), "main", task); err != nil || st.Files != 1 {
		t.Errorf("Stat = %+v, %v", st, err)
	}
}

func TestPrepareSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.Dir, s.Base = filepath.Join(t.TempDir(), "x"), "never"
	if _, err := ParsePrepared(s.run(s.Prepare())); err == nil || !strings.Contains(err.Error(), "no branch never") {
		t.Errorf("no such base: %v", err)
	}
	s.Base = "main"
	s.setStale(os.ErrDeadlineExceeded)
	_, err := ParsePrepared(s.run(s.Prepare()))
	if err == nil || !strings.Contains(err.Error(), "fetching") {
		t.Errorf("a stale lease: %v", err)
	}
	if _, err := ParsePrepared("Killed\n"); err == nil {
		t.Error("a script that was killed counts as done")
	}
	if _, err := ParseSaved("samnode:head=abc\n"); err == nil {
		t.Error("a save that was killed counts as done")
	}
}

func TestEveryKindOfURLGoesThroughTheDoor(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	for _, u := range []string{"https://github.com/acme/widget.git", "https://github.com/acme/widget", "git@github.com:acme/widget.git", "ssh://git@example.com:22/acme/widget.git", "/srv/git/widget.git", "file:///srv/git/widget"} {
		w := s.Workspace
		w.URL, w.Dir = u, filepath.Join(t.TempDir(), "widget")
		s2 := &space{kit: s.kit, Workspace: w}
		if p := s2.prepare(); p.State != "fresh" {
			t.Errorf("%s: %+v", u, p)
		}
		if got := s2.must("config", "--local", "remote.origin.url"); got != u {
			t.Errorf("origin = %s, want %s", got, u)
		}
		if out, err := s2.git("ls-remote", strings.TrimSuffix(u, ".git")+"-secret.git"); err == nil {
			t.Errorf("another repository answered: %s", out)
		}
	}
}

func TestSubmodulesDoNotStopTheClone(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	dir := gittest.Clone(t, k.dir)
	if err := os.WriteFile(filepath.Join(dir, ".gitmodules"), []byte("[submodule \"lib\"]\n\tpath = lib\n\turl = http://127.0.0.1:1/lib.git\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, dir, "update-index", "--add", "--cacheinfo", "160000,1111111111111111111111111111111111111111,lib")
	gittest.Git(t, dir, "add", ".gitmodules")
	gittest.Git(t, dir, "commit", "-q", "-m", "a submodule")
	gittest.Git(t, dir, "push", "-q", "origin", "HEAD:main")
	k.fetch()
	s := k.open("", nil)
	if p := s.prepare(); p.State != "fresh" || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "submodules") {
		t.Errorf("prepare = %+v", p)
	}
}
