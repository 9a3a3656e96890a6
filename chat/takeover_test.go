package chat_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// lost are the places where a node may be lost with a task.
var lost = map[string]struct {
	reach  func(t *testing.T, k *chattest.Kit)
	state  chat.TaskState // after the lease was taken away
	answer string         // of the ask about the turn that was open; "": there is none
	queue  string         // what the next workspace finds, after the answer
	wakes  bool           // a person's word makes it go on
}{
	"preparing": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Must(t, node, chat.Op{Place: &chat.Place{Task: taskID, Node: node.Node, Slot: "s"}})
	}, state: chat.Queued, queue: "m1"},
	"preparing, in the middle of a step": {reach: func(t *testing.T, k *chattest.Kit) {
		token := k.Must(t, node, chat.Op{Place: &chat.Place{Task: taskID, Node: node.Node, Slot: "s"}})
		k.Must(t, node, chat.Op{StepSet: &chat.StepSet{Task: taskID, Token: token, Name: chat.StepClone, State: chat.StepRunning}})
	}, state: chat.Queued, queue: "m1"},
	"starting": {reach: func(t *testing.T, k *chattest.Kit) { k.Start(t, taskID) }, state: chat.Queued, queue: "m1"},
	"a turn was sent": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Must(t, node, turnSet(k.Start(t, taskID).Lease.Token, "turn-1", "m1", chat.Sent))
	}, state: chat.NeedsYou, answer: "again", queue: "delivery-turn-1-again"},
	"working": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Work(t, taskID)
		k.Emit(t, taskID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: "half a sen"})
	}, state: chat.NeedsYou, answer: "again", queue: "again"},
	"working, and a person does not want it again": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Work(t, taskID)
	}, state: chat.NeedsYou, answer: "discard", wakes: true},
	"working, with a message that waits": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Work(t, taskID)
		k.Must(t, ben, say("m2", "and then"))
	}, state: chat.NeedsYou, answer: "discard", queue: "m2"},
	"the agent asks": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Work(t, taskID)
		k.Emit(t, taskID, permission("p1"))
	}, state: chat.NeedsYou, answer: "again", queue: "again"},
	"the delivery is asked about": {reach: func(t *testing.T, k *chattest.Kit) {
		task := k.Work(t, taskID)
		k.Must(t, node, turnSet(task.Lease.Token, task.Turn.ID, "", chat.Unknown))
	}, state: chat.NeedsYou, answer: "again", queue: "again"},
	"the delivery was asked about, and it was delivered": {reach: func(t *testing.T, k *chattest.Kit) {
		task := k.Work(t, taskID)
		k.Must(t, node, turnSet(task.Lease.Token, task.Turn.ID, "", chat.Unknown))
		k.Must(t, node, turnSet(task.Lease.Token, task.Turn.ID, "", chat.Delivered))
	}, state: chat.NeedsYou, answer: "again", queue: "again"},
	"publishing": {reach: func(t *testing.T, k *chattest.Kit) {
		task := k.Work(t, taskID)
		k.Emit(t, taskID, chat.Item{TurnEnd: &chat.TurnEnd{Turn: task.Turn.ID, Stop: "end_turn"}})
	}, state: chat.Queued},
	"publishing, with a message that waits": {reach: func(t *testing.T, k *chattest.Kit) {
		task := k.Work(t, taskID)
		k.Must(t, ben, say("m2", "and then"))
		k.Emit(t, taskID, chat.Item{TurnEnd: &chat.TurnEnd{Turn: task.Turn.ID, Stop: "end_turn"}})
	}, state: chat.Queued, queue: "m2"},
	"idle": {reach: func(t *testing.T, k *chattest.Kit) { k.Work(t, taskID); k.Finish(t, taskID) }, state: chat.Idle, wakes: true},
	"idle, with a message that waits": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Work(t, taskID)
		k.Finish(t, taskID)
		k.Must(t, ben, say("m2", "and then"))
	}, state: chat.Queued, queue: "m2"},
	"a person pressed Stop": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Work(t, taskID)
		k.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: taskID}})
	}, state: chat.Stopped, wakes: true},
	"a person pressed Stop while it was published": {reach: func(t *testing.T, k *chattest.Kit) {
		task := k.Work(t, taskID)
		k.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: taskID}})
		k.Emit(t, taskID, chat.Item{TurnEnd: &chat.TurnEnd{Turn: task.Turn.ID, Stop: "cancelled"}})
	}, state: chat.Stopped, wakes: true},
	"stopped": {reach: func(t *testing.T, k *chattest.Kit) {
		k.Work(t, taskID)
		k.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: taskID}})
		k.Finish(t, taskID)
	}, state: chat.Stopped, wakes: true},
}

