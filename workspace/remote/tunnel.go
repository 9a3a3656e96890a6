package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace"
)

// Inside tells how to run programs in a workspace on that node.
func (c *Client) Inside(ctx context.Context, node chat.Node, task chat.TaskID) (in workspace.Inside, err error) {
	return in, c.ask(ctx, http.MethodGet, node, &in, "tasks", string(task), "inside")
}

// Connect opens a connection to the shim of a workspace on that node. It has
// CloseWrite, and ends when the node is silent. The end of ctx after Connect
// does not touch it.
func (c *Client) Connect(ctx context.Context, node chat.Node, task chat.TaskID) (net.Conn, error) {
	conn, err := c.upgrade(ctx, node, nil, "tasks", string(task), "shim")
	if err != nil {
		return nil, err
	}
	return newTunnel(conn), nil
}

func (s *Server) inside(w http.ResponseWriter, r *http.Request) error {
	task, err := s.about(r)
	if err != nil {
		return err
	}
	in, err := s.c.Spaces.Inside(r.Context(), task)
	if err != nil {
		return err
	}
	return answer(w, in)
}

// shim joins another node and the shim of a workspace.
func (s *Server) shim(w http.ResponseWriter, r *http.Request) error {
	task, err := s.about(r)
	if err != nil {
		return err
	}
	if !s.begin() {
		return errClosing
	}
	defer s.open.Done()
	near, err := s.c.Spaces.Connect(r.Context(), task)
	if err != nil {
		return err
	}
	defer near.Close()
	conn, err := websocket.Accept(w, r, nil) // answers a refusal itself
	if err != nil {
		s.c.Logger.Info("tunnel refused", "task", task, "err", err)
		return nil
	}
	far := newTunnel(conn)
	defer far.Close()
	defer context.AfterFunc(s.done, func() { far.Close(); near.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() { oneWay(near, far) })
	wg.Go(func() { oneWay(far, near) })
	wg.Wait()
	return nil
}

// oneWay copies until the end of from, which becomes that of to. When one
// breaks, so does the other.
func oneWay(to, from net.Conn) {
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, frame)); err != nil {
		to.Close()
		from.Close()
		return
	}
	if h, ok := to.(interface{ CloseWrite() error }); ok {
		_ = ignore(h.CloseWrite())
	}
}

// tunnelPing is how often a tunnel asks whether the other node is there. What
// waits for it is a person, and a shell that is found again once it is free.
const tunnelPing = 5 * time.Second

// tunnel is a stream over a WebSocket: binary messages are bytes, a text
// message is the end of one way.
type tunnel struct {
	conn *websocket.Conn
	ctx  context.Context // ends with Close, or when the other node is silent
	stop context.CancelCauseFunc

	reading sync.Mutex
	from    io.Reader    // the message that is being read; nil: none
	ended   bool         // the other end says no more
	waits   atomic.Int64 // number of the wait for a message; 0: nobody waits

	mu    sync.Mutex
	timer *time.Timer
}

var _ net.Conn = (*tunnel)(nil)

func newTunnel(conn *websocket.Conn) *tunnel {
	t := &tunnel{conn: conn}
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	conn.SetReadLimit(maxFrame)
	go t.keepAlive()
	return t
}

// Read implements io.Reader.
func (t *tunnel) Read(b []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	for {
		if t.ended {
			return 0, io.EOF
		}
		if t.from == nil {
			if err := t.next(); err != nil {
				return 0, t.why(err)
			}
			continue
		}
		n, err := t.from.Read(b)
		if errors.Is(err, io.EOF) {
			t.from, err = nil, nil
			if n == 0 {
				continue
			}
		}
		if err != nil {
			err = t.why(err)
		}
		return n, err
	}
}

// next waits for a message.
func (t *tunnel) next() error {
	t.waits.Store(time.Now().UnixNano())
	defer t.waits.Store(0)
	kind, r, err := t.conn.Reader(t.ctx)
	if err != nil {
		return err
	}
	if kind == websocket.MessageText {
		t.ended = true
		return nil
	}
	t.from = r
	return nil
}

// why tells a silent node and a closed tunnel from other ends.
func (t *tunnel) why(err error) error {
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) { // the end of a way is said, so this is none
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading from the other node: %w", err)
}

// Write implements io.Writer.
func (t *tunnel) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n := min(len(b)-sent, frame)
		if err := t.conn.Write(t.ctx, websocket.MessageBinary, b[sent:sent+n]); err != nil {
			return sent, fmt.Errorf("writing to the other node: %w", errors.Join(context.Cause(t.ctx), err))
		}
		sent += n
	}
	return len(b), nil
}

// CloseWrite ends this way; the other stays open.
func (t *tunnel) CloseWrite() error { return t.conn.Write(t.ctx, websocket.MessageText, []byte(ended)) }

// Close implements net.Conn.
func (t *tunnel) Close() error {
	t.stop(net.ErrClosed)
	return ignore(t.conn.CloseNow()) // it may be closed already
}

// SetDeadline ends the tunnel then, for good.
func (t *tunnel) SetDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
	t.timer = nil
	if !at.IsZero() {
		t.timer = time.AfterFunc(time.Until(at), func() { t.stop(os.ErrDeadlineExceeded) })
	}
	return nil
}

// SetReadDeadline is SetDeadline.
func (t *tunnel) SetReadDeadline(at time.Time) error { return t.SetDeadline(at) }

// SetWriteDeadline is SetDeadline.
func (t *tunnel) SetWriteDeadline(at time.Time) error { return t.SetDeadline(at) }

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return place("here") }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return place("another node") }

type place string

func (place) Network() string  { return "tunnel" }
func (p place) String() string { return string(p) }

// keepAlive finds another side that vanished without closing. A pong is heard
// only while somebody waits for a message: who does not read now, for the data
// goes nowhere at the moment, is not told from here.
func (t *tunnel) keepAlive() {
	tick := time.NewTicker(tunnelPing)
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		}
		waits := t.waits.Load()
		if waits == 0 {
			continue
		}
		wait, cancel := context.WithTimeout(t.ctx, 2*tunnelPing)
		err := t.conn.Ping(wait)
		cancel()
		if err != nil && t.waits.Load() == waits { // nothing came, not even data
			t.stop(fmt.Errorf("%w: the node of the workspace is silent", workspace.ErrAway))
			_ = ignore(t.conn.CloseNow())
			return
		}
	}
}

// ignore drops the error of a last word: the other side may be gone already.
func ignore(error) error { return nil }
