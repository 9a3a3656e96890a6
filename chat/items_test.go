package chat

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// working is a state with one working task.
func working(tb testing.TB) (*State, memory) {
	tb.Helper()
	s, m := NewState(), memory{}
	s.projects.put("P", &Project{ID: "P", Name: "p"})
	t := taskIn(Working, setup{lease: true}, m)
	s.tasks.put("T", t)
	s.Commit()
	return s, m
}

// journal is what an agent said: record i+1 is journal[i].
type record struct {
	id    string
	text  string
	tool  *Tool
	usage *Usage
}

// itemsOf is what a node sends for the records (from, upto]: neighbouring
// texts of one message are one item, as the coalescer does it.
func itemsOf(journal []record, from, upto uint64) Items {
	op := Items{Task: "T", Token: 5, Workspace: 1, From: from, Upto: upto}
	have := map[string]int64{}
	for i, r := range journal[:upto] {
		n := uint64(i) + 1
		offset := have[r.id]
		have[r.id] += int64(len(r.text))
		if n <= from {
			continue
		}
		it := Item{ID: r.id, Source: n, Tool: r.tool, Usage: r.usage}
		switch {
		case r.text != "":
			it.Kind, it.Offset, it.Text = KindAgent, offset, r.text
		case r.tool != nil:
			it.Kind = KindTool
		}
		if last := len(op.Items) - 1; last >= 0 && r.text != "" && op.Items[last].ID == r.id {
			op.Items[last].Text += r.text
			continue
		}
		op.Items = append(op.Items, it)
	}
	return op
}

// TestItemsAreAppliedOnce sends batches doubled, overlapping, late and with
// gaps; the chat is what one straight pass makes.
func TestItemsAreAppliedOnce(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var journal []record
		for i := range 30 {
			switch rng.IntN(4) {
			case 0:
				journal = append(journal, record{id: fmt.Sprintf("tool%d", rng.IntN(3)), tool: &Tool{Title: "t", Output: fmt.Sprint(i)}})
			case 1:
				journal = append(journal, record{usage: &Usage{Input: int64(i + 1), Cost: 3}})
			default:
				journal = append(journal, record{id: fmt.Sprintf("text%d", rng.IntN(2)), text: strings.Repeat("aé🙂"[:rng.IntN(2)*3], 2) + fmt.Sprint(i)})
			}
		}
		end := uint64(len(journal))
		want, wantMessages := working(t)
		apply(t, want, wantMessages, 9, Op{Items: new(itemsOf(journal, 0, end))})

		got, gotMessages := working(t)
		index := uint64(9)
		for {
			task, _ := got.Task("T")
			if task.Cursor == end {
				break
			}
			from := uint64(rng.IntN(int(min(task.Cursor+3, end))))
			upto := from + 1 + uint64(rng.IntN(int(end-from)))
			index++
			out := apply(t, got, gotMessages, index, Op{Items: new(itemsOf(journal, from, upto))})
			if gap := from > task.Cursor; gap != (out.Code == CodeRefused) {
				t.Fatalf("seed %d: (%d, %d] at cursor %d = %+v", seed, from, upto, task.Cursor, out)
			}
		}
		wantTask, _ := want.Task("T")
		gotTask, _ := got.Task("T")
		wantTask.Index, gotTask.Index = 0, 0
		wantTask.Progress, gotTask.Progress = time.Time{}, time.Time{} // when it came, not what
		if diff := cmp.Diff(wantTask, gotTask); diff != "" {
			t.Fatalf("seed %d: task (-want +got):\n%s", seed, diff)
		}
		for k, w := range wantMessages {
			g := gotMessages[k]
			w.Index, g.Index, w.At, g.At = 0, 0, time.Time{}, time.Time{}
			if diff := cmp.Diff(w, g); diff != "" {
				t.Fatalf("seed %d: message %s (-want +got):\n%s", seed, k.id, diff)
			}
		}
		if len(gotMessages) != len(wantMessages) {
			t.Fatalf("seed %d: %d messages, want %d", seed, len(gotMessages), len(wantMessages))
		}
	}
}

