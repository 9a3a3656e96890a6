package remote_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/chat/remote"
)

func note(id chat.TaskID, token uint64, text string) chat.Op {
	return chat.Op{Note: &chat.Note{Task: id, Token: token, Item: chat.Item{ID: text, Kind: chat.KindStatus, Text: text}}}
}

type news struct {
	tasks []chat.Task
	next  uint64
	err   error
}

// wait begins to wait for news and returns when the call has arrived.
func (m *mesh) wait(t *testing.T, arrived <-chan string, after uint64) <-chan news {
	t.Helper()
	got := make(chan news, 1)
	go func() {
		tasks, next, err := m.worker.TasksSince(t.Context(), after)
		got <- news{tasks, next, err}
	}()
	for path := range arrived {
		if path == "/tasks" {
			return got
		}
	}
	return got
}

// counted tells the paths of calls.
func counted(h http.Handler) (http.Handler, chan string) {
	arrived := make(chan string, 1000)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		h.ServeHTTP(w, r)
	}), arrived
}

func TestCoreNodeIsReplacedInMidPoll(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	token := place(t, m.Kit, id, node)
	_, next := m.next(t, 0)
	for round := range 4 {
		h, arrived := counted(handler(m.Room))
		from, to := serve(t, h), serve(t, handler(m.Room))
		m.cores.set(from.URL, to.URL)
		got := m.wait(t, arrived, next)
		kill(from)
		done := make(chan error, 1)
		go func() {
			_, err := m.worker.Do(t.Context(), node, "", note(id, token, "round"))
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatalf("round %d: a report while a core node dies = %v", round, err)
		}
		n := <-got
		if n.err != nil || len(n.tasks) != 1 || n.next <= next {
			t.Fatalf("round %d: news after a core node died = %+v", round, n)
		}
		next = n.next
	}
}

// TestNobodyAnswersForAWhile: all that the worker asks meanwhile is answered
// in the end, and done once.
func TestNobodyAnswersForAWhile(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	token := place(t, m.Kit, id, node)
	_, next := m.next(t, 0)
	kill(m.server)
	before := len(m.Log.Entries())
	type result struct {
		what string
		err  error
	}
	got := make(chan result, 3)
	go func() {
		_, err := m.worker.Do(t.Context(), node, "", note(id, token, "n1"))
		got <- result{"Do", err}
	}()
	go func() {
		_, err := m.worker.Messages(t.Context(), id, 0, 10)
		got <- result{"Messages", err}
	}()
	go func() {
		_, _, err := m.worker.TasksSince(t.Context(), next)
		got <- result{"TasksSince", err}
	}()
	select {
	case r := <-got:
		t.Fatalf("%s while nobody answers = %v", r.what, r.err)
	case <-time.After(150 * time.Millisecond):
	}
	m.cores.set(serve(t, handler(m.Room)).URL)
	for range 3 {
		if r := <-got; r.err != nil {
			t.Errorf("%s when somebody answers again = %v", r.what, r.err)
		}
	}
	if n := len(m.Log.Entries()) - before; n != 1 {
		t.Errorf("%d entries for one report", n)
	}
}

func TestNoLeaderForAWhile(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	token := place(t, m.Kit, id, node)
	var tries atomic.Int32
	m.Log.Fail = func() error {
		if tries.Add(1) < 4 {
			return errors.New("no leader")
		}
		return nil
	}
	m.must(t, note(id, token, "n1"))
	if m.cores.lost == 0 {
		t.Error("nobody was told that the node did not do it")
	}
	full := false
	m.Log.Fail = func() error {
		if full = !full; full {
			return chat.ErrFull // this node's disk; another's is not
		}
		return nil
	}
	m.must(t, note(id, token, "n2"))
}

// TestAnswerIsLost: what was done is not done again, and its outcome comes
// though the lease ended by it.
func TestAnswerIsLost(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	token := m.Work(t, id).Lease.Token
	var lost atomic.Int32
	h := handler(m.Room)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/do" || lost.Add(1)%2 == 0 {
			h.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(noDeadline{httptest.NewRecorder()}, r)
		panic(http.ErrAbortHandler)
	}))
	m.cores.set(s.URL)
	before := len(m.Log.Entries())
	first := m.must(t, note(id, token, "n1"))
	if _, err := m.worker.Do(t.Context(), node, "", chat.Op{TurnSet: &chat.TurnSet{Task: id, Token: token, Turn: "t9", Prompt: "none", Delivery: chat.Sent}}); !errors.Is(err, chat.ErrRefused) {
		t.Errorf("a refusal whose answer was lost = %v", err)
	}
	m.must(t, chat.Op{End: &chat.End{Task: id, Token: token, Failure: &chat.Failure{Reason: "broken"}}})
	if got := len(m.Log.Entries()) - before; got != 3 || lost.Load() != 6 {
		t.Errorf("%d entries by %d calls, want 3 by 6", got, lost.Load())
	}
	if got := m.Get(t, id); got.State != chat.Failed || first == 0 {
		t.Errorf("task = %s", got.State)
	}
}

