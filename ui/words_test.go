package ui

import (
	"fmt"
	"strings"
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
		euros(0):                           "0.00\u00a0€",
		euros(0.004):                       "under 0.01\u00a0€",
		euros(1204.496):                    "1,204.50\u00a0€",
		euros(-0.31):                       "−0.31\u00a0€",
		perHour(0.0144):                    "0.0144\u00a0€",
		perHour(0.05):                      "0.05\u00a0€",
		perHour(2):                         "2.00\u00a0€",
		minutes(34 * time.Minute):          "34 min",
		minutes(65 * time.Minute):          "1 h 05 min",
		minutes(2 * time.Hour):             "2 h",
		left(-time.Second):                 "now",
		left(34 * time.Second):             "in 34 s",
		left(119 * time.Second):            "in 1 min",
		left(65 * time.Minute):             "in 1 h 05 min",
		left(50 * time.Hour):               "in 2 days",
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
	s := newSite(t)
	tasks := map[string]chat.Task{}
	var briefs []*brief
	for i := range 600 {
		state := chat.Idle
		if i%4 == 0 {
			state = chat.Working
		}
		task := chat.Task{ID: chat.TaskID(fmt.Sprint("T", i)), State: state, Index: uint64(i + 1), Since: sampleNow.Add(-time.Duration(i) * time.Minute)}
		tasks[string(task.ID)], briefs = task, append(briefs, newBrief(task))
	}
	find := func(id string) (chat.Task, error) { return tasks[id], nil }
	for range 2 { // the second time from what was rendered before
		for _, g := range s.list(briefs, find, "T1", sampleNow).Groups {
			rows, more, left := len(g.Rows), len(g.More), g.Left
			if want := map[string][3]int{"idle": {10, 90, 350}, "working": {100, 0, 50}}[g.Key]; want != [3]int{rows, more, left} {
				t.Errorf("%s shows %d, folds %d, leaves %d out, want %v", g.Key, rows, more, left, want)
			}
			if g.Key == "idle" && (!g.Rows[0].Current || !strings.Contains(g.Rows[1].HTML, `id="row-T2"`)) {
				t.Errorf("idle begins with %+v", g.Rows[:2])
			}
		}
	}
}

func TestARowIsRenderedAnewWhenItChanges(t *testing.T) {
	s := newSite(t)
	task := chat.Task{ID: "T", Title: "One", State: chat.Idle, Index: 1, Since: sampleNow}
	html := func(now time.Time, project string) string {
		if r, ok := s.cached(newBrief(task), project, now); ok {
			return r.HTML
		}
		return s.row(task, project, now, false).HTML
	}
	first := html(sampleNow, "web")
	if again := html(sampleNow, "web"); again != first {
		t.Error("the same row differs")
	}
	if html(sampleNow.Add(5*time.Minute), "web") == first || html(sampleNow, "store") == first {
		t.Error("an older row, or one of another project, is the same")
	}
	task.Index, task.Title = 2, "Two"
	if got := html(sampleNow, "web"); !strings.Contains(got, "Two") {
		t.Errorf("after a change: %s", got)
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
