package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// ErrNotLeading is what a beat gets at a node that does not lead.
var ErrNotLeading = errors.New("this node does not lead the mesh: beat at the one that does")

// DefaultEvery is how often signs of life go into the log.
const DefaultEvery = 5 * time.Second

// HeartConfig is what a heart needs.
type HeartConfig struct {
	// Propose commits the command and returns once State has applied it.
	Propose func(ctx context.Context, c Command) error
	// State is this node's pool.
	State *State
	// Every is the time between two batches; zero takes [DefaultEvery].
	Every time.Duration
	// LeaseFor is how long a lease outlives its node's last sign of life: the
	// same on all nodes, and some times Every. Zero takes [DefaultLeaseFor].
	LeaseFor time.Duration
}

// Heart is how the leader knows who is alive: it collects the nodes' beats into
// one entry per tick and says who has been silent for as long as a lease lasts.
//
// # Why a holder gives up before its lease is another's
//
// A node sends a beat at time S by its own clock and, when it was acknowledged,
// holds its leases until S + LeaseFor ([Tenure]). The leader counts LeaseFor
// from when it saw the beat applied, which is after S, whatever the network
// did: so the holder has given up before the leader calls it silent. The counts
// differ by more than clocks drift apart in LeaseFor, see slack.
//
// A new leader counts from when its Run began. An acknowledged beat was
// committed, so it was accepted by a node that had not yet voted for the new
// leader: it was sent before Run began. So the new leader counts from after S,
// too, and gives everyone a full LeaseFor.
//
// A leader whose process stood still cannot tell silence from its own sleep,
// and counts anew. It can only count too long, never too short.
//
// Between the leader's look and the entry that ends the lease, a beat may still
// come in. The log orders the two: [Release] spares a lease that was renewed
// after the leader's look, and a beat that comes after finds the lease gone. By
// then its holder had given up; it becomes valid again, but without the lease.
//
// Wall clocks and the times in the state play no part in this.
type Heart struct {
	c HeartConfig

	mu    sync.Mutex
	batch *batch          // collects until the next tick; nil: Run does not run
	tick  time.Time       // when Run was last seen awake
	marks map[string]mark // by node
	news  chan struct{}   // a beat that others wait for came
}

// batch is the beats that go into one entry.
type batch struct {
	beats map[process]*Beat // the newest of each
	done  chan struct{}     // closed: err is set
	err   error
}

// process is who beats: two may say that they are the same node, and the one
// must not be taken for the other.
type process struct{ node, boot string }

// mark is when this leader last saw a node's newest sign of life move.
type mark struct {
	index uint64
	at    time.Time
}

// NewHeart returns a heart that beats while Run runs.
func NewHeart(c HeartConfig) *Heart {
	c.Every = cmp.Or(c.Every, DefaultEvery)
	c.LeaseFor = cmp.Or(c.LeaseFor, DefaultLeaseFor)
	return &Heart{c: c, news: make(chan struct{}, 1)}
}

// slack is what is added to LeaseFor before a node is silent: two clocks that
// tick at rates up to 1 % apart do not make the leader the faster one.
func (h *Heart) slack() time.Duration { return h.c.LeaseFor / 100 }

// Beat puts a node's sign of life into the next batch and returns once that is
// committed; so a node that beats again at once beats once per tick. News do not
// wait for the tick: whether a node can run tasks, when it could or could not
// before. A refusal
// tells a process that it is not the node's: removed (ErrNotFound), or followed
// by another (ErrStale).
func (h *Heart) Beat(ctx context.Context, b Beat) error {
	h.mu.Lock()
	batch := h.batch
	if batch == nil {
		h.mu.Unlock()
		return ErrNotLeading
	}
	batch.beats[process{b.Node, b.Boot}] = &b
	h.mu.Unlock()
	if h.isNews(b) {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
	select {
	case <-ctx.Done():
		h.withdraw(batch, &b)
		return context.Cause(ctx)
	case <-batch.done:
	}
	if batch.err != nil {
		return fmt.Errorf("renewing the leases of %s: %w", b.Node, batch.err)
	}
	// Not asked before: the start of this process may be committed, and not yet
	// applied here. The batch came after it.
	p, _ := h.c.State.Pool()
	n, is := p.Node(b.Node)
	switch {
	case !is:
		return unknown(b.Node)
	case n.Boot == "":
		return refuse(CodeNotFound, "Node %s has not started yet.", n.Name)
	case n.Boot != b.Boot:
		return copied(n)
	}
	return nil
}

// withdraw takes a beat back whose sender is gone, unless a newer one is there
// or its batch is on the way.
func (h *Heart) withdraw(batch *batch, b *Beat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	who := process{b.Node, b.Boot}
	if batch == h.batch && batch.beats[who] == b {
		delete(batch.beats, who)
	}
}

// Run collects and proposes until ctx ends. It is the leader's, from when this
// node has applied the whole log until it leads no longer.
func (h *Heart) Run(ctx context.Context) error {
	if err := h.begin(); err != nil {
		return err
	}
	defer h.end()
	tick := time.NewTicker(h.c.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-h.news:
			if !h.breathe(ctx) {
				continue
			}
		}
		h.awake()
		h.flush(ctx)
	}
}

