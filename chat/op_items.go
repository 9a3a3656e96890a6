package chat

import (
	"fmt"
	"math"
)

func (a *applier) items(op *Items) error {
	t, err := a.leased(op.Task, op.Token, "items")
	switch {
	case err != nil:
		return err
	case op.Workspace != t.Workspace:
		return refuse(CodeStale, "The items are of workspace %d; the task is in workspace %d.", op.Workspace, t.Workspace)
	case op.Upto <= t.Cursor:
		return nil // they are in the log already
	case op.From > t.Cursor:
		return refuse(CodeRefused, "The journal records %d to %d are missing; send from %d.", t.Cursor+1, op.From, t.Cursor)
	}
	for _, it := range op.Items {
		counted := it.Source <= t.Cursor && op.From < t.Cursor // before, in another batch
		if err := a.item(t, it, counted); err != nil {
			return err
		}
	}
	t.Cursor = op.Upto
	return nil
}

func (a *applier) note(op *Note) error {
	t, err := a.leased(op.Task, op.Token, "note")
	if err != nil {
		return err
	}
	return a.item(t, op.Item, false)
}

// item applies one item: the message it changes, and what it does to the task.
func (a *applier) item(t *Task, it Item, counted bool) error {
	if it.Usage != nil && !counted {
		a.use(t, *it.Usage)
	}
	switch {
	case it.Ask != nil:
		if err := a.itemAsk(t, it); err != nil {
			return err
		}
	case it.Kind != "":
		if err := a.itemMessage(t, it); err != nil {
			return err
		}
	}
	if it.TurnEnd != nil {
		return a.turnEnd(t, *it.TurnEnd)
	}
	return nil
}

// itemAsk opens an ask, or closes one that was answered or needs no answer.
func (a *applier) itemAsk(t *Task, it Item) error {
	k := *it.Ask
	k.ID, k.Tool = shortID(or(k.ID, it.ID)), shortID(k.Tool)
	if k.ID == "" {
		return refuse(CodeInvalid, "A question needs an id.")
	}
	if k.Closed == "" && !it.Closed {
		return a.openAsk(t, k)
	}
	if err := a.closeAsk(t, k.ID, or(line(k.Closed, 200), noLongerNeeded)); err != nil {
		return err
	}
	a.settle(t)
	return nil
}

// itemMessage merges the item into its message.
func (a *applier) itemMessage(t *Task, it Item) error {
	if it.Kind == KindUser || it.Kind == KindAsk { // only people and asks make these
		it.Kind = KindRaw
	}
	m, err := a.itemTarget(t, it)
	if err != nil {
		return err
	}
	moved, err := appendText(&m, it)
	if err != nil {
		return err
	}
	if it.Tool != nil {
		moved = mergeTool(&m, *it.Tool) || moved
	}
	mergeRest(&m, it)
	a.put(t, m)
	if moved && it.Kind != KindStatus && it.Kind != KindError {
		t.Progress = a.now
	}
	return nil
}

// itemTarget is the message an item belongs to, or a new one. An id that
// belongs to something else, or to an earlier workspace, gets a name of its
// own: what an agent says never changes what others said.
func (a *applier) itemTarget(t *Task, it Item) (Message, error) {
	id := shortID(it.ID)
	if id == "" {
		id = fmt.Sprintf("item-%d-%d", t.Workspace, it.Source)
	}
	for {
		m, known, err := a.message(t.ID, id)
		if err != nil {
			return Message{}, err
		}
		if known && (m.Kind != it.Kind || m.Workspace != t.Workspace) {
			id = shortID(fmt.Sprintf("w%d:%s:%s", t.Workspace, cutEnd(string(it.Kind), 20), id))
			continue
		}
		if !known {
			by := a.by
			m = Message{ID: id, Kind: it.Kind, Author: &by, Workspace: t.Workspace, Source: it.Source, Turn: t.Turns}
		}
		return m, nil
	}
}

// use adds to the turn's and the task's counters.
func (a *applier) use(t *Task, u Usage) {
	addUsage(&t.Usage, u)
	if t.Turn.open() {
		addUsage(&t.Turn.Usage, u)
	}
}

func addUsage(to *Usage, u Usage) {
	to.Input = addCapped(to.Input, u.Input)
	to.Output = addCapped(to.Output, u.Output)
	to.Cached = addCapped(to.Cached, u.Cached)
	to.Cost = addCapped(to.Cost, u.Cost)
	if u.Context > 0 {
		to.Context = u.Context
	}
	if u.ContextMax > 0 {
		to.ContextMax = u.ContextMax
	}
}

// addCapped never goes down and never overflows.
func addCapped(a, b int64) int64 {
	if b < 0 {
		return a
	}
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// turnEnd ends the current turn; one that is not current changes nothing.
func (a *applier) turnEnd(t *Task, end TurnEnd) error {
	if !t.Turn.open() || t.Turn.ID != end.Turn {
		return nil
	}
	if t.Turn.Delivery != Delivered { // what has ended was there
		t.Turn.Delivery = Delivered
		if err := a.deliver(t, t.Turn.Prompt, Delivered); err != nil {
			return err
		}
	}
	a.endTurn(t, or(line(end.Stop, MaxName), "end_turn"))
	if err := a.closeAsksBut(t, budgetAsk(t)); err != nil {
		return err
	}
	a.move(t, Publishing)
	return nil
}
