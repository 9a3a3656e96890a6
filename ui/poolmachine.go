package ui

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// machineView is one machine as a card shows it.
type machineView struct {
	Name, URL, DOM string // URL: of its node, when it is one
	Path           string // of what is done with it
	Chip           chip
	Place, Price   string
	Owner          string
	Slots          string
	Tasks          []slotTask
	Free           int // slots that a task could get
	Paid           *paidHour
	Stay           string // why it stays, or goes
	Goes           moment
	Kept           moment
	Began          moment // of what it is doing
	Most           string // time that it may take
	Next           moment
	Waits          []string // what it waits for
	Why            string   // it was bought
	For            *link    // the task that it was bought for
	Failed         string
	CanKeep        bool
	CanDelete      bool
}

type slotTask struct {
	link
	Since moment
}

// moment is a time as a page shows it: in words for a reader without a script,
// else in the reader's own zone.
type moment struct {
	At   string // RFC 3339; empty: there is none
	Text string // as it is in UTC
	Far  bool   // another day: the text alone is shown
	Left string // how long until then
}

// paidHour is the hour that a machine is paid for, as a bar. The figures are
// minutes of it.
type paidHour struct {
	Text  string
	Gone  string // minutes that are over
	From  string // the first minute since which a task runs
	Used  string // minutes from then until now
	Goes  string // minute in which it goes if it stays idle; empty: not in this hour
	Until moment
}

func (s *Server) machineView(m api.PoolMachine, p api.PoolInfo, a around) machineView {
	v := machineView{
		Name: line(m.Name, 63), DOM: "machine-" + m.Name, Path: "/pool/machines/" + url.PathEscape(m.Name),
		Price: perHour(m.Hour), Stay: visible(m.Stay), Why: visible(m.Why), Failed: visible(m.Failed),
		Goes: newMoment(m.Until, p.At), Paid: newPaidHour(m, p.At),
	}
	silent := false
	for _, n := range a.Nodes {
		if n.Name == m.Name {
			v.URL, silent = "/nodes/"+url.PathEscape(m.Name), !n.Online
		}
	}
	v.Chip = machineChip(m, silent)
	if m.Type != "" {
		v.Place = line(m.Type, 40) + " at " + line(m.Location, 40)
	}
	if m.Owner != "" {
		v.Owner = line(m.Owner, 100)
	}
	s.slots(&v, m, p.At)
	if m.Keep.After(p.At) {
		v.Kept = newMoment(m.Keep, p.At)
	}
	if !m.Since.IsZero() {
		v.Began = newMoment(m.Since, p.At)
	}
	if m.Deadline.After(m.Since) && !m.Since.IsZero() {
		v.Most = minutes(m.Deadline.Sub(m.Since))
	}
	s.intent(&v, m, p)
	v.CanKeep = m.Bought && (m.State == ready || m.State == draining) && !m.Leaves
	v.CanDelete = m.Bought && !m.Leaves && m.State != deleting && m.State != failing
	return v
}

// slots shows who has them.
func (s *Server) slots(v *machineView, m api.PoolMachine, now time.Time) {
	v.Slots = fmt.Sprintf("%d of %s", len(m.Tasks), plural(m.Slots, "slot"))
	if m.Slots == 0 {
		v.Slots = "no slots"
	}
	tasks := slices.SortedFunc(slices.Values(m.Tasks), func(a, b api.Lease) int { return cmp.Compare(a.Slot, b.Slot) })
	for i, l := range tasks {
		if i == tasksShown {
			v.Tasks = append(v.Tasks, slotTask{link: link{Name: fmt.Sprintf("%d more", len(tasks)-i), URL: "/nodes/" + url.PathEscape(m.Name)}})
			break
		}
		v.Tasks = append(v.Tasks, slotTask{link{Name: s.titleOf(l.Task), URL: "/t/" + url.PathEscape(string(l.Task))}, newMoment(l.Since, now)})
	}
	if m.State == ready && !m.Leaves {
		v.Free = max(0, m.Slots-len(m.Tasks))
	}
}

