package workspace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// TestMeshComesAndGoes: every op of a run meets a mesh that does not answer, or
// does what it is asked and its answer is lost. The task is done as if nothing
// had happened, and everything is in the chat once.
func TestMeshComesAndGoes(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.member("a")
	r := rand.New(rand.NewPCG(1, 2))
	ids := map[string]string{}
	var mu sync.Mutex
	dice := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n) == 0
	}
	a.board.set(func(b *board) {
		b.before = func(chat.Op) error {
			if dice(3) {
				return errAway
			}
			return nil
		}
		b.after = func(op chat.Op, index uint64) error {
			mu.Lock()
			ids[fmt.Sprint(index)] = fmt.Sprintf("%+v", op)
			mu.Unlock()
			if dice(3) {
				return fmt.Errorf("waiting for the answer: %w", errAway)
			}
			return nil
		}
	})
	id := m.task("for i in $(seq 50); do echo line $i; sleep 0.02; done; echo 1 > done.txt")
	m.place(id, a.name)
	task := m.idle(id)
	if task.Turns != 1 || task.Workspace != 1 || !task.Change.Pushed || m.git("show", task.Branch+":done.txt") != "1" {
		t.Errorf("the task = %+v", task)
	}
	for _, s := range task.Steps {
		if s.State != chat.StepDone || s.Attempt != 1 {
			t.Errorf("step %+v", s)
		}
	}
	lines := ""
	for _, msg := range m.kit.Messages.All(id) {
		if msg.Tool != nil {
			lines += msg.Tool.Output
		}
	}
	for i := range 50 {
		if n := strings.Count(lines, fmt.Sprintf("line %d\n", i+1)); n != 1 {
			t.Errorf("line %d is %d times in the chat", i+1, n)
		}
	}
	m.kit.Must(t, chattest.Ana, chat.Op{Release: &chat.Release{Task: id}})
	a.gone()
}

// TestMeshIsAwayAtEachStep: the mesh is away for longer than the node's tenure
// from each op on that a run makes. None of them fails the task.
func TestMeshIsAwayAtEachStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		at   func(chat.Op) bool
	}{
		{"mirror", func(op chat.Op) bool { return op.StepSet != nil && op.StepSet.Name == chat.StepMirror }},
		{"clone", func(op chat.Op) bool { return op.StepSet != nil && op.StepSet.Name == chat.StepClone }},
		{"cloned", func(op chat.Op) bool {
			return op.StepSet != nil && op.StepSet.Name == chat.StepClone && op.StepSet.State == chat.StepDone
		}},
		{"agent", func(op chat.Op) bool { return op.Session != nil && op.Session.Session != "" }},
		{"turn", func(op chat.Op) bool { return op.TurnSet != nil }},
		{"items", func(op chat.Op) bool { return op.Items != nil && len(op.Items.Items) > 0 }},
		{"published", func(op chat.Op) bool { return op.Branch != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			a := m.member("a")
			var once sync.Once
			reached := make(chan struct{})
			a.board.set(func(b *board) {
				b.before = func(op chat.Op) error {
					if c.at(op) {
						once.Do(func() {
							b.set(func(b *board) { b.away = true })
							close(reached)
						})
					}
					return b.err()
				}
			})
			id := m.task("echo it works; echo 1 > done.txt")
			m.place(id, a.name)
			<-reached
			a.lose()
			time.Sleep(leaseFor / 2)
			a.board.set(func(b *board) { b.away = false })
			a.hold()
			task := m.idle(id)
			if task.Turns != 1 || task.Workspace != 1 || !task.Change.Pushed || m.git("show", task.Branch+":done.txt") != "1" {
				t.Errorf("the task = %+v", task)
			}
			m.eventually("it says so", func() bool {
				return strings.Contains(strings.Join(m.said(id), "\n"), " was cut off from the mesh from ")
			})
			m.saidOnce(id, " was cut off from the mesh from ")
			for _, s := range m.said(id) {
				if strings.HasPrefix(s, "error") {
					t.Errorf("the chat says %s", s)
				}
			}
			for _, s := range task.Steps {
				if s.State != chat.StepDone {
					t.Errorf("step %+v", s)
				}
			}
		})
	}
}

