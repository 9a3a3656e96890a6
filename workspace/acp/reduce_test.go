package acp_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
)

// script is a journal written by hand.
type script struct {
	run     int
	records []acp.Record
}

func (s *script) add(dir, id, data string) {
	seq := uint64(len(s.records) + 1)
	s.records = append(s.records, acp.Record{
		Seq: seq, At: time.Unix(1_800_000_000+int64(seq), 0).UTC(), Dir: dir, ID: id, Run: s.run, Data: []byte(data),
	})
}

func (s *script) start()       { s.run++; s.add(acp.Note, "agent", `{"event":"started","pid":7}`) }
func (s *script) out(l string) { s.add(acp.Out, "", l) }
func (s *script) update(u string) {
	s.out(`{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":` + u + `}}`)
}

func (s *script) prompt(id string) {
	s.add(acp.In, "prompt-"+id, `{"jsonrpc":"2.0","id":"prompt-`+id+`","method":"session/prompt","params":{}}`)
}

// open is a run that is ready for prompts.
func open() *script {
	s := &script{}
	s.start()
	s.add(acp.In, "init-1", `{"jsonrpc":"2.0","id":"init-1","method":"initialize","params":{}}`)
	s.out(`{"jsonrpc":"2.0","id":"init-1","result":{"protocolVersion":1}}`)
	s.add(acp.In, "session-1", `{"jsonrpc":"2.0","id":"session-1","method":"session/new","params":{}}`)
	s.out(`{"jsonrpc":"2.0","id":"session-1","result":{"sessionId":"s1"}}`)
	return s
}

// feed reduces the journal and checks what holds for any journal.
func feed(t *testing.T, records []acp.Record) ([]chat.Item, *acp.Conversation) {
	t.Helper()
	c := acp.NewConversation(acp.ConversationConfig{Workspace: 3, Agent: "Fake"})
	var all []chat.Item
	for _, r := range records {
		items, err := c.Feed(r)
		if err != nil {
			t.Fatalf("Feed(%d): %v", r.Seq, err)
		}
		for _, it := range items {
			checkItem(t, it, r.Seq)
		}
		all = append(all, items...)
	}
	return all, c
}

func checkItem(t *testing.T, it chat.Item, seq uint64) {
	t.Helper()
	b, err := json.Marshal(it)
	if err != nil {
		t.Fatalf("item of record %d: %v", seq, err)
	}
	if len(b) > 256<<10 {
		t.Errorf("an item of record %d has %d bytes", seq, len(b))
	}
	if !utf8.ValidString(it.Text) || !utf8.ValidString(it.Detail) || it.Tool != nil && !utf8.ValidString(it.Tool.Output+it.Tool.Input+it.Tool.Title) {
		t.Errorf("an item of record %d is not UTF-8", seq)
	}
	if it.Source != seq || it.ID == "" {
		t.Errorf("item %q of record %d says %d", it.ID, seq, it.Source)
	}
	if len(it.Raw) > 0 && !json.Valid(it.Raw) {
		t.Errorf("raw of record %d is not JSON", seq)
	}
}

