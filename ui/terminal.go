package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/samnode/samnode/chat"
)

type terminalView struct {
	URL, Script, Fit, Style, SSH, Problem string
	Terminals                             []TerminalInfo
	CanStart                              bool
}

// terminalName keeps ids short and plain, since they name files and sockets.
var terminalName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

const (
	terminalFrame = 32 << 10
	terminalPing  = 30 * time.Second
)

func (s *Server) taskTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	s.setPolicy(w, r, termStyles)
	v := terminalView{
		URL: "/t/" + string(t.ID) + "/terminals/", Script: s.assets.url("vendor/xterm.js"),
		Fit: s.assets.url("vendor/addon-fit.js"), Style: s.assets.url("vendor/xterm.css"),
	}
	switch {
	case !callerOf(r).may(Member):
		v.Problem = "Only members open terminals."
	case s.Terminal == nil:
		v.Problem = "This node has no terminals."
	case t.Lease == nil:
		v.Problem, v.CanStart = "No workspace is alive.", true
	case v.Script == "" || v.Fit == "" || v.Style == "":
		v.Problem = "The terminal's script is not in this build: run scripts/assets and build again."
	}
	v.SSH = s.ssh(t)
	if v.Problem == "" && s.Terminals != nil {
		if v.Terminals, err = s.Terminals(r.Context(), t.ID); err != nil {
			v.Problem = s.words(r, err)
		}
	}
	if v.Problem == "" && len(v.Terminals) == 0 {
		v.Terminals = []TerminalInfo{{ID: "t1"}} // which the page's script opens
	}
	return s.withPanel(w, r, "terminal", terminalPanel(s.frame(r, ""), v))
}

func (s *Server) closeTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.CloseTerminal == nil {
		return errNoPart
	}
	if err := s.CloseTerminal(r.Context(), t.ID, r.PathValue("id")); err != nil && !errors.Is(err, chat.ErrNotFound) {
		return fmt.Errorf("closing terminal: %w", err)
	}
	return s.did(w, r, "/t/"+string(t.ID)+"/terminal")
}

// terminalSocket joins a browser and a terminal: binary frames are bytes in
// both directions, a text frame is a new size. Another origin is refused, and
// the socket ends when the page, the program or the server does.
func (s *Server) terminalSocket(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	switch {
	case s.Terminal == nil:
		return errNoPart
	case !terminalName.MatchString(id):
		return fmt.Errorf("%w: a terminal's id has letters, digits, - and _", chat.ErrInvalid)
	case t.Lease == nil:
		return fmt.Errorf("%w: no workspace is alive", chat.ErrRefused)
	}
	conn, err := websocket.Accept(w, r, nil) // answers a refusal itself
	if err != nil {
		s.Logger.Info("terminal refused", "task", t.ID, "err", err)
		return nil
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.done, cancel)()
	rows, cols := dimension(r, "rows", 24), dimension(r, "cols", 80)
	term, err := s.Terminal(ctx, t.ID, id, rows, cols)
	if err != nil {
		s.Logger.Info("terminal not attached", "task", t.ID, "terminal", id, "err", err)
		p := explain(err)
		return ignore(conn.Close(websocket.StatusTryAgainLater, cut(p.Title+". "+p.Text, 120)))
	}
	defer term.Close()
	defer context.AfterFunc(ctx, func() { _ = term.Close() })() // wakes the reader below
	conn.SetReadLimit(1 << 20)
	go func() {
		defer cancel()
		s.terminalInput(ctx, conn, term)
	}()
	go keepAlive(ctx, cancel, conn)
	err = terminalOutput(ctx, conn, term)
	if errors.Is(err, io.EOF) {
		return ignore(conn.Close(websocket.StatusNormalClosure, "ended"))
	}
	return ignore(conn.Close(websocket.StatusGoingAway, "detached"))
}

// ignore drops the error of a last word: the browser may be gone already.
func ignore(error) error { return nil }

func cut(s string, limit int) string { return s[:min(len(s), limit)] }

func dimension(r *http.Request, name string, otherwise uint16) uint16 {
	n, err := strconv.ParseUint(r.URL.Query().Get(name), 10, 16)
	if err != nil || n == 0 || n > 1000 {
		return otherwise
	}
	return uint16(n)
}

func terminalOutput(ctx context.Context, conn *websocket.Conn, term io.Reader) error {
	buf := make([]byte, terminalFrame)
	for {
		n, err := term.Read(buf)
		if n > 0 {
			if werr := conn.Write(ctx, websocket.MessageBinary, buf[:n]); werr != nil {
				return fmt.Errorf("writing to page: %w", werr)
			}
		}
		if err != nil {
			return fmt.Errorf("reading terminal: %w", err)
		}
	}
}

func (s *Server) terminalInput(ctx context.Context, conn *websocket.Conn, term Terminal) {
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return // the page closed its end
		}
		if kind == websocket.MessageBinary {
			_, err = term.Write(data)
		} else {
			var size struct{ Rows, Cols uint16 }
			if json.Unmarshal(data, &size) != nil || size.Rows == 0 || size.Cols == 0 || size.Rows > 1000 || size.Cols > 1000 {
				continue // not a size
			}
			err = term.Resize(size.Rows, size.Cols)
		}
		if err != nil {
			s.Logger.Info("terminal input ended", "err", err)
			return
		}
	}
}

// keepAlive finds a browser that vanished without closing.
func keepAlive(ctx context.Context, cancel context.CancelFunc, conn *websocket.Conn) {
	tick := time.NewTicker(terminalPing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wait, stop := context.WithTimeout(ctx, terminalPing)
			err := conn.Ping(wait)
			stop()
			if err != nil {
				cancel()
				return
			}
		}
	}
}
