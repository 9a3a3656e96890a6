package ui

import (
	"fmt"
	"slices"
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
	Open    bool
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

// all are those that are shown, in their order.
func (v opsView) all() []opView { return append(v.Open[:len(v.Open):len(v.Open)], v.Ended...) }

// aside tells whether there is more to say than the history does.
func (v opView) aside() bool { return v.Next.At != "" || v.For != nil || v.By != "" || v.Took != "" }

func (s *Server) opView(o api.PoolOp, p api.PoolInfo) opView {
	v := opView{
		DOM: "op-" + o.ID, Word: opWord(o.Kind), Machine: line(o.Machine, 63), Open: o.State == "open", Chip: opChip(o), Reason: s.reasonOf(o),
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
		what := opEvent{newMoment(e.At, p.At), visible(e.Text)}
		if e.Text == o.Reason {
			what.Text = v.Reason
		}
		v.History = append(v.History, what)
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

// typeView is a type of machine, and where it may be bought.
type typeView struct {
	Type, Slots string
	Offers      []offerView
}

// offerView is a type at a location, as a row.
type offerView struct {
	Location, Hour, Day, SlotDay string
	Label                        string // of the button that buys it
	Refused                      string
	Sold                         bool // there is a price
	First                        bool // it is what the mesh would buy now
	Buys                         bool // a machine at that location would be this one
}

// typeViews are the choices by type, in the order in which they are tried.
func typeViews(p api.PoolInfo) []typeView {
	var out []typeView
	first, at := true, map[string]bool{} // locations where something can be had
	priced := slices.ContainsFunc(p.Choices, func(c api.PoolChoice) bool { return c.Hour > 0 })
	for _, c := range p.Choices {
		o := offerView{Location: line(c.Location, 40), Hour: "–", Day: "–", SlotDay: "–", Label: "Buy " + line(c.Type, 40) + " at " + line(c.Location, 40)}
		if c.Hour > 0 {
			o.Sold, o.Hour, o.Day, o.SlotDay = true, perHour(c.Hour), euros(c.Day), euros(c.Day/float64(max(1, c.Slots)))
		}
		switch {
		case !priced:
			o.Refused = "The provider was not asked for its prices yet."
		case c.Refused == "":
			o.First, o.Buys = first, !at[c.Location]
			first, at[c.Location] = false, true
		default:
			o.Refused = sentenceOf(visible(c.Refused))
		}
		if name := line(c.Type, 40); len(out) == 0 || out[len(out)-1].Type != name {
			out = append(out, typeView{Type: name, Slots: plural(c.Slots, "slot")})
		}
		t := &out[len(out)-1]
		t.Offers = append(t.Offers, o)
	}
	return out
}

// sentenceOf makes a sentence of the end of one.
func sentenceOf(s string) string {
	if s == "" {
		return ""
	}
	r := []rune(s)
	return fmt.Sprintf("%s%s.", strings.ToUpper(string(r[:1])), string(r[1:]))
}
