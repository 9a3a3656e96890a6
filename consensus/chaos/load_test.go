package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// load is what clients do: append to lists and read them, at any node.
type load struct {
	w       *world
	running sync.WaitGroup
	stop    chan struct{}
}

func newLoad(w *world) *load { return &load{w: w, stop: make(chan struct{})} }

func (l *load) start() {
	for i := range l.w.plan.clients {
		c := &client{w: l.w, name: fmt.Sprintf("c%d", i), rng: rand.New(rand.NewPCG(l.w.plan.seed, uint64(100+i)))}
		l.running.Go(func() { c.run(l.stop) })
	}
}

func (l *load) end() {
	close(l.stop)
	l.running.Wait()
}

const (
	tryFor    = 2 * time.Second  // one call of a client
	insistFor = 12 * time.Second // with the same id, of those that insist
)

// client is one that does one thing after the other.
type client struct {
	w    *world
	name string
	rng  *rand.Rand
	n    int
}

func (c *client) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(20+c.rng.IntN(100)) * time.Millisecond):
		}
		list := fmt.Sprintf("l%d", c.rng.IntN(c.w.plan.lists))
		switch c.rng.IntN(8) {
		case 0, 1:
			c.read(list)
		case 2:
			c.look()
		default:
			c.append(list)
		}
	}
}

// node is the process that the client turns to, nil: it gets no answer.
func (c *client) node() *life { return c.w.nodes[c.w.names[c.rng.IntN(len(c.w.names))]].now() }

// append appends a text, at one node after the other until it is acknowledged.
func (c *client) append(list string) {
	a := c.begin(list)
	defer c.note(a)
	insists := c.rng.IntN(3) > 0
	for end := time.Now().Add(insistFor); a.place == 0 && time.Now().Before(end); {
		l := c.node()
		if l != nil && c.step(l, a) == nil {
			return
		}
		if l != nil && !insists {
			return // with what it was told
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// insist appends a text at one node until then.
func (c *client) insist(n *node, until time.Time) error {
	a := c.begin("l0")
	defer c.note(a)
	err := errNotAsked
	for a.place == 0 && time.Now().Before(until) {
		if l := n.now(); l != nil {
			err = c.step(l, a)
		}
		if a.place == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	return err
}

func (c *client) begin(list string) *appended {
	c.n++
	return &appended{id: fmt.Sprintf("%s-%d", c.name, c.n), list: list, sure: true, span: span{c.w.history.now(), never}}
}

func (c *client) note(a *appended) {
	c.w.history.add(func() { c.w.history.appends = append(c.w.history.appends, a) })
}

// step tries once.
func (c *client) step(l *life, a *appended) error {
	err := c.try(l, a)
	switch {
	case err == nil:
		a.span.ended, a.at = c.w.history.now(), l.boot
		c.w.acknowledged()
	case !nothingWritten(err):
		a.sure = false
	}
	return err
}

func (c *client) try(l *life, a *appended) error {
	ctx, cancel := context.WithTimeout(c.w.ctx, tryFor)
	defer cancel()
	if err := l.proc.serves(ctx); err != nil {
		return errNotAsked
	}
	part, err := boardPart(op{ID: a.id, Append: &appendOp{List: a.list, Text: a.id}})
	if err != nil {
		return err
	}
	_, err = l.log.Propose(ctx, part)
	if err == nil || l.proc.dead() {
		if gone := l.proc.serves(ctx); gone != nil { // no answer
			return fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, gone)
		}
	}
	if err != nil {
		return err
	}
	out, known := l.board.outcome(a.id)
	if !known {
		c.w.broken("%s acknowledged %s and has not applied it", l.boot, a.id)
		return consensus.ErrUnknownOutcome
	}
	a.place = out.Place
	return nil
}

var errNotAsked = errors.New("nobody was asked")

// nothingWritten tells whether an error promises that.
func nothingWritten(err error) bool {
	if errors.Is(err, consensus.ErrUnknownOutcome) {
		return false
	}
	return errors.Is(err, errNotAsked) || errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrClosed)
}

// fresh brings a node up to date, as one that must not answer with old news
// does.
func (c *client) fresh() (*life, bool) {
	l := c.node()
	if l == nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(c.w.ctx, tryFor)
	defer cancel()
	if l.proc.serves(ctx) != nil {
		return nil, false
	}
	if !c.w.flaws.staleReads {
		if _, err := l.log.Fresh(ctx); err != nil {
			return nil, false
		}
	}
	return l, true
}

// answered tells whether what was read at a node has reached the client.
func (c *client) answered(l *life) bool {
	ctx, cancel := context.WithTimeout(c.w.ctx, tryFor)
	defer cancel()
	return l.proc.serves(ctx) == nil
}

func (c *client) read(name string) {
	r := read{list: name, span: span{began: c.w.history.now()}}
	l, ok := c.fresh()
	if !ok {
		return
	}
	r.n, r.sum = l.board.read(name)
	if !c.answered(l) {
		return
	}
	r.span.ended = c.w.history.now()
	c.w.history.add(func() { c.w.history.reads = append(c.w.history.reads, r) })
}

// look reads who has a task, and a slot.
func (c *client) look() {
	h := c.w.history
	byTask := look{task: fmt.Sprintf("t%d", c.rng.IntN(c.w.plan.tasks)), span: span{began: h.now()}}
	n := c.w.nodes[c.w.names[c.rng.IntN(len(c.w.names))]]
	bySlot := look{slot: provision.SlotName(n.name, 1), span: byTask.span}
	l, ok := c.fresh()
	if !ok {
		return
	}
	tasks, _, _ := l.board.tasks()
	for _, t := range tasks {
		if t.Task == byTask.task {
			byTask.token = t.Token
		}
	}
	pool, _ := l.pool.view()
	for _, lease := range pool.Leases {
		if lease.Slot == bySlot.slot {
			bySlot.token = lease.Token
		}
	}
	if !c.answered(l) {
		return
	}
	byTask.span.ended, bySlot.span.ended = h.now(), h.now()
	h.add(func() { h.looks = append(h.looks, byTask, bySlot) })
}
