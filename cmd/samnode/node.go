package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/seal"
	"github.com/samnode/samnode/chat/store"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/mesh/loopback"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/git"
)

// The names of the machines in the log. They are part of what is on disk.
const (
	machineChat = "chat"
	machinePool = "pool"
)

// node is a running node, built bottom-up by open and closed top-down.
type node struct {
	c       Config
	mesh    *loopback.Mesh
	listen  net.Listener
	key     *seal.Key
	store   *store.Store
	room    *chat.Room
	pool    *provision.State
	log     *consensus.Log
	engine  *docker.Engine
	mirrors *git.Mirrors
	runner  *workspace.Runner
	sched   *scheduler
	forges  forges
	once    sync.Once
	caught  chan struct{} // closed by once, when this node applied what was committed before it started
	pages   *ui.Server
	closers []func() error // in the order of opening
}

// run opens a node, calls ready with its URL, and serves until ctx ends or the
// node must stop.
func run(ctx context.Context, c Config, ready func(url string)) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	n := &node{c: c, caught: make(chan struct{})}
	err = n.open(ctx)
	if err == nil {
		ready("http://" + n.listen.Addr().String())
		err = n.serve(ctx)
	}
	return errors.Join(err, n.close())
}

func (n *node) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{n.openState, n.openLog, n.openWorkspaces, n.openPages} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) onClose(f func() error) { n.closers = append(n.closers, f) }

func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	return errors.Join(errs...)
}

