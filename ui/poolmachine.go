package ui

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// machineView is one machine as a card shows it.
type machineView struct {
	Name, URL, DOM string // URL: of its node, when it is one
	Path           string // of what is done with it
	Chip           chip
	Place          string // type, location and price
	Owner          string
	Version        string
	Coming, Joined bool
	Slots          []slotView
	Spare          string // slots that are not shown, in words
	Paid           *paidHour
	Stay           string // why it stays, or goes
	Goes           moment
	Kept           moment
	Bought         moment
	Began          moment // of its state
	BeganWord      string
	Most           string // time that it may take
	Bar            *meter // of it
	Next           moment
	Waits          []string // what it waits for
	Why            string   // it was bought
	For            *link    // the task that it was bought for
	Failed         string
	CanKeep        bool
	CanDelete      bool
}

// slotView is a slot, free or with a task in it.
type slotView struct {
	Task  *link
	Since moment
}

// moment is a time as a page shows it: in words for a reader without a script,
// else in the reader's own zone.
type moment struct {
	At   string // RFC 3339; empty: there is none
	Text string // as it is in UTC
	Far  bool   // another day, which is shown, too
	Left string // how long until then
	Long string // how long since then
}

// paidHour is the hour that a machine is paid for, as a bar. The figures are
// minutes of it.
type paidHour struct {
	Gone  string // minutes that are over
	From  string // the first minute since which a task runs
	Used  string // minutes from then until now
	Goes  string // minute in which it goes if it stays idle; empty: not in this hour
	Until moment
}

func (s *Server) machineView(m api.PoolMachine, p api.PoolInfo, a around) machineView {
	v := machineView{
		Name: line(m.Name, 63), DOM: "machine-" + m.Name, Path: "/pool/machines/" + url.PathEscape(m.Name),
		Owner: line(m.Owner, 100), Joined: !m.Bought, Coming: m.Bought && isComing(m),
		Stay: visible(m.Stay), Why: visible(m.Why), Failed: visible(m.Failed),
		Goes: newMoment(m.Until, p.At), Bought: newMoment(m.Created, p.At), Began: newMoment(m.Since, p.At), Paid: newPaidHour(m, p.At),
	}
	n, is := a.node(m.Name)
	if is {
		v.URL, v.Version = "/nodes/"+url.PathEscape(m.Name), line(n.Version, 40)
	}
	v.Chip = machineChip(m, is && !n.Online)
	if v.Place = "not ordered yet"; m.Type != "" {
		v.Place = line(m.Type, 40) + " at " + line(m.Location, 40)
	}
	if m.Hour > 0 {
		v.Place += " · " + perHour(m.Hour) + " an hour"
	}
	switch {
	case v.Stay != "":
	case m.State == failing:
		v.Stay = "It is deleted at the provider next."
	case m.State == deleting:
		v.Stay = "It costs until the provider says that it is gone."
	}
	if m.Keep.After(p.At) {
		v.Kept = newMoment(m.Keep, p.At)
	}
	if v.Coming && m.Deadline.After(m.Since) {
		bar := newMeter("", float64(p.At.Sub(m.Since)), float64(m.Deadline.Sub(m.Since)), "")
		v.Most, v.Bar = minutes(m.Deadline.Sub(m.Since)), &bar
	}
	v.BeganWord = strings.ToLower(m.State) + " since"
	v.Slots, v.Spare = s.slotViews(m, p.At)
	s.intent(&v, m, p)
	v.CanKeep = m.Bought && (m.State == ready || m.State == draining) && !m.Leaves
	v.CanDelete = m.Bought && !m.Leaves && m.State != deleting && m.State != failing
	return v
}

// node is what is known of the node of a machine, if it is one.
func (a around) node(machine string) (api.Node, bool) {
	i := slices.IndexFunc(a.Nodes, func(n api.Node) bool { return n.Name == machine })
	if i < 0 {
		return api.Node{}, false
	}
	return a.Nodes[i], true
}

