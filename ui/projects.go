package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/samnode/samnode/chat"
)

type projectRow struct {
	Name, Repo, Tasks string
	Needs             int
}

// projectView is a project's page: its composer and its tasks.
type projectView struct {
	Name, Repo, Agent, Mode, Base, BaseHint, Text, FormID string
	FromLink                                              bool
	Agents                                                []AgentInfo
	List                                                  list
}

// projectForm is the form that makes a project or changes one.
type projectForm struct {
	New                   bool
	ID, FormID, Back      string
	Button                string
	Need                  Role
	Project               chat.Project
	Mode, Publish, Egress string
	Budget, Allow         string
	CPUs, Memory, Disk    string // at least; the last two in GB
	Labels, Location      string
	Agents                []AgentInfo
	Secrets               []secretRow
	CanSet                bool
}

func (s *Server) agents() []AgentInfo {
	if s.Agents == nil {
		return []AgentInfo{{Name: "script", Label: "Script", Ready: true, Why: "built in; runs the fenced shell blocks of the task"}}
	}
	agents := slices.Clone(s.Agents())
	for i, a := range agents {
		agents[i] = AgentInfo{visible(a.Name), visible(a.Label), a.Ready, visible(a.Why)}
	}
	return agents
}

func (s *Server) projects(w http.ResponseWriter, r *http.Request) error {
	f := s.frame(r, "Projects")
	f.Nav = "projects"
	var rows []projectRow
	all, _, _ := s.briefs()
	for _, p := range s.projectsOf(callerOf(r)) {
		row := projectRow{Name: p.Name, Repo: visible(p.Repo)}
		tasks, working := 0, 0
		for _, t := range all {
			if t.project != p.ID || t.archived {
				continue
			}
			tasks++
			switch t.group {
			case "needs":
				row.Needs++
			case "working", "starting":
				working++
			}
		}
		row.Tasks = plural(tasks, "task")
		if working > 0 {
			row.Tasks += ", " + strconv.Itoa(working) + " at work"
		}
		rows = append(rows, row)
	}
	render(w, r, http.StatusOK, projectsPage(f, rows))
	return nil
}

func (s *Server) loadProject(r *http.Request) (chat.Project, error) {
	p, err := s.Room.Project(r.PathValue("project"))
	if err != nil {
		return p, fmt.Errorf("reading project: %w", err)
	}
	return p, nil
}

func (s *Server) project(w http.ResponseWriter, r *http.Request) error {
	p, err := s.loadProject(r)
	if err != nil {
		return err
	}
	v := s.newProjectView(r, p)
	q := r.URL.Query()
	if text := q.Get("example"); known(exampleChoices(), text) {
		v.Text = text
	} else if text := q.Get("prompt"); text != "" {
		// A link fills the box. It never sends and never changes mode or budget.
		v.Text, v.FromLink = visible(text), true
	}
	if base := q.Get("base"); base != "" && v.FromLink {
		v.Base = visible(base)
	}
	if agent := q.Get("agent"); agent != "" && v.FromLink {
		v.Agent = agent
	}
	f := s.frame(r, p.Name)
	f.Nav = "projects"
	render(w, r, http.StatusOK, projectPage(f, v))
	return nil
}

func exampleChoices() []choice {
	var out []choice
	for _, text := range exampleTasks {
		out = append(out, choice{Value: text})
	}
	return out
}

func (s *Server) newProjectView(r *http.Request, p chat.Project) projectView {
	v := projectView{
		Name: p.Name, Repo: visible(p.Repo), Agent: p.Agent, Mode: string(p.Mode), BaseHint: p.Branch,
		FormID: newID(), Agents: s.agents(), List: s.filtered(r, p.ID),
	}
	if v.BaseHint == "" {
		v.BaseHint = "default"
	}
	return v
}

