package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/modeltest"
)

// TestCodex is a task with the real codex, in each of its modes.
func TestCodex(t *testing.T) {
	t.Parallel()
	n := newAgentNode(t, "codex")
	repo := localRepo(t, nil)
	must[chat.Project](n.testNode, "project", "add", "app", "--repo", repo, "--agent", "codex", "--mode", "everything")
	id := n.run("app", "SCENARIO=edit FILE=a.txt TEXT=alpha").ID
	first := n.turn(id, 1)
	if got := gitIn(t, repo, "show", first.Branch+":a.txt"); got != "alpha" {
		t.Errorf("a.txt = %q", got)
	}
	if first.Usage.Input == 0 || first.Usage.Output == 0 || first.Session == "" {
		t.Errorf("usage %+v, session %q", first.Usage, first.Session)
	}
	n.hides(id, realKey)
	steps := n.api.Steps()
	if len(steps) == 0 || slices.ContainsFunc(steps, func(r modeltest.Request) bool { return r.Key != realKey }) {
		t.Errorf("the model API did not get its key in each of %d requests", len(steps))
	}
	asks := map[chat.Mode]string{}
	for i, mode := range []chat.Mode{chat.ModeAcceptEdits, chat.ModeAsk} {
		n.patch("tasks/"+string(id), map[string]chat.Mode{"mode": mode})
		n.say(id, "SCENARIO=edit FILE="+string(mode)+".txt TEXT=beta")
		n.until(id, "done", func(v taskView) bool {
			if v.State == chat.NeedsYou {
				asks[mode] += n.allow(id).Detail
				return false
			}
			return v.Turns == 2+i && rests(v.Task)
		})
		if !strings.Contains(asks[mode], string(mode)+".txt") {
			t.Errorf("%s asks %q\n%s", mode, asks[mode], n.talk(id))
		}
		if got := gitIn(t, repo, "show", first.Branch+":"+string(mode)+".txt"); got != "beta" {
			t.Errorf("%s.txt = %q", mode, got)
		}
	}
	if talk := n.talk(id); strings.Contains(talk, "Blocked") {
		t.Errorf("codex looks for the web by itself:\n%s", talk)
	}
}
