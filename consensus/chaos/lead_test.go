package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

const (
	beatEvery  = 500 * time.Millisecond
	alignEvery = time.Second
)

// lead is the leader's work, as cmd/samnode wires it.
func (l *life) lead(ctx context.Context) error {
	l.w.reigns(l, true)
	defer l.w.reigns(l, false)
	defer l.past.Store(new(context.WithoutCancel(ctx)))
	if err := l.found(ctx); err != nil {
		return err
	}
	heart := provision.NewHeart(provision.HeartConfig{
		State: l.pool.State, Every: beatEvery, LeaseFor: l.w.plan.leaseFor,
		Propose: func(ctx context.Context, c provision.Command) error {
			part, err := poolPart(c)
			if err == nil {
				_, err = l.do(ctx, l.w.id("beats"), part)
			}
			return err
		},
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return heart.Run(ctx) })
	l.heart.Store(heart)
	defer l.heart.Store(nil)
	g.Go(func() error { return (&scheduler{l: l, silent: heart.Silent}).run(ctx) })
	g.Go(func() error { return l.keepMembers(ctx) })
	g.Go(func() error {
		return l.log.Tend(ctx, consensus.TendConfig{Want: l.w.plan.voters, After: 5 * time.Second, Silent: func(node string) bool {
			ago, known := heart.HeardAgo(node)
			return known && ago > 2*beatEvery+5*time.Second
		}})
	})
	return g.Wait()
}

func (l *life) found(ctx context.Context) error {
	if p, _ := l.pool.view(); p.Mesh.ID != "" {
		return nil
	}
	c := provision.Command{ID: l.w.id("found"), Found: &provision.Found{Mesh: "mesh", Node: provision.Node{Name: l.n.name, Addr: l.n.addr()}}}
	part, err := poolPart(c)
	if err == nil {
		_, err = l.do(ctx, c.ID, part)
	}
	return err
}

func (l *life) keepMembers(ctx context.Context) error {
	tick := time.NewTicker(alignEvery)
	defer tick.Stop()
	for {
		if err := l.proc.pass(ctx); err != nil {
			return err
		}
		if err := l.alignMembers(ctx); err != nil && ctx.Err() == nil {
			l.w.say("%s: aligning the members: %v", l.boot, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// alignMembers takes out of the group who is in the pool no more. Who is in the
// pool and not in the group is not put back: it may be about to leave, with its
// vote gone first.
func (l *life) alignMembers(ctx context.Context) error {
	members, err := l.log.Members(ctx)
	if err != nil {
		return err
	}
	p, _ := l.pool.view()
	in := map[string]bool{}
	for _, m := range members {
		in[m.Node] = true
		if n, ok := p.Node(m.Node); ok && n.Core {
			continue
		}
		if err := l.log.RemoveMember(ctx, m.Node); err != nil {
			return err
		}
	}
	for _, n := range p.Nodes {
		if !n.Core || in[n.Name] || !l.w.flaws.putBack {
			continue
		}
		if err := l.log.AddMember(ctx, n.Name, n.Addr); err != nil {
			return err
		}
	}
	return nil
}

// invite makes an invitation and lets a node in with it, as a core node that is
// asked does.
func (l *life) invite(ctx context.Context, n *node) error {
	id := l.w.id("invite")
	hash := fmt.Sprintf("%064x", l.w.ids.Load())
	err := l.poolDo(ctx, provision.Command{Invite: &provision.Invite{ID: id, Hash: hash, Core: n.core, Expires: time.Now().Add(time.Hour)}})
	if err != nil {
		return fmt.Errorf("inviting %s: %w", n.name, err)
	}
	return l.poolDo(ctx, provision.Command{Join: &provision.Join{Invite: id, Hash: hash, Node: provision.Node{Name: n.name, Addr: n.addr(), Core: n.core}}})
}

// admit is the rest of letting in a core node.
func (l *life) admit(ctx context.Context, n *node) error {
	return l.log.AddMember(ctx, n.name, n.addr())
}

// remove takes a node out of the mesh, as a core node that is asked does.
func (l *life) remove(ctx context.Context, n *node) error {
	if n.core {
		if err := l.log.RemoveMember(ctx, n.name); err != nil {
			return err
		}
	}
	err := l.poolDo(ctx, provision.Command{Remove: &provision.Remove{Node: n.name}})
	if errors.Is(err, provision.ErrNotFound) {
		return nil
	}
	return err
}
