package ui

import (
	"net/http"
	"slices"
	"time"

	"github.com/samnode/samnode/chat"
)

// sample is a gallery entry: a component in one of its states.
type sample struct {
	Name string
	Item *item
	Step *stepper
	Task *taskView
}

// gallery shows each component in each state, in both themes. It needs no
// state of the mesh.
func (s *Server) gallery(w http.ResponseWriter, r *http.Request) error {
	f := s.frame(r, "Gallery")
	f.Extra = []string{s.assets.url("nodes.css"), s.assets.url("pool.css"), s.assets.url("ports.css"), s.assets.url("files.css"), s.assets.url("gallery.css")}
	render(w, r, http.StatusOK, galleryPage(f, sampleChips(), s.sampleRows(), s.samples(), s.nodeParts(), s.poolParts(), s.panelParts()))
	return nil
}

var sampleNow = time.Date(2026, 11, 20, 14, 2, 0, 0, time.UTC)

func sampleTask(state chat.TaskState) chat.Task {
	t := chat.Task{
		ID: "01JD0000000000000000000001", Title: "Fix login redirect", State: state, Since: sampleNow.Add(-4 * time.Minute),
		Agent: "claude", Mode: chat.ModeAsk, Branch: "samnode/fix-login-redirect-7k2m", Base: "main", Turns: 1, Workspace: 1, Seq: 30,
		Change: chat.Change{Files: 4, Added: 42, Removed: 18, Pushed: true},
		Usage:  chat.Usage{Input: 48210, Output: 6120, Cached: 391200, Cost: 423000, Context: 128000, ContextMax: 200000},
		Turn:   &chat.Turn{Number: 1, Delivery: chat.Delivered, Began: sampleNow.Add(-3 * time.Minute), FromSeq: 1},
	}
	switch state {
	case chat.Working, chat.NeedsYou, chat.Publishing, chat.Preparing, chat.Starting:
		t.Lease = &chat.Lease{Token: 9120, Node: "fsn1-07", Slot: "slot-1", Since: sampleNow.Add(-5 * time.Minute)}
	case chat.Failed:
		t.Failure = &chat.Failure{Step: chat.StepImage, Reason: "The dev container did not build. Fix .devcontainer/Dockerfile, or retry.", Detail: "E: Unable to locate package chromium\nexit code: 100", Retryable: true}
	}
	return t
}

func sampleChips() []chip {
	var out []chip
	for _, state := range []chat.TaskState{
		chat.Draft, chat.Queued, chat.Placing, chat.Buying, chat.Booting, chat.Preparing, chat.Starting, chat.Working,
		chat.NeedsYou, chat.Publishing, chat.Idle, chat.Failed, chat.Stopped,
	} {
		out = append(out, taskChip(sampleTask(state)))
	}
	passed, merged := sampleTask(chat.Idle), sampleTask(chat.Idle)
	passed.PullRequest = &chat.PullRequest{Number: 7, State: "open", Checks: "success"}
	merged.PullRequest = &chat.PullRequest{Number: 7, State: "merged"}
	return append(out, taskChip(passed), taskChip(merged))
}

func (s *Server) sampleRows() list {
	var tasks []chat.Task
	for i, state := range []chat.TaskState{chat.NeedsYou, chat.Failed, chat.Working, chat.Preparing, chat.Idle, chat.Stopped} {
		t := sampleTask(state)
		t.ID += chat.TaskID(rune('a' + i))
		tasks = append(tasks, t)
	}
	tasks[0].Asks = []chat.Ask{{Title: "Wants to run a command", Detail: "npm test", Kind: chat.AskPermission}}
	tasks[4].PullRequest = &chat.PullRequest{Number: 2051, State: "open", Checks: "success"}
	var briefs []*brief
	for _, t := range tasks {
		briefs = append(briefs, newBrief(t))
	}
	return s.list(briefs, func(id string) (chat.Task, error) {
		i := slices.IndexFunc(tasks, func(t chat.Task) bool { return string(t.ID) == id })
		return tasks[i], nil
	}, tasks[2].ID, sampleNow)
}

