package chat

import (
	"maps"
	"slices"
	"strings"
)

// moves says, for each op on a task, in which states it is taken and which
// states it may lead to beside the one it found. In a state that is not
// listed it is refused. The test walks every pair.
var moves = map[string]map[TaskState][]TaskState{
	"task_edit": with(everywhere(), map[TaskState][]TaskState{ // archiving stops
		Queued: {Stopped}, Placing: {Stopped}, Buying: {Stopped}, Booting: {Stopped}, Preparing: {Stopped}, Starting: {Stopped},
		Working: {Stopped}, NeedsYou: {Stopped}, Publishing: {Stopped},
	}),
	"say":        with(everywhere(), map[TaskState][]TaskState{Idle: {Queued}, Failed: {Queued}, Stopped: {Queued, Idle}}),
	"queue_edit": with(everywhere(), map[TaskState][]TaskState{Queued: {Draft, Idle}}),
	"ask_answer": {Preparing: {}, Starting: {}, NeedsYou: {Working, Queued, Idle, Stopped}, Publishing: {}, Idle: {}, Stopped: {}},
	"stop": with(everywhere(), map[TaskState][]TaskState{
		Queued: {Stopped}, Placing: {Stopped}, Buying: {Stopped}, Booting: {Stopped}, Preparing: {Stopped}, Starting: {Stopped},
		Working: {Stopped}, NeedsYou: {Stopped}, Publishing: {Stopped},
	}),
	"retry":   {Draft: {Queued}, Failed: {Queued}, Stopped: {Queued, Idle}, Idle: {Queued}},
	"release": {Idle: {}, Stopped: {}, Failed: {}},

	"place": {Queued: {Preparing}, Placing: {Preparing}, Buying: {Preparing}, Booting: {Preparing}},
	"expire": with(leasable(), map[TaskState][]TaskState{
		Preparing: {Queued}, Starting: {Queued}, Publishing: {Queued, Stopped},
		Working: {NeedsYou, Stopped}, NeedsYou: {Stopped}, Idle: {Queued},
	}),
	"step_set": with(leasable(), map[TaskState][]TaskState{
		Queued: {Placing, Buying, Booting}, Placing: {Queued, Buying, Booting}, Buying: {Queued, Placing, Booting}, Booting: {Queued, Placing, Buying},
		Preparing: {Starting},
	}),
	"session":  leasable(),
	"turn_set": {Starting: {Working, NeedsYou}, Idle: {Working, NeedsYou}, Working: {NeedsYou}, NeedsYou: {Working}, Publishing: {}},
	"items":    with(leasable(), map[TaskState][]TaskState{Working: {NeedsYou, Publishing}, NeedsYou: {Working, Publishing}}),
	"note":     with(leasable(), map[TaskState][]TaskState{Working: {NeedsYou, Publishing}, NeedsYou: {Working, Publishing}}),
	"branch":   with(leasable(), map[TaskState][]TaskState{Preparing: {Idle}, Starting: {Idle}, Publishing: {Idle, Stopped}}),
	"end": with(leasable(), map[TaskState][]TaskState{
		Preparing: {Queued, Failed}, Starting: {Queued, Failed}, Working: {NeedsYou, Stopped, Failed}, NeedsYou: {Stopped, Failed},
		Publishing: {Queued, Stopped, Failed}, Idle: {Queued, Failed}, Stopped: {Failed}, Failed: {},
	}),
	"pull":   everywhere(),
	"kept":   everywhere(),
	"visits": everywhere(),
}

// states are all of them, in the order of a task's life.
var states = []TaskState{Draft, Queued, Placing, Buying, Booting, Preparing, Starting, Working, NeedsYou, Publishing, Idle, Failed, Stopped}

func everywhere() map[TaskState][]TaskState {
	rows := map[TaskState][]TaskState{}
	for _, s := range states {
		rows[s] = nil
	}
	return rows
}

// leasable are the states in which a task may hold a lease.
func leasable() map[TaskState][]TaskState {
	rows := map[TaskState][]TaskState{}
	for _, s := range []TaskState{Preparing, Starting, Working, NeedsYou, Publishing, Idle, Failed, Stopped} {
		rows[s] = nil
	}
	return rows
}

func with(rows, more map[TaskState][]TaskState) map[TaskState][]TaskState {
	maps.Copy(rows, more)
	return rows
}

// takes refuses an op that the task's state does not allow.
func (a *applier) takes(t *Task, op string) error {
	if _, ok := moves[op][t.State]; ok {
		return nil
	}
	var in []string
	for _, s := range states {
		if _, ok := moves[op][s]; ok {
			in = append(in, s.words())
		}
	}
	return refuse(CodeRefused, "The task is %s; %s is possible when it is %s.", t.State.words(), opWords(op), strings.Join(in, ", "))
}

// words is the state in a sentence.
func (s TaskState) words() string {
	if s == NeedsYou {
		return "waiting for an answer"
	}
	return string(s)
}

// active reports whether a person would call the task running: Stop means
// something there.
func (s TaskState) active() bool {
	return slices.Contains([]TaskState{Working, NeedsYou, Publishing}, s)
}

// starting reports whether the task is on its way to its agent.
func (s TaskState) starting() bool {
	return slices.Contains([]TaskState{Queued, Placing, Buying, Booting, Preparing, Starting}, s)
}

// Waits tells whether a task in this state waits for a slot.
func (s TaskState) Waits() bool {
	return slices.Contains([]TaskState{Queued, Placing, Buying, Booting}, s)
}

func opWords(op string) string { return strings.ReplaceAll(op, "_", " ") }
