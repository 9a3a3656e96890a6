package ui

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

func newID() string { return ulid.Make().String() }

// render writes a whole page. It is buffered, so that a page that cannot be
// rendered is an error and not half a page.
func render(w http.ResponseWriter, r *http.Request, status int, page templ.Component) {
	var b bytes.Buffer
	if err := page.Render(r.Context(), &b); err != nil {
		http.Error(w, "This page could not be rendered.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser went away
}

// home is the list of all tasks.
type home struct {
	List     list
	Projects []string
	NewURL   string
}

func (s *Server) home(w http.ResponseWriter, r *http.Request) error {
	f := s.frame(r, "Tasks")
	f.Nav = "tasks"
	v := home{List: s.filtered(r, "")}
	for _, p := range s.projectsOf(callerOf(r)) {
		v.Projects = append(v.Projects, p.Name)
	}
	switch len(v.Projects) {
	case 0:
	case 1:
		v.NewURL = "/p/" + v.Projects[0]
	default:
		v.NewURL = "/projects"
	}
	render(w, r, http.StatusOK, homePage(f, v))
	return nil
}

// filtered is the list after the filter box: s: p: a: n: by: #n and free text.
func (s *Server) filtered(r *http.Request, project chat.ProjectID) list {
	q := strings.TrimSpace(r.URL.Query().Get("f"))
	filter := parseFilter(q, callerOf(r).Person)
	all, index, _ := s.briefsOf(callerOf(r))
	names := s.projectNames()
	var kept []*brief
	for _, t := range all {
		if t.archived == filter.archived && (project == "" || t.project == project) && filter.match(t, names[t.project]) {
			kept = append(kept, t)
		}
	}
	l := s.list(kept, s.Room.Task, "", s.Room.Now())
	l.Index, l.Filter, l.Project = index, visible(q), string(project)
	return l
}

type taskFilter struct {
	state, project, agent, node, by, number string
	words                                   []string
	archived                                bool
}

func parseFilter(q string, me chat.Person) taskFilter {
	var f taskFilter
	for _, word := range strings.Fields(strings.ToLower(q)) {
		key, value, _ := strings.Cut(word, ":")
		switch {
		case key == "s":
			f.state, f.archived = value, value == "archived"
		case key == "p":
			f.project = value
		case key == "a":
			f.agent = value
		case key == "n":
			f.node = value
		case key == "by" && value == "me":
			f.by = strings.ToLower(string(me))
		case key == "by":
			f.by = value
		case strings.HasPrefix(word, "#"):
			f.number = word[1:]
		default:
			f.words = append(f.words, word)
		}
	}
	return f
}

func (f taskFilter) match(t *brief, project string) bool {
	state := t.group + " " + string(t.state)
	if t.archived {
		state = "archived"
	}
	ok := contains(state, f.state) && contains(project, f.project) && contains(t.agent, f.agent) && contains(t.node, f.node) &&
		contains(t.author, f.by)
	if f.number != "" {
		ok = ok && t.pull > 0 && strconv.Itoa(t.pull) == f.number
	}
	for _, w := range f.words {
		ok = ok && contains(t.title+" "+t.branch, w)
	}
	return ok
}

func (s *Server) loadTask(r *http.Request) (chat.Task, error) {
	t, err := api.FindTask(r.Context(), s.Room, r.PathValue("task"))
	if err != nil {
		return t, fmt.Errorf("reading task: %w", err)
	}
	return t, nil
}

func (s *Server) task(w http.ResponseWriter, r *http.Request) error {
	return s.showTask(w, r, "chat", http.StatusOK, nil, nil)
}

// showTask renders a task page with a panel beside the chat. fill puts back
// what a person typed into a form that was refused.
func (s *Server) showTask(w http.ResponseWriter, r *http.Request, view string, status int, panel templ.Component, fill func(*frame, *taskView)) error {
	index := s.Room.Index() // before the task: what changes from here on comes by the stream
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	before, _ := strconv.ParseUint(r.URL.Query().Get("before"), 10, 64) // nonsense reads as the newest
	v, err := s.taskPageView(r.Context(), t, callerOf(r), view, before)
	if err != nil {
		return err
	}
	v.Index = index
	f := s.frame(r, v.Title)
	f.Nav, f.Body = "tasks", "app"
	if fill != nil {
		fill(&f, &v)
	}
	page := taskPage(f, v)
	if panel != nil {
		render(w, r.WithContext(templ.WithChildren(r.Context(), panel)), status, page)
		return nil
	}
	render(w, r, status, page)
	return nil
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	format, kind := r.URL.Query().Get("format"), "text/markdown; charset=utf-8"
	switch format {
	case "md":
	case "json":
		kind = "application/json"
	default:
		return fmt.Errorf("%w: format is md or json", chat.ErrInvalid)
	}
	var b bytes.Buffer
	if err := s.Room.Export(r.Context(), &b, t.ID, format); err != nil {
		return fmt.Errorf("exporting task: %w", err)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+string(t.ID)+"."+format+`"`)
	_, err = b.WriteTo(w)
	return err
}

// download streams a reader as text that no browser will run.
func download(w http.ResponseWriter, in io.ReadCloser, name string) error {
	defer in.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if name != "" {
		w.Header().Set("Content-Disposition", "attachment; filename="+strconv.QuoteToASCII(name))
	}
	_, err := io.Copy(w, in)
	return err
}

func (s *Server) journal(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.Journal == nil {
		return errNoPart
	}
	in, err := s.Journal(r.Context(), t.ID)
	if err != nil {
		return fmt.Errorf("reading journal: %w", err)
	}
	return download(w, in, string(t.ID)+".journal")
}

func (s *Server) output(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.Output == nil {
		return errNoPart
	}
	in, err := s.Output(r.Context(), t.ID, r.PathValue("message"))
	if err != nil {
		return fmt.Errorf("reading output: %w", err)
	}
	return download(w, in, "")
}
