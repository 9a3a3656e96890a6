package ui

import (
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

func TestWords(t *testing.T) {
	now := time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)
	for got, want := range map[string]string{
		age(now, now.Add(-30*time.Second)): "now",
		age(now, now.Add(-3*time.Minute)):  "3m",
		age(now, now.Add(-23*time.Hour)):   "23h",
		age(now, now.Add(-49*time.Hour)):   "18 Nov",
		age(now, now.AddDate(-1, 0, 0)):    "20 Nov 2025",
		length(192 * time.Second):          "3m 12s",
		length(3100 * time.Millisecond):    "3.1 s",
		length(42 * time.Second):           "42 s",
		length(61 * time.Minute):           "1h 01m",
		money(420_000):                     "$0.42",
		money(900):                         "<$0.01",
		money(0):                           "$0",
		count(12_400):                      "12.4k",
		count(1_200_000):                   "1.2M",
		size(2_202_009):                    "2.1 MB",
		plural(1, "file"):                  "1 file",
		plural(4, "file"):                  "4 files",
		line("one\ntwo", 10):               "one",
		line("abcdefghij", 5):              "abcd…",
		repoName("git@x:a/My_App.git"):     "my-app",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEveryStateHasAChipAndAGroup(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range sampleChips() {
		if c.Word == "" || c.Shape == "" || c.Tone == "" {
			t.Errorf("chip %+v lacks a part", c)
		}
		if seen[c.Shape+c.Word+c.Tone] {
			t.Errorf("chip %+v twice", c)
		}
		seen[c.Shape+c.Word+c.Tone] = true
	}
	review := chat.Task{State: chat.Idle, PullRequest: &chat.PullRequest{Number: 1, State: "open"}}
	if got := groupOf(review); got != "review" {
		t.Errorf("an open pull request is in %q", got)
	}
	review.Change.Merged = "abc"
	if got := groupOf(review); got != "idle" {
		t.Errorf("a merged one is in %q", got)
	}
}

func TestTheStepperTellsWhatItWaitsFor(t *testing.T) {
	running := sampleTask(chat.Preparing)
	running.Steps = sampleSteps()
	v := newStepper(running, sampleNow)
	last := v.Lines[len(v.Lines)-1]
	if !last.Slow || last.Usual != "usually 40 s" || last.Deadline != "14m 59s" || last.Took != "1m 09s" || last.Log == "" {
		t.Errorf("running line = %+v", last)
	}
	failed := sampleTask(chat.Failed)
	failed.Steps = sampleSteps()
	v = newStepper(failed, sampleNow)
	if v.Failure == nil || v.Failure.Title != "Image failed" || v.Lines[2].State != "failed" || v.Order <= itemOrder(failed.Seq) {
		t.Errorf("failed stepper = %+v", v)
	}
	ready := sampleTask(chat.Working)
	ready.Steps = sampleSteps()[:2]
	if v := newStepper(ready, sampleNow); v.Folded != "Started in 0.9 s on fsn1-07" || v.Order != itemOrder(1)+1 {
		t.Errorf("finished stepper = %q at %d", v.Folded, v.Order)
	}
	if v := newStepper(sampleTask(chat.Queued), sampleNow); v.Waiting == "" {
		t.Error("a queued task waits without a word")
	}
}

func TestLongGroupIsCut(t *testing.T) {
	g := group{Rows: make([]row, 10), More: make([]row, 500)}
	g.cap(100)
	if len(g.Rows) != 10 || len(g.More) != 90 || g.Left != 410 {
		t.Errorf("cap(100) of 10 and 500 = %d, %d, left %d", len(g.Rows), len(g.More), g.Left)
	}
	g = group{Rows: make([]row, 150)}
	g.cap(100)
	if len(g.Rows) != 100 || len(g.More) != 0 || g.Left != 50 {
		t.Errorf("cap(100) of 150 = %d, %d, left %d", len(g.Rows), len(g.More), g.Left)
	}
}

func TestFileURL(t *testing.T) {
	for _, c := range []struct {
		name string
		line int
		want string
	}{
		{"main.go", 0, "/t/T/files/main.go"},
		{"/workspaces/app/cmd/main.go", 7, "/t/T/files/cmd/main.go#L7"},
		{"/workspaces/app", 0, "/t/T/files/"},
		{"/etc/passwd", 0, "/t/T/files/etc/passwd"},
		{"../../x y", 0, "/t/T/files/x%20y"},
	} {
		if got := fileURL("T", c.name, c.line); got != c.want {
			t.Errorf("fileURL(%q, %d) = %q, want %q", c.name, c.line, got, c.want)
		}
	}
}
