package chat_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// leases asks for news of a node in the background.
type leaseNews struct {
	ids  []chat.TaskID
	next uint64
	err  error
}

func leases(ctx context.Context, k *chattest.Kit, node chat.Node, after uint64, known ...chat.TaskID) <-chan leaseNews {
	got := make(chan leaseNews, 1)
	set := map[chat.TaskID]bool{}
	for _, id := range known {
		set[id] = true
	}
	go func() {
		tasks, next, err := k.LeasesSince(ctx, node, set, after)
		n := leaseNews{next: next, err: err}
		for _, t := range tasks {
			n.ids = append(n.ids, t.ID)
		}
		got <- n
	}()
	return got
}

func TestLeasesSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		queued(t, k)
		second := k.NewTask(t, "demo", "second").ID
		a, b := leases(t.Context(), k, "node-1", 0), leases(t.Context(), k, "node-2", 0)
		k.Must(t, ana, say("m2", "of no lease"))
		synctest.Wait()
		if len(a)+len(b) != 0 {
			t.Fatal("a task without a lease woke a node")
		}
		k.Must(t, node, chat.Op{Place: &chat.Place{Task: second, Node: "node-2", Slot: "s"}})
		if got := <-b; !slices.Equal(got.ids, []chat.TaskID{second}) || got.next != k.Index() || got.err != nil {
			t.Errorf("news of node-2 = %+v, want %s at %d", got, second, k.Index())
		}
		k.Start(t, taskID)
		if got := <-a; !slices.Equal(got.ids, []chat.TaskID{taskID}) {
			t.Errorf("news of node-1 = %+v", got)
		}
		before := k.Index()
		k.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: taskID}}) // ends the lease
		if got := <-leases(t.Context(), k, "node-1", before, taskID); !slices.Equal(got.ids, []chat.TaskID{taskID}) {
			t.Errorf("the end of a lease that was known = %+v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got := <-leases(ctx, k, "node-1", before); got.ids != nil || got.next != k.Index() || !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("the end of a lease that was not known = %+v, want none up to %d", got, k.Index())
		}
		ahead := leases(t.Context(), k, "node-2", k.Index()+1) // a cursor of a node that is ahead
		k.Must(t, ana, chat.Op{Say: &chat.Say{Task: second, Message: "m2", Text: "seen there"}})
		synctest.Wait()
		if len(ahead) != 0 {
			t.Fatal("what the other node told already was told again")
		}
		k.Must(t, ana, chat.Op{Say: &chat.Say{Task: second, Message: "m3", Text: "new"}})
		if got := <-ahead; !slices.Equal(got.ids, []chat.TaskID{second}) {
			t.Errorf("news after a cursor of another node = %+v", got)
		}
	})
}

func TestLeasesOfANode(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	other := k.NewTask(t, "demo", "second").ID
	k.Must(t, node, chat.Op{Place: &chat.Place{Task: other, Node: "node-2", Slot: "s"}})
	k.Start(t, taskID)
	got := k.Leases("node-1")
	if len(got) != 1 || got[0].ID != taskID || len(k.Leases("node-3")) != 0 {
		t.Errorf("leases = %+v", got)
	}
	got[0].Queue[0].Text = "changed by a reader"
	if k.Get(t, taskID).Queue[0].Text == "changed by a reader" {
		t.Error("a reader changed the state")
	}
}

// live are the tasks that have a lease or wait for one, by id.
func live(k *chattest.Kit) []chat.Task {
	var list []chat.Task
	for _, archived := range []bool{false, true} {
		for _, x := range k.Room.Tasks(chat.Filter{Archived: archived}) {
			if x.Lease != nil || x.State.Waits() {
				list = append(list, x)
			}
		}
	}
	slices.SortFunc(list, func(a, b chat.Task) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list
}

func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		var after uint64
		moved := func(want bool, what string, states ...chat.TaskState) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			next, err := k.LiveSince(ctx, after)
			if (err == nil) != want {
				t.Errorf("%s: LiveSince = %d, %v", what, next, err)
			}
			after = next
			var got []chat.TaskState
			for _, task := range live(k) {
				got = append(got, task.State)
			}
			if !slices.Equal(got, states) {
				t.Errorf("%s: live tasks are %s, want %s", what, got, states)
			}
		}
		waits := k.NewTask(t, "demo", "first").ID
		moved(true, "a new task", chat.Queued)
		k.Must(t, ana, chat.Op{Say: &chat.Say{Task: waits, Message: "m2", Text: "more"}})
		moved(false, "a message to one that waits", chat.Queued)
		draft := chat.TaskID("01JZZZZZZZZZZZZZZZZZZDRAFT")
		k.Must(t, ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: draft, Project: k.Get(t, waits).Project, Message: "d1", Text: "later", Draft: true}})
		k.Must(t, ana, chat.Op{Say: &chat.Say{Task: draft, Message: "d2", Text: "more"}})
		moved(false, "a draft", chat.Queued)
		for _, step := range []struct {
			name chat.StepName
			then chat.TaskState
		}{{chat.StepBuy, chat.Buying}, {chat.StepBoot, chat.Booting}} {
			k.Must(t, chattest.Node, chat.Op{StepSet: &chat.StepSet{Task: waits, Name: step.name, State: chat.StepRunning}})
			moved(true, "a machine on its way", step.then)
		}
		k.Start(t, waits)
		moved(true, "a lease", k.Get(t, waits).State)
		state := k.Get(t, waits).State
		k.Must(t, ana, chat.Op{Say: &chat.Say{Task: waits, Message: "m3", Text: "more"}})
		moved(false, "a message to one that has a lease", state)
		k.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: waits, Force: true}})
		moved(true, "the end of a lease")
		k.Must(t, ana, chat.Op{Retry: &chat.Retry{Task: waits}})
		moved(true, "queued again", chat.Queued)
	})
}