func (s *Server) taskCreate(w http.ResponseWriter, r *http.Request) error {
	p, err := s.loadProject(r)
	if err != nil {
		return err
	}
	text := normal(r.PostFormValue("text"))
	c := &chat.TaskCreate{
		Project: p.ID, Text: text, Agent: r.PostFormValue("agent"), Mode: chat.Mode(r.PostFormValue("mode")),
		Base: strings.TrimSpace(r.PostFormValue("base")), Draft: r.PostFormValue("draft") != "",
	}
	id := derive(formID(r), string(p.ID), text, c.Agent, string(c.Mode), c.Base)
	c.ID, c.Message = chat.TaskID(id), derive(id, "message")
	switch {
	case strings.TrimSpace(text) == "":
		err = errTooSmall
	case c.Mode != "" && !known(modes, string(c.Mode)):
		err = fmt.Errorf("%w: there is no mode %q", chat.ErrInvalid, c.Mode)
	default:
		_, err = s.Room.Do(r.Context(), callerOf(r).author(), id, chat.Op{TaskCreate: c})
	}
	if err == nil {
		return s.did(w, r, "/t/"+id)
	}
	problem := s.problem(r, err)
	v := s.newProjectView(r, p)
	v.Text, v.Agent, v.Mode, v.Base = text, c.Agent, string(c.Mode), c.Base
	f := s.frame(r, p.Name)
	f.Nav, f.Alert = "projects", &problem
	render(w, r, problem.Status, projectPage(f, v))
	return nil
}

func (s *Server) projectForm(w http.ResponseWriter, r *http.Request) error {
	agent := "script"
	for _, a := range s.agents() {
		if a.Ready && a.Name != "script" {
			agent = a.Name
			break
		}
	}
	p := chat.Project{
		ID: chat.ProjectID(newID()), Agent: agent, Mode: chat.ModeAcceptEdits, Publish: chat.PublishDraft, Egress: chat.EgressPackages,
	}
	return s.showProjectForm(w, r, p, true, nil, nil)
}

func (s *Server) projectSettings(w http.ResponseWriter, r *http.Request) error {
	p, err := s.loadProject(r)
	if err != nil {
		return err
	}
	return s.showProjectForm(w, r, p, false, nil, nil)
}

// showProjectForm renders the form, after a refusal with what was typed.
func (s *Server) showProjectForm(w http.ResponseWriter, r *http.Request, p chat.Project, isNew bool, alert *problem, fill func(*projectForm)) error {
	f := s.frame(r, "New project")
	f.Nav, f.Alert = "projects", alert
	v := projectForm{
		New: isNew, ID: string(p.ID), FormID: newID(), Back: "/projects", Button: "Add project", Need: Member, Project: p,
		Mode: string(p.Mode), Publish: string(p.Publish), Egress: string(p.Egress), Allow: strings.Join(p.Allow, "\n"), Agents: s.agents(),
	}
	v.CPUs, v.Memory, v.Disk = atLeast(int64(p.Machine.CPUs)), atLeast(p.Machine.Memory>>30), atLeast(p.Machine.Disk>>30)
	v.Labels, v.Location = strings.Join(p.Machine.Labels, " "), p.Machine.Location
	if p.Budget > 0 {
		v.Budget = strconv.FormatFloat(float64(p.Budget)/1e6, 'f', -1, 64)
	}
	if !isNew {
		f.Title = "Settings of " + p.Name
		v.Back, v.Button, v.Need, v.CanSet = "/p/"+p.Name, "Save", Owner, s.SetSecret != nil
		v.ID = newID()
		v.Secrets = s.secretRows(p.ID)
	}
	if fill != nil {
		fill(&v)
	}
	render(w, r, alert.status(), projectFormPage(f, v))
	return nil
}

// readProject takes the form's fields into a project.
func readProject(r *http.Request, p chat.Project) (chat.Project, error) {
	get := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	p.Repo, p.Branch, p.Agent, p.Name = get("repo"), get("branch"), get("agent"), get("name")
	p.Mode, p.Publish, p.Egress = chat.Mode(get("mode")), chat.Publish(get("publish")), chat.Egress(get("egress"))
	p.Allow = strings.Fields(strings.ReplaceAll(get("allow"), ",", " "))
	if p.Name == "" {
		p.Name = repoName(p.Repo)
	}
	p.SSHAgent = get("ssh_agent") != ""
	p.Record = get("record") != ""
	p.Budget = 0
	if b := get("budget"); b != "" {
		n, err := strconv.ParseFloat(b, 64)
		if err != nil || n < 0 || n > 1e6 {
			return p, fmt.Errorf("%w: the budget is an amount of dollars", chat.ErrInvalid)
		}
		p.Budget = int64(n * 1e6)
	}
	var err error
	if p.Machine, err = readNeeds(get); err != nil {
		return p, err
	}
	switch {
	case p.Repo == "":
		return p, fmt.Errorf("%w: the repository is missing", chat.ErrInvalid)
	case !known(modes, string(p.Mode)) || !known(publishes, string(p.Publish)) || !known(egresses, string(p.Egress)):
		return p, fmt.Errorf("%w: choose one of the options", chat.ErrInvalid)
	case !projectName.MatchString(p.Name):
		return p, fmt.Errorf("%w: a name has small letters, digits and -", chat.ErrInvalid)
	}
	return p, nil
}

