package scriptagent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fenced(code ...string) string {
	return "```sh\n" + strings.Join(code, "\n```\nand\n```sh\n") + "\n```\n"
}

func TestTurns(t *testing.T) {
	tests := []struct {
		name, mode, text string
		want             []tool
		said             string
	}{
		{name: "no fence gets the help", mode: modeEverything, text: "please fix the bug", said: help},
		{
			name: "blocks run in order, each in a shell of its own", mode: modeEverything, text: fenced("X=1; echo a", "echo b$X"),
			want: []tool{{"run-1-1", "X=1; echo a", "completed", "a\n", "0"}, {"run-1-2", "echo b$X", "completed", "b\n", "0"}},
			said: "Done: 2 blocks ran.",
		},
		{
			name: "the first that fails ends the turn", mode: modeEverything, text: fenced("echo a", "echo b >&2; exit 3", "echo c", "echo d"),
			want: []tool{{"run-1-1", "echo a", "completed", "a\n", "0"}, {"run-1-2", "echo b >&2; exit 3", "failed", "b\n", "3"}},
			said: "Block 2 failed with exit code 3. 2 blocks after it did not run.",
		},
		{
			name: "a line that fails ends its block", mode: modeEverything, text: fenced("false\necho never"),
			want: []tool{{"run-1-1", "false …", "failed", "", "1"}}, said: "Block 1 failed with exit code 1.",
		},
		{
			name: "a signal is 128 and its number", mode: modeEverything, text: fenced("kill -9 $$"),
			want: []tool{{"run-1-1", "kill -9 $$", "failed", "", "137"}}, said: "Block 1 failed with exit code 137.",
		},
		{name: "plan runs nothing", mode: modePlan, text: fenced("touch ran"), said: "I would run one block. In plan mode nothing runs; choose another mode and send it again."},
		{
			name: "windows line ends", mode: modeEverything, text: "do\r\n```sh\r\necho a\r\necho b\r\n```\r\n",
			want: []tool{{"run-1-1", "echo a …", "completed", "a\nb\n", "0"}}, said: "Done: one block ran.",
		},
		{
			name: "a fence that is not closed goes on to the end", mode: modeEverything, text: "```sh\necho a\necho '```' b",
			want: []tool{{"run-1-1", "echo a …", "completed", "a\n``` b\n", "0"}}, said: "Done: one block ran.",
		},
		{
			name: "what cannot be run is told", mode: modeEverything, text: fenced("echo \x00", "echo b"),
			want: []tool{{"run-1-1", "echo", "failed", "", ""}}, said: "I could not go on: starting the shell: ",
		},
		{
			name: "bytes that are not UTF-8 are replaced", mode: modeEverything, text: fenced(`printf 'a\377b\300\n\360\237'`),
			want: []tool{{"run-1-1", `printf 'a\377b\300\n\360\237'`, "completed", "a\ufffdb\ufffd\n\ufffd", "0"}}, said: "Done: one block ran.",
		},
	}
	for _, capabilities := range []string{plain, live} {
		for _, tt := range tests {
			t.Run(tt.name+map[string]string{plain: "", live: ", live"}[capabilities], func(t *testing.T) {
				c := start(t, tt.mode, capabilities)
				c.turn(tt.text)
				got := c.tools()
				if strings.HasPrefix(tt.said, "I could not") { // the system's words
					for i := range got {
						got[i].Output, got[i].Title = "", strings.TrimSpace(got[i].Title)
					}
				} else if c.said() != tt.said {
					t.Errorf("said %q, want %q", c.said(), tt.said)
				}
				if !strings.HasPrefix(c.said(), tt.said) {
					t.Errorf("said %q, want %q…", c.said(), tt.said)
				}
				// Half a character more or less is the terminal's affair.
				for i := range got {
					for strings.Contains(got[i].Output, "\ufffd\ufffd") {
						got[i].Output = strings.ReplaceAll(got[i].Output, "\ufffd\ufffd", "\ufffd")
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("tools (-want +got):\n%s", diff)
				}
				if _, err := os.Stat(filepath.Join(c.cwd, "ran")); err == nil {
					t.Error("plan mode ran a block")
				}
				c.mode(modeEverything)
				c.turn(fenced("echo again")) // the session goes on
				if got := c.tools(); len(got) != 1 || got[0].Call != "run-2-1" || got[0].Output != "again\n" {
					t.Errorf("next turn: %+v", got)
				}
			})
		}
	}
}

func TestPlanFollowsTheBlocks(t *testing.T) {
	c := start(t, modeEverything, plain)
	c.turn(fenced("true", "false", "true"))
	var got []string
	for _, u := range c.updates {
		if u.Kind == "plan" {
			line := ""
			for _, e := range u.Entries {
				line += e.Content + " " + e.Status + "; "
			}
			got = append(got, line)
		}
	}
	want := []string{
		"true in_progress; false pending; true pending; ",
		"true completed; false in_progress; true pending; ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plans (-want +got):\n%s", diff)
	}
}

