package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/seal"
	"github.com/samnode/samnode/chat/store"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/keeper"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/ui/metrics"
	"github.com/samnode/samnode/ui/preview"
	"github.com/samnode/samnode/workspace/remote"
)

// The names of the machines in the log. They are part of what is on disk.
const (
	machineChat = "chat"
	machinePool = "pool"
)

// node is a running core node: it holds the log, the chat and the pool, and
// the mesh key. It is built bottom-up by open and closed top-down.
type node struct {
	host
	key      *seal.Key
	store    *store.Store
	room     *chat.Room
	pool     *provision.State
	log      *consensus.Log
	sched    *scheduler
	group    sheet[*consensus.Log]   // log, once it is open
	heart    sheet[*provision.Heart] // while this node leads
	keeper   sheet[*keeper.Keeper]   // while this node leads, and machines can be bought
	noKeeper sheet[error]            // while this node leads: why they cannot
	program  program
	backup   backups
	spaces   *remote.Client
	peers    peerCache
	arrivals arrivals
	metrics  *metrics.Metrics
	current  currency
	decided  decisions
	traces   *traces
	door     sheet[*sshDoor]
	visits   *visits
	files    taskFiles
	portals  *portals
	previews *preview.Server
	caught   chan struct{} // closed when this node applied what was committed before it started
	pages    *ui.Server
}

// run opens the node of a state directory, calls ready with its URL and with
// the one for this machine, and serves until ctx ends or the node must stop.
func run(ctx context.Context, c Config, ready func(url, here string)) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	id, err := readIdentity(c.State)
	if err != nil {
		return err
	}
	c.Node = id.Node
	if id.Overtaken > id.Epoch {
		return &exitError{exitRefused, (&errOvertaken{epoch: id.Overtaken}).Error()}
	}
	if !id.Core {
		return runWorker(ctx, c, ready)
	}
	if c.DeadMan > 0 {
		return &exitError{exitUsage, "--dead-man is for workers: a core node that powers itself off takes a part of the mesh with it"}
	}
	n := &node{host: host{c: c}, caught: make(chan struct{})}
	err = n.open(ctx)
	if err == nil {
		ready(n.base, n.here())
		err = n.serve(ctx)
	}
	return errors.Join(err, n.close())
}

func (n *node) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		n.openState, n.openKey, n.openNetworkHere, n.openLog, n.openMetrics, n.openSpaces, n.openWorkspacesHere, n.openPreviews, n.openPages,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) openKey(context.Context) (err error) {
	n.key, err = seal.Load(n.c.dir("mesh.key"))
	return err
}

func (n *node) openNetworkHere(ctx context.Context) error {
	err := n.openNetwork(ctx, n.allow)
	n.openTraces()
	return err
}

func (n *node) openWorkspacesHere(context.Context) error {
	return n.openWorkspaces(spaces{board: newOwnBoard(n.room, n.c.Node), forge: n.forge, secret: n.secret})
}

// openLog opens the chat's store and the log that drives it and the pool.
func (n *node) openLog(ctx context.Context) error {
	conf, err := n.logConfig(ctx)
	if err != nil {
		return err
	}
	if conf.Transport, err = n.transport(ctx); err != nil {
		return err
	}
	if n.log, err = consensus.Open(ctx, conf); err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	n.group.set(n.log)
	n.onClose(n.log.Close)
	return n.checkAlone(ctx)
}

// checkAlone keeps `dev` from starting one of several nodes without a way to
// the others.
func (n *node) checkAlone(ctx context.Context) error {
	members, err := n.log.Members(ctx)
	if err == nil && n.c.Alone && len(members) > 1 {
		err = &exitError{exitRefused, fmt.Sprintf("%s is one of %d nodes of a mesh: start it with samnode run", n.c.Node, len(members))}
	}
	return err
}

