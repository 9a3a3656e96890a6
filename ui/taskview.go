package ui

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// taskView is everything a task page shows around its panel.
type taskView struct {
	ID, URL, Title, Project string
	State                   string
	Index                   uint64
	Needs                   int
	May                     bool // the person may write
	View                    string
	Tabs                    []tab
	Ports                   []Port // that listen, as far as somebody looks already
	List                    list

	Chip                  chip
	Machine, MachineTitle string
	Branch, Base          string
	Door                  SSHAddr
	Change                chat.Change
	Pull                  *pull
	Usage                 usage

	Earlier string
	Before  []item // the request, when the stepper stands behind it
	Items   []item
	Stepper stepper

	Delivery *ask // of a turn nobody knows about
	Pinned   []ask
	Strip    *strip
	Queue    []pending

	Busy, Stopping, Archived         bool
	Activity, Rest, TurnBegan        string
	StopWord, RetryWord              string
	CanRetry, CanRelease, CanArchive bool

	Mode, Agent, Placeholder string
	FormID, SayID, Typed     string
}

type tab struct{ Key, Name, Icon, URL string }

type pending struct {
	ID, Text, Line, Who string
	Steer               bool
}

type usage struct {
	Total, Cost, Input, Output, Cached, Context, Turn string
	Machines                                          string // what bought ones cost for it
	Share                                             int    // of the context window in percent, −1: unknown
	Tone, Dash                                        string
}

type strip struct {
	Label, URL, Words, Tone, Seen, OpenWord string
	CanOpen, CanDraft, CanMerge             bool
}

const itemsPerPage = 50

// regions fills what the stream sends again when the task changes.
func (s *Server) regions(t chat.Task, may bool, activity string) taskView {
	now := s.Room.Now()
	v := taskView{
		Door: s.sshAddr(t, may),
		ID:   string(t.ID), URL: "/t/" + string(t.ID), Title: taskTitle(t), State: string(t.State),
		May: may, Chip: taskChip(t), Branch: line(t.Branch, 120), Base: line(t.Base, 80), Change: t.Change,
		Pull: pullLabel(t.PullRequest), Usage: s.usage(t), Stepper: newStepper(t, now), Strip: s.strip(t, now),
		Archived: t.Archived, Stopping: t.Stopping, Mode: string(t.Mode), Agent: line(t.Agent, 40), FormID: newID(),
	}
	if v.Base == "" {
		v.Base = "the base branch"
	}
	if t.Lease != nil {
		v.Machine = string(t.Lease.Node)
		v.MachineTitle = fmt.Sprintf("slot %s, since %s, token %d", t.Lease.Slot, absolute(t.Lease.Since), t.Lease.Token)
	}
	for _, p := range t.Queue {
		if !(t.Turns == 0 && p.ID == firstMessage(t)) {
			v.Queue = append(v.Queue, pending{p.ID, p.Text, line(p.Text, 120), author(&p.Author), p.Steer})
		}
	}
	v.asks(t)
	v.dock(t, activity)
	return v
}

// firstMessage is the id of the request, which the stream shows and not the
// queue.
func firstMessage(t chat.Task) string {
	if len(t.Queue) > 0 {
		return t.Queue[0].ID
	}
	return ""
}

func (v *taskView) asks(t chat.Task) {
	for _, a := range t.Asks {
		view := newAsk(t, a)
		if !view.Open {
			continue
		}
		view.FormID = newID()
		v.Needs++
		if a.Kind == chat.AskDelivery {
			v.Delivery = view
			continue
		}
		v.Pinned = append(v.Pinned, *view)
	}
}

func (v *taskView) dock(t chat.Task, activity string) {
	switch t.State {
	case chat.Draft:
		v.CanRetry, v.RetryWord, v.Rest = true, "Start", "Not started"
	case chat.Queued, chat.Placing, chat.Buying, chat.Booting, chat.Preparing, chat.Starting:
		v.StopWord, v.Rest = "Cancel start", "Your messages are sent when the agent is ready"
	case chat.Working:
		v.StopWord, v.Busy, v.Activity = "Stop", true, activity
		if activity == "" {
			v.Activity = "Thinking"
		}
	case chat.NeedsYou:
		v.StopWord, v.Busy, v.Rest = "Stop", true, "Waiting for an answer"
	case chat.Publishing:
		v.StopWord, v.Busy, v.Activity = "Stop", true, "Saving and pushing the branch"
	case chat.Idle:
		v.CanRelease, v.CanArchive, v.Rest = t.Lease != nil, t.Lease == nil && !t.Archived, "Idle"
		if t.Lease == nil {
			v.Rest = "No workspace is alive; it starts when you write"
			v.CanRetry, v.RetryWord = true, "Start workspace"
		}
	case chat.Failed, chat.Stopped:
		v.CanRetry, v.RetryWord, v.Rest = true, "Retry", "Stopped"
		if t.State == chat.Failed {
			v.Rest = "Failed"
		}
		v.CanRelease = t.Lease != nil
	}
	if v.Busy && t.Turn != nil && t.Turn.Ended.IsZero() {
		v.TurnBegan = stamp(t.Turn.Began)
	}
	switch {
	case v.Busy:
		v.Placeholder = "Queue a message, or steer the agent"
	case v.StopWord == "Cancel start":
		v.Placeholder = "Add to the request"
	default:
		v.Placeholder = "Go on with this task"
	}
}

// usage is what the task costs: tokens, and its part of bought machines.
func (s *Server) usage(t chat.Task) usage {
	u := newUsage(t)
	if s.MachineCost == nil {
		return u
	}
	if cost := s.MachineCost(t.ID); cost > 0 {
		u.Machines = perHour(cost)
		if u.Total == "" {
			u.Total = u.Machines
		}
	}
	return u
}