func choose(option string) any {
	return map[string]any{"outcome": map[string]string{"outcome": "selected", "optionId": option}}
}

func TestAskMode(t *testing.T) {
	tests := []struct {
		name    string
		answers []any
		tools   string // statuses
		said    string
		stop    string
	}{
		{"each block is asked for", []any{choose("run"), choose("run"), choose("run")}, "completed completed completed", "Done: 3 blocks ran.", "end_turn"},
		{"the rest may be allowed at once", []any{choose("run"), choose("run_all")}, "completed completed completed", "Done: 3 blocks ran.", "end_turn"},
		{"a no ends the turn", []any{choose("run"), choose("skip")}, "completed failed", "Block 2 was not allowed to run. One block after it did not run.", "end_turn"},
		{"an option that was not offered is a no", []any{choose("always")}, "failed", "Block 1 was not allowed to run. 2 blocks after it did not run.", "end_turn"},
		{"an empty answer is a no", []any{map[string]any{}}, "failed", "Block 1 was not allowed to run. 2 blocks after it did not run.", "end_turn"},
		{"an ask that was cancelled cancels the turn", []any{map[string]any{"outcome": map[string]string{"outcome": "cancelled"}}}, "failed", "", "cancelled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, modeAsk, plain)
			c.ask = func(m incoming) any {
				if m.Method != "session/request_permission" || len(c.asked) > len(tt.answers) {
					t.Fatalf("asked %s %s", m.Method, m.Params)
				}
				n := len(c.asked)
				if _, err := os.Stat(filepath.Join(c.cwd, strconv.Itoa(n))); err == nil {
					t.Errorf("block %d ran before it was allowed", n)
				}
				return tt.answers[n-1]
			}
			if got := c.stop(c.prompt(fenced("touch 1", "touch 2", "touch 3"))); got != tt.stop {
				t.Errorf("stopped with %q, want %q", got, tt.stop)
			}
			var statuses []string
			for i, tool := range c.tools() {
				statuses = append(statuses, tool.Status)
				_, err := os.Stat(filepath.Join(c.cwd, strconv.Itoa(i+1)))
				if ran := err == nil; ran != (tool.Status == "completed") {
					t.Errorf("block %d ran: %v, but is %s", i+1, ran, tool.Status)
				}
			}
			if got := strings.Join(statuses, " "); got != tt.tools || c.said() != tt.said || len(c.asked) != len(tt.answers) {
				t.Errorf("tools %q, said %q after %d asks; want %q, %q, %d", got, c.said(), len(c.asked), tt.tools, tt.said, len(tt.answers))
			}
		})
	}
}

func TestModeChangesWithinATurn(t *testing.T) {
	c := start(t, modeAsk, plain)
	c.ask = func(incoming) any {
		c.send("session/set_mode", `{"sessionId":`+quoted(c.session)+`,"modeId":"everything"}`)
		return choose("run")
	}
	c.turn(fenced("echo a", "echo b"))
	if len(c.asked) != 1 || c.said() != "Done: 2 blocks ran." {
		t.Errorf("%d asks, said %q", len(c.asked), c.said())
	}
}

func TestOnePromptAtATime(t *testing.T) {
	c := start(t, modeEverything, plain)
	first := c.prompt(fenced("echo $$ > pid; exec sleep 1000"))
	c.pids("pid")
	if m := c.until(c.prompt(fenced("echo b"))); m.Error == nil || m.Error.Code != codeInvalid {
		t.Errorf("a second prompt = %+v", m)
	}
	c.cancel()
	if got := c.stop(first); got != "cancelled" {
		t.Errorf("stopped with %q", got)
	}
}

