package chat

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// MaxVisits is how many visits of a task are remembered, the newest.
const MaxVisits = 100

// VisitBy is a way into a workspace.
type VisitBy string

// The ways.
const (
	VisitPage    VisitBy = "page"    // a terminal in the page
	VisitShell   VisitBy = "shell"   // one by ssh
	VisitCommand VisitBy = "command" // by ssh
	VisitFiles   VisitBy = "files"   // sftp, or up- and downloads
	VisitForward VisitBy = "forward" // a forwarded port
	VisitPreview VisitBy = "preview" // a page that something in there serves
	VisitSSH     VisitBy = "ssh"     // a connection that does nothing else
)

var visitWays = []VisitBy{VisitPage, VisitShell, VisitCommand, VisitFiles, VisitForward, VisitPreview, VisitSSH}

// Visit is somebody's use of a task's workspace, as the node says that let them
// in. Times are that node's.
type Visit struct {
	ID     string    `json:"id"`
	Person Person    `json:"person"`
	Device string    `json:"device,omitempty"` // where they were, as the network says
	By     VisitBy   `json:"by"`
	What   string    `json:"what,omitempty"` // the shell, command, port or path
	Node   Node      `json:"node"`           // that let them in; the log's author
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero"`  // zero: it goes on, as far as Seen says
	Seen   time.Time `json:"seen,omitzero"`   // of one that goes on: when the node said so last
	Count  int       `json:"count,omitempty"` // how many of the kind this one stands for; 0: one
	Bytes  int64     `json:"bytes,omitempty"` // moved in both directions; 0: not known
	Lost   bool      `json:"lost,omitempty"`  // nobody saw the end: the node had stopped
}

// Visits are visits of a task that began, went on or ended at the node that
// says so, and a line in the chat about them. It needs no lease, for people
// also leave when that has ended.
type Visits struct {
	Task   TaskID  `json:"task"`
	Visits []Visit `json:"visits"` // upserts by id, of the author's own
	Line   *Line   `json:"line,omitempty"`
}

// Line is a status message that its author may write anew.
type Line struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

const maxVisitBatch = 2 * MaxVisits

func (a *applier) visits(op *Visits) error {
	t, err := a.task(op.Task)
	switch {
	case err != nil:
		return err
	case a.by.Node == "":
		return refuse(CodeInvalid, "Nodes say who visits a workspace.")
	case len(op.Visits) > maxVisitBatch:
		return refuse(CodeTooLarge, "One command has at most %d visits, this one has %d.", maxVisitBatch, len(op.Visits))
	}
	old, _ := a.s.visits.get(op.Task)
	list := slices.Clone(old)
	for _, v := range op.Visits {
		if v, err = a.visit(v); err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(o Visit) bool { return o.ID == v.ID })
		switch {
		case i < 0:
			list = append(list, v)
		case list[i].Node != v.Node:
			return refuse(CodeRefused, "The visit %s was at %s, which alone knows more of it.", quote(v.ID), list[i].Node)
		default:
			list[i] = v
		}
	}
	if op.Line != nil {
		if err := a.visitLine(t, *op.Line); err != nil {
			return err
		}
	}
	if len(op.Visits) > 0 {
		a.s.visits.put(op.Task, newest(list))
	}
	return nil
}

// visit makes one what the state holds.
func (a *applier) visit(v Visit) (Visit, error) {
	v.Person, v.Device, v.What = Person(line(string(v.Person), MaxName)), line(v.Device, MaxName), line(v.What, 200)
	v.Node, v.Began, v.Ended, v.Seen = a.by.Node, utc(v.Began), utc(v.Ended), utc(v.Seen)
	switch {
	case v.ID == "" || checkID(v.ID) != nil:
		return v, refuse(CodeInvalid, "A visit needs an id.")
	case v.Person == "":
		return v, refuse(CodeInvalid, "Say who visits.")
	case !slices.Contains(visitWays, v.By):
		return v, refuse(CodeInvalid, "%s is no way into a workspace.", quote(string(v.By)))
	case v.Began.IsZero() || !v.Ended.IsZero() && v.Ended.Before(v.Began) || v.Count < 0 || v.Bytes < 0:
		return v, refuse(CodeInvalid, "A visit begins before it ends.")
	}
	return v, nil
}

// newest are the visits that are remembered, by their begin: those that go on
// before those that are over.
func newest(list []Visit) []Visit {
	order := func(x, y Visit) int { return cmp.Or(x.Began.Compare(y.Began), strings.Compare(x.ID, y.ID)) }
	slices.SortFunc(list, order)
	for len(list) > MaxVisits {
		over := slices.IndexFunc(list, func(v Visit) bool { return !v.Ended.IsZero() })
		list = slices.Delete(list, max(over, 0), max(over, 0)+1)
	}
	return list
}

// visitLine says it in the chat, or says it anew.
func (a *applier) visitLine(t *Task, l Line) error {
	text := line(l.Text, 1000)
	if l.ID == "" || checkID(l.ID) != nil || text == "" {
		return refuse(CodeInvalid, "A line has an id and a text.")
	}
	m, known, err := a.message(t.ID, l.ID)
	switch {
	case err != nil:
		return err
	case !known:
		m = Message{ID: l.ID, Kind: KindStatus, Author: new(a.by), Workspace: t.Workspace, Turn: t.Turns, Level: "info", Closed: true}
	case m.Kind != KindStatus || m.Source != 0 || m.Author == nil || *m.Author != a.by:
		return refuse(CodeRefused, "The message %s is not this node's to change.", quote(l.ID))
	}
	m.Text = text
	a.put(t, m)
	return nil
}

// Visits are who was in the task's workspaces, the oldest first: the last
// MaxVisits.
func (r *Room) Visits(task TaskID) []Visit {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.state.visits.base[task])
}
