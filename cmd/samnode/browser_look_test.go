package main

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/samnode/samnode/chat"
)

// chord is a key pressed together with Ctrl.
func chord(key string) chromedp.Action[chromedp.Void] {
	return chromedp.KeyEvent(key, chromedp.KeyModifiers(chromedp.ModifierCtrl))
}

func clear(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Clear(chromedp.CSS(selector))
}

func back() chromedp.Action[chromedp.Void] { return chromedp.NavigateBack() }

// pageIsFresh says whether history gave a page made anew, with a form id of
// its own: pages are not stored.
func pageIsFresh(p *tab) bool {
	p.t.Helper()
	ids := map[string]bool{}
	for _, task := range must[[]taskView](p.node, "task", "list") {
		ids[string(task.ID)] = true
	}
	return len(ids) == 2
}

// reloadUntil is what a person without scripts does.
func (p *tab) reloadUntil(condition string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		// A form that is on its way makes both of these fail.
		if ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+condition+")")); err == nil && ok {
			return
		}
		time.Sleep(300 * time.Millisecond)
		_ = chromedp.Do(p.ctx, chromedp.Reload())
	}
	p.t.Fatalf("%s never came\n%s", condition, p.words())
}

// at waits until a page is open and its script has run.
func (p *tab) at(path string) {
	p.t.Helper()
	p.wait("location.pathname === " + quote(path) + ` && document.readyState === "complete"`)
}

// terminalText is what the terminal shows.
const terminalText = `(document.querySelector("#term .xterm-rows")?.innerText || "").replaceAll("\u00a0", " ")`

// needTerminal skips where the build has no xterm.js, as the page says.
func (p *tab) needTerminal() {
	p.t.Helper()
	if script[bool](p, `!document.querySelector("#term")`) {
		p.shows(".panel", "scripts/assets")
		p.t.Skip("needs xterm.js in ui/static/vendor: run scripts/assets, which brings it from npm")
	}
}

func TestBrowserTerminal(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "greeter", "--repo", localRepo(t, greeter), "--mode", "everything")
	task := must[taskView](n, "task", "run", "--project", "greeter", "--wait", block("Look around", "ls")).ID
	p := newTab(t, n)
	p.open("/t/" + string(task) + "/terminal")
	p.needTerminal()
	p.wait(terminalText + `.includes("$")`)
	p.enter("echo sum=$((40+2)); KEPT=here")
	p.wait(terminalText + `.includes("sum=42")`)

	p.click("#term-new")
	p.wait(`document.querySelectorAll("#term-tabs [data-id]").length === 2`)
	p.wait(terminalText + `.includes("$") && !` + terminalText + `.includes("sum=42")`)
	p.enter("git log --oneline; python3 -m unittest -v")
	p.wait(terminalText + `.includes("OK")`)
	p.shot("terminal")
	p.still()

	// The page comes back to what runs: the shell that was open, and its screen.
	p.do(chromedp.Reload())
	p.wait(`document.querySelectorAll("#term-tabs [data-id]").length === 2`)
	p.wait(terminalText + `.includes("Ran 1 test")`)
	p.click("#term-tabs [data-id=t1]")
	p.wait(terminalText + `.includes("sum=42")`)
	p.enter("echo still $KEPT")
	p.wait(terminalText + `.includes("still here")`)
	p.click("#term-tabs [data-id=t2]")
	p.wait(terminalText + `.includes("Ran 1 test")`)

	// A node that comes back attaches again.
	p.expect("WebSocket|net::ERR_|Failed to load resource")
	n.kill()
	n.start()
	p.wait(terminalText + `.includes("Ran 1 test") && document.querySelector("#term-people .chip")`)
	p.click("#term-tabs [data-id=t1]")
	p.wait(terminalText + `.includes("still here")`)
	p.click("#term")
	p.enter("echo after $KEPT")
	p.wait(terminalText + `.includes("after here")`)
}

