package ui

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
)

// Every form carries an id made with the page, so the same form sent twice
// changes nothing the second time. A page that went back in history may carry
// an id that was used for something else; derive keeps the two apart.

// formID is the id of the form, or a new one when there is none.
func formID(r *http.Request) string {
	id, err := ulid.ParseStrict(strings.ToUpper(r.PostFormValue("id")))
	if err != nil {
		return newID()
	}
	return id.String()
}

// derive makes an id that is a function of another and of what was asked.
func derive(id string, parts ...string) string {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return newID()
	}
	sum := sha256.Sum256([]byte(id + "\x00" + strings.Join(parts, "\x00")))
	copy(u[6:], sum[:10]) // the time stays, the rest follows the content
	return u.String()
}

// do proposes an op under an id that follows the form and its content.
func (s *Server) do(r *http.Request, op chat.Op, parts ...string) error {
	id := derive(formID(r), append([]string{r.URL.Path}, parts...)...)
	_, err := s.Room.Do(r.Context(), callerOf(r).author(), id, op)
	return err
}

// did answers an action: our script waits for the stream, a plain form is sent
// to a page.
func (s *Server) did(w http.ResponseWriter, r *http.Request, to string) error {
	s.remember(w)
	if scripted(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// back is the page that an action came from, when it is the task's.
func back(r *http.Request) string {
	to := "/t/" + r.PathValue("task")
	if _, after, ok := strings.Cut(r.Referer(), r.Host+to); ok && (strings.HasPrefix(after, "/") || after == "") {
		return to + after
	}
	return to
}

// act does one op on the task of the path. A refusal shows the task page with
// the reason on top, and what fill puts back.
func (s *Server) act(w http.ResponseWriter, r *http.Request, op func(chat.Task) (chat.Op, error), fill func(*taskView), parts ...string) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	o, err := op(t)
	if err == nil {
		err = s.do(r, o, parts...)
	}
	if err != nil {
		return s.again(w, r, err, fill)
	}
	return s.did(w, r, back(r))
}

// again shows the task page with an error and the person's input.
func (s *Server) again(w http.ResponseWriter, r *http.Request, err error, fill func(*taskView)) error {
	if scripted(r) {
		return err
	}
	p := s.problem(r, err)
	return s.showTask(w, r, "chat", p.Status, nil, func(f *frame, v *taskView) {
		f.Alert = &p
		if fill != nil {
			fill(v)
		}
	})
}

func (s *Server) say(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	text := normal(r.PostFormValue("text"))
	keep := func(v *taskView) { v.Typed = text }
	if strings.TrimSpace(text) == "" {
		return s.again(w, r, errTooSmall, nil)
	}
	id := formID(r)
	if m, err := s.Room.Message(r.Context(), t.ID, id); err == nil && m.Text != text {
		id = derive(id, text) // an old page, a new text
	} else if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return fmt.Errorf("reading message: %w", err)
	}
	op := chat.Op{Say: &chat.Say{Task: t.ID, Message: id, Text: text, Steer: r.PostFormValue("steer") != ""}}
	if _, err := s.Room.Do(r.Context(), callerOf(r).author(), id, op); err != nil {
		return s.again(w, r, fmt.Errorf("saying: %w", err), keep)
	}
	return s.did(w, r, back(r))
}

