package git

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// seeded is a kit with a first commit, and an open workspace on it.
func seeded(t *testing.T, change func(*Access)) *space {
	t.Helper()
	k := newKit(t)
	k.push("main", "first", map[string]string{"README.md": "hello\n", "src/a.txt": "a\n"})
	k.fetch()
	s := k.open("", change)
	if p := s.prepare(); p.State != "fresh" || p.Head != k.tip("main") {
		t.Fatalf("prepare = %+v", p)
	}
	return s
}

func TestPushReachesTheRemote(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	id := s.commit("src/a.txt", "b\n")
	out := s.must("push", "origin", "HEAD")
	if got := s.tip(task); got != id {
		t.Errorf("the remote has %q, want %s\n%s", got, id, out)
	}
	if got, pushed, err := s.repo.Head(t.Context(), task); got != id || !pushed || err != nil {
		t.Errorf("Head = %s, %v, %v", got, pushed, err)
	}
	_, pushes := s.told()
	if diff := cmp.Diff([]string{id}, pushes); diff != "" {
		t.Errorf("Pushed (-want +got):\n%s", diff)
	}
	if out := gittest.Git(t, s.repo.Path(), "for-each-ref", "refs/samnode"); out != "" {
		t.Errorf("left in the mirror: %s", out)
	}
	// The origin is the real one, and no file knows of a token.
	if got := s.must("config", "--local", "remote.origin.url"); got != s.repo.URL() {
		t.Errorf("origin = %s", got)
	}
	if out, err := gittest.Try(t, s.Dir, nil, "grep", "--no-index", "-r", s.token, "."); err == nil {
		t.Errorf("the token is in the workspace: %s", out)
	}
}

func TestPushesThatAreRefused(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.push("release", "release", map[string]string{"v": "1"})
	s.commit("src/a.txt", "b\n")
	s.must("push", "-q", "origin", "HEAD")
	main, release, mine := s.tip("main"), s.tip("release"), s.tip(task)
	s.must("fetch", "-q")
	s.commit("src/a.txt", "c\n")
	only := "(samnode: only " + task + " may be pushed)"
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"the base branch", []string{"push", "origin", "HEAD:main"}, "! [remote rejected] HEAD -> main " + only},
		{"another branch", []string{"push", "origin", "HEAD:refs/heads/other"}, only},
		{"a branch that begins with ours", []string{"push", "origin", "HEAD:refs/heads/" + task + "-2"}, only},
		{"a tag", []string{"push", "origin", "HEAD:refs/tags/v1"}, only},
		{"a hidden ref", []string{"push", "origin", "HEAD:refs/samnode/unpushed/x"}, only},
		{"the mirror's HEAD", []string{"push", "origin", "HEAD:refs/heads/HEAD"}, only},
		{"a delete of ours", []string{"push", "origin", ":" + task}, "(samnode: " + task + " may not be deleted)"},
		{"a delete of another", []string{"push", "origin", "--delete", "release"}, only},
		{"a force", []string{"push", "--force", "origin", "HEAD~2:refs/heads/" + task}, "non-fast-forward"},
		{"everything", []string{"push", "--mirror", "origin"}, only},
		{"ours with another", []string{"push", "origin", "HEAD:" + task, "HEAD:main"}, "another ref of this push was refused"},
		{"ours with another, atomic", []string{"push", "--atomic", "origin", "HEAD:" + task, "HEAD:main"}, only},
		{"another repository", []string{"push", strings.TrimSuffix(s.URL, ".git") + "-2.git", "HEAD"}, "only this task's repository is served here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := s.told()
			out, err := s.git(c.args...)
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%v\nsaid %s\nwant %s", err, out, c.want)
			}
			if after, _ := s.told(); len(after) == len(before) {
				t.Error("Refused was not told")
			}
		})
	}
	got := map[string]string{}
	for _, b := range []string{"main", "release", task} {
		got[b] = s.tip(b)
	}
	if diff := cmp.Diff(map[string]string{"main": main, "release": release, task: mine}, got); diff != "" {
		t.Errorf("the remote changed (-want +got):\n%s", diff)
	}
	if refs := gittest.Git(t, s.dir, "for-each-ref", "--format=%(refname)"); strings.Contains(refs, "tags") || strings.Contains(refs, "other") {
		t.Errorf("the remote has %s", refs)
	}
}

