package ui

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/samnode/samnode/chat"
)

type settingsView struct {
	Agents  []AgentInfo
	Secrets []secretRow
	People  []personView
	Backup  *backupView
	FormID  string
	CanSet  bool
}

type secretRow struct{ Name, By, When string }

func (s *Server) secretRows(scope chat.ProjectID) []secretRow {
	var rows []secretRow
	now := s.Room.Now()
	for _, sec := range s.Room.Secrets(scope) {
		rows = append(rows, secretRow{line(sec.Name, 80), author(&sec.Author), age(now, sec.Updated)})
	}
	return rows
}

func (s *Server) settings(w http.ResponseWriter, r *http.Request) error {
	return s.showSettings(w, r, nil, nil)
}

// showSettings renders the settings, after a refusal with its reason and what
// was typed.
func (s *Server) showSettings(w http.ResponseWriter, r *http.Request, alert *problem, fill func(*settingsView)) error {
	f := s.frame(r, "Settings")
	f.Nav, f.Alert = "settings", alert
	f.Extra = append(f.Extra, s.assets.url("nodes.css"))
	v := settingsView{Agents: s.agents(), FormID: newID(), CanSet: s.SetSecret != nil}
	if callerOf(r).may(Owner) {
		v.Secrets = s.secretRows("")
	}
	if err := s.meshSettings(r, &v); err != nil {
		return err
	}
	if fill != nil {
		fill(&v)
	}
	render(w, r, alert.status(), settingsPage(f, v))
	return nil
}

var secretName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,99}$`)

// secretSet stores or removes a secret of the mesh, or of the path's project.
// The value is never shown again, not even after a refusal.
func (s *Server) secretSet(w http.ResponseWriter, r *http.Request) error {
	var p chat.Project
	to := "/settings"
	if r.PathValue("project") != "" {
		var err error
		if p, err = s.loadProject(r); err != nil {
			return err
		}
		to = "/p/" + p.Name + "/settings"
	}
	err := s.putSecret(r, p.ID, r.PostFormValue("name"), r.PostFormValue("value"), r.PostFormValue("drop") != "")
	if err == nil {
		return s.did(w, r, to)
	}
	problem := s.problem(r, err)
	if p.ID != "" {
		return s.showProjectForm(w, r, p, false, &problem, nil)
	}
	return s.showSettings(w, r, &problem, nil)
}

func (s *Server) putSecret(r *http.Request, scope chat.ProjectID, name, value string, remove bool) error {
	switch {
	case !secretName.MatchString(name):
		return fmt.Errorf("%w: a name has capital letters, digits and _", chat.ErrInvalid)
	case remove:
		return s.do(r, chat.Op{SecretRemove: &chat.SecretRemove{Scope: scope, Name: name}}, name)
	case value == "":
		return fmt.Errorf("%w: the value is missing", chat.ErrInvalid)
	case s.SetSecret == nil:
		return errNoPart
	}
	return s.SetSecret(r.Context(), scope, name, value, callerOf(r).author())
}

// meshWords say how many machines there are.
func (s *Server) meshWords(r *http.Request) string {
	if n := len(s.around(r.Context()).Nodes); n > 1 {
		return plural(n, "node") + " share this conversation. More machines join with one line."
	}
	return "This node works alone. More machines join with one line."
}

// startView is the first run: four steps, computed from what is there.
type startView struct {
	Steps    []startStep
	Progress string
	Agents   []AgentInfo
	Projects []string
	TaskURL  string
	Nodes    bool // there is a page of nodes, which invites
}

type startStep struct {
	Key, Title, Text string
	Done             bool
}

func (s *Server) start(w http.ResponseWriter, r *http.Request) error {
	all, _, _ := s.briefs()
	v := startView{Agents: s.agents(), Nodes: s.Mesh != nil}
	ready := false
	for _, a := range v.Agents {
		ready = ready || a.Ready && a.Name != "script"
	}
	for _, p := range s.projectsOf(callerOf(r)) {
		v.Projects = append(v.Projects, p.Name)
	}
	if len(v.Projects) > 0 {
		v.TaskURL = "/p/" + v.Projects[0]
	}
	v.Steps = []startStep{
		{"agent", "Agent", "Each task runs one. Script needs no key: it runs the fenced shell blocks of a request.", ready},
		{"mesh", "Mesh", s.meshWords(r), true},
		{"repo", "Repository", "A project is a repository: any git URL, checked by a real fetch.", len(v.Projects) > 0},
		{"task", "First task", "These fill the box; you send.", len(all) > 0},
	}
	done := 0
	for _, step := range v.Steps {
		if step.Done {
			done++
		}
	}
	v.Progress = strconv.Itoa(done) + " of " + strconv.Itoa(len(v.Steps))
	render(w, r, http.StatusOK, startPage(s.frame(r, "Start"), v))
	return nil
}
