package workspace

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/workspace/docker"
)

// spare makes a container of this mesh that no lease has.
func (n *member) spare(task string) string {
	n.t.Helper()
	ctx := context.WithoutCancel(n.t.Context())
	name := "samnode-spare-" + strings.ToLower(chat.NewID()[18:])
	id, err := n.config.Engine.Create(ctx, docker.Spec{
		Name: name, Image: baseImage, Cmd: []string{"sleep", "600"},
		Labels: map[string]string{docker.LabelTask: task, docker.LabelWorkspace: "1"},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.config.Engine.Start(ctx, id); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := n.config.Engine.Remove(ctx, id); err != nil {
			n.t.Error(err)
		}
	})
	return name
}

// TestNodeIsCleanBetweenTasks: what an ended workspace left keeps a node from
// the next task until it is cleared, which the node does by itself.
func TestNodeIsCleanBetweenTasks(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	n := m.memberWith("a", func(c *Config) { c.TidyEvery = 500 * time.Millisecond })
	id := m.task("echo one > one.txt")
	m.place(id, n.name)
	m.idle(id)
	if err := n.runner.Healthy(t.Context()); err != nil {
		t.Errorf("with a workspace that has its lease: %v", err)
	}
	name := n.spare(chat.NewID())
	err := n.runner.Healthy(t.Context())
	if err != nil && !strings.Contains(err.Error(), name) {
		t.Errorf("with what another left: %v, want a sentence about %s", err, name)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := n.config.Engine.Inspect(t.Context(), name); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s is still there", name)
		}
	}
	if err := n.runner.Healthy(t.Context()); err != nil {
		t.Errorf("when it is cleared: %v", err)
	}
	if st, err := n.config.Engine.List(t.Context(), map[string]string{docker.LabelTask: string(id)}); err != nil || len(st) != 1 || !st[0].Running {
		t.Errorf("the workspace that has its lease is %+v, %v", st, err)
	}
}

// TestUncleanNodeIsUnfit: without anybody who clears, the node says so.
func TestUncleanNodeIsUnfit(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	n := m.member("a")
	n.stop()
	name := n.spare(chat.NewID())
	if err := n.runner.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("Healthy = %v, want a sentence about %s", err, name)
	}
}

// TestArchivedTasksAreForgotten: the volumes of a task go a while after it was
// archived, and no others.
func TestArchivedTasksAreForgotten(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	n := m.member("a")
	old, kept := m.task("echo one > one.txt"), m.task("echo two > two.txt")
	yes := true
	for _, id := range []chat.TaskID{old, kept} {
		m.place(id, n.name)
		m.idle(id)
		m.kit.Must(t, chattest.Ana, chat.Op{Release: &chat.Release{Task: id}})
	}
	n.gone()
	m.kit.Must(t, chattest.Ana, chat.Op{TaskEdit: &chat.TaskEdit{Task: old, Archived: &yes}})
	volumes := func(id chat.TaskID) int {
		t.Helper()
		list, err := n.config.Engine.ListVolumes(t.Context(), map[string]string{docker.LabelTask: string(id)})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for _, step := range []struct {
		before time.Time
		left   int
	}{{time.Now().Add(-keepArchived), 2}, {m.kit.Get(t, old).Since.Add(time.Second), 0}} {
		if err := n.runner.forgetOld(t.Context(), step.before); err != nil {
			t.Fatal(err)
		}
		if volumes(old) != step.left || volumes(kept) != 2 {
			t.Errorf("before %s: %d volumes of the archived task, want %d; and %d of the other, want 2", step.before, volumes(old), step.left, volumes(kept))
		}
	}
}