// freeSlots are the slots that a task could get if its node answers.
func freeSlots(m api.PoolMachine) int {
	if m.State != ready || m.Leaves {
		return 0
	}
	return max(0, m.Slots-len(m.Tasks))
}

// slotViews are the slots with their tasks, then those that are free.
func (s *Server) slotViews(m api.PoolMachine, now time.Time) (slots []slotView, spare string) {
	tasks := slices.SortedFunc(slices.Values(m.Tasks), func(a, b api.Lease) int { return cmp.Compare(a.Slot, b.Slot) })
	for _, l := range tasks {
		slots = append(slots, slotView{s.taskLink(string(l.Task)), newMoment(l.Since, now)})
	}
	slots = append(slots, make([]slotView, freeSlots(m))...)
	if more := len(slots) - tasksShown; more > 0 {
		slots, spare = slots[:tasksShown], fmt.Sprintf("and %d more, %d free", more, freeSlots(m))
	}
	return slots, spare
}

// intent tells which op made the machine, and what it waits for.
func (s *Server) intent(v *machineView, m api.PoolMachine, p api.PoolInfo) {
	i := slices.IndexFunc(p.Ops, func(o api.PoolOp) bool { return o.Machine == m.Name && o.Kind == "buy" })
	if i >= 0 {
		o := p.Ops[i]
		v.Why = s.reasonOf(o)
		if o.Task != "" {
			v.For = s.taskLink(o.Task)
		}
		if v.Coming && o.State == "open" && o.Text != "" {
			v.Waits = append(v.Waits, visible(o.Text))
		}
		if v.Coming && o.Next.After(p.At) {
			v.Next = newMoment(o.Next, p.At)
		}
	}
	if m.State == wanted && p.Stopped != "" {
		v.Waits = append(v.Waits, "Nothing is bought now: the page says why at its top.")
	}
}

// reasonOf is why an op began, with the task's title for its id.
func (s *Server) reasonOf(o api.PoolOp) string {
	if o.Task == "" {
		return visible(o.Reason)
	}
	return visible(strings.ReplaceAll(o.Reason, o.Task, "“"+s.titleOf(chat.TaskID(o.Task))+"”"))
}

func machineChip(m api.PoolMachine, silent bool) chip {
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
	case (m.State == draining || m.Leaves) && len(m.Tasks) > 0:
		return chip{Shape: "up", Word: "Draining, " + plural(len(m.Tasks), "task") + " left", Tone: "needs", Title: "it gets no new task"}
	case m.State == draining || m.Leaves:
		return chip{Shape: "up", Word: "Draining", Tone: "needs", Title: "it gets no new task and has none"}
	case m.State == ready && m.Slots > 0 && len(m.Tasks) >= m.Slots:
		return chip{Shape: "dot", Word: "In use", Tone: "working", Title: "no slot of it is free"}
	case m.State == ready && m.Slots > 0:
		return chip{Shape: "dot", Word: fmt.Sprintf("Ready, %d of %s free", freeSlots(m), plural(m.Slots, "slot")), Tone: "ok"}
	case m.State == ready:
		return chip{Shape: "dot", Word: "Ready, no slots", Tone: "quiet"}
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
	b := &paidHour{Gone: strconv.Itoa(gone), From: strconv.Itoa(from), Used: strconv.Itoa(gone - from), Until: newMoment(m.PaidUntil, now)}
	if m.Until.After(begin) && !m.Until.After(m.PaidUntil) {
		b.Goes = strconv.Itoa(min(59, minute(m.Until)))
	}
	return b
}

const nearby = 12 * time.Hour // a clock time tells which day is meant

// newMoment is a time as it is seen from now.
func newMoment(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	d := t.Sub(now)
	m := moment{At: stamp(t), Text: clock(t) + " UTC", Left: left(d), Long: length(-d)}
	if d < -nearby || d > nearby {
		m.Text, m.Far = t.UTC().Format("2 Jan 15:04 UTC"), true
	}
	return m
}

func (s *Server) taskLink(task string) *link {
	return &link{Name: s.titleOf(chat.TaskID(task)), URL: "/t/" + url.PathEscape(task)}
}
