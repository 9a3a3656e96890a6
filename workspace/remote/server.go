package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/shim"
)

// Spaces are the workspaces of this node. workspace.Runner is one.
type Spaces interface {
	Ports(ctx context.Context, task chat.TaskID) ([]shim.Port, error)
	Journal(ctx context.Context, task chat.TaskID) (io.ReadCloser, error)
	Output(ctx context.Context, task chat.TaskID, message string) (io.ReadCloser, error)
	Tapes(ctx context.Context, task chat.TaskID) ([]workspace.Tape, error)
	Tape(ctx context.Context, task chat.TaskID, name string) (io.ReadCloser, error)
	Inside(ctx context.Context, task chat.TaskID) (workspace.Inside, error)
	Connect(ctx context.Context, task chat.TaskID) (net.Conn, error)
}

var _ Spaces = (*workspace.Runner)(nil)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Spaces Spaces // nil: this node has none, and says so
	// Secret hands out a project's secret, or refuses: it knows which leases
	// the calling node holds. Nil: this node has none to give.
	Secret func(ctx context.Context, caller chat.Node, p chat.ProjectID, name string) (string, error)
	// Caller says which node a request is from. Needed with Secret.
	Caller func(*http.Request) (chat.Node, error)
	Logger *slog.Logger // nil: silent
}

// Server answers what other nodes' Clients ask.
type Server struct {
	c    ServerConfig
	mux  *http.ServeMux
	done context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	open   sync.WaitGroup // tunnels
}

// NewServer returns a handler for everything below Prefix. Close it.
func NewServer(c ServerConfig) *Server {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	s := &Server{c: c, mux: http.NewServeMux()}
	s.done, s.stop = context.WithCancel(context.Background())
	s.handle("GET", "tasks/{task}/ports", s.ports)
	s.handle("GET", "tasks/{task}/journal", s.journal)
	s.handle("GET", "tasks/{task}/outputs/{id}", s.output)
	s.handle("GET", "tasks/{task}/tapes", s.tapes)
	s.handle("GET", "tasks/{task}/tapes/{id}", s.tape)
	s.handle("GET", "tasks/{task}/inside", s.inside)
	s.handle("GET", "tasks/{task}/shim", s.shim)
	s.handle("GET", "projects/{project}/secrets/{id}", s.secret)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close ends every tunnel, which the http.Server does not know any more,
// and waits for that. New ones are refused.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.open.Wait()
	return nil
}

var (
	errNoSpaces  = fmt.Errorf("%w: this node has no workspaces", chat.ErrNotFound)
	errNoSecrets = fmt.Errorf("%w: this node gives no secrets", chat.ErrRefused)
	errClosing   = fmt.Errorf("this node is stopping: %w", workspace.ErrAway)
)

// handle turns what a handler returns into an answer.
func (s *Server) handle(method, path string, do func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(method+" "+Prefix+path, func(w http.ResponseWriter, r *http.Request) {
		err := do(w, r)
		if err == nil {
			return
		}
		if errors.Is(err, errBegun) {
			s.c.Logger.Info("an answer to another node was cut", "path", r.URL.Path, "err", err)
			panic(http.ErrAbortHandler) // the other side sees that the end is missing
		}
		status, no := explain(err)
		if status == http.StatusInternalServerError {
			s.c.Logger.Warn("answering another node", "path", r.URL.Path, "err", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(no) // whoever asked may be gone
	})
}

// errBegun marks an answer that is cut in its middle.
var errBegun = errors.New("the answer had begun")

// about reads which task a request is about.
func (s *Server) about(r *http.Request) (chat.TaskID, error) {
	if s.c.Spaces == nil {
		return "", errNoSpaces
	}
	id, err := part(r, "task")
	return chat.TaskID(id), err
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return fmt.Errorf("%w: %w", errBegun, err)
	}
	return nil
}

func (s *Server) ports(w http.ResponseWriter, r *http.Request) error {
	task, err := s.about(r)
	if err != nil {
		return err
	}
	list, err := s.c.Spaces.Ports(r.Context(), task)
	if err != nil {
		return err
	}
	return answer(w, list)
}

func (s *Server) journal(w http.ResponseWriter, r *http.Request) error {
	task, err := s.about(r)
	if err != nil {
		return err
	}
	from, err := s.c.Spaces.Journal(r.Context(), task)
	if err != nil {
		return err
	}
	return stream(w, from)
}

func (s *Server) output(w http.ResponseWriter, r *http.Request) error {
	task, err := s.about(r)
	if err != nil {
		return err
	}
	id, err := part(r, "id")
	if err != nil {
		return err
	}
	from, err := s.c.Spaces.Output(r.Context(), task, id)
	if err != nil {
		return err
	}
	return stream(w, from)
}

func (s *Server) tapes(w http.ResponseWriter, r *http.Request) error {
	task, err := s.about(r)
	if err != nil {
		return err
	}
	list, err := s.c.Spaces.Tapes(r.Context(), task)
	if err != nil {
		return err
	}
	return answer(w, list)
}

func (s *Server) tape(w http.ResponseWriter, r *http.Request) error {
	task, err := s.about(r)
	if err != nil {
		return err
	}
	id, err := part(r, "id")
	if err != nil {
		return err
	}
	from, err := s.c.Spaces.Tape(r.Context(), task, id)
	if err != nil {
		return err
	}
	return stream(w, from)
}

// writeWithin is how long a reader may take for one piece of a stream.
const writeWithin = 30 * time.Second

// stream copies in small pieces; the reader's pace is the source's.
func stream(w http.ResponseWriter, from io.ReadCloser) error {
	defer from.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	ctl, buf := http.NewResponseController(w), make([]byte, frame)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if err := ctl.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return fmt.Errorf("%w: %w", errBegun, err)
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("%w: %w", errBegun, err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errBegun, err)
		}
	}
}

func (s *Server) secret(w http.ResponseWriter, r *http.Request) error {
	if s.c.Secret == nil || s.c.Caller == nil {
		return errNoSecrets
	}
	caller, err := s.c.Caller(r)
	if err != nil {
		return fmt.Errorf("%w: %w", chat.ErrRefused, err)
	}
	project, err := part(r, "project")
	if err != nil {
		return err
	}
	name, err := part(r, "id")
	if err != nil {
		return err
	}
	value, err := s.c.Secret(r.Context(), caller, chat.ProjectID(project), name)
	if err != nil {
		return err
	}
	return answer(w, secret{value})
}

// begin counts a tunnel, unless the server is closing.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open.Add(1)
	return true
}
