// Package git keeps one bare mirror per repository on this machine, by driving
// the git program, and is the only way from a workspace to a remote.
//
// A workspace talks smart HTTP to [Repo.Handler] over a socket of this node.
// What it fetches comes from the mirror; what it pushes is checked (one branch,
// no deletes, no tags, no rewriting), goes into the mirror, and from there to
// the real remote with the real credentials. No credential ever reaches a
// workspace, the mirror's files or an argument list: they travel in the
// environment of the one git process that needs them.
//
// In the mirror refs/heads and refs/tags are what the remote had when it was
// last asked. Commits of a workspace that the remote did not take (it refused,
// or was away) stay under refs/samnode/unpushed/<branch>, so that they can be
// shown and pushed again; where the branch went on without them, under
// refs/samnode/kept/<branch>/. Objects are never pruned: workspaces borrow them.
package git

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Config of Open.
type Config struct {
	Dir    string       // holds the mirrors, made if missing; needed
	Logger *slog.Logger // nil: silent
	Git    string       // program; empty: "git" of the PATH
	// Refresh is how long a workspace's fetch is answered from the mirror
	// before the remote is asked again; 0: 3 s.
	Refresh time.Duration
}

// Mirrors are this machine's mirrors. Safe for use by many goroutines. Only
// one process may have a Dir open.
type Mirrors struct {
	c Config

	mu    sync.Mutex
	repos map[string]*Repo // by folder name
}

// Auth is what opens a remote. The zero value is anonymous https and the
// host's own ssh.
type Auth struct {
	Username string // https; empty with a Password: x-access-token
	Password string // https: token or password; empty: none
	// SSHCommand replaces ssh for ssh remotes, with its options; it must
	// understand OpenSSH's. Empty: ssh in batch mode with the host's keys.
	SSHCommand string
	Expires    time.Time // zero: not known to expire
}

// AuthFunc returns credentials that are good for at least a few minutes.
type AuthFunc = func(ctx context.Context) (Auth, error)

// oldest git whose merge-tree can merge without a working tree.
const minMajor, minMinor = 2, 38

var versionRE = regexp.MustCompile(`git version (\d+)\.(\d+)`)

// Open checks that git is there and new enough (2.38), and makes the folder.
func Open(c Config) (*Mirrors, error) {
	if c.Dir == "" {
		return nil, errors.New("git: no folder for the mirrors")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Git == "" {
		c.Git = "git"
	}
	if c.Refresh == 0 {
		c.Refresh = 3 * time.Second
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the folder of the mirrors: %w", err)
	}
	c.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the mirrors: %w", err)
	}
	out, err := exec.Command(c.Git, "version").Output() //nolint:noctx // answers at once
	if err != nil {
		return nil, fmt.Errorf("git is needed, version %d.%d or newer: %w", minMajor, minMinor, err)
	}
	if err := checkVersion(string(out)); err != nil {
		return nil, err
	}
	return &Mirrors{c: c, repos: map[string]*Repo{}}, nil
}

func checkVersion(out string) error {
	m := versionRE.FindStringSubmatch(out)
	if m == nil {
		return fmt.Errorf("git: cannot read its version from %q", out)
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("git %d.%d is too old: samnode needs %d.%d or newer", major, minor, minMajor, minMinor)
	}
	return nil
}

// Repo is one repository with its mirror. All of its methods may be called at
// once; those that change the mirror wait for each other.
type Repo struct {
	m      *Mirrors
	remote remote
	dir    string

	lock chan struct{} // one token; held while refs of the mirror change
	head asked
}

// Repo returns the repository of that URL: https, http, ssh, host:path, file,
// or an absolute path. It asks nobody; the URL is refused (ErrURL) when it is
// of another kind, looks like an option, or carries a password.
func (m *Mirrors) Repo(url string) (*Repo, error) {
	rem, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name := rem.folder()
	if r := m.repos[name]; r != nil {
		return r, nil
	}
	r := &Repo{m: m, remote: rem, dir: filepath.Join(m.c.Dir, name), lock: make(chan struct{}, 1)}
	m.repos[name] = r
	return r, nil
}

// URL returns the remote's URL, without any secret.
func (r *Repo) URL() string { return r.remote.url }

// Path returns the mirror's folder, the same for every process on this
// machine. It exists after the first Fetch that reached the remote.
func (r *Repo) Path() string { return r.dir }

// acquire takes the repository's lock, or gives up with ctx.
func (r *Repo) acquire(ctx context.Context) error {
	select {
	case r.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Repo) release() { <-r.lock }
