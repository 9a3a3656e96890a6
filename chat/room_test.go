package chat_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// follow reads a task's stream from a cursor until its index is reached.
func follow(t *testing.T, k *chattest.Kit, after, upto uint64, limit int) []chat.Message {
	t.Helper()
	var out []chat.Message
	for after < upto {
		b, err := k.Since(t.Context(), taskID, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if b.Index <= after || b.More && len(b.Messages) == 0 {
			t.Fatalf("batch after %d leads to %d with %d messages", after, b.Index, len(b.Messages))
		}
		for i, m := range b.Messages {
			if m.Index <= after || m.Index > b.Index || i > 0 && (b.Messages[i-1].Index > m.Index || b.Messages[i-1].Index == m.Index && b.Messages[i-1].Seq >= m.Seq) {
				t.Errorf("batch (%d, %d] is out of order at message %d (index %d, seq %d)", after, b.Index, i, m.Index, m.Seq)
			}
		}
		out = append(out, b.Messages...)
		after = b.Index
	}
	return out
}

func TestSinceGivesEveryMessageOnce(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Work(t, taskID)
	for i := range 20 {
		var items []chat.Item
		for j := range 1 + i%4 {
			items = append(items, chat.Item{ID: fmt.Sprintf("a%d-%d", i, j), Kind: chat.KindAgent, Text: "x", Closed: true})
		}
		k.Emit(t, taskID, items...)
	}
	task := k.Get(t, taskID)
	for _, limit := range []int{1, 3, 1000} {
		got := follow(t, k, 0, task.Index, limit)
		slices.SortFunc(got, func(a, b chat.Message) int { return int(a.Seq) - int(b.Seq) })
		if diff := cmp.Diff(k.Messages.All(taskID), got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

func TestSinceWakesReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		before := queued(t, k)
		type result struct {
			batch chat.Batch
			err   error
		}
		got := make(chan result, 3)
		for range 3 {
			go func() {
				b, err := k.Since(t.Context(), taskID, before.Index, 10)
				got <- result{b, err}
			}()
		}
		k.Must(t, ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: "other", Project: "demo", Message: "m", Text: "x"}})
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("a change of another task woke a reader")
		}
		k.Must(t, ben, say("m2", "hello"))
		for range 3 {
			r := <-got
			if r.err != nil || len(r.batch.Messages) != 1 || r.batch.Messages[0].Text != "hello" || len(r.batch.Task.Queue) != 2 {
				t.Errorf("batch = %+v, %v", r.batch, r.err)
			}
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		task := queued(t, k)
		cause := errors.New("the page was closed")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan error, 3)
		go func() { _, err := k.Since(ctx, taskID, task.Index, 1); got <- err }()
		go func() { _, _, err := k.TasksSince(ctx, task.Index); got <- err }()
		go func() { got <- k.Wait(ctx, 1000) }()
		synctest.Wait()
		cancel(cause)
		for range 3 {
			if err := <-got; !errors.Is(err, cause) {
				t.Errorf("waiting ended with %v", err)
			}
		}
	})
}

func TestSinceOfAnUnknownTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		if _, err := k.Since(t.Context(), taskID, 0, 1); !errors.Is(err, chat.ErrNotFound) {
			t.Errorf("Since = %v, want ErrNotFound", err)
		}
		got := make(chan error, 1)
		go func() { _, err := k.Since(t.Context(), taskID, 3, 1); got <- err }() // a cursor of a node that is ahead
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("a task that may be on its way was called unknown")
		}
		queued(t, k)
		k.Must(t, ana, say("m2", "x"))
		k.Must(t, ana, say("m3", "x"))
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestTasksSince(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.NewTask(t, "demo", "second")
	third := k.NewTask(t, "demo", "third")
	k.Must(t, ana, say("m2", "x"))
	titles := func(tasks []chat.Task) (out []string) {
		for _, task := range tasks {
			out = append(out, task.Title)
		}
		return out
	}
	tasks, next, err := k.TasksSince(t.Context(), 0)
	if want := []string{"second", "third", "Fix the CSV parser, please"}; err != nil || !slices.Equal(titles(tasks), want) || next != k.Index() {
		t.Errorf("TasksSince(0) = %v, %d, %v, want %v", titles(tasks), next, err, want)
	}
	tasks, _, err = k.TasksSince(t.Context(), third.Index)
	if err != nil || len(tasks) != 1 || tasks[0].ID != taskID {
		t.Errorf("TasksSince(third) = %v, %v", titles(tasks), err)
	}
	if got, want := titles(k.Tasks(chat.Filter{})), []string{"Fix the CSV parser, please", "third", "second"}; !slices.Equal(got, want) {
		t.Errorf("Tasks = %v, want %v", got, want)
	}
	if got := titles(k.Tasks(chat.Filter{Text: "SECO", States: []chat.TaskState{chat.Queued}, Project: "demo"})); len(got) != 1 {
		t.Errorf("filtered = %v", got)
	}
	if got := k.Tasks(chat.Filter{Project: "none"}); len(got) != 0 {
		t.Errorf("tasks of no project = %v", titles(got))
	}
}

