package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// scheduler is cmd/samnode's, with the board for a chat.
type scheduler struct {
	l      *life
	silent func() []string
}

func (s *scheduler) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := s.l.proc.pass(ctx); err != nil {
			return err
		}
		_, pool := s.l.pool.view()
		_, _, board := s.l.board.tasks()
		if err := s.decide(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, consensus.ErrNoLeader) {
				return err
			}
			s.l.w.say("%s: scheduling: %v", s.l.boot, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-pool:
		case <-board:
		case <-tick.C:
		}
	}
}

// decide brings tasks and leases together and places what waits.
func (s *scheduler) decide(ctx context.Context) error {
	pool, _ := s.l.pool.view()
	if err := s.l.board.wait(ctx, newestGrant(pool)); err != nil {
		return fmt.Errorf("waiting for the board: %w", err)
	}
	tasks, _, _ := s.l.board.tasks()
	if moved, err := s.reconcile(ctx, pool, tasks); moved || err != nil {
		return err
	}
	silent := s.silent()
	if expired := provision.Expired(pool, silent); len(expired) > 0 {
		return s.expire(ctx, expired)
	}
	var waiting []provision.Waiting
	for _, t := range tasks {
		if t.Token == 0 {
			waiting = append(waiting, provision.Waiting{Task: t.Task, Last: t.Home})
		}
	}
	for _, d := range provision.Schedule(pool, waiting, silent) {
		if d.Node == "" {
			continue
		}
		if err := s.place(ctx, d); err != nil {
			return fmt.Errorf("placing %s: %w", d.Task, err)
		}
	}
	return nil
}

func newestGrant(p provision.Pool) (index uint64) {
	for _, l := range p.Leases {
		index = max(index, l.Token)
	}
	return index
}

// reconcile ends what one side has and the other has not.
func (s *scheduler) reconcile(ctx context.Context, pool provision.Pool, tasks []task) (moved bool, err error) {
	byName := make(map[string]task, len(tasks))
	for _, t := range tasks {
		byName[t.Task] = t
	}
	for _, l := range pool.Leases {
		if byName[l.Task].Token == l.Token {
			continue
		}
		if err := s.release(ctx, provision.Release{Task: l.Task, Token: l.Token}); err != nil {
			return moved, fmt.Errorf("freeing slot %s: %w", l.Slot, err)
		}
		moved = true
	}
	for _, t := range tasks {
		if t.Token == 0 {
			continue
		}
		if l, has := pool.Lease(t.Task); has && l.Token == t.Token {
			continue
		}
		if err := s.expireTask(ctx, t.Task, t.Token); err != nil {
			return moved, err
		}
		moved = true
	}
	return moved, nil
}

func (s *scheduler) release(ctx context.Context, r provision.Release) error {
	id := s.l.w.id("release")
	part, err := poolPart(provision.Command{ID: id, Release: &r})
	if err == nil {
		_, err = s.l.do(ctx, id, part)
	}
	return err
}

func (s *scheduler) expireTask(ctx context.Context, task string, token uint64) error {
	err := s.l.boardDo(ctx, op{ID: s.l.w.id("expire"), Expire: &leaseOp{Task: task, Token: token}})
	if err != nil && !errors.Is(err, errStale) {
		return fmt.Errorf("expiring the lease of %s: %w", task, err)
	}
	return nil
}

// place grants the slot and then tells the task. One entry for both would be
// refused by half now and then: the pool knows the slots, the board the tasks.
func (s *scheduler) place(ctx context.Context, d provision.Decision) error {
	c := provision.Command{ID: s.l.w.id("grant"), Grant: &provision.Grant{Task: d.Task, Node: d.Node, Slot: d.Slot}}
	o := op{ID: s.l.w.id("place"), Place: &leaseOp{Task: d.Task, Node: d.Node, Slot: d.Slot}}
	grant, err := poolPart(c)
	if err != nil {
		return err
	}
	index, err := s.l.do(ctx, c.ID, grant)
	if err != nil {
		return err
	}
	if out, _ := s.l.pool.Outcome(c.ID); out.Err() != nil && !s.l.w.flaws.twice {
		return nil // something else came first: the pool has changed
	}
	o.Place.Token = index
	place, err := boardPart(o)
	if err == nil {
		_, err = s.l.do(ctx, o.ID, place)
	}
	return err
}

// expire ends the leases of silent nodes: the slot first.
func (s *scheduler) expire(ctx context.Context, expired []provision.Expiry) error {
	for _, e := range expired {
		if err := s.release(ctx, *e.Release()); err != nil {
			return fmt.Errorf("ending the lease of %s: %w", e.Lease.Task, err)
		}
		pool, _ := s.l.pool.view()
		if l, has := pool.Lease(e.Lease.Task); has && l.Token == e.Lease.Token {
			continue
		}
		s.l.w.tally.expired.Add(1)
		if err := s.expireTask(ctx, e.Lease.Task, e.Lease.Token); err != nil {
			return err
		}
	}
	return nil
}
