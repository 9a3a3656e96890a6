package api

import (
	"fmt"
	"net/http"

	"github.com/samnode/samnode/chat"
)

// projectInput is what a person may set of a project. A nil field keeps the
// default or the present value.
type projectInput struct {
	ID      string        `json:"id,omitempty"`
	Name    *string       `json:"name,omitempty"`
	Repo    *string       `json:"repo,omitempty"`
	Branch  *string       `json:"branch,omitempty"`
	Agent   *string       `json:"agent,omitempty"`
	Mode    *chat.Mode    `json:"mode,omitempty"`
	Publish *chat.Publish `json:"publish,omitempty"`
	Egress  *chat.Egress  `json:"egress,omitempty"`
	Allow   *[]string     `json:"allow,omitempty"`
	Budget  *int64        `json:"budget,omitempty"`
	Machine *chat.Needs   `json:"machine,omitempty"`

	SSHAgent *bool `json:"ssh_agent,omitempty"`
	Record   *bool `json:"record,omitempty"`
}

func (in projectInput) apply(p *chat.Project) {
	set(&p.Name, in.Name)
	set(&p.Repo, in.Repo)
	set(&p.Branch, in.Branch)
	set(&p.Agent, in.Agent)
	set(&p.Mode, in.Mode)
	set(&p.Publish, in.Publish)
	set(&p.Egress, in.Egress)
	set(&p.Allow, in.Allow)
	set(&p.Budget, in.Budget)
	set(&p.Machine, in.Machine)
	set(&p.SSHAgent, in.SSHAgent)
	set(&p.Record, in.Record)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (s *server) projects(w http.ResponseWriter, r *request) error {
	ps := []chat.Project{}
	for _, p := range s.c.Room.Projects() {
		if r.who.in(p.Name) >= reads {
			ps = append(ps, p)
		}
	}
	return answer(w, http.StatusOK, map[string]any{"projects": ps})
}

func (s *server) project(w http.ResponseWriter, r *request) error {
	return answer(w, http.StatusOK, r.project)
}

func (s *server) addProject(w http.ResponseWriter, r *request) error {
	var in projectInput
	if err := decode(r, &in); err != nil {
		return err
	}
	p := chat.Project{ID: chat.ProjectID(in.ID), Mode: chat.ModeAsk, Publish: chat.PublishReady, Egress: chat.EgressPackages, Agent: "script"}
	if p.ID == "" {
		p.ID = chat.ProjectID(s.c.NewID())
	}
	in.apply(&p)
	if p.Repo == "" {
		return fmt.Errorf("a project needs a repository: any git URL, or an absolute path: %w", chat.ErrInvalid)
	}
	if err := s.check(r, in); err != nil {
		return err
	}
	return s.putProject(w, r, p, http.StatusCreated)
}

func (s *server) editProject(w http.ResponseWriter, r *request) error {
	p := r.project
	var in projectInput
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := onlyOfMesh(r, in); err != nil {
		return err
	}
	if err := s.check(r, in); err != nil {
		return err
	}
	in.apply(&p)
	return s.putProject(w, r, p, http.StatusOK)
}

// onlyOfMesh refuses what an owner of one project could reach others by: roles
// are granted by a project's name, and the mesh's credentials open any
// repository.
func onlyOfMesh(r *request, in projectInput) error {
	moves := in.Name != nil && *in.Name != r.project.Name || in.Repo != nil && *in.Repo != r.project.Repo
	if moves && rightOf(r.who.Role) < owns {
		return fmt.Errorf("only owners of the mesh may change the name or the repository of a project: %w", ErrForbidden)
	}
	return nil
}

// check refuses what only this node can know to be wrong.
func (s *server) check(r *request, in projectInput) error {
	if in.Repo != nil && s.c.CheckRepo != nil {
		if err := s.c.CheckRepo(r.Context(), *in.Repo); err != nil {
			return fmt.Errorf("%w: %w", err, chat.ErrInvalid)
		}
	}
	if in.Agent != nil {
		return s.knows(*in.Agent)
	}
	return nil
}

func (s *server) putProject(w http.ResponseWriter, r *request, p chat.Project, code int) error {
	if _, err := s.c.Room.Do(r.Context(), r.by, "", chat.Op{ProjectPut: &chat.ProjectPut{Project: p}}); err != nil {
		return err
	}
	p, err := s.c.Room.Project(string(p.ID))
	if err != nil {
		return err
	}
	return answer(w, code, p)
}

func (s *server) removeProject(w http.ResponseWriter, r *request) error {
	if _, err := s.c.Room.Do(r.Context(), r.by, "", chat.Op{ProjectRemove: &chat.ProjectRemove{ID: r.project.ID}}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// secret is what is told of a secret: never its value.
type secret struct {
	Name    string         `json:"name"`
	Project chat.ProjectID `json:"project,omitempty"`
	Author  chat.Author    `json:"author"`
	Updated string         `json:"updated"`
}

func (s *server) secrets(w http.ResponseWriter, r *request) error {
	list := []secret{}
	for _, x := range s.c.Room.Secrets(r.project.ID) {
		list = append(list, secret{x.Name, x.Scope, x.Author, x.Updated.UTC().Format("2006-01-02T15:04:05Z")})
	}
	return answer(w, http.StatusOK, map[string]any{"secrets": list})
}

func (s *server) setSecret(w http.ResponseWriter, r *request) error {
	if s.c.SetSecret == nil {
		return errNotHere
	}
	var in struct {
		Value string `json:"value"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.Value == "" {
		return fmt.Errorf("a secret needs a value: %w", chat.ErrInvalid)
	}
	if err := s.c.SetSecret(r.Context(), r.by, r.project.ID, r.PathValue("name"), in.Value); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) removeSecret(w http.ResponseWriter, r *request) error {
	op := chat.Op{SecretRemove: &chat.SecretRemove{Scope: r.project.ID, Name: r.PathValue("name")}}
	if _, err := s.c.Room.Do(r.Context(), r.by, "", op); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
