package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/samnode/samnode/chat"
)

// Caller is who calls and what that person may do: as "owner", "member",
// "viewer", or with an empty role nothing.
type Caller struct {
	Person chat.Person
	Role   string // in the whole mesh, and so in every project
	// In is the role in the project of that name, where it is stronger than Role;
	// nil: nowhere.
	In func(project string) string
}

// right is what a route asks of its caller, and what a caller has.
type right int

const (
	nothing right = iota
	reads
	writes
	owns
)

func rightOf(role string) right {
	return map[string]right{"viewer": reads, "member": writes, "owner": owns}[role]
}

// in is the caller's right in a project.
func (c Caller) in(project string) right {
	have := rightOf(c.Role)
	if c.In != nil {
		have = max(have, rightOf(c.In(project)))
	}
	return have
}

// scope is what a route is about: the caller needs its right there.
type scope int

const (
	theMesh  scope = iota
	anything       // a role anywhere is enough; the route looks at what it shows itself
	aProject       // the one of the path
	aTask          // the one of the path, in its project
	aSecret        // of the project that the query names, or of the mesh
)

// request is an HTTP request whose sender is known, and may send it.
type request struct {
	*http.Request
	by    chat.Author
	who   Caller
	whole io.ReadCloser // the body without a limit, for what bounds it itself

	task    chat.Task    // of a route about aTask
	project chat.Project // of a route about aProject, or aSecret of one
}

// admit checks that the caller may use the route, and finds what it is about.
// What a caller may not even read is as if it did not exist.
func (s *server) admit(r *request, rt route) error {
	if err := short(s.strongest(r.who), rt.need); err != nil {
		return err
	}
	switch rt.about {
	case anything:
		return nil
	case aProject:
		return s.findProject(r, r.PathValue("project"), rt.need)
	case aTask:
		t, err := s.findTask(r, r.PathValue("task"), rt.need)
		r.task = t
		return err
	case aSecret:
		if name := r.URL.Query().Get("project"); name != "" {
			return s.findProject(r, name, rt.need)
		}
	}
	have := rightOf(r.who.Role)
	if have == nothing {
		return fmt.Errorf("your role is in single projects, and this is about the whole mesh: %w", ErrForbidden)
	}
	return short(have, rt.need)
}

// short refuses a right that is less than what is needed.
func short(have, need right) error {
	switch {
	case have >= need:
		return nil
	case have == nothing:
		return fmt.Errorf("you have no role in this mesh: %w", ErrForbidden)
	case need == owns:
		return fmt.Errorf("only owners may do this: %w", ErrForbidden)
	default:
		return fmt.Errorf("viewers only read: %w", ErrForbidden)
	}
}

// strongest is the caller's right where it is strongest.
func (s *server) strongest(c Caller) right {
	have := rightOf(c.Role)
	if c.In == nil || have == owns {
		return have
	}
	for _, p := range s.c.Room.Projects() {
		have = max(have, c.in(p.Name))
	}
	return have
}

// findProject finds a project by id or name, in which the caller has the right.
func (s *server) findProject(r *request, idOrName string, need right) error {
	p, err := s.c.Room.Project(idOrName)
	if err != nil {
		return err
	}
	have := r.who.in(p.Name)
	if have == nothing {
		return noSuch("project", idOrName)
	}
	r.project = p
	return short(have, need)
}

// findTask finds a task by its id or a part of it, in whose project the caller
// has the right.
func (s *server) findTask(r *request, id string, need right) (chat.Task, error) {
	t, err := FindTask(r.Context(), s.c.Room, id)
	if rightOf(r.who.Role) == nothing && errors.Is(err, chat.ErrInvalid) {
		return chat.Task{}, noSuch("task", id) // several match, and some of them may be nobody's business
	}
	if err != nil {
		return chat.Task{}, err
	}
	have, err := s.rightTo(r.who, t)
	switch {
	case err != nil:
		return chat.Task{}, err
	case have == nothing:
		return chat.Task{}, noSuch("task", id)
	}
	return t, short(have, need)
}

// noSuch is what the room says of what does not exist.
func noSuch(what, id string) error {
	return chat.Outcome{Code: chat.CodeNotFound, Text: fmt.Sprintf("There is no %s %.40q.", what, id)}.Err()
}

// rightTo is the caller's right in a task's project.
func (s *server) rightTo(c Caller, t chat.Task) (right, error) {
	if c.In == nil || rightOf(c.Role) == owns {
		return rightOf(c.Role), nil
	}
	p, err := s.c.Room.Project(string(t.Project))
	if err != nil {
		return nothing, err
	}
	return c.in(p.Name), nil
}

// stillReads tells whether the sender of a request that takes long may go on
// reading a task.
func (s *server) stillReads(r *request, t chat.Task) bool { return s.stillHas(r, t, reads) }

func (s *server) stillHas(r *request, t chat.Task, need right) bool {
	who, err := s.c.Who(r.Request)
	if err != nil {
		return false
	}
	have, err := s.rightTo(who, t)
	return err == nil && have >= need
}