// noDeadline is a recorder that takes a deadline.
type noDeadline struct{ *httptest.ResponseRecorder }

func (noDeadline) SetReadDeadline(time.Time) error { return nil }

// follower is another core node, which is behind as long as it is not told.
type follower struct {
	*chat.Room
	state    *chat.State
	messages *chattest.Messages
	applied  int
}

func newFollower() *follower {
	f := &follower{state: chat.NewState(), messages: chattest.NewMessages()}
	f.Room = chat.NewRoom(chat.RoomConfig{State: f.state, History: f.messages})
	return f
}

// follow applies the log's entries up to there.
func (f *follower) follow(t *testing.T, log []chattest.Entry) {
	t.Helper()
	for _, e := range log[f.applied:] {
		cmd, err := chat.Decode(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.state.Apply(e.Index, e.At, cmd, f.messages); err != nil {
			t.Fatal(err)
		}
		f.Publish(e.Index)
	}
	f.applied = len(log)
}

func TestACoreNodeThatIsBehind(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	f := newFollower()
	id := m.NewTask(t, "demo", "x").ID
	f.follow(t, m.Log.Entries())
	token := place(t, m.Kit, id, node)
	_, next := m.next(t, 0)
	m.must(t, note(id, token, "n1"))
	old := m.Log.Entries()
	behind := serve(t, handler(f.Room))
	m.cores.set(behind.URL) // and the other one is gone
	kill(m.server)
	got := make(chan error, 1)
	go func() {
		_, err := m.worker.Message(t.Context(), id, "n1")
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("a message that the node does not have yet = %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	f.follow(t, old)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	m.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: id}})
	f.follow(t, m.Log.Entries())
	tasks, _ := m.next(t, next) // the cursor is good here, too
	if len(tasks) != 1 || tasks[0].Lease != nil {
		t.Errorf("news by another node = %+v", tasks)
	}
}

func TestContextEndsEveryCall(t *testing.T) {
	t.Parallel()
	k := chattest.NewKit()
	dead := serve(t, handler(k.Room))
	kill(dead)
	silent, arrived := counted(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	for name, base := range map[string]string{"dead": dead.URL, "silent": serve(t, silent).URL, "no URL": "http://[::1"} {
		w := worker(node, &cores{bases: []string{base}})
		cause := errors.New("the node stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan error, 4)
		go func() { _, _, err := w.TasksSince(ctx, 0); got <- err }()
		go func() { _, err := w.Do(ctx, node, "", note("t", 1, "n")); got <- err }()
		go func() { _, err := w.Message(ctx, "t", "m"); got <- err }()
		go func() { _, err := w.Messages(ctx, "t", 0, 1); got <- err }()
		if name == "silent" {
			for range 4 {
				<-arrived
			}
		} else {
			time.Sleep(20 * time.Millisecond)
		}
		cancel(cause)
		for range 4 {
			if err := <-got; !errors.Is(err, cause) || !errors.Is(err, remote.ErrAway) && !strings.Contains(err.Error(), "waiting for tasks") {
				t.Errorf("%s: ended with %v", name, err)
			}
		}
	}
}

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	place(t, m.Kit, id, node)
	good := handler(m.Room)
	for name, bad := range map[string]http.HandlerFunc{
		"a page":           func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) },
		"of another shape": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"tasks":[{"id":7}]}`)) },
		"another status":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"go elsewhere":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"half of it": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("{"))
		},
		"nothing": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"an error in no end": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			w.Write(bytes.Repeat([]byte("x"), 1<<20))
		},
	} {
		first := true
		m.cores.set(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if first {
				first = false
				bad(w, r)
				return
			}
			good.ServeHTTP(w, r)
		})).URL)
		if tasks, _ := m.next(t, 0); first || len(tasks) != 1 || tasks[0].ID != id {
			t.Errorf("%s: news after a bad answer = %+v", name, tasks)
		}
	}
}
