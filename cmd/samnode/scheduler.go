package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// idleRelease is how long an idle task keeps its workspace. Its work is on the
// branch and its volume stays, so a later message costs a warm start only.
const idleRelease = 30 * time.Minute

// scheduler gives queued tasks their slots. It runs on the leader and keeps
// nothing that the state does not say again.
type scheduler struct {
	node    chat.Node
	room    *chat.Room
	pool    *provision.State
	propose func(ctx context.Context, parts ...consensus.Part) (uint64, error)
	silent  func() []string // nodes that this leader has not heard from for as long as a lease lasts
	log     *slog.Logger
}

// run decides again whenever a task waits, has or lost a lease, or the pool
// changed, and every few seconds for what only time changes, until ctx ends.
// Messages alone change nothing that it looks at.
func (s *scheduler) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	poke := make(chan struct{}, 1)
	g.Go(func() error { return s.watchTasks(ctx, poke) })
	g.Go(func() error {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			_, changed := s.pool.Pool()
			if err := s.decide(ctx); err != nil && ctx.Err() == nil {
				if errors.Is(err, consensus.ErrNoLeader) {
					return err
				}
				s.log.Error("scheduling", "err", err)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-poke:
			case <-changed:
			case <-tick.C:
			}
		}
	})
	return g.Wait()
}

func (s *scheduler) watchTasks(ctx context.Context, poke chan<- struct{}) error {
	var after uint64
	for {
		index, err := s.room.LiveSince(ctx, after)
		if err != nil {
			return err
		}
		after = index
		select {
		case poke <- struct{}{}:
		default:
		}
	}
}

// decide brings tasks and leases together and places what waits.
func (s *scheduler) decide(ctx context.Context) error {
	pool, _ := s.pool.Pool()
	// The two machines apply one entry one after the other: wait until the chat
	// has seen the newest grant, too, before comparing them.
	if err := s.room.Wait(ctx, newestGrant(pool)); err != nil {
		return fmt.Errorf("waiting for the chat: %w", err)
	}
	tasks := s.room.Leased()
	if moved, err := s.reconcile(ctx, pool, tasks); moved || err != nil {
		return err // what moved wakes run, which decides on the new state
	}
	silent := s.silent()
	if expired := provision.Expired(pool, silent); len(expired) > 0 {
		return s.expire(ctx, expired)
	}
	queue := s.room.Waiting()
	blocked := false
	for i, d := range provision.Decide(pool, waiting(s.room, queue), silent, time.Now().UTC()).Decisions {
		w := queue[i]
		if d.Node == "" {
			blocked = blocked || d.Machine == "" && !d.Buy
			if w.State == chat.Queued && d.Machine == "" && !d.Buy {
				continue // it only waits, as thousands may
			}
			if err := s.follow(ctx, pool, d); err != nil {
				return err
			}
			continue
		}
		if err := s.place(ctx, d, string(w.Author)); err != nil {
			return fmt.Errorf("placing %s: %w", d.Task, err)
		}
	}
	return s.releaseIdle(ctx, tasks, blocked)
}

func newestGrant(p provision.Pool) (index uint64) {
	for _, l := range p.Leases {
		index = max(index, l.Token)
	}
	return index
}

// reconcile ends what one side has and the other has not: a slot whose task
// gave its lease up, and a task whose slot is gone.
func (s *scheduler) reconcile(ctx context.Context, pool provision.Pool, tasks []chat.Task) (moved bool, err error) {
	byID := make(map[string]chat.Task, len(tasks))
	for _, t := range tasks {
		byID[string(t.ID)] = t
	}
	for _, l := range pool.Leases {
		if t := byID[l.Task]; t.Lease != nil && t.Lease.Token == l.Token {
			continue
		}
		part, err := poolPart(provision.Command{Release: &provision.Release{Task: l.Task, Token: l.Token}})
		if err != nil {
			return moved, err
		}
		if _, err := s.propose(ctx, part); err != nil {
			return moved, fmt.Errorf("freeing slot %s: %w", l.Slot, err)
		}
		moved = true
	}
	for _, t := range tasks {
		if t.Lease == nil {
			continue
		}
		if l, has := pool.Lease(string(t.ID)); has && l.Token == t.Lease.Token {
			continue
		}
		op := chat.Op{Expire: &chat.Expire{Task: t.ID, Token: t.Lease.Token, Reason: "The machine's slot is gone"}}
		if _, err := s.room.Do(ctx, s.author(), "", op); err != nil && !errors.Is(err, chat.ErrStale) {
			return moved, fmt.Errorf("expiring the lease of %s: %w", t.ID, err)
		}
		moved = true
	}
	return moved, nil
}

// place grants the slot and moves the task in one entry.
func (s *scheduler) place(ctx context.Context, d provision.Decision, owner string) error {
	data, err := chat.Encode(chat.Command{
		Version: chat.Version, ID: ulid.Make().String(), Author: s.author(),
		Op: chat.Op{Place: &chat.Place{Task: chat.TaskID(d.Task), Node: chat.Node(d.Node), Slot: d.Slot, Note: d.Reason}},
	})
	if err != nil {
		return err
	}
	part, err := poolPart(provision.Command{Grant: &provision.Grant{Task: d.Task, Node: d.Node, Slot: d.Slot, Owner: owner}})
	if err != nil {
		return err
	}
	_, err = s.propose(ctx, part, consensus.Part{Machine: machineChat, Data: data})
	return err
}

