package ui

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// chip is a state as shape, word and colour: never colour alone.
type chip struct {
	Shape string // dashed, clock, ring, turn, diamond, up, dot, cross, square, merged
	Word  string
	Tone  string // quiet, working, needs, ok, fail, merged
	Title string
	Empty bool // no workspace is alive: the shape is hollow
	Fill  int  // of ring: 0 to 4 quarters
}

func taskChip(t chat.Task) chip {
	c := chip{Empty: t.Lease == nil, Title: "since " + absolute(t.Since)}
	if t.Lease != nil {
		c.Title += ", on " + string(t.Lease.Node) + ", slot " + t.Lease.Slot + ", token " + strconv.FormatUint(t.Lease.Token, 10)
	}
	switch t.State {
	case chat.Draft:
		c.Shape, c.Word, c.Tone = "dashed", "Draft", "quiet"
	case chat.Queued:
		c.Shape, c.Word, c.Tone = "clock", "Queued", "quiet"
	case chat.Placing:
		c.Shape, c.Word, c.Tone, c.Fill = "ring", "Placing", "working", 0
	case chat.Buying:
		c.Shape, c.Word, c.Tone, c.Fill = "ring", "Buying", "working", 1
	case chat.Booting:
		c.Shape, c.Word, c.Tone, c.Fill = "ring", "Booting", "working", 2
	case chat.Preparing:
		c.Shape, c.Word, c.Tone, c.Fill = "ring", "Preparing", "working", 3
	case chat.Starting:
		c.Shape, c.Word, c.Tone, c.Fill = "ring", "Starting", "working", 4
	case chat.Working:
		c.Shape, c.Word, c.Tone = "turn", "Working", "working"
	case chat.NeedsYou:
		c.Shape, c.Word, c.Tone = "diamond", "Needs you", "needs"
	case chat.Publishing:
		c.Shape, c.Word, c.Tone = "up", "Publishing", "working"
	case chat.Failed:
		c.Shape, c.Word, c.Tone = "cross", "Failed", "fail"
		if t.Failure != nil && t.Failure.Step != "" {
			c.Word = "Failed: " + stepTitle(t.Failure.Step)
		}
	case chat.Stopped:
		c.Shape, c.Word, c.Tone = "square", "Stopped", "quiet"
	case chat.Idle:
		c.Shape, c.Word, c.Tone = "dot", "Idle", "quiet"
		switch {
		case t.Change.Merged != "" || t.PullRequest != nil && t.PullRequest.State == "merged":
			c.Shape, c.Word, c.Tone = "merged", "Merged", "merged"
		case t.PullRequest != nil && t.PullRequest.Checks == "success":
			c.Tone = "ok"
		}
	default:
		c.Shape, c.Word, c.Tone = "dot", string(t.State), "quiet"
	}
	return c
}

// pull is the pull request's label.
type pull struct {
	Label string
	Tone  string
	Title string
	URL   string
}

func pullLabel(p *chat.PullRequest) *pull {
	if p == nil || p.Number == 0 {
		return nil
	}
	l := &pull{Label: "#" + strconv.Itoa(p.Number), Tone: "ok", Title: "pull request, " + p.State, URL: safeURL(p.URL)}
	switch {
	case p.State == "merged":
		l.Tone = "merged"
	case p.State == "draft" || p.State == "closed":
		l.Tone = "quiet"
	case p.Checks == "failure" || p.Checks == "pending" || p.Review == "changes_requested":
		l.Tone = "needs"
	}
	if p.Checks != "" {
		l.Title += ", checks: " + p.Checks
	}
	return l
}

// safeURL lets a page link to the web only.
func safeURL(u string) string {
	if strings.HasPrefix(u, "https://") || strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "/") && !strings.HasPrefix(u, "//") {
		return u
	}
	return ""
}

// The groups of the task list, in order: a blocked task holds a paid slot, so
// it goes first.
var groups = []struct{ key, name string }{
	{"needs", "Needs you"}, {"review", "Ready for review"}, {"working", "Working"}, {"starting", "Starting"}, {"idle", "Idle"},
}

