package chat

import (
	"slices"
	"strconv"
)

func (a *applier) place(op *Place) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	if t.Lease != nil {
		return refuse(CodeRefused, "The task has a lease on %s already.", t.Lease.Node)
	}
	if err := a.takes(t, "place"); err != nil {
		return err
	}
	if _, err := a.project(t.Project); err != nil {
		return err
	}
	a.placeStep(t, line(op.Note, 500))
	t.Lease = &Lease{Token: a.index, Node: op.Node, Slot: op.Slot, Since: a.now}
	t.Home = op.Node
	t.Workspace++
	t.Cursor = 0
	a.move(t, Preparing)
	if t.Workspace == 1 {
		return nil
	}
	return a.status(t, "info", "Workspace "+strconv.Itoa(t.Workspace)+" starts on "+string(op.Node)+".")
}

// placeStep begins the stepper of a new start with one done line; a start
// that was reported from before (buy, boot) keeps its lines.
func (a *applier) placeStep(t *Task, note string) {
	place := Step{Name: StepPlace, State: StepDone, Began: a.now, Ended: a.now, Attempt: 1, Deadline: a.now.Add(Deadline(StepPlace)), Note: note}
	if t.State == Queued {
		t.Steps = []Step{place}
		return
	}
	for i := range t.Steps {
		if t.Steps[i].State == StepRunning {
			a.endStep(t, i, StepDone)
		}
	}
	if i := slices.IndexFunc(t.Steps, func(s Step) bool { return s.Name == StepPlace }); i >= 0 {
		t.Steps[i].Note = or(note, t.Steps[i].Note)
		return
	}
	t.Steps = append([]Step{place}, t.Steps...)
}

func (a *applier) expire(op *Expire) error {
	t, err := a.leased(op.Task, op.Token, "expire")
	if err != nil {
		return err
	}
	reason := or(line(op.Reason, 500), "The lease on "+string(t.Lease.Node)+" ran out.")
	if err := a.loseLease(t); err != nil {
		return err
	}
	return a.status(t, "warn", reason)
}

// loseLease takes the lease away from a task that did not fail. A turn whose
// end nobody saw is never replayed: a person decides.
func (a *applier) loseLease(t *Task) error {
	t.Lease = nil
	switch {
	case t.Turn.open() && t.Stopping:
		a.endTurn(t, "cancelled")
		fallthrough
	case t.Stopping:
		t.Stopping = false
		a.move(t, Stopped)
		return a.closeAsks(t)
	case t.Turn.open():
		return a.turnUnknown(t)
	case t.State == Idle && len(t.Queue) == 0, t.State == Failed, t.State == Stopped:
		return a.closeAsks(t) // at rest, and nothing to start a workspace for
	}
	if err := a.closeAsks(t); err != nil {
		return err
	}
	a.move(t, Queued)
	return nil
}

func (a *applier) end(op *End) error {
	t, err := a.leased(op.Task, op.Token, "end")
	if err != nil {
		return err
	}
	if op.Failure == nil {
		if err := a.loseLease(t); err != nil {
			return err
		}
		if blank(op.Reason) {
			return nil
		}
		return a.status(t, "info", line(op.Reason, 500))
	}
	return a.fail(t, *op.Failure)
}

// fail ends the lease with a failure that people see.
func (a *applier) fail(t *Task, f Failure) error {
	f.Reason = or(line(f.Reason, 1000), "The task failed.")
	f.Detail, _ = cutMiddle(clean(f.Detail), MaxBody/4)
	if i := slices.IndexFunc(t.Steps, func(s Step) bool { return s.Name == f.Step }); i >= 0 {
		a.endStep(t, i, StepFailed)
	}
	if t.Turn.open() {
		if t.Turn.Delivery == Sent {
			t.Turn.Delivery = Unknown
			if err := a.deliver(t, t.Turn.Prompt, Unknown); err != nil {
				return err
			}
		}
		a.endTurn(t, "crashed")
	}
	if err := a.closeAsks(t); err != nil {
		return err
	}
	t.Lease, t.Stopping = nil, false
	a.move(t, Failed)
	t.Failure = &f
	id, err := a.freeID(t.ID, "error-"+itoa(a.index))
	if err != nil {
		return err
	}
	by := a.by
	a.put(t, Message{ID: id, Kind: KindError, Author: &by, Workspace: t.Workspace, Turn: t.Turns, Text: f.Reason, Detail: f.Detail, Closed: true})
	return nil
}