// atLeast is a number of the form; none is empty.
func atLeast(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// readNeeds reads what a machine must have.
func readNeeds(get func(name string) string) (n chat.Needs, err error) {
	number := func(name string) int64 {
		text := get(name)
		if text == "" || err != nil {
			return 0
		}
		i, bad := strconv.ParseInt(text, 10, 32)
		if bad != nil || i < 0 {
			err = fmt.Errorf("%w: %s is no number of processors or GB", chat.ErrInvalid, strconv.Quote(text))
		}
		return i
	}
	n.CPUs, n.Memory, n.Disk = int(number("cpus")), number("memory")<<30, number("disk")<<30
	n.Labels, n.Location = strings.Fields(strings.ReplaceAll(get("labels"), ",", " ")), get("location")
	return n, err
}

var projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,99}$`)

// repoName proposes a name: the last part of the URL, in the letters allowed.
func repoName(repo string) string {
	name := strings.ToLower(strings.TrimSuffix(path.Base(strings.TrimRight(repo, "/")), ".git"))
	name = strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(name, "-"), "-")
	return name[:min(len(name), 100)]
}

func (s *Server) projectCreate(w http.ResponseWriter, r *http.Request) error {
	p, err := readProject(r, chat.Project{ID: chat.ProjectID(formID(r))})
	if old, lookup := s.Room.Project(string(p.ID)); lookup == nil && old.Name == p.Name && old.Repo == p.Repo {
		return s.did(w, r, "/p/"+url.PathEscape(p.Name)) // the same form a second time
	} else if lookup == nil {
		p.ID = chat.ProjectID(derive(string(p.ID), p.Name, p.Repo))
	}
	if err == nil && s.CheckRepo != nil {
		err = s.CheckRepo(r.Context(), p.Repo)
	}
	return s.putProject(w, r, p, true, err, "/p/"+url.PathEscape(p.Name))
}

func (s *Server) projectSave(w http.ResponseWriter, r *http.Request) error {
	old, err := s.loadProject(r)
	if err != nil {
		return err
	}
	p, err := readProject(r, old)
	if err == nil && (p.Repo != old.Repo || p.Name != old.Name) && callerOf(r).Mesh != Owner {
		// Roles are granted by a project's name, and the mesh's credentials open
		// any repository.
		err = fmt.Errorf("%w: only owners of the mesh change a project's name or repository", errNoRight)
	}
	if err == nil && p.Repo != old.Repo && s.CheckRepo != nil {
		err = s.CheckRepo(r.Context(), p.Repo)
	}
	return s.putProject(w, r, p, false, err, "/p/"+url.PathEscape(p.Name)+"/settings")
}

func (s *Server) putProject(w http.ResponseWriter, r *http.Request, p chat.Project, isNew bool, err error, to string) error {
	if err == nil {
		err = s.do(r, chat.Op{ProjectPut: &chat.ProjectPut{Project: p}}, fmt.Sprint(p))
	}
	if err == nil {
		return s.did(w, r, to)
	}
	problem := s.problem(r, err)
	return s.showProjectForm(w, r, p, isNew, &problem, func(v *projectForm) {
		v.Budget, v.Allow = r.PostFormValue("budget"), r.PostFormValue("allow")
		v.CPUs, v.Memory, v.Disk = r.PostFormValue("cpus"), r.PostFormValue("memory"), r.PostFormValue("disk")
		v.Labels, v.Location = r.PostFormValue("labels"), r.PostFormValue("location")
		if name := r.PostFormValue("name"); name != "" {
			v.Project.Name = name
		}
		if !isNew {
			v.Project.Name = r.PathValue("project") // links of the page stay right
		}
	})
}

func (s *Server) projectRemove(w http.ResponseWriter, r *http.Request) error {
	p, err := s.loadProject(r)
	if err != nil {
		return err
	}
	if r.PostFormValue("name") != p.Name {
		err = fmt.Errorf("%w: type %s to remove the project", chat.ErrInvalid, p.Name)
	} else {
		err = s.do(r, chat.Op{ProjectRemove: &chat.ProjectRemove{ID: p.ID}}, string(p.ID))
	}
	if err == nil {
		return s.did(w, r, "/projects")
	}
	problem := s.problem(r, err)
	return s.showProjectForm(w, r, p, false, &problem, nil)
}