// TestTheNextWorkspaceGoesOn loses the node at every place, and brings the task
// to its end in a second workspace.
func TestTheNextWorkspaceGoesOn(t *testing.T) {
	for name, c := range lost {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			queued(t, k)
			c.reach(t, k)
			before := k.Get(t, taskID)
			k.Must(t, node, chat.Op{Expire: &chat.Expire{Task: taskID, Token: before.Lease.Token, Reason: "node-1 was not heard of for 30 s."}})
			got := k.Get(t, taskID)
			if got.State != c.state || got.Lease != nil || got.Stopping {
				t.Fatalf("lost: %s, lease %v, stopping %v, want %s", got.State, got.Lease, got.Stopping, c.state)
			}
			all := k.Messages.All(taskID)
			if last := all[len(all)-1]; last.Text != "node-1 was not heard of for 30 s." || last.Level != "warn" {
				t.Errorf("last message = %+v", last)
			}
			if c.answer != "" {
				answerDelivery(t, k, c.answer)
			}
			if got = k.Get(t, taskID); !strings.HasSuffix(queueOf(got), c.queue) {
				t.Errorf("queue = %s, want %s", queueOf(got), c.queue)
			}
			if c.wakes {
				k.Must(t, ana, say("m9", "go on"))
			}
			secondWorkspace(t, k, before)
		})
	}
}

func queueOf(task chat.Task) string {
	var ids []string
	for _, p := range task.Queue {
		ids = append(ids, p.ID)
	}
	return strings.Join(ids, " ")
}

func answerDelivery(t *testing.T, k *chattest.Kit, option string) {
	t.Helper()
	task := k.Get(t, taskID)
	if len(task.Asks) != 1 || task.Asks[0].Kind != chat.AskDelivery {
		t.Fatalf("asks = %+v, want one about the delivery", task.Asks)
	}
	k.Must(t, ana, answer(task.Asks[0].ID, option))
}

// secondWorkspace runs the task on another node until nothing is left to do.
// The first node comes back meanwhile: it changes nothing.
func secondWorkspace(t *testing.T, k *chattest.Kit, before chat.Task) {
	t.Helper()
	k.Start(t, taskID)
	stale(t, k, before)
	for {
		task := k.Get(t, taskID)
		if task.Workspace != before.Workspace+1 {
			t.Fatalf("workspace = %d after %d", task.Workspace, before.Workspace)
		}
		switch {
		case len(task.Queue) > 0 && (task.State == chat.Starting || task.State == chat.Idle):
			k.Work(t, taskID)
			stale(t, k, before)
			k.Finish(t, taskID)
		case task.State == chat.Starting: // a turn whose work is to be published
			k.Must(t, node, chat.Op{Branch: &chat.Branch{Task: taskID, Token: task.Lease.Token, Change: chat.Change{Head: "abc"}, Done: true}})
		case task.State == chat.Idle:
			return
		default:
			t.Fatalf("the second workspace is stuck in %s, queue %s", task.State, queueOf(task))
		}
	}
}

