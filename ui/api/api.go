// Package api is the JSON API of a node, under /api/v1. Its description is
// openapi.json, served at /api/v1/openapi.json and held against the handlers
// by a test.
//
// Every request that changes something may carry an id made by the caller;
// the same id again gives the same answer and changes nothing.
package api

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"unicode/utf8"

	"github.com/samnode/samnode/chat"
)

//go:embed openapi.json
var description []byte

// maxRequest bounds a request's body: a message of chat.MaxText that JSON
// escaped to six bytes a character, and its envelope.
const maxRequest = 6*chat.MaxText + 64<<10

// Room is what the API needs of the chat; chat.Room is one.
type Room interface {
	Reader
	Finder
	Do(ctx context.Context, by chat.Author, id string, op chat.Op) (uint64, error)
}

// Reader is the reading half of a Room.
type Reader interface {
	Projects() []chat.Project
	Project(idOrName string) (chat.Project, error)
	Tasks(chat.Filter) []chat.Task
	Since(ctx context.Context, task chat.TaskID, after uint64, limit int) (chat.Batch, error)
	Secrets(scope chat.ProjectID) []chat.Secret
	Export(ctx context.Context, w io.Writer, task chat.TaskID, format string) error
}

// Agent is an agent that a task may name.
type Agent struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"` // what is missing, and what to do
}

// Config of the API. Func fields may be nil where they say so; their routes
// answer 501 then.
type Config struct {
	Room Room
	// Who says who is calling; ErrForbidden (or anything else) refuses.
	// CanWrite and CanOwn say what that person may do.
	Who func(*http.Request) (who chat.Person, canWrite, canOwn bool, err error)
	// NewID draws an id for what comes without one.
	NewID func() string
	// SetSecret seals and stores a value; nil: no secrets here.
	SetSecret func(ctx context.Context, by chat.Author, p chat.ProjectID, name, value string) error
	// Merge merges a task's branch on a plain remote; nil: not here.
	Merge func(ctx context.Context, by chat.Author, t chat.Task, method string) (commit string, err error)
	// Why says why a queued task waits; may be nil.
	Why func(chat.TaskID) string
	// Explain says where a waiting task could go and why not; false: it does not
	// wait. May be nil.
	Explain func(chat.TaskID) (Explanation, bool)
	// MachineCost is a task's part of what bought machines cost until now, in
	// euros, net; may be nil.
	MachineCost func(chat.TaskID) float64
	// Agents lists the agents of this node; may be nil.
	Agents func() []Agent
	// CheckRepo refuses the URL of a repository that cannot be one, before a
	// project is made of it; may be nil.
	CheckRepo func(ctx context.Context, url string) error

	// The mesh around this node; each may be nil.
	Mesh        Mesh
	NodeKeeper  NodeKeeper
	Invitations Invitations
	People      People
	Backups     Backups
	Pool        Pool
	Settings    Settings
	// Unavailable tells an error of a mesh that cannot write from others, where
	// it does not wrap ErrNoMajority; may be nil.
	Unavailable func(error) bool

	Node    string
	Version string
	Logger  *slog.Logger
}

// ErrForbidden is the answer to a caller who may not.
var ErrForbidden = errors.New("not allowed")

var errNotHere = errors.New("this node does not offer that")

type server struct{ c Config }

// New returns the handler of everything under /api/.
func New(c Config) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{c}
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.Handle(rt.pattern, s.handler(rt))
	}
	return mux
}

// route is one line of the API.
type route struct {
	pattern string
	need    right
	handle  func(http.ResponseWriter, *request) error
}

