package chat

import "slices"

func (a *applier) stop(op *Stop) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	return a.stopTask(t, op.Force)
}

// stopTask asks a working task's node to cancel the turn; whatever has no
// turn, or whose node was asked before, is stopped here and now.
func (a *applier) stopTask(t *Task, force bool) error {
	switch {
	case t.State.starting():
		return a.stopNow(t, "Stopped by "+a.by.name()+".")
	case !t.State.active():
		return nil // draft, idle, failed, stopped: nothing runs
	case t.Lease == nil:
		return a.stopNow(t, "Stopped by "+a.by.name()+".")
	case t.Stopping || force:
		return a.stopNow(t, "Stopped. "+string(t.Lease.Node)+" did not answer; its token is void.")
	}
	t.Stopping = true
	return nil
}

// stopNow ends lease and turn without the node.
func (a *applier) stopNow(t *Task, text string) error {
	if t.Turn.open() {
		if err := a.deliver(t, t.Turn.Prompt, Unknown); err != nil {
			return err
		}
		t.Turn.Delivery = Unknown
		a.endTurn(t, "cancelled")
	}
	if err := a.closeAsks(t); err != nil {
		return err
	}
	t.Lease, t.Stopping = nil, false
	a.move(t, Stopped)
	return a.status(t, "info", text)
}

// properEnds are the stop reasons after which there is nothing to do again.
var properEnds = []string{"end_turn", "max_tokens", "max_turn_requests", "refusal", "discarded"}

func (a *applier) retry(op *Retry) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	if err := a.takes(t, "retry"); err != nil {
		return err
	}
	if _, err := a.project(t.Project); err != nil {
		return err
	}
	if t.State == Draft {
		if len(t.Queue) == 0 {
			return refuse(CodeRefused, "The draft has no message; write one first.")
		}
		a.move(t, Queued)
		return nil
	}
	if t.State == Idle && t.Lease != nil {
		return refuse(CodeRefused, "The task is idle and its workspace is alive; write a message to go on.")
	}
	if t.State != Idle && len(t.Queue) == 0 && t.Turn != nil && !slices.Contains(properEnds, t.Turn.Stop) {
		if err := a.sendAgain(t, "retry-"+itoa(a.index), "Retry of turn "+itoa(uint64(t.Turn.Number))); err != nil {
			return err
		}
	}
	t.Archived = false
	a.wake(t)
	return nil
}

// sendAgain queues the prompt of the last turn before everything else, as a
// message of its own.
func (a *applier) sendAgain(t *Task, id, detail string) error {
	prompt, known, err := a.message(t.ID, t.Turn.Prompt)
	if err != nil {
		return err
	}
	if !known {
		return refuse(CodeNotFound, "The prompt of turn %d is not in the history any more.", t.Turn.Number)
	}
	if id, err = a.freeID(t.ID, id); err != nil {
		return err
	}
	a.enqueue(t, Pending{ID: id, Text: prompt.Text, Author: a.by, At: a.now}, detail+" ("+prompt.ID+").")
	last := len(t.Queue) - 1
	t.Queue = append([]Pending{t.Queue[last]}, t.Queue[:last]...)
	return nil
}

func (a *applier) release(op *Release) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	if err := a.takes(t, "release"); err != nil {
		return err
	}
	if t.Lease == nil {
		return refuse(CodeRefused, "The task has no workspace to release.")
	}
	if t.State == Idle && len(t.Queue) > 0 {
		return refuse(CodeRefused, "A message waits for the agent; the workspace is needed.")
	}
	t.Lease = nil
	return a.closeAsks(t)
}
