package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// runIn starts a task by the API and does not wait for it.
func (n *testNode) runIn(project, text string, flags ...string) chat.TaskID {
	n.t.Helper()
	return must[taskView](n, append([]string{"task", "run", "--project", project, text}, flags...)...).ID
}

func block(title string, lines ...string) string {
	return title + "\n\n```sh\n" + strings.Join(lines, "\n") + "\n```\n"
}

// A person queues follow-ups while the agent works, changes and drops them,
// and stops the turn.
func TestBrowserQueueAndStop(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything")
	p := newTab(t, n)
	task := n.runIn("app", block("Wait for a sign", "until [ -e go ]; do sleep 0.1; done", "echo seen"))
	p.open("/t/" + string(task))
	p.state("working")
	p.shows("#composer .send", "Queue")

	for _, text := range []string{"First follow-up", "Second follow-up"} {
		p.write("#composer textarea", text)
		p.press(enter) // a new line
		p.click("#composer .send")
		p.wait(`[...document.querySelectorAll("#queue .text")].some((el) => el.textContent === ` + quote(text) + `) && !document.querySelector(".sending")`)
	}
	p.click("#queue .queued:first-child summary")
	p.wait(`document.querySelector("#queue .queued:first-child textarea")?.offsetParent`)
	p.shot("task-queue")
	p.do(clear("#queue .queued:first-child textarea"))
	p.write("#queue .queued:first-child textarea", block("Say what is here", "ls", "echo the follow-up ran"))
	p.click("#queue .queued:first-child button:not(.danger)")
	p.shows("#queue .queued:first-child .text", "Say what is here")
	p.click("#queue .queued:last-child summary")
	p.click("#queue .queued:last-child .danger")
	p.wait(`document.querySelectorAll("#queue .queued").length === 1`)

	// The turn ends, and the follow-up that was left is the next one.
	p.open("/t/" + string(task) + "/terminal")
	p.needTerminal()
	p.wait(terminalText + `.includes("$")`)
	p.enter("touch go")
	p.open("/t/" + string(task))
	p.wait(`[...document.querySelectorAll(".k-tool")].some((el) => el.textContent.includes("the follow-up ran"))`)
	p.state("idle")
	p.wait(`document.querySelectorAll("#queue .queued").length === 0`)
	if got := script[int](p, `document.querySelectorAll(".k-user:not([hidden])").length`); got != 2 {
		t.Errorf("the chat has %d messages of a person, want 2", got)
	}
	p.wait(`[...document.querySelectorAll(".k-status")].some((el) => el.textContent.includes("Removed by") && el.textContent.includes("Second follow-up"))`)

	p.write("#composer textarea", block("Once more", "sleep 300"))
	p.do(chord(enter))
	p.state("working")
	p.wait(`[...document.querySelectorAll(".tool.ts-in_progress")].some((el) => el.textContent.includes("sleep 300"))`)
	p.click("#dock .stop")
	p.wait(`["stopped", "idle"].includes(document.querySelector("#chips").dataset.state)`)
	p.wait(`!document.querySelector(".tool.ts-in_progress")`)
	p.shot("task-stopped")
}

// The same permission is open in two pages; one of them never hears of the
// other's answer.
func TestBrowserTwoPagesAnswer(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "ask")
	task := n.runIn("app", block("Ask first", "echo allowed > allowed.txt"))
	p := newTab(t, n)
	stale, live := p.another(), p.another()
	stale.scripts(false)
	p.open("/t/" + string(task))
	p.wait(`document.querySelector(".ask.open")`)
	live.open("/t/" + string(task))
	stale.open("/t/" + string(task))
	live.wait(`document.querySelector(".ask.open")`)
	stale.wait(`document.querySelector(".ask.open")`)

	p.click(".ask.open [data-kind=allow_once]")
	p.state("idle")
	live.shows(".answered", "Run, by ")
	stale.expect("409")
	stale.click(".ask.open [data-kind=reject_once]")
	stale.shows("[role=alert]", "answered")
	stale.shot("answered-twice")

	answers := 0
	for _, m := range n.items(task) {
		if m.Ask != nil && m.Ask.Answer != nil {
			answers++
		}
	}
	if answers != 1 {
		t.Errorf("the chat has %d answers, want 1", answers)
	}
	if got := must[taskView](n, "task", "show", string(task)); got.Change.Files != 1 {
		t.Errorf("change = %+v, want the file of the allowed block", got.Change)
	}
}

