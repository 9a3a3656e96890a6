package chat

import (
	"cmp"
	"container/list"
	"context"
	"maps"
	"slices"
	"strings"
)

// Filter selects tasks. The zero value selects all that are not archived.
type Filter struct {
	Project  ProjectID   // empty: any
	States   []TaskState // empty: any
	Archived bool        // the archived ones instead of the others
	Text     string      // in the title or branch, case ignored; empty: any
}

func (f Filter) match(t *Task) bool {
	text := strings.ToLower(f.Text)
	return (f.Project == "" || f.Project == t.Project) &&
		(len(f.States) == 0 || slices.Contains(f.States, t.State)) &&
		f.Archived == t.Archived &&
		(text == "" || strings.Contains(strings.ToLower(t.Title), text) || strings.Contains(t.Branch, text))
}

// Batch is what changed in a task since a cursor.
type Batch struct {
	Task     Task
	Messages []Message // ascending by (Index, Seq), all of one index together
	Index    uint64    // the next cursor
	More     bool      // others follow at once
}

// Projects returns the projects that were not removed, by name.
func (r *Room) Projects() []Project {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Project
	for _, p := range r.state.projects.base {
		if !p.Removed {
			out = append(out, cloneProject(*p))
		}
	}
	slices.SortFunc(out, func(a, b Project) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Project finds a project by id, or by the name of one that was not removed.
func (r *Room) Project(idOrName string) (Project, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p, ok := r.state.projects.base[ProjectID(idOrName)]; ok {
		return cloneProject(*p), nil
	}
	for _, p := range r.state.projects.base {
		if p.Name == idOrName && !p.Removed {
			return cloneProject(*p), nil
		}
	}
	return Project{}, refuse(CodeNotFound, "There is no project %s.", quote(idOrName))
}

// Tasks returns the tasks that match, the newest change first.
func (r *Room) Tasks(f Filter) []Task {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Task
	for e := r.order.Back(); e != nil; e = e.Prev() {
		if t := r.taskAtLocked(e); f.match(t) {
			out = append(out, cloneTask(*t))
		}
	}
	return out
}

func (r *Room) taskAtLocked(e *list.Element) *Task {
	return r.state.tasks.base[e.Value.(TaskID)]
}

// Task finds a task by its id, or by its branch without "samnode/", or by a
// prefix or suffix of its id of at least four characters that only one task has;
// case is ignored.
func (r *Room) Task(id string) (Task, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t, ok := r.state.tasks.base[TaskID(id)]; ok {
		return cloneTask(*t), nil
	}
	var found *Task
	if part := strings.ToUpper(id); len(part) >= 4 {
		for full, t := range r.state.tasks.base {
			name := strings.ToUpper(string(full))
			if !strings.HasPrefix(name, part) && !strings.HasSuffix(name, part) && !strings.EqualFold(t.Branch, branchPrefix+id) {
				continue
			}
			if found != nil {
				return Task{}, refuse(CodeInvalid, "More than one task matches %s; give more of its id.", quote(id))
			}
			found = t
		}
	}
	if found == nil {
		return Task{}, refuse(CodeNotFound, "There is no task %s.", quote(id))
	}
	return cloneTask(*found), nil
}

// Messages returns a page of a task's messages below the seq before (0: the
// newest), ascending. A limit of 0 is 50; the most is 1000.
func (r *Room) Messages(ctx context.Context, task TaskID, before uint64, limit int) ([]Message, error) {
	if err := r.exists(task); err != nil {
		return nil, err
	}
	return r.history.Page(ctx, task, Range{Before: before}, pageLimit(limit))
}

// Message returns one message, or an error that wraps ErrNotFound.
func (r *Room) Message(ctx context.Context, task TaskID, id string) (Message, error) {
	if err := r.exists(task); err != nil {
		return Message{}, err
	}
	return r.history.One(ctx, task, id)
}

func (r *Room) exists(task TaskID) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, ok := r.state.tasks.base[task]; !ok {
		return refuse(CodeNotFound, "There is no task %s.", quote(string(task)))
	}
	return nil
}

func pageLimit(limit int) int {
	if limit <= 0 {
		return 50
	}
	return min(limit, 1000)
}

// Since waits until the task or a message of it changed after the log index
// after, and returns what did, in the order of the log. A cursor from a node
// that is ahead waits until this one has caught up; then an unknown task is
// an ErrNotFound.
func (r *Room) Since(ctx context.Context, task TaskID, after uint64, limit int) (Batch, error) {
	var t *Task
	err := r.until(ctx, func() bool {
		t = r.state.tasks.base[task]
		return t == nil && r.index >= after || t != nil && t.Index > after
	})
	if err != nil {
		return Batch{}, err
	}
	if t == nil {
		return Batch{}, refuse(CodeNotFound, "There is no task %s.", quote(string(task)))
	}
	messages, more, err := r.history.Changed(ctx, task, after, t.Index, pageLimit(limit)) // t never changes in place
	if err != nil {
		return Batch{}, err
	}
	b := Batch{Task: cloneTask(*t), Messages: messages, Index: t.Index, More: more}
	if more && len(messages) > 0 {
		b.Index = messages[len(messages)-1].Index
	}
	return b, nil
}

// TasksSince waits until a task changed after the log index after and returns
// those that did, the oldest change first, with the next cursor.
func (r *Room) TasksSince(ctx context.Context, after uint64) ([]Task, uint64, error) {
	var out []Task
	err := r.until(ctx, func() bool {
		for e := r.order.Back(); e != nil; e = e.Prev() {
			t := r.taskAtLocked(e)
			if t.Index <= after {
				break
			}
			out = append(out, cloneTask(*t))
		}
		return len(out) > 0
	})
	if err != nil {
		return nil, after, err
	}
	slices.Reverse(out)
	return out, out[len(out)-1].Index, nil
}

// Secrets returns the sealed secrets of one scope, by name: "" is the mesh's.
func (r *Room) Secrets(scope ProjectID) []Secret {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Secret
	for sec := range maps.Values(r.state.secrets.base) {
		if sec.Scope == scope {
			out = append(out, cloneSecret(sec))
		}
	}
	slices.SortFunc(out, func(a, b Secret) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// People returns everybody whom the mesh remembers, by name.
func (r *Room) People() []Member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Member
	for _, m := range r.state.people.base {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Person, b.Person) })
	return out
}

// Known reports whether that person has called before.
func (r *Room) Known(p Person) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.state.people.base[p]
	return ok
}

// RoleOf is a person's role; RoleNone for one whom nobody gave one.
func (r *Room) RoleOf(p Person) Role {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if m, ok := r.state.people.base[p]; ok {
		return m.Role
	}
	return RoleNone
}

// Setting is the value of a setting, "" when it is not set.
func (r *Room) Setting(name string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state.settings.base[name].Value
}

// Settings returns the settings that are set, by name.
func (r *Room) Settings() []Setting {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Values(r.state.settings.base), func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) })
}
