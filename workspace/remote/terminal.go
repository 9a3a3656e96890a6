package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/samnode/samnode/workspace"
)

// terminal is our end of an attachment: binary messages are bytes, a text
// message to the node is a new size.
type terminal struct {
	conn *websocket.Conn
	ctx  context.Context // ends with Close, or when the node is silent
	stop context.CancelCauseFunc

	reading sync.Mutex
	rest    []byte // of the last message
	err     error  // how it ended
}

var _ workspace.Terminal = (*terminal)(nil)

func attached(conn *websocket.Conn) *terminal {
	t := &terminal{conn: conn}
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	conn.SetReadLimit(2 * frame)
	go keepAlive(t.ctx, conn, func(err error) { t.stop(err) })
	return t
}

// Read implements io.Reader.
func (t *terminal) Read(b []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	for len(t.rest) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		_, t.rest, t.err = t.conn.Read(t.ctx)
		if t.err != nil {
			t.err = t.why(t.err)
			t.stop(t.err)
		}
	}
	n := copy(b, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// why tells the end of the program from a lost attachment.
func (t *terminal) why(err error) error {
	if c, ok := errors.AsType[websocket.CloseError](err); ok && c.Code == websocket.StatusNormalClosure && c.Reason == ended {
		return io.EOF
	}
	if cause := context.Cause(t.ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("reading the terminal: %w", err)
}

// Write types.
func (t *terminal) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n := min(len(b)-sent, frame)
		if err := t.conn.Write(t.ctx, websocket.MessageBinary, b[sent:sent+n]); err != nil {
			return sent, fmt.Errorf("writing to the terminal: %w", err)
		}
		sent += n
	}
	return len(b), nil
}

// Resize changes the size for everybody who is attached.
func (t *terminal) Resize(rows, cols uint16) error {
	b, err := json.Marshal(size{rows, cols})
	if err == nil {
		err = t.conn.Write(t.ctx, websocket.MessageText, b)
	}
	if err != nil {
		return fmt.Errorf("resizing the terminal: %w", err)
	}
	return nil
}

// Close detaches.
func (t *terminal) Close() error {
	t.stop(errDetached)
	return ignore(t.conn.CloseNow()) // it may be closed already
}

var errDetached = errors.New("the terminal was detached")

// ignore drops the error of a last word: the other side may be gone already.
func ignore(error) error { return nil }

// keepAlive finds another side that vanished without closing.
func keepAlive(ctx context.Context, conn *websocket.Conn, lost func(error)) {
	tick := time.NewTicker(ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wait, cancel := context.WithTimeoutCause(ctx, ping, errors.New("the other node is silent"))
		err := conn.Ping(wait)
		if err != nil {
			lost(errors.Join(context.Cause(wait), err))
		}
		cancel()
		if err != nil {
			return
		}
	}
}
