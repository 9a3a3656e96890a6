package ui

import (
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// stepper is a start of the task as a list of lines.
type stepper struct {
	Show    bool
	Order   uint64 // its place among the messages, see itemOrder
	Folded  string // "Started in 3.1 s on fsn1-07"; empty while it runs
	Lines   []stepLine
	Failure *failure
	Waiting string // while queued and nothing runs
}

type stepLine struct {
	Name     string
	State    string // done, running, failed, waiting
	Inner    bool
	Began    time.Time
	Took     string
	Usual    string
	Deadline string
	Slow     bool // half over the usual time
	Attempt  int
	Note     string
	Log      string
}

type failure struct {
	Title, Reason, Detail string
	Retryable             bool
}

var stepTitles = map[chat.StepName]string{
	chat.StepPlace: "Place", chat.StepBuy: "Buy", chat.StepBoot: "Boot",
	chat.StepMirror: "Fetch mirror", chat.StepClone: "Clone", chat.StepImage: "Image",
	chat.StepContainer: "Container", chat.StepHooks: "Hooks", chat.StepAgent: "Start agent",
}

func stepTitle(n chat.StepName) string {
	if title, ok := stepTitles[n]; ok {
		return title
	}
	return line(string(n), 40)
}

func newStepper(t chat.Task, now time.Time) stepper {
	starting := groupOf(t) == "starting"
	v := stepper{Show: len(t.Steps) > 0 || starting || t.State == chat.Failed}
	v.Order = itemOrder(1) + 1 // behind the request
	switch {
	case t.Turns > 0 && (starting || t.State == chat.Failed):
		v.Order = itemOrder(t.Seq+1) + 1 // at the end: the reader waits for it
	case t.Turns > 1 && t.Turn != nil && t.Workspace > 1:
		v.Order = itemOrder(t.Turn.FromSeq) + 1
	}
	for _, step := range t.Steps {
		v.Lines = append(v.Lines, newStepLine(step, now))
	}
	if t.Failure != nil && t.State == chat.Failed {
		v.Failure = newFailure(*t.Failure)
		v.markFailed(t.Failure.Step)
	}
	if starting && !v.running() {
		v.Waiting = "Waiting for a slot"
	}
	if !starting && v.Failure == nil && len(t.Steps) > 0 {
		v.Folded = folded(t)
	}
	return v
}

func (v *stepper) markFailed(name chat.StepName) {
	for i := range v.Lines {
		if v.Lines[i].Name == stepTitle(name) {
			v.Lines[i].State, v.Lines[i].Note = "failed", "" // the reason is below
		}
	}
}

func (v *stepper) running() bool {
	for _, l := range v.Lines {
		if l.State == "running" {
			return true
		}
	}
	return false
}

func newStepLine(step chat.Step, now time.Time) stepLine {
	l := stepLine{
		Name: stepTitle(step.Name), State: string(step.State), Inner: strings.HasPrefix(string(step.Name), "prepare."),
		Began: step.Began, Attempt: step.Attempt, Note: line(step.Note, 200),
	}
	end := step.Ended
	if end.IsZero() {
		end = now
	}
	took := end.Sub(step.Began)
	l.Took = length(took)
	if step.State == chat.StepDone {
		return l
	}
	l.Log = line(step.Log, 300)
	if usual := time.Duration(step.Usual) * time.Millisecond; usual > 0 {
		l.Usual = "usually " + length(usual)
		l.Slow = took > usual*3/2
	}
	if !step.Deadline.IsZero() && step.State == chat.StepRunning {
		l.Deadline = length(step.Deadline.Sub(step.Began))
	}
	return l
}

func newFailure(f chat.Failure) *failure {
	v := &failure{Title: "The turn failed", Reason: visible(f.Reason), Detail: visible(f.Detail), Retryable: f.Retryable}
	if f.Step != "" {
		v.Title = stepTitle(f.Step) + " failed"
	}
	return v
}

// folded is the one line that a finished start becomes.
func folded(t chat.Task) string {
	first, last := t.Steps[0].Began, time.Time{}
	for _, step := range t.Steps {
		if step.Ended.After(last) {
			last = step.Ended
		}
	}
	text := "Started"
	if !last.IsZero() {
		text += " in " + length(last.Sub(first))
	}
	if t.Lease != nil {
		text += " on " + string(t.Lease.Node)
	}
	if t.Workspace > 1 {
		text += ", workspace " + strconv.Itoa(t.Workspace)
	}
	return text
}
