package shim

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

const cancelWait = cancelGrace + 2*time.Second // for the word that a cancelled command is dead

// Exec runs a command in the workspace and returns its exit code (128 and more
// for a signal). When ctx ends, or the connection breaks, the command and all
// it started are ended (SIGTERM, a second later SIGKILL), and Exec returns the
// cause of ctx after that. A Stdin that blocks keeps one goroutine until it
// returns. A command that ends by itself leaves its background children alone.
func (c *Client) Exec(ctx context.Context, s ExecSpec) (exit int, err error) {
	conn, stop, err := c.open(context.WithoutCancel(ctx), request{Op: "exec", Exec: &s}, nil)
	if err != nil {
		return -1, fmt.Errorf("running in the workspace: %w", err)
	}
	defer stop()
	w := &frameWriter{w: conn}
	release := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Now().Add(cancelWait)) // of an open socket
		_ = w.write(kindCancel, nil)                     // if that fails the connection is gone, which does the same
	})
	defer release()
	if _, err := readAnswer(conn); err != nil {
		return -1, fmt.Errorf("running in the workspace: %w", cause(ctx, err))
	}
	window := newWindow()
	defer window.close()
	go window.copy(w, s.Stdin)
	go window.signals(w, s.Signals)
	code, err := output(bufio.NewReaderSize(conn, 64<<10), s, window)
	if err := cause(ctx, errors.Join(err, ctx.Err())); err != nil {
		return -1, fmt.Errorf("running in the workspace: %w", err)
	}
	return code, nil
}

// output copies what the command says until its exit.
func output(r io.Reader, s ExecSpec, window *window) (int, error) {
	var buf []byte
	for {
		kind, b, err := readFrameInto(r, maxFrame, buf)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return -1, err
		}
		buf = b
		switch kind {
		case kindOut:
			err = writeTo(s.Stdout, b)
		case kindErr:
			err = writeTo(s.Stderr, b)
		case kindCredit:
			window.add(creditOf(b))
		case kindExit:
			return decodeExit(b)
		default:
			err = fmt.Errorf("%w: frame %q", ErrInvalid, kind)
		}
		if err != nil {
			return -1, err
		}
	}
}

func writeTo(w io.Writer, b []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(b)
	return err
}

// window is how many bytes of input may be sent now.
type window struct {
	mu     sync.Mutex
	wake   *sync.Cond
	free   int
	closed bool
	done   chan struct{} // closed with it
}

func newWindow() *window {
	w := &window{free: inputWindow, done: make(chan struct{})}
	w.wake = sync.NewCond(&w.mu)
	return w
}

func (w *window) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += n
	w.wake.Broadcast()
}

func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	close(w.done)
	w.wake.Broadcast()
}

// take waits for n bytes of room; false: there is nobody to send to.
func (w *window) take(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.free < n && !w.closed {
		w.wake.Wait()
	}
	w.free -= n
	return !w.closed
}

// signals sends them until the command has ended.
func (w *window) signals(to *frameWriter, from <-chan syscall.Signal) {
	for {
		select {
		case sig, more := <-from:
			if !more || to.write(kindSignal, []byte{byte(sig)}) != nil {
				return
			}
		case <-w.done:
			return
		}
	}
}

// copy sends the input until it ends or breaks. The end of the command, which
// output reports, ends it too.
func (w *window) copy(to *frameWriter, from io.Reader) {
	buf := make([]byte, 32<<10)
	for from != nil {
		n, err := from.Read(buf)
		if n > 0 && (!w.take(n) || to.write(kindData, buf[:n]) != nil) {
			return
		}
		if err != nil {
			break
		}
	}
	_ = to.write(kindEOF, nil) // fails only when the command is gone
}

