package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// lead is the leader's work. The log is caught up when it begins.
func (n *node) lead(ctx context.Context) error {
	if err := n.awaitEpoch(ctx); err != nil {
		return err
	}
	if err := n.found(ctx); err != nil {
		return err
	}
	if err := n.dropLost(ctx); err != nil {
		return err
	}
	heart := provision.NewHeart(provision.HeartConfig{
		State: n.pool, Every: n.c.BeatEvery, LeaseFor: n.c.LeaseFor,
		Propose: func(ctx context.Context, c provision.Command) error {
			part, err := poolPart(c)
			if err == nil {
				_, err = n.log.Propose(ctx, part)
			}
			return err
		},
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return heart.Run(ctx) })
	n.heart.set(heart)
	defer n.heart.set(nil)
	sched := &scheduler{
		node: chat.Node(n.c.Node), room: n.room, pool: n.pool, propose: n.log.Propose, silent: heart.Silent, log: n.c.Logger,
	}
	g.Go(func() error { return sched.run(ctx) })
	g.Go(func() error { return n.watchPulls(ctx) })
	g.Go(func() error { return n.keepBackups(ctx) })
	g.Go(func() error { return n.keepHostKey(ctx) })
	g.Go(func() error { return n.keepMachines(ctx, heart) })
	if !n.c.Alone {
		g.Go(func() error { return n.keepMembers(ctx) })
		g.Go(func() error {
			return n.log.Tend(ctx, consensus.TendConfig{Silent: func(node string) bool {
				ago, known := heart.HeardAgo(node)
				return known && ago > 2*n.c.BeatEvery+5*time.Second
			}, After: n.c.ReplaceAfter})
		})
	}
	return g.Wait()
}

// found makes the mesh in the pool when the founder leads for the first time:
// an empty one, or one over what came from a backup.
func (n *node) found(ctx context.Context) error {
	pool, _ := n.pool.Pool()
	if pool.Mesh.ID == n.id.Mesh {
		return nil
	}
	if pool.Mesh.ID != n.id.Over {
		return fmt.Errorf("%w: the log is of mesh %s, %s says %s: restore the file from a copy, or the directory from a backup",
			consensus.ErrForeign, pool.Mesh.ID, identityFile, n.id.Mesh)
	}
	part, err := poolPart(provision.Command{ID: ulid.Make().String(), Found: &provision.Found{
		Mesh: n.id.Mesh, Over: n.id.Over, Node: provision.Node{Name: n.c.Node, Addr: n.net.Addr(), Version: version, URL: n.base},
	}})
	if err != nil {
		return err
	}
	if _, err := n.log.Propose(ctx, part); err != nil {
		return fmt.Errorf("founding the mesh: %w", err)
	}
	return nil
}

// dropLost takes the nodes out of the mesh that a recovery gave up: their logs
// are of another group now, so that they cannot come back as they are.
func (n *node) dropLost(ctx context.Context) error {
	if len(n.id.Lost) == 0 {
		return nil
	}
	for _, name := range n.id.Lost {
		pool, _ := n.pool.Pool()
		m, _ := pool.Node(name)
		err := n.poolDo(ctx, provision.Command{Remove: &provision.Remove{Node: name}})
		if err != nil && !errors.Is(err, chat.ErrNotFound) {
			return fmt.Errorf("taking %s out, which was lost: %w", name, err)
		}
		if m.Addr != "" {
			n.traces.add(ctx, name, m.Addr)
		}
	}
	n.id.Lost = nil
	return n.id.write(n.c.State)
}

// keepMembers holds the log's group and the pool's list of core nodes
// together: each is changed by its own entry, and a node can die in between.
func (n *node) keepMembers(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		if err := n.alignMembers(ctx); err != nil && ctx.Err() == nil {
			n.c.Logger.Warn("holding the log's group and the mesh together", "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// alignMembers takes out of the group who is in no list any more. It puts
// nobody in: one that is listed and not in the group is being removed, or asks
// again to be let in, and a member that is put back while it is being removed
// can cost the majority.
func (n *node) alignMembers(ctx context.Context) error {
	members, err := n.log.Members(ctx)
	if err != nil {
		return err
	}
	pool, _ := n.pool.Pool()
	var errs []error // the group may be able to do without the next one
	for _, m := range members {
		if p, ok := pool.Node(m.Node); ok && p.Core {
			continue
		}
		n.c.Logger.Info("taking a node that left out of the log's group", "name", m.Node)
		errs = append(errs, n.log.RemoveMember(ctx, m.Node))
	}
	return errors.Join(errs...)
}

// watchMembership ends a node that was removed, or whose place another process
// took.
func (n *node) watchMembership(ctx context.Context) error {
	for {
		pool, changed := n.pool.Pool()
		m, ok := pool.Node(n.c.Node)
		switch {
		case !ok:
			return errNotMember
		case m.Boot != "" && m.Boot != n.boot && m.Generation >= n.id.Generation:
			return fmt.Errorf("%w since %s: this state directory was copied; stop one of the two, remove the copy and join it as a new node",
				errTwin, m.Started.Format(time.RFC3339))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
