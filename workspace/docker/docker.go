// Package docker is the part of the Docker engine that a workspace needs:
// images, volumes, and containers with samnode's own hardened profile.
//
// The profile is a constant of this package (profile.go): uid 1000, no
// capabilities, no new privileges, the engine's default seccomp filter, a
// read-only root, no network, limits. Nothing that a repository or an image
// says can widen it; [Spec] has no field for it.
//
// Everything made here carries our labels, and only what carries them is
// touched: a container or volume of the same name without them is answered
// with [ErrForeign]. Every call may be repeated after an error; making what is
// there already adopts it, and removing what is gone succeeds.
//
// This is the only package that imports the Docker client.
package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// Errors of the engine, each with a sentence for a person. Test with errors.Is.
var (
	ErrNoEngine = errors.New("the Docker engine does not answer; install and start it (systemctl start docker), and let samnode use its socket")
	ErrLost     = errors.New("the Docker engine went away in the middle of the call; it is safe to ask again")
	ErrNoImage  = errors.New("no such image here or at its registry")
	ErrNotFound = errors.New("no such container or volume")
	ErrForeign  = errors.New("something with this name exists that is not samnode's; remove or rename it")
	ErrDiskFull = errors.New("the disk of the Docker engine is full; free some space (docker system df shows what uses it)")
	ErrNoGlibc  = errors.New("agents need glibc; use a Debian, Ubuntu or Fedora based image")
	ErrBuild    = errors.New("the image build failed")
)

// Labels on everything that an Engine makes. All of them are always set, so
// that an image's own labels can never stand in for ours.
const (
	LabelOwner     = "samnode" // always "1"
	LabelMesh      = "samnode.mesh"
	LabelTask      = "samnode.task"
	LabelWorkspace = "samnode.workspace"
	LabelToken     = "samnode.token" // of the lease

	labelSpec  = "samnode.spec"  // digest of the Spec a container was made from
	labelImage = "samnode.image" // on images: "base" or "adapted", fit for a workspace as it is
)

// Config of an Engine. The zero value talks to the machine's own engine.
type Config struct {
	Host   string       // e.g. unix:///var/run/docker.sock; empty: DOCKER_HOST, else the default socket
	Mesh   string       // goes on everything as LabelMesh and is demanded of everything; empty: any mesh's
	Logger *slog.Logger // nil: discard
}

// Engine is one Docker engine. Its methods may be called concurrently.
type Engine struct {
	api  *client.Client
	mesh string
	log  *slog.Logger

	mu    sync.Mutex       // guards what follows
	glibc map[string]error // by image id: nil, or ErrNoGlibc
	cores float64          // of the engine's machine; 0: not asked yet
}

// Open makes a client and, where the engine answers, agrees on the API version.
// It succeeds while the engine is down; use Ping to see whether it answers.
func Open(ctx context.Context, c Config) (*Engine, error) {
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if c.Host != "" {
		opts = append(opts, client.WithHost(c.Host))
	}
	api, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("opening the Docker client: %w", err)
	}
	api.NegotiateAPIVersion(ctx) // asked again by the first call where this one found nobody
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{api: api, mesh: c.Mesh, log: c.Logger, glibc: make(map[string]error)}, nil
}

// Close drops the client's idle connections. Nothing on the engine changes.
func (e *Engine) Close() error { return e.api.Close() }

// Host is the address of the engine's socket, for tools that need DOCKER_HOST.
func (e *Engine) Host() string { return e.api.DaemonHost() }

// Info is what an engine says of itself.
type Info struct {
	Version string // of the engine, e.g. "20.10.24"
	API     string // the version both sides speak, e.g. "1.41"
	Driver  string // storage driver, e.g. "overlay2"
	Root    string // where it keeps images and volumes
	Arch    string // e.g. "x86_64"
	Free    int64  // bytes left on the disk of Root; -1 when it cannot be seen from here
	CPUs    int
	Memory  int64 // bytes
}

// Ping asks the engine for its Info. ErrNoEngine when it does not answer.
func (e *Engine) Ping(ctx context.Context) (Info, error) {
	info, err := e.api.Info(ctx)
	if err != nil {
		return Info{}, wrap("asking the Docker engine", err)
	}
	return Info{
		Version: info.ServerVersion, API: e.api.ClientVersion(), Driver: info.Driver,
		Root: info.DockerRootDir, Arch: info.Architecture, Free: free(info.DockerRootDir),
		CPUs: info.NCPU, Memory: info.MemTotal,
	}, nil
}

// limitCPUs brings a limit down to what the machine has: the engine refuses a
// container that wants more cores than there are.
func (e *Engine) limitCPUs(ctx context.Context, cpus float64) (float64, error) {
	if cpus == 0 {
		return 0, nil
	}
	e.mu.Lock()
	cores := e.cores
	e.mu.Unlock()
	if cores == 0 {
		info, err := e.Ping(ctx)
		if err != nil {
			return 0, err
		}
		cores = float64(info.CPUs)
		e.mu.Lock()
		e.cores = cores
		e.mu.Unlock()
	}
	return min(cpus, cores), nil
}

// free is the space left to the engine, or -1 where it is another machine's.
func free(dir string) int64 {
	var st unix.Statfs_t
	for ; dir != ""; dir = filepath.Dir(dir) {
		// The folder itself may be closed to us; its parent is on the same disk.
		if err := unix.Statfs(dir, &st); err == nil {
			return int64(st.Bavail) * st.Bsize
		}
		if dir == "/" {
			break
		}
	}
	return -1
}

// wrap adds what was being done and, where one fits, the sentinel.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if s := classify(err); s != nil && !errors.Is(err, s) {
		return fmt.Errorf("%s: %w: %w", doing, s, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// classify finds the sentinel for an answer of the client library.
func classify(err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ErrLost
	case client.IsErrConnectionFailed(err), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrPermission):
		return ErrNoEngine
	case strings.Contains(text, "no space left on device"), strings.Contains(text, "disk quota exceeded"):
		return ErrDiskFull
	case strings.Contains(text, "No such image"), strings.Contains(text, "manifest unknown"),
		strings.Contains(text, "pull access denied"), strings.Contains(text, "repository does not exist"):
		return ErrNoImage
	case cerrdefs.IsNotFound(err):
		return ErrNotFound
	}
	return nil
}
