package main

import (
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// greeter is a small repository with something to change.
var greeter = map[string]string{
	".gitignore": "__pycache__/\n",
	"README.md":  "# greeter\n\nSays hello.\n",
	"greeter.py": `"""Says hello to people."""


def greet():
    return "Hello!"


if __name__ == "__main__":
    print(greet())
`,
	"test_greeter.py": `import unittest

from greeter import greet


class GreetTest(unittest.TestCase):
    def test_greets(self):
        self.assertEqual(greet(), "Hello!")
`,
}

const greetTask = "Greet people by name\n\n" +
	"`greet` should take a **name** and use it; without one it stays as it is.\n\n" +
	"```sh\n" +
	`sed -i -e 's/def greet():/def greet(name=""):/' -e 's/return "Hello!"/return f"Hello, {name}!" if name else "Hello!"/' greeter.py
cat >> test_greeter.py <<'END'

    def test_greets_by_name(self):
        self.assertEqual(greet("Ana"), "Hello, Ana!")
END
git diff --stat` +
	"\n```\n\n```sh\n" +
	`for part in one two three four five six; do echo "checking part $part"; sleep 0.4; done
python3 -m unittest -v` +
	"\n```\n"

// addProject makes a project with the page's form.
func (p *tab) addProject(repo, mode string) {
	p.t.Helper()
	p.open("/")
	p.click(`main a[href="/projects/new"]`)
	p.wait(`document.activeElement?.name === "repo"`)
	p.write(`input[name=repo]`, repo)
	p.write(`input[name=name]`, "greeter")
	p.click(`input[name=mode][value=` + mode + `]`)
	p.click(`form.form button.primary`)
	p.wait(`location.pathname === "/p/greeter"`)
}

// startTask writes a task on the project's page.
func (p *tab) startTask(text string) chat.TaskID {
	p.t.Helper()
	p.write(`.new textarea`, text)
	p.click(`.new button.primary`)
	return chat.TaskID(p.taskOf())
}

func TestBrowserMainJob(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, greeter)
	p := newTab(t, n)

	p.open("/")
	p.still()
	p.shot("first")
	p.addProject(repo, "ask")
	p.still()
	p.shot("project-empty")
	task := p.startTask(greetTask)

	// The start is a list of steps, which fold when the agent works.
	p.wait(`document.querySelectorAll("#stepper .step").length > 2`)
	p.shot("task-starting")
	p.wait(`document.querySelector(".ask.open") && document.title.startsWith("(1)")`)
	p.shows("#stepper summary", "Started in")
	p.shows("#g-needs", "Greet people by name")
	p.shot("task-needs-you")
	p.click(`.ask.open [data-kind=allow_always]`)
	p.shows(".answered", "by ")

	// Output comes while the command runs.
	p.wait(`[...document.querySelectorAll(".tool.ts-in_progress .out")].some((el) => el.textContent.includes("checking part two"))`)
	p.shot("task-working")
	p.state("idle")
	p.shows("#stream", "test_greets_by_name")
	p.wait(`[...document.querySelectorAll(".k-agent")].some((el) => el.textContent.includes("2 blocks ran"))`)
	p.wait(`document.querySelectorAll(".tool.ts-completed").length === 2`)
	p.shows("#strip", "Merge into main")
	p.shot("task-done")

	p.click(`[data-tab=diff]`)
	p.shows(".diffs", "test_greets_by_name")
	p.still()
	p.shot("diff-unified")
	p.click(`.panel-head a[href*="side=1"]`)
	p.wait(`document.querySelector(".d.two")`)
	p.still()
	p.shot("diff-side-by-side")
	p.press(escape)
	p.wait(`location.pathname === "/t/` + string(task) + `" && document.querySelector("#strip .primary")`)
	p.still()

	// A merge asks twice.
	p.click("#strip button.primary")
	p.shows("#strip button.primary", "Press again")
	p.click("#strip button.primary")
	p.wait(`document.querySelector("#strip, #stream").textContent.match(/[Mm]erged/) || document.querySelector("#strip")?.textContent.match(/[Mm]erged/)`)
	p.shot("task-merged")
	if got := gitIn(t, repo, "show", "main:greeter.py"); !strings.Contains(got, "def greet(name") {
		t.Errorf("greeter.py on main = %s", got)
	}
	checkItems(t, n.items(task), "test_greets_by_name")
}
