package chat

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is Messages for tests inside the package.
type memory map[messageKey]Message

func (s memory) Get(task TaskID, id string) (Message, bool, error) {
	m, ok := s[messageKey{task, id}]
	return cloneMessage(m), ok, nil
}

func (s memory) Put(m Message) error {
	s[messageKey{m.Task, m.ID}] = cloneMessage(m)
	return nil
}

var testTime = time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)

// setup is a task as it may stand in one state.
type setup struct {
	lease, stopping, queue, ask, delivery, archived, fresh bool
}

// setups are all that the state allows.
func setups(state TaskState) []setup {
	var out []setup
	for bits := range 1 << 7 {
		s := setup{bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0, bits&16 > 0, bits&32 > 0, bits&64 > 0}
		_, leasable := leasable()[state]
		needsLease := slices.Contains([]TaskState{Preparing, Starting, Working, Publishing}, state)
		switch {
		case s.lease && (!leasable || state == Failed), !s.lease && needsLease,
			s.stopping && (!state.active() || !s.lease),
			s.delivery && state != NeedsYou, s.ask && (!s.lease || state == Working || s.delivery),
			s.fresh && (state.active() || state == Idle),
			state == NeedsYou && !s.ask && !s.delivery, state == NeedsYou && !s.lease && !s.delivery,
			!s.queue && (state == Draft):
			continue
		}
		out = append(out, s)
	}
	return out
}

// taskIn is a task in that state, with the messages it refers to.
func taskIn(state TaskState, with setup, m memory) *Task {
	t := &Task{ID: "T", Project: "P", Title: "t", State: state, Since: testTime, Mode: ModeAsk, Turns: 1, Workspace: 1, Seq: 10, Archived: with.archived, Stopping: with.stopping}
	put := func(msg Message) { msg.Task = "T"; m[messageKey{"T", msg.ID}] = msg }
	put(Message{ID: "prompt", Seq: 1, Kind: KindUser, Text: "do it", Turn: 1, Delivery: Delivered})
	t.Turn = &Turn{ID: "turn", Number: 1, Prompt: "prompt", Delivery: Delivered, Began: testTime}
	if state != Working && state != NeedsYou {
		t.Turn.Ended, t.Turn.Stop = testTime, "crashed"
	}
	if with.fresh {
		t.Turns, t.Turn = 0, nil
	}
	if with.lease {
		t.Lease = &Lease{Token: 5, Node: "n", Slot: "s"}
	}
	if with.queue {
		t.Queue = []Pending{{ID: "waiting", Text: "more"}}
		put(Message{ID: "waiting", Seq: 2, Kind: KindUser, Text: "more"})
	}
	if with.ask {
		t.Asks = []Ask{{ID: "ask", Kind: AskPermission, Options: []AskOption{{ID: "yes"}}}}
		put(Message{ID: "ask", Seq: 3, Kind: KindAsk, Workspace: 1, Ask: new(cloneAsk(t.Asks[0]))})
	}
	if with.delivery {
		t.Turn.Delivery = Unknown
		t.Asks = []Ask{{ID: "delivery-turn", Kind: AskDelivery, Options: []AskOption{{ID: "again"}, {ID: "discard"}}}}
		put(Message{ID: "delivery-turn", Seq: 3, Kind: KindAsk, Ask: new(cloneAsk(t.Asks[0]))})
	}
	return t
}

