package ui

import (
	"fmt"
	"strings"

	"github.com/samnode/samnode/ui/api"
)

// opsView are the intents to buy and to delete machines, newest first.
type opsView struct {
	Open, Ended []opView
	Left        int // older than those that are shown
}

// opView is one of them.
type opView struct {
	DOM     string
	Word    string // Buy, Delete
	Machine string
	Chip    chip
	Reason  string
	For     *link
	By      string
	Began   moment
	Took    string
	Text    string // what is in its way
	Next    moment
	History []opEvent
}

type opEvent struct {
	At   moment
	Text string
}

const opsShown = 20 // of those that ended

func (s *Server) opsView(p api.PoolInfo) opsView {
	var v opsView
	for _, o := range p.Ops {
		switch {
		case o.State == "open":
			v.Open = append(v.Open, s.opView(o, p))
		case len(v.Ended) < opsShown:
			v.Ended = append(v.Ended, s.opView(o, p))
		default:
			v.Left++
		}
	}
	return v
}

func (s *Server) opView(o api.PoolOp, p api.PoolInfo) opView {
	v := opView{
		DOM: "op-" + o.ID, Word: opWord(o.Kind), Machine: line(o.Machine, 63), Chip: opChip(o), Reason: visible(o.Reason),
		By: line(o.By, 100), Began: newMoment(o.Began, p.At), Text: visible(o.Text),
	}
	if o.Task != "" {
		v.For = s.taskLink(o.Task)
	}
	if !o.Ended.IsZero() {
		v.Took = length(o.Ended.Sub(o.Began))
	}
	if o.Next.After(p.At) {
		v.Next = newMoment(o.Next, p.At)
	}
	for _, e := range o.History {
		v.History = append(v.History, opEvent{newMoment(e.At, p.At), visible(e.Text)})
	}
	return v
}

func opWord(kind string) string {
	switch kind {
	case "buy":
		return "Buy"
	case "delete":
		return "Delete"
	}
	return line(kind, 20)
}

func opChip(o api.PoolOp) chip {
	switch {
	case o.State == "open" && o.Text != "":
		return chip{Shape: "diamond", Word: "Waits", Tone: "needs"}
	case o.State == "open":
		return chip{Shape: "turn", Word: "Open", Tone: "working"}
	case o.State == "done":
		return chip{Shape: "dot", Word: "Done", Tone: "ok"}
	case o.State == "failed":
		return chip{Shape: "cross", Word: "Failed", Tone: "fail"}
	case o.State == "withdrawn":
		return chip{Shape: "square", Word: "Withdrawn", Tone: "quiet"}
	}
	return chip{Shape: "dot", Word: line(o.State, 20), Tone: "quiet"}
}

// choiceView is something that may be bought, as a row.
type choiceView struct {
	Type, Location, Slots, Hour, Day, SlotDay string
	Refused                                   string
	First                                     bool // it would be bought now
}

func choiceViews(p api.PoolInfo) []choiceView {
	var out []choiceView
	found := false
	for _, c := range p.Choices {
		v := choiceView{Type: line(c.Type, 40), Location: line(c.Location, 40), Slots: fmt.Sprint(c.Slots), Hour: "–", Day: "–", SlotDay: "–"}
		if c.Hour > 0 {
			v.Hour, v.Day, v.SlotDay = perHour(c.Hour), euros(c.Day), euros(c.Day/float64(max(1, c.Slots)))
		}
		if c.Refused == "" {
			v.First, found = !found, true
		} else {
			v.Refused = sentenceOf(visible(c.Refused))
		}
		out = append(out, v)
	}
	return out
}

// sentenceOf makes a sentence of the end of one.
func sentenceOf(s string) string {
	if s == "" {
		return ""
	}
	r := []rune(s)
	return strings.ToUpper(string(r[:1])) + string(r[1:]) + "."
}