func sampleSteps() []chat.Step {
	at := sampleNow.Add(-70 * time.Second)
	return []chat.Step{
		{Name: chat.StepPlace, State: chat.StepDone, Began: at, Ended: at.Add(40 * time.Millisecond), Attempt: 1, Note: "Slot on fsn1-07: ready, 11 min of its paid hour left"},
		{Name: chat.StepMirror, State: chat.StepDone, Began: at, Ended: at.Add(900 * time.Millisecond), Attempt: 1, Note: "12 objects, 41 KB"},
		{Name: chat.StepImage, State: chat.StepRunning, Began: at.Add(time.Second), Attempt: 2, Usual: 40000, Deadline: at.Add(15 * time.Minute), Log: "#8 [3/5] RUN npm ci"},
	}
}

// samples are the items, steppers and footers.
func (s *Server) samples() []sample {
	working, asking := sampleTask(chat.Working), sampleTask(chat.NeedsYou)
	asks := sampleAsks()
	asking.Asks = asks
	var out []sample
	add := func(name string, t chat.Task, m chat.Message) {
		m.Seq, m.At, m.Turn = uint64(len(out)+2), sampleNow.Add(-2*time.Minute), 1
		m.ID = "sample-" + name
		v := s.item(t, m)
		out = append(out, sample{Name: name, Item: &v})
	}
	for _, m := range sampleMessages() {
		add(m.ID, working, m)
	}
	for i := range asks {
		a := asks[i]
		add("ask: "+string(a.Kind), asking, chat.Message{Kind: chat.KindAsk, Ask: &a})
	}
	answered := asks[0]
	answered.Answer = &chat.Answer{Option: "y", Author: chat.Author{Person: "ana@example.com"}, At: sampleNow}
	add("ask: answered", working, chat.Message{Kind: chat.KindAsk, Ask: &answered})
	return append(out, s.sampleStates()...)
}

func (s *Server) sampleStates() []sample {
	var out []sample
	running, failed, ready := sampleTask(chat.Preparing), sampleTask(chat.Failed), sampleTask(chat.Idle)
	running.Steps, failed.Steps, ready.Steps = sampleSteps(), sampleSteps(), sampleSteps()[:2]
	step := func(name string, t chat.Task) {
		v := newStepper(t, sampleNow)
		out = append(out, sample{Name: "stepper: " + name, Step: &v})
	}
	step("running", running)
	step("failed", failed)
	step("folded", ready)
	unknown, queued, plain := sampleTask(chat.NeedsYou), sampleTask(chat.Working), sampleTask(chat.Idle)
	unknown.Asks = []chat.Ask{{ID: "d", Kind: chat.AskDelivery}}
	queued.Queue = []chat.Pending{{ID: "q", Text: "Also mention it in the changelog.", Author: chat.Author{Person: "ana@example.com"}}}
	queued.PullRequest = &chat.PullRequest{Number: 2048, State: "draft", Checks: "pending", URL: "https://github.com/acme/web/pull/2048"}
	plain.PullRequest = &chat.PullRequest{State: "open", URL: "/t/x/diff"}
	stopping := sampleTask(chat.Working)
	stopping.Stopping = true
	foot := func(name string, t chat.Task) {
		v := s.regions(t, true, "Running go test ./…")
		out = append(out, sample{Name: "foot: " + name, Task: &v})
	}
	foot("delivery unknown", unknown)
	foot("working", queued)
	foot("plain remote", plain)
	foot("stopping", stopping)
	return out
}

func sampleAsks() []chat.Ask {
	options := []chat.AskOption{{ID: "y", Name: "Approve", Kind: "allow_once"}, {ID: "a", Name: "Allow for this task", Kind: "allow_always"}, {ID: "n", Name: "Reject", Kind: "reject_once"}}
	return []chat.Ask{
		{ID: "p", Kind: chat.AskPermission, Title: "Wants to run a command", Detail: "npm test -- --run test/auth.test.ts", Options: options, At: sampleNow},
		{ID: "q", Kind: chat.AskQuestion, Title: "Asks", Detail: "Which database should the tests use?", At: sampleNow, Fields: []chat.AskField{
			{Name: "db", Label: "Database", Type: "choice", Choices: []string{"sqlite", "postgres"}, Required: true},
			{Name: "seed", Label: "Seed it with sample data", Type: "boolean"},
			{Name: "note", Label: "Anything else", Type: "string"},
		}},
		{ID: "b", Kind: chat.AskBudget, Title: "The budget of $5.00 is used up", At: sampleNow, Options: []chat.AskOption{{ID: "raise", Name: "Raise"}, {ID: "stop", Name: "Stop"}}},
	}
}

