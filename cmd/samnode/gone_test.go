package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// TestWorkspaceGoes takes a task's workspace away between two turns: the next
// turn has a second workspace with the same conversation and branch.
func TestWorkspaceGoes(t *testing.T) {
	needDocker(t)
	t.Parallel()
	for _, c := range []struct {
		name string
		take func(n *testNode, v taskView)
	}{
		{"released", func(n *testNode, v taskView) {
			if v := must[taskView](n, "task", "release", string(v.ID)); v.Lease != nil {
				t.Errorf("released, but it has %+v", v.Lease)
			}
			n.stop()
			n.start()
		}},
		{"removed by hand", func(_ *testNode, v taskView) { dockerRun(t, "rm", "-f", "samnode-"+spaceOf(v)) }},
		{"removed by hand while the node was away", func(n *testNode, v taskView) {
			n.kill()
			dockerRun(t, "rm", "-f", "samnode-"+spaceOf(v))
			n.start()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			repo := localRepo(t, nil)
			must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
			first := must[taskView](n, "task", "run", "--project", "app", "--wait", "One\n\n```sh\necho line 1; echo 1 > 1.txt; echo kept > ~/kept\n```\n")
			c.take(n, first)
			must[taskView](n, "task", "say", string(first.ID), "Two\n\n```sh\necho line 2; cat 1.txt ~/kept > 2.txt\n```\n")
			v := n.until(first.ID, "done with turn 2", func(t taskView) bool { return t.State == chat.Idle && t.Turns == 2 })
			if v.Workspace != 2 || v.Session != first.Session || v.Session == "" || v.Branch != first.Branch {
				t.Errorf("after = workspace %d, session %q, branch %q; before: %q, %q", v.Workspace, v.Session, v.Branch, first.Session, first.Branch)
			}
			items := n.items(v.ID)
			if got := checkLines(t, items); got != 2 {
				t.Errorf("%d lines in the chat, want 2", got)
			}
			if got := gitIn(t, repo, "show", v.Branch+":2.txt"); got != "1\nkept" {
				t.Errorf("2.txt = %q", got)
			}
			if got := gitIn(t, repo, "rev-list", "--count", "main.."+v.Branch); got != "2" {
				t.Errorf("%s commits on the branch, want one of each turn", got)
			}
			n.checkJournal(first)
			n.checkJournal(v)
			for _, m := range items {
				if m.Level == "warn" && strings.Contains(m.Text, "session") || m.Kind == chat.KindError {
					t.Errorf("the chat has %+v", m)
				}
			}
		})
	}
}

// once runs for long the first time and ends at once the second.
const once = "Count the runs\n\n```sh\nn=$(($(cat ~/n 2>/dev/null || echo 0) + 1)); echo $n > ~/n\necho this is run $n; echo $n > runs.txt; [ $n -gt 1 ] || sleep 600\n```\n"

// TestContainerDies stops and kills the container in the middle of a turn, as
// a restart of the engine does. Nobody knows how far the prompt came, so it is
// never sent again by itself.
func TestContainerDies(t *testing.T) {
	needDocker(t)
	t.Parallel()
	for _, c := range []struct {
		name   string
		how    []string
		away   bool // of the node, meanwhile
		answer string
	}{
		{"stopped, sent again", []string{"stop"}, false, "again"},
		{"killed, discarded", []string{"kill"}, false, "discard"},
		{"killed with the node away, sent again", []string{"kill"}, true, "again"},
		{"removed, sent again", []string{"rm", "-f"}, false, "again"},
		{"removed with the node away, discarded", []string{"rm", "-f"}, true, "discard"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			repo := localRepo(t, nil)
			must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
			v := must[taskView](n, "task", "run", "--project", "app", once)
			v = n.until(v.ID, "running", func(v taskView) bool {
				return v.State == chat.Working && slices.ContainsFunc(n.items(v.ID), func(m chat.Message) bool {
					return m.Tool != nil && strings.Contains(m.Tool.Output, "run 1")
				})
			})
			if c.away {
				n.kill()
			}
			dockerRun(t, append(c.how, "samnode-"+spaceOf(v))...)
			if c.away {
				n.start()
			}
			v = n.until(v.ID, "asking", func(v taskView) bool { return v.State == chat.NeedsYou })
			if len(v.Asks) != 1 || v.Asks[0].Kind != chat.AskDelivery || v.Turn.Delivery != chat.Unknown || v.Turns != 1 {
				t.Fatalf("the task asks %+v, turn %+v", v.Asks, v.Turn)
			}
			must[taskView](n, "task", "answer", string(v.ID), c.answer)
			v = n.idle(v.ID)
			items := n.items(v.ID)
			want, turns := "", 1
			if c.answer == "again" {
				want, turns = "this is run 2", 2
			}
			if v.Turns != turns || v.Turn.Ended.IsZero() {
				t.Errorf("turn %+v of %d, want %d", v.Turn, v.Turns, turns)
			}
			if want != "" {
				checkItems(t, items, want)
				if got := gitIn(t, repo, "show", v.Branch+":runs.txt"); got != "2" {
					t.Errorf("runs.txt = %q, want 2", got)
				}
			}
			n.checkJournal(v)
			for _, m := range items {
				if m.Tool != nil && !m.Closed {
					t.Errorf("a tool is left %s", m.Tool.Status)
				}
			}
			must[taskView](n, "task", "say", string(v.ID), "```sh\necho and on\n```")
			v = n.until(v.ID, "done with one more turn", func(t taskView) bool { return t.State == chat.Idle && t.Turns == turns+1 })
			checkItems(t, n.items(v.ID), "and on")
		})
	}
}
