package shim

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const (
	maxTerminals = 250
	closeGrace   = 500 * time.Millisecond // between SIGHUP and SIGKILL of a closed terminal
)

// terminals are the shells of the workspace, by id.
type terminals struct {
	procs *procs
	log   *slog.Logger

	mu     sync.Mutex
	open   map[string]*terminal
	record bool          // what begins from now on
	tapes  []*terminal   // that are recorded, until that is done
	began  chan struct{} // closed and replaced when there is one more
}

// terminal is one shell on a pseudo terminal. It lives until the shell exits
// or somebody closes it, watched or not.
type terminal struct {
	id      string
	proc    *proc
	pty     *os.File
	started time.Time
	screen  *screen
	ended   chan struct{} // closed when its output is complete
	maker   Who
	tape    *tape // nil: it is not recorded

	mu         sync.Mutex
	name       string
	rows, cols uint16
	people     []*attachment // in the order that they came
	leader     *attachment   // typed last; nil: nobody may type
	held       string        // the only person who may type; empty: everybody
	news       chan struct{} // closed and replaced when something here changes
}

func newTerminals(p *procs, log *slog.Logger) *terminals {
	return &terminals{procs: p, log: log, open: map[string]*terminal{}, began: make(chan struct{})}
}

func (ts *terminals) list() []TerminalInfo {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := make([]TerminalInfo, 0, len(ts.open))
	for _, t := range ts.open {
		all = append(all, t.info(nil))
	}
	slices.SortFunc(all, func(a, b TerminalInfo) int {
		return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.ID, b.ID))
	})
	return all
}

func (ts *terminals) get(id string) (*terminal, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.open[id]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
}

func (ts *terminals) rename(id, name string) error {
	t, err := ts.get(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.name = name
	t.tellLocked()
	return nil
}

// close hangs up, kills what is left of the session, and returns when the
// terminal is gone from the list.
func (ts *terminals) close(id string) error {
	t, err := ts.get(id)
	if err != nil {
		return err
	}
	t.proc.signal(syscall.SIGHUP)
	if waitFor(context.Background(), t.proc.done, closeGrace) != nil {
		t.proc.signal(syscall.SIGKILL)
	}
	t.proc.sweep(ts.log)
	<-t.ended
	return nil
}

func (ts *terminals) closeAll() {
	var wg sync.WaitGroup
	for _, t := range ts.list() {
		wg.Go(func() { _ = ts.close(t.ID) }) // not found: it ended by itself
	}
	wg.Wait()
}

// attach finds the terminal or makes it with c, and begins to watch it.
func (ts *terminals) attach(spec TerminalSpec, c command) (*terminal, *attachment, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.open[spec.ID]
	switch {
	case t == nil && (spec.Join || spec.Watch):
		return nil, nil, fmt.Errorf("%w: %s", ErrNotFound, spec.ID)
	case t == nil && len(ts.open) >= maxTerminals:
		return nil, nil, fmt.Errorf("%w: %d terminals are open", ErrRefused, len(ts.open))
	case t == nil:
		var err error
		if t, err = ts.makeLocked(spec, c); err != nil {
			return nil, nil, err
		}
		ts.open[spec.ID] = t
	case spec.Alone && t.typists() > 0:
		return nil, nil, fmt.Errorf("%w: %s", ErrBusy, spec.ID)
	}
	a, err := t.enter(spec)
	return t, a, err
}

func (ts *terminals) makeLocked(spec TerminalSpec, c command) (*terminal, error) {
	ours, theirs, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("making a terminal: %w", err)
	}
	defer theirs.Close()
	t := &terminal{
		id: spec.ID, name: firstOf(spec.Name, spec.ID), pty: ours, maker: spec.Who,
		started: time.Now().UTC(), ended: make(chan struct{}), news: make(chan struct{}),
	}
	t.screen = newScreen(t.redraw)
	if err := t.resizeLocked(cmp.Or(spec.Rows, 24), cmp.Or(spec.Cols, 80)); err != nil {
		ours.Close()
		return nil, err
	}
	c.files, c.tty = [3]*os.File{theirs, theirs, theirs}, true
	if t.proc, err = ts.procs.start(c); err != nil {
		ours.Close()
		return nil, err
	}
	t.proc.mark = "" // what left the session was meant to outlive the terminal
	if ts.record {
		t.tape = &tape{view: t.screen.follow()}
		ts.tapeLocked(t)
	}
	go ts.watch(t)
	return t, nil
}

// watch shows the shell's output until it has ended.
func (ts *terminals) watch(t *terminal) {
	from := &pipe{File: t.pty}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			t.screen.show(buf[:n])
			if err != nil { // EIO: nobody has the other side open any more
				return
			}
		}
	}()
	<-t.proc.done
	giveUpWhenSilent(drained, execSilence, from)
	ts.mu.Lock()
	delete(ts.open, t.id)
	ts.mu.Unlock()
	t.screen.end(exitCode(t.proc.status))
	t.pty.Close()
	close(t.ended)
}

func (t *terminal) resizeLocked(rows, cols uint16) error {
	if err := pty.Setsize(t.pty, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		return fmt.Errorf("resizing the terminal: %w", err)
	}
	t.rows, t.cols = rows, cols
	return nil
}

// redraw tells the program in front that its window changed, which it did not.
func (t *terminal) redraw() {
	raw, err := t.pty.SyscallConn()
	if err != nil {
		return // it has ended
	}
	_ = raw.Control(func(fd uintptr) {
		if group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil && group > 1 {
			_ = unix.Kill(-group, unix.SIGWINCH) // it may have ended
		}
	})
}

// terminal attaches the connection to a terminal until either ends.
func (s *server) terminal(ctx context.Context, c *net.UnixConn, w *frameWriter, q request) error {
	if q.Terminal == nil || q.Terminal.ID == "" || len(q.Terminal.ID) > maxID {
		return refuse(w, fmt.Errorf("%w: a terminal needs an id", ErrInvalid))
	}
	spec := *q.Terminal
	cmd := s.program(spec.Args, spec.Command)
	cmd.dir = firstOf(spec.Dir, s.config.Home)
	cmd.env = s.env(append([]string{"TERM=xterm-256color", "COLORTERM=truecolor"}, spec.Env...))
	t, a, err := s.terms.attach(spec, cmd)
	if err != nil {
		return refuse(w, err)
	}
	defer t.leave(a)
	now, news := t.informed(a)
	if err := w.writeJSON(kindAnswer, answer{Terminal: &now}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel() // the caller left
		t.receive(c, a)
	}()
	go t.inform(ctx, w, a, news)
	for {
		b, code, err := t.screen.next(ctx, a.view)
		if err != nil {
			return err
		}
		if b == nil {
			return w.writeJSON(kindExit, exit{Code: code})
		}
		if err := w.write(kindOut, b); err != nil {
			return err
		}
	}
}

// receive takes keys and sizes until the caller leaves or the terminal ends.
func (t *terminal) receive(c net.Conn, a *attachment) {
	for {
		kind, b, err := readFrame(c, inputWindow)
		if err != nil {
			return
		}
		switch {
		case kind == kindData:
			if !t.mayType(a, b) {
				continue
			}
			if _, err := t.pty.Write(b); err != nil {
				<-t.ended // what it said last is still on its way
				return
			}
		case kind == kindResize && len(b) == 4:
			t.resizeBy(a, binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]))
		}
	}
}
