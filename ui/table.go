package ui

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// brief is what lists need of a task to choose, sort and count it. Pages share
// briefs and change none.
type brief struct {
	id                   chat.TaskID
	index                uint64 // of the task's last change
	since                time.Time
	group                string
	state                chat.TaskState
	project              chat.ProjectID
	title, branch, agent string
	node, author         string
	pull                 int // number of its pull request
	archived, waits      bool
}

func newBrief(t chat.Task) *brief {
	b := &brief{
		id: t.ID, index: t.Index, since: t.Since, group: groupOf(t), state: t.State, project: t.Project, title: t.Title, branch: t.Branch,
		agent: t.Agent, author: string(t.Author.Person), archived: t.Archived, waits: !t.Archived && (t.State == chat.NeedsYou || t.State == chat.Failed),
	}
	if t.Lease != nil {
		b.node = string(t.Lease.Node)
	}
	if t.PullRequest != nil {
		b.pull = t.PullRequest.Number
	}
	return b
}

// table is a brief of every task, brought up to date by what changed since it
// was asked the last time: a page of a list does not read thousands of tasks.
type table struct {
	mu     sync.Mutex
	index  uint64 // of the log, when the table was brought up to date
	newest uint64 // change that it holds
	briefs []*brief
	at     map[chat.TaskID]int // in briefs
	waits  int
}

// briefs are all tasks as of a log index, in no order, and how many of them
// wait for a person.
func (s *Server) briefs() (list []*brief, index uint64, waits int) {
	t := &s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	now := s.Room.Index() // before the tasks: what changes between is read again
	if now < t.index {
		t.newest, t.briefs, t.at = 0, nil, nil // the room is another one
	}
	if now == t.index && t.at != nil {
		return t.briefs, t.index, t.waits
	}
	changed, newest, err := s.Room.TasksSince(ended(), t.newest)
	switch {
	case err == nil:
		t.take(changed)
		t.newest = newest
	case !errors.Is(err, context.Canceled):
		s.Logger.Error("reading the tasks that changed", "err", err)
		return t.briefs, t.index, t.waits
	}
	t.index = now
	return t.briefs, t.index, t.waits
}

// ended is a context that waits for nothing.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// take puts tasks into a new list, since pages may read the old one.
func (t *table) take(tasks []chat.Task) {
	t.briefs = slices.Clone(t.briefs)
	if t.at == nil {
		t.at = map[chat.TaskID]int{}
	}
	for _, task := range tasks {
		b := newBrief(task)
		i, ok := t.at[b.id]
		if !ok {
			t.at[b.id] = len(t.briefs)
			t.briefs = append(t.briefs, b)
			continue
		}
		t.briefs[i] = b
	}
	t.waits = 0
	for _, b := range t.briefs {
		if b.waits {
			t.waits++
		}
	}
}

// contains matches a word of a filter; an empty one matches everything.
func contains(s, part string) bool {
	return part == "" || strings.Contains(strings.ToLower(s), part)
}
