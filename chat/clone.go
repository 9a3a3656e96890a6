package chat

import (
	"maps"
	"slices"
)

// The copies below share no memory with what they copy; a test walks every
// field.

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func cloneProject(p Project) Project {
	p.Allow = slices.Clone(p.Allow)
	p.Machine.Labels = slices.Clone(p.Machine.Labels)
	return p
}

func cloneTask(t Task) Task {
	t.Failure = clonePtr(t.Failure)
	t.Lease = clonePtr(t.Lease)
	t.Steps = slices.Clone(t.Steps)
	t.Turn = clonePtr(t.Turn)
	t.Queue = slices.Clone(t.Queue)
	t.Asks = slices.Clone(t.Asks)
	for i := range t.Asks {
		t.Asks[i] = cloneAsk(t.Asks[i])
	}
	t.PullRequest = clonePtr(t.PullRequest)
	return t
}

func cloneAsk(k Ask) Ask {
	k.Options = slices.Clone(k.Options)
	k.Fields = slices.Clone(k.Fields)
	for i := range k.Fields {
		k.Fields[i].Choices = slices.Clone(k.Fields[i].Choices)
	}
	if k.Answer != nil {
		k.Answer = new(*k.Answer)
		k.Answer.Values = maps.Clone(k.Answer.Values)
	}
	return k
}

func cloneMessage(m Message) Message {
	m.Author = clonePtr(m.Author)
	if m.Tool != nil {
		m.Tool = new(cloneTool(*m.Tool))
	}
	m.Plan = slices.Clone(m.Plan)
	if m.Ask != nil {
		m.Ask = new(cloneAsk(*m.Ask))
	}
	m.Diff = clonePtr(m.Diff)
	m.Raw = slices.Clone(m.Raw)
	return m
}

func cloneTool(t Tool) Tool {
	t.Locations = slices.Clone(t.Locations)
	t.Diffs = slices.Clone(t.Diffs)
	t.Exit = clonePtr(t.Exit)
	return t
}

func cloneSecret(s Secret) Secret {
	s.Sealed = slices.Clone(s.Sealed)
	return s
}

// Clone returns a copy that shares no memory with the message.
func (m Message) Clone() Message { return cloneMessage(m) }

// Clone returns a copy that shares no memory with the task.
func (t Task) Clone() Task { return cloneTask(t) }

// Clone returns a copy that shares no memory with the project.
func (p Project) Clone() Project { return cloneProject(p) }