func newUsage(t chat.Task) usage {
	n := t.Usage
	u := usage{Share: -1, Cost: money(n.Cost), Input: count(n.Input), Output: count(n.Output), Cached: count(n.Cached)}
	if n.Input+n.Output+n.Cost == 0 {
		return u
	}
	u.Total = money(n.Cost)
	if n.Cost == 0 {
		u.Total = count(n.Input+n.Output) + " tokens"
	}
	if n.ContextMax > 0 {
		u.Share = int(min(100, n.Context*100/n.ContextMax))
		u.Context = fmt.Sprintf("%s of %s, %d %%", count(n.Context), count(n.ContextMax), u.Share)
		u.Dash = strconv.FormatFloat(float64(u.Share)*0.3142, 'f', 1, 64) + " 32"
		switch {
		case u.Share >= 80:
			u.Tone = "c-fail"
		case u.Share >= 60:
			u.Tone = "c-needs"
		case u.Share >= 30:
			u.Tone = "c-text"
		default:
			u.Tone = "c-quiet"
		}
	}
	if t.Turn != nil {
		u.Turn = money(t.Turn.Usage.Cost) + ", " + count(t.Turn.Usage.Output) + " out"
	}
	return u
}

// strip is the line of the branch: a pull request, or on a plain remote a
// compare view with a merge button.
func (s *Server) strip(t chat.Task, now time.Time) *strip {
	p := t.PullRequest
	if p == nil && (!t.Change.Pushed || t.Change.Files == 0) {
		return nil
	}
	v := &strip{Tone: "quiet", Words: "Branch pushed" + changeWords(t.Change)}
	settled := t.State == chat.Idle || t.State == chat.Stopped
	switch {
	case t.Change.Merged != "":
		v.Tone, v.Words = "merged", "Merged as "+abbrev(t.Change.Merged)
	case p == nil || p.Number == 0 && p.State == "":
		v.CanOpen, v.CanDraft, v.OpenWord = s.OpenPull != nil, true, "Create pull request"
	case p.Number == 0:
		v.CanMerge = s.Merge != nil && settled
		v.Words = strings.TrimPrefix(changeWords(t.Change), " · ")
		if v.Words == "" {
			v.Words = "Pushed"
		}
		if !settled {
			v.Words += " · can be merged when the task is idle"
		}
	default:
		l := pullLabel(p)
		v.Label, v.URL, v.Tone, v.Words = l.Label, l.URL, l.Tone, pullWords(p)
		v.CanOpen, v.OpenWord = p.State == "draft" && s.OpenPull != nil && settled, "Mark ready"
		if old := now.Sub(p.Seen); !p.Seen.IsZero() && old > 2*time.Minute {
			v.Seen = "as of " + age(now, p.Seen) + " ago"
		}
	}
	return v
}

func abbrev(commit string) string { return commit[:min(len(commit), 8)] }

// taskPageView loads the newest messages, or those before a sequence number.
func (s *Server) taskPageView(ctx context.Context, t chat.Task, c caller, view string, before uint64) (taskView, error) {
	messages, err := s.Room.Messages(ctx, t.ID, before, itemsPerPage)
	if err != nil {
		return taskView{}, fmt.Errorf("reading messages: %w", err)
	}
	v := s.regions(t, c.may(Member), activity(messages))
	v.View, v.SayID = view, newID()
	v.Project = string(t.Project)
	if p, err := s.Room.Project(string(t.Project)); err == nil {
		v.Project = p.Name
	}
	all, _, _ := s.briefsOf(c)
	all = slices.DeleteFunc(slices.Clone(all), func(b *brief) bool { return b.archived })
	v.List = s.list(all, s.Room.Task, t.ID, s.Room.Now())
	v.Tabs = s.tabs(v.URL)
	v.Ports = s.portsSeen(taskKey{t.ID, v.May})
	for _, m := range messages {
		it := s.item(t, m)
		if it.Ask != nil {
			it.Ask.FormID = newID()
		}
		if it.Order < v.Stepper.Order {
			v.Before = append(v.Before, it)
		} else {
			v.Items = append(v.Items, it)
		}
	}
	if len(messages) > 0 && messages[0].Seq > 1 {
		v.Earlier = v.URL + "?before=" + strconv.FormatUint(messages[0].Seq, 10)
		v.Stepper.Show = v.Stepper.Show && v.Stepper.Order > itemOrder(messages[0].Seq)
	}
	return v, nil
}

func (s *Server) tabs(url string) []tab {
	tabs := []tab{{"chat", "Chat", "chat", url}, {"diff", "Diff", "diff", url + "/diff"}, {"files", "Files", "file", url + "/files"}}
	tabs = append(tabs, tab{"terminal", "Terminal", "shell", url + "/terminal"})
	if s.Ports != nil {
		tabs = append(tabs, tab{"ports", "Ports", "plug", url + "/ports"})
	}
	return append(tabs, tab{"access", "Access", "key", url + "/access"}, tab{"log", "Log", "log", url + "/log"})
}

// activity is what the newest running tool says; empty: none runs.
func activity(messages []chat.Message) string {
	for i := len(messages) - 1; i >= 0; i-- {
		m := messages[i]
		if m.Kind == chat.KindTool && m.Tool != nil && (m.Tool.Status == "in_progress" || m.Tool.Status == "pending") {
			return line(m.Tool.Title, 120)
		}
	}
	return ""
}
