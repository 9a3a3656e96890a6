package workspace

import (
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// TestVolumesOfATask: a task that goes from node to node begins each time from
// the remote's branch. A dev container's commands that run once do so on each
// node's volume, and not again when the task is back.
func TestVolumesOfATask(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.push(map[string]string{".devcontainer/devcontainer.json": `{"image": "` + baseImage + `", "onCreateCommand": "echo x >> ~/created", "postStartCommand": "echo x >> ~/started"}`})
	a, b := m.member("a"), m.member("b")
	turn := func(n *member, id chat.TaskID, number int) chat.Task {
		t.Helper()
		if number > 1 {
			m.kit.Must(t, chattest.Ana, chat.Op{Release: &chat.Release{Task: id}})
			a.gone()
			b.gone()
			m.kit.Must(t, chattest.Ana, chat.Op{Say: &chat.Say{Task: id, Message: chat.NewID(), Text: block("cat turns.txt || true; echo turn >> turns.txt; echo created $(wc -l < ~/created) started $(wc -l < ~/started)")}})
		}
		m.place(id, n.name)
		return m.until(id, "published", func(t chat.Task) bool { return t.State == chat.Idle && t.Turns == number && t.Workspace == number })
	}
	id := m.task("echo turn >> turns.txt; echo created $(wc -l < ~/created) started $(wc -l < ~/started)")
	var task chat.Task
	for i, step := range []struct {
		on   *member
		want string
	}{{a, "created 1 started 1"}, {b, "created 1 started 1"}, {a, "created 1 started 2"}, {b, "created 1 started 2"}} {
		task = turn(step.on, id, i+1)
		last := ""
		for _, msg := range m.kit.Messages.All(id) {
			if msg.Tool != nil && msg.Workspace == i+1 {
				last = msg.Tool.Output
			}
		}
		if !strings.Contains(last, step.want) || strings.Count(last, "turn\n") != i {
			t.Errorf("turn %d on %s said %q, want %q and %d turns before it", i+1, step.on.name, last, step.want, i)
		}
	}
	if got := m.git("show", task.Branch+":turns.txt"); strings.Count(got, "turn") != 4 {
		t.Errorf("the branch has %q", got)
	}
	if got := m.git("log", "--merges", "--format=%s", task.Branch); got != "" {
		t.Errorf("merges where each volume was only older: %s", got)
	}
	for _, s := range m.said(id) {
		if strings.Contains(s, " kept ") || strings.HasPrefix(s, "error") {
			t.Errorf("the chat says %s", s)
		}
	}
}
