package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/samnode/samnode/chat"
)

// task is a task as the API shows it: the state, with the figures that scripts
// ask for first.
type task struct {
	chat.Task
	Node    chat.Node `json:"node"`          // "" when no workspace is alive
	Cost    float64   `json:"cost"`          // US dollars spent on models
	Machine float64   `json:"machine_cost"`  // euros, net, of bought machines
	Why     string    `json:"why,omitempty"` // why it waits, while it is queued
}

func (s *server) show(t chat.Task) task {
	v := task{Task: t, Cost: float64(t.Usage.Cost) / 1e6, Machine: s.machineCost(t.ID)}
	if t.Lease != nil {
		v.Node = t.Lease.Node
	}
	if s.c.Why != nil && t.State == chat.Queued {
		v.Why = s.c.Why(t.ID)
	}
	return v
}

func (s *server) machineCost(task chat.TaskID) float64 {
	if s.c.MachineCost == nil {
		return 0
	}
	return s.c.MachineCost(task)
}

func (s *server) answerTask(w http.ResponseWriter, r *request, code int, id chat.TaskID) error {
	t, err := s.findTask(r, string(id), reads)
	if err != nil {
		return err
	}
	return answer(w, code, s.show(t))
}

func (s *server) tasks(w http.ResponseWriter, r *request) error {
	q := r.URL.Query()
	f := chat.Filter{Text: q.Get("q"), Archived: q.Get("archived") == "true"}
	if name := q.Get("project"); name != "" {
		if err := s.findProject(r, name, reads); err != nil {
			return err
		}
		f.Project = r.project.ID
	}
	for _, st := range q["state"] {
		f.States = append(f.States, chat.TaskState(st))
	}
	list := []task{}
	for _, t := range s.c.Room.Tasks(f) {
		if have, err := s.rightTo(r.who, t); err == nil && have >= reads {
			list = append(list, s.show(t))
		}
	}
	return answer(w, http.StatusOK, map[string]any{"tasks": list})
}

func (s *server) task(w http.ResponseWriter, r *request) error {
	return answer(w, http.StatusOK, s.show(r.task))
}

type taskInput struct {
	ID      string    `json:"id,omitempty"`
	Message string    `json:"message,omitempty"`
	Project string    `json:"project"`
	Text    string    `json:"text"`
	Agent   string    `json:"agent,omitempty"`
	Model   string    `json:"model,omitempty"`
	Mode    chat.Mode `json:"mode,omitempty"`
	Base    string    `json:"base,omitempty"`
	Draft   bool      `json:"draft,omitempty"`
}

func (s *server) addTask(w http.ResponseWriter, r *request) error {
	var in taskInput
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := s.findProject(r, in.Project, writes); err != nil {
		return err
	}
	if err := s.knows(in.Agent); err != nil {
		return err
	}
	if in.ID == "" {
		in.ID = s.c.NewID()
	}
	if in.Message == "" {
		// Made from the task's id, so that a retry with the same id is the same.
		in.Message = in.ID + "-1"
	}
	op := chat.Op{TaskCreate: &chat.TaskCreate{
		ID: chat.TaskID(in.ID), Project: r.project.ID, Message: in.Message, Text: in.Text,
		Agent: in.Agent, Model: in.Model, Mode: in.Mode, Base: in.Base, Draft: in.Draft,
	}}
	if _, err := s.c.Room.Do(r.Context(), r.by, "create-"+in.ID, op); err != nil {
		return err
	}
	return s.answerTask(w, r, http.StatusCreated, chat.TaskID(in.ID))
}

// act proposes an op on the task of the path and answers with the task.
func (s *server) act(w http.ResponseWriter, r *request, id string, op func(chat.Task) chat.Op) error {
	if _, err := s.c.Room.Do(r.Context(), r.by, id, op(r.task)); err != nil {
		return err
	}
	return s.answerTask(w, r, http.StatusOK, r.task.ID)
}

