package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is what a fault does.
type kind int

const (
	kill       kind = iota // the process, at a moment when nothing moves
	killSyncs              // the process, in the middle of writing the log
	killSends              // the process, as it sends
	power                  // the machine: what was not synced may be lost
	powerSyncs             // the same, in the middle of writing the log
	blackout               // all core machines at once
	pause                  // the process stands still
	cutOne                 // one direction between two nodes
	cutTwo                 // both directions between two nodes
	mute                   // nothing that a node sends arrives
	deafen                 // nothing arrives at a node
	isolate                // both
	split                  // the nodes into two groups
	slow                   // a node's messages take long
	drop                   // connections between two nodes break
	transfer               // the leader hands over
	usurp                  // a node that does not lead schedules as if it did
	leave                  // a core node leaves for ever, and joins anew without its disk
	fill                   // a node's disk is full
	kinds
)

var kindNames = [kinds]string{
	"kills", "kills in a sync", "kills in a send", "power cuts", "power cuts in a sync", "blackouts", "pauses",
	"one-way cuts", "two-way cuts", "nodes muted", "nodes deafened", "nodes isolated", "splits", "slow nodes", "dropped connections",
	"transfers", "stale leaders", "nodes left and joined anew", "full disks",
}

// weights say how often each kind comes.
var weights = [kinds]int{6, 4, 4, 4, 4, 1, 5, 4, 3, 3, 3, 4, 4, 3, 3, 2, 4, 3, 2}

// fault is one thing that goes wrong.
type fault struct {
	kind kind
	at   time.Duration // since the load began
	last time.Duration // until it is mended; of a kill, until the restart
	node int           // which; -1: who leads then
	peer int           // the other one
	side uint          // of a split: bits of the nodes on one side
	n    int           // syncs, sends until it strikes; ms that a slow node is slower
}

func (f fault) String() string {
	who := "leader"
	if f.node >= 0 {
		who = fmt.Sprint(f.node)
	}
	return fmt.Sprintf("%6.2fs for %5.2fs: %s of %s (peer %d, side %b, n %d)", f.at.Seconds(), f.last.Seconds(), kindNames[f.kind], who, f.peer, f.side, f.n)
}

// plan is one schedule. It is a function of its seed.
type plan struct {
	seed    uint64
	nodes   int // core nodes
	workers int
	voters  int  // wanted
	store   bool // the board has a store of its own, so that other nodes are sent whole copies
	clients int
	lists   int
	tasks   int

	latency       time.Duration
	leaseFor      time.Duration
	snapshotEvery uint64
	trailing      uint64
	segment       int

	length time.Duration
	faults []fault // by time
}

// newPlan makes the schedule of a seed: of three core nodes for even ones, of
// five for odd ones.
func newPlan(seed uint64) *plan { return planOf(seed, 25*time.Second, weights) }

// planOf makes a schedule of that length, with faults as often as weights says.
func planOf(seed uint64, length time.Duration, weights [kinds]int) *plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := &plan{
		seed: seed, nodes: 3 + 2*int(seed%2), workers: 1 + rng.IntN(2), store: rng.IntN(2) == 0,
		clients: 5, lists: 3, tasks: 6,
		latency:       time.Duration(200+rng.IntN(1800)) * time.Microsecond,
		leaseFor:      3 * time.Second,
		snapshotEvery: uint64(30 + rng.IntN(120)),
		trailing:      uint64(10 + rng.IntN(40)),
		segment:       8 << 10 << rng.IntN(3),
		length:        length,
	}
	p.voters = p.nodes
	if p.nodes == 5 && rng.IntN(3) == 0 {
		p.voters = 3 // and two spares
	}
	for at := time.Duration(0); ; {
		at += time.Duration(500+rng.IntN(2200)) * time.Millisecond
		if at >= p.length {
			return p
		}
		p.faults = append(p.faults, p.draw(rng, at, weights))
	}
}

// only are weights of those kinds alone.
func only(of ...kind) (w [kinds]int) {
	for _, k := range of {
		w[k] = 1
	}
	return w
}

func (p *plan) draw(rng *rand.Rand, at time.Duration, weights [kinds]int) fault {
	f := fault{at: at, last: time.Duration(300+rng.IntN(3700)) * time.Millisecond}
	if rng.IntN(4) == 0 {
		f.last += 4 * time.Second // longer than a lease
	}
	total := 0
	for _, w := range weights {
		total += w
	}
	for r := rng.IntN(total); r >= weights[f.kind]; f.kind++ {
		r -= weights[f.kind]
	}
	nodes := p.nodes
	if slices.Contains([]kind{kill, power, pause, mute, deafen, isolate, slow}, f.kind) {
		nodes += p.workers
	}
	f.node, f.peer = rng.IntN(nodes), rng.IntN(p.nodes-1)
	if f.peer >= f.node {
		f.peer++
	}
	if rng.IntN(5) < 2 {
		f.node = -1
	}
	f.side = 1 + uint(rng.IntN(1<<p.nodes-2))
	f.n = 1 + rng.IntN(40)
	switch f.kind {
	case slow:
		f.n *= 20 // ms
	case leave:
		f.last = min(f.last, 3*time.Second)
	}
	return f
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d core nodes (%d voters), %d workers, own store %t, %v latency, snapshot every %d, %d trail, files of %d",
		p.seed, p.nodes, p.voters, p.workers, p.store, p.latency, p.snapshotEvery, p.trailing, p.segment)
	for _, f := range p.faults {
		fmt.Fprintf(&b, "\n%v", f)
	}
	return b.String()
}
