package chat

import (
	"slices"
	"strings"
)

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// enqueue puts a user's message into the chat and behind the queue.
func (a *applier) enqueue(t *Task, p Pending, detail string) {
	by := p.Author
	a.put(t, Message{ID: p.ID, Kind: KindUser, Author: &by, Text: p.Text, Detail: detail, Closed: true})
	t.Queue = append(t.Queue, p)
}

func (a *applier) say(op *Say) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	switch {
	case op.Message == "":
		return refuse(CodeInvalid, "A message needs an id.")
	case blank(op.Text):
		return refuse(CodeInvalid, "The message is empty.")
	}
	old, known, err := a.message(t.ID, op.Message)
	if err != nil {
		return err
	}
	if known {
		if old.Kind != KindUser {
			return refuse(CodeInvalid, "The id %s belongs to another message.", quote(op.Message))
		}
		return nil // a retry
	}
	if _, err := a.project(t.Project); err != nil {
		return err
	}
	if len(t.Queue) >= MaxQueue {
		return refuse(CodeRefused, "%d messages wait for the agent already.", len(t.Queue))
	}
	t.Archived = false
	a.enqueue(t, Pending{ID: op.Message, Text: op.Text, Author: a.by, At: a.now, Steer: op.Steer}, "")
	if t.State == Idle || t.State == Failed || t.State == Stopped {
		a.wake(t)
	}
	return nil
}

// wake moves a resting task to where its queue is sent from: its workspace if
// one is alive, else a place in the line for one.
func (a *applier) wake(t *Task) {
	t.Stopping = false
	if t.Lease != nil {
		a.move(t, Idle)
	} else {
		a.move(t, Queued)
	}
}

func (a *applier) queueEdit(op *QueueEdit) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(t.Queue, func(p Pending) bool { return p.ID == op.Message })
	m, known, err := a.message(t.ID, op.Message)
	switch {
	case err != nil:
		return err
	case !known:
		return refuse(CodeNotFound, "There is no message %s.", quote(op.Message))
	case i < 0 && m.Turn > 0:
		return refuse(CodeRefused, "The message was sent already, with turn %d.", m.Turn)
	case i < 0:
		return refuse(CodeRefused, "The message does not wait in the queue.")
	case op.Text != nil && blank(*op.Text):
		return refuse(CodeInvalid, "The message is empty; remove it instead.")
	}
	if op.Text != nil {
		t.Queue[i].Text, m.Text = *op.Text, *op.Text
		a.put(t, m)
		return nil
	}
	t.Queue = slices.Delete(t.Queue, i, i+1)
	m.Detail = "Removed by " + a.by.name() + " before it was sent."
	a.put(t, m)
	if len(t.Queue) == 0 && t.State == Queued { // nothing to start a workspace for
		if t.Turns == 0 {
			a.move(t, Draft)
		} else {
			a.move(t, Idle)
		}
	}
	return nil
}
