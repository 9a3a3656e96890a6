package ui

import (
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// item is one message as the stream shows it.
type item struct {
	DOM    string // element id, "m-<message>"
	ID     string
	Task   string
	Order  uint64
	Kind   string
	At     time.Time
	Turn   int
	Who    string
	HTML   string // rendered Markdown, safe
	Text   string
	Mark   string // delivery of user text: queued, sent, delivered, unknown
	Hidden bool   // it waits in the queue, where it is shown as a pill
	Long   int    // lines, when it folds
	Cut    string // "2.1 MB, middle left out"
	Live   bool   // more text will come
	Level  string
	Detail string
	Tool   *tool
	Plan   []chat.Plan
	Ask    *ask
	Change string
	Raw    string
}

type tool struct {
	Title, Kind, Status string
	Path                string
	Line                int
	Right               string // duration or size
	Open                bool
	Command             string
	Exit                string
	ExitBad             bool
	Output              []styled // terminal output with its colours
	Lines               int
	Cut                 string
	Input               string
	Diffs               []DiffFile
	Added, Removed      int
	Run                 bool // folds with its neighbours
}

type ask struct {
	ID, Kind, Title, Detail, Input string
	Options                        []askOption
	Fields                         []chat.AskField
	Values                         map[string]string // what the person typed before it was refused
	Text                           string
	At                             time.Time
	Answered                       string
	Closed                         string
	Open                           bool
	FormID                         string
}

type askOption struct{ ID, Label, Kind, Tone string }

const foldLines = 40

// itemOrder leaves room for the stepper between two messages.
func itemOrder(seq uint64) uint64 { return seq * 2 }

// item makes the view of a message. The task says whether it is still open.
func (s *Server) item(t chat.Task, m chat.Message) item {
	v := item{
		DOM: "m-" + m.ID, ID: m.ID, Task: string(t.ID), Order: itemOrder(m.Seq), Kind: string(m.Kind), At: m.At, Turn: m.Turn,
		Who: author(m.Author), Level: line(m.Level, 10), Detail: visible(m.Detail), Live: !m.Closed && busy(t) && m.Turn == t.Turns,
	}
	if m.Size > 0 {
		v.Cut = size(m.Size) + ", middle left out"
	}
	switch m.Kind {
	case chat.KindUser, chat.KindAgent:
		v.HTML = s.text.HTML(m.Text)
		if n := strings.Count(m.Text, "\n") + 1; n > foldLines && !v.Live {
			v.Long = n
		}
		if m.Kind == chat.KindUser {
			v.Mark = s.mark(t, m)
			v.Hidden = v.Mark == "queued" && m.Seq > 1
			if m.Turn == 0 && m.Detail != "" { // taken out of the queue
				v.Kind, v.Text, v.Detail = string(chat.KindStatus), visible(m.Detail), visible(m.Text)
			}
		}
	case chat.KindThought:
		v.HTML = s.text.HTML(m.Text)
	case chat.KindTool:
		if m.Tool != nil {
			v.Tool = newTool(*m.Tool, m.At, t.State)
		}
	case chat.KindPlan:
		v.Plan = m.Plan
	case chat.KindAsk:
		if m.Ask != nil {
			v.Ask = newAsk(t, *m.Ask)
		}
	case chat.KindDiff:
		if m.Diff != nil {
			v.Change = strings.TrimPrefix(changeWords(*m.Diff), " · ")
		}
	case chat.KindStatus, chat.KindError:
		v.Text = visible(m.Text)
		v.Hidden = m.Kind == chat.KindError && t.State == chat.Failed && t.Failure != nil && t.Failure.Reason == m.Text // the stepper says it
	default:
		v.Kind, v.Text = string(chat.KindRaw), line(string(m.Kind), 40)
		v.Raw = visible(string(m.Raw))
		if v.Raw == "" {
			v.Raw = visible(m.Text)
		}
	}
	return v
}

func busy(t chat.Task) bool {
	return t.State == chat.Working || t.State == chat.NeedsYou
}

func (s *Server) mark(t chat.Task, m chat.Message) string {
	for _, p := range t.Queue {
		if p.ID == m.ID {
			return "queued"
		}
	}
	return string(m.Delivery)
}

func newTool(t chat.Tool, at time.Time, state chat.TaskState) *tool {
	v := &tool{
		Title: line(t.Title, 200), Kind: line(t.Kind, 20), Status: toolStatus(t.Status), Input: pretty(t.Input),
		Output: ansi(t.Output), Lines: strings.Count(t.Output, "\n") + 1,
	}
	if v.Kind == "" {
		v.Kind = "other"
	}
	if v.Title == "" {
		v.Title = v.Kind
	}
	if len(t.Locations) > 0 {
		v.Path, v.Line = line(t.Locations[0].Path, 200), t.Locations[0].Line
	}
	running := (t.Status == "pending" || t.Status == "in_progress") && (state == chat.Working || state == chat.NeedsYou)
	if !running && (t.Status == "pending" || t.Status == "in_progress") {
		v.Status = "cancelled" // its turn is over
	}
	begun := t.Status == "in_progress" || t.Output != "" // else a card that asks may be below
	v.Open = running && begun && t.Kind == "execute" || t.Status == "failed"
	if t.Size > 0 {
		v.Cut = size(t.Size) + ", middle left out"
	}
	switch {
	case !t.Ended.IsZero() && !at.IsZero():
		v.Right = length(t.Ended.Sub(at))
	case t.Size > 0:
		v.Right = size(t.Size)
	}
	for _, d := range t.Diffs {
		f := compare(visible(d.Path), visible(d.Old), visible(d.New))
		if d.Size > 0 {
			f.Note = size(d.Size) + ", middle left out"
		}
		v.Diffs = append(v.Diffs, f)
		v.Added, v.Removed = v.Added+f.Added, v.Removed+f.Removed
	}
	v.shell(t)
	v.Run = t.Status == "completed" && (t.Kind == "read" || t.Kind == "search")
	return v
}

// toolStatus keeps to the words that the style sheet knows.
func toolStatus(status string) string {
	switch status {
	case "pending", "in_progress", "completed", "failed", "cancelled":
		return status
	}
	return "unknown"
}

// shell is the command and the exit code of an execute call.
func (v *tool) shell(t chat.Tool) {
	var in struct {
		Command json.RawMessage `json:"command"`
	}
	if t.Kind == "execute" && json.Unmarshal([]byte(t.Input), &in) == nil {
		var one string
		var many []string
		if json.Unmarshal(in.Command, &one) == nil {
			v.Command = visible(one)
		} else if json.Unmarshal(in.Command, &many) == nil {
			v.Command = visible(strings.Join(many, " "))
		}
	}
	if t.Exit != nil {
		v.Exit, v.ExitBad = "exit "+strconv.Itoa(*t.Exit), *t.Exit != 0
	}
}

// name is the last part of the path, for the narrow header.
func (v *tool) name() string { return path.Base(v.Path) }

// pretty indents JSON; what is not JSON stays as it is.
func pretty(s string) string {
	var v any
	if s == "" || json.Unmarshal([]byte(s), &v) != nil {
		return visible(s)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return visible(s)
	}
	return visible(string(out))
}

func newAsk(t chat.Task, a chat.Ask) *ask {
	v := &ask{
		ID: a.ID, Kind: string(a.Kind), Title: visible(askTitle(a)), Detail: visible(a.Detail),
		Fields: a.Fields, At: a.At, Closed: visible(a.Closed),
	}
	for _, o := range a.Options {
		v.Options = append(v.Options, newOption(o))
	}
	if a.Kind == chat.AskDelivery && len(v.Options) == 0 {
		v.Options = []askOption{{ID: "again", Label: "Send again", Tone: "plain"}, {ID: "discard", Label: "Discard", Tone: "plain"}}
	}
	for _, open := range t.Asks {
		v.Open = v.Open || open.ID == a.ID && open.Answer == nil && open.Closed == ""
	}
	if a.Answer != nil {
		v.Open = false
		v.Answered = answered(a)
	} else if !v.Open && v.Closed == "" {
		v.Closed = "No longer needed"
	}
	if !v.Open && v.Title == wantsToRun {
		v.Title = "Asked to run"
	}
	return v
}

const wantsToRun = "Wants to run"

// askTitle is what an agent asks. Many name a permission by the command itself,
// which is shown whole below.
func askTitle(a chat.Ask) string {
	title, _ := strings.CutSuffix(strings.TrimSpace(a.Title), "…")
	if title = strings.TrimSpace(title); a.Kind == chat.AskPermission && title != "" && strings.Contains(line(a.Detail, len(a.Detail)), title) {
		return wantsToRun
	}
	return a.Title
}

func newOption(o chat.AskOption) askOption {
	v := askOption{ID: o.ID, Label: line(o.Name, 80), Kind: line(o.Kind, 20), Tone: "plain"}
	switch o.Kind {
	case "allow_once":
		v.Tone = "go"
	case "reject_once", "reject_always":
		v.Tone = "stop"
	}
	if v.Label == "" {
		v.Label = line(o.ID, 80)
	}
	return v
}

func answered(a chat.Ask) string {
	what := a.Answer.Option
	for _, o := range a.Options {
		if o.ID == a.Answer.Option {
			what = o.Name
		}
	}
	if what == "" {
		what = "Answered"
	}
	return line(what, 80) + ", by " + author(&a.Answer.Author) + ", " + clock(a.Answer.At)
}