// follow shows a task that waits for a machine how far that is.
func (s *scheduler) follow(ctx context.Context, pool provision.Pool, d provision.Decision) error {
	t, err := s.room.Task(d.Task)
	if err != nil {
		return fmt.Errorf("reading a task that waits: %w", err)
	}
	for _, set := range waitSteps(pool, d, t) {
		i := slices.IndexFunc(t.Steps, func(x chat.Step) bool { return x.Name == set.Name })
		if i < 0 && set.State != chat.StepRunning || i >= 0 && t.Steps[i].State == set.State {
			continue
		}
		set.Task, set.Note = t.ID, d.Reason
		_, err := s.room.Do(ctx, s.author(), "", chat.Op{StepSet: &set})
		if err != nil && !errors.Is(err, chat.ErrRefused) && !errors.Is(err, chat.ErrStale) {
			return fmt.Errorf("showing what %s waits for: %w", t.ID, err)
		}
	}
	return nil
}

// waitSteps are the steps of a task's wait, as they should be.
func waitSteps(pool provision.Pool, d provision.Decision, t chat.Task) []chat.StepSet {
	m, is := pool.Machine(d.Machine)
	switch {
	case is && m.State == provision.Booting:
		return []chat.StepSet{{Name: chat.StepBuy, State: chat.StepDone}, {Name: chat.StepBoot, State: chat.StepRunning}}
	case is:
		return []chat.StepSet{{Name: chat.StepBuy, State: chat.StepRunning}}
	case d.Buy: // it is in the pool the next time
		return nil
	case t.State == chat.Booting: // the machine did not come up, and there is no other
		return []chat.StepSet{{Name: chat.StepBoot, State: chat.StepFailed}}
	case t.State == chat.Buying:
		return []chat.StepSet{{Name: chat.StepBuy, State: chat.StepFailed}}
	}
	return nil
}

// releaseIdle gives back the workspaces that nobody used for long; when tasks
// wait for a slot, the one idle longest goes at once.
func (s *scheduler) releaseIdle(ctx context.Context, tasks []chat.Task, blocked bool) error {
	var idle []chat.Task
	for _, t := range tasks {
		if t.Lease != nil && len(t.Queue) == 0 && (t.State == chat.Idle || t.State == chat.Stopped) {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b chat.Task) int { return a.Since.Compare(b.Since) })
	for i, t := range idle {
		if age := time.Since(t.Since); age < idleRelease && (!blocked || i > 0) {
			continue
		}
		op := chat.Op{Release: &chat.Release{Task: t.ID}}
		if _, err := s.room.Do(ctx, s.author(), "", op); err != nil && !errors.Is(err, chat.ErrRefused) {
			return fmt.Errorf("releasing the workspace of %s: %w", t.ID, err)
		}
	}
	return nil
}

func (s *scheduler) author() chat.Author { return chat.Author{Node: s.node} }

// waiting is what waits, for the pool. A task is its author's: nobody else's
// shares a bought machine with it; what its machine must have its project says.
func waiting(room *chat.Room, queue []chat.Waiting) []provision.Waiting {
	out := make([]provision.Waiting, len(queue))
	needs := map[chat.ProjectID]provision.Need{}
	for i, w := range queue {
		need, known := needs[w.Project]
		if !known {
			p, _ := room.Project(string(w.Project)) // of one that is gone: nothing
			need = needOf(p.Machine)
			needs[w.Project] = need
		}
		out[i] = provision.Waiting{Task: string(w.Task), Last: string(w.Home), Owner: string(w.Author), Need: need}
	}
	return out
}

// needOf is what a project's tasks ask of a machine.
func needOf(m chat.Needs) provision.Need {
	return provision.Need{CPUs: m.CPUs, Mem: m.Memory, Disk: m.Disk, Labels: m.Labels, Location: m.Location}
}

// expire ends the leases of silent nodes. The slot comes first, because the
// pool alone knows whether its node was heard in the meantime; until the task
// is told, too, it has a lease whose token the pool does not know, and nobody
// else can have its workspace: a crash in between is reconcile's to mend.
func (s *scheduler) expire(ctx context.Context, expired []provision.Expiry) error {
	for _, e := range expired {
		s.log.Warn("a lease ran out", "task", e.Lease.Task, "node", e.Lease.Node, "token", e.Lease.Token)
		release, err := poolPart(provision.Command{Release: e.Release()})
		if err != nil {
			return err
		}
		if _, err := s.propose(ctx, release); err != nil {
			return fmt.Errorf("ending the lease of %s: %w", e.Lease.Task, err)
		}
		pool, _ := s.pool.Pool()
		if l, has := pool.Lease(e.Lease.Task); has && l.Token == e.Lease.Token {
			continue
		}
		op := chat.Op{Expire: &chat.Expire{Task: chat.TaskID(e.Lease.Task), Token: e.Lease.Token, Reason: e.Reason}}
		if _, err := s.room.Do(ctx, s.author(), "", op); err != nil && !errors.Is(err, chat.ErrStale) {
			return fmt.Errorf("expiring the lease of %s: %w", e.Lease.Task, err)
		}
	}
	return nil
}

func poolPart(c provision.Command) (consensus.Part, error) {
	c.Version = provision.Version
	data, err := json.Marshal(c)
	if err != nil {
		return consensus.Part{}, fmt.Errorf("encoding a pool command: %w", err)
	}
	return consensus.Part{Machine: machinePool, Data: data}, nil
}