// apply applies an op as a node and returns its outcome.
func apply(tb testing.TB, s *State, m Messages, index uint64, op Op) Outcome {
	tb.Helper()
	cmd := Command{Version: 1, ID: fmt.Sprintf("c%d", index), Author: Author{Node: "n"}, Op: op}
	if err := s.Apply(index, testTime.Add(time.Duration(index)*time.Second), cmd, m); err != nil {
		tb.Fatal(err)
	}
	out, _ := s.Outcome(cmd.ID)
	return out
}

// emit applies items as the next journal records of the task.
func emit(tb testing.TB, s *State, m Messages, items ...Item) Outcome {
	tb.Helper()
	t, _ := s.Task("T")
	for i := range items {
		items[i].Source = t.Cursor + uint64(i) + 1
	}
	return apply(tb, s, m, s.Index()+1, Op{Items: &Items{Task: "T", Token: 5, Workspace: 1, From: t.Cursor, Upto: t.Cursor + uint64(len(items)), Items: items}})
}

func TestTextGap(t *testing.T) {
	s, m := working(t)
	emit(t, s, m, Item{ID: "a", Kind: KindAgent, Text: "abc"})
	out := emit(t, s, m, Item{ID: "a", Kind: KindAgent, Offset: 5, Text: "f"}, Item{ID: "b", Kind: KindAgent, Text: "x"})
	if out.Code != CodeRefused || !strings.Contains(out.Text, "gap") {
		t.Errorf("a gap in the text = %+v", out)
	}
	if _, ok := m[messageKey{"T", "b"}]; ok {
		t.Error("a refused batch left a message")
	}
	if task, _ := s.Task("T"); task.Cursor != 1 {
		t.Errorf("cursor = %d after a refused batch", task.Cursor)
	}
}

func TestLaterToolUpdateBlanksNothing(t *testing.T) {
	s, m := working(t)
	one := 1
	full := Tool{Title: "edit", Kind: "edit", Status: "in_progress", Locations: []Location{{Path: "a.go", Line: 3}}, Input: "{}", Output: "out", Diffs: []FileDiff{{Path: "a.go", New: "x"}}, Exit: &one, Ended: testTime}
	emit(t, s, m, Item{ID: "t", Kind: KindTool, Tool: &full, Detail: "why", Level: "info"})
	emit(t, s, m, Item{ID: "t", Kind: KindTool, Tool: &Tool{}}, Item{ID: "t", Kind: KindTool})
	got := m[messageKey{"T", "t"}]
	if diff := cmp.Diff(&full, got.Tool); diff != "" || got.Detail != "why" || got.Level != "info" {
		t.Errorf("after empty updates (-want +got):\n%s%+v", diff, got)
	}
}

func TestCuts(t *testing.T) {
	s, m := working(t)
	long := strings.Repeat("é🙂x", MaxBody/3)
	emit(t, s, m, Item{ID: "t", Kind: KindTool, Tool: &Tool{Output: long, Diffs: []FileDiff{{Path: "p", Old: long, New: long}}}, Detail: long})
	emit(t, s, m, Item{ID: "a", Kind: KindAgent, Text: long[:7*10000]}, Item{ID: "a", Kind: KindAgent, Offset: 70000, Text: "tail"})
	tool, text := m[messageKey{"T", "t"}], m[messageKey{"T", "a"}]
	for name, got := range map[string]string{"output": tool.Tool.Output, "text": text.Text, "old": tool.Tool.Diffs[0].Old, "detail": tool.Detail} {
		if len(got) > MaxBody || len(got) < MaxBody/8 || !utf8.ValidString(got) {
			t.Errorf("%s has %d bytes, valid %v", name, len(got), utf8.ValidString(got))
		}
	}
	if !strings.Contains(tool.Tool.Output, "bytes left out …") || tool.Tool.Size != int64(len(long)) || tool.Tool.Diffs[0].Size != int64(2*len(long)) {
		t.Errorf("output's size = %d, want %d", tool.Tool.Size, len(long))
	}
	if text.Size != 70004 || !strings.HasPrefix(long, text.Text) {
		t.Errorf("text's size = %d with %d bytes kept", text.Size, len(text.Text))
	}
}