func TestFindingTasksAndProjects(t *testing.T) {
	k := newKit(t)
	for _, id := range []chat.TaskID{"01JAAAAAAAAAAAAAAAAAAAAA11", "01JAAAAAAAAAAAAAAAAAAAAB22"} {
		k.Must(t, ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: id, Project: "demo", Message: "m", Text: "x"}})
	}
	for part, want := range map[string]error{"01JAAAAAAAAAAAAAAAAAAAAA11": nil, "aa11": nil, "AB22": nil, "01ja": chat.ErrInvalid, "b22": chat.ErrNotFound, "zzzz": chat.ErrNotFound, "": chat.ErrNotFound} {
		if _, err := k.Task(part); !errors.Is(err, want) {
			t.Errorf("Task(%q) = %v, want %v", part, err, want)
		}
	}
	if _, err := k.Room.Project("nope"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("Project = %v", err)
	}
	refused(t, k, ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "other", Name: "demo", Repo: "/x"}}}, chat.ErrRefused, "has the name demo")
	for _, n := range []chat.Needs{{CPUs: -1}, {Memory: -1}, {Disk: 1 << 60}, {Labels: []string{"GPU"}}, {Labels: make([]string, 17)}, {Location: "a b"}} {
		refused(t, k, ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "other", Name: "other", Repo: "/x", Machine: n}}}, chat.ErrInvalid, "")
	}
	k.Must(t, ana, chat.Op{ProjectRemove: &chat.ProjectRemove{ID: "demo"}})
	if got := k.Get(t, "01JAAAAAAAAAAAAAAAAAAAAA11"); got.State != chat.Stopped {
		t.Errorf("a queued task of a removed project is %s", got.State)
	}
	if len(k.Projects()) != 0 {
		t.Errorf("projects = %+v", k.Projects())
	}
	k.Must(t, ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "other", Name: "demo", Repo: "/x"}}})
}

func TestProjectWithALeaseIsNotRemoved(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Start(t, taskID)
	refused(t, k, ana, chat.Op{ProjectRemove: &chat.ProjectRemove{ID: "demo"}}, chat.ErrRefused, "still has a workspace on node-1")
}

func TestSecretsByScope(t *testing.T) {
	k := newKit(t)
	for _, scope := range []chat.ProjectID{"", "demo"} {
		k.Must(t, ana, chat.Op{SecretPut: &chat.SecretPut{Secret: chat.Secret{Scope: scope, Name: "KEY", Sealed: []byte("sealed " + scope)}}})
	}
	got := k.Secrets("demo")
	if len(got) != 1 || string(got[0].Sealed) != "sealed demo" || got[0].Author != ana {
		t.Fatalf("secrets = %+v", got)
	}
	got[0].Sealed[0] = 'X'
	if string(k.Secrets("demo")[0].Sealed) != "sealed demo" {
		t.Error("a reader changed the state")
	}
	k.Must(t, ana, chat.Op{SecretRemove: &chat.SecretRemove{Name: "KEY"}})
	if len(k.Secrets("")) != 0 || len(k.Secrets("demo")) != 1 {
		t.Error("removed in the wrong scope")
	}
}

func TestReadersDoNotShareMemory(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	task := k.Get(t, taskID)
	task.Queue[0].Text = "changed by a reader"
	if got := k.Get(t, taskID); got.Queue[0].Text == task.Queue[0].Text {
		t.Error("a reader changed the state")
	}
}

