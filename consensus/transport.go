package consensus

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Transport carries Raft's connections between the nodes of the mesh. Accept
// yields connections of nodes that may take part, and only those: refusing the
// others is the transport's work. Dial gets what another node's Addr says.
// Close ends Accept; the connections are closed by consensus.
type Transport interface {
	net.Listener
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

const (
	rpcTimeout = 5 * time.Second // one call between nodes; snapshots get more by size
	poolSize   = 3               // idle connections kept to each node
)

// wire is Raft's transport and the two steps of ending it. Both come after
// Raft was told to stop: cut makes every call on the way fail at once, wait
// returns when nothing of the transport runs any more.
type wire struct {
	raft.Transport
	cut, wait func()
}

// openTransport adapts t for Raft. Without t the node is alone and talks to
// itself in memory.
func openTransport(t Transport, node string, logger hclog.Logger) wire {
	if t == nil {
		addr, trans := raft.NewInmemTransport(raft.ServerAddress(node))
		trans.Connect(addr, trans)
		return wire{trans, func() {}, func() {}}
	}
	streams := &streamLayer{Transport: t, open: make(map[*trackedConn]struct{})}
	streams.ctx, streams.cancel = context.WithCancel(context.Background())
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  streams,
		MaxPool: poolSize,
		Timeout: rpcTimeout,
		Logger:  logger,
		// Without pipelining the leader batches better: faster and with better
		// tails at every number of clients that was measured.
		MaxRPCsInFlight: 1,
	})
	cut := func() {
		trans.Close()
		streams.cut()
	}
	wait := func() {
		trans.CloseStreams()
		streams.users.Wait()
	}
	return wire{trans, cut, wait}
}

// streamLayer is a Transport as Raft wants it. It knows every open connection,
// because Raft's transport leaves the accepted ones open when it is closed.
type streamLayer struct {
	Transport
	ctx    context.Context // ends with cut; bounds dials
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	open   map[*trackedConn]struct{}
	users  sync.WaitGroup // one for each open connection, until its user closed it
}

// Accept implements net.Listener.
func (s *streamLayer) Accept() (net.Conn, error) {
	conn, err := s.Transport.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

// Dial implements raft.StreamLayer.
func (s *streamLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	conn, err := s.Transport.Dial(ctx, string(addr))
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", addr, err)
	}
	return s.track(conn)
}

func (s *streamLayer) track(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	c := &trackedConn{Conn: conn, layer: s}
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

// trackedConn tells its layer when it is closed.
type trackedConn struct {
	net.Conn
	layer *streamLayer
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
