package gittest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Env is a process environment in which git reads no settings of this
// machine, asks nothing, and knows who commits.
func Env(more ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GIT_") && !strings.HasPrefix(kv, "HOME=") && !strings.HasPrefix(kv, "LC_") {
			env = append(env, kv)
		}
	}
	env = append(env,
		"LC_ALL=C", "HOME=/nonexistent", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ana", "GIT_AUTHOR_EMAIL=ana@example.com", "GIT_COMMITTER_NAME=Ana", "GIT_COMMITTER_EMAIL=ana@example.com")
	return append(env, more...)
}

// Git runs git in dir and returns what it printed; the test ends if it fails.
func Git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := Try(t, dir, nil, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// Try runs git in dir with more environment and returns all it printed.
func Try(t testing.TB, dir string, env []string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Env = dir, Env(env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Clone makes a working copy of a repository (a folder or a URL).
func Clone(t testing.TB, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "work")
	Git(t, "", "clone", "-q", from, dir)
	return dir
}

// Commit writes files (path to content; "" as content removes one) into a
// working copy, commits them on its branch, and returns the commit.
func Commit(t testing.TB, dir, message string, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if content == "" {
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	Git(t, dir, "add", "-A")
	Git(t, dir, "commit", "-q", "--allow-empty", "-m", message)
	return Git(t, dir, "rev-parse", "HEAD")
}

// Push makes commits in a fresh clone of a repository's branch (made from the
// default branch if it does not exist) and pushes them, as another person
// would. It returns the commit.
func Push(t testing.TB, repo, branch, message string, files map[string]string) string {
	t.Helper()
	dir := Clone(t, repo)
	if _, err := Try(t, dir, nil, "checkout", "-q", branch, "--"); err != nil {
		Git(t, dir, "checkout", "-q", "-b", branch)
	}
	id := Commit(t, dir, message, files)
	Git(t, dir, "push", "-q", "origin", "HEAD:refs/heads/"+branch)
	return id
}

// Tip returns the commit of a ref in a repository's folder, "" if none.
func Tip(t testing.TB, repo, ref string) string {
	t.Helper()
	out, err := Try(t, repo, nil, "rev-parse", "--verify", "--quiet", ref)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}
