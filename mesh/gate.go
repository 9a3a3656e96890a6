package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	identifyTimeout = 5 * time.Second // to say who calls
	maxIdentifying  = 512             // callers at one listener that have not said yet who they are
	backlog         = 128             // admitted connections that a service has not taken yet
)

// Visit is what a twin finds out about a new connection.
type Visit struct {
	Service Service
	Caller  Caller
	// Again asks the network once more who the caller is; a zero Caller says
	// that it is nobody any more. Nil: the caller stays who it was.
	Again func() Caller
	// Answer tells the other end how it went, before anything else is said.
	// Nil: a refused connection is closed without a word.
	Answer func(refusal error) error
	// Wrap dresses an admitted connection, for TLS. Nil: as it is.
	Wrap func(net.Conn) net.Conn
}

// Identify says who is at the other end of a new connection and what for. The
// context has a deadline, and so does the connection.
type Identify func(ctx context.Context, c net.Conn) (Visit, error)

// Gate is the part of both twins that lets callers in. It accepts, finds out
// who calls, and hands the connection to the service it is for, or closes it.
// One slow, strange or broken caller is in nobody's way, and a crowd of them at
// one listener in no other's.
//
// It knows all open connections of the node, so that they can be closed before
// the network is.
type Gate struct {
	allow    Allow
	logger   *slog.Logger
	refusals limiter
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup // accept loops, and one for each caller that is being identified

	mu       sync.Mutex
	closed   bool
	services map[Service]*entrance
	listens  map[net.Listener]struct{}
	open     map[*tracked]struct{}
}

// GateConfig is what a Gate is made of.
type GateConfig struct {
	Allow  Allow        // nil: every node that the network knows as one
	Logger *slog.Logger // nil: none
}

// NewGate returns a gate without services. Close it.
func NewGate(c GateConfig) *Gate {
	g := &Gate{
		allow: c.Allow, logger: c.Logger,
		services: make(map[Service]*entrance),
		listens:  make(map[net.Listener]struct{}),
		open:     make(map[*tracked]struct{}),
	}
	if g.logger == nil {
		g.logger = slog.New(slog.DiscardHandler)
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Check says whether c may use s: of the right kind, and allowed.
func (g *Gate) Check(ctx context.Context, s Service, c Caller) error {
	switch {
	case c.Node == "" && c.Person == "":
		return ErrStranger
	case s.forPeople() && c.Node != "":
		return ErrNotPerson
	case s.forPeople():
		return nil
	case c.Node == "":
		return ErrNotNode
	case g.allow == nil:
		return nil
	}
	return g.allow(ctx, s, c)
}

// Listen returns the listener of a service, whose Accept yields connections
// that may use it and have a method Caller() Caller. closing ends what feeds
// it; nil: nothing does but Serve.
func (g *Gate) Listen(s Service, addr net.Addr, closing func() error) (net.Listener, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("listening for %s: %w", s, ErrNotUp)
	}
	if g.services[s] != nil {
		return nil, fmt.Errorf("listening for %s: this node does so already", s)
	}
	e := &entrance{g: g, service: s, addr: addr, closing: closing, conns: make(chan net.Conn, backlog), done: make(chan struct{})}
	g.services[s] = e
	return e, nil
}

// Serve starts to accept from l, until l or the gate is closed. The gate
// closes l.
func (g *Gate) Serve(l net.Listener, who Identify) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errors.Join(ErrNotUp, l.Close())
	}
	g.listens[l] = struct{}{}
	g.running.Go(func() {
		g.accept(l, who)
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.listens, l)
	})
	return nil
}