// variants are ops by their names; between them they take every way that an
// op has.
func variants(token uint64) map[string][]Op {
	yes := true
	text := "changed"
	leaderStep := func(name StepName, state StepState) Op {
		return Op{StepSet: &StepSet{Task: "T", Name: name, State: state}}
	}
	items := func(it ...Item) Op {
		return Op{Items: &Items{Task: "T", Token: token, Workspace: 1, Upto: 9, Items: it}}
	}
	note := func(it Item) Op { return Op{Note: &Note{Task: "T", Token: token, Item: it}} }
	openAsk := Item{Ask: &Ask{ID: "new ask", Kind: AskQuestion, Title: "?"}}
	closeAsk := Item{Ask: &Ask{ID: "ask", Closed: "done"}}
	turnEnd := Item{TurnEnd: &TurnEnd{Turn: "turn", Stop: "end_turn"}}
	return map[string][]Op{
		"task_edit":  {{TaskEdit: &TaskEdit{Task: "T", Title: &text}}, {TaskEdit: &TaskEdit{Task: "T", Archived: &yes}}},
		"say":        {{Say: &Say{Task: "T", Message: "new", Text: "x"}}},
		"queue_edit": {{QueueEdit: &QueueEdit{Task: "T", Message: "waiting"}}, {QueueEdit: &QueueEdit{Task: "T", Message: "waiting", Text: &text}}},
		"ask_answer": {
			{AskAnswer: &AskAnswer{Task: "T", Ask: "ask", Answer: Answer{Option: "yes"}}},
			{AskAnswer: &AskAnswer{Task: "T", Ask: "delivery-turn", Answer: Answer{Option: "again"}}},
			{AskAnswer: &AskAnswer{Task: "T", Ask: "delivery-turn", Answer: Answer{Option: "discard"}}},
		},
		"stop":    {{Stop: &Stop{Task: "T"}}, {Stop: &Stop{Task: "T", Force: true}}},
		"retry":   {{Retry: &Retry{Task: "T"}}},
		"release": {{Release: &Release{Task: "T"}}},
		"place":   {{Place: &Place{Task: "T", Node: "n", Slot: "s"}}},
		"expire":  {{Expire: &Expire{Task: "T", Token: token}}},
		"step_set": {
			{StepSet: &StepSet{Task: "T", Token: token, Name: StepAgent, State: StepRunning}},
			{StepSet: &StepSet{Task: "T", Token: token, Name: StepClone, State: StepDone}},
			leaderStep(StepPlace, StepRunning), leaderStep(StepBuy, StepRunning), leaderStep(StepBoot, StepRunning), leaderStep(StepBoot, StepFailed), leaderStep(StepClone, StepRunning),
		},
		"session": {{Session: &Session{Task: "T", Token: token, Session: "s"}}},
		"turn_set": {
			{TurnSet: &TurnSet{Task: "T", Token: token, Turn: "turn-2", Prompt: "waiting", Delivery: Sent}},
			{TurnSet: &TurnSet{Task: "T", Token: token, Turn: "turn", Prompt: "waiting", Delivery: Sent}},
			{TurnSet: &TurnSet{Task: "T", Token: token, Turn: "turn", Delivery: Delivered}},
			{TurnSet: &TurnSet{Task: "T", Token: token, Turn: "turn", Delivery: Unknown}},
		},
		"items":  {items(Item{ID: "a", Kind: KindAgent, Text: "x"}), items(openAsk), items(closeAsk), items(turnEnd)},
		"note":   {note(Item{Kind: KindStatus, Text: "x"}), note(openAsk), note(closeAsk), note(turnEnd)},
		"branch": {{Branch: &Branch{Task: "T", Token: token}}, {Branch: &Branch{Task: "T", Token: token, Done: true}}},
		"end":    {{End: &End{Task: "T", Token: token}}, {End: &End{Task: "T", Token: token, Failure: &Failure{Reason: "broken"}}}},
		"pull":   {{Pull: &Pull{Task: "T", Pull: PullRequest{Number: 1, URL: "u"}}}},
		"kept":   {{Kept: &Kept{Task: "T", Token: token - 1, Workspace: 1, Text: "Kept."}}},
		"visits": {{Visits: &Visits{Task: "T", Visits: []Visit{{ID: "v", Person: "ana@x", By: VisitShell, Began: testTime}}, Line: &Line{ID: "stay", Text: "Ana is here."}}}},
	}
}

// TestEveryStateTakesOrRefusesEveryOp walks each state with each op in each
// way a task may stand there: what is listed in moves happens and nothing else
// does.
func TestEveryStateTakesOrRefusesEveryOp(t *testing.T) {
	ops := variants(5)
	if got, want := slices.Sorted(maps.Keys(ops)), slices.Sorted(maps.Keys(moves)); !slices.Equal(got, want) {
		t.Fatalf("ops tested = %v, moves has %v", got, want)
	}
	for _, from := range states {
		for name, list := range ops {
			t.Run(fmt.Sprintf("%s when %s", name, from), func(t *testing.T) {
				seen := map[TaskState]bool{}
				taken := false
				for _, with := range setups(from) {
					for _, op := range list {
						to, err := applyOne(t, from, with, op)
						checkMove(t, name, from, to, with, err)
						seen[to] = true
						taken = taken || err == nil
					}
				}
				to, listed := moves[name][from]
				if listed && from != Failed && !taken {
					t.Error("listed, but refused in every way")
				}
				for _, s := range to {
					if !seen[s] {
						t.Errorf("the move to %s is listed, but nothing makes it", s)
					}
				}
			})
		}
	}
}

