package acp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
)

// The numbers that close the connection of the SDK: 3000 updates in a burst,
// one line above 10 MiB.
func TestBurstWithAnHugeLine(t *testing.T) {
	const updates, huge = 3001, 1500
	f := &fake{turn: func(f *fake, id json.RawMessage) {
		for i := range updates {
			if i == huge {
				f.say(strings.Repeat("x", 11<<20))
				continue
			}
			f.say(fmt.Sprintf("%d ", i))
		}
		f.result(id, `{"stopReason":"end_turn"}`)
	}}
	_, n, _ := startFake(t, f)
	prompt(t, n, "t1", "go")
	if turn, err := n.Wait(t.Context(), "t1"); err != nil || turn.Stop != "end_turn" {
		t.Fatalf("Wait = %+v, %v", turn, err)
	}
	said := n.board(t).of(chat.KindAgent)
	if len(said) != 3 || said[1].Size != 11<<20 || len(said[1].Text) > chat.MaxBody || !strings.Contains(said[1].Text, "MB left out") {
		t.Fatalf("%d messages", len(said))
	}
	var want strings.Builder
	for i := range updates {
		if i != huge {
			fmt.Fprintf(&want, "%d ", i)
		}
	}
	if got := said[0].Text + said[2].Text; got != want.String() {
		t.Errorf("the text around it is not whole: %d bytes, want %d", len(got), want.Len())
	}
}

