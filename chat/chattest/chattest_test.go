package chattest_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

func TestKitRunsATaskToIdle(t *testing.T) {
	k := chattest.NewKit()
	p := k.Project(t, "demo")
	task := k.NewTask(t, p.ID, "Fix the parser\nand test it")
	k.Work(t, task.ID)
	k.Emit(t, task.ID, chat.Item{ID: "m1", Kind: chat.KindAgent, Text: "Done.", Closed: true})
	got := k.Finish(t, task.ID)
	if got.State != chat.Idle || got.Turns != 1 || got.Title != "Fix the parser" {
		t.Errorf("task = %+v", got)
	}
	var b bytes.Buffer
	if err := k.Export(t.Context(), &b, task.ID, "md"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "Done.") {
		t.Errorf("export lacks the agent's text:\n%s", b.String())
	}
}