func TestPushAfterRewriteWhereAllowed(t *testing.T) {
	t.Parallel()
	s := seeded(t, func(a *Access) { a.Rewrite = true })
	s.commit("src/a.txt", "b\n")
	s.must("push", "-q", "origin", "HEAD")
	s.must("commit", "-q", "--amend", "-m", "better words")
	s.must("push", "-q", "--force", "origin", "HEAD")
	if got := s.tip(task); got != s.must("rev-parse", "HEAD") {
		t.Error("the rewritten commit is not on the remote")
	}
	// Somebody else pushed meanwhile: theirs stays.
	theirs := s.push(task, "by hand", map[string]string{"hand.txt": "1"})
	s.must("commit", "-q", "--amend", "-m", "even better")
	if out, err := s.git("push", "--force-with-lease", "origin", "HEAD"); err == nil || s.tip(task) != theirs {
		t.Errorf("the remote's newer commit was overwritten: %s", out)
	}
}

func TestLargePush(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	id := s.commit("big.bin", noise(3<<20))
	s.must("push", "origin", "HEAD")
	if s.tip(task) != id {
		t.Error("the remote does not have it")
	}
}

func TestPushLargerThanAllowed(t *testing.T) {
	t.Parallel()
	s := seeded(t, func(a *Access) { a.MaxBody = 100 << 10 })
	s.commit("big.bin", noise(3<<20))
	if out, err := s.git("push", "origin", "HEAD"); err == nil || s.tip(task) != "" {
		t.Errorf("a push over the limit went through: %s", out)
	}
	if refused, _ := s.told(); len(refused) == 0 || !strings.Contains(refused[0], "larger than") {
		t.Errorf("refused = %q", refused)
	}
}

func TestRemoteRefusesThePush(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.remote.Reject("acme/widget", "Secrets were found in src/a.txt\nsee https://example.com/why")
	id := s.commit("src/a.txt", "key\n")
	out, err := s.git("push", "origin", "HEAD")
	for _, want := range []string{"! [remote rejected]", "pre-receive hook declined", "Secrets were found in src/a.txt", "remote: see https://example.com/why"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v\nsaid %s\nwant %q", err, out, want)
		}
	}
	if tip, err := s.repo.Tip(t.Context(), task); !errors.Is(err, ErrNoBranch) {
		t.Errorf("the mirror has the branch at %q, %v", tip, err)
	}
	if got, pushed, err := s.repo.Head(t.Context(), task); got != id || pushed || err != nil {
		t.Errorf("Head = %s, %v, %v, want the refused commit to be there to see", got, pushed, err)
	}
	if out := s.must("ls-remote", "origin"); strings.Contains(out, "samnode") {
		t.Errorf("the workspace sees %s", out)
	}
	if err := s.repo.Push(t.Context(), s.auth, task); !errors.Is(err, ErrRejected) {
		t.Errorf("Push = %v, want ErrRejected", err)
	}
	// Its owner allows it, and it is tried again from the page.
	s.remote.Reject("acme/widget", "")
	if err := s.repo.Push(t.Context(), s.auth, task); err != nil || s.tip(task) != id {
		t.Errorf("Push = %v, the remote has %s", err, s.tip(task))
	}
	if _, pushed, err := s.repo.Head(t.Context(), task); !pushed || err != nil {
		t.Errorf("Head: pushed %v, %v", pushed, err)
	}
}

func TestRemoteHasNewerCommits(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.commit("src/a.txt", "b\n")
	s.must("push", "-q", "origin", "HEAD")
	theirs := s.push(task, "by hand", map[string]string{"hand.txt": "1"})
	s.commit("src/a.txt", "c\n")
	if out, err := s.git("push", "origin", "HEAD"); err == nil || !strings.Contains(out, "fetch first") && !strings.Contains(out, "rejected") {
		t.Errorf("push over newer commits: %v %s", err, out)
	}
	if s.tip(task) != theirs {
		t.Error("the newer commit was overwritten")
	}
	s.must("fetch", "-q", "origin")
	s.must("merge", "-q", "--no-edit", "origin/"+task)
	s.must("push", "-q", "origin", "HEAD")
	if s.tip(task) != s.must("rev-parse", "HEAD") {
		t.Error("the merge is not on the remote")
	}
}

func TestRemoteAwayAndBack(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	id := s.commit("src/a.txt", "b\n")
	s.remote.Revoke(s.token)
	if out, err := s.git("push", "origin", "HEAD"); err == nil || !strings.Contains(out, "refused the credentials") {
		t.Errorf("push with a revoked token: %v %s", err, out)
	}
	s.token = s.remote.Grant("acme/widget", 1<<40)
	if v := s.save(); !v.Pushed || v.Head != id || v.Committed {
		t.Errorf("save = %+v", v)
	}
}

