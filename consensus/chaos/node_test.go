package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// node is a machine of the mesh, through all the processes that run on it. The
// driver alone changes it.
type node struct {
	w       *world
	name    string
	core    bool
	founder bool

	joins      int    // it has another address each time
	dir        string // of the process that runs, or runs next
	disk       *disk
	shelf      *shelf // nil: the board lives in memory
	generation uint64
	leaving    bool // or no member already
	gone       bool // no member

	mu   sync.Mutex
	life *life // nil: nothing runs
}

func (n *node) addr() string { return fmt.Sprintf("%s/%d", n.name, n.joins) }

func (n *node) now() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

func (n *node) set(l *life) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life = l
}

// wipe makes the node a new machine, which no mesh knows.
func (n *node) wipe() error {
	n.joins++
	n.generation = 0
	n.disk = newDisk(n.w.flaws.lyingDisks)
	n.shelf = newShelf()
	n.dir = filepath.Join(n.w.dir, fmt.Sprintf("%s-%d", n.name, n.w.ids.Add(1)))
	return os.MkdirAll(n.dir, 0o700)
}

// life is one process of a node.
type life struct {
	n       *node
	w       *world
	proc    *process
	boot    string
	log     *consensus.Log // nil: a worker
	opened  atomic.Bool    // the log is
	board   *board
	pool    *pool
	tenure  *provision.Tenure
	heart   atomic.Pointer[provision.Heart] // while this process leads
	past    atomic.Pointer[context.Context] // of its last time as the leader; nil: it never was
	core    atomic.Int32                    // a worker: that it asks
	running sync.WaitGroup
	idle    context.CancelFunc // ends all but the log
	next    struct {           // what the next process finds
		dir   string
		disk  *disk
		shelf *shelf
	}
}

// start starts a process.
func (n *node) start() error {
	n.generation++
	w := n.w
	l := &life{
		n: n, w: w, proc: newProcess(w.ctx, n.name), boot: fmt.Sprintf("%s.%d.%d", n.name, n.joins, n.generation),
		tenure: provision.NewTenure(w.plan.leaseFor),
	}
	ctx, cancel := context.WithCancelCause(l.proc.ctx)
	l.idle = func() { cancel(errResting) }
	w.net.up(l.proc, n.addr(), l)
	if n.core {
		if err := l.open(); err != nil {
			w.net.down(l.proc, false)
			return fmt.Errorf("starting %s: %w", l.boot, err)
		}
	}
	n.set(l)
	l.running.Go(func() { l.serve(ctx) })
	return nil
}

func (l *life) open() (err error) {
	n, w := l.n, l.w
	shelf := n.shelf
	if !w.plan.store {
		shelf = newShelf()
	}
	l.board = newBoard(shelf, w.journal, l.proc, w.flaws.forgets)
	l.board.copied = func() { w.tally.copies.Add(1) }
	l.board.sent = func() {
		if l.opened.Load() {
			w.tally.restores.Add(1)
		}
	}
	l.pool = &pool{State: provision.NewState(), journal: w.journal, proc: l.proc, twice: w.flaws.twice}
	c := consensus.Config{
		Dir: n.dir, Node: n.name, Bootstrap: n.founder && n.joins == 1, Join: !n.founder || n.joins > 1,
		Machines:      map[string]consensus.Machine{machineBoard: l.board, machinePool: l.pool},
		Transport:     w.net.transport(l.proc, n.addr()),
		Logger:        slog.New(w.handler(n.name)),
		SnapshotEvery: w.plan.snapshotEvery, SnapshotCheck: 500 * time.Millisecond, Trailing: w.plan.trailing,
		SegmentSize: w.plan.segment, Files: n.disk,
	}
	if w.plan.store {
		c.Machines[machineBoard] = copier{l.board}
	}
	l.log, err = consensus.Open(w.ctx, c)
	l.opened.Store(err == nil)
	return err
}

