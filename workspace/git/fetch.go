package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Fetch brings the mirror up to date with the remote's branches and tags,
// making it first if need be. It waits for other work on the mirror. Cut
// half-way it leaves a mirror that is whole and old, or whole and empty.
// auth may be nil; progress may be nil and is told what git and the remote say.
//
// An empty repository is no error.
func (r *Repo) Fetch(ctx context.Context, auth AuthFunc, progress func(string)) error {
	if err := r.acquire(ctx); err != nil {
		return fmt.Errorf("waiting for the mirror: %w", err)
	}
	defer r.release()
	return r.fetchLocked(ctx, auth, progress)
}

// refresh is Fetch unless the remote was asked a moment ago.
func (r *Repo) refresh(ctx context.Context, auth AuthFunc) error {
	if err := r.acquire(ctx); err != nil {
		return fmt.Errorf("waiting for the mirror: %w", err)
	}
	defer r.release()
	if r.head.fresh(r.m.c.Refresh) {
		return nil
	}
	return r.fetchLocked(ctx, auth, nil)
}

// asked remembers when the remote was last asked.
type asked struct {
	mu   sync.Mutex
	refs time.Time // zero: never, or what it said is known to be old
	head time.Time // the default branch
}

func (a *asked) fresh(within time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.refs.IsZero() && time.Since(a.refs) < within
}

func (a *asked) wanted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.head) > headEvery
}

func (a *asked) done(at time.Time, head bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refs = at
	if head {
		a.head = at
	}
}

func (a *asked) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refs = time.Time{}
}

func credentials(ctx context.Context, auth AuthFunc) (*Auth, error) {
	if auth == nil {
		return &Auth{}, nil
	}
	a, err := auth(ctx)
	if err != nil {
		return nil, fmt.Errorf("getting the repository's credentials: %w", err)
	}
	return &a, nil
}

func (r *Repo) fetchLocked(ctx context.Context, auth AuthFunc, progress func(string)) error {
	if err := r.initLocked(ctx); err != nil {
		return err
	}
	if err := r.sweep(); err != nil {
		return fmt.Errorf("clearing the mirror of old locks: %w", err)
	}
	a, err := credentials(ctx, auth)
	if err != nil {
		return err
	}
	now := time.Now()
	theirs, err := r.askRemote(ctx, a)
	if err != nil {
		return err
	}
	ours, err := r.refs(ctx)
	if err != nil {
		return err
	}
	if !sameRefs(theirs.refs, ours) {
		args := []string{
			"fetch", "--progress", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force",
			"--end-of-options", r.remote.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
		}
		if _, err := r.run(ctx, "fetching the repository", command{args: args, auth: a, line: progress}); err != nil {
			return err
		}
	}
	if err := r.setHead(ctx, theirs); err != nil {
		return err
	}
	r.head.done(now, theirs.head != "")
	return r.tidyLocked(ctx)
}

// answer is what ls-remote said.
type answer struct {
	refs map[string]string // refs/heads/… and refs/tags/… → object
	head string            // refs/heads/… that HEAD points to; empty: unknown
}

// headEvery is how often the default branch is asked for. It costs a list of
// all refs, pull requests included, where branches and tags do not.
const headEvery = time.Hour

// askRemote lists the remote's refs: one small request, and often all of it.
func (r *Repo) askRemote(ctx context.Context, a *Auth) (answer, error) {
	what := []string{"ls-remote", "--heads", "--tags"}
	if r.head.wanted() {
		what = []string{"ls-remote", "--symref"}
	}
	res, err := r.run(ctx, "asking the remote", command{args: append(what, "--end-of-options", r.remote.url), auth: a})
	if err != nil {
		return answer{}, err
	}
	ans := answer{refs: map[string]string{}}
	for l := range strings.Lines(string(res.out)) {
		id, name, ok := strings.Cut(strings.TrimRight(l, "\n"), "\t")
		if !ok {
			continue
		}
		if target, sym := strings.CutPrefix(id, "ref: "); sym && name == "HEAD" {
			ans.head = target
			continue
		}
		if (strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/")) && !strings.HasSuffix(name, "^{}") {
			ans.refs[name] = id
		}
	}
	return ans, nil
}

// refs lists the mirror's copies of the remote's refs.
func (r *Repo) refs(ctx context.Context) (map[string]string, error) {
	res, err := r.run(ctx, "reading the mirror", command{args: []string{"for-each-ref", "--format=%(objectname)%09%(refname)", "refs/heads", "refs/tags"}})
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for l := range strings.Lines(string(res.out)) {
		if id, name, ok := strings.Cut(strings.TrimRight(l, "\n"), "\t"); ok {
			refs[name] = id
		}
	}
	return refs, nil
}

