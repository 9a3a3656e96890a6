package acp_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/scriptagent"
)

// scriptConfig drives the built-in agent, with HOME in a folder of the test.
func scriptConfig(t *testing.T) acp.Config {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	a, err := agents.Lookup("script")
	if err != nil {
		t.Fatal(err)
	}
	return acp.Config{Cwd: t.TempDir(), Modes: a.Modes, Conversation: acp.ConversationConfig{Workspace: 1, Agent: a.Title}}
}

func startScript(t *testing.T, mode chat.Mode) (*journal, *node, acp.Config) {
	t.Helper()
	c, j := scriptConfig(t), newJournal()
	j.start(t, scriptMain)
	n := attach(t, j, c)
	if err := n.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := n.SetMode(t.Context(), mode); err != nil {
		t.Fatal(err)
	}
	return j, n, c
}

func scriptMain(ctx context.Context, in io.Reader, out io.Writer) error {
	return scriptagent.Main(ctx, in, out)
}

func prompt(t *testing.T, n *node, id chat.TurnID, text string) {
	t.Helper()
	if err := n.Prompt(t.Context(), id, text); err != nil {
		t.Fatal(err)
	}
}

func TestScriptRunsBlocksUntilOneFails(t *testing.T) {
	_, n, _ := startScript(t, chat.ModeEverything)
	prompt(t, n, "t1", "Do:\n```sh\necho one; echo two >&2\n```\nthen\n```bash\nexit 3\n```\n```sh\necho never\n```\n")
	turn, err := n.Wait(t.Context(), "t1")
	if err != nil || turn.Stop != "end_turn" || turn.Delivery != chat.Delivered {
		t.Fatalf("Wait = %+v, %v", turn, err)
	}
	b := n.board(t)
	tools := b.of(chat.KindTool)
	if len(tools) != 2 {
		t.Fatalf("%d tools, want 2:\n%s", len(tools), b)
	}
	first, second := tools[0].Tool, tools[1].Tool
	if first.Output != "one\ntwo\n" || first.Status != "completed" || *first.Exit != 0 || first.Kind != "execute" || first.Ended.IsZero() {
		t.Errorf("first tool = %+v", first)
	}
	if second.Status != "failed" || *second.Exit != 3 {
		t.Errorf("second tool = %+v", second)
	}
	said := b.of(chat.KindAgent)
	if len(said) != 1 || said[0].Text != "Block 2 failed with exit code 3. One block after it did not run." || !said[0].Closed {
		t.Errorf("said %+v", said)
	}
	plan := b.of(chat.KindPlan)
	if len(plan) != 1 || plan[0].Plan[0].Status != "completed" || plan[0].Plan[2].Status != "pending" {
		t.Errorf("plan = %+v", plan)
	}
	if len(b.ends) != 1 || b.ends[0] != (chat.TurnEnd{Turn: "t1", Stop: "end_turn"}) {
		t.Errorf("ends = %+v", b.ends)
	}
}

func TestScriptExplainsItself(t *testing.T) {
	_, n, _ := startScript(t, chat.ModeAsk)
	prompt(t, n, "t1", "please fix the bug")
	if turn, err := n.Wait(t.Context(), "t1"); err != nil || turn.Stop != "end_turn" {
		t.Fatalf("Wait = %+v, %v", turn, err)
	}
	if said := n.board(t).of(chat.KindAgent); len(said) != 1 || !strings.Contains(said[0].Text, "```sh") {
		t.Errorf("said %+v", said)
	}
}

func TestScriptAsks(t *testing.T) {
	_, n, _ := startScript(t, chat.ModeAsk)
	prompt(t, n, "t1", "```sh\necho a\n```\n```sh\necho b\n```\n```sh\necho c\n```\n")
	answer := func(option string) string {
		var ask chat.Ask
		n.until(t, "an ask", func(c *acp.Conversation) bool {
			open := c.Asks()
			if len(open) == 1 {
				ask = open[0]
			}
			return len(open) == 1
		})
		if ask.Kind != chat.AskPermission || len(ask.Options) != 3 || ask.Tool == "" {
			t.Errorf("ask = %+v", ask)
		}
		if err := n.Answer(t.Context(), ask.ID, chat.Answer{Option: option}); err != nil {
			t.Fatal(err)
		}
		return ask.ID
	}
	first := answer("run")
	n.until(t, "its end", func(c *acp.Conversation) bool { return len(c.Asks()) == 0 || c.Asks()[0].ID != first })
	if err := n.Answer(t.Context(), first, chat.Answer{Option: "skip"}); !errors.Is(err, acp.ErrNotOpen) {
		t.Errorf("second answer = %v, want ErrNotOpen", err)
	}
	answer("run_all")
	if turn, err := n.Wait(t.Context(), "t1"); err != nil || turn.Stop != "end_turn" {
		t.Fatalf("Wait = %+v, %v", turn, err)
	}
	b := n.board(t)
	if tools := b.of(chat.KindTool); len(tools) != 3 || tools[2].Tool.Output != "c\n" {
		t.Errorf("tools:\n%s", b)
	}
	for _, m := range b.of(chat.KindAsk) {
		if m.Ask.Closed == "" {
			t.Errorf("ask %s stays open", m.ID)
		}
	}
}