// logConfig opens the machines and says how to open the log over them.
func (n *node) logConfig(ctx context.Context) (consensus.Config, error) {
	st, err := n.openStore(ctx)
	if err != nil {
		return consensus.Config{}, err
	}
	n.store = st
	n.onClose(st.Close)
	state, applied, err := st.Load(ctx)
	if err != nil {
		return consensus.Config{}, fmt.Errorf("loading the chat: %w", err)
	}
	n.room = chat.NewRoom(chat.RoomConfig{State: state, Applied: applied, History: st, Log: proposer{n}, Logger: n.c.Logger})
	n.pool = provision.NewState()
	return consensus.Config{
		Dir: n.c.dir("raft"), Node: n.c.Node, Bootstrap: n.id.Founder, Join: !n.id.Founder, Logger: n.c.Logger,
		HeartbeatTimeout: n.c.Heartbeat, ElectionTimeout: n.c.Heartbeat,
		Machines: map[string]consensus.Machine{
			machineChat: chatMachine{store.NewMachine(st, state, applied, n.room)},
			machinePool: poolMachine{n.pool},
		},
	}, nil
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

func (n *node) link(task chat.TaskID) string { return n.base + "/t/" + string(task) }

// serve runs everything that has a loop of its own.
func (n *node) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if err := n.serveCalls(ctx, g, n.calls()); err != nil {
		return err
	}
	if err := n.serveBinary(ctx, g); err != nil {
		return err
	}
	n.keepVisits(ctx, g)
	if err := n.serveSSH(ctx, g); err != nil {
		return err
	}
	if err := n.servePages(ctx, g, n.front(), func() { _ = n.pages.Close() }); err != nil { // it has nothing to fail
		return err
	}
	if err := n.servePorts(ctx, g); err != nil {
		return err
	}
	g.Go(func() error {
		select {
		case <-n.log.Failed():
			return n.log.Err()
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { return n.watchEpoch(ctx) })
	g.Go(func() error { return n.traces.run(ctx) })
	g.Go(func() error { return n.log.Lead(ctx, n.lead) })
	g.Go(func() error { return n.work(ctx) })
	err := g.Wait()
	if why := n.log.Err(); why != nil {
		return failed(why) // whoever noticed it first, this is the cause
	}
	return n.left(ended(err))
}

// work takes part in the pool once this node has caught up: until then its
// state is of some time ago, and a lease that it does not show is not one that
// ended.
func (n *node) work(ctx context.Context) error {
	err := patiently(ctx, n.c.Logger, "catching up with the mesh", func(ctx context.Context) error {
		wait, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		_, err := n.log.Fresh(wait)
		if err == nil {
			return nil
		}
		return cmp.Or(n.expelled(ctx), err)
	})
	if err != nil {
		return err
	}
	if err := n.awaitFounding(ctx); err != nil {
		return err
	}
	close(n.caught) // until it is founded anew, a restored mesh shows the nodes of the lost one
	if err := n.announce(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.beats(ctx, n.beat) })
	g.Go(func() error { return n.runner.Run(ctx) })
	g.Go(func() error { return n.watchMembership(ctx) })
	return g.Wait()
}

// expelled asks the other core nodes whether this one is still among them: the
// log of a node that was removed while it was away is told nothing any more.
func (n *node) expelled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	members, err := n.log.Members(ctx)
	if err != nil {
		return nil // the log's end is told elsewhere
	}
	var no error
	for _, m := range members {
		if m.Node == n.c.Node {
			continue
		}
		switch err := n.client.Call(ctx, m.Addr, "/calls/v1/self", struct{}{}, new(ownView)); {
		case err == nil:
			return nil
		case errors.Is(err, errNotMember):
			no = err
		}
	}
	return no
}

// awaitFounding waits until the pool knows its mesh: at its first start the
// founder founds it once it leads.
func (n *node) awaitFounding(ctx context.Context) error {
	for {
		pool, changed := n.pool.Pool()
		if pool.Mesh.ID == n.id.Mesh {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// ended takes the end of ctx for what it is.
func ended(err error) error {
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

// Copy fits the store's whole copy to the log's idea of one.
func (m chatMachine) Copy() (io.WriterTo, error) { return m.Machine.Copy() }

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

// secret returns a project's secret, or the mesh's of that name, for a task.
// What is for core nodes alone no task gets.
func (n *node) secret(_ context.Context, scope chat.ProjectID, name string) (string, error) {
	if !isCoreSecret(name) {
		for _, s := range []chat.ProjectID{scope, ""} {
			value, err := n.openSecret(s, name)
			if !errors.Is(err, chat.ErrNotFound) {
				return value, err
			}
		}
	}
	return "", fmt.Errorf("secret %s: %w", name, chat.ErrNotFound)
}

// openSecret returns the secret of one scope.
func (n *node) openSecret(scope chat.ProjectID, name string) (string, error) {
	for _, x := range n.room.Secrets(scope) {
		if x.Name == name {
			value, err := n.key.Open(sealName(scope, name), x.Sealed)
			return string(value), err
		}
	}
	return "", fmt.Errorf("secret %s: %w", name, chat.ErrNotFound)
}

func sealName(scope chat.ProjectID, name string) string {
	b, _ := json.Marshal([]string{string(scope), name}) // two strings always encode
	return string(b)
}