// openState takes the state directory for this process.
func (n *node) openState(ctx context.Context) error {
	if err := os.MkdirAll(n.c.State, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	if err := n.lock(); err != nil {
		return err
	}
	var err error
	if n.mesh, err = loopback.New(); err != nil {
		return err
	}
	if n.listen, err = n.mesh.Listen(ctx, n.c.Listen); err != nil {
		return err
	}
	n.onClose(func() error { return ignoreClosed(n.listen.Close()) })
	if n.key, err = seal.Load(n.c.dir("mesh.key")); err != nil {
		return err
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// lock keeps a second process out of the state directory.
func (n *node) lock() error {
	f, err := os.OpenFile(n.c.dir("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the lock of the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("%s is in use by another samnode; stop it or choose another --state", n.c.State), f.Close())
	}
	n.onClose(f.Close)
	return nil
}

// openLog opens the chat's store and the log that drives it and the pool.
func (n *node) openLog(ctx context.Context) error {
	st, err := n.openStore(ctx)
	if err != nil {
		return err
	}
	n.store = st
	n.onClose(st.Close)
	state, applied, err := st.Load(ctx)
	if err != nil {
		return fmt.Errorf("loading the chat: %w", err)
	}
	n.room = chat.NewRoom(chat.RoomConfig{State: state, Applied: applied, History: st, Log: proposer{n}, Logger: n.c.Logger})
	n.pool = provision.NewState()
	n.log, err = consensus.Open(ctx, consensus.Config{
		Dir: n.c.dir("raft"), Node: n.c.Node, Bootstrap: true, Logger: n.c.Logger,
		Machines: map[string]consensus.Machine{
			machineChat: chatMachine{store.NewMachine(st, state, applied, n.room)},
			machinePool: poolMachine{n.pool},
		},
	})
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	n.onClose(n.log.Close)
	return nil
}

// openStore opens the chat's store. A corrupt one was moved aside: the log
// fills the new one as far as it reaches, and says so when it does not.
func (n *node) openStore(ctx context.Context) (*store.Store, error) {
	cfg := store.Config{Path: n.c.dir("chat/chat.db"), Logger: n.c.Logger}
	st, err := store.Open(ctx, cfg)
	if errors.Is(err, store.ErrCorrupt) {
		n.c.Logger.Error("the chat's store was corrupt; building it again from the log", "err", err)
		st, err = store.Open(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the chat's store: %w", err)
	}
	return st, nil
}

func (n *node) openWorkspaces(ctx context.Context) error {
	var err error
	n.engine, err = docker.Open(ctx, docker.Config{Mesh: n.c.Node, Logger: n.c.Logger})
	if err != nil {
		return fmt.Errorf("opening the Docker engine: %w", err)
	}
	n.onClose(n.engine.Close)
	if n.mirrors, err = git.Open(git.Config{Dir: n.c.dir("mirrors"), Logger: n.c.Logger}); err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if binary, err = filepath.EvalSymlinks(binary); err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	n.runner, err = workspace.New(workspace.Config{
		Node: chat.Node(n.c.Node), Dir: n.c.dir("w"), Binary: binary, Image: n.c.Image,
		Agents: n.c.Agents, Tools: n.c.dir("tools"),
		Board: n.room, Engine: n.engine, Mirrors: n.mirrors, Forge: n.forge, Secret: n.secret,
		Upstream: n.c.Upstream, Silence: n.c.Silence, CPUs: n.c.CPUs, Memory: n.c.Memory, Logger: n.c.Logger,
	})
	if err != nil {
		return err
	}
	n.sched = &scheduler{node: chat.Node(n.c.Node), room: n.room, pool: n.pool, propose: n.log.Propose, log: n.c.Logger}
	return nil
}

func (n *node) link(task chat.TaskID) string {
	return "http://" + n.listen.Addr().String() + "/t/" + string(task)
}

// serve runs everything that has a loop of its own.
func (n *node) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	srv := &http.Server{
		Handler:           n.pages,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	g.Go(func() error {
		if err := srv.Serve(n.listen); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving: %w", err)
		}
		return nil
	})
	g.Go(func() error { <-ctx.Done(); return n.shutdown(srv) })
	g.Go(func() error {
		select {
		case <-n.log.Failed():
			return n.log.Err()
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { return n.log.Lead(ctx, n.lead) })
	g.Go(func() error {
		// Until then the state is of some time ago: a lease that it does not
		// show is not one that ended.
		select {
		case <-n.caught:
			return n.runner.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	err := g.Wait()
	if why := n.log.Err(); why != nil {
		return failed(why) // whoever noticed it first, this is the cause
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// failed says why the log ended this node.
func failed(why error) error {
	if errors.Is(why, consensus.ErrFull) {
		why = fmt.Errorf("%w: %w", chat.ErrFull, why)
	}
	return fmt.Errorf("the log failed, this node stops: %w", why)
}

// shutdown lets requests end for 5 s; streams end with the pages.
func (n *node) shutdown(srv *http.Server) error {
	err := n.pages.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		err = errors.Join(err, srv.Close())
	}
	return err
}

// lead is the leader's work: announce this machine and give out its slots. The
// log is caught up when it begins.
func (n *node) lead(ctx context.Context) error {
	n.once.Do(func() { close(n.caught) })
	part, err := poolPart(provision.Command{Machine: &provision.Machine{Node: n.c.Node, State: provision.Ready, Slots: n.c.Slots}})
	if err != nil {
		return err
	}
	if _, err := n.log.Propose(ctx, part); err != nil {
		return fmt.Errorf("announcing this machine: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.sched.run(ctx) })
	g.Go(func() error { return n.watchPulls(ctx) })
	return g.Wait()
}

// proposer is the chat's way into the log.
type proposer struct{ n *node }

func (p proposer) Propose(ctx context.Context, data []byte) (uint64, error) {
	index, err := p.n.log.Propose(ctx, consensus.Part{Machine: machineChat, Data: data})
	if errors.Is(err, consensus.ErrFull) {
		return index, chat.ErrFull // the log has the rest
	}
	return index, err
}

// chatMachine and poolMachine fit the state machines to the log's idea of one.
type chatMachine struct{ *store.Machine }

func (m chatMachine) Apply(entries []consensus.Entry) error {
	list := make([]store.Entry, len(entries))
	for i, e := range entries {
		list[i] = store.Entry(e)
	}
	return m.Machine.Apply(list)
}

func (m chatMachine) Restore(r io.Reader) error {
	err := m.Machine.Restore(r)
	if errors.Is(err, store.ErrBehind) {
		return fmt.Errorf("%w: %w", consensus.ErrManifest, err)
	}
	return err
}

type poolMachine struct{ *provision.State }

// Applied is 0: the pool lives in memory and comes from the snapshot.
func (poolMachine) Applied() uint64 { return 0 }

func (m poolMachine) Apply(entries []consensus.Entry) error {
	for _, e := range entries {
		if err := m.State.Apply(e.Index, e.At, e.Data); err != nil {
			return err
		}
	}
	return nil
}

// setSecret seals a value and puts it into the log.
func (n *node) setSecret(ctx context.Context, by chat.Author, scope chat.ProjectID, name, value string) error {
	sealed := n.key.Seal(sealName(scope, name), []byte(value))
	op := chat.Op{SecretPut: &chat.SecretPut{Secret: chat.Secret{Scope: scope, Name: name, Sealed: sealed}}}
	_, err := n.room.Do(ctx, by, "", op)
	return err
}

// secret returns a project's secret, or the mesh's of that name.
func (n *node) secret(_ context.Context, scope chat.ProjectID, name string) (string, error) {
	for _, s := range []chat.ProjectID{scope, ""} {
		for _, x := range n.room.Secrets(s) {
			if x.Name == name {
				value, err := n.key.Open(sealName(s, name), x.Sealed)
				return string(value), err
			}
		}
	}
	return "", fmt.Errorf("secret %s: %w", name, chat.ErrNotFound)
}

func sealName(scope chat.ProjectID, name string) string {
	b, _ := json.Marshal([]string{string(scope), name}) // two strings always encode
	return string(b)
}