// everything is a journal with one of each thing, and two crashes.
func everything() []acp.Record {
	s := open()
	s.out("npm warn something")
	s.add(acp.Err, "", "debug line")
	s.prompt("t1")
	s.update(`{"sessionUpdate":"agent_thought_chunk","content":{"type":"text","text":"Let me "}}`)
	s.update(`{"sessionUpdate":"agent_thought_chunk","content":{"type":"text","text":"see."}}`)
	s.update(`{"sessionUpdate":"agent_message_chunk","messageId":"m1","content":{"type":"text","text":"I will "}}`)
	s.out("noise in the middle")
	s.update(`{"sessionUpdate":"agent_message_chunk","messageId":"m1","content":{"type":"text","text":"look ☃"}}`)
	s.update(`{"sessionUpdate":"plan","entries":[{"content":"look","status":"in_progress","priority":"high"},{"content":"act","status":"pending"}]}`)
	s.update(`{"sessionUpdate":"tool_call","toolCallId":"c1","title":"Terminal","kind":"execute","status":"pending","rawInput":{},"content":[{"type":"terminal","terminalId":"c1"}]}`)
	s.update(`{"sessionUpdate":"tool_call_update","toolCallId":"c1","title":"make test","rawInput":{"command":"make test"}}`)
	s.out(`{"jsonrpc":"2.0","id":0,"method":"session/request_permission","params":{"sessionId":"s1","toolCall":{"toolCallId":"c1"},"options":[{"optionId":"a","name":"Allow","kind":"allow_once"}]}}`)
	s.add(acp.In, "answer-w3.17", `{"jsonrpc":"2.0","id":0,"result":{"outcome":{"outcome":"selected","optionId":"a"}}}`)
	s.update(`{"sessionUpdate":"tool_call_update","toolCallId":"c1","status":"in_progress"}`)
	for i := range 20 {
		s.update(fmt.Sprintf(`{"sessionUpdate":"tool_call_update","toolCallId":"c1","_meta":{"terminal_output_delta":{"terminal_id":"c1","data":"line %d\n"}}}`, i))
	}
	s.update(`{"sessionUpdate":"tool_call_update","toolCallId":"c1","status":"completed","rawOutput":"ignored","_meta":{"terminal_exit":{"terminal_id":"c1","exit_code":2,"signal":null}}}`)
	s.update(`{"sessionUpdate":"usage_update","used":1000,"size":200000,"cost":{"amount":0.25,"currency":"USD"}}`)
	s.update(`{"sessionUpdate":"agent_message_chunk","messageId":"m2","content":{"type":"text","text":"Done."}}`)
	s.update(`{"sessionUpdate":"plan","entries":[{"content":"look","status":"completed"},{"content":"act","status":"completed"}]}`)
	s.out(`{"jsonrpc":"2.0","id":"prompt-t1","result":{"stopReason":"end_turn","usage":{"inputTokens":10,"outputTokens":20,"cachedReadTokens":5,"totalTokens":35}}}`)
	s.prompt("t2")
	s.out(`{"jsonrpc":"2.0","id":3,"method":"fs/write_text_file","params":{"path":"/etc/passwd","content":"x"}}`)
	s.add(acp.In, "reject-w3.50", `{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"Method not found"}}`)
	s.update(`{"sessionUpdate":"tool_call","toolCallId":"c2","title":"edit","kind":"edit","status":"in_progress","content":[{"type":"diff","path":"/a","oldText":null,"newText":"new"}]}`)
	s.add(acp.Err, "", "fatal: boom")
	s.add(acp.Note, "", `{"event":"exited","code":1}`)
	s.start()
	s.add(acp.In, "init-2", `{"jsonrpc":"2.0","id":"init-2","method":"initialize","params":{}}`)
	s.out(`{"jsonrpc":"2.0","id":"init-2","result":{}}`)
	s.add(acp.In, "session-2", `{"jsonrpc":"2.0","id":"session-2","method":"session/load","params":{"sessionId":"s1"}}`)
	s.update(`{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"replay"}}`)
	s.out(`{"jsonrpc":"2.0","id":"session-2","result":{}}`)
	s.prompt("t3")
	s.update(`{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"third "}}`)
	s.update(`{"sessionUpdate":"compaction_update","status":"started","tokens":5}`)
	s.update(`{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"turn"}}`)
	s.out(`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"mode":"form","message":"Which?","requestedSchema":{"type":"object","properties":{"z":{"type":"string","oneOf":[{"const":"1","title":"One"}]},"a":{"type":"boolean"}}}}}`)
	s.start() // the container was killed: no note of an exit
	s.prompt("t4")
	s.out(`{"jsonrpc":"2.0","id":"prompt-t4","error":{"code":-32000,"message":"Authentication required"}}`)
	return s.records
}

// Cut at any record, the rest comes to the same chat: a node that died there
// reads the journal again and logs only what lies above the cursor.
func TestReductionIsExactlyOnceAtEveryCut(t *testing.T) {
	records := everything()
	whole, _ := feed(t, records)
	want := apply(t, whole)
	for cut := range records {
		before, _ := feed(t, records[:cut])
		again, _ := feed(t, records)
		items := before
		for _, it := range again {
			if it.Source > uint64(cut) {
				items = append(items, it)
			}
		}
		if diff := cmp.Diff(whole, items); diff != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", cut, diff)
		}
		if diff := cmp.Diff(want.String(), apply(t, items).String()); diff != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", cut, diff)
		}
	}
}

// The same through batches of any size with nodes that die at any moment, also
// between a batch that is in the log and its answer.
func TestBatchesAreExactlyOnce(t *testing.T) {
	records := everything()
	whole, _ := feed(t, records)
	want := apply(t, whole)
	last := whole[len(whole)-1].Source // records after it make nothing
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		log := &cursorLog{}
		synctest.Test(t, func(t *testing.T) {
			for log.cursor < last {
				runNode(t, rng, records, log)
			}
		})
		if diff := cmp.Diff(want.String(), apply(t, log.items).String()); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
		if got := apply(t, log.items); got.usage != want.usage || len(got.ends) != len(want.ends) {
			t.Fatalf("seed %d: usage %+v, ends %v", seed, got.usage, got.ends)
		}
	}
}

// cursorLog takes batches as the chat does.
type cursorLog struct {
	cursor uint64
	items  []chat.Item
}

