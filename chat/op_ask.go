package chat

import (
	"slices"
	"strconv"
)

const noLongerNeeded = "No longer needed"

// openAsk puts an ask into chat and task. One with a known id changes
// nothing: a node that sends it again cannot undo an answer.
func (a *applier) openAsk(t *Task, k Ask) error {
	if _, known, err := a.message(t.ID, k.ID); err != nil || known {
		return err
	}
	k = cleanAsk(k)
	k.At = a.now
	a.put(t, Message{ID: k.ID, Kind: KindAsk, Workspace: t.Workspace, Turn: t.Turns, Ask: new(cloneAsk(k))})
	t.Asks = append(t.Asks, k)
	if t.State == Working {
		a.move(t, NeedsYou)
	}
	return nil
}

// cleanAsk cuts what a node sent to what a card can show.
func cleanAsk(k Ask) Ask {
	k = cloneAsk(k)
	k.Answer, k.Closed = nil, ""
	k.Title = cutChars(k.Title, 500)
	k.Detail, _ = cutMiddle(k.Detail, MaxBody/2)
	k.Options = k.Options[:min(len(k.Options), 50)]
	for i, o := range k.Options {
		k.Options[i].Name = cutChars(o.Name, 200)
	}
	k.Fields = k.Fields[:min(len(k.Fields), 50)]
	return k
}

// closeAsks ends every ask of the task that has no answer, and lets go of
// those that have one.
func (a *applier) closeAsks(t *Task) error {
	for len(t.Asks) > 0 {
		if err := a.closeAsk(t, t.Asks[0].ID, noLongerNeeded); err != nil {
			return err
		}
	}
	return nil
}

// closeAsk takes an ask off the task. Its message keeps the answer, or gets
// the reason why none is needed.
func (a *applier) closeAsk(t *Task, id, why string) error {
	i := slices.IndexFunc(t.Asks, func(k Ask) bool { return k.ID == id })
	if i < 0 {
		return nil
	}
	k := t.Asks[i]
	t.Asks = slices.Delete(t.Asks, i, i+1)
	if k.Answer == nil {
		k.Closed = why
	}
	return a.putAsk(t, k, true)
}

// putAsk writes an ask's message.
func (a *applier) putAsk(t *Task, k Ask, closed bool) error {
	m, known, err := a.message(t.ID, k.ID)
	if err != nil || !known {
		return err
	}
	m.Ask, m.Closed = new(cloneAsk(k)), closed
	a.put(t, m)
	return nil
}

// waits reports whether the task asks something that nobody answered.
func (t *Task) waits() bool {
	return slices.ContainsFunc(t.Asks, func(k Ask) bool { return k.Answer == nil })
}

// settle goes back to work when nobody is asked any more.
func (a *applier) settle(t *Task) {
	if t.State == NeedsYou && !t.waits() && t.Lease != nil && t.Turn.open() {
		a.move(t, Working)
	}
}

func (a *applier) askAnswer(op *AskAnswer) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	m, known, err := a.message(t.ID, shortID(op.Ask))
	switch {
	case err != nil:
		return err
	case !known || m.Ask == nil:
		return refuse(CodeNotFound, "There is no question %s.", quote(op.Ask))
	case m.Ask.Answer != nil:
		return refuse(CodeRefused, "%s answered at %s.", m.Ask.Answer.Author.name(), m.Ask.Answer.At.Format("15:04"))
	case m.Ask.Closed != "":
		return refuse(CodeRefused, "The question is closed: %s.", m.Ask.Closed)
	}
	i := slices.IndexFunc(t.Asks, func(k Ask) bool { return k.ID == m.ID })
	if i < 0 {
		return refuse(CodeRefused, "The question is closed: %s.", noLongerNeeded)
	}
	answer := op.Answer
	answer.Author, answer.At = a.by, a.now
	if err := checkAnswer(t.Asks[i], answer); err != nil {
		return err
	}
	k := cloneAsk(t.Asks[i])
	k.Answer = new(answer)
	t.Asks[i] = cloneAsk(k)
	if err := a.putAsk(t, k, false); err != nil {
		return err
	}
	return a.answered(t, k)
}

// answered does what an answer means here; that of a permission or question
// is for the node to hand on.
func (a *applier) answered(t *Task, k Ask) error {
	switch k.Kind {
	case AskDelivery:
		return a.answeredDelivery(t, k)
	case AskBudget:
		return a.answeredBudget(t, k)
	case AskPermission, AskQuestion:
	}
	a.settle(t)
	return nil
}

