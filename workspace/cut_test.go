package workspace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// knocks is a script that tries to get out all the time, and says how often it
// was let. It ends its turn when /tmp/enough is there.
const knocks = `echo 1 > work.txt; echo 1 > loose.txt
i=0
while [ ! -e /tmp/enough ]; do
	i=$((i+1)); echo $i > tried.txt
	git add work.txt tried.txt; git commit -q -m "try $i"
	if git push -q origin HEAD 2>/tmp/push.err; then echo $i >> /tmp/pushed; fi
	git fetch -q origin 2>/tmp/fetch.err || true
	curl -s -o /tmp/web http://example.com/ || true
	[ $i != 1 ] || echo it works
	sleep 0.05
done
echo it ends`

// TestCutOff: a node that is away for longer than its tenure lets nothing out
// of a workspace. When it is back within the lease it goes on.
func TestCutOff(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.member("a")
	id := m.task(knocks)
	m.place(id, a.name)
	m.printed(id, "it works")
	task := m.kit.Get(t, id)
	if _, err := a.inside(task, "test -s /tmp/pushed"); err != nil {
		t.Error("the agent could not push before")
	}

	a.lose()
	for _, what := range []string{"push.err", "fetch.err", "web"} {
		a.eventually(what+" has the sentence", func() bool {
			out, _ := a.inside(task, "cat /tmp/"+what)
			return strings.Contains(out, "samnode: nothing leaves this workspace now: this node has not reached the mesh for")
		})
	}
	before := m.tip(task)
	tried, _ := a.inside(task, "cat /workspaces/app/tried.txt; : > /tmp/pushed")
	a.eventually("the agent goes on", func() bool {
		now, _ := a.inside(task, "cat /workspaces/app/tried.txt")
		return len(now) > len(tried) || now > tried
	})
	if out, err := a.inside(task, "cat /tmp/pushed"); out != "" {
		t.Errorf("pushed while cut off: %s, %v", out, err)
	}
	if m.tip(task) != before {
		t.Error("a node that is cut off pushed")
	}

	a.hold()
	a.eventually("pushes go through again", func() bool { return m.tip(task) != before })
	m.saidOnce(id, string(a.name)+" was cut off from the mesh from ")
	if _, err := a.inside(task, "touch /tmp/enough"); err != nil {
		t.Fatal(err)
	}
	task = m.idle(id)
	if task.Turns != 1 || task.Workspace != 1 || !task.Change.Pushed || task.Turn.Stop != "end_turn" {
		t.Errorf("after it: turn %+v, workspace %d, change %+v", task.Turn, task.Workspace, task.Change)
	}
	for _, s := range m.said(id) {
		if strings.HasPrefix(s, "error") {
			t.Errorf("the chat says %s", s)
		}
	}
}

// TestLeaseEndsWhileCutOff: what a node does after its lease was given away
// reaches nobody, however late it hears of it. What it has is kept and said.
func TestLeaseEndsWhileCutOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		far  bool // another node has the task before the first is back
	}{{"nobody else has it", false}, {"another node goes on", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			a := m.member("a")
			id := m.task("[ -e /tmp/second ] || [ ! -e ~/first ] && touch ~/first\n" + knocks)
			token := m.place(id, a.name)
			m.printed(id, "it works")
			first := m.kit.Get(t, id)

			a.lose()
			a.board.set(func(b *board) { b.away = true })
			a.eventually("the work in progress of that moment is committed", func() bool {
				_, err := a.inside(first, "git -C /workspaces/app rev-parse -q --verify refs/samnode/wip")
				return err == nil
			})
			m.expire(id)
			last := m.tip(first)
			if c.far {
				b := m.member("b")
				m.kit.Must(t, chattest.Ana, chat.Op{AskAnswer: &chat.AskAnswer{Task: id, Ask: m.kit.Get(t, id).Asks[0].ID, Answer: chat.Answer{Option: "discard"}}})
				m.kit.Must(t, chattest.Ana, chat.Op{Say: &chat.Say{Task: id, Message: chat.NewID(), Text: block("ls > listing.txt; echo the second is here")}})
				m.place(id, b.name)
				m.printed(id, "the second is here")
				task := m.idle(id)
				if task.Workspace != 2 || !task.Change.Pushed {
					t.Errorf("the second workspace = %+v", task)
				}
				if got := m.git("merge-base", last, m.tip(task)); got != last {
					t.Errorf("it did not begin at the branch as it was, %s", last)
				}
				last = m.tip(task)
			}
			// It is heard again, and told of the end of its lease much later.
			a.board.set(func(b *board) { b.away, b.behind, b.frozen = false, true, map[chat.TaskID]chat.Task{id: first} })
			a.hold()
			a.gone()
			if got := m.tip(first); got != last {
				t.Errorf("a lease that had ended pushed: the branch is at %s, was at %s", got, last)
			}
			m.saidOnce(id, string(a.name)+" kept ")
			kept := m.kept(id, token)
			if kept.Workspace != 1 || !strings.HasPrefix(kept.Detail, "Commit ") {
				t.Errorf("kept = %+v", kept)
			}
			commit := strings.TrimPrefix(kept.Detail, "Commit ")
			if got := a.onVolume(first, "git rev-parse HEAD; git status --porcelain"); got != commit {
				t.Errorf("the volume is at %q, the chat says %s", got, commit)
			}
			if got := a.onVolume(first, "git log -1 --format=%s refs/samnode/wip; git show HEAD:loose.txt refs/samnode/wip:loose.txt"); got != "Work in progress when "+string(a.name)+" was cut off from the mesh.\n1\n1" {
				t.Errorf("the commit of the moment of the cut, and what both have: %q", got)
			}
			if strings.Contains(strings.Join(m.said(id), "\n"), "it goes on") {
				t.Errorf("the chat says that it goes on:\n%s", strings.Join(m.said(id), "\n"))
			}
		})
	}
}

