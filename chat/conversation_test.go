package chat_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

var (
	ana, ben, node = chattest.Ana, chattest.Ben, chattest.Node
	epoch          = time.Date(2026, 11, 1, 14, 3, 0, 0, time.UTC)
)

// newKit is a kit with a project and a clock that moves a second per entry.
func newKit(t *testing.T) *chattest.Kit {
	t.Helper()
	k := chattest.NewKit()
	at := epoch
	k.Log.Clock = func() time.Time { at = at.Add(time.Second); return at }
	k.Project(t, "demo")
	return k
}

const taskID = chat.TaskID("01JABCDEFGHJKMNPQRSTVWXYZ0")

func queued(t *testing.T, k *chattest.Kit) chat.Task {
	t.Helper()
	k.Must(t, ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: taskID, Project: "demo", Message: "m1", Text: "Fix the CSV parser, please\n\nIt breaks."}})
	return k.Get(t, taskID)
}

// refused does an op that must be refused with that error and sentence.
func refused(t *testing.T, k *chattest.Kit, by chat.Author, op chat.Op, want error, sentence string) {
	t.Helper()
	before, _ := k.Task(string(taskID))
	_, err := k.Do(t.Context(), by, "", op)
	if !errors.Is(err, want) || err == nil || !strings.Contains(err.Error(), sentence) {
		t.Errorf("Do = %v, want %v with %q", err, want, sentence)
	}
	after, _ := k.Task(string(taskID))
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the refused op changed the task (-before +after):\n%s", diff)
	}
}

func say(id, text string) chat.Op {
	return chat.Op{Say: &chat.Say{Task: taskID, Message: id, Text: text}}
}

func turnSet(token uint64, turn chat.TurnID, prompt string, d chat.Delivery) chat.Op {
	return chat.Op{TurnSet: &chat.TurnSet{Task: taskID, Token: token, Turn: turn, Prompt: prompt, Delivery: d}}
}

