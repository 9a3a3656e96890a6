package gittest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// Push adds a commit to a repository's branch (made from the default branch if
// it does not exist), as another person's push would, but in few processes: it
// is written into the repository itself, and no hook runs. "" as content
// removes a file. It returns the commit.
func Push(t testing.TB, repo, branch, message string, files map[string]string) string {
	t.Helper()
	ref := "refs/heads/" + branch
	from := Tip(t, repo, ref)
	if from == "" {
		from = Tip(t, repo, "HEAD")
	}
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit %s\nmark :1\ncommitter Ana <ana@example.com> now\ndata %d\n%s\n\n", ref, len(message)+1, message)
	if from != "" {
		fmt.Fprintf(&in, "from %s\n", from)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if content := files[name]; content == "" {
			fmt.Fprintf(&in, "D %s\n", quotePath(name))
		} else {
			fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", quotePath(name), len(content), content)
		}
	}
	in.WriteString("\nget-mark :1\n")
	cmd := exec.CommandContext(t.Context(), "git", "fast-import", "--quiet", "--date-format=now")
	cmd.Dir, cmd.Env, cmd.Stdin = repo, Env(), &in
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("writing a commit to %s: %v\n%s", repo, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// quotePath writes a path so that any byte may be in it.
func quotePath(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(path) {
		fmt.Fprintf(&b, "\\%03o", c)
	}
	b.WriteByte('"')
	return b.String()
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