func TestCancelEndsTheGroup(t *testing.T) {
	for name, code := range map[string]string{
		"one that ends when it is asked":     "sleep 1000 & echo $! > child; echo $$ > pid; wait",
		"a child that ignores it":            "(trap '' TERM; sleep 1000) & echo $! > child; echo $$ > pid; wait",
		"a shell that ignores it":            "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > pid; while :; do wait; sleep 1; done",
		"a block that no longer has a shell": "sleep 1000 & echo $! > child; echo $$ > pid; exec sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, modeEverything, live)
			id := c.prompt(fenced(code, "touch never"))
			pids := c.pids("pid", "child")
			c.cancel()
			if got := c.stop(id); got != "cancelled" {
				t.Errorf("stopped with %q", got)
			}
			gone(t, pids...)
			if got := c.tools(); len(got) != 1 || got[0].Status != "failed" {
				t.Errorf("tools = %+v", got)
			}
			c.cancel() // of nothing: harmless
			c.turn(fenced("echo again"))
			if got := c.tools(); len(got) != 1 || got[0].Output != "again\n" {
				t.Errorf("next turn: %+v", got)
			}
		})
	}
}

func TestCancelTakesBackAnAsk(t *testing.T) {
	c := start(t, modeAsk, plain)
	c.ask = func(incoming) any { c.cancel(); return nil }
	if got := c.stop(c.prompt(fenced("touch ran"))); got != "cancelled" {
		t.Errorf("stopped with %q", got)
	}
	if diff := cmp.Diff([]string{"$/cancel_request"}, c.notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	// An answer that comes too late starts nothing.
	c.write(`{"jsonrpc":"2.0","id":` + string(c.asked[0].ID) + `,"result":{"outcome":{"outcome":"selected","optionId":"run"}}}`)
	c.mode(modeEverything)
	if _, err := os.Stat(filepath.Join(c.cwd, "ran")); err == nil {
		t.Error("the block ran")
	}
}

// The end of stdin is the end of the program and of what it runs.
func TestEndOfInputEndsTheBlocks(t *testing.T) {
	c := start(t, modeEverything, plain)
	c.prompt(fenced("sleep 1000 & echo $! > child; echo $$ > pid; wait"))
	pids := c.pids("pid", "child")
	c.in.Close()
	for range c.lines { // what it still says
	}
	if err := <-c.ended; err != nil {
		t.Errorf("Main = %v", err)
	}
	gone(t, pids...)
}

// A process that a block leaves in the background holds nobody up.
func TestBackgroundProcess(t *testing.T) {
	c := start(t, modeEverything, live)
	c.turn(fenced("sleep 1000 & echo $! > child; echo started"))
	pid := c.pids("child")[0]
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if got := c.tools(); len(got) != 1 || got[0].Output != "started\n" || got[0].Status != "completed" {
		t.Errorf("tools = %+v", got)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the server that the block started is gone: %v", err)
	}
}

func TestQuestion(t *testing.T) {
	const text = "```samnode question\nWhich colour?\n- red\n- blue\n```\n"
	hostile := "a 'b' \"c\" $(touch pwned) `touch pwned`\n;touch pwned\n☃"
	tests := []struct {
		name, capabilities string
		answer             any
		output, said, stop string
	}{
		{"an answer goes to the blocks after it", live, map[string]any{"action": "accept", "content": map[string]any{"answer": "blue"}}, "[blue]", "The answer is: blue\nDone: 2 blocks ran.", "end_turn"},
		{"an answer is text, whatever it holds", live, map[string]any{"action": "accept", "content": map[string]any{"answer": hostile}}, "[" + hostile + "]", "The answer is: " + hostile + "\nDone: 2 blocks ran.", "end_turn"},
		{"declined", live, map[string]any{"action": "decline"}, "[none]", "The question was skipped.\nDone: 2 blocks ran.", "end_turn"},
		{"cancelled", live, map[string]any{"action": "cancel"}, "", "", "cancelled"},
		{"nobody to ask", plain, nil, "[none]", "I have a question, but nobody can be asked here: Which colour?\nDone: 2 blocks ran.", "end_turn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, modeEverything, tt.capabilities)
			c.ask = func(m incoming) any {
				var p struct {
					Message string
					Schema  struct {
						Properties struct{ Answer struct{ Enum []string } }
					} `json:"requestedSchema"`
				}
				c.decode(m.Params, &p)
				if choices := strings.Join(p.Schema.Properties.Answer.Enum, " "); m.Method != "elicitation/create" || p.Message != "Which colour?" || choices != "red blue" {
					t.Errorf("asked %s %s", m.Method, m.Params)
				}
				return tt.answer
			}
			if got := c.stop(c.prompt(text + fenced(`printf '[%s]' "${SAMNODE_ANSWER-none}"`))); got != tt.stop {
				t.Errorf("stopped with %q, want %q", got, tt.stop)
			}
			output := ""
			for _, tool := range c.tools() {
				output += tool.Output
			}
			if output != tt.output || c.said() != tt.said {
				t.Errorf("output %q, said %q; want %q, %q", output, c.said(), tt.output, tt.said)
			}
			if _, err := os.Stat(filepath.Join(c.cwd, "pwned")); err == nil {
				t.Error("the answer was run")
			}
		})
	}
}

