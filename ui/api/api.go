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
	Visits(task chat.TaskID) []chat.Visit
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
	// Who says who is calling, and what that person may do; an error refuses.
	Who func(*http.Request) (Caller, error)
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
	// Ports lists what listens in a task's workspace; nil: not here.
	Ports func(ctx context.Context, task chat.TaskID) ([]Port, error)
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
	Files       Files
	FileKeeper  FileKeeper
	Shells      Shells
	// NodeAlive says whether a node answers; nil: all do.
	NodeAlive func(chat.Node) bool
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
	about   scope
	handle  func(http.ResponseWriter, *request) error
}

func (s *server) routes() []route {
	return append(s.fileRoutes(), []route{
		{"GET /api/v1/openapi.json", reads, anything, s.openapi},
		{"GET /api/v1/version", reads, anything, s.version},
		{"GET /api/v1/agents", reads, anything, s.agents},
		{"GET /api/v1/mesh", reads, theMesh, s.mesh},
		{"GET /api/v1/nodes", reads, theMesh, s.nodes},
		{"GET /api/v1/nodes/{node}", reads, theMesh, s.node},
		{"DELETE /api/v1/nodes/{node}", owns, theMesh, s.removeNode},
		{"POST /api/v1/nodes/{node}/drain", owns, theMesh, s.drain},
		{"PUT /api/v1/nodes/{node}/labels", owns, theMesh, s.label},
		{"GET /api/v1/invitations", reads, theMesh, s.invitations},
		{"POST /api/v1/invitations", owns, theMesh, s.invite},
		{"DELETE /api/v1/invitations/{id}", owns, theMesh, s.withdraw},
		{"GET /api/v1/pool", reads, theMesh, s.pool},
		{"GET /api/v1/pool/check", owns, theMesh, s.checkPool},
		{"PUT /api/v1/pool/settings", owns, theMesh, s.setPool},
		{"POST /api/v1/pool/machines", owns, theMesh, s.buyMachine},
		{"DELETE /api/v1/pool/machines/{machine}", owns, theMesh, s.deleteMachine},
		{"POST /api/v1/pool/machines/{machine}/keep", owns, theMesh, s.keepMachine},
		{"POST /api/v1/pool/resume", owns, theMesh, s.resumeBuying},
		{"GET /api/v1/people", reads, theMesh, s.people},
		{"PUT /api/v1/people/{person}", owns, theMesh, s.setRole},
		{"GET /api/v1/backup", reads, theMesh, s.backup},
		{"PUT /api/v1/backup", owns, theMesh, s.setBackup},
		{"POST /api/v1/backup", owns, theMesh, s.backUp},
		{"GET /api/v1/settings/{name}", reads, theMesh, s.setting},
		{"PUT /api/v1/settings/{name}", owns, theMesh, s.setSetting},
		{"GET /api/v1/projects", reads, anything, s.projects},
		{"POST /api/v1/projects", owns, theMesh, s.addProject},
		{"GET /api/v1/projects/{project}", reads, aProject, s.project},
		{"PATCH /api/v1/projects/{project}", owns, aProject, s.editProject},
		{"DELETE /api/v1/projects/{project}", owns, aProject, s.removeProject},
		{"GET /api/v1/secrets", owns, aSecret, s.secrets},
		{"PUT /api/v1/secrets/{name}", owns, aSecret, s.setSecret},
		{"DELETE /api/v1/secrets/{name}", owns, aSecret, s.removeSecret},
		{"GET /api/v1/tasks", reads, anything, s.tasks},
		{"POST /api/v1/tasks", writes, anything, s.addTask},
		{"GET /api/v1/tasks/{task}", reads, aTask, s.task},
		{"PATCH /api/v1/tasks/{task}", writes, aTask, s.editTask},
		{"GET /api/v1/tasks/{task}/explain", reads, aTask, s.explain},
		{"GET /api/v1/tasks/{task}/ports", reads, aTask, s.ports},
		{"GET /api/v1/tasks/{task}/items", reads, aTask, s.items},
		{"GET /api/v1/tasks/{task}/stream", reads, aTask, s.stream},
		{"GET /api/v1/tasks/{task}/export", reads, aTask, s.export},
		{"GET /api/v1/tasks/{task}/visits", reads, aTask, s.visits},
		{"GET /api/v1/tasks/{task}/shells", reads, aTask, s.shells},
		{"POST /api/v1/tasks/{task}/shells/{shell}/hold", writes, aTask, s.holdShell},
		{"GET /api/v1/tasks/{task}/recordings", writes, aTask, s.recordings},
		{"GET /api/v1/tasks/{task}/recordings/{recording}", writes, aTask, s.recording},
		{"POST /api/v1/tasks/{task}/messages", writes, aTask, s.say},
		{"PATCH /api/v1/tasks/{task}/queue/{message}", writes, aTask, s.editQueued},
		{"DELETE /api/v1/tasks/{task}/queue/{message}", writes, aTask, s.removeQueued},
		{"POST /api/v1/tasks/{task}/asks/{ask}", writes, aTask, s.answer},
		{"POST /api/v1/tasks/{task}/stop", writes, aTask, s.stop},
		{"POST /api/v1/tasks/{task}/retry", writes, aTask, s.retry},
		{"POST /api/v1/tasks/{task}/release", writes, aTask, s.release},
		{"POST /api/v1/tasks/{task}/merge", writes, aTask, s.merge},
		{"/api/", reads, anything, s.unknown},
	}...)
}

func (s *server) unknown(http.ResponseWriter, *request) error {
	return fmt.Errorf("no such path; /api/v1/openapi.json lists them: %w", chat.ErrNotFound)
}

// handler checks the caller and gives errors to the one table.
func (s *server) handler(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		whole := r.Body
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		who, err := s.c.Who(r)
		if err != nil {
			s.fail(w, r, fmt.Errorf("%w: %w", ErrForbidden, err))
			return
		}
		from := &request{Request: r, by: chat.Author{Person: who.Person}, who: who, whole: whole}
		if err = s.admit(from, rt); err == nil {
			err = rt.handle(w, from)
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