func TestClientMethodsAreRefused(t *testing.T) {
	requests := []string{
		"fs/read_text_file", "fs/write_text_file", "terminal/create", "terminal/output", "terminal/wait_for_exit",
		"terminal/kill", "terminal/release", "something/else", "mcp/message",
	}
	refused := make(chan error, 1)
	f := &fake{turn: func(f *fake, id json.RawMessage) {
		for i, method := range requests {
			f.line(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"path":"/etc/passwd","content":"x"}}`, i, method))
		}
		var err error
		for i := range requests {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			m, e := f.response(ctx, fmt.Sprint(i))
			cancel()
			if e != nil || m.Error == nil || m.Error.Code != -32601 {
				err = errors.Join(err, fmt.Errorf("%s: %+v, %w", requests[i], m, e))
			}
		}
		refused <- err
		f.result(id, `{"stopReason":"end_turn"}`)
	}}
	_, n, _ := startFake(t, f)
	prompt(t, n, "t1", "go")
	if _, err := n.Wait(t.Context(), "t1"); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; err != nil {
		t.Error(err)
	}
	n.See(func(c *acp.Conversation) {
		if open := c.Asks(); len(open) > 0 {
			t.Errorf("asks = %+v", open)
		}
	})
}

// gemini sends no tool call before it asks.
func TestPermissionBeforeItsTool(t *testing.T) {
	f := &fake{turn: func(f *fake, id json.RawMessage) {
		f.line(`{"jsonrpc":"2.0","id":7,"method":"session/request_permission","params":{"sessionId":"s1","toolCall":{"toolCallId":"c1","title":"Write a.go","kind":"edit","status":"pending","locations":[{"path":"/w/a.go","line":3}],"content":[{"type":"diff","path":"/w/a.go","oldText":"a","newText":"b"}]},"options":[{"optionId":"yes","name":"Allow","kind":"allow_once"},{"optionId":"no","name":"Reject","kind":"reject_once"}]}}`)
		m, err := f.response(context.Background(), "7")
		if err != nil || !strings.Contains(string(m.Result), `"optionId":"yes"`) {
			f.fail(id, -32603, string(m.Result))
			return
		}
		f.update(`{"sessionUpdate":"tool_call_update","toolCallId":"c1","status":"completed","title":null,"content":[]}`)
		f.result(id, `{"stopReason":"end_turn"}`)
	}}
	j, n, _ := startFake(t, f)
	prompt(t, n, "t1", "go")
	n.until(t, "the ask", func(c *acp.Conversation) bool { return len(c.Asks()) == 1 })
	var ask chat.Ask
	n.See(func(c *acp.Conversation) { ask = c.Asks()[0] })
	if err := n.Answer(t.Context(), ask.ID, chat.Answer{Option: "maybe"}); !errors.Is(err, chat.ErrInvalid) {
		t.Errorf("an option nobody offered = %v, want ErrInvalid", err)
	}

	// The node is killed and another one attaches: the ask is the same, and two
	// answers at once reach the agent as one.
	n.detach()
	n2 := attach(t, j, acp.Config{Conversation: acp.ConversationConfig{Workspace: 1, Agent: "Fake"}})
	n2.Live()
	n2.until(t, "the ask again", func(c *acp.Conversation) bool { return len(c.Asks()) == 1 && c.Asks()[0].ID == ask.ID })
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- n2.Answer(t.Context(), ask.ID, chat.Answer{Option: "yes"}) }()
	go func() { second <- n2.Answer(t.Context(), ask.ID, chat.Answer{Option: "yes"}) }()
	for _, c := range []chan error{first, second} {
		if err := <-c; err != nil && !errors.Is(err, acp.ErrNotOpen) {
			t.Errorf("Answer = %v", err)
		}
	}
	if turn, err := n2.Wait(t.Context(), "t1"); err != nil || turn.Stop != "end_turn" {
		t.Fatalf("Wait = %+v, %v", turn, err)
	}
	f.mu.Lock()
	answers := 0
	for _, m := range f.got {
		if string(m.ID) == "7" {
			answers++
		}
	}
	f.mu.Unlock()
	if answers != 1 {
		t.Errorf("the agent got %d answers, want 1", answers)
	}
	tool := n2.board(t).of(chat.KindTool)
	if len(tool) != 1 || tool[0].ID != ask.Tool {
		t.Fatalf("tools = %+v, ask about %s", tool, ask.Tool)
	}
	got := tool[0].Tool
	if got.Title != "Write a.go" || got.Kind != "edit" || got.Status != "completed" || got.Diffs[0] != (chat.FileDiff{Path: "/w/a.go", Old: "a", New: "b"}) || got.Locations[0].Line != 3 {
		t.Errorf("tool = %+v", got)
	}
}

func TestCrashInATurn(t *testing.T) {
	tests := []struct {
		name     string
		cancel   bool
		delivery chat.Delivery
		stop     string
	}{
		{"nobody stopped it: unknown", false, chat.Unknown, ""},
		{"killed after a cancel: cancelled", true, chat.Delivered, "cancelled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{turn: func(f *fake, _ json.RawMessage) {
				f.say("begin")
				f.update(`{"sessionUpdate":"tool_call","toolCallId":"c1","title":"make","kind":"execute","status":"in_progress"}`)
				f.line(`{"jsonrpc":"2.0","id":1,"method":"session/request_permission","params":{"toolCall":{"toolCallId":"c2","title":"rm"},"options":[{"optionId":"y","name":"Y","kind":"allow_once"}]}}`)
			}}
			j, n, exit := startFake(t, f)
			prompt(t, n, "t1", "go")
			n.until(t, "the ask", func(c *acp.Conversation) bool { return len(c.Asks()) == 1 })
			if tt.cancel {
				done := make(chan error, 1)
				go func() { done <- n.Cancel(t.Context(), "t1") }()
				n.until(t, "the cancel", func(c *acp.Conversation) bool { turn, _ := c.Turn(); return turn.Cancelling })
				defer func() {
					if err := <-done; err != nil {
						t.Errorf("Cancel = %v", err)
					}
				}()
			}
			j.add(acp.Err, "", "panic: out of cheese")
			exit(`{"event":"exited","code":-1,"signal":"killed"}`)
			turn, err := n.Wait(t.Context(), "t1")
			if turn.Delivery != tt.delivery || turn.Stop != tt.stop || (err != nil) != (tt.delivery == chat.Unknown) {
				t.Errorf("Wait = %+v, %v", turn, err)
			}
			b := n.board(t)
			for _, m := range append(b.of(chat.KindTool), b.of(chat.KindAgent)...) {
				if !m.Closed || m.Tool != nil && m.Tool.Status != "cancelled" {
					t.Errorf("%s is left open: %+v", m.ID, m.Tool)
				}
			}
			if ask := b.of(chat.KindAsk); len(ask) != 1 || ask[0].Ask.Closed == "" {
				t.Errorf("asks = %+v", ask)
			}
			said := b.of(chat.KindError)
			if tt.cancel != (len(said) == 0) || !tt.cancel && (!strings.Contains(said[0].Text, "Fake was ended by a signal") || !strings.Contains(said[0].Detail, "out of cheese")) {
				t.Errorf("errors = %+v", said)
			}
			if err := n.Prompt(t.Context(), "t2", "more"); !errors.Is(err, acp.ErrDead) {
				t.Errorf("a prompt to a dead agent = %v, want ErrDead", err)
			}
			if err := n.Prompt(t.Context(), "t1", "go"); err != nil {
				t.Errorf("the same turn again = %v, want nothing sent", err)
			}
		})
	}
}

func TestReplayOfALoadIsNotInTheChat(t *testing.T) {
	late := make(chan struct{})
	f := &fake{caps: `{"loadSession":true}`}
	f.onLoad = func(f *fake) {
		f.update(`{"sessionUpdate":"user_message_chunk","content":{"type":"text","text":"old question"}}`)
		f.say("old answer")
		f.update(`{"sessionUpdate":"tool_call","toolCallId":"old","title":"old tool","status":"completed"}`)
		f.update(`{"sessionUpdate":"plan","entries":[{"content":"old","status":"completed"}]}`)
		f.update(`{"sessionUpdate":"session_info_update","title":"The title"}`)
		go func() { <-late; f.say("later part of the replay"); f.say("end") }()
	}
	f.turn = func(f *fake, id json.RawMessage) {
		f.update(`{"sessionUpdate":"user_message_chunk","content":{"type":"text","text":"echo of the prompt"}}`)
		f.say("new answer")
		f.result(id, `{"stopReason":"end_turn"}`)
	}
	j := newJournal()
	j.start(t, f.main)
	n := attach(t, j, acp.Config{Conversation: acp.ConversationConfig{Workspace: 2}})
	if err := n.Start(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	before := len(j.all())
	close(late)
	n.until(t, "the late part", func(c *acp.Conversation) bool { return c.Seq() >= uint64(before+2) })
	prompt(t, n, "t1", "new question")
	if _, err := n.Wait(t.Context(), "t1"); err != nil {
		t.Fatal(err)
	}
	b := n.board(t)
	if said := b.of(chat.KindAgent); len(b.order) != 1 || len(said) != 1 || said[0].Text != "new answer" {
		t.Errorf("chat:\n%s", b)
	}
	if s := n.Session(); s.Title != "The title" || s.ID != "s1" {
		t.Errorf("session = %+v", s)
	}
}

func TestErrorsInWords(t *testing.T) {
	tests := []struct {
		name    string
		code    int
		message string
		want    string
		retry   bool
	}{
		{"no key", -32000, "Authentication required", "samnode secret set FAKE_KEY", false},
		{"bad key", -32603, "API Error: 401 invalid x-api-key", "samnode secret set FAKE_KEY", false},
		{"overloaded", -32603, `API Error: 529 {"type":"overloaded_error"}`, "overloaded", true},
		{"rate limit", -32603, "429 Too Many Requests", "rate limit", true},
		{"refused by the node", -32603, `API Error: 403 {"error":{"message":"samnode: the task's budget is used up"}}`, "The task's budget is used up", false},
		{"network", -32603, "fetch failed: ECONNREFUSED", "could not be reached", true},
		{"anything else", -32603, "kaboom", "Fake reported an error: kaboom", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{turn: func(f *fake, id json.RawMessage) { f.fail(id, tt.code, tt.message) }}
			_, n, _ := startFake(t, f)
			prompt(t, n, "t1", "go")
			turn, err := n.Wait(t.Context(), "t1")
			if err != nil || turn.Stop != "error" || turn.Failure == nil {
				t.Fatalf("Wait = %+v, %v", turn, err)
			}
			if !strings.Contains(turn.Failure.Reason, tt.want) || turn.Failure.Retryable != tt.retry || !strings.Contains(turn.Failure.Detail, tt.message[:4]) {
				t.Errorf("failure = %+v", turn.Failure)
			}
			if said := n.board(t).of(chat.KindError); len(said) != 1 || said[0].Text != turn.Failure.Reason {
				t.Errorf("said %+v", said)
			}
		})
	}
}

// A driver that was killed between two calls goes on where it was.
func TestStartGoesOnAfterARestart(t *testing.T) {
	j, n, _ := startFake(t, &fake{})
	records := len(j.all())
	n.detach()
	n2 := attach(t, j, acp.Config{})
	if err := n2.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if n2.Session().ID != "s1" || len(j.all()) != records {
		t.Errorf("session %q after %d records, want s1 after %d", n2.Session().ID, len(j.all()), records)
	}
	if err := n2.SetMode(t.Context(), chat.ModeAsk); !errors.Is(err, acp.ErrNoMode) {
		t.Errorf("a mode without a name = %v, want ErrNoMode", err)
	}
}

func TestDeadlines(t *testing.T) {
	tests := []struct {
		name    string
		earlier string
		deaf    string // the method that gets no answer
		want    time.Duration
	}{
		{"initialize", "", "initialize", acp.InitializeTimeout},
		{"a new session", "", "session/new", acp.SessionTimeout},
		{"an earlier session", "s1", "session/resume", acp.SessionTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJournal()
				exit := j.start(t, (&fake{deaf: tt.deaf}).main)
				n := attach(t, j, acp.Config{Cwd: "/w"})
				began := time.Now()
				err := n.Start(t.Context(), tt.earlier)
				if !errors.Is(err, acp.ErrSilent) || time.Since(began) != tt.want {
					t.Errorf("Start = %v after %v, want ErrSilent after %v", err, time.Since(began), tt.want)
				}
				n.detach()
				exit("")
			})
		})
	}
}

func TestCancelOfADeafAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{turn: func(*fake, json.RawMessage) {}}
		j := newJournal()
		exit := j.start(t, f.main)
		n := attach(t, j, acp.Config{Cwd: "/w"})
		if err := n.Start(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		prompt(t, n, "t1", "go")
		synctest.Wait()
		began := time.Now()
		if err := n.Cancel(t.Context(), "t1"); !errors.Is(err, acp.ErrSilent) || time.Since(began) != acp.CancelTimeout {
			t.Errorf("Cancel = %v after %v", err, time.Since(began))
		}
		exit(`{"event":"exited","code":-1,"signal":"killed"}`)
		synctest.Wait()
		if turn, _ := n.Turn(); turn.Stop != "cancelled" {
			t.Errorf("turn = %+v", turn)
		}
		n.detach()
	})
}

func TestWatchTellsSilenceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{turn: func(f *fake, id json.RawMessage) {
			time.Sleep(30 * time.Minute)
			f.say("awake")
			time.Sleep(4 * time.Minute)
			f.result(id, `{"stopReason":"end_turn"}`)
		}}
		j := newJournal()
		exit := j.start(t, f.main)
		n := attach(t, j, acp.Config{Cwd: "/w"})
		if err := n.Start(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		told := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = n.Watch(ctx, 5*time.Minute, func(time.Time) { told++ })
		}()
		time.Sleep(time.Hour) // idle: nothing to tell
		prompt(t, n, "t1", "go")
		if _, err := n.Wait(t.Context(), "t1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		cancel()
		<-done
		if told != 1 {
			t.Errorf("told %d times, want once", told)
		}
		n.detach()
		exit("")
	})
}
