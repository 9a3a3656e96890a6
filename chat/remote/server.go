package remote

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/samnode/samnode/chat"
)

// ServerConfig is what a server needs.
type ServerConfig struct {
	Room *chat.Room
	// Caller says which node a request is from, as the network knows it.
	Caller func(*http.Request) (chat.Node, error)
	Logger *slog.Logger  // nil: none
	Poll   time.Duration // how long a call for changes waits; 0: 10 s, the most that clients expect
}

// NewServer returns a handler for the calls of [Room]. Mount it at the root of
// the base URL that clients are given.
func NewServer(c ServerConfig) http.Handler {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.Poll = cmp.Or(c.Poll, pollFor)
	s := &server{c}
	mux := http.NewServeMux()
	mux.Handle("POST "+pathTasks, handle(s, s.tasks))
	mux.Handle("POST "+pathTask, handle(s, s.task))
	mux.Handle("POST "+pathProject, handle(s, s.project))
	mux.Handle("POST "+pathMessage, handle(s, s.message))
	mux.Handle("POST "+pathMessages, handle(s, s.messages))
	mux.Handle("POST "+pathDo, handle(s, s.do))
	return mux
}

type server struct {
	c ServerConfig
}

// handle decodes a call, waits until this node has what its caller has seen,
// and answers.
func handle[Call interface{ index() uint64 }](s *server, f func(ctx context.Context, caller chat.Node, in Call) (answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := s.c.Caller(r)
		if err != nil {
			s.fail(w, r, http.StatusForbidden, err)
			return
		}
		var in Call
		if err := decode(w, r, &in); err != nil {
			s.fail(w, r, http.StatusBadRequest, err)
			return
		}
		var out answer
		if err = s.reach(r.Context(), in.index()); err == nil {
			out, err = f(r.Context(), caller, in)
		}
		out.At = s.c.Room.Index()
		if err != nil {
			var refused bool
			if out.Outcome, refused = refusal(err); !refused {
				s.fail(w, r, http.StatusServiceUnavailable, err)
				return
			}
		}
		data, err := json.Marshal(out)
		if err != nil {
			s.fail(w, r, http.StatusInternalServerError, fmt.Errorf("encoding the answer: %w", err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data) // an error means that nobody listens
	})
}

// fail answers that a call was not answered.
func (s *server) fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	s.c.Logger.Debug("a node's call failed", "path", r.URL.Path, "status", status, "err", err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(failure{err.Error()}) // an error means that nobody listens
}

// decode reads one JSON value, not for long and not more than a call may have.
// A field that is not known here would be lost on the way, so it is an error.
func decode(w http.ResponseWriter, r *http.Request, in any) error {
	deadline := http.NewResponseController(w).SetReadDeadline
	if err := deadline(time.Now().Add(bodyWait)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCall))
	if err == nil {
		err = deadline(time.Time{})
	}
	if err != nil {
		return fmt.Errorf("reading the call: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil {
		return fmt.Errorf("the call makes no sense here (is it of a newer samnode? upgrade the core nodes first): %w", err)
	}
	return nil
}

// reach waits until this node has applied the log up to index.
func (s *server) reach(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, catchUp, fmt.Errorf("this node is behind: it is at index %d, its caller at %d", s.c.Room.Index(), index))
	defer cancel()
	return s.c.Room.Wait(ctx, index)
}

// tell is what a node may know of a task.
func tell(caller chat.Node, t chat.Task) chat.Task {
	if t.Lease != nil && t.Lease.Node == caller {
		return t
	}
	return stub(t)
}

func (s *server) tasks(ctx context.Context, caller chat.Node, in tasksCall) (answer, error) {
	if len(in.Known) > maxKnown {
		return answer{}, refuse(chat.CodeInvalid, fmt.Sprintf("A node knows at most %d tasks.", maxKnown))
	}
	ctx, cancel := context.WithTimeout(ctx, s.c.Poll)
	defer cancel()
	known := make(map[chat.TaskID]bool, len(in.Known))
	for _, id := range in.Known {
		known[id] = true
	}
	changed, next, err := s.c.Room.LeasesSince(ctx, caller, known, in.After)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return answer{}, err
	}
	out := answer{Next: next}
	size := 0
	for _, t := range changed {
		if size > fill { // the rest comes with the next call
			out.Next = out.Tasks[len(out.Tasks)-1].Index
			break
		}
		out.Tasks = append(out.Tasks, tell(caller, t))
		for _, p := range t.Queue {
			size += len(p.Text)
		}
	}
	out.Projects = s.projects(caller)
	return out, nil
}

// projects are those of the tasks that the node has leases of. They come with
// each answer for tasks: what they allow changes while an agent runs.
func (s *server) projects(caller chat.Node) []chat.Project {
	var out []chat.Project
	for _, t := range s.c.Room.Leases(caller) {
		if slices.ContainsFunc(out, func(p chat.Project) bool { return p.ID == t.Project }) {
			continue
		}
		if p, err := s.c.Room.Project(string(t.Project)); err == nil { // a task always has one
			out = append(out, p)
		}
	}
	return out
}

// find finds a task by its whole id: a part of one is for people.
func (s *server) find(id chat.TaskID) (chat.Task, error) {
	t, err := s.c.Room.Task(string(id))
	if err != nil || t.ID != id {
		return chat.Task{}, refuse(chat.CodeNotFound, fmt.Sprintf("There is no task %.40q.", id))
	}
	return t, nil
}

