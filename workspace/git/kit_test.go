package git

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// kit is a remote with one repository, and this machine's mirrors.
type kit struct {
	t      *testing.T
	remote *gittest.Server
	dir    string // the remote's folder of the repository
	token  string
	repo   *Repo
}

const task = "samnode/add-login-x7k2"

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{t: t, remote: gittest.Start(t)}
	k.dir = k.remote.Create("acme/widget")
	k.token = k.remote.Grant("acme/widget", time.Hour)
	k.repo = k.mirror(k.remote.CloneURL("acme/widget"))
	return k
}

func (k *kit) mirror(url string) *Repo {
	k.t.Helper()
	m, err := Open(Config{Dir: filepath.Join(k.t.TempDir(), "mirrors"), Refresh: time.Nanosecond})
	if err != nil {
		k.t.Fatal(err)
	}
	r, err := m.Repo(url)
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

func (k *kit) auth(context.Context) (Auth, error) { return Auth{Password: k.token}, nil }

func (k *kit) fetch() {
	k.t.Helper()
	if err := k.repo.Fetch(k.t.Context(), k.auth, nil); err != nil {
		k.t.Fatal(err)
	}
}

// push is somebody else's push to the remote.
func (k *kit) push(branch, message string, files map[string]string) string {
	k.t.Helper()
	return gittest.Push(k.t, k.dir, branch, message, files)
}

// space is a workspace: its working copy and its door to the repository.
type space struct {
	*kit
	Workspace
	mu      sync.Mutex
	refused []string
	pushed  []string
	stale   error
}

// told returns what the door told so far.
func (s *space) told() (refused, pushed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused), slices.Clone(s.pushed)
}

func (s *space) setStale(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = err
}

// open opens a door for the task's branch; dir is "" for a fresh disk.
func (k *kit) open(dir string, change func(*Access)) *space {
	k.t.Helper()
	s := &space{kit: k}
	a := Access{
		Branch: task, Auth: k.auth,
		Stale: func() error { s.mu.Lock(); defer s.mu.Unlock(); return s.stale },
		Refused: func(what, why string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refused = append(s.refused, what+": "+why)
		},
		Pushed: func(commit string) { s.mu.Lock(); defer s.mu.Unlock(); s.pushed = append(s.pushed, commit) },
	}
	if change != nil {
		change(&a)
	}
	srv := httptest.NewServer(k.repo.Handler(a))
	k.t.Cleanup(srv.Close)
	if dir == "" {
		dir = filepath.Join(k.t.TempDir(), "space", "widget")
	}
	s.Workspace = Workspace{
		URL: k.repo.URL(), Mirror: k.repo.Path(), Proxy: srv.URL + "/",
		Base: "main", Branch: a.Branch, Dir: dir, Author: Author{"Agent", "agent@example.com"},
	}
	return s
}

// run runs a step as the shim would.
func (s *space) run(step Step) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), step.Argv[0], step.Argv[1:]...)
	cmd.Env = append(workspaceEnv(s.Workspace), step.Env...)
	cmd.Dir = filepath.Dir(filepath.Dir(s.Dir))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && !strings.Contains(string(out), "samnode:error=") {
		s.t.Fatalf("the script failed: %v\n%s%s", err, out, stderr.String())
	}
	if stderr.Len() > 0 {
		s.t.Logf("stderr: %s", stderr.String())
	}
	return string(out)
}

func workspaceEnv(w Workspace) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1"}
	return append(env, w.Env()...)
}

func (s *space) prepare() Prepared {
	s.t.Helper()
	p, err := ParsePrepared(s.run(s.Prepare()))
	if err != nil {
		s.t.Fatalf("preparing: %v", err)
	}
	return p
}

func (s *space) save() Saved {
	s.t.Helper()
	v, err := ParseSaved(s.run(s.Save("Work in progress")))
	if err != nil {
		s.t.Fatalf("saving: %v", err)
	}
	return v
}

// git is what the agent does; it fails the test only with must.
func (s *space) git(args ...string) (string, error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "git", args...)
	cmd.Dir, cmd.Env = s.Dir, workspaceEnv(s.Workspace)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *space) must(args ...string) string {
	s.t.Helper()
	out, err := s.git(args...)
	if err != nil {
		s.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return out
}

func (s *space) write(name, content string) {
	s.t.Helper()
	p := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *space) commit(name, content string) string {
	s.t.Helper()
	s.write(name, content)
	s.must("add", "-A")
	s.must("commit", "-q", "-m", "change "+name)
	return s.must("rev-parse", "HEAD")
}

func (k *kit) tip(ref string) string { return gittest.Tip(k.t, k.dir, ref) }