// applyOne applies the op to a task in that state and returns where it is
// after, with the refusal.
func applyOne(t *testing.T, from TaskState, with setup, op Op) (TaskState, error) {
	t.Helper()
	m := memory{}
	s := NewState()
	s.projects.put("P", &Project{ID: "P", Name: "p"})
	task := taskIn(from, with, m)
	s.tasks.put("T", task)
	s.Commit()
	by := Author{Person: "ana@x"}
	if op.Visits != nil {
		by = Author{Node: "n"}
	}
	if err := s.Apply(9, testTime.Add(time.Hour), Command{Version: 1, ID: "c", Author: by, Op: op}, m); err != nil {
		t.Fatal(err)
	}
	out, _ := s.Outcome("c")
	got, _ := s.Task("T")
	if out.Code != CodeNone && got.Index != task.Index {
		t.Errorf("%+v: refused (%s), but the task changed", with, out.Text)
	}
	checkTask(t, got, with)
	return got.State, out.Err()
}

// checkMove compares what happened with the table.
func checkMove(t *testing.T, op string, from, to TaskState, with setup, err error) {
	t.Helper()
	allowed, listed := moves[op][from]
	switch {
	case !listed && err == nil:
		t.Errorf("%+v: taken, but not listed", with)
	case err != nil && to != from:
		t.Errorf("%+v: refused and moved to %s", with, to)
	case to != from && !slices.Contains(allowed, to):
		t.Errorf("%+v: moved to %s, which is not listed", with, to)
	}
	if err != nil && (!strings.HasSuffix(err.Error(), ".") || len(err.Error()) < 15 || errors.Unwrap(err) == nil) {
		t.Errorf("%+v: the refusal %q is no sentence", with, err)
	}
}

// checkTask holds what is true of every task.
func checkTask(t *testing.T, task Task, with any) {
	t.Helper()
	_, leasable := leasable()[task.State]
	open := task.Turn.open()
	waits := task.waits()
	switch {
	case task.Lease != nil && (!leasable || task.State == Failed):
		t.Errorf("%+v: %s with a lease", with, task.State)
	case task.Lease == nil && slices.Contains([]TaskState{Preparing, Starting, Working, Publishing}, task.State):
		t.Errorf("%+v: %s without a lease", with, task.State)
	case open != (task.State == Working || task.State == NeedsYou):
		t.Errorf("%+v: %s, and a turn is open: %v", with, task.State, open)
	case task.State == NeedsYou && !waits:
		t.Errorf("%+v: needs you for nothing", with)
	case task.State == Working && waits:
		t.Errorf("%+v: working with an open question", with)
	case task.Lease == nil && len(task.Asks) > 0 && task.State != NeedsYou:
		t.Errorf("%+v: %s without a workspace and with questions", with, task.State)
	case task.Stopping && !task.State.active():
		t.Errorf("%+v: %s and stopping", with, task.State)
	case (task.State == Failed) != (task.Failure != nil) && with == nil:
		t.Errorf("%s with failure %v", task.State, task.Failure)
	}
}

func TestDeadlinesNest(t *testing.T) {
	for name, c := range map[string]struct {
		outer time.Duration
		inner []time.Duration
	}{
		"start":   {DeadlineStart(), []time.Duration{sum(startSteps), DeadlinePrepare(), Deadline(StepAgent)}},
		"prepare": {DeadlinePrepare(), []time.Duration{sum(prepareSteps)}},
		"agent":   {Deadline(StepAgent), []time.Duration{DeadlineInitialize, DeadlineSession}},
		"turn":    {DeadlineTurn, []time.Duration{DeadlineStart(), DeadlineCancel}},
	} {
		var inner time.Duration
		for _, d := range c.inner {
			inner += d
		}
		if c.outer <= inner {
			t.Errorf("%s: the outer deadline %v is not above its parts, %v", name, c.outer, inner)
		}
	}
	if n := len(startSteps) + len(prepareSteps) + 1; n != len(deadlines) {
		t.Errorf("%d steps are in an order, %d have a deadline", n, len(deadlines))
	}
	for step, d := range deadlines {
		if d <= 0 {
			t.Errorf("%s has no deadline", step)
		}
	}
}
