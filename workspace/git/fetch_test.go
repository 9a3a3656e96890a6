package git

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

func TestRepoChecksURLs(t *testing.T) {
	t.Parallel()
	good := []string{
		"https://github.com/acme/widget.git", "https://github.com/acme/widget", "http://127.0.0.1:8080/a/b.git",
		"ssh://git@example.com:2222/acme/widget.git", "git@github.com:acme/widget.git", "host:path/to/repo", "ana@host:/srv/repo.git",
		"file:///srv/git/repo.git", "/srv/git/repo.git", "/srv/git/repo", "https://ana@example.com/r.git", "https://[::1]:3000/r.git",
		"https://dev.azure.com/org/My%20Project/_git/repo",
	}
	for _, u := range good {
		if err := CheckURL(u); err != nil {
			t.Errorf("CheckURL(%q) = %v, want nil", u, err)
		}
	}
	bad := []string{
		"", "   ", "-oProxyCommand=touch /tmp/x", "--upload-pack=touch", "ext::sh -c touch% /tmp/x", "ext::sh", "fd::17", "transport::address",
		"ssh://-oProxyCommand=x/repo", "ssh://git@-oProxyCommand=x/repo", "-x@host:repo", "git@-host:repo", "git@host:-repo",
		"git://github.com/acme/widget", "ftp://example.com/r", "https://", "https://github.com", "https://github.com/",
		"https://ana:secret@github.com/acme/widget", "relative/path", "./x", "../x", "/", "/srv/../etc", "/srv//x", "file://host/srv/x", "file:///srv/../x",
		"https://github.com/a/b?x=1", "https://github.com/a/b#x", "https://github.com/a\nb", "https://github.com/a\x00b", "C:\\repo", "https://github.com/-x",
	}
	for _, u := range bad {
		err := CheckURL(u)
		if !errors.Is(err, ErrURL) {
			t.Errorf("CheckURL(%q) = %v, want ErrURL", u, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") && strings.Contains(u, "secret@") && strings.Contains(err.Error(), ":secret@") {
			t.Errorf("CheckURL(%q) repeats the password: %v", u, err)
		}
	}
}

func TestOneMirrorPerURL(t *testing.T) {
	t.Parallel()
	m, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	for _, u := range []string{"https://github.com/acme/widget.git", "https://github.com/other/widget.git", "git@github.com:acme/widget.git", "/srv/" + strings.Repeat("ü", 100)} {
		r, err := m.Repo(u)
		if err != nil {
			t.Fatal(err)
		}
		if was, ok := paths[r.Path()]; ok {
			t.Errorf("%s and %s share %s", was, u, r.Path())
		}
		paths[r.Path()] = u
		if again, _ := m.Repo(u + "/"); again != r {
			t.Errorf("Repo(%q) gave another value the second time", u)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for out, ok := range map[string]bool{
		"git version 2.38.0\n": true, "git version 2.39.5 (Apple Git-154)": true, "git version 3.0.1": true,
		"git version 2.37.9": false, "git version 1.99": false, "hello": false,
	} {
		if err := checkVersion(out); (err == nil) != ok {
			t.Errorf("checkVersion(%q) = %v", out, err)
		}
	}
}

func TestFetchFollowsTheRemote(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	first := k.push("main", "first", map[string]string{"a.txt": "a\n"})
	k.push("feature", "on a branch", map[string]string{"b.txt": "b\n"})
	work := gittest.Clone(t, k.dir)
	gittest.Git(t, work, "tag", "-a", "v1", "-m", "one")
	gittest.Git(t, work, "push", "-q", "origin", "v1")

	var said []string
	if err := k.repo.Fetch(t.Context(), k.auth, func(l string) { said = append(said, l) }); err != nil {
		t.Fatal(err)
	}
	if len(said) == 0 {
		t.Error("Fetch told no progress")
	}
	if got, err := k.repo.Tip(t.Context(), "main"); err != nil || got != first {
		t.Errorf("Tip(main) = %q, %v, want %q", got, err, first)
	}
	if got := gittest.Tip(t, k.repo.Path(), "refs/tags/v1"); got == "" {
		t.Error("the tag is not in the mirror")
	}

	// Nothing new: one question, no pack.
	before := len(k.remote.Requests())
	k.fetch()
	if asked := k.remote.Requests()[before:]; len(asked) != 2 {
		t.Errorf("an unchanged remote was asked %v, want one listing", asked)
	}

	// A branch is deleted and its name becomes a folder; main is rewritten.
	gittest.Git(t, k.dir, "branch", "-D", "feature")
	gittest.Git(t, k.dir, "update-ref", "refs/heads/feature/x", first)
	gittest.Git(t, work, "commit", "-q", "--amend", "-m", "rewritten")
	gittest.Git(t, work, "push", "-q", "--force", "origin", "main")
	k.fetch()
	if got, _ := k.repo.Tip(t.Context(), "main"); got != k.tip("main") {
		t.Errorf("Tip(main) = %s after a rewrite, want %s", got, k.tip("main"))
	}
	if _, err := k.repo.Tip(t.Context(), "feature"); !errors.Is(err, ErrNoBranch) {
		t.Errorf("Tip of a deleted branch = %v, want ErrNoBranch", err)
	}
	if got, err := k.repo.Tip(t.Context(), "feature/x"); got != first {
		t.Errorf("Tip(feature/x) = %q, %v", got, err)
	}
	// A workspace may still borrow what nothing points to any more.
	if out, err := gittest.Try(t, k.repo.Path(), nil, "cat-file", "-t", first); err != nil {
		t.Errorf("the old commit is gone from the mirror: %s", out)
	}
}

func TestFetchFollowsTheDefaultBranch(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "first", map[string]string{"a": "1"})
	gittest.Git(t, k.dir, "branch", "trunk", "main")
	gittest.Git(t, k.dir, "symbolic-ref", "HEAD", "refs/heads/trunk")
	k.fetch()
	if got, err := k.repo.DefaultBranch(t.Context()); got != "trunk" || err != nil {
		t.Errorf("DefaultBranch = %q, %v, want trunk", got, err)
	}
	if got, err := k.repo.Branches(t.Context()); len(got) != 2 || err != nil {
		t.Errorf("Branches = %v, %v", got, err)
	}
}

func TestFetchOfAnEmptyRepository(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.fetch()
	if empty, err := k.repo.Empty(t.Context()); !empty || err != nil {
		t.Errorf("Empty = %v, %v", empty, err)
	}
	if _, err := k.repo.Tip(t.Context(), "main"); !errors.Is(err, ErrEmpty) {
		t.Errorf("Tip = %v, want ErrEmpty", err)
	}
	if b, err := k.repo.DefaultBranch(t.Context()); b != "main" || err != nil {
		t.Errorf("DefaultBranch = %q, %v", b, err)
	}
}

func TestFetchSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "first", map[string]string{"a": "1"})
	expired := k.remote.Grant("acme/widget", -time.Second)
	other := k.remote.Grant("acme/other", time.Hour)
	k.remote.Create("acme/other")
	token := func(s string) AuthFunc {
		return func(context.Context) (Auth, error) { return Auth{Username: "ana", Password: s}, nil }
	}
	for _, c := range []struct {
		name      string
		url       string
		auth      AuthFunc
		want      error
		retryable bool
	}{
		{"no credentials", k.repo.URL(), nil, ErrAccess, false},
		{"an expired token", k.repo.URL(), token(expired), ErrAccess, false},
		{"a token of another repository", k.repo.URL(), token(other), ErrNotFound, false},
		{"a repository that does not exist", k.remote.CloneURL("acme/nothing"), token(k.remote.Grant("acme/nothing", time.Hour)), ErrNotFound, false},
		{"nobody listens", "http://127.0.0.1:1/acme/widget.git", nil, ErrNetwork, true},
		{"no such host", "http://nothing.invalid/acme/widget.git", nil, ErrNetwork, true},
		{"no such folder", filepath.Join(t.TempDir(), "nothing"), nil, ErrNotFound, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := k.mirror(c.url).Fetch(t.Context(), c.auth, nil)
			var e *Error
			if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Retryable() != c.retryable {
				t.Fatalf("Fetch = %v, want %v, retryable %v", err, c.want, c.retryable)
			}
			if e.Detail() == "" || strings.Contains(e.Error()+e.Detail(), expired) {
				t.Errorf("detail %q", e.Detail())
			}
		})
	}
}