// knows refuses an agent that this node cannot run; "" is the project's.
func (s *server) knows(agent string) error {
	if agent == "" || s.c.Agents == nil {
		return nil
	}
	var names []string
	for _, a := range s.c.Agents() {
		if a.Name == agent {
			return nil
		}
		names = append(names, a.Name)
	}
	return fmt.Errorf("there is no agent %.60q; there are %s: %w", agent, strings.Join(names, ", "), chat.ErrInvalid)
}

func (s *server) editTask(w http.ResponseWriter, r *request) error {
	var in struct {
		Title    *string    `json:"title,omitempty"`
		Mode     *chat.Mode `json:"mode,omitempty"`
		Model    *string    `json:"model,omitempty"`
		Archived *bool      `json:"archived,omitempty"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	return s.act(w, r, "", func(t chat.Task) chat.Op {
		return chat.Op{TaskEdit: &chat.TaskEdit{Task: t.ID, Title: in.Title, Mode: in.Mode, Model: in.Model, Archived: in.Archived}}
	})
}

func (s *server) say(w http.ResponseWriter, r *request) error {
	var in struct {
		ID    string `json:"id,omitempty"`
		Text  string `json:"text"`
		Steer bool   `json:"steer,omitempty"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.ID == "" {
		in.ID = s.c.NewID()
	}
	op := chat.Op{Say: &chat.Say{Task: r.task.ID, Message: in.ID, Text: in.Text, Steer: in.Steer}}
	index, err := s.c.Room.Do(r.Context(), r.by, "say-"+in.ID, op)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, said{r.task.ID, in.ID, index})
}

// said is the answer to a message: small, for there are many.
type said struct {
	Task    chat.TaskID `json:"task"`
	Message string      `json:"message"`
	Index   uint64      `json:"index"`
}

func (s *server) editQueued(w http.ResponseWriter, r *request) error {
	var in struct {
		Text *string `json:"text"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.Text == nil {
		return fmt.Errorf("the new text is missing: %w", chat.ErrInvalid)
	}
	return s.queueEdit(w, r, in.Text)
}

func (s *server) removeQueued(w http.ResponseWriter, r *request) error {
	return s.queueEdit(w, r, nil)
}

func (s *server) queueEdit(w http.ResponseWriter, r *request, text *string) error {
	return s.act(w, r, "", func(t chat.Task) chat.Op {
		return chat.Op{QueueEdit: &chat.QueueEdit{Task: t.ID, Message: r.PathValue("message"), Text: text}}
	})
}

func (s *server) answer(w http.ResponseWriter, r *request) error {
	var in struct {
		Option string            `json:"option,omitempty"`
		Values map[string]string `json:"values,omitempty"`
		Text   string            `json:"text,omitempty"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	return s.act(w, r, "", func(t chat.Task) chat.Op {
		return chat.Op{AskAnswer: &chat.AskAnswer{Task: t.ID, Ask: r.PathValue("ask"),
			Answer: chat.Answer{Option: in.Option, Values: in.Values, Text: in.Text}}}
	})
}

func (s *server) stop(w http.ResponseWriter, r *request) error {
	var in struct {
		Force bool `json:"force,omitempty"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	return s.act(w, r, "", func(t chat.Task) chat.Op {
		return chat.Op{Stop: &chat.Stop{Task: t.ID, Force: in.Force}}
	})
}

func (s *server) retry(w http.ResponseWriter, r *request) error {
	return s.act(w, r, "", func(t chat.Task) chat.Op { return chat.Op{Retry: &chat.Retry{Task: t.ID}} })
}

func (s *server) release(w http.ResponseWriter, r *request) error {
	return s.act(w, r, "", func(t chat.Task) chat.Op { return chat.Op{Release: &chat.Release{Task: t.ID}} })
}

func (s *server) merge(w http.ResponseWriter, r *request) error {
	if s.c.Merge == nil {
		return errNotHere
	}
	var in struct {
		Method string `json:"method,omitempty"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.Method == "" {
		in.Method = "merge"
	}
	commit, err := s.c.Merge(r.Context(), r.by, r.task, in.Method)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]string{"commit": commit})
}
