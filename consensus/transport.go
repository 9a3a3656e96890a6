package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Transport carries the connections between the nodes of the mesh: Raft's and
// those of calls. Accept yields connections of nodes that may take part, and
// only those: refusing the others is the transport's work. Dial gets what
// another node's Addr says. Close ends Accept; the connections are closed by
// consensus.
type Transport interface {
	net.Listener
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

const (
	rpcTimeout = 5 * time.Second  // one call of Raft between nodes
	stallTime  = 30 * time.Second // silence in the middle of a message, or of a node that is sent a snapshot
	poolSize   = 3                // idle connections kept to each node
	voteTime   = time.Second      // an election takes no longer

	mostGreetings = 64               // connections that have not said yet what they are
	warnEvery     = 10 * time.Second // a refused node tries again and again
)

// errNotDialled: a node cannot be reached.
var errNotDialled = errors.New("no connection")

// wire is Raft's transport and the two steps of ending it. Both come after
// Raft was told to stop: cut makes every call on the way fail at once, wait
// returns when nothing of the transport runs any more.
type wire struct {
	raft.Transport
	streams   *streamLayer // nil: this node is alone
	peers     *peers
	callers   *callers
	cut, wait func()
}

// openTransport adapts the transport for Raft and hands connections that carry
// calls to serve. Without a transport the node is alone and talks to itself in
// memory.
func openTransport(c *Config, g *group, serve func(net.Conn)) wire {
	w := wire{peers: newPeers(c.Trailing)}
	if c.Transport == nil {
		addr, trans := raft.NewInmemTransport(raft.ServerAddress(c.Node))
		trans.Connect(addr, trans)
		w.Transport, w.cut, w.wait = trans, w.peers.end, w.peers.users.Wait
		return w
	}
	w.streams = newStreamLayer(c.Transport, g, serve, c.Logger.With("part", "transport"))
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  w.streams,
		MaxPool: poolSize,
		Timeout: rpcTimeout,
		Logger:  newHclog(c.Logger, "transport"),
		// Without pipelining the leader batches better: faster and with better
		// tails at every number of clients that was measured.
		MaxRPCsInFlight: 1,
	})
	w.Transport = &watched{NetworkTransport: trans, streams: w.streams, peers: w.peers}
	w.callers = newCallers(w.streams)
	w.cut = func() {
		w.peers.end()
		trans.Close()
		w.streams.cut()
	}
	w.wait = func() {
		trans.CloseStreams()
		w.peers.users.Wait()
		w.streams.users.Wait()
	}
	return w
}

// streamLayer is a Transport as Raft wants it. It knows every open connection,
// because Raft's transport leaves the accepted ones open when it is closed.
type streamLayer struct {
	Transport
	group  *group
	serve  func(net.Conn) // a connection that carries calls, until it ends
	logger *slog.Logger
	ctx    context.Context // ends with cut; bounds dials
	cancel context.CancelFunc
	raft   chan net.Conn // greeted connections that carry Raft's messages
	done   chan struct{} // closed by Close
	once   sync.Once     // of Close

	mu       sync.Mutex
	closed   bool
	open     map[*trackedConn]struct{}
	greeting int            // accepted connections that have not said what they are
	warned   time.Time      // of a refusal
	users    sync.WaitGroup // one for each open connection, until its user closed it
}