func sameRefs(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// setHead follows the remote's default branch. Remotes that do not tell (old
// or empty ones) leave it as it is, unless that branch does not exist.
func (r *Repo) setHead(ctx context.Context, theirs answer) error {
	head := theirs.head
	if head == "" {
		now, err := r.symbolicHead(ctx)
		if err != nil {
			return err
		}
		if _, ok := theirs.refs[now]; ok || len(theirs.refs) == 0 {
			return nil
		}
		for _, guess := range []string{"refs/heads/main", "refs/heads/master"} {
			if _, ok := theirs.refs[guess]; ok {
				head = guess
			}
		}
	}
	if head == "" || !strings.HasPrefix(head, "refs/heads/") {
		return nil
	}
	_, err := r.run(ctx, "setting the default branch", command{args: []string{"symbolic-ref", "HEAD", head}})
	return err
}

func (r *Repo) symbolicHead(ctx context.Context) (string, error) {
	res, err := r.run(ctx, "reading the default branch", command{args: []string{"symbolic-ref", "HEAD"}})
	return strings.TrimSpace(string(res.out)), err
}

// initLocked makes an empty mirror under another name and moves it into
// place, so that what is there is always a repository.
func (r *Repo) initLocked(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(r.dir, "HEAD")); err == nil {
		return nil
	}
	tmp, err := os.MkdirTemp(r.m.c.Dir, ".new-")
	if err != nil {
		return fmt.Errorf("making the mirror: %w", diskFull(err))
	}
	defer os.RemoveAll(tmp)
	at := &Repo{m: r.m, remote: remote{kind: "none"}, dir: tmp}
	// Workspaces read the mirror as another user.
	if _, err := at.run(ctx, "making the mirror", command{args: []string{"init", "-q", "--bare", "--shared=all", "--template=", "--initial-branch=main", tmp}}); err != nil {
		return err
	}
	for _, kv := range [][2]string{
		{"gc.pruneExpire", "never"},
		{"gc.auto", "0"},
		{"remote.origin.url", r.remote.url},
		{"uploadpack.hideRefs", "refs/samnode"},
		{"uploadpack.allowFilter", "true"},
		{"receive.unpackLimit", "1"}, // one pack a push, not a thousand loose files
		{"fetch.unpackLimit", "1"},
	} {
		if _, err := at.run(ctx, "making the mirror", command{args: []string{"config", kv[0], kv[1]}}); err != nil {
			return err
		}
	}
	if r.remote.kind == "file" {
		if err := os.WriteFile(filepath.Join(tmp, "samnode.gitconfig"), safeDirectory(r.remote.path), 0o644); err != nil {
			return fmt.Errorf("making the mirror: %w", diskFull(err))
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("making the mirror: %w", err)
	}
	if err := os.Rename(tmp, r.dir); err != nil {
		return fmt.Errorf("making the mirror: %w", err)
	}
	return nil
}

func safeDirectory(path string) []byte {
	q := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path)
	return fmt.Appendf(nil, "[safe]\n\tdirectory = \"%s\"\n\tdirectory = \"%s/.git\"\n", q, q)
}

func diskFull(err error) error {
	if strings.Contains(err.Error(), "no space left") || strings.Contains(err.Error(), "quota exceeded") {
		return &Error{Kind: ErrDiskFull, Text: "the disk of this machine is full", Out: err.Error()}
	}
	return err
}

// Locks and temporary packs of a git that was killed would be in the way for
// ever. Live ones are younger: nothing of git holds a ref's lock for a minute.
const (
	staleLock = time.Minute
	stalePack = 6 * time.Hour
	manyPacks = 40
)

// tidyLocked keeps the mirror quick without ever dropping an object.
func (r *Repo) tidyLocked(ctx context.Context) error {
	packs, _ := filepath.Glob(filepath.Join(r.dir, "objects/pack/*.pack"))
	if len(packs) < manyPacks {
		return nil
	}
	_, err := r.run(ctx, "packing the mirror", command{args: []string{"repack", "-q", "-d", "--geometric=2"}})
	return err
}

// sweep removes what a killed git left in the mirror.
func (r *Repo) sweep() error {
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		limit := staleLock
		switch {
		case d.IsDir():
			return nil
		case strings.HasPrefix(name, "tmp_"):
			limit = stalePack
		case !strings.HasSuffix(name, ".lock"):
			return nil
		}
		if info, err := d.Info(); err == nil && time.Since(info.ModTime()) > limit {
			return os.Remove(path)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