func (s *server) task(_ context.Context, caller chat.Node, in taskCall) (answer, error) {
	t, err := s.find(in.Task)
	if err != nil {
		return answer{}, err
	}
	return answer{Tasks: []chat.Task{tell(caller, t)}, Projects: s.projects(caller)}, nil
}

func (s *server) project(_ context.Context, caller chat.Node, in projectCall) (answer, error) {
	all := s.projects(caller)
	i := slices.IndexFunc(all, func(p chat.Project) bool { return p.ID == in.Project })
	if i < 0 {
		return answer{}, refuse(chat.CodeStale, fmt.Sprintf("%s has no lease of a task of this project.", caller))
	}
	return answer{Projects: all[i : i+1]}, nil
}

// held refuses a node that has not the lease of the task. Token 0 is any.
func (s *server) held(caller chat.Node, task chat.TaskID, token uint64) error {
	t, err := s.find(task)
	switch {
	case err != nil:
		return err
	case t.Lease == nil || t.Lease.Node != caller:
		return refuse(chat.CodeStale, fmt.Sprintf("%s has no lease of this task (any more).", caller))
	case token != 0 && t.Lease.Token != token:
		return refuse(chat.CodeStale, fmt.Sprintf("The lease with token %d has ended.", token))
	}
	return nil
}

func (s *server) message(ctx context.Context, caller chat.Node, in messageCall) (answer, error) {
	if err := s.held(caller, in.Task, 0); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readFor)
	defer cancel()
	m, err := s.c.Room.Message(ctx, in.Task, in.ID)
	if err != nil {
		return answer{}, err
	}
	return answer{Messages: []chat.Message{m}}, nil
}

func (s *server) messages(ctx context.Context, caller chat.Node, in messagesCall) (answer, error) {
	if err := s.held(caller, in.Task, 0); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readFor)
	defer cancel()
	page, err := s.c.Room.Messages(ctx, in.Task, in.Before, in.Limit)
	return answer{Messages: newest(page)}, err
}

// newest are the last messages of a page that fit into an answer.
func newest(page []chat.Message) []chat.Message {
	size := 0
	for i, m := range slices.Backward(page) {
		if size += sizeOf(m); size > fill && i < len(page)-1 {
			return page[i+1:]
		}
	}
	return page
}

// sizeOf is roughly what a message has as JSON.
func sizeOf(m chat.Message) int {
	n := 1<<10 + len(m.Text) + len(m.Detail) + len(m.Raw)
	if m.Tool != nil {
		n += len(m.Tool.Input) + len(m.Tool.Output)
		for _, d := range m.Tool.Diffs {
			n += len(d.Old) + len(d.New)
		}
	}
	return n
}

// do takes what the holder of a lease reports, and answers with the task as it
// is then.
func (s *server) do(ctx context.Context, caller chat.Node, in doCall) (answer, error) {
	task, token, ok := report(in.Op)
	switch {
	case in.By != (chat.Author{Node: caller}):
		return answer{}, refuse(chat.CodeRefused, fmt.Sprintf("%s speaks in its own name only.", caller))
	case in.ID == "":
		return answer{}, refuse(chat.CodeInvalid, "A command that may come twice needs an id.")
	case !ok:
		return answer{}, refuse(chat.CodeRefused, "A node proposes only what the holder of a lease reports.")
	}
	outcome, done := s.c.Room.Outcome(in.ID) // then the lease may have ended since
	if !done && in.Op.Kept == nil {
		if err := s.held(caller, task, token); err != nil {
			return s.after(caller, task, 0, err)
		}
	}
	if !done {
		ctx, cancel := context.WithTimeout(ctx, doFor)
		defer cancel()
		index, err := s.c.Room.Do(ctx, in.By, in.ID, in.Op)
		return s.after(caller, task, index, err)
	}
	return s.after(caller, task, outcome.Index, outcome.Err())
}

// after is the answer to a proposal: its outcome, and the task as it is now.
func (s *server) after(caller chat.Node, task chat.TaskID, index uint64, err error) (answer, error) {
	out := answer{Outcome: chat.Outcome{Index: index}}
	if err != nil {
		refused, ok := refusal(err)
		if !ok {
			return answer{}, err
		}
		out.Outcome.Code, out.Outcome.Text = refused.Code, refused.Text
	}
	if t, err := s.find(task); err == nil {
		out.Tasks = []chat.Task{tell(caller, t)}
	}
	return out, nil
}

// report says which task and lease an op is about; false: it is not for the
// holder of a lease to propose. That a command has one op only, the chat sees
// to.
func report(op chat.Op) (task chat.TaskID, token uint64, ok bool) {
	switch {
	case op.StepSet != nil:
		task, token = op.StepSet.Task, op.StepSet.Token
	case op.Session != nil:
		task, token = op.Session.Task, op.Session.Token
	case op.TurnSet != nil:
		task, token = op.TurnSet.Task, op.TurnSet.Token
	case op.Items != nil:
		task, token = op.Items.Task, op.Items.Token
	case op.Note != nil:
		task, token = op.Note.Task, op.Note.Token
	case op.Branch != nil:
		task, token = op.Branch.Task, op.Branch.Token
	case op.End != nil:
		task, token = op.End.Task, op.End.Token
	case op.Kept != nil:
		task, token = op.Kept.Task, op.Kept.Token
	}
	return task, token, token != 0
}