func TestScriptQuestion(t *testing.T) {
	_, n, _ := startScript(t, chat.ModeEverything)
	prompt(t, n, "t1", "```samnode question\nWhich colour?\n- red\n- blue\n```\n```sh\necho \"it is $SAMNODE_ANSWER\"\n```\n")
	n.until(t, "the question", func(c *acp.Conversation) bool { return len(c.Asks()) == 1 })
	var ask chat.Ask
	n.See(func(c *acp.Conversation) { ask = c.Asks()[0] })
	want := chat.AskField{Name: "answer", Label: "Answer", Type: "choice", Choices: []string{"red", "blue"}, Required: true}
	if ask.Kind != chat.AskQuestion || ask.Title != "Which colour?" || len(ask.Fields) != 1 || ask.Fields[0].Choices[1] != want.Choices[1] || ask.Fields[0].Type != want.Type || !ask.Fields[0].Required {
		t.Errorf("ask = %+v", ask)
	}
	if err := n.Answer(t.Context(), ask.ID, chat.Answer{Option: "accept", Values: map[string]string{"answer": "blue"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Wait(t.Context(), "t1"); err != nil {
		t.Fatal(err)
	}
	if tools := n.board(t).of(chat.KindTool); len(tools) != 1 || tools[0].Tool.Output != "it is blue\n" {
		t.Errorf("tools = %+v", tools)
	}
}

func TestScriptCancelKillsTheGroup(t *testing.T) {
	_, n, c := startScript(t, chat.ModeEverything)
	prompt(t, n, "t1", "```sh\necho $$ > pid; sleep 1000 & sleep 1000\n```\n")
	waitFile(t, c.Cwd)
	if err := n.Cancel(t.Context(), "t1"); err != nil {
		t.Fatal(err)
	}
	turn, ok := n.Turn()
	if !ok || turn.Stop != "cancelled" {
		t.Errorf("turn = %+v", turn)
	}
	assertGone(t, c.Cwd)
	prompt(t, n, "t2", "```sh\necho again\n```\n") // the session is usable afterwards
	if turn, err := n.Wait(t.Context(), "t2"); err != nil || turn.Stop != "end_turn" {
		t.Errorf("next turn = %+v, %v", turn, err)
	}
}

func TestScriptCancelWhileItAsks(t *testing.T) {
	_, n, _ := startScript(t, chat.ModeAsk)
	prompt(t, n, "t1", "```sh\necho a\n```\n")
	n.until(t, "an ask", func(c *acp.Conversation) bool { return len(c.Asks()) == 1 })
	if err := n.Cancel(t.Context(), "t1"); err != nil {
		t.Fatal(err)
	}
	b := n.board(t)
	asks := b.of(chat.KindAsk)
	if len(asks) != 1 || asks[0].Ask.Closed == "" || len(b.ends) != 1 || b.ends[0].Stop != "cancelled" {
		t.Errorf("after cancel:\n%s%+v", b, b.ends)
	}
	if tools := b.of(chat.KindTool); len(tools) != 1 || tools[0].Tool.Status != "failed" && tools[0].Tool.Status != "cancelled" {
		t.Errorf("tools = %+v", tools)
	}
}

// A session is taken up by a new process, with and without a replay, and the
// chat gets nothing twice.
func TestScriptResumesAndLoads(t *testing.T) {
	for _, method := range []string{"session/resume", "session/load"} {
		t.Run(method, func(t *testing.T) {
			c, j := scriptConfig(t), newJournal()
			exit := j.start(t, scriptMain)
			n := attach(t, j, c)
			if err := n.Start(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			if err := n.SetMode(t.Context(), chat.ModeEverything); err != nil {
				t.Fatal(err)
			}
			prompt(t, n, "t1", "```sh\necho first\n```\n")
			if _, err := n.Wait(t.Context(), "t1"); err != nil {
				t.Fatal(err)
			}
			session := n.Session().ID
			exit(`{"event":"exited","code":0}`)
			main := scriptMain
			if method == "session/load" {
				main = withoutResume(scriptMain)
			}
			j.start(t, main)
			n.until(t, "the second run", func(c *acp.Conversation) bool { run, alive := c.Run(); return run == 2 && alive })
			if err := n.Start(t.Context(), session); err != nil {
				t.Fatal(err)
			}
			if s := n.Session(); s.ID != session || s.Mode != "everything" || s.Fresh {
				t.Errorf("session = %+v, want %s", s, session)
			}
			if !sentMethod(j, method) {
				t.Errorf("%s was not called", method)
			}
			prompt(t, n, "t2", "```sh\necho second\n```\n")
			if _, err := n.Wait(t.Context(), "t2"); err != nil {
				t.Fatal(err)
			}
			b := n.board(t)
			if tools := b.of(chat.KindTool); len(tools) != 2 || tools[1].Tool.Output != "second\n" {
				t.Errorf("tools:\n%s", b)
			}
			if said := b.of(chat.KindAgent); len(said) != 2 {
				t.Errorf("%d messages, want 2:\n%s", len(said), b)
			}
		})
	}
}

func TestStartBeginsAnewWhenTheSessionIsGone(t *testing.T) {
	c, j := scriptConfig(t), newJournal()
	j.start(t, scriptMain)
	n := attach(t, j, c)
	if err := n.Start(t.Context(), "script-aaaaaaaaaaaaaaaa"); err != nil {
		t.Fatal(err)
	}
	if s := n.Session(); !s.Fresh || s.ID == "" || s.ID == "script-aaaaaaaaaaaaaaaa" {
		t.Errorf("session = %+v", s)
	}
	if notes := n.board(t).of(chat.KindStatus); len(notes) != 1 || notes[0].Text == "" {
		t.Errorf("notes = %+v", notes)
	}
}