// Terminal is one attachment to a terminal. Read gives the last output (1 MiB,
// and what makes it show as it did) and then what comes, io.EOF when the shell
// has ended, and another error when the attachment broke. Who typed last misses
// nothing: the shell waits for them, while they take anything. All others, when
// they are too slow, go on from a new and shorter replay. Close leaves the shell
// running.
type Terminal struct {
	conn *call
	stop func()
	w    *frameWriter
	r    *bufio.Reader

	rest []byte // of the last frame; Read's alone

	changes chan struct{}

	mu    sync.Mutex
	ended bool
	code  int
	info  TerminalInfo
}

var _ io.ReadWriteCloser = (*Terminal)(nil)

// OpenTerminal attaches to the terminal with that id, or makes it. Any number
// may be attached at once: all see the same output, each may type that does not
// only watch, and the size is that of who typed last. The end of ctx after
// OpenTerminal does not touch it.
func (c *Client) OpenTerminal(ctx context.Context, s TerminalSpec) (*Terminal, error) {
	conn, stop, err := c.open(ctx, request{Op: "terminal", Terminal: &s}, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the terminal: %w", err)
	}
	a, err := readAnswer(conn)
	if err == nil && a.Terminal == nil {
		err = fmt.Errorf("%w: an answer without the terminal", ErrProtocol)
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("opening the terminal: %w", cause(ctx, err))
	}
	if !conn.release() {
		return nil, fmt.Errorf("opening the terminal: %w", context.Cause(ctx))
	}
	return &Terminal{
		conn: conn, stop: stop, w: &frameWriter{w: conn}, r: bufio.NewReader(conn), info: *a.Terminal, changes: make(chan struct{}, 1),
	}, nil
}

// Info is how the terminal was when it was attached to, or when somebody who
// reads was told last.
func (t *Terminal) Info() TerminalInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info
}

// Changes gets a value when Info has changed. It is never closed.
func (t *Terminal) Changes() <-chan struct{} { return t.changes }

func (t *Terminal) told(frame []byte) error {
	var info TerminalInfo
	if err := json.Unmarshal(frame, &info); err != nil {
		return fmt.Errorf("reading the terminal: %w: %w", ErrInvalid, err)
	}
	t.mu.Lock()
	t.info = info
	t.mu.Unlock()
	select {
	case t.changes <- struct{}{}:
	default:
	}
	return nil
}

// Read is for one goroutine at a time.
func (t *Terminal) Read(b []byte) (int, error) {
	for len(t.rest) == 0 {
		if _, ended := t.Exit(); ended {
			return 0, io.EOF
		}
		kind, frame, err := readFrame(t.r, maxFrame)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("reading the terminal: %w", err)
		}
		switch kind {
		case kindOut:
			t.rest = frame
		case kindInfo:
			if err := t.told(frame); err != nil {
				return 0, err
			}
		case kindExit:
			if err := t.end(frame); err != nil {
				return 0, err
			}
		}
	}
	n := copy(b, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *Terminal) end(frame []byte) error {
	code, err := decodeExit(frame)
	if err != nil {
		return fmt.Errorf("reading the terminal: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended, t.code = true, code
	return nil
}

// Exit returns the shell's exit code, and false while Read has not returned
// io.EOF yet.
func (t *Terminal) Exit() (code int, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.code, t.ended
}

// Write types.
func (t *Terminal) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n := min(len(b)-sent, 32<<10)
		if err := t.w.write(kindData, b[sent:sent+n]); err != nil {
			return sent, fmt.Errorf("writing to the terminal: %w", err)
		}
		sent += n
	}
	return len(b), nil
}

// Resize says how large the caller's window is. The terminal takes it while the
// caller is the one who typed last, or as soon as they type.
func (t *Terminal) Resize(rows, cols uint16) error {
	b := binary.LittleEndian.AppendUint16(nil, rows)
	if err := t.w.write(kindResize, binary.LittleEndian.AppendUint16(b, cols)); err != nil {
		return fmt.Errorf("resizing the terminal: %w", err)
	}
	return nil
}

// Close detaches.
func (t *Terminal) Close() error {
	t.stop()
	return nil
}