func TestCreatedTask(t *testing.T) {
	k := newKit(t)
	got := queued(t, k)
	at := epoch.Add(2 * time.Second)
	want := chat.Task{
		ID: taskID, Project: "demo", Title: "Fix the CSV parser, please", Author: ana, Created: at,
		Agent: "script", Mode: chat.ModeAsk, Base: "main", Branch: "samnode/fix-the-csv-parser-stvwxyz0",
		State: chat.Queued, Since: at, Seq: 1, Index: 2,
		Queue: []chat.Pending{{ID: "m1", Text: "Fix the CSV parser, please\n\nIt breaks.", Author: ana, At: at}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
	wantMessages := []chat.Message{{Task: taskID, Seq: 1, ID: "m1", Kind: chat.KindUser, At: at, Index: 2, Author: &ana, Text: "Fix the CSV parser, please\n\nIt breaks.", Closed: true}}
	if diff := cmp.Diff(wantMessages, k.Messages.All(taskID)); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestAWholeConversation(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	task := k.Work(t, taskID)
	if task.State != chat.Working || task.Turn.Delivery != chat.Delivered || len(task.Queue) != 0 || task.Turns != 1 || task.Turn.FromSeq != 1 {
		t.Fatalf("working task = %+v, turn %+v", task, task.Turn)
	}
	exit := 0
	k.Emit(t, taskID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: "I look "})
	k.Emit(t, taskID,
		chat.Item{ID: "a1", Kind: chat.KindAgent, Offset: 7, Text: "at it.", Closed: true},
		chat.Item{ID: "t1", Kind: chat.KindTool, Tool: &chat.Tool{Title: "go test", Kind: "execute", Status: "pending", Input: `{"cmd":"go test"}`}})
	k.Emit(t, taskID,
		chat.Item{ID: "t1", Kind: chat.KindTool, Tool: &chat.Tool{Status: "completed", Output: "ok", Exit: &exit}, Closed: true},
		chat.Item{Usage: &chat.Usage{Input: 10, Output: 5, Cost: 700, Context: 1000, ContextMax: 200000}})
	k.Must(t, ben, say("m2", "Also the docs"))
	k.Finish(t, taskID)
	task = k.Get(t, taskID)
	if task.State != chat.Idle || len(task.Queue) != 1 || task.Usage.Cost != 700 || task.Turn.Usage.Input != 10 || task.Turn.Stop != "end_turn" || task.Turn.Head != "abc123" {
		t.Errorf("idle task = %+v, turn %+v", task, task.Turn)
	}
	want := []chat.Message{
		{Task: taskID, Seq: 1, ID: "m1", Kind: chat.KindUser, Turn: 1, Author: &ana, Text: "Fix the CSV parser, please\n\nIt breaks.", Delivery: chat.Delivered, Closed: true},
		{Task: taskID, Seq: 2, ID: "a1", Kind: chat.KindAgent, Turn: 1, Author: &node, Workspace: 1, Source: 1, Text: "I look at it.", Closed: true},
		{
			Task: taskID, Seq: 3, ID: "t1", Kind: chat.KindTool, Turn: 1, Author: &node, Workspace: 1, Source: 3, Closed: true,
			Tool: &chat.Tool{Title: "go test", Kind: "execute", Status: "completed", Input: `{"cmd":"go test"}`, Output: "ok", Exit: &exit},
		},
		{Task: taskID, Seq: 4, ID: "m2", Kind: chat.KindUser, Author: &ben, Text: "Also the docs", Closed: true},
	}
	got := k.Messages.All(taskID)
	for i := range got {
		got[i].At, got[i].Index = time.Time{}, 0
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	task = k.Work(t, taskID)
	if task.State != chat.Working || task.Turns != 2 || task.Turn.Prompt != "m2" || task.Turn.Usage.Input != 0 || task.Usage.Input != 10 {
		t.Errorf("second turn = %+v, %+v", task, task.Turn)
	}
}

func permission(id string) chat.Item {
	return chat.Item{ID: id, Kind: chat.KindAsk, Ask: &chat.Ask{
		ID: id, Kind: chat.AskPermission, Title: "Wants to run", Detail: "rm -rf build", Tool: "not-yet-there",
		Options: []chat.AskOption{{ID: "yes", Name: "Approve", Kind: "allow_once"}, {ID: "no", Name: "Reject", Kind: "reject_once"}},
	}}
}

func answer(ask, option string) chat.Op {
	return chat.Op{AskAnswer: &chat.AskAnswer{Task: taskID, Ask: ask, Answer: chat.Answer{Option: option}}}
}

func TestFirstAnswerWins(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Work(t, taskID)
	if got := k.Emit(t, taskID, permission("p1"), permission("p2")); got.State != chat.NeedsYou || len(got.Asks) != 2 {
		t.Fatalf("task = %s with %d asks", got.State, len(got.Asks))
	}
	refused(t, k, ana, answer("p1", "maybe"), chat.ErrInvalid, "not one of the choices")
	k.Must(t, ana, answer("p1", "yes"))
	if got := k.Get(t, taskID); got.State != chat.NeedsYou {
		t.Errorf("state = %s while a question is open", got.State)
	}
	refused(t, k, ben, answer("p1", "no"), chat.ErrRefused, "Ana answered at 14:03")
	k.Must(t, ben, answer("p2", "no"))
	got := k.Get(t, taskID)
	if got.State != chat.Working || len(got.Asks) != 2 || got.Asks[0].Answer == nil || got.Asks[0].Answer.Option != "yes" || got.Asks[1].Answer.Author != ben {
		t.Errorf("answered task = %s, %+v", got.State, got.Asks)
	}
	k.Emit(t, taskID, permission("p1")) // sent again by a restarted node: nothing happens
	if got := k.Get(t, taskID); got.State != chat.Working || got.Asks[0].Answer == nil {
		t.Errorf("an ask that was sent again lost its answer: %+v", got.Asks)
	}
	closing := permission("p1")
	closing.Ask.Closed = "handed on"
	if got := k.Emit(t, taskID, closing); len(got.Asks) != 1 {
		t.Errorf("asks after closing one = %+v", got.Asks)
	}
	m, err := k.Message(t.Context(), taskID, "p1")
	if err != nil || m.Ask.Answer == nil || m.Ask.Closed != "" || !m.Closed {
		t.Errorf("message of a closed ask = %+v, %v", m.Ask, err)
	}
	refused(t, k, ben, answer("p1", "no"), chat.ErrRefused, "Ana answered")
	refused(t, k, ben, answer("p9", "no"), chat.ErrNotFound, "no question")
}

func TestTurnEndClosesQuestions(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	task := k.Work(t, taskID)
	k.Emit(t, taskID, permission("p1"))
	task = k.Emit(t, taskID, chat.Item{TurnEnd: &chat.TurnEnd{Turn: task.Turn.ID, Stop: "cancelled"}})
	m, err := k.Message(t.Context(), taskID, "p1")
	if err != nil || m.Ask.Closed != "No longer needed" || task.State != chat.Publishing || len(task.Asks) != 0 {
		t.Errorf("ask = %+v, task %s with %d asks, %v", m.Ask, task.State, len(task.Asks), err)
	}
	refused(t, k, ana, answer("p1", "yes"), chat.ErrRefused, "No longer needed")
}

func TestFormSentTwice(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	first, err := k.Do(t.Context(), ana, "cmd-1", say("m2", "once"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := k.Do(t.Context(), ana, "cmd-1", say("m2", "once"))
	if err != nil || second != first {
		t.Errorf("the same command again = %d, %v, want %d", second, err, first)
	}
	k.Must(t, ana, say("m2", "the same message by another command"))
	if got := k.Get(t, taskID); len(got.Queue) != 2 || got.Queue[1].Text != "once" {
		t.Errorf("queue = %+v", got.Queue)
	}
	_, err1 := k.Do(t.Context(), ana, "cmd-2", chat.Op{Retry: &chat.Retry{Task: taskID}})
	_, err2 := k.Do(t.Context(), ana, "cmd-2", chat.Op{Retry: &chat.Retry{Task: taskID}})
	if !errors.Is(err1, chat.ErrRefused) || err2 == nil || err1.Error() != err2.Error() {
		t.Errorf("a refusal asked twice = %v, then %v", err1, err2)
	}
}

func TestUnknownDelivery(t *testing.T) {
	for _, c := range []struct {
		name, option string
		lease        bool
		state        chat.TaskState
		queue        string
		stop         string
	}{
		{"send again without a workspace", "again", false, chat.Queued, "delivery-turn-1-again m2", "unknown"},
		{"send again with a workspace", "again", true, chat.Idle, "delivery-turn-1-again m2", "unknown"},
		{"discard without a workspace", "discard", false, chat.Queued, "m2", "discarded"},
		{"discard with a workspace", "discard", true, chat.Idle, "m2", "discarded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			queued(t, k)
			token := k.Start(t, taskID).Lease.Token
			k.Must(t, node, turnSet(token, "turn-1", "m1", chat.Sent))
			k.Must(t, ben, say("m2", "next"))
			if c.lease {
				k.Must(t, node, turnSet(token, "turn-1", "", chat.Unknown))
				refused(t, k, node, turnSet(token, "turn-2", "m2", chat.Sent), chat.ErrRefused, "has not ended")
			} else {
				k.Must(t, node, chat.Op{Expire: &chat.Expire{Task: taskID, Token: token, Reason: "node-1 was not heard for 30 s."}})
			}
			got := k.Get(t, taskID)
			if got.State != chat.NeedsYou || len(got.Asks) != 1 || got.Asks[0].Kind != chat.AskDelivery || got.Turn.Delivery != chat.Unknown || (got.Lease != nil) != c.lease {
				t.Fatalf("task = %s, asks %+v, turn %+v", got.State, got.Asks, got.Turn)
			}
			k.Must(t, ana, answer("delivery-turn-1", c.option))
			got = k.Get(t, taskID)
			var queue []string
			for _, p := range got.Queue {
				queue = append(queue, p.ID)
			}
			if got.State != c.state || strings.Join(queue, " ") != c.queue || got.Turn.Stop != c.stop || len(got.Asks) != 0 {
				t.Errorf("after %s: %s, queue %v, turn %+v, asks %+v", c.option, got.State, queue, got.Turn, got.Asks)
			}
			if c.option == "again" {
				m, err := k.Message(t.Context(), taskID, "delivery-turn-1-again")
				if err != nil || !strings.HasPrefix(m.Text, "Fix the CSV") || !strings.Contains(m.Detail, "(m1)") {
					t.Errorf("the message that is sent again = %+v, %v", m, err)
				}
			}
			refused(t, k, ben, answer("delivery-turn-1", "discard"), chat.ErrRefused, "Ana answered")
		})
	}
}

func TestDeliveredAfterUnknown(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	token := k.Start(t, taskID).Lease.Token
	k.Must(t, node, turnSet(token, "turn-1", "m1", chat.Sent))
	k.Must(t, node, turnSet(token, "turn-1", "", chat.Unknown))
	k.Must(t, node, turnSet(token, "turn-1", "", chat.Delivered))
	if got := k.Get(t, taskID); got.State != chat.Working || len(got.Asks) != 0 || got.Turn.Delivery != chat.Delivered {
		t.Errorf("task = %s, asks %+v, turn %+v", got.State, got.Asks, got.Turn)
	}
}

func TestStaleTokenChangesNothing(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	task := k.Work(t, taskID)
	old := task.Lease.Token
	k.Emit(t, taskID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: "x"})
	k.Must(t, node, chat.Op{Expire: &chat.Expire{Task: taskID, Token: old}})
	k.Must(t, ana, answer("delivery-"+string(task.Turn.ID), "again"))
	k.Start(t, taskID)
	before := k.Get(t, taskID)
	for name, op := range map[string]chat.Op{
		"items":    {Items: &chat.Items{Task: taskID, Token: old, Workspace: 1, Upto: 1, Items: []chat.Item{{ID: "x", Kind: chat.KindAgent, Text: "late"}}}},
		"note":     {Note: &chat.Note{Task: taskID, Token: old, Item: chat.Item{Kind: chat.KindStatus, Text: "late"}}},
		"step_set": {StepSet: &chat.StepSet{Task: taskID, Token: old, Name: chat.StepAgent, State: chat.StepDone}},
		"session":  {Session: &chat.Session{Task: taskID, Token: old, Session: "s"}},
		"turn_set": turnSet(old, "turn-9", "m1", chat.Sent),
		"branch":   {Branch: &chat.Branch{Task: taskID, Token: old, Done: true}},
		"end":      {End: &chat.End{Task: taskID, Token: old, Failure: &chat.Failure{Reason: "late"}}},
		"expire":   {Expire: &chat.Expire{Task: taskID, Token: old}},
	} {
		_, err := k.Do(t.Context(), node, "", op)
		if !errors.Is(err, chat.ErrStale) {
			t.Errorf("%s with a stale token = %v, want ErrStale", name, err)
		}
	}
	if diff := cmp.Diff(before, k.Get(t, taskID)); diff != "" {
		t.Errorf("stale tokens changed the task (-before +after):\n%s", diff)
	}
	if before.Workspace != 2 || before.Cursor != 0 {
		t.Errorf("second workspace = %d with cursor %d", before.Workspace, before.Cursor)
	}
}

func TestBudgetAsk(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	token := k.Work(t, taskID).Lease.Token
	ask := func(id string) chat.Op {
		return chat.Op{Note: &chat.Note{Task: taskID, Token: token, Item: chat.Item{Ask: &chat.Ask{
			ID: id, Kind: chat.AskBudget, Title: "The budget is used up",
			Options: []chat.AskOption{{ID: "raise", Name: "Raise"}, {ID: "stop", Name: "Stop"}},
		}}}}
	}
	k.Must(t, node, ask("b1"))
	refused(t, k, ana, answer("b1", "raise"), chat.ErrInvalid, "new budget")
	k.Must(t, ana, chat.Op{AskAnswer: &chat.AskAnswer{Task: taskID, Ask: "b1", Answer: chat.Answer{Option: "raise", Values: map[string]string{"budget": "5000000"}}}})
	if got := k.Get(t, taskID); got.State != chat.Working || got.Budget != 5000000 {
		t.Errorf("raised: %s, budget %d", got.State, got.Budget)
	}
	if got := k.Get(t, taskID); len(got.Asks) != 0 {
		t.Errorf("raised: asks %+v", got.Asks)
	}

	// The agent gives up before a person answers: the ask stays, and the
	// answer makes it go on.
	k.Must(t, node, ask("b3"))
	turn := k.Get(t, taskID).Turn.ID
	k.Must(t, node, chat.Op{Note: &chat.Note{Task: taskID, Token: token, Item: chat.Item{TurnEnd: &chat.TurnEnd{Turn: turn, Stop: "error"}}}})
	k.Must(t, node, chat.Op{Branch: &chat.Branch{Task: taskID, Token: token, Done: true}})
	if got := k.Get(t, taskID); got.State != chat.Idle || len(got.Asks) != 1 {
		t.Errorf("after the turn: %s, asks %+v", got.State, got.Asks)
	}
	k.Must(t, ana, chat.Op{AskAnswer: &chat.AskAnswer{Task: taskID, Ask: "b3", Answer: chat.Answer{Option: "raise", Values: map[string]string{"budget": "9000000"}}}})
	got := k.Get(t, taskID)
	if got.State != chat.Idle || got.Budget != 9000000 || len(got.Asks) != 0 || len(got.Queue) != 1 || got.Queue[0].Author.Person != ana.Person {
		t.Errorf("raised after the turn: %+v", got)
	}
	k.Must(t, node, chat.Op{TurnSet: &chat.TurnSet{Task: taskID, Token: token, Turn: "next", Prompt: got.Queue[0].ID, Delivery: chat.Sent}})

	k.Must(t, node, ask("b2"))
	k.Must(t, ana, answer("b2", "stop"))
	if got := k.Get(t, taskID); !got.Stopping {
		t.Errorf("stopping = %v after the budget's stop", got.Stopping)
	}
}

// A merged task goes on: what its next turn adds can be merged again.
func TestFollowUpAfterMerge(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	token := k.Work(t, taskID).Lease.Token
	branch := func(head string, files int) {
		t.Helper()
		k.Must(t, node, chat.Op{Branch: &chat.Branch{Task: taskID, Token: token, Change: chat.Change{Head: head, Files: files, Pushed: true}}})
	}
	branch("c1", 1)
	k.Must(t, ana, chat.Op{Pull: &chat.Pull{Task: taskID, Pull: chat.PullRequest{State: "merged"}, Head: "m1"}})
	branch("c1", 1)
	if got := k.Get(t, taskID); got.Change.Merged != "m1" {
		t.Errorf("the same commits after the merge: merged as %q", got.Change.Merged)
	}
	branch("c2", 0)
	if got := k.Get(t, taskID); got.Change.Merged != "m1" {
		t.Errorf("a commit that changes nothing: merged as %q", got.Change.Merged)
	}
	branch("c3", 1)
	if got := k.Get(t, taskID); got.Change.Merged != "" {
		t.Errorf("new work: merged as %q", got.Change.Merged)
	}
}

func TestStop(t *testing.T) {
	stop := chat.Op{Stop: &chat.Stop{Task: taskID}}
	t.Run("a queued task is stopped at once", func(t *testing.T) {
		k := newKit(t)
		queued(t, k)
		k.Must(t, ana, stop)
		if got := k.Get(t, taskID); got.State != chat.Stopped || len(got.Queue) != 1 {
			t.Errorf("task = %s with %d queued", got.State, len(got.Queue))
		}
	})
	t.Run("a working task is stopped by its node", func(t *testing.T) {
		k := newKit(t)
		queued(t, k)
		task := k.Work(t, taskID)
		k.Must(t, ana, stop)
		if got := k.Get(t, taskID); got.State != chat.Working || !got.Stopping {
			t.Fatalf("task = %s, stopping %v", got.State, got.Stopping)
		}
		k.Emit(t, taskID, chat.Item{TurnEnd: &chat.TurnEnd{Turn: task.Turn.ID, Stop: "cancelled"}})
		k.Must(t, node, chat.Op{Branch: &chat.Branch{Task: taskID, Token: task.Lease.Token, Done: true}})
		got := k.Get(t, taskID)
		if got.State != chat.Stopped || got.Stopping || got.Lease == nil {
			t.Errorf("task = %+v", got)
		}
		k.Must(t, ben, say("m2", "go on"))
		if got := k.Get(t, taskID); got.State != chat.Idle {
			t.Errorf("state after a follow-up with a live workspace = %s, want idle", got.State)
		}
	})
	t.Run("twice means without the node", func(t *testing.T) {
		k := newKit(t)
		queued(t, k)
		k.Work(t, taskID)
		k.Must(t, ana, stop)
		k.Must(t, ana, stop)
		got := k.Get(t, taskID)
		if got.State != chat.Stopped || got.Lease != nil || got.Stopping || got.Turn.Delivery != chat.Unknown || len(got.Asks) != 0 {
			t.Errorf("task = %+v, turn %+v", got, got.Turn)
		}
		all := k.Messages.All(taskID)
		if last := all[len(all)-1]; last.Text != "Stopped. node-1 did not answer; its token is void." {
			t.Errorf("last message = %+v", last)
		}
		k.Must(t, ana, chat.Op{Retry: &chat.Retry{Task: taskID}})
		if got := k.Get(t, taskID); got.State != chat.Queued || len(got.Queue) != 1 || !strings.HasPrefix(got.Queue[0].Text, "Fix the CSV") {
			t.Errorf("retried: %s, queue %+v", got.State, got.Queue)
		}
	})
}

func TestFailureAndRetry(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	token := k.Must(t, node, chat.Op{Place: &chat.Place{Task: taskID, Node: "node-1", Slot: "s"}})
	k.Must(t, node, chat.Op{StepSet: &chat.StepSet{Task: taskID, Token: token, Name: chat.StepClone, State: chat.StepRunning}})
	k.Must(t, node, chat.Op{End: &chat.End{Task: taskID, Token: token, Failure: &chat.Failure{Step: chat.StepClone, Reason: "The remote refused.", Detail: "fatal: 403", Retryable: true}}})
	got := k.Get(t, taskID)
	if got.State != chat.Failed || got.Failure == nil || got.Lease != nil || got.Steps[1].State != chat.StepFailed || got.Steps[1].Ended.IsZero() {
		t.Fatalf("failed task = %+v", got)
	}
	m := k.Messages.All(taskID)[1]
	if m.Kind != chat.KindError || m.Text != "The remote refused." || m.Detail != "fatal: 403" {
		t.Errorf("error message = %+v", m)
	}
	k.Must(t, ana, chat.Op{Retry: &chat.Retry{Task: taskID}})
	if got := k.Get(t, taskID); got.State != chat.Queued || got.Failure != nil || len(got.Queue) != 1 {
		t.Errorf("retried task = %+v", got)
	}
	k.Work(t, taskID)
	token = k.Get(t, taskID).Lease.Token
	k.Must(t, node, chat.Op{End: &chat.End{Task: taskID, Token: token, Failure: &chat.Failure{Reason: "The agent died."}}})
	k.Must(t, ana, chat.Op{Retry: &chat.Retry{Task: taskID}})
	got = k.Get(t, taskID)
	if len(got.Queue) != 1 || got.Queue[0].ID == "m1" || !strings.HasPrefix(got.Queue[0].Text, "Fix the CSV") {
		t.Errorf("the prompt of the crashed turn is not queued again: %+v", got.Queue)
	}
	again, err := k.Message(t.Context(), taskID, got.Queue[0].ID)
	if err != nil || again.Detail != "Retry of turn 1 (m1)." {
		t.Errorf("retry's message = %+v, %v", again, err)
	}
}

func TestExpireAtRest(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Work(t, taskID)
	task := k.Finish(t, taskID)
	k.Must(t, node, chat.Op{Expire: &chat.Expire{Task: taskID, Token: task.Lease.Token, Reason: "gone"}})
	if got := k.Get(t, taskID); got.State != chat.Idle || got.Lease != nil {
		t.Errorf("an idle task whose node is gone = %s, lease %v", got.State, got.Lease)
	}
	k.Must(t, ana, say("m2", "more"))
	if got := k.Get(t, taskID); got.State != chat.Queued {
		t.Errorf("state after a follow-up = %s, want queued", got.State)
	}
	k.Start(t, taskID)
	all := k.Messages.All(taskID)
	if last := all[len(all)-1]; last.Text != "Workspace 2 starts on node-1." {
		t.Errorf("last message = %+v", last)
	}
}

// TestStartAnIdleWorkspace: an idle task gets a workspace without a word to its
// agent.
func TestStartAnIdleWorkspace(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Work(t, taskID)
	k.Finish(t, taskID)
	start := chat.Op{Retry: &chat.Retry{Task: taskID}}
	refused(t, k, ana, start, chat.ErrRefused, "workspace is alive")
	k.Must(t, ana, chat.Op{Release: &chat.Release{Task: taskID}})
	said := len(k.Messages.All(taskID))
	k.Must(t, ana, start)
	if got := k.Get(t, taskID); got.State != chat.Queued || len(got.Queue) != 0 || got.Turns != 1 {
		t.Errorf("the started task is %s, with %d messages, after %d turns", got.State, len(got.Queue), got.Turns)
	}
	if got := len(k.Messages.All(taskID)); got != said {
		t.Errorf("starting said %d things", got-said)
	}
}

func TestQueueEdit(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Must(t, ben, say("m2", "first try"))
	text := "second try"
	k.Must(t, ben, chat.Op{QueueEdit: &chat.QueueEdit{Task: taskID, Message: "m2", Text: &text}})
	m, err := k.Message(t.Context(), taskID, "m2")
	if err != nil || m.Text != text || k.Get(t, taskID).Queue[1].Text != text {
		t.Errorf("edited = %q in chat, %q in the queue, %v", m.Text, k.Get(t, taskID).Queue[1].Text, err)
	}
	k.Must(t, ben, chat.Op{QueueEdit: &chat.QueueEdit{Task: taskID, Message: "m2"}})
	if got := k.Get(t, taskID); len(got.Queue) != 1 {
		t.Errorf("queue after removal = %+v", got.Queue)
	}
	k.Work(t, taskID)
	refused(t, k, ana, chat.Op{QueueEdit: &chat.QueueEdit{Task: taskID, Message: "m1", Text: &text}}, chat.ErrRefused, "sent already, with turn 1")
	refused(t, k, ana, chat.Op{QueueEdit: &chat.QueueEdit{Task: taskID, Message: "m9"}}, chat.ErrNotFound, "no message")
}

func TestSteering(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	task := k.Work(t, taskID)
	k.Must(t, ana, chat.Op{Say: &chat.Say{Task: taskID, Message: "m2", Text: "rather in Go", Steer: true}})
	for range 2 { // the second changes nothing
		k.Must(t, node, turnSet(task.Lease.Token, task.Turn.ID, "m2", chat.Sent))
	}
	k.Must(t, node, turnSet(task.Lease.Token, task.Turn.ID, "m2", chat.Delivered))
	got := k.Get(t, taskID)
	m, err := k.Message(t.Context(), taskID, "m2")
	if err != nil || got.Turns != 1 || len(got.Queue) != 0 || m.Delivery != chat.Delivered || m.Turn != 1 || got.Turn.Prompt != "m1" {
		t.Errorf("steered task = %+v, message %+v, %v", got, m, err)
	}
}

func TestModeArchiveAndTitle(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	mode, yes, title := chat.ModePlan, true, "Better title"
	k.Must(t, ana, chat.Op{TaskEdit: &chat.TaskEdit{Task: taskID, Mode: &mode, Title: &title}})
	token := k.Start(t, taskID).Lease.Token
	k.Must(t, node, chat.Op{Session: &chat.Session{Task: taskID, Token: token, Session: "s1", Title: "The agent's title"}})
	got := k.Get(t, taskID)
	if got.Mode != mode || got.Title != title || got.Session != "s1" {
		t.Errorf("task = %+v", got)
	}
	if m := k.Messages.All(taskID)[1]; m.Kind != chat.KindStatus || m.Text != "The mode is plan now, set by Ana." {
		t.Errorf("status = %+v", m)
	}
	k.Must(t, ana, chat.Op{TaskEdit: &chat.TaskEdit{Task: taskID, Archived: &yes}})
	if got := k.Get(t, taskID); got.State != chat.Stopped || !got.Archived || got.Lease != nil {
		t.Errorf("archived task = %s, lease %v", got.State, got.Lease)
	}
	if n := len(k.Tasks(chat.Filter{})); n != 0 {
		t.Errorf("%d tasks in the list, the archived one among them", n)
	}
}

func TestUsualDurations(t *testing.T) {
	k := newKit(t)
	var last chat.Task
	for i := range 7 {
		id := chat.TaskID(fmt.Sprintf("task-%d", i))
		k.Must(t, ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: id, Project: "demo", Message: "m", Text: "x"}})
		token := k.Must(t, node, chat.Op{Place: &chat.Place{Task: id, Node: "n", Slot: "s"}})
		for _, state := range []chat.StepState{chat.StepRunning, chat.StepDone} {
			k.Must(t, node, chat.Op{StepSet: &chat.StepSet{Task: id, Token: token, Name: chat.StepClone, State: state}})
		}
		last = k.Get(t, id)
		if want := map[bool]int64{true: 1000}[i >= 5]; last.Steps[1].Usual != want {
			t.Errorf("start %d: usual = %d ms, want %d", i+1, last.Steps[1].Usual, want)
		}
	}
	if s := last.Steps[1]; s.Deadline.Sub(s.Began) != chat.Deadline(chat.StepClone) || s.Ended.Sub(s.Began) != time.Second || s.Attempt != 1 {
		t.Errorf("step = %+v", s)
	}
}
