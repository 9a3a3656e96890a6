package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// flaws are what a broken implementation would do. The checks must see each.
type flaws struct {
	forgets    bool // a command that is proposed again is done again
	twice      bool // a lease is granted without a look at the slot
	unbound    bool // a leader of old may still write, by way of the new one
	noTenure   bool // holders act as long as their own replica shows the lease
	hasty      bool // holders do not ask whether a lease is still theirs after they were cut off
	putBack    bool // a leader puts members back that are being removed
	lyingDisks bool // a sync keeps nothing
	staleReads bool // reads do not ask the leader
}

// world is one schedule while it runs.
type world struct {
	*record
	ctx     context.Context
	plan    *plan
	flaws   flaws
	dir     string
	net     *network
	history *history
	journal *journal
	rng     *rand.Rand // of the driver
	nodes   map[string]*node
	names   []string // of core nodes
	others  []string // of workers
	ids     atomic.Int64
	fell    chan fall
	graves  sync.WaitGroup
	tally   tally

	mu     sync.Mutex
	leads  map[*life]bool
	since  time.Time // that nobody leads; zero: somebody does
	killed []ended   // leaders since whose end no append was acknowledged
	broke  int       // faults that are not mended yet
	mended time.Time // when all were; zero: they are not, or an append was acknowledged since
}

// id makes a command's id.
func (w *world) id(what string) string { return fmt.Sprintf("%s-%d", what, w.ids.Add(1)) }

// handler writes what a node logs, when that is asked for.
func (w *world) handler(node string) slog.Handler {
	if w.record.file == nil {
		return slog.DiscardHandler
	}
	return logHandler{w.record, node}
}

// logHandler puts what is logged among what happens.
type logHandler struct {
	r    *record
	node string
}

func (h logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (h logHandler) WithGroup(string) slog.Handler                    { return h }
func (h logHandler) WithAttrs([]slog.Attr) slog.Handler               { return h }
func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	text := ""
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	h.r.write(fmt.Sprintf("%s: %s:%s", h.node, r.Message, text))
	return nil
}

// ended is a leader's end.
type ended struct {
	at    time.Time
	alone bool // nothing else was broken, or broke until the next append
}

// breaks notes that a fault is on, or mended.
func (w *world) breaks(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broke += n
	for i := range w.killed {
		if k := &w.killed[i]; n > 0 && time.Since(k.at) > 0 {
			k.alone = false
		}
	}
}

// reigns notes that a process leads, or does so no more.
func (w *world) reigns(l *life, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case on && !l.proc.dead():
		w.leads[l] = true
		w.tally.elections++
		if !w.since.IsZero() {
			w.tally.leaderless = append(w.tally.leaderless, time.Since(w.since))
			w.since = time.Time{}
		}
		w.say("%s leads", l.boot)
	case !on && w.leads[l]:
		delete(w.leads, l)
		if len(w.leads) == 0 {
			w.since = time.Now()
		}
		w.say("%s leads no more", l.boot)
	}
}

// leader is the node that leads, if one does.
func (w *world) leader() *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.names {
		if l := w.nodes[name].now(); l != nil && w.leads[l] {
			return w.nodes[name]
		}
	}
	return nil
}

// acknowledged notes the first append after a leader's end.
func (w *world) acknowledged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.killed {
		w.tally.takeover = append(w.tally.takeover, time.Since(k.at))
		if k.alone {
			w.tally.takeoverAlone = append(w.tally.takeoverAlone, time.Since(k.at))
		}
	}
	w.killed = nil
	if !w.mended.IsZero() {
		w.tally.healed, w.mended = max(1, time.Since(w.mended)), time.Time{}
	}
}

// mends notes that everything is mended.
func (w *world) mends() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mended = time.Now()
}

