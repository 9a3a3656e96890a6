// Package preview shows a person what listens in a task's workspace, in their
// browser.
//
// What is shown is hostile: it is made to be kept apart from other previews and
// from the node's own pages, which say who the person is by the connection
// alone. Each preview has an origin of its own, in one of two forms: a host
// name below localhost, which is a site of its own, or a port of the node,
// which is not. Where the browser does not keep them apart, which is cookies,
// embedding and blind requests, the proxy does: see View, headers.go,
// cookies.go and sender.go.
//
// Who may look is asked for each request, and again and again for those that
// last.
package preview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// The errors that Config's funcs return, beside others that are nobody's fault.
var (
	ErrNoTask      = errors.New("there is no such task")            // also for whom it is none of their business
	ErrForbidden   = errors.New("not allowed")                      // the error says why
	ErrNoWorkspace = errors.New("no workspace of it is alive")      //
	ErrAway        = errors.New("the machine does not answer")      //
	ErrClosed      = errors.New("nothing listens there")            //
	ErrOwn         = errors.New("the port is one of samnode's own") //
)

// Config is what previews need. All but Again and Logger are required.
type Config struct {
	// Admit says whether the sender of a request may look into the task, and
	// which workspace of it is alive, with a mark that changes with that.
	Admit func(r *http.Request, task string) (workspace string, err error)
	// Seen is told of each request that is let in, when it begins, and left when it
	// is over; nil: nobody wants to know.
	Seen func(r *http.Request, t Target) (left func())
	// Dial connects to a port of the task's workspace. The end of ctx after Dial
	// does not touch the connection.
	Dial func(ctx context.Context, t Target) (net.Conn, error)
	// Listening lists the ports that may be shown instead of a closed one.
	Listening func(ctx context.Context, task string) ([]int, error)
	Again     time.Duration // between two questions whether somebody may go on looking; 0: 10 s
	Logger    *slog.Logger  // nil: none
}

// View is a preview as a browser has it.
type View struct {
	Target
	Origin string // of the preview
	Pages  string // origin of the node's own pages
	// Cookies begins the names of the preview's cookies, where its host has other
	// cookies, too. Nobody else is to know it. Empty: the host is the preview's.
	Cookies string
}

// inside is the preview as its server sees it: what development servers accept
// as a host.
func (v View) inside() string { return "localhost:" + strconv.Itoa(v.Port) }

// Server shows previews.
type Server struct {
	c         Config
	logger    *slog.Logger
	transport *http.Transport
	proxy     *httputil.ReverseProxy
}

const (
	dialTimeout = 15 * time.Second
	idleTimeout = 30 * time.Second
)

// New returns a Server. Close it.
func New(c Config) *Server {
	c.Again = cmp.Or(c.Again, 10*time.Second)
	s := &Server{c: c, logger: cmp.Or(c.Logger, slog.New(slog.DiscardHandler))}
	s.transport = &http.Transport{
		DialContext: s.dial, DisableCompression: true, MaxIdleConns: 256, MaxIdleConnsPerHost: 32, IdleConnTimeout: idleTimeout,
	}
	s.proxy = &httputil.ReverseProxy{
		Rewrite: rewrite, Transport: s.transport, FlushInterval: -1, ModifyResponse: harden, ErrorHandler: s.failed,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Close lets go of the connections that are kept for later.
func (s *Server) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

type visitKey struct{}

// visit is a request and what it is for.
type visit struct {
	View
	workspace string
}

func visitOf(r *http.Request) visit {
	v, _ := r.Context().Value(visitKey{}).(visit)
	return v
}

// Serve answers a request for a preview.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, v View) {
	protect(w.Header(), v)
	if err := sender(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	workspace, err := s.c.Admit(r, v.Task)
	if err != nil {
		s.explain(w, r, v, err)
		return
	}
	if s.c.Seen != nil {
		defer s.c.Seen(r, v.Target)()
	}
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), visitKey{}, visit{v, workspace}))
	defer cancel()
	go s.askAgain(ctx, cancel, r, v.Task, workspace)
	for name := range w.Header() { // the answer gets its own
		w.Header().Del(name)
	}
	s.proxy.ServeHTTP(final{w}, r.WithContext(ctx))
}

// askAgain ends a request whose sender may not look any more, or whose
// workspace is not the task's any more.
func (s *Server) askAgain(ctx context.Context, cancel context.CancelFunc, r *http.Request, task, workspace string) {
	tick := time.NewTicker(s.c.Again)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, err := s.c.Admit(r, task); err != nil || now != workspace {
			s.logger.Info("a preview ended", "task", task, "err", err)
			cancel()
			return
		}
	}
}

// final keeps informational answers away: they carry headers that nobody has
// looked at.
type final struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (f final) WriteHeader(code int) {
	if code >= 200 || code == http.StatusSwitchingProtocols {
		f.ResponseWriter.WriteHeader(code)
	}
}

// Unwrap is for http.ResponseController.
func (f final) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// dialError marks what no connection came about for.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// address is what connections are kept by: those to one workspace are never
// used for the next.
func (v visit) address() string {
	return net.JoinHostPort(v.Task+"."+v.workspace, strconv.Itoa(v.Port))
}

func (s *Server) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, number, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("reading a preview's address: %w", err)
	}
	port, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("reading a preview's address: %w", err)
	}
	task, _, _ := strings.Cut(host, ".")
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := s.c.Dial(ctx, Target{task, port})
	if err != nil {
		return nil, &dialError{err}
	}
	return c, nil
}

// failed answers when nothing else did.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	v := visitOf(r)
	protect(w.Header(), v.View)
	if _, ok := errors.AsType[*dialError](err); !ok {
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	s.explain(w, r, v.View, err)
}
