package consensus

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Calls that only the leader can do travel over a connection of their own to
// it, many at once, in frames:
//
//	4 bytes  length of the rest, big endian
//	8 bytes  number of the call on this connection
//	1 byte   request: kind; answer: 0, or 1 for an error
//	8 bytes  request: ms that the caller still waits; answer: index, or the
//	         known errors in the error, as bits
//	rest     request: body; answer: text of the error
const (
	frameHead = 4
	frameFix  = 8 + 1 + 8
	mostBody  = MaxEntry + 4<<10
	mostCalls = 512                    // at once over one connection
	longCall  = time.Minute            // no call is worked on for longer
	graceTime = 2 * time.Second        // for answers when this node stops
	lostTime  = 200 * time.Millisecond // for those of a leader that is none any more
)

// callKind is what a call asks of the leader.
type callKind byte

const (
	callPropose callKind = iota + 1
	callFresh
	callAdd
	callRemove
	callTransfer
)

// errNotHere: nothing was done, and whoever leads now must do it.
var errNotHere = errors.New("this node does not lead")

// wireErrors is how errors travel: each has the bit of its place, for ever.
var wireErrors = [...]error{
	errNotHere, ErrTooLarge, ErrFull, ErrNoLeader, ErrUnknownOutcome, ErrClosed, ErrLeadershipLost, ErrLastVoter, ErrNewer,
	ErrTooFewVoters,
}

// remoteError is an error of another node.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// packError is the reverse of unpackError.
func packError(err error) (bits uint64, text string) {
	for i, e := range wireErrors {
		if errors.Is(err, e) {
			bits |= 1 << i
		}
	}
	return bits, strings.ToValidUTF8(err.Error()[:min(len(err.Error()), 1024)], "")
}

func unpackError(bits uint64, text string) error {
	e := &remoteError{text: text}
	for i, known := range wireErrors {
		if bits&(1<<i) != 0 {
			e.is = append(e.is, known)
		}
	}
	return e
}

// frame is one request or answer.
type frame struct {
	id     uint64
	code   byte
	number uint64
	body   []byte
}

func appendFrame(b []byte, f frame) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(frameFix+len(f.body)))
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = append(b, f.code)
	b = binary.BigEndian.AppendUint64(b, f.number)
	return append(b, f.body...)
}

// readFrame waits for the first byte of a frame as long as it takes, and for
// the others until the connection is taken for dead.
func readFrame(conn net.Conn, r *bufio.Reader) (f frame, err error) {
	if _, err := r.Peek(1); err != nil {
		return f, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(stallTime)); err != nil {
		return f, err
	}
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < frameFix || n > frameFix+mostBody {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return f, err
	}
	f = frame{
		id:     binary.BigEndian.Uint64(b),
		code:   b[8],
		number: binary.BigEndian.Uint64(b[9:]),
		body:   b[frameFix:],
	}
	return f, conn.SetReadDeadline(time.Time{})
}

// outbox writes frames to a connection. What comes while one is written goes
// out together.
type outbox struct {
	conn net.Conn

	mu      sync.Mutex
	buf     []byte
	spare   []byte
	writing bool
	err     error
}

// send hands over a frame. An error means that no byte of it was written; the
// connection ends when one is written in part only.
func (o *outbox) send(f frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.buf = appendFrame(o.buf, f)
	if o.writing {
		return nil
	}
	o.writing = true
	for len(o.buf) > 0 && o.err == nil {
		b := o.buf
		o.buf = o.spare[:0]
		o.mu.Unlock()
		err := o.conn.SetWriteDeadline(time.Now().Add(stallTime))
		if err == nil {
			_, err = o.conn.Write(b)
		}
		o.mu.Lock()
		if o.spare = b; cap(b) > 1<<20 {
			o.spare = nil
		}
		if o.err = err; err != nil {
			o.conn.Close() // its reader finds out and answers those who wait
		}
	}
	o.writing = false
	return nil
}