func TestHostileAgent(t *testing.T) {
	s, m := working(t)
	huge := strings.Repeat("i", 5000)
	far := time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -12*3600))
	emit(t, s, m,
		Item{ID: "prompt", Kind: KindAgent, Text: "I am Ana"},              // another message's id
		Item{ID: "x", Kind: KindUser, Text: "please delete all"},           // speaks as a person
		Item{ID: huge, Kind: KindAgent, Text: "a\x00\x1b[31m\xff<script>"}, // id and text
		Item{ID: "raw", Kind: "strange", Raw: []byte("{\"a\": \"\xff<b>\"")},
		Item{ID: "raw2", Kind: KindRaw, Raw: []byte(`{"a": "<b>"}`)},
		Item{ID: "t", Kind: KindTool, Tool: &Tool{Ended: far}},
		Item{Usage: &Usage{Input: -5, Cost: 1<<63 - 1}}, Item{Usage: &Usage{Cost: 1}},
		Item{Kind: KindAgent, Text: "without an id"})
	if got := m[messageKey{"T", "prompt"}]; got.Text != "do it" || got.Kind != KindUser {
		t.Errorf("the person's message = %+v", got)
	}
	if got := m[messageKey{"T", "w1:agent:prompt"}]; got.Text != "I am Ana" {
		t.Errorf("the agent's message = %+v", got)
	}
	if got := m[messageKey{"T", "x"}]; got.Kind != KindRaw {
		t.Errorf("what an agent says as a person is of kind %s", got.Kind)
	}
	if got := m[messageKey{"T", shortID(huge)}]; got.Text != "a\x00\x1b[31m\uFFFD<script>" {
		t.Errorf("text = %q", got.Text)
	}
	task, _ := s.Task("T")
	if task.Usage.Input != 0 || task.Usage.Cost != 1<<63-1 {
		t.Errorf("usage = %+v", task.Usage)
	}
	for k, msg := range m {
		data, err := json.Marshal(msg)
		if err != nil {
			t.Errorf("message %s cannot be written: %v", k.id, err)
			continue
		}
		var back Message
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(msg, back); diff != "" {
			t.Errorf("message %s after a round trip (-want +got):\n%s", k.id, diff)
		}
	}
}

func TestItemsOfTheNextWorkspaceNeverContinueAnOldMessage(t *testing.T) {
	s, m := working(t)
	emit(t, s, m, Item{ID: "call_1", Kind: KindTool, Tool: &Tool{Title: "old"}})
	task, _ := s.Task("T")
	task.Workspace, task.Cursor = 2, 0
	s.tasks.put("T", &task)
	apply(t, s, m, s.Index()+1, Op{Items: &Items{Task: "T", Token: 5, Workspace: 2, Upto: 1, Items: []Item{{ID: "call_1", Kind: KindTool, Source: 1, Tool: &Tool{Title: "new"}}}}})
	if old := m[messageKey{"T", "call_1"}]; old.Tool.Title != "old" {
		t.Errorf("the first workspace's tool call = %+v", old.Tool)
	}
	if got := m[messageKey{"T", "w2:tool:call_1"}]; got.Tool == nil || got.Tool.Title != "new" {
		t.Errorf("the second workspace's tool call = %+v", got)
	}
}

func TestBranchNames(t *testing.T) {
	for text, want := range map[string]string{
		"Fix the parser's bug now, all of it": "samnode/fix-the-parser-s-tvwxyz01",
		"../../etc/passwd; rm -rf /":          "samnode/etc-passwd-rm-rf-tvwxyz01",
		"日本語":                                 "samnode/tvwxyz01",
		strings.Repeat("a", 300):              "samnode/aaaaaaaaaaaaaaaaaaaa-tvwxyz01",
	} {
		if got := branchOf(titleOf(text), "01JABCDEFGHJKMNPQRTVWXYZ01"); got != want {
			t.Errorf("branch of %q = %s, want %s", text, got, want)
		}
	}
}

func TestULIDs(t *testing.T) {
	var b [16]byte
	for i := range b {
		b[i] = 0xff
	}
	if got, want := ulid(b), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"; got != want {
		t.Errorf("the last ULID = %s, want %s", got, want)
	}
	if got, want := ulid([16]byte{15: 33}), "00000000000000000000000011"; got != want {
		t.Errorf("ulid(33) = %s, want %s", got, want)
	}
	if a, b := NewID(), NewID(); a == b || len(a) != 26 || a[:6] != b[:6] {
		t.Errorf("two ids = %s, %s", a, b)
	}
}
