package chat

import (
	"slices"
	"time"
)

// usualSamples are the durations kept of one step in one project; usualLeast
// is how many it takes to call something usual.
const (
	usualSamples = 20
	usualLeast   = 5
)

func usualKey(p ProjectID, step StepName) string { return string(p) + "/" + string(step) }

func (a *applier) stepSet(op *StepSet) error {
	if !slices.Contains([]StepState{StepRunning, StepDone, StepFailed}, op.State) || op.Name == "" {
		return refuse(CodeInvalid, "A step has a name and is running, done or failed.")
	}
	t, err := a.stepTask(op)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(t.Steps, func(s Step) bool { return s.Name == op.Name })
	if i < 0 {
		if len(t.Steps) >= 50 {
			return refuse(CodeRefused, "The task has %d steps already.", len(t.Steps))
		}
		t.Steps = append(t.Steps, Step{Name: op.Name})
		i = len(t.Steps) - 1
	}
	step := &t.Steps[i]
	if step.Began.IsZero() || op.State == StepRunning && step.State != StepRunning {
		a.beginStep(t, step, op)
	}
	step.Note = or(line(op.Note, 500), step.Note)
	step.Log = or(line(op.Log, 500), step.Log)
	if op.State != StepRunning {
		a.endStep(t, i, op.State)
	}
	if op.Name == StepAgent && t.State == Preparing {
		a.move(t, Starting)
	}
	return nil
}

// stepTask finds the task and checks who may report the step: the holder of
// the lease, or the leader before there is one.
func (a *applier) stepTask(op *StepSet) (*Task, error) {
	if op.Token != 0 {
		return a.leased(op.Task, op.Token, "step_set")
	}
	t, err := a.task(op.Task)
	if err != nil {
		return nil, err
	}
	if t.Lease != nil {
		return nil, refuse(CodeStale, "The task has a lease on %s; its node reports the steps.", t.Lease.Node)
	}
	early := map[StepName]TaskState{StepPlace: Placing, StepBuy: Buying, StepBoot: Booting}
	to, ok := early[op.Name]
	if !ok || !slices.Contains([]TaskState{Queued, Placing, Buying, Booting}, t.State) {
		return nil, refuse(CodeRefused, "The task is %s and has no lease; the step %s belongs to one.", t.State.words(), quote(string(op.Name)))
	}
	if t.State == Queued {
		t.Steps = nil // a new start
	}
	switch op.State {
	case StepRunning:
		a.move(t, to)
	case StepFailed:
		a.move(t, Queued)
	case StepDone:
	}
	return t, nil
}

func (a *applier) beginStep(t *Task, step *Step, op *StepSet) {
	step.State, step.Began, step.Ended = StepRunning, a.now, time.Time{}
	step.Attempt++
	step.Log = ""
	step.Deadline = time.Time{}
	d := op.Deadline
	if d <= 0 || d > DeadlineTurn {
		d = Deadline(op.Name)
	}
	if d > 0 {
		step.Deadline = a.now.Add(d)
	}
	step.Usual = a.s.usualOf(t.Project, op.Name)
}

// endStep ends a running step and remembers how long a done one took.
func (a *applier) endStep(t *Task, i int, state StepState) {
	step := &t.Steps[i]
	if step.State != StepRunning {
		if state == StepFailed {
			step.State = StepFailed
		}
		return
	}
	step.State, step.Ended = state, a.now
	if state != StepDone {
		return
	}
	key := usualKey(t.Project, step.Name)
	old, _ := a.s.usual.get(key)
	last := append(slices.Clone(old), a.now.Sub(step.Began).Milliseconds())
	a.s.usual.put(key, last[max(0, len(last)-usualSamples):])
}

// usualOf is the median of the last runs in milliseconds, 0 below 5.
func (s *State) usualOf(p ProjectID, step StepName) int64 {
	samples, _ := s.usual.get(usualKey(p, step))
	if len(samples) < usualLeast {
		return 0
	}
	samples = slices.Sorted(slices.Values(samples))
	return samples[len(samples)/2]
}

func (a *applier) session(op *Session) error {
	t, err := a.leased(op.Task, op.Token, "session")
	if err != nil {
		return err
	}
	if len(op.Session) > 1000 || badRef(op.Base) {
		return refuse(CodeInvalid, "The session's id or base branch is not one.")
	}
	t.Session = or(op.Session, t.Session)
	t.Base = or(op.Base, t.Base)
	if !t.Titled && !blank(op.Title) {
		t.Title = titleOf(op.Title)
	}
	return nil
}
