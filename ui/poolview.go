package ui

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/samnode/samnode/ui/api"
)

// poolView is the page of the machines, and of what the mesh buys of them.
type poolView struct {
	Summary string
	Stopped string // why nothing is bought
	NoToken bool   // and a token of the provider would end that
	Resume  bool   // that can be ended here
	Halt    bool   // buying can be stopped here
	Alarms  []string
	Figures []figure
	Groups  []machineGroup
	Ops     opsView
	Choices []typeView
	Set     poolForm
	Buy     buyForm
	May     bool // the person may change all this
}

// machineGroup are machines under one heading.
type machineGroup struct {
	Name     string
	Machines []machineView
}

// figure is a number that matters, and of which some may run out.
type figure struct {
	Name, Value, Note string
	Bar               *meter
}

// The states of machines, as the API has them.
const (
	wanted, creating, booting          = "wanted", "creating", "booting"
	ready, draining, deleting, failing = "ready", "draining", "deleting", "failed"
)

// poolView fills the page; may says whether the caller changes things.
func (s *Server) poolView(p api.PoolInfo, a around, may bool) poolView {
	v := poolView{May: may, Stopped: visible(p.Stopped), Resume: p.Resume, Halt: may && !p.Settings.Stopped}
	v.NoToken = p.Stopped != "" && !p.Resume
	for _, text := range p.Alarms {
		if text != p.Stopped {
			v.Alarms = append(v.Alarms, visible(text))
		}
	}
	v.Groups = s.machineGroups(p, a)
	v.Summary, v.Figures = poolSummary(p, a), poolFigures(p, a)
	v.Ops, v.Choices = s.opsView(p), typeViews(p)
	v.Set = newPoolForm(p)
	v.Buy = newBuyForm(p)
	return v
}

// machineGroups sorts the machines: those that come, those that are bought and
// those that joined.
func (s *Server) machineGroups(p api.PoolInfo, a around) []machineGroup {
	groups := []machineGroup{{Name: "On their way"}, {Name: "Bought"}, {Name: "Joined"}}
	for _, m := range p.Machines {
		g := &groups[2]
		switch {
		case m.Bought && isComing(m):
			g = &groups[0]
		case m.Bought:
			g = &groups[1]
		}
		g.Machines = append(g.Machines, s.machineView(m, p, a))
	}
	var out []machineGroup
	for _, g := range groups {
		if len(g.Machines) > 0 {
			out = append(out, g)
		}
	}
	return out
}

func isComing(m api.PoolMachine) bool {
	return m.State == wanted || m.State == creating || m.State == booting
}

// poolSummary is the pool in one line.
func poolSummary(p api.PoolInfo, a around) string {
	is, free := map[string]int{}, 0
	for _, m := range p.Machines {
		is[m.State]++
		if n, is := a.node(m.Name); !is || n.Online {
			free += freeSlots(m)
		}
	}
	var words []string
	for _, state := range []string{ready, booting, creating, wanted, draining, deleting, failing} {
		if n := is[state]; n > 0 || state == ready {
			words = append(words, strconv.Itoa(n)+" "+state)
		}
	}
	return strings.Join(append(words, plural(free, "slot")+" free"), " · ")
}

// poolFigures are what may run out: money, machines, calls.
func poolFigures(p api.PoolInfo, a around) []figure {
	bought := 0
	for _, m := range p.Machines {
		if m.Bought {
			bought++
		}
	}
	set := p.Settings
	today := newMeter("", p.Today, set.PerDay, "")
	many := newMeter("", float64(bought), float64(set.Machines), "")
	if many.Tone == "c-fail" {
		many.Tone = "c-needs" // as many as there may be is no fault
	}
	machines := figure{Name: "Machines bought", Value: strconv.Itoa(bought), Note: fmt.Sprintf("of at most %d at once", set.Machines), Bar: &many}
	if !p.Swept.IsZero() {
		machines.Note += "; compared with the provider's list at " + newMoment(p.Swept, p.At).Text
	}
	return []figure{
		{Name: "Today", Value: euros(p.Today), Note: "of at most " + euros(set.PerDay) + ", by the day of UTC", Bar: &today},
		{Name: "This month", Value: euros(p.Month), Note: "net, without VAT; each hour that begins is paid whole"},
		machines,
		budgetFigure(p, a),
	}
}

// budgetFigure is what is left of the calls to the provider. The leader alone
// makes them, and knows.
func budgetFigure(p api.PoolInfo, a around) figure {
	f := figure{Name: "Calls to the provider"}
	b := p.Budget
	if b == nil {
		f.Value, f.Note = "–", "none are made now"
		if leader := a.Mesh.Leader; leader != "" && leader != a.Mesh.Node {
			f.Note = "the leader makes them: see the page on " + visible(leader)
		}
		return f
	}
	f.Value = thousands(uint64(max(0, b.Left)))
	f.Note = fmt.Sprintf("may be made now; the provider allows %s an hour", thousands(uint64(max(0, b.Limit))))
	switch {
	case b.Until.After(p.At):
		f.Value, f.Note = "0", "the provider wants to be left alone until "+newMoment(b.Until, p.At).Text
	case b.Left <= b.Reserve:
		f.Note = "left, for deletions only; they become more by the minute"
	case b.Reserve > 0:
		f.Note += fmt.Sprintf(", and %d are kept for deleting", b.Reserve)
	}
	return f
}
