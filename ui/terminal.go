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
	URL, Ours, Sheet, Script, Fit, Style, SSH, Problem string
	Terminals                                          []TerminalInfo
	MayType, MayHold                                   bool
	Rest                                               string // what brings a workspace, where there is none
	Start, FormID                                      string // of the form that does
}

// terminalName keeps ids short and plain, since they name files and sockets.
var terminalName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$`)

const (
	terminalFrame = 32 << 10
	terminalPing  = 30 * time.Second
	lastWord      = 2 * time.Second
	maxTitle      = 60 // bytes of a terminal's name
)

// shellRoutes are the paths of shells, and of who was in them.
func (s *Server) shellRoutes(mux *http.ServeMux) {
	for path, h := range map[string]handler{
		"/t/{task}/terminal": s.taskTerminal, "/t/{task}/terminals": s.terminalList,
		"/t/{task}/terminals/{id}/ws": s.terminalSocket, "/t/{task}/access": s.taskAccess,
	} {
		mux.Handle("GET "+path, s.page(Viewer, h))
	}
	mux.Handle("GET /t/{task}/recordings/{recording}", s.page(Member, s.recording))
	for path, h := range map[string]handler{"close": s.closeTerminal, "name": s.nameTerminal, "hold": s.holdTerminal} {
		mux.Handle("POST /t/{task}/terminals/{id}/"+path, s.page(Member, h))
	}
}

// restOf is what brings a task without a workspace one.
func restOf(t chat.Task) string {
	switch t.State {
	case chat.Idle:
		return "It starts with your next message, or now, and takes a slot then."
	case chat.Draft, chat.Failed, chat.Stopped:
		return "It starts with your next message and takes a slot then."
	}
	return "It is on its way."
}

func (s *Server) taskTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	s.setPolicy(w, r, termStyles)
	v := terminalView{
		URL: "/t/" + string(t.ID) + "/terminals/", Script: s.assets.url("vendor/xterm.js"),
		Fit: s.assets.url("vendor/addon-fit.js"), Style: s.assets.url("vendor/xterm.css"), Ours: s.assets.url("terminal.js"), Sheet: s.assets.url("terminal.css"),
		MayType: callerOf(r).may(Member), MayHold: s.HoldTerminal != nil,
	}
	switch {
	case s.Terminal == nil:
		v.Problem = "This node has no terminals."
	case t.Lease == nil:
		v.Problem, v.Rest = "No workspace is alive.", restOf(t)
		if t.State == chat.Idle && v.MayType {
			v.Start, v.FormID = "/t/"+string(t.ID)+"/retry", newID()
		}
	case v.Script == "" || v.Fit == "" || v.Style == "":
		v.Problem = "The terminal's script is not in this build: run scripts/assets and build again."
	}
	v.SSH = s.ssh(t)
	if v.Problem == "" && s.Terminals != nil {
		if v.Terminals, err = s.Terminals(r.Context(), t.ID); err != nil {
			v.Problem = s.words(r, err)
		}
	}
	if v.Problem == "" && len(v.Terminals) == 0 && v.MayType {
		v.Terminals = []TerminalInfo{{ID: "t1", Name: "t1"}} // which the page's script opens
	}
	return s.withPanel(w, r, "terminal", terminalPanel(s.frame(r, ""), v))
}

// terminalList is what shells there are, for a page that looks again.
func (s *Server) terminalList(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.Terminals == nil {
		return errNoPart
	}
	list, err := s.Terminals(r.Context(), t.ID)
	if err != nil {
		return fmt.Errorf("listing terminals: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if list == nil {
		list = []TerminalInfo{}
	}
	return json.NewEncoder(w).Encode(list)
}

func (s *Server) nameTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	name := line(r.PostFormValue("name"), maxTitle)
	switch {
	case s.RenameTerminal == nil:
		return errNoPart
	case name == "":
		return fmt.Errorf("%w: a terminal's name is not empty", chat.ErrInvalid)
	}
	if err := s.RenameTerminal(r.Context(), t.ID, r.PathValue("id"), name); err != nil {
		return fmt.Errorf("renaming a terminal: %w", err)
	}
	return s.did(w, r, "/t/"+string(t.ID)+"/terminal")
}

// holdTerminal lets the caller alone type, or everybody again.
func (s *Server) holdTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.HoldTerminal == nil {
		return errNoPart
	}
	c := callerOf(r)
	who := Attach{Person: c.Person, Owner: c.may(Owner)}
	if err := s.HoldTerminal(r.Context(), t.ID, r.PathValue("id"), who, r.PostFormValue("on") != ""); err != nil {
		return fmt.Errorf("holding a terminal: %w", err)
	}
	return s.did(w, r, "/t/"+string(t.ID)+"/terminal")
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
// both directions, a text frame is a new size, and to the browser who is there.
// Another origin is refused, and the socket ends when the page, the program or
// the server does, or when the person may not be there any more. What those
// send who only watch is dropped here, and again by the shim.
func (s *Server) terminalSocket(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	c := callerOf(r)
	a := Attach{
		ID: r.PathValue("id"), Rows: dimension(r, "rows", 24), Cols: dimension(r, "cols", 80), Person: c.Person,
		Owner: c.may(Owner), Watch: !c.may(Member) || r.URL.Query().Get("watch") != "",
	}
	switch {
	case s.Terminal == nil:
		return errNoPart
	case !terminalName.MatchString(a.ID):
		return fmt.Errorf("%w: a terminal's id has letters, digits, dots, - and _", chat.ErrInvalid)
	case t.Lease == nil:
		return fmt.Errorf("%w: no workspace is alive", chat.ErrRefused)
	}
	conn, err := websocket.Accept(w, r, nil) // answers a refusal itself
	if err != nil {
		s.Logger.Info("terminal refused", "task", t.ID, "err", err)
		return nil
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.done, func() { cancel(errStopping) })()
	term, err := s.Terminal(ctx, t.ID, a)
	if err != nil {
		s.Logger.Info("terminal not attached", "task", t.ID, "terminal", a.ID, "err", err)
		p := explain(err)
		return ignore(conn.Close(websocket.StatusTryAgainLater, cut(p.Title+". "+p.Text, 120)))
	}
	defer term.Close()
	return s.joinTerminal(ctx, cancel, conn, term, r, a.Watch)
}

var (
	errStopping = errors.New("This node restarts; the shell goes on")     //nolint:staticcheck // a page shows it as it is
	errChanged  = errors.New("What you may do here has changed")          //nolint:staticcheck // as above
	errUnsure   = errors.New("This node cannot say any more who you are") //nolint:staticcheck // as above
	errSilent   = errors.New("the browser is silent")
)

// joinTerminal copies both ways until something ends.
func (s *Server) joinTerminal(ctx context.Context, cancel context.CancelCauseFunc, conn *websocket.Conn, term Terminal, r *http.Request, watch bool) error {
	defer context.AfterFunc(ctx, func() { _ = term.Close() })() // wakes the reader below
	// A socket whose reader or writer is cancelled cannot say why it ends, so that
	// has some time.
	wire, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWord, cut) })()
	conn.SetReadLimit(1 << 20)
	if err := tellTerminal(wire, conn, term); err != nil {
		return nil // the page is gone
	}
	go func() {
		defer cancel(nil)
		s.terminalInput(wire, conn, term, watch)
	}()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-term.Changes():
			}
			if tellTerminal(wire, conn, term) != nil {
				return
			}
		}
	}()
	go s.askTerminal(ctx, cancel, r)
	go keepAlive(ctx, func() { cancel(errSilent) }, conn)
	err := terminalOutput(wire, conn, term)
	if errors.Is(err, io.EOF) {
		return ignore(conn.Close(websocket.StatusNormalClosure, "ended"))
	}
	why := "The connection to the workspace broke"
	if cause := context.Cause(ctx); errors.Is(cause, errStopping) || errors.Is(cause, errChanged) || errors.Is(cause, errUnsure) {
		why = cause.Error()
	}
	return ignore(conn.Close(websocket.StatusGoingAway, why))
}

// askTerminal asks now and then whether the person may still do here what they
// could when they came. A page whose rights changed comes back with the new.
func (s *Server) askTerminal(ctx context.Context, cancel context.CancelCauseFunc, r *http.Request) {
	tick := time.NewTicker(s.askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.still(r)
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.Logger.Info("a terminal was detached", "person", callerOf(r).Person, "err", err)
		if errors.Is(err, errUnknown) {
			err = errUnsure
		} else {
			err = errChanged
		}
		cancel(err)
		return
	}
}

// tellTerminal says who is there.
func tellTerminal(ctx context.Context, conn *websocket.Conn, term Terminal) error {
	info := term.Info()
	b, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("telling a page of a terminal: %w", err)
	}
	return conn.Write(ctx, websocket.MessageText, b)
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

func (s *Server) terminalInput(ctx context.Context, conn *websocket.Conn, term Terminal, watch bool) {
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return // the page closed its end
		}
		if watch {
			continue
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
func keepAlive(ctx context.Context, cancel func(), conn *websocket.Conn) {
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