func TestEverythingInTheChat(t *testing.T) {
	items, c := feed(t, everything())
	b := apply(t, items)
	tools := b.of(chat.KindTool)
	if got := *tools[0].Tool; got.Title != "make test" || got.Input != `{"command":"make test"}` || *got.Exit != 2 ||
		!strings.HasPrefix(got.Output, "line 0\n") || !strings.HasSuffix(got.Output, "line 19\n") || got.Status != "completed" {
		t.Errorf("tool = %+v", got)
	}
	if tools[1].Tool.Status != "cancelled" || tools[1].Tool.Diffs[0].New != "new" {
		t.Errorf("tool = %+v", tools[1].Tool)
	}
	var said []string
	for _, m := range b.of(chat.KindAgent) {
		said = append(said, m.Text)
		if !m.Closed {
			t.Errorf("%q is not closed", m.Text)
		}
	}
	if diff := cmp.Diff([]string{"I will look ☃", "Done.", "third turn"}, said); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	if thought := b.of(chat.KindThought); len(thought) != 1 || thought[0].Text != "Let me see." {
		t.Errorf("thoughts = %+v", thought)
	}
	if plan := b.of(chat.KindPlan); len(plan) != 1 || plan[0].Plan[1].Status != "completed" {
		t.Errorf("plans = %+v", plan)
	}
	if want := (chat.Usage{Input: 10, Output: 20, Cost: 250_000}); b.usage != want {
		t.Errorf("usage = %+v, want %+v", b.usage, want)
	}
	var raw []string
	for _, m := range b.of(chat.KindRaw) {
		raw = append(raw, m.Text)
	}
	if diff := cmp.Diff([]string{"npm warn something\n", "noise in the middle\n", "compaction_update"}, raw); diff != "" {
		t.Errorf("raw (-want +got):\n%s", diff)
	}
	if asks := b.of(chat.KindAsk); len(asks) != 2 || asks[0].Ask.Closed != "Answered." || asks[0].Ask.Tool != tools[0].ID || asks[0].Ask.Detail != "make test" {
		t.Errorf("asks = %+v, %+v", asks[0].Ask, asks[1].Ask)
	}
	fields := b.of(chat.KindAsk)[1].Ask.Fields
	if len(fields) != 2 || fields[0].Name != "z" || fields[0].Type != "choice" || fields[0].Choices[0] != "One" || fields[1].Type != "boolean" {
		t.Errorf("fields = %+v", fields)
	}
	for id, want := range map[chat.TurnID]acp.Turn{
		"t1": {Stop: "end_turn", Delivery: chat.Delivered},
		"t2": {Delivery: chat.Unknown},
		"t3": {Delivery: chat.Unknown},
		"t4": {Stop: "error", Delivery: chat.Delivered},
	} {
		if got, ok := c.TurnOf(id); !ok || got.Stop != want.Stop || got.Delivery != want.Delivery {
			t.Errorf("turn %s = %+v", id, got)
		}
	}
	if turn, _ := c.TurnOf("t1"); turn.Usage != (chat.Usage{Input: 10, Output: 20, Cached: 5, Cost: 250_000, Context: 1000, ContextMax: 200000}) {
		t.Errorf("usage of the turn = %+v", turn.Usage)
	}
}

func TestGapsAndRepeatsOfRecords(t *testing.T) {
	s := open()
	c := acp.NewConversation(acp.ConversationConfig{})
	for _, r := range s.records[:3] {
		if _, err := c.Feed(r); err != nil {
			t.Fatal(err)
		}
	}
	if items, err := c.Feed(s.records[1]); err != nil || items != nil {
		t.Errorf("a record again = %v, %v", items, err)
	}
	if _, err := c.Feed(s.records[4]); err == nil {
		t.Error("a gap is not an error")
	}
}

