package git

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// edited is a working copy with changes of every kind, committed and not.
func edited(t *testing.T) *space {
	t.Helper()
	s := seeded(t, nil)
	s.write("kept.txt", "kept\n")
	s.write("mode.sh", "#!/bin/sh\n")
	s.write("gone.txt", "gone\n")
	s.write("dir/old name.txt", strings.Repeat("a line that moves\n", 20))
	s.write("edit.txt", "one\ntwo\nthree\n")
	s.write(".gitignore", "*.log\n")
	s.must("add", "-A")
	s.must("commit", "-q", "-m", "a start")
	s.must("push", "-q", "origin", "HEAD:refs/heads/"+task)
	s.must("update-ref", "refs/remotes/origin/main", "HEAD") // the base is here
	s.commit("committed.txt", "by the agent\n")
	s.write("edit.txt", "one\n2\nthree\n")
	s.write("staged.txt", "staged\n")
	s.must("add", "staged.txt")
	s.write("new/deep/file.txt", "new\n")
	s.write("new\nline.txt", "odd\n")
	s.write("debug.log", "ignored\n")
	s.write("bin", "a\x00b")
	for _, args := range [][]string{{"rm", "gone.txt"}, {"chmod", "755", "mode.sh"}, {"mv", "dir/old name.txt", "dir/new name.txt"}} {
		if err := inDir(t, s.Dir, args...); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func inDir(t *testing.T, dir string, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	return cmd.Run()
}

// asItWas fails when something of git's own changed since the call.
func (s *space) asItWas() func() {
	s.t.Helper()
	state := func() string {
		return s.must("status", "--porcelain", "-z") + s.must("rev-parse", "HEAD") + s.must("count-objects", "-v") + s.must("ls-files", "-s")
	}
	before := state()
	return func() {
		s.t.Helper()
		if diff := cmp.Diff(before, state()); diff != "" {
			s.t.Errorf("looking changed the repository:\n%s", diff)
		}
		if left, _ := filepath.Glob(filepath.Join(s.Dir, ".git/samnode-changes*")); len(left) > 0 {
			s.t.Errorf("left behind: %v", left)
		}
	}
}

func TestNamesOfChanges(t *testing.T) {
	t.Parallel()
	s := edited(t)
	same := s.asItWas()
	names := func(path string) map[string]FileStatus {
		t.Helper()
		got, err := ParseNames([]byte(s.run(s.Names(Against{Path: path}))))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := map[string]FileStatus{
		"committed.txt": Added, "edit.txt": Modified, "staged.txt": Added, "new/": Added, "new\nline.txt": Added, "bin": Added,
		"gone.txt": Deleted, "mode.sh": Modified, "dir/old name.txt": Deleted, "dir/new name.txt": Added,
	}
	if diff := cmp.Diff(want, names("")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]FileStatus{"dir/old name.txt": Deleted, "dir/new name.txt": Added}, names("dir")); diff != "" {
		t.Error(diff)
	}
	if got := names("none*"); len(got) != 0 {
		t.Errorf("of a path that is none: %v", got)
	}
	same()
}

func TestChanges(t *testing.T) {
	t.Parallel()
	s := edited(t)
	same := s.asItWas()
	read := func(a Against) Change {
		t.Helper()
		c, err := ReadChanges(strings.NewReader(s.run(s.Changes(a, DiffOptions{}))), DiffOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := read(Against{})
	got := map[string]FileStatus{}
	lines := map[string]string{}
	for _, f := range c.Files {
		got[f.Path] = f.Status
		for _, h := range f.Hunks {
			for _, l := range h.Lines {
				lines[f.Path] += string(l.Op) + l.Text + "\n"
			}
		}
		if f.Path == "bin" != f.Binary {
			t.Errorf("%s is binary: %v", f.Path, f.Binary)
		}
	}
	want := map[string]FileStatus{
		"committed.txt": Added, "edit.txt": Modified, "staged.txt": Added, "new/deep/file.txt": Added, "new\nline.txt": Added, "bin": Added,
		"gone.txt": Deleted, "mode.sh": Modified, "dir/new name.txt": Renamed,
	}
	if diff := cmp.Diff(want, got); diff != "" || c.Note != "" {
		t.Errorf("%s%s", diff, c.Note)
	}
	if lines["edit.txt"] != " one\n-two\n+2\n three\n" || lines["new\nline.txt"] != "+odd\n" || lines["gone.txt"] != "-gone\n" {
		t.Errorf("lines: %q", lines)
	}
	if base := s.must("rev-parse", "origin/main"); c.Base != base {
		t.Errorf("base %s, want %s", c.Base, base)
	}
	if one := read(Against{Path: "edit.txt"}); len(one.Files) != 1 || one.Files[0].Path != "edit.txt" {
		t.Errorf("one file: %+v", one.Files)
	}
	if head := read(Against{From: s.must("rev-parse", "HEAD"), Path: "committed.txt"}); len(head.Files) != 0 {
		t.Errorf("against HEAD: %+v", head.Files)
	}
	if gone := read(Against{Path: "gone.txt"}); len(gone.Files) != 1 || gone.Files[0].Status != Deleted || gone.Note != "" {
		t.Errorf("a file that went: %+v", gone)
	}
	same()
}

// A patch makes the base into the working copy.
func TestPatchApplies(t *testing.T) {
	t.Parallel()
	s := edited(t)
	same := s.asItWas()
	patch, err := ReadPatch(strings.NewReader(s.run(s.Patch(Against{}))))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(patch)
	if err != nil {
		t.Fatal(err)
	}
	same()
	other := filepath.Join(t.TempDir(), "other")
	s.must("worktree", "add", "-q", "--detach", other, "origin/main")
	cmd := exec.CommandContext(t.Context(), "git", "apply", "--index", "-")
	cmd.Dir, cmd.Env, cmd.Stdin = other, workspaceEnv(s.Workspace), strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v %s\n%s", err, out, text)
	}
	for _, name := range []string{"edit.txt", "new/deep/file.txt", "new\nline.txt", "bin", "dir/new name.txt", "mode.sh"} {
		want, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(other, name)); string(got) != string(want) || err != nil {
			t.Errorf("%q = %q, %v; want %q", name, got, err, want)
		}
	}
}

// What git cannot take in is said, and the rest is shown.
func TestChangesOfOddCopies(t *testing.T) {
	t.Parallel()
	s := edited(t)
	if err := inDir(t, s.Dir, "git", "init", "-q", "inner"); err != nil {
		t.Fatal(err)
	}
	c, err := ReadChanges(strings.NewReader(s.run(s.Changes(Against{}, DiffOptions{}))), DiffOptions{})
	if err != nil || !strings.Contains(c.Note, "does not know yet") || len(c.Files) == 0 {
		t.Errorf("with a repository inside: %+v, %v", c, err)
	}
	s.Dir = filepath.Join(s.Dir, "inner", "none")
	if _, err := ReadChanges(strings.NewReader(s.run(s.Changes(Against{}, DiffOptions{}))), DiffOptions{}); err == nil || !strings.Contains(err.Error(), "no working copy") {
		t.Errorf("without a working copy: %v", err)
	}
	for _, out := range []string{"", "samnode:base=x\n", "samnode:changed=-4\n", "samnode:changed=99999999999\n", "samnode:changed=50\nshort", strings.Repeat("x", maxSaidLine+1)} {
		if c, err := ReadChanges(strings.NewReader(out), DiffOptions{}); err == nil {
			t.Errorf("%.40q was read as %+v", out, c)
		}
	}
}