// A page that is left open goes on by itself when the node dies and comes
// back: everything once, nothing lost.
func TestBrowserOutlivesNode(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything")
	task := n.runIn("app", block("Count", "for i in $(seq 1 40); do echo line $i of 40; sleep 0.2; done"))
	p := newTab(t, n)
	p.expect(`net::ERR_|Failed to load resource`)
	p.open("/t/" + string(task))
	script[bool](p, `window.same = true`)
	for _, at := range []int{4, 12} {
		p.shows(".tool .out", fmt.Sprintf("line %d of 40", at))
		n.kill()
		p.write("#composer textarea", fmt.Sprintf("note %d", at))
		p.do(chord(enter)) // kept by the page until the node is back
		n.start()
	}
	p.state("idle")
	p.shows(".tool .out", "line 40 of 40")
	if !script[bool](p, `window.same === true`) {
		t.Error("the page was loaded anew")
	}
	var want strings.Builder
	for i := range 40 {
		fmt.Fprintf(&want, "line %d of 40\n", i+1)
	}
	if got := script[string](p, `document.querySelector(".tool .out").textContent`); strings.TrimSpace(got) != strings.TrimSpace(want.String()) {
		t.Errorf("the page shows %q", got)
	}
	for _, at := range []int{4, 12} {
		p.wait(fmt.Sprintf(`[...document.querySelectorAll(".k-user:not(.sending):not([hidden])")].filter((el) => el.textContent.includes("note %d")).length === 1`, at))
	}
	if twice := script[string](p, `{
		const ids = [...document.querySelectorAll("[id]")].map((el) => el.getAttribute("id"));
		ids.filter((id, i) => ids.indexOf(id) !== i).join(" ")
	}`); twice != "" {
		t.Errorf("the page has twice: %s", twice)
	}
}

// Without scripts a page can be read, and a task sent, answered and stopped.
func TestBrowserWithoutScripts(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "greeter", "--repo", localRepo(t, greeter), "--mode", "ask")
	p := newTab(t, n)
	p.scripts(false)
	p.open("/p/greeter")
	task := p.startTask(block("Stay a while", "echo begun", "sleep 300"))
	p.reloadUntil(`document.querySelector(".ask.open")`)
	p.shot("no-script-needs-you")
	p.click(".ask.open [data-kind=allow_once]")
	p.reloadUntil(`[...document.querySelectorAll(".tool .out")].some((el) => el.textContent.includes("begun"))`)
	p.write("#composer textarea", "A word for later")
	p.click("#composer .send")
	p.shows("#queue", "A word for later")
	p.click("#dock .stop")
	p.reloadUntil(`["stopped", "idle"].includes(document.querySelector("#chips")?.dataset.state)`)
	if got := must[taskView](n, "task", "show", string(task)); got.State != chat.Stopped && got.State != chat.Idle {
		t.Errorf("state = %s after Stop", got.State)
	}
	for _, path := range []string{"/", "/projects", "/settings", "/start", "/p/greeter", "/p/greeter/settings", "/t/" + string(task), "/t/" + string(task) + "/diff", "/t/" + string(task) + "/files", "/t/" + string(task) + "/terminal", "/t/" + string(task) + "/log"} {
		p.open(path)
		if text := script[string](p, `document.body.innerText`); len(text) < 80 || strings.Contains(text, "undefined") {
			t.Errorf("%s reads %q", path, text)
		}
	}
}

// Forms that are sent twice do their work once.
func TestBrowserFormsTwice(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, greeter)
	p := newTab(t, n)
	p.addProject(repo, "everything")
	p.write(".new textarea", block("Only once", "echo once"))
	script[bool](p, `{ const form = document.querySelector(".new"); form.requestSubmit(); form.requestSubmit(); true }`)
	first := p.taskOf()
	p.state("idle")

	// Back in history and sent again, as it is still there.
	p.do(back())
	p.wait(`document.querySelector(".new textarea")`)
	script[bool](p, `document.querySelector(".new textarea").value = `+quote(block("Only once", "echo once"))+`, true`)
	p.click(".new button.primary")
	p.wait(`location.pathname.startsWith("/t/")`)
	p.taskOf()
	p.open("/")
	p.shows("#tasks", "Only once")
	rows := script[int](p, `document.querySelectorAll("#tasks .row").length`)
	if rows > 2 || rows == 2 && !pageIsFresh(p) {
		t.Errorf("the list has %d tasks after %s was sent twice", rows, first)
	}

	// A project that is there already is said, and what was typed is kept.
	p.expect("409|400|422")
	p.open("/projects/new")
	p.write("input[name=repo]", repo)
	p.write("input[name=name]", "greeter")
	p.click("form.form button.primary")
	p.shows("[role=alert]", "greeter")
	if got := script[string](p, `document.querySelector("input[name=repo]").value`); got != repo {
		t.Errorf("the form has lost what was typed: %q", got)
	}
	p.shot("project-refused")
	p.open("/projects/new")
	p.write("input[name=repo]", filepath.Join(filepath.Dir(repo), "missing.git"))
	p.write("input[name=name]", "other")
	p.click("form.form button.primary")
	p.wait(`document.querySelector("[role=alert]")`)
	p.shot("project-not-found")
}

// A start that fails says where and why, and Retry goes on when it is mended.
func TestBrowserFailedTask(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, greeter)
	must[chat.Project](n, "project", "add", "greeter", "--repo", repo, "--mode", "everything")
	away := repo + ".away"
	if err := os.Rename(repo, away); err != nil {
		t.Fatal(err)
	}
	p := newTab(t, n)
	p.open("/p/greeter")
	p.startTask(block("Greet people by name", "python3 -m unittest -v"))
	p.state("failed")
	p.shows("#stepper .failure", "was not found")
	p.still()
	p.shot("task-failed")
	if err := os.Rename(away, repo); err != nil {
		t.Fatal(err)
	}
	p.click("#retry-form button")
	p.state("idle")
	p.shows("#stream", "one block ran")
}