// All that is said to be done by keys is done by keys.
func TestBrowserKeys(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "greeter", "--repo", localRepo(t, greeter), "--mode", "ask")
	tasks := []chat.TaskID{n.runIn("greeter", block("One", "echo one")), n.runIn("greeter", block("Two", "echo two"))}
	p := newTab(t, n)
	p.open("/")
	p.press("?")
	p.wait(`document.querySelector("#help").open`)
	p.shot("keys")
	p.press(escape)
	p.wait(`!document.querySelector("#help").open`)

	p.wait(`document.querySelectorAll("#g-needs .row").length === 2`)
	p.shot("tasks")
	p.press("j")
	first := script[string](p, `document.activeElement.id`)
	p.press("j")
	second := script[string](p, `document.activeElement.id`)
	if first == second || !strings.HasPrefix(first, "row-") || !strings.HasPrefix(second, "row-") {
		t.Errorf("j goes to %q, then to %q", first, second)
	}
	p.press("k")
	if got := script[string](p, `document.activeElement.id`); got != first {
		t.Errorf("k goes to %q, want %q", got, first)
	}
	p.press(enter)
	if got := "row-" + p.taskOf(); got != first {
		t.Errorf("Enter opens %s, want %s", got, first)
	}
	p.wait(`document.querySelector(".ask.open")`)
	p.press("a")
	p.shows(".answered", "Run, by ")
	p.press("e") // the other one that waits
	p.wait(`"row-" + location.pathname.split("/")[2] === ` + quote(second) + ` && document.querySelector(".ask.open")`)
	// Twice within 2 s rejects; a busy machine may need more than two.
	for range 100 {
		p.press("r")
		if script[bool](p, `document.querySelector(".ask.open") === null`) {
			break
		}
	}
	p.shows(".answered", "Do not run, by ")
	p.state("idle")

	p.press("vd")
	p.at(strings.Replace(second, "row-", "/t/", 1) + "/diff")
	p.press(escape)
	p.at(strings.Replace(second, "row-", "/t/", 1))
	p.press("c")
	p.at("/p/greeter")
	p.press("c")
	p.wait(`document.activeElement?.matches(".new textarea")`)
	p.press("not a key: ?jg")
	p.press(escape)
	p.wait(`document.activeElement === document.body && document.querySelector(".new textarea").value === "not a key: ?jg"`)
	p.press("gp")
	p.at("/projects")
	p.shot("projects")
	p.do(chord("k"))
	p.wait(`document.querySelector("#palette").open && document.querySelectorAll("#palette li").length > 2`)
	p.press("two")
	p.wait(`document.querySelectorAll("#palette li").length === 1`)
	p.shot("palette")
	p.press(enter)
	p.at("/t/" + string(tasks[1]))
}

// Every page in a phone's window, in the dark, and as narrow as it gets.
func TestBrowserLooks(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t, "--slots", "4")
	must[chat.Project](n, "project", "add", "greeter", "--repo", localRepo(t, greeter), "--mode", "everything")
	done := must[taskView](n, "task", "run", "--project", "greeter", "--wait", greetTask).ID
	n.runIn("greeter", block("Count the lines of everything that is in this repository", "wc -l *", "cat nothing-of-this-name"))
	waits := n.runIn("greeter", block("Publish the package", "python3 -m build", "echo uploading "+strings.Repeat("very-long-name-", 20)), "--mode", "ask")
	n.until(waits, "needing an answer", func(v taskView) bool { return v.State == chat.NeedsYou })
	p := newTab(t, n)

	task := "/t/" + string(done)
	pages := []struct{ name, path string }{
		{"tasks", "/"}, {"projects", "/projects"}, {"project", "/p/greeter"}, {"project-settings", "/p/greeter/settings"},
		{"new-project", "/projects/new"}, {"settings", "/settings"}, {"start", "/start"}, {"task", task},
		{"task-needs-you", "/t/" + string(waits)}, {"diff", task + "/diff"}, {"diff-two", task + "/diff?side=1"},
		{"files", task + "/files"}, {"file", task + "/files/greeter.py"}, {"ports", task + "/ports"}, {"log", task + "/log"},
		{"terminal", task + "/terminal"}, {"access", task + "/access"}, {"missing", "/p/nothing"}, {"gallery", "/gallery"},
	}
	p.expect("404")
	for _, page := range pages {
		p.size(1440, 900)
		p.theme("light")
		p.open(page.path)
		p.settle()
		p.still()
		p.shot("light-" + page.name)
		p.theme("dark")
		p.shot("dark-" + page.name)
		p.theme("light")
		p.phone(320, 700)
		p.open(page.path)
		p.settle()
		p.still()
		p.phone(390, 844)
		p.open(page.path)
		p.settle()
		p.still()
		p.shot("phone-" + page.name)
	}
}

// settle waits until the page's own script ran.
func (p *tab) settle() {
	p.t.Helper()
	p.wait(`document.readyState === "complete" && (!document.querySelector("#term[data-xterm]:not([data-xterm=''])") || document.querySelector("#term .xterm-rows")?.innerText.includes("$"))`)
}
