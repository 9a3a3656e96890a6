package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers calls until the listener is closed, and returns when all of
// them have ended.
func (s *server) serve(ctx context.Context, l *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
			s.log.Warn("accepting", "err", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("accepting: %w", err)
		}
		wg.Go(func() {
			defer c.Close()
			if err := s.call(ctx, c); err != nil && !gone(err) {
				s.log.Warn("call failed", "err", err)
			}
		})
	}
}

// gone says that the other side has left, which needs no word.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, context.Canceled)
}

func (s *server) call(ctx context.Context, c *net.UnixConn) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var q request
	if err := readJSON(c, kindRequest, &q); err != nil {
		return err
	}
	w := &frameWriter{w: c}
	if err := admit(c, q); err != nil {
		return refuse(w, err)
	}
	switch q.Op {
	case "send":
		return s.send(ctx, c, w, q)
	case "records":
		return s.records(ctx, c, w, q)
	case "exec":
		return s.exec(ctx, c, w, q)
	case "terminal":
		return s.terminal(ctx, c, w, q)
	case "serve":
		return s.serveProgram(c, w, q)
	case "record":
		return s.record(ctx, c, w)
	case "dial":
		return s.dial(ctx, c, w, q)
	case "listen":
		return s.listen(ctx, c, w, q)
	case "accept":
		return s.accept(c, w, q)
	case "watch_ports":
		return s.watchPorts(ctx, c, w)
	}
	ctx, cancel := untilGone(ctx, c)
	defer cancel()
	a, err := s.simple(ctx, q)
	a.setErr(err)
	return w.writeJSON(kindAnswer, a)
}

// simple answers the calls that are one question and one answer.
func (s *server) simple(ctx context.Context, q request) (answer, error) {
	switch q.Op {
	case "hello":
		info := s.info()
		return answer{Info: &info}, nil
	case "start":
		return s.start(ctx, q)
	case "stop":
		return answer{}, s.agent.stop(ctx, q.Grace)
	case "terminals":
		return answer{Terminals: s.terms.list()}, nil
	case "close_terminal":
		return answer{}, s.terms.close(q.ID)
	case "rename_terminal":
		return answer{}, s.terms.rename(q.ID, q.Name)
	case "hold_terminal":
		return answer{}, s.terms.hold(q)
	case "recording":
		s.terms.setRecording(q.On)
		return answer{}, nil
	case "ports":
		ports, err := listening(q.All, s.config.Forward)
		return answer{Ports: ports}, err
	}
	return answer{}, fmt.Errorf("%w: unknown call %q", ErrInvalid, q.Op)
}

func refuse(w *frameWriter, err error) error {
	var a answer
	a.setErr(err)
	return w.writeJSON(kindAnswer, a)
}

// admit refuses other protocols, and in a container everybody inside it: their
// process ids mean something here, those of the host's processes are 0.
func admit(c *net.UnixConn, q request) error {
	if q.Protocol != Protocol {
		return fmt.Errorf("%w: %d here, %d there", ErrProtocol, Protocol, q.Protocol)
	}
	if os.Getpid() != 1 {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if cred.Pid != 0 {
		return fmt.Errorf("%w: process %d is inside the workspace", ErrRefused, cred.Pid)
	}
	return nil
}

// untilGone ends the context when the caller closes the connection. Nothing
// else may read from it meanwhile.
func untilGone(ctx context.Context, c net.Conn) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = c.Read(make([]byte, 1)) // any answer means that the caller is through
		cancel()
	}()
	return ctx, cancel
}

func (s *server) info() Info {
	a := s.agent
	last, trouble := s.journal.status()
	info := Info{Protocol: Protocol, Started: s.started, Last: last}
	if trouble != nil {
		info.Trouble = trouble.Error()
	}
	r := a.alive()
	a.mu.Lock()
	defer a.mu.Unlock()
	info.Run = a.runs
	info.Stderr = bytes.Clone(a.tail)
	if r != nil && !r.dead() {
		info.Running, info.ID, info.PID = true, r.id, r.proc.pid
	}
	return info
}

func (s *server) start(ctx context.Context, q request) (answer, error) {
	if q.Spec == nil || q.Spec.ID == "" || len(q.Spec.ID) > maxID || q.Spec.Path == "" {
		return answer{}, fmt.Errorf("%w: start needs an id and a path", ErrInvalid)
	}
	run, err := s.agent.start(ctx, q.Spec.ID, command{
		args: append([]string{q.Spec.Path}, q.Spec.Args...),
		env:  s.env(q.Spec.Env), dir: firstOf(q.Spec.Dir, s.config.Home),
	})
	return answer{Run: run}, err
}

func (s *server) send(ctx context.Context, c *net.UnixConn, w *frameWriter, q request) error {
	kind, line, err := readFrame(c, MaxSend)
	if errors.Is(err, ErrInvalid) {
		return refuse(w, err)
	}
	if err != nil {
		return err
	}
	if kind != kindData || q.ID == "" || len(q.ID) > maxID || bytes.IndexByte(line, '\n') >= 0 {
		return refuse(w, fmt.Errorf("%w: send needs an id and one line", ErrInvalid))
	}
	ctx, cancel := untilGone(ctx, c)
	defer cancel()
	var a answer
	a.Seq, a.Duplicate, err = s.agent.send(ctx, q.ID, line)
	a.setErr(err)
	return w.writeJSON(kindAnswer, a)
}

func (s *server) records(ctx context.Context, c *net.UnixConn, w *frameWriter, q request) error {
	ctx, cancel := untilGone(ctx, c)
	defer cancel()
	if _, _, err := s.journal.seek(max(q.From, 1)); err != nil {
		return refuse(w, err)
	}
	if err := w.writeJSON(kindAnswer, answer{}); err != nil {
		return err
	}
	return s.journal.follow(ctx, q.From, func(frames []byte) error { return w.write(kindRecords, frames) })
}
