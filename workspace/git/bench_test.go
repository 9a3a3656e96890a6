package git

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// bench is a repository of 300 files with a branch, and its mirror.
func bench(b *testing.B) (*Repo, AuthFunc) {
	b.Helper()
	remote := gittest.Start(b)
	remote.Authorize = func(string, string, bool) error { return nil }
	dir := remote.Create("acme/widget")
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("dir%d/file%d.txt", i%20, i)] = noise(3000 + i)
	}
	gittest.Push(b, dir, "main", "first", files)
	gittest.Push(b, dir, "work", "work", map[string]string{"dir1/file1.txt": noise(2999), "new.txt": numbered(200)})
	m, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	r, err := m.Repo(remote.CloneURL("acme/widget"))
	if err != nil {
		b.Fatal(err)
	}
	auth := func(context.Context) (Auth, error) { return Auth{}, nil }
	if err := r.Fetch(b.Context(), auth, nil); err != nil {
		b.Fatal(err)
	}
	return r, auth
}

// BenchmarkFetchUnchanged is what a task's start costs when nothing is new.
func BenchmarkFetchUnchanged(b *testing.B) {
	r, auth := bench(b)
	for b.Loop() {
		if err := r.Fetch(b.Context(), auth, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrepare is a fresh clone in a workspace through the door; beside it
// the same by hand: git clone --reference.
func BenchmarkPrepare(b *testing.B) {
	r, auth := bench(b)
	srv := httptest.NewServer(r.Handler(Access{Branch: task, Auth: auth}))
	defer srv.Close()
	w := Workspace{URL: r.URL(), Mirror: r.Path(), Proxy: srv.URL, Base: "main", Branch: task, Author: Author{"A", "a@example.com"}}
	run := func(b *testing.B, argv, env []string) {
		cmd := exec.CommandContext(b.Context(), argv[0], argv[1:]...)
		cmd.Env = append(workspaceEnv(w), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v %s", err, out)
		}
	}
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			w.Dir = filepath.Join(b.TempDir(), "w")
			step := w.Prepare()
			run(b, step.Argv, step.Env)
		}
	})
	b.Run("by hand", func(b *testing.B) {
		for b.Loop() {
			run(b, []string{"git", "clone", "-q", "--reference", r.Path(), r.URL(), filepath.Join(b.TempDir(), "w")}, nil)
		}
	})
}

// BenchmarkDiff is what a page's diff of a branch costs.
func BenchmarkDiff(b *testing.B) {
	r, _ := bench(b)
	for b.Loop() {
		if files, err := r.Diff(b.Context(), "main", "work", DiffOptions{}); err != nil || len(files) != 2 {
			b.Fatal(len(files), err)
		}
	}
}