func (g *Gate) accept(l net.Listener, who Identify) {
	slots := make(chan struct{}, maxIdentifying) // full: those who wait are turned away
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) || g.ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil { // out of file descriptors, or the like
			g.logger.Warn("Accepting a connection", "at", l.Addr().String(), "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-g.ctx.Done():
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			g.refuse("", c.RemoteAddr(), Caller{}, fmt.Errorf("%d callers have not said yet who they are", maxIdentifying))
			c.Close()
			continue
		}
		g.running.Go(func() {
			defer func() { <-slots }()
			g.admit(c, who)
		})
	}
}

// admit takes a connection from the network to a service's queue.
func (g *Gate) admit(raw net.Conn, who Identify) {
	c, err := g.track(raw)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, identifyTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline) // a connection that cannot have one is closed with the gate
	v, err := who(ctx, c)
	if err == nil {
		err = g.hand(ctx, c, v)
	}
	if err != nil {
		g.refuse(v.Service, c.RemoteAddr(), v.Caller, err)
		c.Close()
	}
}

func (g *Gate) hand(ctx context.Context, c *tracked, v Visit) error {
	e, err := g.entrance(v.Service)
	if err == nil {
		err = g.Check(ctx, v.Service, v.Caller)
	}
	if v.Answer != nil {
		if told := v.Answer(err); err == nil {
			err = told
		}
	}
	if err != nil {
		return err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("taking the deadline off: %w", err)
	}
	var admitted net.Conn = &conn{tracked: c, caller: v.Caller, again: v.Again}
	if v.Wrap != nil {
		admitted = v.Wrap(admitted)
	}
	return e.put(ctx, admitted)
}

func (g *Gate) entrance(s Service) (*entrance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.services[s]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("this node has no service %q", s)
}

// refuse writes down who was refused, at a pace that no caller sets.
func (g *Gate) refuse(s Service, from net.Addr, who Caller, err error) {
	if g.ctx.Err() != nil {
		return
	}
	if more, ok := g.refusals.allow(); ok {
		g.logger.Debug("Refused a connection", "service", string(s), "from", from.String(), "who", who, "err", err, "unlogged", more)
	}
}

// Track takes a dialled connection among those that Close closes.
func (g *Gate) Track(c net.Conn) (net.Conn, error) { return g.track(c) }

func (g *Gate) track(c net.Conn) (*tracked, error) {
	t := &tracked{Conn: c, g: g, from: addrOf(c.RemoteAddr()), local: addrOf(c.LocalAddr())}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.Close()
		return nil, ErrNotUp
	}
	g.open[t] = struct{}{}
	return t, nil
}

// Open is how many connections there are.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}

// Close ends every listener and every connection of the node.
func (g *Gate) Close() error {
	g.mu.Lock()
	g.closed = true
	g.cancel()
	var close []interface{ Close() error }
	for l := range g.listens {
		close = append(close, l)
	}
	for _, e := range g.services {
		close = append(close, e)
	}
	for c := range g.open {
		close = append(close, c)
	}
	g.mu.Unlock()
	var errs []error
	for _, c := range close {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	g.running.Wait()
	return errors.Join(errs...)
}

// limiter lets a few lines a second through, and counts the others.
type limiter struct {
	mu      sync.Mutex
	second  time.Time
	n       int
	dropped int
}

func (l *limiter) allow() (dropped int, ok bool) {
	const perSecond = 5
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		l.second, l.n = now, 0
	}
	if l.n++; l.n > perSecond {
		l.dropped++
		return 0, false
	}
	dropped, l.dropped = l.dropped, 0
	return dropped, true
}

// Inside connects this node to its own service, as who.
func (g *Gate) Inside(ctx context.Context, s Service, who Caller) (net.Conn, error) {
	e, err := g.entrance(s)
	if err != nil {
		return nil, err
	}
	if err := g.Check(ctx, s, who); err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	out, err := g.track(near)
	if err != nil {
		return nil, err
	}
	in, err := g.track(far)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	if err := e.put(ctx, &conn{tracked: in, caller: who}); err != nil {
		return nil, errors.Join(err, out.Close(), in.Close())
	}
	return out, nil
}
