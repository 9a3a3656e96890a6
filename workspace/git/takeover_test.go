package git

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/workspace/git/gittest"
)

func (s *space) keep(known string) Saved {
	s.t.Helper()
	v, err := ParseSaved(s.run(s.Keep("Work in progress", known)))
	if err != nil {
		s.t.Fatalf("keeping: %v", err)
	}
	return v
}

func TestKeepSaysWhatTheBranchLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		do    func(t *testing.T, s *space)
		files int
		made  bool // a commit
	}{
		{"nothing was done", func(*testing.T, *space) {}, 0, false},
		{"uncommitted", func(_ *testing.T, s *space) { s.write("a", "1"); s.write("dir/b", "1") }, 2, true},
		{"committed", func(_ *testing.T, s *space) { s.commit("a", "1") }, 1, false},
		{"both", func(_ *testing.T, s *space) { s.commit("a", "1"); s.write("a", "2"); s.write("b", "1") }, 2, true},
		{"pushed", func(_ *testing.T, s *space) { s.write("a", "1"); s.save() }, 0, false},
		{"pushed and more", func(_ *testing.T, s *space) { s.write("a", "1"); s.save(); s.write("b", "1") }, 1, true},
		{"pushed, and others went on", func(_ *testing.T, s *space) {
			s.write("a", "1")
			s.save()
			s.push(task, "from another node", map[string]string{"theirs": "1"})
			s.fetch()
		}, 0, false},
		{"more, and others went on", func(_ *testing.T, s *space) {
			s.write("a", "1")
			s.save()
			s.push(task, "from another node", map[string]string{"theirs": "1"})
			s.fetch()
			s.write("b", "1")
		}, 1, true},
		{"on a branch of the agent's own", func(_ *testing.T, s *space) {
			s.commit("mine", "1")
			s.save()
			s.must("checkout", "-q", "-b", "elsewhere", "origin/main")
			s.write("other", "1")
		}, 1, true},
		{"the branch was left with work on it", func(_ *testing.T, s *space) {
			s.commit("mine", "1")
			s.must("checkout", "-q", "--detach", "origin/main")
		}, 1, false},
		{"in the middle of a merge", func(t *testing.T, s *space) {
			s.must("checkout", "-q", "-b", "other")
			s.commit("src/a.txt", "other\n")
			s.must("checkout", "-q", task)
			s.commit("src/a.txt", "mine\n")
			if out, err := s.git("merge", "other"); err == nil {
				t.Fatalf("no conflict: %s", out)
			}
		}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := seeded(t, nil)
			c.do(t, s)
			before := s.tip(task)
			known, err := s.repo.Tip(t.Context(), task)
			if err != nil && !errors.Is(err, ErrNoBranch) {
				t.Fatal(err)
			}
			v := s.keep(known)
			if v.Files != c.files || v.Committed != c.made || v.Pushed {
				t.Errorf("keep = %+v, want %d files, committed %v", v, c.files, c.made)
			}
			if got := s.must("rev-parse", v.Work); got != v.Work {
				t.Errorf("the work is %q", v.Work)
			}
			if again := s.keep(known); again.Files != c.files || again.Committed {
				t.Errorf("again: %+v", again)
			}
			if s.tip(task) != before {
				t.Error("it was pushed")
			}
		})
	}
	t.Run("in an empty repository", func(t *testing.T) {
		t.Parallel()
		k := newKit(t)
		k.fetch()
		s := k.open("", nil)
		s.prepare()
		if v := s.keep(""); v.Files != 0 || v.Work != "" {
			t.Errorf("keep of nothing = %+v", v)
		}
		s.write("first", "1")
		if v := s.keep(""); v.Files != 1 || v.Work == "" || !v.Committed {
			t.Errorf("keep = %+v", v)
		}
	})
}

