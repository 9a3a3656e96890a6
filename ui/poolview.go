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
	Resume  bool   // that can be ended here
	Halt    bool   // buying can be stopped here
	Alarms  []string
	Figures []meter
	Swept   moment
	Coming  []machineView
	Bought  []machineView
	Joined  []machineView
	Ops     opsView
	Choices []choiceView
	Set     poolForm
	Buy     buyForm
	May     bool // the person may change all this
}

// The states of machines, as the API has them.
const (
	wanted, creating, booting          = "wanted", "creating", "booting"
	ready, draining, deleting, failing = "ready", "draining", "deleting", "failed"
)

// poolView fills the page; may says whether the caller changes things.
func (s *Server) poolView(p api.PoolInfo, a around, may bool) poolView {
	v := poolView{May: may, Stopped: visible(p.Stopped), Resume: p.Resume, Halt: !p.Settings.Stopped, Swept: newMoment(p.Swept, p.At)}
	for _, text := range p.Alarms {
		if text != p.Stopped {
			v.Alarms = append(v.Alarms, visible(text))
		}
	}
	for _, m := range p.Machines {
		card := s.machineView(m, p, a)
		switch {
		case !m.Bought:
			v.Joined = append(v.Joined, card)
		case m.State == wanted || m.State == creating || m.State == booting:
			v.Coming = append(v.Coming, card)
		default:
			v.Bought = append(v.Bought, card)
		}
	}
	v.Summary, v.Figures = poolSummary(p), poolFigures(p)
	v.Ops, v.Choices = s.opsView(p), choiceViews(p)
	v.Set = newPoolForm(p.Settings)
	v.Set.Costs = costsOf(p.Settings, p)
	v.Buy = newBuyForm(p)
	return v
}

// poolSummary is the pool in one line.
func poolSummary(p api.PoolInfo) string {
	is, free := map[string]int{}, 0
	for _, m := range p.Machines {
		is[m.State]++
		if m.State == ready {
			free += max(0, m.Slots-len(m.Tasks))
		}
	}
	var words []string
	for _, state := range []string{ready, booting, creating, wanted, draining, deleting, failing} {
		if n := is[state]; n > 0 || state == ready {
			words = append(words, strconv.Itoa(n)+" "+state)
		}
	}
	return strings.Join(append(words, plural(free, "slot")+" free", euros(p.Today)+" today"), " · ")
}

// poolFigures are what may run out: money, machines, calls.
func poolFigures(p api.PoolInfo) []meter {
	bought := 0
	for _, m := range p.Machines {
		if m.Bought {
			bought++
		}
	}
	set := p.Settings
	out := []meter{
		newMeter("Today", p.Today, set.PerDay, euros(p.Today)+" of "+euros(set.PerDay)),
		newMeter("Month", p.Month, 0, euros(p.Month)),
		newMeter("Bought", float64(bought), float64(set.Machines), strconv.Itoa(bought)+" of "+plural(set.Machines, "machine")),
	}
	if out[2].Tone != "c-quiet" {
		out[2].Tone = "c-needs" // as many as there may be is no fault
	}
	if b := p.Budget; b != nil {
		m := newMeter("API", float64(b.Limit-b.Left), float64(b.Limit), fmt.Sprintf("%d of %d calls left, %d kept for deleting", b.Left, b.Limit, b.Reserve))
		if b.Until.After(p.At) {
			m.Text += "; the provider wants to be left alone until " + newMoment(b.Until, p.At).Text
		}
		out = append(out, m)
	}
	return out
}