// Output is as it was up to a size; of more the begin and the end are kept,
// with the size of the rest, whole characters only, in small messages.
func TestHugeOutput(t *testing.T) {
	const n = 1 << 20 // characters of three bytes, in one line
	make3 := fmt.Sprintf("head -c %d /dev/zero | sed 's/\\x00/☃/g'; printf end", n)
	t.Run("as it comes", func(t *testing.T) {
		c := start(t, modeEverything, live)
		c.turn(fenced(make3))
		got := c.tools()[0].Output
		head, rest, cut := strings.Cut(got, "\n… ")
		count, tail, _ := strings.Cut(rest, " bytes left out …\n")
		left, err := strconv.Atoi(count)
		if err != nil || !cut || len(head)+left+len(tail) != 3*n+len("end") {
			t.Errorf("%d bytes, %q left out, %d bytes; want %d together", len(head), count, len(tail), 3*n+len("end"))
		}
		if len(head) < maxLive || len(head) > maxLive+2*readSize || len(tail) > maxTail || len(tail) < maxTail-3 || !strings.HasSuffix(tail, "☃end") {
			t.Errorf("begin of %d bytes, end of %d: %.20q…", len(head), len(tail), tail)
		}
		if other := strings.Trim(head+strings.TrimSuffix(tail, "end"), "☃"); other != "" {
			t.Errorf("broken characters: %.40q", other)
		}
		if c.widest > 4*readSize {
			t.Errorf("a message of %d bytes", c.widest)
		}
	})
	t.Run("at the end", func(t *testing.T) {
		c := start(t, modeEverything, plain)
		c.turn(fenced(make3))
		got := c.tools()[0].Output
		if len(got) > maxTail || len(got) < maxTail-3 || strings.Trim(strings.TrimSuffix(got, "end"), "☃") != "" {
			t.Errorf("%d bytes: %.20q…", len(got), got)
		}
	})
	t.Run("below the limit it is whole", func(t *testing.T) {
		c := start(t, modeEverything, live)
		c.turn(fenced("head -c 300000 /dev/zero | sed 's/\\x00/☃/g'"))
		if got := c.tools()[0].Output; got != strings.Repeat("☃", 300000) {
			t.Errorf("%d bytes: %.20q…", len(got), got)
		}
	})
}

func TestHostileTitles(t *testing.T) {
	for name, tt := range map[string]struct{ code, title string }{
		"escapes":              {": \x1b[2J\x1b]0;x\x07", ": [2J ]0;x"},
		"a line within a line": {": a\rtouch safe", ": a touch safe"},
		"right to left":        {": \u202egnp.exe\u2066", ": gnp.exe"},
		"very long":            {": " + strings.Repeat("☃", 5000), ": " + strings.Repeat("☃", 98) + "…"},
		"markup":               {": '<script>alert(1)</script>'", ": '<script>alert(1)</script>'"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, modeAsk, plain)
			c.ask = func(m incoming) any {
				var p struct{ ToolCall update }
				c.decode(m.Params, &p)
				if words := strings.Join(strings.Fields(p.ToolCall.Title), " "); words != tt.title || strings.ContainsAny(p.ToolCall.Title, "\r\n\x1b\x07\u202e\u2066") {
					t.Errorf("title %q, want %q", p.ToolCall.Title, tt.title)
				}
				if p.ToolCall.Input.Command != tt.code {
					t.Errorf("the command is %q, want %q", p.ToolCall.Input.Command, tt.code)
				}
				return choose("skip")
			}
			c.turn(fenced(tt.code))
			if len(c.asked) != 1 {
				t.Errorf("%d asks", len(c.asked))
			}
		})
	}
}