func TestAsideDisturbsNobody(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.commit("done", "1")
	s.save()
	s.write("staged", "1")
	s.must("add", "staged")
	s.write("src/a.txt", "changed\n")
	s.write("new", "1")
	look := func() string {
		return s.must("status", "--porcelain") + "\n" + s.must("rev-parse", "HEAD") + s.must("symbolic-ref", "HEAD") + s.must("for-each-ref", "refs/heads", "refs/remotes")
	}
	before := look()
	aside := func() Saved {
		t.Helper()
		v, err := ParseSaved(s.run(s.Aside("cut off")))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := aside()
	if v.Files != 3 || !v.Committed || v.Pushed || len(v.Notes) != 0 || v.Work != s.must("rev-parse", "refs/samnode/wip") {
		t.Errorf("aside = %+v", v)
	}
	if d := cmp.Diff(before, look()); d != "" {
		t.Errorf("the working copy changed (-before +after):\n%s", d)
	}
	if got := s.must("show", "--format=", "--name-only", v.Work); got != "new\nsrc/a.txt\nstaged" {
		t.Errorf("the commit has %q", got)
	}
	s.must("add", "-A")
	s.must("commit", "-q", "-m", "the agent's own")
	if v := aside(); v.Files != 3 || v.Committed || v.Work != s.must("rev-parse", "HEAD") {
		t.Errorf("aside of what is committed = %+v", v)
	}
	t.Run("before the first commit", func(t *testing.T) {
		k := newKit(t)
		k.fetch()
		s := k.open("", nil)
		s.prepare()
		s.write("first", "1")
		v, err := ParseSaved(s.run(s.Aside("cut off")))
		if err != nil || v.Files != 1 || !v.Committed || s.must("status", "--porcelain") != "?? first" {
			t.Errorf("aside = %+v, %v", v, err)
		}
	})
}

// other is another machine: a mirror of its own, and no disk of the task.
func (k *kit) other() *kit {
	return &kit{t: k.t, remote: k.remote, dir: k.dir, token: k.token, repo: k.mirror(k.remote.CloneURL("acme/widget"))}
}

// A task's node dies after the push of turn 1 and leaves work in progress on
// its disk. Another node goes on from the remote; when the first has the task
// again, it overwrites nothing, and loses nothing.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		wip   map[string]string // of node a when it died
		keeps bool              // it could commit before
		far   map[string]string // what b did
		state string
	}{
		{"nothing in progress", nil, false, map[string]string{"b": "1"}, "behind"},
		{"uncommitted", map[string]string{"wip": "1"}, false, map[string]string{"b": "1"}, "merged"},
		{"committed", map[string]string{"wip": "1"}, true, map[string]string{"b": "1"}, "merged"},
		{"the same file, uncommitted", map[string]string{"src/a.txt": "a's\n"}, false, map[string]string{"src/a.txt": "b's\n"}, "kept"},
		{"the same file, committed", map[string]string{"src/a.txt": "a's\n"}, true, map[string]string{"src/a.txt": "b's\n"}, "kept"},
		{"the same change", map[string]string{"src/a.txt": "both\n"}, true, map[string]string{"src/a.txt": "both\n"}, "merged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := seeded(t, func(a *Access) { a.Rewrite = true })
			a.write("turn1", "1")
			first := a.save()
			for name, content := range c.wip {
				a.write(name, content)
			}
			a.setStale(errors.New("the lease of this workspace ended"))
			if c.keeps {
				if v := a.keep(first.Head); v.Files != len(c.wip) {
					t.Errorf("keep = %+v", v)
				}
			}
			if _, err := a.git("push", "--force", "origin", "HEAD:"+task); err == nil {
				t.Error("a lease that ended pushes")
			}

			time.Sleep(time.Second) // two commits of one change in one second are one commit

			far := a.other()
			far.fetch()
			b := far.open("", nil)
			if p := b.prepare(); p.State != "fresh" || p.Head != first.Head {
				t.Fatalf("the other node begins at %+v, want %s", p, first.Head)
			}
			for name, content := range c.far {
				b.write(name, content)
			}
			second := b.save()
			if !second.Pushed || a.tip(task) != second.Head {
				t.Fatalf("the other node pushed %+v", second)
			}

			a.setStale(nil)
			a.fetch()
			p := a.prepare()
			if p.State != c.state || len(p.Notes) == 0 {
				t.Errorf("the first node goes on with %+v, want %s, and said", p, c.state)
			}
			if _, err := a.git("merge-base", "--is-ancestor", second.Head, "HEAD"); err != nil {
				t.Error("it goes on without the other node's commits")
			}
			if v := a.save(); !v.Pushed {
				t.Errorf("save = %+v", v)
			}
			if got := gittest.Git(t, a.dir, "merge-base", second.Head, task); got != second.Head {
				t.Error("the other node's commits were overwritten")
			}
			for name, content := range c.wip {
				from := "HEAD"
				if c.state == "kept" {
					from = a.must("for-each-ref", "--format=%(refname)", "refs/heads/samnode-kept-*")
				}
				if got := a.must("show", from+":"+name); got != strings.TrimSpace(content) {
					t.Errorf("%s of the first node's disk is %q", name, got)
				}
			}
		})
	}
}