func TestHostileUpdates(t *testing.T) {
	big := strings.Repeat("<é\x00", 300<<10)
	quoted, err := json.Marshal(big)
	if err != nil {
		t.Fatal(err)
	}
	q := string(quoted)
	updates := []string{
		`null`, `[]`, `7`, `"x"`, `{}`,
		`{"sessionUpdate":7}`,
		`{"sessionUpdate":"tool_call"}`,
		`{"sessionUpdate":"tool_call","toolCallId":{"a":1},"title":[1,2],"kind":null,"status":{},"locations":"x","content":{"type":"diff"},"rawInput":[[[]]]}`,
		`{"sessionUpdate":"tool_call","toolCallId":"b","title":` + q + `,"kind":` + q + `,"status":` + q + `}`,
		`{"sessionUpdate":"tool_call_update","toolCallId":"b","rawInput":{"x":` + q + `},"rawOutput":` + q + `,"content":[{"type":"content","content":{"type":"text","text":` + q + `}},{"type":"diff","path":` + q + `,"oldText":` + q + `,"newText":` + q + `}]}`,
		`{"sessionUpdate":"tool_call_update","toolCallId":"b","status":"completed","locations":[` + strings.Repeat(`{"path":"/a","line":1e300},`, 999) + `{"path":"/b","line":-1}]}`,
		`{"sessionUpdate":"tool_call_update","toolCallId":"b","content":[` + strings.Repeat(`{"type":"diff","path":"p","oldText":"a","newText":"b"},`, 999) + `7,null]}`,
		`{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":` + q + `}}`,
		`{"sessionUpdate":"agent_message_chunk","content":{"type":"hologram","text":"x"}}`,
		`{"sessionUpdate":"agent_message_chunk","content":"just text"}`,
		`{"sessionUpdate":"agent_message_chunk","content":null}`,
		`{"sessionUpdate":"agent_message_chunk","content":{"type":"image","data":` + q + `,"mimeType":"image/png"}}`,
		`{"sessionUpdate":"agent_message_chunk","content":{"type":"resource","resource":{"uri":"file:///a","text":"inside"}}}`,
		`{"sessionUpdate":"agent_thought_chunk","messageId":9,"content":{"type":"text","text":"\ud83d"}}`,
		`{"sessionUpdate":"plan","entries":{"a":1}}`,
		`{"sessionUpdate":"plan","entries":[` + strings.Repeat(`{"content":`+`"x"`+`},`, 999) + `7]}`,
		`{"sessionUpdate":"usage_update","used":-5,"size":1e400,"cost":{"amount":-1}}`,
		`{"sessionUpdate":"usage_update","used":1e18,"size":"x","cost":7}`,
		`{"sessionUpdate":"available_commands_update","availableCommands":7}`,
		`{"sessionUpdate":"config_option_update","configOptions":[{"id":1,"options":[{"options":[{"value":"deep"}]}]}]}`,
		`{"sessionUpdate":"from_the_future","payload":` + q + `}`,
		`{"sessionUpdate":` + q + `}`,
		`{"sessionUpdate":"x","deep":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
	}
	s := open()
	s.prompt("t1")
	for _, u := range updates {
		s.update(u)
	}
	for _, l := range []string{
		"", "   ", "{", `{"jsonrpc":"2.0"}`, "\xff\xfe\x00", `{"jsonrpc":"2.0","method":"session/update"}`, `[{"jsonrpc":"2.0"}]`,
		`{"jsonrpc":"2.0","id":"prompt-nobody","result":{}}`, `{"jsonrpc":"2.0","id":"init-9","result":{}}`, `{"jsonrpc":"2.0","id":{"a":1},"result":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"session/request_permission"}`, `{"jsonrpc":"2.0","id":2,"method":"session/request_permission","params":{"options":[]}}`,
		`{"jsonrpc":"2.0","id":3,"method":"elicitation/create","params":{"mode":"url","url":"http://x"}}`,
		`{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":77}}`, strings.Repeat("noise ", 10000),
		`{"jsonrpc":"2.0","id":4,"method":` + q + `}`,
	} {
		s.out(l)
	}
	s.out(`{"jsonrpc":"2.0","id":"prompt-t1","result":{"stopReason":{"a":1}}}`)
	items, c := feed(t, s.records)
	b := apply(t, items)
	for _, tool := range b.of(chat.KindTool) {
		if len(tool.Tool.Diffs) > 200 || len(tool.Tool.Locations) > 200 || len(tool.Tool.Title) > 2000 {
			t.Errorf("a tool with %d diffs", len(tool.Tool.Diffs))
		}
	}
	if turn, _ := c.Turn(); turn.Open() {
		t.Errorf("the turn is open: %+v", turn)
	}
}

func FuzzUpdate(f *testing.F) {
	for _, r := range everything() {
		f.Add(r.Data, uint8(0))
	}
	f.Add([]byte(`{"method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"a","content":[{"type":"diff"}]}}}`), uint8(1))
	f.Fuzz(func(t *testing.T, line []byte, dir uint8) {
		s := open()
		s.prompt("t1")
		s.update(`{"sessionUpdate":"tool_call","toolCallId":"c1","title":"t"}`)
		for i := range 3 {
			s.add([]string{acp.Out, acp.In, acp.Err, acp.Note}[dir%4], fmt.Sprintf("answer-w3.%d", i), string(line))
			s.update(`{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"between"}}`)
		}
		s.add(acp.Note, "", `{"event":"exited","code":0}`)
		first, _ := feed(t, s.records)
		second, _ := feed(t, s.records)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("two readings differ:\n%s", diff)
		}
		apply(t, first)
	})
}