// A session is taken up by the next process: load tells its history, resume
// does not, and both go on in its mode.
func TestSessionsAreTakenUp(t *testing.T) {
	c := start(t, modeEverything, live)
	c.ask = func(incoming) any { return map[string]any{"action": "decline"} }
	first := "```samnode question\nWhich?\n```\n" + fenced("echo a", "echo b; exit 4")
	c.turn(first)
	before := c.tools()
	c.turn("hello")
	c.in.Close()
	if err := <-c.ended; err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"session/load", "session/resume"} {
		next := connect(t, c.home, plain)
		next.session, next.cwd = c.session, c.cwd
		var opened struct {
			Modes struct {
				Current string `json:"currentModeId"`
			}
		}
		next.decode(next.must(method, `{"sessionId":`+quoted(c.session)+`,"cwd":`+quoted(c.cwd)+`,"mcpServers":[]}`), &opened)
		if opened.Modes.Current != modeEverything {
			t.Errorf("%s: mode %q", method, opened.Modes.Current)
		}
		var told []string
		for _, u := range next.updates {
			told = append(told, strings.TrimSpace(u.Kind+" "+u.Call+" "+u.Status+" "+u.text()))
		}
		want := []string{
			"user_message_chunk   " + strings.TrimSpace(first), "tool_call " + before[0].Call + " completed a", "tool_call " + before[1].Call + " failed b",
			"agent_message_chunk   The question was skipped.\n\nBlock 3 failed with exit code 4.", "user_message_chunk   hello", "agent_message_chunk   " + help,
		}
		turn := 3
		if method == "session/resume" {
			want, turn = nil, 4 // after load's
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("%s told (-want +got):\n%s", method, diff)
		}
		next.turn(fenced("pwd"))
		if got := next.tools(); len(got) != 1 || got[0].Call != fmt.Sprintf("run-%d-1", turn) || got[0].Output != c.cwd+"\n" {
			t.Errorf("%s: next turn %+v", method, got)
		}
		next.in.Close()
		if err := <-next.ended; err != nil {
			t.Fatal(err)
		}
	}
}

// A session's file that was damaged is an error, and hurts no other session.
func TestDamagedSession(t *testing.T) {
	c := start(t, modeEverything, plain)
	if err := os.WriteFile(filepath.Join(c.home, ".samnode-script", c.session+".json"), []byte(`{"id":`), 0o600); err != nil {
		t.Fatal(err)
	}
	next := connect(t, c.home, plain)
	if m := next.until(next.send("session/load", `{"sessionId":`+quoted(c.session)+`}`)); m.Error == nil || m.Error.Code != codeInside {
		t.Errorf("load = %+v", m)
	}
	var made struct{ SessionID string }
	next.decode(next.must("session/new", `{"cwd":`+quoted(next.cwd)+`}`), &made)
	next.session = made.SessionID
	next.turn("hello")
	if next.said() != help {
		t.Errorf("said %q", next.said())
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"```sh\na\n```", "~~~bash\r\nb", "````\n```sh\nx\n```\n````", "```samnode question\n- \n```", "```sh \xff\n\x1b\u202e\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, b := range parse(text) {
			if b.shell == "" == (b.verb == "") || strings.TrimSpace(b.code) == "" {
				t.Fatalf("block %+v", b)
			}
			for _, l := range strings.Split(b.code, "\n") {
				if !strings.Contains(text, l) {
					t.Fatalf("line %q is not in the text", l)
				}
			}
			line := title(b.code)
			encoded, err := json.Marshal(line)
			if err != nil || strings.ContainsAny(line, "\r\n\x1b") || len([]rune(line)) > 102 || strings.Contains(string(encoded), `\u001b`) {
				t.Fatalf("title %q, %v", line, err)
			}
			question(b.code)
		}
	})
}