func newStreamLayer(t Transport, g *group, serve func(net.Conn), logger *slog.Logger) *streamLayer {
	s := &streamLayer{
		Transport: t,
		group:     g,
		serve:     serve,
		logger:    logger,
		raft:      make(chan net.Conn),
		done:      make(chan struct{}),
		open:      make(map[*trackedConn]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.users.Go(s.listen)
	return s
}

// listen accepts until Close. Nothing that comes over a connection ends it.
func (s *streamLayer) listen() {
	var wait time.Duration
	for {
		conn, err := s.Transport.Accept()
		if err == nil {
			wait = 0
			s.receive(conn)
			continue
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-s.done:
			return
		case <-time.After(wait):
			s.logger.Warn("accepting a connection", "err", err)
		}
	}
}

// receive finds out in the background what a connection is for.
func (s *streamLayer) receive(conn net.Conn) {
	c, err := s.track(conn, "")
	if err != nil {
		return // conn is closed: so is the layer
	}
	s.mu.Lock()
	tooMany := s.greeting >= mostGreetings
	if !tooMany {
		s.greeting++
	}
	s.mu.Unlock()
	if tooMany {
		s.refused(c, errors.New("too many connections that say nothing"))
		return
	}
	s.users.Go(func() {
		kind, err := s.group.hear(c)
		s.mu.Lock()
		s.greeting--
		s.mu.Unlock()
		switch {
		case err != nil:
			s.refused(c, err)
		case kind == helloCalls:
			s.serve(c)
			c.Close()
		default:
			select {
			case s.raft <- &requestConn{trackedConn: c, begun: true}: // Raft closes it
			case <-s.done:
				c.Close()
			}
		}
	})
}

func (s *streamLayer) refused(c *trackedConn, why error) {
	s.mu.Lock()
	quiet := time.Since(s.warned) < warnEvery || s.closed
	if !quiet {
		s.warned = time.Now()
	}
	s.mu.Unlock()
	if !quiet {
		s.logger.Warn("refusing a connection", "from", c.RemoteAddr(), "err", why)
	}
	c.Close()
}

// Accept implements net.Listener.
func (s *streamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-s.raft:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *streamLayer) Close() error {
	var err error
	s.once.Do(func() {
		close(s.done)
		err = s.Transport.Close()
	})
	return err
}

// Dial implements raft.StreamLayer.
func (s *streamLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c, err := s.dial(ctx, addr, helloRaft)
	if err != nil {
		return nil, err
	}
	return &askingConn{trackedConn: c}, nil
}

func (s *streamLayer) dial(ctx context.Context, addr raft.ServerAddress, kind byte) (*trackedConn, error) {
	conn, err := s.Transport.Dial(ctx, string(addr))
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w: %w", addr, errNotDialled, err)
	}
	c, err := s.track(conn, addr)
	if err != nil {
		return nil, err
	}
	if err := s.group.greet(c, kind); err != nil {
		return nil, errors.Join(fmt.Errorf("greeting %s: %w", addr, err), c.Close())
	}
	return c, nil
}

// track takes note of a connection, to is empty for an accepted one.
func (s *streamLayer) track(conn net.Conn, to raft.ServerAddress) (*trackedConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	c := &trackedConn{Conn: conn, layer: s, to: to}
	s.open[c] = struct{}{}
	s.users.Add(1)
	return c, nil
}

// cut ends every connection and refuses new ones.
func (s *streamLayer) cut() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		c.Conn.Close()
	}
}

// hangUp ends every connection that was dialled to addr.
func (s *streamLayer) hangUp(addr raft.ServerAddress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if c.to == addr {
			c.Conn.Close()
		}
	}
}

// trackedConn tells its layer when it is closed.
type trackedConn struct {
	net.Conn
	layer *streamLayer
	to    raft.ServerAddress // empty for an accepted one
	once  sync.Once
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.layer.mu.Lock()
		delete(c.layer.open, c)
		c.layer.mu.Unlock()
		c.layer.users.Done()
	})
	return err
}

// requestConn is an accepted connection of Raft. Raft reads requests without a
// deadline, one of them, a snapshot, on its main goroutine: a leader that dies
// in the middle would hold up this node for as long as its system waits.
// Requests are answered one by one, so what is read between a first byte and
// the answer is in the middle of one. Its methods are called in turn.
type requestConn struct {
	*trackedConn
	begun bool // a request; at first one that must come
}

// Read implements net.Conn.
func (c *requestConn) Read(p []byte) (int, error) {
	if c.begun {
		if err := c.SetReadDeadline(time.Now().Add(stallTime)); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	c.begun = c.begun || n > 0
	return n, err
}

// Write implements net.Conn.
func (c *requestConn) Write(p []byte) (int, error) {
	if c.begun {
		c.begun = false
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// askingConn is a connection of Raft that this node dialled. Raft gives a
// snapshot a time by its size, from the first byte until it is restored, but
// how long that takes is not known: as long as the other node answers
// heartbeats, it may.
type askingConn struct {
	*trackedConn
	asked bool // an answer is waited for
}

// Write implements net.Conn.
func (c *askingConn) Write(p []byte) (int, error) {
	if !c.asked && len(p) > 0 && p[0] == rpcInstallSnapshot {
		if err := c.SetDeadline(time.Time{}); err != nil {
			return 0, err
		}
	}
	c.asked = true
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *askingConn) Read(p []byte) (int, error) {
	c.asked = false
	return c.Conn.Read(p)
}

// rpcInstallSnapshot is the first byte of a snapshot that Raft sends.
const rpcInstallSnapshot = 2
