package consensus

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// callers are the connections that carry this node's calls, one to each node
// that led.
type callers struct {
	streams *streamLayer

	mu sync.Mutex
	of map[raft.ServerAddress]*dialling
}

// dialling is a connection, or the attempt to get one.
type dialling struct {
	ready  chan struct{} // closed when the attempt is over
	caller *caller
	err    error
}

func newCallers(s *streamLayer) *callers {
	return &callers{streams: s, of: make(map[raft.ServerAddress]*dialling)}
}

// to returns a connection to addr, or the attempt to get one.
func (cs *callers) to(addr raft.ServerAddress) *dialling {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	d := cs.of[addr]
	if d == nil || d.over() {
		d = &dialling{ready: make(chan struct{})}
		cs.of[addr] = d
		go func() {
			defer close(d.ready)
			d.caller, d.err = cs.dial(addr)
		}()
	}
	return d
}

// keep ends all connections but the one to addr, the leader: a dead node does
// not even say that it is. What was asked over them has no answer then.
func (cs *callers) keep(addr raft.ServerAddress) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for other, d := range cs.of {
		select {
		case <-d.ready:
		default:
			continue // nothing was asked
		}
		if other != addr && d.err == nil {
			d.caller.conn.Close() // its reader answers those who wait
		}
		if other != addr {
			delete(cs.of, other)
		}
	}
}

// over tells whether a connection failed or has ended.
func (d *dialling) over() bool {
	select {
	case <-d.ready:
	default:
		return false
	}
	if d.err != nil {
		return true
	}
	d.caller.mu.Lock()
	defer d.caller.mu.Unlock()
	return d.caller.err != nil
}

func (cs *callers) dial(addr raft.ServerAddress) (*caller, error) {
	ctx, cancel := context.WithTimeout(cs.streams.ctx, rpcTimeout)
	defer cancel()
	conn, err := cs.streams.dial(ctx, addr, helloCalls)
	if err != nil {
		return nil, err
	}
	c := &caller{
		conn:    conn,
		out:     outbox{conn: conn},
		slots:   make(chan struct{}, mostCalls),
		waiting: make(map[uint64]*asked),
	}
	cs.streams.users.Go(c.read) // conn is one of them
	return c, nil
}

// caller is one connection that carries many calls at once.
type caller struct {
	conn  net.Conn
	out   outbox
	slots chan struct{}

	mu      sync.Mutex
	last    uint64 // number of a call
	waiting map[uint64]*asked
	heard   time.Time // newest answer
	err     error     // why it ended
}

// asked is a call that was sent.
type asked struct {
	at     time.Time
	answer chan answer // of capacity 1
}

type answer struct {
	index uint64
	err   error
}

// ask sends a request. An error means that nothing was sent.
func (c *caller) ask(ctx context.Context, kind callKind, body []byte) (id uint64, _ <-chan answer, err error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, nil, context.Cause(ctx)
	}
	a := &asked{at: time.Now(), answer: make(chan answer, 1)}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		<-c.slots
		return 0, nil, c.err
	}
	c.last++
	id = c.last
	c.waiting[id] = a
	c.mu.Unlock()
	left := longCall
	if end, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(end))
	}
	err = c.out.send(frame{id: id, code: byte(kind), number: uint64(max(left.Milliseconds(), 1)), body: body})
	if err != nil {
		c.forget(id)
		return 0, nil, err
	}
	return id, a.answer, nil
}

// forget ends a call, answered or not. A connection over which nothing came
// since the call was sent, for long, is taken for dead.
func (c *caller) forget(id uint64) {
	<-c.slots
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.waiting[id]
	if a == nil {
		return
	}
	delete(c.waiting, id)
	if time.Since(a.at) > graceTime && c.heard.Before(a.at) {
		c.conn.Close() // read finds out
	}
}

// read hands out the answers until the connection ends.
func (c *caller) read() {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	for {
		f, err := readFrame(c.conn, r)
		if err != nil {
			c.end(err)
			return
		}
		c.mu.Lock()
		a := c.waiting[f.id]
		delete(c.waiting, f.id)
		c.heard = time.Now()
		c.mu.Unlock()
		switch {
		case a == nil: // nobody waits any more
		case f.code == 0:
			a.answer <- answer{index: f.number}
		default:
			a.answer <- answer{err: unpackError(f.number, string(f.body))}
		}
	}
}

// end answers everyone who still waits.
func (c *caller) end(err error) {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for id, a := range c.waiting {
		delete(c.waiting, id)
		a.answer <- answer{0, fmt.Errorf("%w: the connection to the leader ended: %w", ErrUnknownOutcome, err)}
	}
}