func TestFetchCutHalfWay(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "first", map[string]string{"big.txt": strings.Repeat(noise(997), 400)})
	k.remote.CutAfter(1500)
	err := k.repo.Fetch(t.Context(), k.auth, nil)
	var e *Error
	if !errors.Is(err, ErrNetwork) || !errors.As(err, &e) || !e.Retryable() {
		t.Fatalf("Fetch over a cut connection = %v, want ErrNetwork", err)
	}
	if out, err := gittest.Try(t, k.repo.Path(), nil, "fsck"); err != nil {
		t.Errorf("the mirror is broken: %s", out)
	}
	k.fetch()
	if got, err := k.repo.Tip(t.Context(), "main"); got == "" || err != nil {
		t.Errorf("Tip after the second try = %q, %v", got, err)
	}
}

// noise is text that packs badly.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(n)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = "0123456789abcdefghijklmnopqrstuv"[x>>27]
	}
	return string(b) + "\n"
}

func TestFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	why := errors.New("lease lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := k.repo.Fetch(ctx, k.auth, nil); !errors.Is(err, why) {
		t.Errorf("Fetch = %v, want the cause", err)
	}
}

func TestFetchClearsOldLocks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "first", map[string]string{"a": "1"})
	k.fetch()
	k.push("main", "second", map[string]string{"a": "2"})
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"packed-refs.lock", "refs/heads/main.lock", "HEAD.lock"} {
		p := filepath.Join(k.repo.Path(), name)
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	k.fetch()
	if got, _ := k.repo.Tip(t.Context(), "main"); got != k.tip("main") {
		t.Error("the mirror did not follow")
	}
}