// Commits that the remote did not take wait in one machine's mirror. When the
// branch goes on elsewhere they are not its newest any more.
func TestWaitingCommitsOfAnotherTime(t *testing.T) {
	t.Parallel()
	a := seeded(t, func(a *Access) { a.Rewrite = true })
	a.write("turn1", "1")
	a.save()
	a.remote.Reject("acme/widget", "not now")
	a.write("turn2", "1")
	waits := a.save()
	if head, pushed, err := a.repo.Head(t.Context(), task); head != waits.Head || pushed || err != nil {
		t.Fatalf("Head = %s, %v, %v, want what waits", head, pushed, err)
	}
	a.remote.Reject("acme/widget", "")
	theirs := a.push(task, "from another node", map[string]string{"theirs": "1"})
	a.fetch()
	if head, pushed, err := a.repo.Head(t.Context(), task); head != theirs || !pushed || err != nil {
		t.Errorf("Head = %s, %v, %v, want the remote's %s", head, pushed, err, theirs)
	}
	if err := a.repo.Push(t.Context(), a.auth, task); err != nil || a.tip(task) != theirs {
		t.Errorf("Push = %v, the remote has %s", err, a.tip(task))
	}
	if got := gittest.Git(t, a.repo.Path(), "rev-parse", kept+task+"/"+short(waits.Head)); got != waits.Head {
		t.Errorf("what waited is at %q", got)
	}
	if id, err := a.repo.lookup(t.Context(), unpushed+task); id != "" || err != nil {
		t.Errorf("it still waits: %q, %v", id, err)
	}
}

// A rewrite that the remote did not take is the branch's newest, as long as
// the remote is where it was.
func TestRewriteThatWaits(t *testing.T) {
	t.Parallel()
	s := seeded(t, func(a *Access) { a.Rewrite = true })
	s.commit("src/a.txt", "b\n")
	s.must("push", "-q", "origin", "HEAD")
	s.must("commit", "-q", "--amend", "-m", "better words")
	s.remote.Reject("acme/widget", "not now")
	if out, err := s.git("push", "--force", "origin", "HEAD"); err == nil {
		t.Fatalf("the push went through: %s", out)
	}
	id := s.must("rev-parse", "HEAD")
	if head, pushed, err := s.repo.Head(t.Context(), task); head != id || pushed || err != nil {
		t.Errorf("Head = %s, %v, %v, want the rewrite", head, pushed, err)
	}
	s.remote.Reject("acme/widget", "")
	theirs := s.push(task, "by hand", map[string]string{"hand.txt": "1"})
	s.fetch()
	if head, pushed, err := s.repo.Head(t.Context(), task); head != theirs || !pushed || err != nil {
		t.Errorf("Head = %s, %v, %v, want the remote's", head, pushed, err)
	}
}

// A push that is on its way when the right to push ends is broken off.
func TestPushIsBrokenOff(t *testing.T) {
	t.Parallel()
	lost := errors.New("this node has not reached the mesh for 30 s")
	right, end := context.WithCancelCause(t.Context())
	s := seeded(t, func(a *Access) {
		a.Within = func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			stop := context.AfterFunc(right, func() { cancel(context.Cause(right)) })
			return ctx, func() { stop(); cancel(nil) }
		}
	})
	hold := filepath.Join(t.TempDir(), "hold") // while it is there
	reached := hold + "ing"
	if err := os.WriteFile(hold, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(hold)
	hook := filepath.Join(s.dir, "hooks", "pre-receive")
	if err := os.MkdirAll(filepath.Dir(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+reached+"\nwhile [ -e "+hold+" ]; do sleep 0.05; done\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	id := s.commit("src/a.txt", "b\n")
	go func() {
		for {
			if _, err := os.Stat(reached); err == nil {
				end(lost)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	out, err := s.git("push", "origin", "HEAD") // the remote is not through with it
	if err == nil || !strings.Contains(out, lost.Error()) {
		t.Errorf("push: %v %s", err, out)
	}
	if head, pushed, err := s.repo.Head(t.Context(), task); head != id || pushed || err != nil {
		t.Errorf("Head = %s, %v, %v, want the commit to wait", head, pushed, err)
	}
}