// budgetAsk is the id of the open ask about the budget, "" if there is none.
// It outlives the turn: the agent ends at once when its model is refused, and
// a person decides later.
func budgetAsk(t *Task) string {
	i := slices.IndexFunc(t.Asks, func(k Ask) bool { return k.Kind == AskBudget && k.Answer == nil })
	if i < 0 {
		return ""
	}
	return t.Asks[i].ID
}

// answeredBudget raises the task's budget, or stops it. A turn that the empty
// budget ended goes on by a message in the person's name.
func (a *applier) answeredBudget(t *Task, k Ask) error {
	if err := a.closeAsk(t, k.ID, ""); err != nil {
		return err
	}
	if k.Answer.Option == "stop" {
		return a.stopTask(t, false)
	}
	t.Budget, _ = strconv.ParseInt(k.Answer.Values["budget"], 10, 64) // checked
	rests := t.State == Idle || t.State == Publishing
	if !rests || t.Lease == nil || len(t.Queue) > 0 || t.Turn == nil || t.Turn.open() {
		a.settle(t)
		return nil
	}
	id, err := a.freeID(t.ID, shortID(k.ID+"-on"))
	if err != nil {
		return err
	}
	a.enqueue(t, Pending{ID: id, Text: "The budget was raised. Go on where you were stopped.", Author: a.by, At: a.now}, "")
	return nil
}

// answeredDelivery ends the turn that nobody knows the fate of.
func (a *applier) answeredDelivery(t *Task, k Ask) error {
	stop := "discarded"
	if k.Answer.Option == "again" {
		stop = "unknown"
		if err := a.sendAgain(t, shortID(k.ID+"-again"), "Sent again, the delivery of turn "+itoa(uint64(t.Turn.Number))+" was unknown"); err != nil {
			return err
		}
	}
	a.endTurn(t, stop)
	if err := a.closeAsks(t); err != nil {
		return err
	}
	switch {
	case t.Stopping:
		t.Stopping = false
		a.move(t, Stopped)
	case t.Lease != nil || len(t.Queue) == 0:
		a.move(t, Idle)
	default:
		a.move(t, Queued)
	}
	return nil
}

// checkAnswer refuses an answer that the ask did not offer.
func checkAnswer(k Ask, answer Answer) error {
	offered := slices.ContainsFunc(k.Options, func(o AskOption) bool { return o.ID == answer.Option })
	if len(k.Options) > 0 && !offered {
		return refuse(CodeInvalid, "%s is not one of the choices.", quote(answer.Option))
	}
	if len(answer.Option) > MaxID*2 || len(answer.Values) > len(k.Fields)+1 {
		return refuse(CodeInvalid, "The answer has more than was asked for.")
	}
	for _, v := range answer.Values {
		if len(v) > MaxBody {
			return refuse(CodeTooLarge, "An answer has at most %d bytes.", MaxBody)
		}
	}
	if k.Kind == AskBudget && answer.Option == "raise" {
		if n, err := strconv.ParseInt(answer.Values["budget"], 10, 64); err != nil || n <= 0 {
			return refuse(CodeInvalid, "Say the new budget as a number above zero.")
		}
		return nil
	}
	if answer.Option == "decline" || answer.Option == "cancel" {
		return nil
	}
	for _, f := range k.Fields {
		if err := checkField(f, answer.Values[f.Name]); err != nil {
			return err
		}
	}
	return nil
}

func checkField(f AskField, v string) error {
	name := quote(or(f.Label, f.Name))
	if v == "" {
		if f.Required {
			return refuse(CodeInvalid, "%s needs an answer.", name)
		}
		return nil
	}
	switch f.Type {
	case "number":
		if _, err := strconv.ParseFloat(v, 64); err != nil {
			return refuse(CodeInvalid, "%s is a number.", name)
		}
	case "boolean":
		if _, err := strconv.ParseBool(v); err != nil {
			return refuse(CodeInvalid, "%s is true or false.", name)
		}
	case "choice":
		if !slices.Contains(f.Choices, v) {
			return refuse(CodeInvalid, "%s is not one of the choices of %s.", quote(v), name)
		}
	}
	return nil
}