func TestPackingDropsNothing(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.repo = k.mirror("file://" + k.dir) // cheaper than HTTP, and packs are the same
	first := k.push("main", "n", map[string]string{"n": "x"})
	k.fetch()
	had := []string{first}
	for i := range manyPacks {
		had = append(had, k.push("main", "n", map[string]string{"n": strings.Repeat("y", i+1)}))
		k.fetch()
		gittest.Git(t, k.dir, "update-ref", "refs/heads/main", first) // the remote forgets it
	}
	k.fetch()
	packs, _ := filepath.Glob(filepath.Join(k.repo.Path(), "objects/pack/*.pack"))
	if len(packs) >= manyPacks {
		t.Errorf("%d packs, none were joined", len(packs))
	}
	for _, id := range had {
		if out, err := gittest.Try(t, k.repo.Path(), nil, "cat-file", "-e", id); err != nil {
			t.Errorf("%s is gone: %s", id, out)
		}
	}
	if out, err := gittest.Try(t, k.repo.Path(), nil, "fsck"); err != nil {
		t.Errorf("fsck: %s", out)
	}
}

func TestNoCredentialStaysInTheMirror(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "first", map[string]string{"a": "1"})
	k.fetch()
	out, err := exec.CommandContext(t.Context(), "grep", "-rl", k.token, filepath.Dir(k.repo.Path())).Output()
	if err == nil || len(out) > 0 {
		t.Errorf("the token is in %s", out)
	}
}

func TestFetchFromAFolder(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "first", map[string]string{"a": "1"})
	for _, url := range []string{k.dir, "file://" + k.dir} {
		r := k.mirror(url)
		if err := r.Fetch(t.Context(), nil, nil); err != nil {
			t.Fatalf("Fetch(%s): %v", url, err)
		}
		if got, err := r.Tip(t.Context(), "main"); got != k.tip("main") || err != nil {
			t.Errorf("Tip = %q, %v", got, err)
		}
	}
}

// sshShim stands in for ssh: it runs the remote's command here.
const sshShim = `#!/bin/sh
while [ $# -gt 1 ]; do
	case $1 in -o|-p) shift 2 ;; -*) shift ;; *) break ;; esac
done
shift
exec sh -c "$*"
`

func TestFetchOverSSH(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "first", map[string]string{"a": "1"})
	shim := filepath.Join(t.TempDir(), "ssh-shim")
	if err := os.WriteFile(shim, []byte(sshShim), 0o755); err != nil {
		t.Fatal(err)
	}
	auth := func(context.Context) (Auth, error) { return Auth{SSHCommand: shim + " -o BatchMode=yes"}, nil }
	for _, url := range []string{"ssh://git@example.com:2222" + k.dir, "git@example.com:" + k.dir} {
		r := k.mirror(url)
		if err := r.Fetch(t.Context(), auth, nil); err != nil {
			t.Fatalf("Fetch(%s): %v", url, err)
		}
		if got, err := r.Tip(t.Context(), "main"); got != k.tip("main") || err != nil {
			t.Errorf("Tip = %q, %v", got, err)
		}
	}
}