// serveCalls does what another node asks over conn, until it ends.
func (l *Log) serveCalls(conn net.Conn) {
	select {
	case <-l.opened:
	case <-l.life.Done():
	}
	if l.life.Err() != nil || l.raft == nil {
		return
	}
	ctx, cancel := context.WithCancel(l.life)
	defer cancel()
	out, slots := &outbox{conn: conn}, make(chan struct{}, mostCalls)
	var working sync.WaitGroup
	defer working.Wait()
	for r := bufio.NewReaderSize(conn, 64<<10); ; {
		f, err := readFrame(conn, r)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				l.conf.Logger.Warn("a connection with calls ended", "from", conn.RemoteAddr(), "err", err)
			}
			cancel()
			return
		}
		slots <- struct{}{}
		working.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, min(longCall, time.Duration(min(f.number, 1<<40))*time.Millisecond))
			defer cancel()
			index, err := l.perform(ctx, callKind(f.code), f.body)
			if err != nil && !errors.Is(err, ErrUnknownOutcome) && l.isEnding() {
				err = errNotHere // another node will lead
			}
			answer := frame{id: f.id, number: index}
			if err != nil {
				bits, text := packError(err)
				answer.code, answer.number, answer.body = 1, bits, []byte(text)
			}
			_ = out.send(answer) // the caller finds out by the connection's end
		})
	}
}

// atLeader has the leader do what a call asks, here or at another node, and
// waits for one. It tries again as long as nothing was done.
func (l *Log) atLeader(ctx context.Context, kind callKind, body []byte) (uint64, error) {
	if office, bound := ctx.Value(officeKey{}).(uint64); bound {
		return l.inOffice(ctx, office, kind, body)
	}
	for {
		leader, err := l.awaitLeader(ctx)
		if err != nil {
			return 0, err
		}
		var index uint64
		if leader.ID == raft.ServerID(l.conf.Node) {
			index, err = l.perform(ctx, kind, body)
		} else {
			index, err = l.forward(ctx, leader, kind, body)
		}
		if !errors.Is(err, errNotHere) {
			return index, err
		}
		l.pause(ctx)
	}
}

// pause waits until another node may lead.
func (l *Log) pause(ctx context.Context) {
	l.mu.Lock()
	moved := l.moved
	l.mu.Unlock()
	select {
	case <-moved:
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
}

// forward asks another node and waits for its answer. Once the request may
// have left this node, only the answer can tell what became of it: the one that
// answers, or the end of the connection.
func (l *Log) forward(ctx context.Context, leader raft.Server, kind callKind, body []byte) (uint64, error) {
	if err := l.beginCall(); err != nil {
		return 0, err
	}
	defer l.calls.Done()
	if l.wire.callers == nil {
		return 0, errNotHere
	}
	c, err := l.connect(ctx, leader)
	if err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx))
		}
		l.conf.Logger.Debug("calling the leader", "leader", leader.ID, "err", err)
		return 0, errNotHere
	}
	id, answer, err := c.ask(ctx, kind, body)
	if err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx))
		}
		return 0, errNotHere
	}
	defer c.forget(id)
	select {
	case a := <-answer:
		if kind == callFresh && errors.Is(a.err, ErrUnknownOutcome) {
			return 0, errNotHere // it changes nothing: whoever leads now can tell
		}
		return a.index, a.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	case <-l.life.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, ErrClosed)
	}
}

// connect returns a connection to the leader. A dead one is dialled for long,
// which does not concern those who may turn to the next.
func (l *Log) connect(ctx context.Context, leader raft.Server) (*caller, error) {
	d := l.wire.callers.to(leader.Address)
	for {
		l.mu.Lock()
		moved := l.moved
		l.mu.Unlock()
		if addr, id := l.raft.LeaderWithID(); addr != leader.Address || id != leader.ID {
			return nil, errNotHere
		}
		select {
		case <-d.ready:
			return d.caller, d.err
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