func sampleMessages() []chat.Message {
	ana := &chat.Author{Person: "ana@example.com"}
	failed, passed := 1, 0
	return []chat.Message{
		{ID: "user", Kind: chat.KindUser, Author: ana, Text: "Fix the **login redirect** and add a test.", Delivery: chat.Delivered, Closed: true},
		{ID: "user: unknown", Kind: chat.KindUser, Author: ana, Text: "Did this run?", Delivery: chat.Unknown, Closed: true},
		{ID: "agent", Kind: chat.KindAgent, Closed: true, Text: "The target is lost in `callback()`.\n\n```go\nfunc callback(r *http.Request) string {\n\treturn r.FormValue(\"next\") // after 1 rotation\n}\n```\n\n1. read it first\n2. see [the list](https://example.com/x)\n\n| case | after |\n|---|---|\n| `/orders` | kept |\n"},
		{ID: "agent: streaming", Kind: chat.KindAgent, Text: "I am looking at the session now"},
		{ID: "agent: hostile", Kind: chat.KindAgent, Closed: true, Text: "<img src=x onerror=alert(1)> ![pixel](https://evil.example/p.png) [bank](https://evil.example) \u202egnp.exe \x1b[31m"},
		{ID: "thought", Kind: chat.KindThought, Text: "The session is rotated before `next` is read.", Closed: true},
		{ID: "tool: running", Kind: chat.KindTool, Tool: &chat.Tool{Title: "go test ./...", Kind: "execute", Status: "in_progress", Input: `{"command":"go test ./..."}`, Output: "ok  \tstore\t0.4s\n"}},
		{ID: "tool: failed", Kind: chat.KindTool, Tool: &chat.Tool{Title: "npm run lint", Kind: "execute", Status: "failed", Exit: &failed, Input: `{"command":"npm run lint"}`, Output: "\x1b[31m✖ 1 problem\x1b[0m (1 error)\n", Ended: sampleNow}},
		{ID: "tool: done", Kind: chat.KindTool, Tool: &chat.Tool{Title: "npm run lint", Kind: "execute", Status: "completed", Exit: &passed, Input: `{"command":"npm run lint"}`, Output: "ok\n", Size: 2 << 20, Ended: sampleNow}},
		{ID: "tool: edit", Kind: chat.KindTool, Tool: &chat.Tool{Title: "Edit login.ts", Kind: "edit", Status: "completed", Locations: []chat.Location{{Path: "src/login.ts", Line: 41}}, Diffs: []chat.FileDiff{{Path: "src/login.ts", Old: "a\nb\nc\n", New: "a\nB\nc\nd\n"}}}},
		{ID: "tool: read", Kind: chat.KindTool, Tool: &chat.Tool{Title: "Read session.ts", Kind: "read", Status: "completed", Locations: []chat.Location{{Path: "src/session.ts"}}, Output: "export {}\n"}},
		{ID: "tool: other", Kind: chat.KindTool, Tool: &chat.Tool{Title: "lookup", Kind: "other", Status: "cancelled", Input: `{"city":"Bern"}`}},
		{ID: "plan", Kind: chat.KindPlan, Plan: []chat.Plan{{Text: "Find the cause", Status: "completed"}, {Text: "Fix it", Status: "in_progress"}, {Text: "Add a test", Status: "pending"}}},
		{ID: "status", Kind: chat.KindStatus, Text: "Turn ended, 3m 12s, $0.08", Level: "info"},
		{ID: "status: warn", Kind: chat.KindStatus, Text: "Blocked: files.example.com", Level: "warn", Detail: "asked by pip install; mode packages"},
		{ID: "diff", Kind: chat.KindDiff, Diff: &chat.Change{Files: 4, Added: 42, Removed: 18}},
		{ID: "error", Kind: chat.KindError, Text: "The agent ended with exit code 137. It was probably out of memory.", Detail: "signal: killed"},
		{ID: "raw", Kind: "hologram", Raw: []byte(`{"x":1}`)},
	}
}