// newWorld makes the machines of a plan; nothing runs yet.
func newWorld(ctx context.Context, p *plan, f flaws, dir string) (*world, error) {
	w := &world{
		record: &record{began: time.Now()}, ctx: ctx, plan: p, flaws: f, dir: dir,
		net: newNetwork(rand.New(rand.NewPCG(p.seed, 2)), p.latency), history: newHistory(),
		rng: rand.New(rand.NewPCG(p.seed, 3)), nodes: make(map[string]*node),
		fell: make(chan fall, 64), leads: make(map[*life]bool),
	}
	if log := os.Getenv(envLog); log != "" {
		var err error
		if w.record.file, err = os.Create(filepath.Join(log, fmt.Sprint(p.seed))); err != nil {
			return nil, err
		}
	}
	w.journal = newJournal(w.broken)
	for i := range p.nodes + p.workers {
		n := &node{w: w, name: string(rune('a' + i)), core: i < p.nodes, founder: i == 0}
		w.nodes[n.name] = n
		if n.core {
			w.names = append(w.names, n.name)
		} else {
			w.others = append(w.others, n.name)
		}
		if err := n.wipe(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// settle founds the mesh and waits until every node is in.
func (w *world) settle() error {
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	first := w.nodes[w.names[0]]
	if err := first.start(); err != nil {
		return err
	}
	l := first.now()
	if err := l.awaitFounding(ctx); err != nil {
		return err
	}
	for _, name := range slices.Concat(w.names[1:], w.others) {
		n := w.nodes[name]
		err := l.invite(ctx, n)
		if err == nil && n.core {
			err = l.admit(ctx, n)
		}
		if err == nil {
			err = n.start()
		}
		if err != nil {
			return err
		}
	}
	for i := range w.plan.tasks {
		if err := l.boardDo(ctx, op{ID: w.id("task"), Task: &leaseOp{Task: fmt.Sprintf("t%d", i)}}); err != nil {
			return err
		}
	}
	for {
		members, err := l.log.Members(ctx)
		if err != nil {
			return err
		}
		voters := 0
		for _, m := range members {
			if m.Voter {
				voters++
			}
		}
		if voters == w.plan.voters && len(members) == w.plan.nodes {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the voters: %w", context.Cause(ctx))
		}
	}
}

// kill ends a process at a moment when nothing moves, and keeps what its disk
// holds then.
func (w *world) kill(l *life, power bool) error {
	synctest.Wait()
	if l.proc.dead() { // by a trap, of which the driver is about to hear
		return nil
	}
	if err := l.keep(power); err != nil {
		return err
	}
	l.stop(power)
	w.bury(l)
	return nil
}

// keep keeps what the next process finds on disk. The board's store comes
// first: it never has more than the log.
func (l *life) keep(power bool) (err error) {
	n, w := l.n, l.w
	if !n.core {
		return nil
	}
	l.next.shelf = n.shelf.image(power)
	l.next.dir = filepath.Join(w.dir, fmt.Sprintf("%s-%d", n.name, w.ids.Add(1)))
	l.next.disk, err = n.disk.image(n.dir, l.next.dir, power, rand.New(rand.NewPCG(w.plan.seed, uint64(w.ids.Load()))))
	return err
}

// stop ends a process, as others see it.
func (l *life) stop(power bool) {
	l.proc.end(errDead)
	l.w.net.down(l.proc, power)
	l.w.mu.Lock()
	if l.w.leads[l] {
		l.w.killed = append(l.w.killed, ended{time.Now(), l.w.broke == 0})
	}
	l.w.mu.Unlock()
	l.w.reigns(l, false)
}

// bury takes a dead process off its node.
func (w *world) bury(l *life) {
	n := l.n
	old := n.dir
	if n.core {
		n.dir, n.disk, n.shelf = l.next.dir, l.next.disk, l.next.shelf
	}
	n.set(nil)
	w.graves.Go(func() {
		l.running.Wait()
		if l.log != nil {
			if l.log.Err() != nil {
				time.Sleep(5 * time.Second) // it ends by itself; a wait for a sync.Once would hold up the bubble's time
			}
			if err := l.log.Close(); err != nil {
				w.say("%s: closing after its end: %v", l.boot, err)
			}
		}
		if n.core {
			if err := os.RemoveAll(old); err != nil {
				w.broken("removing %s: %v", old, err)
			}
		}
	})
}

// runPlan runs one schedule to its end and checks it.
func runPlan(t *testing.T, p *plan, f flaws, dir string) (w *world) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if w, err = newWorld(ctx, p, f, dir); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := w.settle(); err != nil {
			w.broken("the mesh did not begin: %v", err)
		} else {
			d := newDriver(w)
			d.drive()
			d.heal()
		}
		w.close(cancel)
		w.tally.bubble = time.Since(began)
	})
	w.check()
	if f := w.record.file; f != nil {
		f.Close() //nolint:errcheck // see writeLocked
	}
	return w
}

// close ends everything.
func (w *world) close(cancel context.CancelFunc) {
	for _, n := range w.nodes {
		l := n.now()
		if l == nil {
			continue
		}
		l.proc.end(errDead)
		l.running.Wait()
		if l.log != nil {
			if err := l.log.Close(); err != nil {
				w.broken("closing %s: %v", l.boot, err)
			}
		}
		w.net.down(l.proc, false)
	}
	cancel()
	w.graves.Wait()
}