// normal is text as a form sends it, with the line ends of a text.
func normal(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

func (s *Server) queueEdit(w http.ResponseWriter, r *http.Request) error {
	text := normal(r.PostFormValue("text"))
	return s.act(w, r, func(t chat.Task) (chat.Op, error) {
		edit := &chat.QueueEdit{Task: t.ID, Message: r.PostFormValue("message"), Text: &text}
		if r.PostFormValue("drop") != "" {
			edit.Text = nil
		}
		return chat.Op{QueueEdit: edit}, nil
	}, func(v *taskView) { v.Typed = text }, r.PostFormValue("message"), text, r.PostFormValue("drop"))
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) error {
	id := r.PostFormValue("ask") // also parses the form
	fill := func(v *taskView) { v.refill(id, r) }
	return s.act(w, r, func(t chat.Task) (chat.Op, error) {
		var fields []chat.AskField
		if m, err := s.Room.Message(r.Context(), t.ID, id); err == nil && m.Ask != nil {
			fields = m.Ask.Fields // an unknown ask is refused by the state, in its words
		}
		answer, err := readAnswer(r, fields)
		return chat.Op{AskAnswer: &chat.AskAnswer{Task: t.ID, Ask: id, Answer: answer}}, err
	}, fill, id, r.PostForm.Encode())
}

// readAnswer reads the card's form; several choices are one a line.
func readAnswer(r *http.Request, fields []chat.AskField) (chat.Answer, error) {
	a := chat.Answer{Option: r.PostFormValue("option"), Text: normal(r.PostFormValue("text"))}
	for i, f := range fields {
		if values := r.PostForm["f."+strconv.Itoa(i)]; len(values) > 0 {
			if a.Values == nil {
				a.Values = map[string]string{}
			}
			a.Values[f.Name] = strings.Join(values, "\n")
		}
	}
	if budget := r.PostFormValue("budget"); budget != "" && a.Option != "stop" {
		n, err := strconv.ParseFloat(budget, 64)
		if err != nil || n < 0 || n > 1e6 {
			return a, fmt.Errorf("%w: the budget is an amount of dollars", chat.ErrInvalid)
		}
		a.Values = map[string]string{"budget": strconv.FormatInt(int64(n*1e6), 10)}
	}
	return a, nil
}

// refill puts a refused answer back into its card.
func (v *taskView) refill(id string, r *http.Request) {
	values := map[string]string{"budget": r.PostFormValue("budget")}
	for name := range r.PostForm {
		values[name] = strings.Join(r.PostForm[name], "\n")
	}
	for i := range v.Items {
		if a := v.Items[i].Ask; a != nil && a.ID == id {
			a.Values, a.Text = values, r.PostFormValue("text")
			if !a.Open {
				v.Typed = a.Text // the card has no form any more
			}
		}
	}
}

func (s *Server) stopTask(w http.ResponseWriter, r *http.Request) error {
	force := r.PostFormValue("force") != ""
	return s.act(w, r, func(t chat.Task) (chat.Op, error) {
		return chat.Op{Stop: &chat.Stop{Task: t.ID, Force: force}}, nil
	}, nil, strconv.FormatBool(force))
}

func (s *Server) retry(w http.ResponseWriter, r *http.Request) error {
	return s.act(w, r, func(t chat.Task) (chat.Op, error) {
		return chat.Op{Retry: &chat.Retry{Task: t.ID}}, nil
	}, nil)
}

func (s *Server) release(w http.ResponseWriter, r *http.Request) error {
	return s.act(w, r, func(t chat.Task) (chat.Op, error) {
		return chat.Op{Release: &chat.Release{Task: t.ID}}, nil
	}, nil)
}

func (s *Server) edit(w http.ResponseWriter, r *http.Request) error {
	return s.act(w, r, func(t chat.Task) (chat.Op, error) {
		e := &chat.TaskEdit{Task: t.ID}
		if v := r.PostFormValue("title"); v != "" {
			e.Title = &v
		}
		if v := chat.Mode(r.PostFormValue("mode")); v != "" {
			if !known(modes, string(v)) {
				return chat.Op{}, fmt.Errorf("%w: there is no mode %q", chat.ErrInvalid, v)
			}
			e.Mode = &v
		}
		if v := r.PostFormValue("archived"); v != "" {
			archived := v == "true"
			e.Archived = &archived
		}
		if e.Title == nil && e.Mode == nil && e.Archived == nil {
			return chat.Op{}, errTooSmall
		}
		return chat.Op{TaskEdit: e}, nil
	}, nil, r.PostFormValue("title"), r.PostFormValue("mode"), r.PostFormValue("archived"))
}

func known(list []choice, value string) bool {
	for _, c := range list {
		if c.Value == value {
			return true
		}
	}
	return false
}

func (s *Server) openPull(w http.ResponseWriter, r *http.Request) error {
	return s.forge(w, r, s.OpenPull != nil, func(ctx context.Context, t chat.Task, by chat.Author) error {
		return s.OpenPull(ctx, t, r.PostFormValue("draft") != "", by)
	})
}

func (s *Server) merge(w http.ResponseWriter, r *http.Request) error {
	return s.forge(w, r, s.Merge != nil, func(ctx context.Context, t chat.Task, by chat.Author) error {
		method := r.PostFormValue("method")
		if method != "squash" && method != "rebase" && method != "merge" {
			return fmt.Errorf("%w: the method is squash, rebase or merge", chat.ErrInvalid)
		}
		if t.Change.Merged != "" {
			return nil // the same form a second time
		}
		return s.Merge(ctx, t, method, by)
	})
}

func (s *Server) forge(w http.ResponseWriter, r *http.Request, has bool, do func(context.Context, chat.Task, chat.Author) error) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if !has {
		return s.again(w, r, errNoPart, nil)
	}
	if err := do(r.Context(), t, callerOf(r).author()); err != nil {
		return s.again(w, r, err, nil)
	}
	return s.did(w, r, back(r))
}