// stale is what the first node reports when it comes back.
func stale(t *testing.T, k *chattest.Kit, before chat.Task) {
	t.Helper()
	now := k.Get(t, taskID)
	old := before.Lease.Token
	for _, op := range []chat.Op{
		{Items: &chat.Items{Task: taskID, Token: old, Workspace: before.Workspace, From: before.Cursor, Upto: before.Cursor + 1, Items: []chat.Item{{ID: "late", Kind: chat.KindAgent, Text: "late"}}}},
		{Branch: &chat.Branch{Task: taskID, Token: old, Done: true}},
		{End: &chat.End{Task: taskID, Token: old}},
	} {
		if _, err := k.Do(t.Context(), node, "", op); !errors.Is(err, chat.ErrStale) {
			t.Errorf("the first node's report = %v, want ErrStale", err)
		}
	}
	if diff := cmp.Diff(now, k.Get(t, taskID)); diff != "" {
		t.Errorf("the first node changed the task (-before +after):\n%s", diff)
	}
}

func TestKept(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	first := k.Work(t, taskID)
	kept := func(token uint64, workspace int, text, head string) chat.Op {
		return chat.Op{Kept: &chat.Kept{Task: taskID, Token: token, Workspace: workspace, Text: text, Head: head}}
	}
	const text = "Work in progress of workspace 1 is kept on node-1."
	refused(t, k, node, kept(first.Lease.Token, 1, text, ""), chat.ErrRefused, "has not ended")
	k.Emit(t, taskID, chat.Item{ID: "kept-" + itoa(first.Lease.Token), Kind: chat.KindStatus, Text: "the agent's"})
	k.Must(t, node, chat.Op{Expire: &chat.Expire{Task: taskID, Token: first.Lease.Token}})
	answerDelivery(t, k, "again")
	k.Start(t, taskID)
	before := k.Get(t, taskID)
	for range 2 { // the second changes nothing
		k.Must(t, node, kept(first.Lease.Token, 1, text, "abc123"))
	}
	after := k.Get(t, taskID)
	want := before
	want.Seq, want.Index = before.Seq+1, before.Index+1
	if diff := cmp.Diff(want, after, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Index" }, cmp.Ignore())); diff != "" {
		t.Errorf("what is kept changed the task (-want +got):\n%s", diff)
	}
	all := k.Messages.All(taskID)
	last := all[len(all)-1]
	if last.Text != text || last.Detail != "Commit abc123" || last.Kind != chat.KindStatus || last.Workspace != 1 || *last.Author != node {
		t.Errorf("message = %+v", last)
	}
	for name, c := range map[string]struct {
		op       chat.Op
		want     error
		sentence string
	}{
		"the current lease's":   {kept(after.Lease.Token, 2, text, ""), chat.ErrRefused, "has not ended"},
		"no token":              {kept(0, 1, text, ""), chat.ErrInvalid, "a lease that the task had"},
		"a workspace to come":   {kept(first.Lease.Token, 3, text, ""), chat.ErrInvalid, "a lease that the task had"},
		"a lease to come":       {kept(after.Lease.Token+1, 2, text, ""), chat.ErrInvalid, "a lease that the task had"},
		"no workspace":          {kept(first.Lease.Token, 0, text, ""), chat.ErrInvalid, "a lease that the task had"},
		"a commit that is none": {kept(first.Lease.Token, 1, text, "HEAD"), chat.ErrInvalid, "a commit in it"},
		"nothing":               {kept(first.Lease.Token, 1, " \n", ""), chat.ErrInvalid, "Say what is kept"},
		"an unknown task":       {chat.Op{Kept: &chat.Kept{Task: "none", Token: 1, Workspace: 1, Text: text}}, chat.ErrNotFound, "no task"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, k, node, c.op, c.want, c.sentence) })
	}
	k.Must(t, chat.Author{Node: "node-2"}, kept(first.Lease.Token, 1, "Kept on node-2, too.", ""))
	if all = k.Messages.All(taskID); all[len(all)-1].Text != "Kept on node-2, too." {
		t.Errorf("another node's message = %+v", all[len(all)-1])
	}
}