func groupOf(t chat.Task) string {
	switch t.State {
	case chat.NeedsYou, chat.Failed:
		return "needs"
	case chat.Working, chat.Publishing:
		return "working"
	case chat.Queued, chat.Placing, chat.Buying, chat.Booting, chat.Preparing, chat.Starting:
		return "starting"
	case chat.Idle:
		if slices.ContainsFunc(t.Asks, func(a chat.Ask) bool { return a.Answer == nil }) {
			return "needs" // the budget is used up
		}
		if p := t.PullRequest; p != nil && (p.State == "open" || p.State == "draft") && t.Change.Merged == "" {
			return "review"
		}
	}
	return "idle"
}

// list is the task list.
type list struct {
	Groups  []group
	Index   uint64
	Project string // id, when it is one project's
	Filter  string
	Total   int
}

type group struct {
	Key, Name string
	Rows      []row
	More      []row // folded
	Left      int   // too old to be on the page; the filter finds them
}

type row struct {
	ID, Title, Summary, Group, Project string
	Chip                               chip
	Pull                               *pull
	Cost                               string
	Age                                string
	At                                 time.Time
	Order                              int64 // larger is higher
	Bold, Current, Archived            bool
	HTML                               string // as it was rendered before
}

// What a page has of a group: a list of thousands costs every page that shows it.
const (
	groupShown = 100
	idleShown  = 10 // the rest is folded
)

// list groups tasks; find reads one whose row has to be rendered.
func (s *Server) list(tasks []*brief, find func(id string) (chat.Task, error), current chat.TaskID, now time.Time) list {
	names := s.projectNames()
	l := list{Total: len(tasks)}
	by := map[string][]*brief{}
	for _, t := range tasks {
		by[t.group] = append(by[t.group], t)
	}
	for _, g := range groups {
		of := by[g.key]
		slices.SortFunc(of, func(a, b *brief) int {
			return cmp.Or(cmp.Compare(b.since.UnixMilli(), a.since.UnixMilli()), cmp.Compare(b.index, a.index), strings.Compare(string(b.id), string(a.id)))
		})
		view := group{Key: g.key, Name: g.name, Left: max(0, len(of)-groupShown)}
		for _, t := range of[:min(len(of), groupShown)] {
			if r, ok := s.cached(t, names[t.project], now); ok && t.id != current {
				view.Rows = append(view.Rows, r)
			} else if whole, err := find(string(t.id)); err == nil {
				view.Rows = append(view.Rows, s.row(whole, names[t.project], now, t.id == current))
			}
		}
		if g.key == "idle" && len(view.Rows) > idleShown {
			view.Rows, view.More = view.Rows[:idleShown], view.Rows[idleShown:]
		}
		l.Groups = append(l.Groups, view)
	}
	return l
}

// rowCache has rows as they were rendered, since most of a list is the same
// from page to page.
type rowCache struct {
	mu   sync.Mutex
	rows map[chat.TaskID]cachedRow
}

type cachedRow struct {
	index              uint64
	project, age, html string
}

const rowsCached = 20_000 // about 15 MB

// cached is a task's row as it was rendered before, when nothing changed that
// shows.
func (s *Server) cached(t *brief, project string, now time.Time) (row, bool) {
	s.cache.mu.Lock()
	c, ok := s.cache.rows[t.id]
	s.cache.mu.Unlock()
	return row{HTML: c.html}, ok && c.index == t.index && c.project == project && c.age == age(now, t.since)
}