// breathe is the time that others have to join a batch of news, and bounds how
// often a node that cannot make up its mind writes.
func (h *Heart) breathe(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(h.c.Every / 20):
		return true
	}
}

// isNews tells whether others wait for what a beat says.
func (h *Heart) isNews(b Beat) bool {
	if b.Report == nil {
		return false
	}
	p, _ := h.c.State.Pool()
	n, is := p.Node(b.Node)
	fit := b.Report.Unfit == ""
	if m, has := p.Machine(b.Node); has && m.State == Booting && fit {
		return is && n.Boot == b.Boot
	}
	return is && n.Boot == b.Boot && n.Report != nil && n.fit() != fit
}

func (h *Heart) begin() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.batch != nil {
		return errors.New("this heart beats already")
	}
	h.batch, h.tick, h.marks = newBatch(), time.Now(), make(map[string]mark)
	h.observe(h.tick)
	return nil
}

func (h *Heart) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batch.err = ErrNotLeading
	close(h.batch.done)
	h.batch = nil
}

func newBatch() *batch {
	return &batch{beats: make(map[process]*Beat), done: make(chan struct{})}
}

// awake notes that Run runs. If it did not for long, everyone starts anew.
func (h *Heart) awake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.stalled(now) {
		clear(h.marks)
	}
	h.tick = now
	h.observe(now)
}

func (h *Heart) stalled(now time.Time) bool { return now.Sub(h.tick) > 2*h.c.Every }

// flush proposes what waits. Those who wait get the error: they beat again.
func (h *Heart) flush(ctx context.Context) {
	h.mu.Lock()
	batch := h.batch
	if len(batch.beats) == 0 {
		h.mu.Unlock()
		return
	}
	h.batch = newBatch()
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, h.c.LeaseFor) // nobody can use it later
	defer cancel()
	c := Command{Version: Version, Beats: &Beats{}}
	for _, b := range batch.beats {
		c.Beats.Beats = append(c.Beats.Beats, *b)
	}
	slices.SortFunc(c.Beats.Beats, func(a, b Beat) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Boot, b.Boot)) })
	batch.err = h.c.Propose(ctx, c)
	close(batch.done)
}

// observe marks the nodes whose newest sign of life moved, or that are new. One
// that was removed stays marked as long as it has leases: it may act under them
// until they run out.
func (h *Heart) observe(now time.Time) {
	p, _ := h.c.State.Pool()
	for _, n := range p.Nodes {
		if m, known := h.marks[n.Name]; !known || m.index != n.Index {
			h.marks[n.Name] = mark{index: n.Index, at: now}
		}
	}
	for _, l := range p.Leases {
		if _, known := h.marks[l.Node]; !known {
			h.marks[l.Node] = mark{at: now}
		}
	}
	maps.DeleteFunc(h.marks, func(name string, _ mark) bool {
		_, is := p.Node(name)
		return !is && !p.holds(name)
	})
}

// Silent lists the nodes that this leader has not heard from for as long as a
// lease lasts, removed ones with leases included. Nobody is silent for a node
// that does not lead.
func (h *Heart) Silent() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.batch == nil || h.stalled(now) {
		return nil // Run, which wakes late, too, starts everyone anew
	}
	h.observe(now)
	var silent []string
	for name, m := range h.marks {
		if now.Sub(m.at) >= h.c.LeaseFor+h.slack() {
			silent = append(silent, name)
		}
	}
	slices.Sort(silent)
	return silent
}

// HeardAgo says how long ago this leader heard from the node, or has been
// waiting to; false: the node is not in the mesh, or this one does not lead.
func (h *Heart) HeardAgo(node string) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.batch == nil {
		return 0, false
	}
	now := time.Now()
	h.observe(now)
	p, _ := h.c.State.Pool()
	_, is := p.Node(node)
	m, ok := h.marks[node]
	return now.Sub(m.at), ok && is
}
