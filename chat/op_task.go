package chat

func (a *applier) taskCreate(op *TaskCreate) error {
	p, err := a.project(op.Project)
	if err != nil {
		return err
	}
	if _, taken := a.s.tasks.get(op.ID); taken {
		return refuse(CodeRefused, "There is a task with the id %s already.", op.ID)
	}
	t := &Task{
		ID: op.ID, Project: p.ID, Title: titleOf(op.Text), Author: a.by, Created: a.now,
		Agent: or(op.Agent, or(p.Agent, "script")), Model: cutChars(op.Model, MaxName), Mode: or(op.Mode, p.Mode), Base: or(op.Base, p.Branch),
		Branch: branchOf(titleOf(op.Text), op.ID), State: Queued, Since: a.now,
	}
	switch {
	case op.ID == "" || op.Message == "":
		return refuse(CodeInvalid, "A task and its first message need ids.")
	case blank(op.Text):
		return refuse(CodeInvalid, "Say what the task is.")
	case !validMode(t.Mode):
		return refuse(CodeInvalid, "%s is no mode; there are plan, ask, acceptEdits and everything.", quote(string(t.Mode)))
	case badRef(t.Base):
		return refuse(CodeInvalid, "%s is no branch name.", quote(t.Base))
	}
	if op.Draft {
		t.State = Draft
	}
	a.enqueue(a.own(t), Pending{ID: op.Message, Text: op.Text, Author: a.by, At: a.now}, "")
	return nil
}

func (a *applier) taskEdit(op *TaskEdit) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	if err := a.editTitle(t, op.Title); err != nil {
		return err
	}
	if op.Model != nil {
		t.Model = line(*op.Model, MaxName)
	}
	if err := a.editMode(t, op.Mode); err != nil {
		return err
	}
	if op.Archived == nil {
		return nil
	}
	t.Archived = *op.Archived
	if !t.Archived {
		return nil
	}
	return a.archive(t)
}

func (a *applier) editTitle(t *Task, title *string) error {
	if title == nil {
		return nil
	}
	if blank(*title) {
		return refuse(CodeInvalid, "A title is not empty.")
	}
	t.Title, t.Titled = titleOf(*title), true
	return nil
}

func (a *applier) editMode(t *Task, mode *Mode) error {
	switch {
	case mode == nil || *mode == t.Mode:
		return nil
	case !validMode(*mode):
		return refuse(CodeInvalid, "%s is no mode; there are plan, ask, acceptEdits and everything.", quote(string(*mode)))
	}
	t.Mode = *mode
	return a.status(t, "info", "The mode is "+string(t.Mode)+" now, set by "+a.by.name()+".")
}

// archive stops a task and gives an idle workspace back. A working task is
// stopped by its node; its workspace goes when that is done.
func (a *applier) archive(t *Task) error {
	if t.State.active() || t.State.starting() {
		return a.stopTask(t, false)
	}
	t.Lease, t.Since = nil, a.now
	return a.closeAsks(t)
}