// TestLeaseEndedWhileAway: a node that was not there when its lease ended
// finds what it left, keeps it and says so, once.
func TestLeaseEndedWhileAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(t *testing.T, container string)
		wip  bool
	}{
		{"the container runs", func(*testing.T, string) {}, true},
		{"the container was stopped", func(t *testing.T, name string) { dockerDo(t, "stop", "-t", "1", name) }, true},
		{"nothing is in progress", func(*testing.T, string) {}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			a := m.member("a")
			script := "echo 1 > wip.txt; echo it works; sleep 600"
			if !c.wip {
				script = "echo it works; sleep 600"
			}
			id := m.task(script)
			token := m.place(id, a.name)
			m.printed(id, "it works")
			task := m.kit.Get(t, id)
			a.stop()
			c.do(t, "samnode-"+shortName(task))
			m.expire(id)
			a.start()
			a.gone()
			if m.tip(task) != "" {
				t.Error("a lease that had ended pushed")
			}
			if !c.wip {
				for _, s := range m.said(id) {
					if strings.Contains(s, " kept ") {
						t.Errorf("the chat says %s", s)
					}
				}
				return
			}
			m.saidOnce(id, string(a.name)+" kept 1 file of work in progress of workspace 1 on its volume")
			if got := a.onVolume(task, "git show HEAD:wip.txt"); got != "1" {
				t.Errorf("the volume has %q", got)
			}
			m.kept(id, token)

			// The task comes back to this node, and goes on with it.
			m.kit.Must(t, chattest.Ana, chat.Op{AskAnswer: &chat.AskAnswer{Task: id, Ask: m.kit.Get(t, id).Asks[0].ID, Answer: chat.Answer{Option: "discard"}}})
			m.kit.Must(t, chattest.Ana, chat.Op{Say: &chat.Say{Task: id, Message: chat.NewID(), Text: block("cat wip.txt; echo 2 > more.txt")}})
			m.place(id, a.name)
			task = m.until(id, "published", func(t chat.Task) bool { return t.State == chat.Idle && t.Workspace == 2 })
			if got := m.git("show", task.Branch+":wip.txt") + m.git("show", task.Branch+":more.txt"); got != "12" {
				t.Errorf("the branch has %q", got)
			}
		})
	}
}

// TestOldNewsIsNoEnd: a node that starts with an old view of the mesh does not
// take a lease that it holds for one that ended.
func TestOldNewsIsNoEnd(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known %v", known), func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			a := m.member("a")
			id := m.task("echo it works; while [ ! -e /tmp/enough ]; do sleep 0.05; done; echo 1 > done.txt")
			var before chat.Task
			if known {
				before = m.kit.Get(t, id)
			}
			m.place(id, a.name)
			m.printed(id, "it works")
			task := m.kit.Get(t, id)
			a.stop()
			a.board.set(func(b *board) { b.behind, b.frozen = true, map[chat.TaskID]chat.Task{id: before} })
			a.start()
			a.eventually("it asked", func() bool { return a.runner.runs.get(id) == nil })
			if a.containers() != 1 {
				t.Fatal("the workspace of a lease that this node holds was taken down")
			}
			a.board.set(func(b *board) { b.behind, b.frozen = false, nil })
			if _, err := a.inside(task, "touch /tmp/enough"); err != nil {
				t.Fatal(err)
			}
			task = m.idle(id)
			if task.Workspace != 1 || task.Turns != 1 || m.git("show", task.Branch+":done.txt") != "1" {
				t.Errorf("it went on as %+v", task)
			}
		})
	}
}

// TestModelWhileCutOff: no model call leaves a node that is cut off. The agent
// tries again by itself, and its turn ends as if nothing had happened.
func TestModelWhileCutOff(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	api, change := claude(t)
	a := m.memberWith("a", change)
	id := m.claudeTask(`SCENARIO=bash N=2 CMD="echo it works; touch /tmp/begun; while [ ! -e /tmp/enough ]; do sleep 0.05; done; echo 1 >> runs.txt"`)
	m.place(id, a.name)
	task := m.until(id, "working", func(t chat.Task) bool { return t.State == chat.Working })
	a.eventually("the tool runs", func() bool { _, err := a.inside(task, "test -e /tmp/begun"); return err == nil })
	a.lose()
	calls := len(api.Requests())
	if _, err := a.inside(task, "touch /tmp/enough"); err != nil {
		t.Fatal(err)
	}
	a.eventually("a call was refused", func() bool { return strings.Contains(a.log.String(), `msg="model call refused"`) })
	if n := len(api.Requests()); n != calls {
		t.Errorf("%d calls left a node that is cut off", n-calls)
	}
	a.hold()
	task = m.idle(id)
	if task.Turns != 1 || task.Turn.Stop != "end_turn" || m.git("show", task.Branch+":runs.txt") != "1\n1" {
		t.Errorf("the turn ended as %+v, the branch has %q", task.Turn, m.git("show", task.Branch+":runs.txt"))
	}
	for _, s := range m.said(id) {
		if strings.HasPrefix(s, "error") {
			t.Errorf("the chat says %s", s)
		}
	}
}