func TestProposalThatFailed(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Log.Fail = func() error { return errors.New("no leader") }
	if _, err := k.Do(t.Context(), ana, "cmd", say("m2", "x")); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("Do without a leader = %v", err)
	}
	k.Log.Fail = nil
	if _, err := k.Do(t.Context(), ana, "cmd", say("m2", "x")); err != nil || len(k.Get(t, taskID).Queue) != 2 {
		t.Errorf("the same command again = %v", err)
	}
}

func TestExport(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Work(t, taskID)
	for i := range 250 {
		k.Emit(t, taskID, chat.Item{ID: fmt.Sprintf("a%d", i), Kind: chat.KindAgent, Text: fmt.Sprintf("line %d", i)})
	}
	k.Emit(t, taskID, chat.Item{ID: "t", Kind: chat.KindTool, Tool: &chat.Tool{Title: "cat", Output: "```\ninside\n```"}}, permission("p"))
	var b bytes.Buffer
	if err := k.Export(t.Context(), &b, taskID, "json"); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Task     chat.Task
		Messages []chat.Message
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k.Messages.All(taskID), got.Messages); diff != "" || got.Task.ID != taskID {
		t.Errorf("exported messages (-want +got):\n%s", diff)
	}
	b.Reset()
	if err := k.Export(t.Context(), &b, taskID, "md"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Fix the CSV parser", "## 1. Ana, 2026-11-01", "line 249", "````\n```\ninside\n```\n````", "Wants to run"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the export lacks %q", want)
		}
	}
	if err := k.Export(t.Context(), &b, taskID, "pdf"); !errors.Is(err, chat.ErrInvalid) {
		t.Errorf("Export as pdf = %v", err)
	}
	if err := k.Export(t.Context(), &b, "nothing", "md"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("Export of nothing = %v", err)
	}
}

// BenchmarkSinceFanOut is one change seen by 1, 100 and 1000 readers.
func BenchmarkSinceFanOut(b *testing.B) {
	for _, readers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(readers), func(b *testing.B) {
			k := chattest.NewKit()
			k.Project(b, "demo")
			k.Must(b, ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: taskID, Project: "demo", Message: "m", Text: "x"}})
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			seen := make(chan struct{}, readers)
			start := k.Index()
			for range readers {
				go func() {
					for after := start; ; {
						batch, err := k.Since(ctx, taskID, after, 50)
						if err != nil {
							return
						}
						after = batch.Index
						seen <- struct{}{}
					}
				}()
			}
			for i := 0; b.Loop(); i++ {
				title := fmt.Sprint(i)
				k.Must(b, ana, chat.Op{TaskEdit: &chat.TaskEdit{Task: taskID, Title: &title}})
				for range readers {
					<-seen
				}
			}
		})
	}
}

// BenchmarkApplyItems is a stream of text, 100 bytes an item.
func BenchmarkApplyItems(b *testing.B) {
	k := chattest.NewKit()
	k.Project(b, "demo")
	k.Must(b, ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: taskID, Project: "demo", Message: "m", Text: "x"}})
	task := k.Work(b, taskID)
	state, messages := chat.NewState(), chattest.NewMessages()
	index := uint64(0)
	for _, e := range k.Log.Entries() {
		cmd, err := chat.Decode(e.Data)
		if err != nil {
			b.Fatal(err)
		}
		index = e.Index
		if err := state.Apply(index, epoch, cmd, messages); err != nil {
			b.Fatal(err)
		}
	}
	text := strings.Repeat("x", 100)
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		item := chat.Item{ID: fmt.Sprint(n / 20), Kind: chat.KindAgent, Source: n + 1, Offset: int64(n % 20 * 100), Text: text}
		cmd := chat.Command{Version: 1, ID: fmt.Sprint("b", n), Author: node, Op: chat.Op{Items: &chat.Items{Task: taskID, Token: task.Lease.Token, Workspace: 1, From: n, Upto: n + 1, Items: []chat.Item{item}}}}
		index++
		if err := state.Apply(index, epoch, cmd, messages); err != nil {
			b.Fatal(err)
		}
		state.Commit()
	}
}
