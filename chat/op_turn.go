package chat

import "slices"

func (a *applier) turnSet(op *TurnSet) error {
	t, err := a.leased(op.Task, op.Token, "turn_set")
	if err != nil {
		return err
	}
	if op.Turn == "" {
		return refuse(CodeInvalid, "A turn needs an id.")
	}
	current := t.Turn != nil && t.Turn.ID == op.Turn
	switch op.Delivery {
	case Sent:
		if current && t.Turn.Prompt == op.Prompt {
			return nil // said twice
		}
		return a.turnSent(t, op, current)
	case Delivered:
		if !current {
			return refuse(CodeRefused, "The turn %s is not the task's turn.", quote(string(op.Turn)))
		}
		return a.turnDelivered(t, or(op.Prompt, t.Turn.Prompt))
	case Unknown:
		if !current || !t.Turn.open() {
			return refuse(CodeRefused, "The turn %s is not open.", quote(string(op.Turn)))
		}
		if t.Turn.Delivery == Unknown {
			return nil
		}
		return a.turnUnknown(t)
	}
	return refuse(CodeInvalid, "%s is no delivery; there are sent, delivered and unknown.", quote(string(op.Delivery)))
}

// turnSent takes the prompt out of the queue, as a turn of its own or, with
// the open turn's id, as a part of that.
func (a *applier) turnSent(t *Task, op *TurnSet, steer bool) error {
	i := slices.IndexFunc(t.Queue, func(p Pending) bool { return p.ID == op.Prompt })
	m, known, err := a.message(t.ID, op.Prompt)
	switch {
	case err != nil:
		return err
	case i < 0 && steer && known && m.Turn == t.Turn.Number:
		return nil // said twice
	case i < 0:
		return refuse(CodeRefused, "The message %s does not wait in the queue.", quote(op.Prompt))
	case t.Turn.open() && !steer:
		return refuse(CodeRefused, "Turn %d has not ended.", t.Turn.Number)
	case steer && !t.Turn.open():
		return refuse(CodeRefused, "Turn %d has ended.", t.Turn.Number)
	case t.State == Publishing, t.Stopping:
		return refuse(CodeRefused, "The task is %s; the message waits.", or(map[bool]string{true: "stopping"}[t.Stopping], "publishing"))
	}
	p := t.Queue[i]
	t.Queue = slices.Delete(t.Queue, i, i+1)
	if !steer {
		t.Turns++
	}
	if known {
		m.Delivery, m.Turn = Sent, t.Turns
		a.put(t, m)
	}
	if steer {
		return nil
	}
	t.Turn = &Turn{ID: op.Turn, Number: t.Turns, Prompt: p.ID, Author: p.Author, Delivery: Sent, Began: a.now, FromSeq: m.Seq}
	a.move(t, Working)
	if t.waits() { // asked before the turn began
		a.move(t, NeedsYou)
	}
	return nil
}

// turnDelivered says that the agent has the prompt, also when that was
// unknown for a while.
func (a *applier) turnDelivered(t *Task, prompt string) error {
	if err := a.deliver(t, prompt, Delivered); err != nil {
		return err
	}
	if prompt != t.Turn.Prompt {
		return nil // a message that steers
	}
	t.Turn.Delivery = Delivered
	if !t.Turn.open() {
		return nil
	}
	if err := a.closeAsk(t, deliveryAsk(t), "It was delivered"); err != nil {
		return err
	}
	a.settle(t)
	return nil
}

// deliver notes the delivery on a prompt's message.
func (a *applier) deliver(t *Task, prompt string, d Delivery) error {
	m, known, err := a.message(t.ID, prompt)
	if err != nil || !known || m.Delivery == d {
		return err
	}
	m.Delivery = d
	a.put(t, m)
	return nil
}

// deliveryAsk is the id of the open ask about the turn's delivery, "" if there
// is none.
func deliveryAsk(t *Task) string {
	i := slices.IndexFunc(t.Asks, func(k Ask) bool { return k.Kind == AskDelivery && k.Answer == nil })
	if i < 0 {
		return ""
	}
	return t.Asks[i].ID
}

// turnUnknown asks a person what to do about a prompt of which nobody knows
// whether it ran, or how far. One that is asked about stays so.
func (a *applier) turnUnknown(t *Task) error {
	asked := deliveryAsk(t)
	if err := a.closeAsksBut(t, asked); err != nil {
		return err
	}
	ask := Ask{
		Kind: AskDelivery, Title: "Delivery was interrupted",
		Detail:  "Your message is saved. Delivery was interrupted and we do not know whether it ran. It was not sent again.",
		Options: []AskOption{{ID: "again", Name: "Send again"}, {ID: "discard", Name: "Discard"}},
	}
	if t.Turn.Delivery == Delivered {
		ask.Title = "The turn was interrupted"
		ask.Detail = "Your message is saved. The agent had it, and we did not see how its turn ended. It was not sent again."
	}
	t.Turn.Delivery = Unknown
	if err := a.deliver(t, t.Turn.Prompt, Unknown); err != nil {
		return err
	}
	a.move(t, NeedsYou)
	if asked != "" {
		return nil
	}
	var err error // a turn may be unknown, delivered after all, and unknown again
	if ask.ID, err = a.freeID(t.ID, shortID("delivery-"+string(t.Turn.ID))); err != nil {
		return err
	}
	return a.openAsk(t, ask)
}

func (a *applier) closeAsksBut(t *Task, keep string) error {
	for _, k := range slices.Clone(t.Asks) {
		if k.ID == keep {
			continue
		}
		if err := a.closeAsk(t, k.ID, noLongerNeeded); err != nil {
			return err
		}
	}
	return nil
}

// endTurn ends the open turn.
func (a *applier) endTurn(t *Task, stop string) {
	if t.Turn.open() {
		t.Turn.Ended, t.Turn.Stop = a.now, stop
	}
}
