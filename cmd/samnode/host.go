package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/git"
)

// network is this node on its mesh: the tailnet, or its loopback twin.
type network interface {
	Addr() string
	Listen(ctx context.Context, s mesh.Service) (net.Listener, error)
	Dial(ctx context.Context, addr string, s mesh.Service) (net.Conn, error)
	Peers(ctx context.Context) ([]mesh.Peer, error)
	URL() string
	Warnings() []string
	Host(name string) bool
	Close() error
}

// host is what every node is, core or worker: a place on the network, and
// workspaces under leases. It is built bottom-up and closed top-down.
type host struct {
	c    Config
	id   identity
	boot string // of this process; random
	base string // URL of the pages that this node names

	net     network
	local   network      // of the person at this machine; nil: net is
	client  *mesh.Client // calls other nodes
	nodes   *http.Client // the same, for streams
	engine  *docker.Engine
	mirrors *git.Mirrors
	runner  *workspace.Runner
	tenure  *provision.Tenure
	forges  forges

	started time.Time
	closers []func() error // in the order of opening
}

func (h *host) onClose(f func() error) { h.closers = append(h.closers, f) }

func (h *host) close() error {
	var errs []error
	for i := len(h.closers) - 1; i >= 0; i-- {
		errs = append(errs, h.closers[i]())
	}
	return errors.Join(errs...)
}

// openState takes the state directory for this process and counts its start.
func (h *host) openState(context.Context) error {
	if err := os.MkdirAll(h.c.State, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	release, err := lockState(h.c.State)
	if err != nil {
		return err
	}
	h.onClose(release)
	if h.id, err = readIdentity(h.c.State); err != nil {
		return err
	}
	h.id.Generation++
	h.boot, h.started = hex.EncodeToString(token(16)), time.Now()
	return h.id.write(h.c.State)
}

// lockState keeps a second process out of the state directory.
func lockState(state string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is in use by another samnode; stop it or choose another --state", state), f.Close())
	}
	return f.Close, nil
}

// spaces says what the runner of this kind of node needs of the mesh.
type spaces struct {
	board  workspace.Board
	forge  func(chat.Project) (workspace.Forge, error)
	secret func(ctx context.Context, p chat.ProjectID, name string) (string, error)
	image  func(ctx context.Context) (io.ReadCloser, error)                // the base image; nil: of a registry
	agent  func(ctx context.Context, folder string) (io.ReadCloser, error) // a part of an agent; nil: what is installed here is all
}

// ownBoard is the room of a core node as its runner needs it: of the tasks it
// hears about those only whose lease this node has, or had.
type ownBoard struct {
	*chat.Room
	node chat.Node
	told map[chat.TaskID]bool // with a lease; the runner watches from one goroutine
}

func newOwnBoard(room *chat.Room, node string) *ownBoard {
	return &ownBoard{Room: room, node: chat.Node(node), told: map[chat.TaskID]bool{}}
}

// TasksSince tells the end of a lease once.
func (b *ownBoard) TasksSince(ctx context.Context, after uint64) ([]chat.Task, uint64, error) {
	tasks, next, err := b.LeasesSince(ctx, b.node, b.told, after)
	for _, t := range tasks {
		if t.Lease != nil && t.Lease.Node == b.node {
			b.told[t.ID] = true
		} else {
			delete(b.told, t.ID)
		}
	}
	return tasks, next, err
}

func (h *host) openWorkspaces(s spaces) error {
	var err error
	// Several nodes may share one engine (dev --nodes): each has its own things.
	h.engine, err = docker.Open(context.Background(), docker.Config{Mesh: h.id.engineName(), Logger: h.c.Logger})
	if err != nil {
		return fmt.Errorf("opening the Docker engine: %w", err)
	}
	h.onClose(h.engine.Close)
	if h.mirrors, err = git.Open(git.Config{Dir: h.c.dir("mirrors"), Logger: h.c.Logger}); err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if binary, err = filepath.EvalSymlinks(binary); err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	h.tenure = provision.NewTenure(h.c.LeaseFor)
	h.runner, err = workspace.New(workspace.Config{
		Node: chat.Node(h.c.Node), Dir: h.c.dir("w"), Binary: binary, Image: h.c.Image, BaseImage: s.image,
		Agents: h.c.Agents, AgentPart: s.agent, Tools: h.c.dir("tools"),
		Board: s.board, Engine: h.engine, Mirrors: h.mirrors, Forge: s.forge, Secret: s.secret, Tenure: h.tenure,
		Upstream: h.c.Upstream, Silence: h.c.Silence, CPUs: h.c.CPUs, Memory: h.c.Memory, Logger: h.c.Logger,
	})
	return err
}

// sheet is the newest thing of its kind, for whoever reads it.
type sheet[T any] struct {
	mu sync.Mutex
	v  T
}

func (s *sheet[T]) set(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.v = v
}

func (s *sheet[T]) get() T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v
}