// row is a task's row with its HTML. The row of the page's own task is not like
// the others'.
func (s *Server) row(t chat.Task, project string, now time.Time, current bool) row {
	if current {
		r := taskRow(t, project, now)
		r.Current = true
		return r
	}
	r := taskRow(t, project, now)
	if t.Archived {
		r.Group = "archived" // the page takes the row away
	}
	var b strings.Builder
	if err := rowView(r).Render(context.Background(), &b); err != nil {
		return r // the page meets the error again
	}
	r.HTML = b.String()
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if s.cache.rows == nil || len(s.cache.rows) >= rowsCached {
		s.cache.rows = map[chat.TaskID]cachedRow{}
	}
	s.cache.rows[t.ID] = cachedRow{t.Index, project, r.Age, r.HTML}
	return r
}

func (s *Server) projectNames() map[chat.ProjectID]string {
	names := map[chat.ProjectID]string{}
	for _, p := range s.Room.Projects() {
		names[p.ID] = p.Name
	}
	return names
}

func taskRow(t chat.Task, project string, now time.Time) row {
	r := row{
		ID: string(t.ID), Title: taskTitle(t), Project: project, Group: groupOf(t), Chip: taskChip(t),
		Pull: pullLabel(t.PullRequest), At: t.Since, Age: age(now, t.Since), Order: t.Since.UnixMilli(), Archived: t.Archived,
	}
	r.Summary = summary(t)
	r.Bold = r.Group == "needs"
	if t.Usage.Cost >= 1_000_000 {
		r.Cost = money(t.Usage.Cost)
	}
	return r
}

func taskTitle(t chat.Task) string {
	if title := line(t.Title, chat.MaxName); title != "" {
		return title
	}
	return "Untitled task"
}

// summary is what the task says of itself in one line.
func summary(t chat.Task) string {
	switch {
	case t.State == chat.NeedsYou && len(t.Asks) > 0:
		a := t.Asks[0]
		if a.Detail != "" && a.Kind == chat.AskPermission {
			return askTitle(a) + ": " + line(a.Detail, 80)
		}
		return line(a.Title, 120)
	case t.State == chat.Failed && t.Failure != nil:
		return line(t.Failure.Reason, 160)
	case t.Stopping:
		return "Stopping…"
	}
	if groupOf(t) == "starting" {
		return startingSummary(t)
	}
	switch t.State {
	case chat.Working:
		if t.Turn != nil {
			return "Turn " + strconv.Itoa(t.Turn.Number) + changeWords(t.Change)
		}
	case chat.Publishing:
		return "Saving and pushing the branch"
	case chat.Idle:
		if p := t.PullRequest; p != nil && p.Number > 0 {
			return pullWords(p) + changeWords(t.Change)
		}
	}
	return strings.TrimPrefix(changeWords(t.Change), " · ")
}

func startingSummary(t chat.Task) string {
	for i := len(t.Steps) - 1; i >= 0; i-- {
		if step := t.Steps[i]; step.State == chat.StepRunning {
			if step.Log != "" {
				return stepTitle(step.Name) + ": " + line(step.Log, 80)
			}
			return stepTitle(step.Name) + " " + line(step.Note, 80)
		}
	}
	return "Waiting for a slot"
}

func pullWords(p *chat.PullRequest) string {
	switch {
	case p.State == "merged":
		return "Pull request merged"
	case p.State == "closed":
		return "Pull request closed"
	case p.Review == "changes_requested":
		return "Changes requested"
	case p.Checks == "failure":
		return "Checks failed"
	case p.Checks == "pending":
		return "Checks running"
	case p.State == "draft":
		return "Draft pull request"
	case p.Review == "approved":
		return "Approved"
	case p.Checks == "success":
		return "Checks pass; the pull request is ready"
	}
	return "Pull request open"
}

func changeWords(c chat.Change) string {
	if c.Files == 0 {
		return ""
	}
	return " · " + plural(c.Files, "file") + ", +" + count(int64(c.Added)) + " " + minus + count(int64(c.Removed))
}

func author(a *chat.Author) string {
	switch {
	case a == nil:
		return ""
	case a.Person != "":
		name, _, _ := strings.Cut(string(a.Person), "@")
		return line(name, 40)
	}
	return line(string(a.Node), 40)
}
