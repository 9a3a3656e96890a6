package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// flaw is a way to do leases wrong, with which the test below proves itself.
type flaw int

const (
	none          flaw = iota
	countFromAck       // the holder counts from when it got the answer
	unconditional      // the leader ends leases without naming what it saw
	impatient          // the leader calls silent what misses a third of a lease
)

// TestLeasesNeverOverlap runs a mesh through slow and cut networks, changing,
// stalling and slow leaders, restarts and wall clocks that lie. When the log
// ends a lease, its holder must have given up already, on every seed.
func TestLeasesNeverOverlap(t *testing.T) {
	expired := 0
	for seed := range uint64(150) {
		w := runWorld(t, seed, none)
		if len(w.overlaps) > 0 {
			t.Fatalf("seed %d: %v", seed, w.overlaps)
		}
		expired += w.expired
	}
	if expired < 300 {
		t.Errorf("only %d leases expired: the worlds are too kind", expired)
	}
	t.Logf("%d leases expired", expired)
	for name, f := range map[string]flaw{"counting from the answer": countFromAck, "unconditional release": unconditional, "an impatient leader": impatient} {
		seed := uint64(0)
		for seed < 150 && len(runWorld(t, seed, f).overlaps) == 0 {
			seed++
		}
		if seed == 150 {
			t.Errorf("no seed noticed %s", name)
		}
		t.Logf("%s: seed %d noticed it", name, seed)
	}
}

// world is a mesh of one log, many nodes and one leader after the other.
type world struct {
	flaw  flaw
	state *State

	mu       sync.Mutex
	r        *rand.Rand
	term     int
	index    uint64
	at       time.Time
	heart    *Heart // of the leader; nil: none
	tenures  map[string]*Tenure
	expired  int
	overlaps []string
}

var errDeposed = errors.New("another leads")

func runWorld(t *testing.T, seed uint64, f flaw) *world {
	w := &world{flaw: f, state: NewState(), r: rand.New(rand.NewPCG(seed, 1)), tenures: map[string]*Tenure{}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		w.commit(found("n0"))
		var g sync.WaitGroup
		for i := range 4 {
			node, id := fmt.Sprint("n", i), fmt.Sprint("i", i)
			if i > 0 {
				w.commit(invite(id, false, 1e6*time.Hour))
				w.commit(join(id, node, false))
			}
			g.Go(func() { w.node(ctx, node) })
		}
		g.Go(func() {
			for ctx.Err() == nil {
				w.reign(ctx)
				w.sleep(10 * time.Second) // an election
			}
		})
		g.Wait()
	})
	return w
}

// upTo draws a duration, mostly a short one.
func (w *world) upTo(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.r.Float64()
	return time.Duration(float64(most) * f * f * f)
}

func (w *world) sleep(most time.Duration) { time.Sleep(w.upTo(most)) }

// commit appends to the log and applies. Its times are of a clock that lies.
func (w *world) commit(c Command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.append(c)
}

func (w *world) append(c Command) {
	c.Version = Version
	data, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	if now := time.Now().Add(time.Duration(w.r.IntN(7200)-3600) * time.Second); now.After(w.at) {
		w.at = now // never back
	}
	w.index++
	var holder string
	if p, _ := w.state.Pool(); c.Release != nil {
		l, _ := p.Lease(c.Release.Task)
		holder = l.Node
	}
	if err := w.state.Apply(w.index, w.at, data); err != nil {
		panic(err)
	}
	if out, _ := w.state.Outcome(c.ID); holder != "" && out.Code == CodeNone {
		w.expired++
		if t := w.tenures[holder]; t != nil && t.Err() == nil {
			w.overlaps = append(w.overlaps, fmt.Sprintf("entry %d took %s from %s, which still holds it", w.index, c.Release.Task, holder))
		}
	}
}

// propose commits as the leader of that term, with a slow disk, if it still
// leads then. Now and then the answer is lost.
func (w *world) propose(ctx context.Context, term int, c Command) error {
	w.sleep(8 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.term != term {
		return errDeposed
	}
	w.append(c)
	if w.r.IntN(20) == 0 {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// reign is one leader's time.
func (w *world) reign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second+w.upTo(8*time.Minute))
	defer cancel()
	w.mu.Lock()
	w.term++
	term := w.term
	leaseFor := DefaultLeaseFor
	if w.flaw == impatient {
		leaseFor /= 3
	}
	h := NewHeart(HeartConfig{State: w.state, LeaseFor: leaseFor, Propose: func(ctx context.Context, c Command) error { return w.propose(ctx, term, c) }})
	w.heart = h
	w.mu.Unlock()
	var g sync.WaitGroup
	g.Go(func() { _ = h.Run(ctx) }) // ends with ctx
	for ctx.Err() == nil {
		w.tend(ctx, h, term)
		time.Sleep(time.Second)
	}
	g.Wait()
}

// tend is the leader's look: leases end, and tasks get slots again.
func (w *world) tend(ctx context.Context, h *Heart, term int) {
	p, _ := w.state.Pool()
	w.sleep(2 * time.Second)
	silent := h.Silent()
	for _, e := range Expired(p, silent) {
		c := Command{ID: fmt.Sprint(term, e.Lease, time.Now()), Release: e.Release()}
		if w.flaw == unconditional {
			c.Release.Index = 0
		}
		_ = w.propose(ctx, term, c) // it looks again
	}
	p, _ = w.state.Pool()
	for _, d := range Schedule(p, waiting("t0", "t1", "t2", "t3"), silent) {
		if d.Node != "" {
			_ = w.propose(ctx, term, Command{Grant: &Grant{Task: d.Task, Node: d.Node, Slot: d.Slot}})
		}
	}
}

// node beats, over a network that is slow and at times cut, and restarts.
func (w *world) node(ctx context.Context, name string) {
	for generation := uint64(1); ctx.Err() == nil; generation++ {
		tenure := NewTenure(DefaultLeaseFor)
		boot := fmt.Sprint(name, generation)
		w.mu.Lock()
		w.tenures[name] = tenure
		term := w.term
		w.mu.Unlock()
		sent := time.Now()
		if w.propose(ctx, term, start(name, boot, generation, 2)) == nil {
			w.answered(tenure, sent)
			life, cancel := context.WithTimeout(ctx, 30*time.Second+w.upTo(10*time.Minute))
			w.live(life, name, boot, tenure)
			cancel()
		}
		w.sleep(20 * time.Second) // until the next process
	}
}

func (w *world) live(ctx context.Context, name, boot string, tenure *Tenure) {
	for ctx.Err() == nil {
		sent := time.Now()
		w.sleep(4 * time.Second)
		w.mu.Lock()
		h, cut := w.heart, w.r.IntN(25) == 0
		w.mu.Unlock()
		if cut {
			w.sleep(2 * time.Minute)
			continue
		}
		if h != nil && h.Beat(ctx, Beat{Node: name, Boot: boot}) == nil {
			w.sleep(4 * time.Second)
			w.answered(tenure, sent)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *world) answered(tenure *Tenure, sent time.Time) {
	if w.flaw == countFromAck {
		sent = time.Now()
	}
	tenure.Renewed(sent)
}