func (s *server) routes() []route {
	return []route{
		{"GET /api/v1/openapi.json", reads, s.openapi},
		{"GET /api/v1/version", reads, s.version},
		{"GET /api/v1/agents", reads, s.agents},
		{"GET /api/v1/mesh", reads, s.mesh},
		{"GET /api/v1/nodes", reads, s.nodes},
		{"GET /api/v1/nodes/{node}", reads, s.node},
		{"DELETE /api/v1/nodes/{node}", owns, s.removeNode},
		{"POST /api/v1/nodes/{node}/drain", owns, s.drain},
		{"GET /api/v1/invitations", reads, s.invitations},
		{"POST /api/v1/invitations", owns, s.invite},
		{"DELETE /api/v1/invitations/{id}", owns, s.withdraw},
		{"GET /api/v1/pool", reads, s.pool},
		{"GET /api/v1/pool/check", owns, s.checkPool},
		{"PUT /api/v1/pool/settings", owns, s.setPool},
		{"POST /api/v1/pool/machines", owns, s.buyMachine},
		{"DELETE /api/v1/pool/machines/{machine}", owns, s.deleteMachine},
		{"POST /api/v1/pool/machines/{machine}/keep", owns, s.keepMachine},
		{"POST /api/v1/pool/resume", owns, s.resumeBuying},
		{"GET /api/v1/people", reads, s.people},
		{"PUT /api/v1/people/{person}", owns, s.setRole},
		{"GET /api/v1/backup", reads, s.backup},
		{"PUT /api/v1/backup", owns, s.setBackup},
		{"POST /api/v1/backup", owns, s.backUp},
		{"GET /api/v1/settings/{name}", reads, s.setting},
		{"PUT /api/v1/settings/{name}", owns, s.setSetting},
		{"GET /api/v1/projects", reads, s.projects},
		{"POST /api/v1/projects", owns, s.addProject},
		{"GET /api/v1/projects/{project}", reads, s.project},
		{"PATCH /api/v1/projects/{project}", owns, s.editProject},
		{"DELETE /api/v1/projects/{project}", owns, s.removeProject},
		{"GET /api/v1/secrets", owns, s.secrets},
		{"PUT /api/v1/secrets/{name}", owns, s.setSecret},
		{"DELETE /api/v1/secrets/{name}", owns, s.removeSecret},
		{"GET /api/v1/tasks", reads, s.tasks},
		{"POST /api/v1/tasks", writes, s.addTask},
		{"GET /api/v1/tasks/{task}", reads, s.task},
		{"PATCH /api/v1/tasks/{task}", writes, s.editTask},
		{"GET /api/v1/tasks/{task}/explain", reads, s.explain},
		{"GET /api/v1/tasks/{task}/items", reads, s.items},
		{"GET /api/v1/tasks/{task}/stream", reads, s.stream},
		{"GET /api/v1/tasks/{task}/export", reads, s.export},
		{"POST /api/v1/tasks/{task}/messages", writes, s.say},
		{"PATCH /api/v1/tasks/{task}/queue/{message}", writes, s.editQueued},
		{"DELETE /api/v1/tasks/{task}/queue/{message}", writes, s.removeQueued},
		{"POST /api/v1/tasks/{task}/asks/{ask}", writes, s.answer},
		{"POST /api/v1/tasks/{task}/stop", writes, s.stop},
		{"POST /api/v1/tasks/{task}/retry", writes, s.retry},
		{"POST /api/v1/tasks/{task}/release", writes, s.release},
		{"POST /api/v1/tasks/{task}/merge", writes, s.merge},
		{"/api/", reads, s.unknown},
	}
}

func (s *server) unknown(http.ResponseWriter, *request) error {
	return fmt.Errorf("no such path; /api/v1/openapi.json lists them: %w", chat.ErrNotFound)
}

// right is what a route asks of its caller.
type right int

const (
	reads right = iota
	writes
	owns
)

// request is an HTTP request whose sender is known.
type request struct {
	*http.Request
	by chat.Author
}

// handler checks the caller and gives errors to the one table.
func (s *server) handler(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, canWrite, canOwn, err := s.c.Who(r)
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", ErrForbidden, err)
		case rt.need == writes && !canWrite:
			err = fmt.Errorf("viewers only read: %w", ErrForbidden)
		case rt.need == owns && !canOwn:
			err = fmt.Errorf("only owners may do this: %w", ErrForbidden)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			err = rt.handle(w, &request{r, chat.Author{Person: who}})
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

func (s *server) cannotWrite(err error) bool {
	return errors.Is(err, ErrNoMajority) || s.c.Unavailable != nil && s.c.Unavailable(err)
}

// status is the one table from errors to HTTP.
func (s *server) status(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case s.cannotWrite(err):
		return http.StatusServiceUnavailable
	case errors.As(err, &tooLarge), errors.Is(err, chat.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, chat.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, chat.ErrRefused), errors.Is(err, chat.ErrStale):
		return http.StatusConflict
	case errors.Is(err, chat.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, errNotHere):
		return http.StatusNotImplemented
	case errors.Is(err, chat.ErrFull):
		return http.StatusInsufficientStorage
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := s.status(err)
	text := err.Error()
	if code == http.StatusInternalServerError {
		s.c.Logger.Error("api", "method", r.Method, "path", r.URL.Path, "err", err)
		text = "internal error; the node's log has it"
	}
	if code == http.StatusInsufficientStorage {
		text = chat.ErrFull.Error()
	}
	if s.cannotWrite(err) {
		text = s.readOnly(r.Context())
		w.Header().Set("Retry-After", "2")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The client is told as well as can be; if it is gone nobody reads this.
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text})
}

func (s *server) openapi(w http.ResponseWriter, _ *request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(description)
	return err
}

// version is also how a page of another node finds out that this one lives, and
// how far its log is.
func (s *server) version(w http.ResponseWriter, r *request) error {
	s.allowMesh(w, r.Request)
	return answer(w, http.StatusOK, map[string]any{"node": s.c.Node, "version": s.c.Version, "index": s.c.Room.Index()})
}

func (s *server) agents(w http.ResponseWriter, _ *request) error {
	agents := []Agent{}
	if s.c.Agents != nil {
		agents = s.c.Agents()
	}
	return answer(w, http.StatusOK, map[string]any{"agents": agents})
}

func answer(w http.ResponseWriter, code int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, err = w.Write(append(data, '\n'))
	return err
}

// decode reads a JSON body strictly; an empty one leaves v as it is.
func decode(r *request, v any) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if len(data) == 0 {
		return nil
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("the request is not UTF-8: %w", chat.ErrInvalid)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("reading the JSON of the request: %w: %w", err, chat.ErrInvalid)
	}
	return nil
}
