package sshd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/samnode/samnode/workspace/shim"
)

// command runs a line of the shell, or a login shell that reads its input.
func (s *session) command(line string) (int, error) {
	return s.exec(UseCommand, line, shim.ExecSpec{Command: line, Dir: s.space.Dir})
}

// serveFiles runs an sftp server in the workspace, so that paths, links and
// rights are the workspace's own. It begins at home, as everywhere: editors put
// their servers there, and in the working copy those would be committed.
func (s *session) serveFiles() (int, error) {
	var moved counter
	done := s.did(UseFiles, "sftp")
	defer func() { done(moved.n.Load()) }()
	server, err := s.space.Shim.Serve(s.ctx, shim.ExecSpec{
		Args: []string{s.space.Binary, "sftp-server", "--shortcut", s.space.Dir}, Env: slices.Concat(s.space.Env, s.env),
	})
	if err != nil {
		return failed, lost(err)
	}
	defer server.Close()
	defer context.AfterFunc(s.ctx, func() { server.Close() })()
	go func() {
		if half, ok := server.(interface{ CloseWrite() error }); copied(moved.writer(server), s.ch) && ok {
			_ = ignoreClosed(half.CloseWrite()) // it may have ended
		}
	}()
	if !copied(moved.writer(s.ch), server) {
		return failed, lost(io.ErrUnexpectedEOF)
	}
	return 0, nil
}

func (s *session) exec(by Use, what string, e shim.ExecSpec) (int, error) {
	var moved counter
	done := s.did(by, what)
	defer func() { done(moved.n.Load()) }()
	e.Env, e.HangUp = slices.Concat(s.space.Env, s.env), true
	e.Stdin, e.Stdout, e.Stderr, e.Signals = moved.reader(s.ch), moved.writer(s.ch), s.ch.Stderr(), s.signals
	code, err := s.space.Shim.Exec(s.ctx, e)
	if err != nil {
		return failed, lost(err)
	}
	return code, nil
}

// lost says what a broken connection to the workspace means.
func lost(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("the workspace or its machine is gone; what ran there may have ended in its middle")
	}
	return err
}

// shell attaches to a shell of this person's, or to the one that is asked for.
// It stays when the client leaves without ending it, and the next one finds it.
func (s *session) shell() (int, error) {
	term, left, err := s.findShell()
	if err != nil {
		return failed, err
	}
	defer term.Close()
	info := term.Info()
	what := info.Name
	if s.watch != "" {
		what += ", watching"
	}
	defer s.did(UseShell, what)(0)
	if _, err := io.WriteString(s.ch, s.greeting(info, left)); err != nil {
		return failed, err
	}
	return s.attach(term)
}

func (s *session) numbered(id string) bool {
	number, ours := strings.CutPrefix(id, s.space.Shells+"-")
	_, err := strconv.Atoi(number)
	return ours && err == nil
}

func (s *session) open(id, name string, alone bool) (*shim.Terminal, error) {
	return s.space.Shim.OpenTerminal(s.ctx, shim.TerminalSpec{
		ID: id, Name: name, Alone: alone, Rows: s.size.rows, Cols: s.size.cols, Who: s.space.Who, Watch: s.watch != "",
		Dir: s.space.Dir, Env: slices.Concat(s.space.Env, s.env),
	})
}

// commandOnPTY runs a line of the shell on a terminal of its own, which ends
// when the client leaves.
func (s *session) commandOnPTY(line string) (int, error) {
	defer s.did(UseCommand, line)(0)
	id := s.space.Shells + "-run-" + rand.Text()[:8]
	term, err := s.space.Shim.OpenTerminal(s.ctx, shim.TerminalSpec{
		ID: id, Name: visible(line, maxName), Command: line, Rows: s.size.rows, Cols: s.size.cols, Who: s.space.Who,
		Dir: s.space.Dir, Env: slices.Concat(s.space.Env, s.env),
	})
	if err != nil {
		return failed, err
	}
	defer term.Close()
	if term.Info().Recorded {
		if _, err := io.WriteString(s.ch, recordedNote); err != nil {
			return failed, err
		}
	}
	code, err := s.attach(term)
	if _, ended := term.Exit(); !ended {
		s.endTerminal(id)
	}
	return code, err
}

func (s *session) endTerminal(id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), enterTimeout)
	defer cancel()
	if err := s.space.Shim.CloseTerminal(ctx, id); err != nil && !errors.Is(err, shim.ErrNotFound) {
		s.s.logger.Info("ending what ran on a terminal", "id", id, "err", err)
	}
}

// attach joins the client and a terminal until one of them ends.
func (s *session) attach(term *shim.Terminal) (int, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { term.Close() })()
	wg.Go(func() { s.resizes(ctx, term) })
	go func() {
		// The end of the input is not the end of the shell, and the copy ends with
		// the channel at the latest.
		if s.watch != "" {
			untilLeaves(s.ch)
			term.Close()
			return
		}
		_, _ = io.CopyBuffer(writer{term}, reader{s.ch}, make([]byte, 32<<10))
	}()
	_, err := io.CopyBuffer(writer{s.ch}, reader{term}, make([]byte, 32<<10))
	if code, ended := term.Exit(); ended {
		return code, nil
	}
	if s.watch != "" && errors.Is(err, net.ErrClosed) {
		return 0, nil // they left
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return failed, fmt.Errorf("the connection to the shell broke; when its workspace is there again, so is the shell: %w", err)
}

func (s *session) resizes(ctx context.Context, term *shim.Terminal) {
	for {
		select {
		case <-ctx.Done():
			return
		case to := <-s.sizes:
			if err := term.Resize(to.rows, to.cols); err != nil {
				return // the terminal has ended
			}
		}
	}
}

// reader and writer hide other methods from io.Copy, so that what is on the way
// is one small buffer.
type (
	reader struct{ io.Reader }
	writer struct{ io.Writer }
)
