package api

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

func TestATaskOnItsWayHereIsWaitedFor(t *testing.T) {
	kit := chattest.NewKit()
	kit.Project(t, "web")
	young, old := chat.NewID(), "01HZZZZZZZZZZZZZZZZZZZZZZZ"
	create := func(id string) {
		op := chat.Op{TaskCreate: &chat.TaskCreate{ID: chat.TaskID(id), Project: "web", Message: chat.NewID(), Text: "x"}}
		if _, err := kit.Do(context.Background(), chattest.Ana, "", op); err != nil {
			t.Error(err)
		}
	}
	timer := time.AfterFunc(30*time.Millisecond, func() { create(chat.NewID()); create(young) })
	defer timer.Stop()
	if task, err := FindTask(t.Context(), kit.Room, young); err != nil || string(task.ID) != young {
		t.Errorf("a task that came while it was looked for = %+v, %v", task, err)
	}
	if _, err := FindTask(t.Context(), impatient{kit.Room, t}, old); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("a task of long ago: %v, want not found", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := FindTask(ctx, kit.Room, chat.NewID()); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("a task that never comes: %v, want not found", err)
	}
}

// impatient is a Finder that must not wait.
type impatient struct {
	Finder
	t *testing.T
}

func (i impatient) Wait(context.Context, uint64) error {
	i.t.Error("a task of long ago is waited for")
	return nil
}

// meanwhile is a Finder whose first look is followed by something.
type meanwhile struct {
	Finder
	then func()
}

func (m *meanwhile) Task(id string) (chat.Task, error) {
	t, err := m.Finder.Task(id)
	if m.then != nil {
		m.then()
		m.then = nil
	}
	return t, err
}

// TestATaskThatCameJustAfterTheLookIsFound: it is not the next one that is
// waited for.
func TestATaskThatCameJustAfterTheLookIsFound(t *testing.T) {
	kit := chattest.NewKit()
	kit.Project(t, "web")
	id := chat.NewID()
	room := &meanwhile{kit.Room, func() {
		op := chat.Op{TaskCreate: &chat.TaskCreate{ID: chat.TaskID(id), Project: "web", Message: chat.NewID(), Text: "x"}}
		if _, err := kit.Do(t.Context(), chattest.Ana, "", op); err != nil {
			t.Error(err)
		}
	}}
	if task, err := FindTask(t.Context(), room, id); err != nil || string(task.ID) != id {
		t.Errorf("FindTask() = %+v, %v; want the task", task, err)
	}
}