// serve is what the process does until it is killed, as cmd/samnode does it.
func (l *life) serve(ctx context.Context) {
	whole := ctx
	g, ctx := errgroup.WithContext(ctx)
	if l.n.core {
		g.Go(func() error {
			select {
			case <-l.log.Failed():
				return l.log.Err()
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		g.Go(func() error { return l.log.Lead(ctx, l.lead) })
		g.Go(func() error { return l.work(ctx) })
	} else {
		g.Go(func() error { return l.toil(ctx) })
	}
	err := g.Wait()
	if whole.Err() != nil {
		return
	}
	if l.n.core && l.log.Err() != nil {
		err = l.log.Err()
	}
	l.w.fell <- fall{l, err, time.Second}
}

// rest ends all that the process does but its log.
func (l *life) rest() {
	l.idle()
	l.running.Wait()
}

// fall is a process that ended by itself, or by a trap.
type fall struct {
	life *life
	why  error
	back time.Duration // until the next one starts
}

var (
	errNotMember = errors.New("this node is no member of the mesh")
	errNoLeader  = errors.New("nobody leads")
	errResting   = errors.New("the schedule is over")
)

// work is a core node's part in the pool.
func (l *life) work(ctx context.Context) error {
	err := l.patiently(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err := l.log.Fresh(ctx)
		return err
	})
	if err == nil {
		err = l.awaitFounding(ctx)
	}
	if err == nil {
		err = l.announce(ctx)
	}
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return l.beats(ctx, func(ctx context.Context) error {
			return l.takeBeat(ctx, provision.Beat{Node: l.n.name, Boot: l.boot}, false)
		})
	})
	g.Go(func() error { return newRunner(l, l.leasesHere, l.persistHere).run(ctx) })
	g.Go(func() error { return l.watchMembership(ctx) })
	return g.Wait()
}

func (l *life) awaitFounding(ctx context.Context) error {
	for {
		p, changed := l.pool.view()
		if p.Mesh.ID != "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *life) startOp() *provision.Start {
	return &provision.Start{Node: l.n.name, Addr: l.n.addr(), Boot: l.boot, Generation: l.n.generation, Slots: slotsOf(l.n)}
}

func slotsOf(n *node) int {
	if n.core {
		return 1
	}
	return 2
}

func (l *life) announce(ctx context.Context) error {
	return l.patiently(ctx, func(ctx context.Context) error {
		sent := time.Now()
		err := l.poolDo(ctx, provision.Command{Start: l.startOp()})
		if err == nil {
			l.tenure.Renewed(sent)
		}
		return err
	})
}

func (l *life) watchMembership(ctx context.Context) error {
	for {
		p, changed := l.pool.view()
		m, ok := p.Node(l.n.name)
		if !ok || m.Addr != l.n.addr() {
			return errNotMember
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// do proposes a command once and keeps when.
func (l *life) do(ctx context.Context, id string, parts ...consensus.Part) (uint64, error) {
	if err := l.proc.serves(ctx); err != nil {
		return 0, err
	}
	l.w.history.called(id)
	index, err := l.log.Propose(ctx, parts...)
	if l.proc.dead() {
		return 0, fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, errDead)
	}
	if err == nil {
		l.w.history.returned(id)
	}
	return index, err
}

// propose insists, as cmd/samnode does: the command has its id.
func (l *life) propose(ctx context.Context, id string, parts ...consensus.Part) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		index, err := l.do(ctx, id, parts...)
		again := errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrUnknownOutcome)
		if err == nil || !again || l.log.Err() != nil || l.proc.dead() {
			return index, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

// poolDo proposes a command of the pool and returns its refusal.
func (l *life) poolDo(ctx context.Context, c provision.Command) error {
	c.ID = l.w.id("pool")
	part, err := poolPart(c)
	if err != nil {
		return err
	}
	if _, err := l.propose(ctx, c.ID, part); err != nil {
		return err
	}
	out, known := l.pool.Outcome(c.ID)
	if !known {
		return fmt.Errorf("command %s has no outcome", c.ID)
	}
	return out.Err()
}

// boardDo proposes a command of the board; errStale: it was refused.
func (l *life) boardDo(ctx context.Context, o op) error {
	part, err := boardPart(o)
	if err != nil {
		return err
	}
	if _, err := l.propose(ctx, o.ID, part); err != nil {
		return err
	}
	out, known := l.board.outcome(o.ID)
	switch {
	case !known:
		return fmt.Errorf("command %s has no outcome", o.ID)
	case out.Refused:
		return errStale
	}
	return nil
}

// answer does what another node asks.
func (l *life) answer(ctx context.Context, f func(context.Context, *life) error) error {
	if err := l.proc.serves(ctx); err != nil {
		return err
	}
	ctx, cancel := l.proc.within(ctx)
	defer cancel()
	err := f(ctx, l)
	if gone := l.proc.serves(context.WithoutCancel(ctx)); gone != nil {
		return gone
	}
	return err
}
