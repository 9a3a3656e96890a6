package ui

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// rolePause is how long a stream goes on until its reader's role is asked for
// again.
const rolePause = 30 * time.Second

func (r Role) rank() int { return slices.Index([]Role{"", Viewer, Member, Owner}, r) }

// caller is who a request is from, as the connection says.
type caller struct {
	Person chat.Person
	Role   Role // where the request leads
	Mesh   Role // in the whole mesh, and so in every project
	in     func(project string) Role
}

func (c caller) author() chat.Author { return chat.Author{Person: c.Person} }

func (c caller) may(role Role) bool { return c.Role.rank() >= role.rank() }

// roleIn is the caller's role in the project of that name.
func (c caller) roleIn(project string) Role {
	role := c.Mesh
	if c.in != nil {
		if r := c.in(project); r.rank() > role.rank() {
			role = r
		}
	}
	return role
}

func callerOf(r *http.Request) caller {
	c, _ := r.Context().Value(callerKey{}).(caller)
	return c
}

// who is behind a request, before it is known where that leads.
func (s *Server) who(r *http.Request) (caller, error) {
	person, role, err := s.WhoIs(r)
	if err != nil {
		s.Logger.Warn("caller is unknown", "err", err, "remote", r.RemoteAddr)
		return caller{}, errUnknown
	}
	c := caller{Person: person, Role: role, Mesh: role}
	if s.RoleIn != nil {
		c.in = s.RoleIn(r)
	}
	return c, nil
}

// about is what a page is about: its reader needs the page's role there.
type about int

const (
	theMesh  about = iota // or the project, or the task, that the path names
	anything              // a role anywhere is enough; the page looks at what it shows itself
)

// admit gives the caller the role where the request leads. What somebody may
// not even read is as if it did not exist.
func (s *Server) admit(r *http.Request, what about, need Role) (caller, error) {
	c, err := s.who(r)
	if err != nil {
		return c, err
	}
	name, err := s.subject(r)
	switch {
	case name != "":
		c.Role = c.roleIn(name)
	case c.Mesh == "" && what == anything && s.somewhere(c):
		c.Role = Viewer
	}
	switch {
	case c.may(need):
		return c, nil
	case c.Role != "":
		return c, &refusal{need}
	case !s.somewhere(c):
		return c, s.newcomer(r)
	case name == "" && err == nil:
		return c, fmt.Errorf("%w: your role is in single projects, and this is about the whole mesh", errNoRight)
	}
	return c, fmt.Errorf("%w: there is nothing of that name here, or not for you", chat.ErrNotFound)
}

// subject is the name of the project that a path is about, itself or by one of
// its tasks; empty: the path is about none, or it does not exist.
func (s *Server) subject(r *http.Request) (string, error) {
	project := r.PathValue("project")
	if id := r.PathValue("task"); id != "" {
		t, err := api.FindTask(r.Context(), s.Room, id)
		if err != nil {
			return "", fmt.Errorf("reading task: %w", err)
		}
		project = string(t.Project)
	}
	if project == "" {
		return "", nil
	}
	p, err := s.Room.Project(project)
	if err != nil {
		return "", fmt.Errorf("reading project: %w", err)
	}
	return p.Name, nil
}

// somewhere says whether the caller has a role in any project.
func (s *Server) somewhere(c caller) bool {
	return c.Mesh != "" || len(s.seen(c)) > 0
}

// seen are the projects that a caller without a role in the whole mesh may read.
func (s *Server) seen(c caller) map[chat.ProjectID]bool {
	seen := map[chat.ProjectID]bool{}
	if c.in == nil {
		return seen
	}
	for _, p := range s.Room.Projects() {
		if c.roleIn(p.Name) != "" {
			seen[p.ID] = true
		}
	}
	return seen
}

// projectsOf are the projects that are not removed and that the caller may read.
func (s *Server) projectsOf(c caller) []chat.Project {
	var list []chat.Project
	for _, p := range s.Room.Projects() {
		if !p.Removed && c.roleIn(p.Name) != "" {
			list = append(list, p)
		}
	}
	return list
}

// briefsOf are the tasks that the caller may read, as of a log index, and how
// many of them wait for a person.
func (s *Server) briefsOf(c caller) (list []*brief, index uint64, waits int) {
	all, index, waits := s.briefs()
	if c.Mesh != "" {
		return all, index, waits
	}
	seen := s.seen(c)
	waits = 0
	for _, b := range all {
		if !seen[b.project] {
			continue
		}
		list = append(list, b)
		if b.waits {
			waits++
		}
	}
	return list, index, waits
}

// still asks again whether the reader of a stream may read it, and write as
// much as before.
func (s *Server) still(r *http.Request) error {
	was := callerOf(r)
	what := theMesh
	if was.Mesh == "" {
		what = anything
	}
	now, err := s.admit(r, what, Viewer)
	if err == nil && (now.Role != was.Role || now.Mesh != was.Mesh) {
		err = errors.New("the reader's role is another one now") // the page comes again, and gets what it may see
	}
	return err
}
