package chat

func (a *applier) branch(op *Branch) error {
	t, err := a.leased(op.Task, op.Token, "branch")
	if err != nil {
		return err
	}
	merged := t.Change.Merged
	if op.Change.Head != t.Change.Head && op.Change.Files > 0 {
		merged = "" // the follow-up's commits can be merged, too
	}
	t.Change = op.Change
	t.Change.Merged = merged
	if op.Pull != nil {
		a.setPull(t, *op.Pull)
	}
	if t.Turn != nil && !t.Turn.open() && op.Change.Head != "" {
		t.Turn.Head = op.Change.Head
	}
	if !op.Done {
		return nil
	}
	switch {
	case t.State != Publishing && t.State != Preparing && t.State != Starting:
		return nil // said twice
	case t.Stopping:
		t.Stopping = false
		a.move(t, Stopped)
		if err := a.status(t, "info", "Stopped."); err != nil {
			return err
		}
		if t.Archived {
			return a.archive(t)
		}
	default:
		a.move(t, Idle)
	}
	return nil
}

func (a *applier) setPull(t *Task, p PullRequest) {
	p.Title, p.URL = line(p.Title, 300), cutEnd(p.URL, 2000)
	if p.Seen = utc(p.Seen); p.Seen.IsZero() {
		p.Seen = a.now
	}
	t.PullRequest = &p
}

func (a *applier) pull(op *Pull) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	a.setPull(t, op.Pull)
	t.Change.Merged = or(op.Head, t.Change.Merged)
	if op.Note == nil {
		return nil
	}
	note := *op.Note
	note.Kind = or(note.Kind, KindStatus)
	note.Usage, note.TurnEnd, note.Ask = nil, nil, nil // a forge has none of these
	return a.item(t, note, false)
}