// intent tells what the op of a machine that is to come waits for.
func (s *Server) intent(v *machineView, m api.PoolMachine, p api.PoolInfo) {
	for _, o := range p.Ops {
		if o.Machine != m.Name || o.Kind != "buy" {
			continue
		}
		if o.Task != "" {
			v.For = s.taskLink(o.Task)
		}
		if o.State == "open" && m.State != booting && o.Text != "" {
			v.Waits = append(v.Waits, visible(o.Text))
		}
		if o.Next.After(p.At) {
			v.Next = newMoment(o.Next, p.At)
		}
		break
	}
	if m.State == wanted && p.Stopped != "" && !slices.Contains(v.Waits, visible(p.Stopped)) {
		v.Waits = append(v.Waits, visible(p.Stopped))
	}
}

func machineChip(m api.PoolMachine, silent bool) chip {
	free := max(0, m.Slots-len(m.Tasks))
	switch m.State {
	case wanted:
		return chip{Shape: "ring", Fill: 1, Word: "Wanted", Tone: "working", Title: "nothing was ordered yet"}
	case creating:
		return chip{Shape: "ring", Fill: 2, Word: "Creating", Tone: "working", Title: "the provider was asked for it"}
	case booting:
		return chip{Shape: "ring", Fill: 3, Word: "Booting", Tone: "working", Title: "its server is made, and its node was not heard yet"}
	case deleting:
		return chip{Shape: "dashed", Word: "Deleting", Tone: "quiet", Title: "the provider was asked to delete it"}
	case failing:
		return chip{Shape: "cross", Word: "Failed", Tone: "fail", Title: "it is of no use, and is deleted"}
	}
	switch {
	case silent:
		return chip{Shape: "cross", Word: "Silent", Tone: "fail", Title: "its node has not been heard of"}
	case m.State == draining && len(m.Tasks) > 0:
		return chip{Shape: "up", Word: "Draining, " + plural(len(m.Tasks), "task") + " left", Tone: "needs", Title: "it gets no new task"}
	case m.State == draining:
		return chip{Shape: "up", Word: "Draining", Tone: "needs", Title: "it gets no new task and has none"}
	case m.State == ready && m.Slots > 0:
		return chip{Shape: "dot", Word: fmt.Sprintf("Ready, %d of %s free", free, plural(m.Slots, "slot")), Tone: "ok"}
	case m.State == ready:
		return chip{Shape: "dot", Word: "Ready", Tone: "ok"}
	}
	return chip{Shape: "dot", Word: line(m.State, 40), Tone: "quiet"}
}

// newPaidHour is the hour that runs, or nil for what is not charged for.
func newPaidHour(m api.PoolMachine, now time.Time) *paidHour {
	if m.PaidUntil.IsZero() {
		return nil
	}
	begin := m.PaidUntil.Add(-time.Hour)
	minute := func(t time.Time) int { return int(min(60, max(0, t.Sub(begin)/time.Minute))) }
	gone := minute(now)
	from := gone
	for _, l := range m.Tasks {
		from = min(from, minute(l.Since))
	}
	b := &paidHour{
		Text: fmt.Sprintf("%d of 60 min", gone), Gone: strconv.Itoa(gone), From: strconv.Itoa(from), Used: strconv.Itoa(gone - from),
		Until: newMoment(m.PaidUntil, now),
	}
	if m.Until.After(begin) && !m.Until.After(m.PaidUntil) {
		b.Goes = strconv.Itoa(min(59, minute(m.Until)))
	}
	return b
}

// newMoment is a time as it is seen from now.
func newMoment(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	m := moment{At: stamp(t), Text: clock(t) + " UTC", Left: left(t.Sub(now))}
	if d := t.Sub(now); d < -nearby || d > nearby {
		m.Text, m.Far = t.UTC().Format("2 Jan 15:04 UTC"), true
	}
	return m
}

const nearby = 12 * time.Hour // a clock time tells which day is meant

func (s *Server) taskLink(task string) *link {
	return &link{Name: s.titleOf(chat.TaskID(task)), URL: "/t/" + url.PathEscape(task)}
}