// fakeBoard answers as it is told.
type fakeBoard struct {
	Board
	do func(id string, op chat.Op) error
}

func (f fakeBoard) Do(_ context.Context, _ chat.Author, id string, op chat.Op) (uint64, error) {
	return 1, f.do(id, op)
}

func TestPersist(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answers []error // the last one again and again
		want    error
		tries   int
		lost    bool // it ends the run
	}{
		{"taken", []error{nil}, nil, 1, false},
		{"taken after a while", []error{errAway, errAway, errAway, nil}, nil, 4, false},
		{"stale", []error{errAway, fmt.Errorf("no: %w", chat.ErrStale)}, chat.ErrStale, 2, true},
		{"refused", []error{fmt.Errorf("no: %w", chat.ErrRefused)}, chat.ErrRefused, 1, false},
		{"invalid", []error{chat.ErrInvalid}, chat.ErrInvalid, 1, false},
		{"too large", []error{chat.ErrTooLarge}, chat.ErrTooLarge, 1, false},
		{"unknown", []error{chat.ErrNotFound}, chat.ErrNotFound, 1, false},
		{"never", []error{errAway}, errStopped, 0, false},
		{"a full disk", []error{chat.ErrFull}, errStopped, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ids []string
				n := fakeRun(t, func(id string, _ chat.Op) error {
					ids = append(ids, id)
					return c.answers[min(len(ids), len(c.answers))-1]
				})
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errStopped)
				defer cancel()
				err := n.persist(ctx, chat.Op{Note: &chat.Note{}})
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || c.tries > 0 && len(ids) != c.tries {
					t.Errorf("persist = %v after %d tries, want %v after %d", err, len(ids), c.want, c.tries)
				}
				if slices.Sort(ids); len(slices.Compact(ids)) != 1 || ids[0] == "" {
					t.Errorf("the command had the ids %v", ids)
				}
				if lost := errors.Is(context.Cause(n.ctx), ErrLeaseLost); lost != c.lost {
					t.Errorf("the run ended: %v, want %v", lost, c.lost)
				}
			})
		})
	}
}

var errStopped = errors.New("the node stops")

// fakeRun is a run of which only the talk with the mesh works.
func fakeRun(t *testing.T, do func(id string, op chat.Op) error) *run {
	t.Helper()
	r := &Runner{c: Config{Node: "a", Board: fakeBoard{do: do}, Tenure: always{}, Logger: discard}, runs: runs{byTask: map[chat.TaskID]*run{}}}
	n := r.newRun(t.Context(), chat.Task{ID: "task", Workspace: 1}, 7)
	t.Cleanup(func() { n.cancel(nil) })
	return n
}

// What is said on the side waits for nobody for long, is not lost, and keeps
// its order.
func TestOutbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string // read after synctest.Wait only
		var here atomic.Bool
		n := fakeRun(t, func(_ string, op chat.Op) error {
			if !here.Load() {
				return errAway
			}
			told = append(told, op.Note.Item.Text)
			return nil
		})
		go n.post()
		began := time.Now()
		for i := range 5 {
			n.note(n.ctx, "warn", fmt.Sprint(i), "")
		}
		synctest.Wait()
		if took := time.Since(began); took > 5*letterWait || len(told) != 0 {
			t.Errorf("saying five things took %s with the mesh away", took)
		}
		for range maxLetters {
			n.note(canceled(t), "warn", "more", "")
		}
		n.out.mu.Lock()
		waiting := len(n.out.queue)
		n.out.mu.Unlock()
		if waiting != maxLetters {
			t.Errorf("%d letters wait, want at most %d", waiting, maxLetters)
		}
		here.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := strings.Join(told[:5], ""); got != "01234" || len(told) != maxLetters {
			t.Errorf("told %d, at first %q", len(told), got)
		}
		began = time.Now()
		n.note(n.ctx, "warn", "last", "")
		if told[len(told)-1] != "last" || time.Since(began) > time.Millisecond {
			t.Error("with the mesh there a note is in the chat at once")
		}
	})
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