func TestStaleLeaseDoesNothing(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.commit("src/a.txt", "b\n")
	s.setStale(errors.New("the lease of this workspace ended"))
	for _, args := range [][]string{{"push", "origin", "HEAD"}, {"fetch", "origin"}} {
		if out, err := s.git(args...); err == nil || !strings.Contains(out, "samnode: the lease of this workspace ended") {
			t.Errorf("git %v: %v %s", args, err, out)
		}
	}
	if v := s.save(); v.Pushed || !strings.Contains(v.Reason, "403") && !strings.Contains(v.Reason, "lease") {
		t.Errorf("save = %+v", v)
	}
	if s.tip(task) != "" {
		t.Error("the remote has the branch")
	}
}

func TestBodiesThatAreNotGit(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	post := func(path, encoding string, body []byte) int {
		req, err := http.NewRequestWithContext(t.Context(), "POST", strings.TrimSuffix(s.Proxy, "/")+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if encoding != "" {
			req.Header.Set("Content-Encoding", encoding)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte("0014command=ls-refs\n0000"))
	_ = z.Close()
	zero := strings.Repeat("0", 40)
	for _, c := range []struct {
		name, path, encoding string
		body                 string
		want                 int
	}{
		{"a compressed push", "/repo.git/git-receive-pack", "gzip", zipped.String(), http.StatusUnsupportedMediaType},
		{"noise", "/repo.git/git-receive-pack", "", "hello, world", http.StatusBadRequest},
		{"a length that lies", "/repo.git/git-receive-pack", "", "ffff" + zero, http.StatusBadRequest},
		{"an odd object id", "/repo.git/git-receive-pack", "", string(pkt(nil, "x y refs/heads/main\x00 report-status")) + flushPkt, http.StatusBadRequest},
		{"no end", "/repo.git/git-receive-pack", "", string(pkt(nil, zero+" "+zero+" refs/heads/main\x00 report-status")), http.StatusBadRequest},
		{"the probe of a large push", "/repo.git/git-receive-pack", "", flushPkt, http.StatusOK},
		{"a compressed fetch", "/repo.git/git-upload-pack", "gzip", zipped.String(), http.StatusOK},
		{"another encoding", "/repo.git/git-upload-pack", "br", "x", http.StatusUnsupportedMediaType},
		{"files of the mirror", "/repo.git/config", "", "", http.StatusForbidden},
		{"another repository", "/other.git/git-upload-pack", "", "", http.StatusForbidden},
		{"lfs", "/repo.git/info/lfs/objects/batch", "", "{}", http.StatusForbidden},
	} {
		if got := post(c.path, c.encoding, []byte(c.body)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestFetchesInEveryProtocol(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	for _, v := range []string{"0", "1", "2"} {
		dir := filepath.Join(t.TempDir(), "clone")
		if out, err := s.git("-c", "protocol.version="+v, "clone", "-q", s.URL, dir); err != nil {
			t.Errorf("protocol %s: %s", v, out)
		} else if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
			t.Error(err)
		}
	}
	// What is new on the remote is seen at once.
	id := s.push("main", "second", map[string]string{"new.txt": "1"})
	s.must("fetch", "-q", "origin")
	if got := s.must("rev-parse", "origin/main"); got != id {
		t.Errorf("origin/main = %s, want %s", got, id)
	}
}

func TestMirrorAnswersWhenTheRemoteIsAway(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	s.remote.Stop()
	if out, err := s.git("fetch", "origin"); err != nil {
		t.Errorf("fetch: %s", out)
	}
	s.commit("src/a.txt", "b\n")
	v := s.save()
	if v.Pushed || !strings.Contains(v.Reason, "connection") {
		t.Errorf("save = %+v", v)
	}
	if got, pushed, err := s.repo.Head(t.Context(), task); got != v.Head || pushed || err != nil {
		t.Errorf("Head = %s, %v, %v", got, pushed, err)
	}
}

func TestHostileNamesInAPush(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"", "-x", "--upload-pack=x", "a b", "a..b", "a//b", "/a", "a/", "a.lock", "a/.b", "a~1", "a^", "a:b", "a?", "a*", "a[", `a\b`,
		"@", "HEAD", "a@{1}", "refs/heads/x", "a\nb", "a\x00b", "a.", strings.Repeat("x", 201), strings.Repeat("a", 40), "\xff",
	} {
		if err := CheckBranch(name); !errors.Is(err, ErrNoBranch) {
			t.Errorf("CheckBranch(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"main", task, "feature/ümlaut", "a-b_c.d", "v1.2", "fix/#12", "a%20b", "日本"} {
		if err := CheckBranch(name); err != nil {
			t.Errorf("CheckBranch(%q) = %v", name, err)
		}
	}
}