// BenchmarkLeasesSinceFanOut is one change of a task while 500 nodes wait for
// theirs.
func BenchmarkLeasesSinceFanOut(b *testing.B) {
	k := chattest.NewKit()
	k.Project(b, "demo")
	id := k.NewTask(b, "demo", "x").ID
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for i := range 500 {
		leases(ctx, k, chat.Node(fmt.Sprint("n", i)), 0)
	}
	for i := 0; b.Loop(); i++ {
		title := fmt.Sprint(i)
		k.Must(b, ana, chat.Op{TaskEdit: &chat.TaskEdit{Task: id, Title: &title}})
	}
}

func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		queued(t, k)
		for i := range 3 {
			time.Sleep(time.Second)
			k.NewTask(t, "demo", fmt.Sprint("task ", i))
		}
		k.Must(t, node, chat.Op{Place: &chat.Place{Task: taskID, Node: "node-1", Slot: "s"}})
		got := k.Room.Waiting()
		if len(got) != 3 {
			t.Fatalf("Waiting() = %+v, want the three without a lease", got)
		}
		for i, w := range got {
			task, err := k.Room.Task(string(w.Task))
			if err != nil {
				t.Fatal(err)
			}
			want := chat.Waiting{Task: task.ID, Project: "demo", Author: task.Author.Person, Home: task.Home, State: task.State, Since: task.Since}
			if w != want || i > 0 && !w.Since.After(got[i-1].Since) {
				t.Errorf("Waiting()[%d] = %+v, want %+v, the longest wait first", i, w, want)
			}
		}
		k.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: got[0].Task}})
		if now := k.Room.Waiting(); !slices.Equal(now, got[1:]) {
			t.Errorf("after a stop Waiting() = %+v, want %+v", now, got[1:])
		}
		leased := k.Room.Leased()
		if !slices.IsSortedFunc(leased, func(a, b chat.Task) int { return strings.Compare(string(a.ID), string(b.ID)) }) || len(leased) != 1 || leased[0].Lease == nil {
			t.Errorf("Leased() = %+v, want the one that has a lease", leased)
		}
	})
}

// TestWaitingFollowsEveryChange: what is kept in order is what a look at all
// tasks finds.
func TestWaitingFollowsEveryChange(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	rng := rand.New(rand.NewPCG(3, 4))
	ids := []chat.TaskID{taskID}
	for n := range 600 {
		id := ids[rng.IntN(len(ids))]
		task, err := k.Room.Task(string(id))
		if err != nil {
			t.Fatal(err)
		}
		switch rng.IntN(6) {
		case 0, 1:
			ids = append(ids, k.NewTask(t, "demo", fmt.Sprint("task ", n)).ID)
		case 2:
			_, _ = k.Do(t.Context(), ana, "", chat.Op{Stop: &chat.Stop{Task: id}}) // may be refused
		case 3:
			_, _ = k.Do(t.Context(), ana, "", chat.Op{Retry: &chat.Retry{Task: id}})
		case 4:
			_, _ = k.Do(t.Context(), node, "", chat.Op{Place: &chat.Place{Task: id, Node: "node-1", Slot: "s"}})
		case 5:
			if task.Lease != nil {
				_, _ = k.Do(t.Context(), node, "", chat.Op{Expire: &chat.Expire{Task: id, Token: task.Lease.Token, Reason: "silent"}})
			}
		}
		var want []chat.Waiting
		for _, x := range live(k) {
			if x.Lease == nil && x.State.Waits() {
				want = append(want, chat.Waiting{Task: x.ID, Project: x.Project, Author: x.Author.Person, Home: x.Home, State: x.State, Since: x.Since})
			}
		}
		slices.SortStableFunc(want, func(a, b chat.Waiting) int { return a.Since.Compare(b.Since) })
		if got := k.Room.Waiting(); !slices.Equal(got, want) {
			t.Fatalf("after change %d Waiting() = %+v, want %+v", n, got, want)
		}
	}
	got := k.Room.Waiting()
	if n := len(got); n < 20 || n > 500 {
		t.Errorf("%d tasks wait in the end: too few changes", n)
	}
	state, messages := chat.NewState(), chattest.NewMessages()
	for _, e := range k.Log.Entries() {
		cmd, err := chat.Decode(e.Data)
		if err == nil {
			err = state.Apply(e.Index, e.At, cmd, messages)
		}
		if err != nil {
			t.Fatal(err)
		}
		state.Commit()
	}
	again := chat.NewRoom(chat.RoomConfig{State: state, Applied: k.Room.Index(), History: messages})
	if !slices.Equal(again.Waiting(), got) {
		t.Errorf("a room over the same state has %d that wait, the one that saw it come %d", len(again.Waiting()), len(got))
	}
}
