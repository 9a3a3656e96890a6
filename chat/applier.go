package chat

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// applier is one command being applied. It works on copies: a refusal leaves
// no trace.
type applier struct {
	s     *State
	index uint64
	now   time.Time
	by    Author
	m     Messages

	tasks    map[TaskID]*Task // copies, stored by finish
	touched  []TaskID
	messages map[messageKey]Message // written by finish, in the order of puts
	puts     []messageKey
}

type messageKey struct {
	task TaskID
	id   string
}

// finish writes what the op changed.
func (a *applier) finish() error {
	for _, k := range a.puts {
		if err := a.m.Put(a.messages[k]); err != nil {
			return err
		}
	}
	for _, id := range a.touched {
		t := a.tasks[id]
		t.Index = a.index
		a.s.tasks.put(id, t)
	}
	return nil
}

// task returns the copy of a task that the op may change.
func (a *applier) task(id TaskID) (*Task, error) {
	if t, ok := a.tasks[id]; ok {
		return t, nil
	}
	t, ok := a.s.tasks.get(id)
	if !ok {
		return nil, refuse(CodeNotFound, "There is no task %s.", quote(string(id)))
	}
	return a.own(new(cloneTask(*t))), nil
}

// own makes a task, new or copied, part of what finish stores.
func (a *applier) own(t *Task) *Task {
	a.tasks[t.ID] = t
	a.touched = append(a.touched, t.ID)
	return t
}

// leased returns the task if its lease has that token and its state takes
// the op.
func (a *applier) leased(id TaskID, token uint64, op string) (*Task, error) {
	t, err := a.task(id)
	switch {
	case err != nil:
		return nil, err
	case t.Lease == nil:
		return nil, refuse(CodeStale, "The lease with token %d has ended.", token)
	case t.Lease.Token != token:
		return nil, refuse(CodeStale, "The lease with token %d has ended; %s has the task now.", token, t.Lease.Node)
	}
	return t, a.takes(t, op)
}

// project returns the task's project unless it was removed.
func (a *applier) project(id ProjectID) (*Project, error) {
	p, ok := a.s.projects.get(id)
	switch {
	case !ok:
		return nil, refuse(CodeNotFound, "There is no project %s.", quote(string(id)))
	case p.Removed:
		return nil, refuse(CodeRefused, "The project %s was removed.", p.Name)
	}
	return p, nil
}

// message returns a message of the task, changes of this op included.
func (a *applier) message(task TaskID, id string) (Message, bool, error) {
	if m, ok := a.messages[messageKey{task, id}]; ok {
		return m, true, nil
	}
	m, ok, err := a.m.Get(task, id)
	if err != nil || !ok {
		return Message{}, false, err
	}
	return cloneMessage(m), true, nil
}

// put writes a message; a new one gets the task's next seq.
func (a *applier) put(t *Task, m Message) {
	if m.Seq == 0 {
		t.Seq++
		m.Task, m.Seq, m.At = t.ID, t.Seq, a.now
	}
	m.Index = a.index
	k := messageKey{t.ID, m.ID}
	if _, ok := a.messages[k]; !ok {
		a.puts = append(a.puts, k)
	}
	a.messages[k] = m
}

// status says something small to the people who read along.
func (a *applier) status(t *Task, level, text string) error {
	id, err := a.freeID(t.ID, "status-"+itoa(a.index))
	if err != nil {
		return err
	}
	by := a.by
	a.put(t, Message{ID: id, Kind: KindStatus, Author: &by, Workspace: t.Workspace, Turn: t.Turns, Text: text, Level: level, Closed: true})
	return nil
}

// freeID is id, or id with a number behind it: agents choose ids too.
func (a *applier) freeID(task TaskID, id string) (string, error) {
	free := id
	for n := uint64(2); ; n++ {
		_, taken, err := a.message(task, free)
		if err != nil || !taken {
			return free, err
		}
		free = id + "-" + itoa(n)
	}
}

// move enters a state.
func (a *applier) move(t *Task, to TaskState) {
	if t.State == to {
		return
	}
	t.State, t.Since = to, a.now
	if to != Failed {
		t.Failure = nil
	}
}

// name is how a sentence calls an author.
func (a Author) name() string {
	if a.Person == "" {
		return string(a.Node)
	}
	name, _, _ := strings.Cut(string(a.Person), "@")
	if name == "" {
		return string(a.Person)
	}
	first, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(first)) + name[size:]
}

// open reports whether the turn has not ended.
func (t *Turn) open() bool { return t != nil && t.Ended.IsZero() }
