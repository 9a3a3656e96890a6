package modeltest

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// reply is what the model says in one step.
type reply struct {
	thought string
	text    string
	call    *call
	pace    time.Duration // between two words
	hang    bool          // never ends
	cut     bool          // ends in the middle
}

// call is one use of a tool.
type call struct {
	tool tool
	args map[string]any
	text string // of a freeform tool
}

// fault is an answer that is none.
type fault struct {
	status int
	text   string
	retry  time.Duration // when to come again, if that is said
}

// answer is one step of the script, written in the dialect.
func (a *API) answer(w http.ResponseWriter, r *http.Request, d dialect, p *prompt, kind Kind) {
	if f, yes := a.fault(p, kind); yes {
		d.fail(w, f)
		return
	}
	rep := p.reply(kind)
	rep.cut = rep.cut && a.refuse(p.step(), p.number("TIMES", -1))
	if rep.pace == 0 {
		rep.pace = p.millis("DELAY", a.opts.Pace)
	}
	if !p.stream {
		if rep.hang {
			<-r.Context().Done()
			return
		}
		writeJSON(w, http.StatusOK, d.whole(p, rep))
		return
	}
	d.write(&stream{w: w, rc: http.NewResponseController(w), ctx: r.Context()}, p, rep)
}

// fault reports whether the step is to be refused.
func (a *API) fault(p *prompt, kind Kind) (fault, bool) {
	if kind != Main {
		return fault{}, false
	}
	switch p.scenario() {
	case "badkey":
		return fault{http.StatusUnauthorized, "invalid key", 0}, true
	case "overloaded":
		return fault{529, "Overloaded", 20 * time.Millisecond}, a.refuse(p.step(), p.number("N", 3))
	case "ratelimit":
		return fault{http.StatusTooManyRequests, "This request would exceed the rate limit", 20 * time.Millisecond}, a.refuse(p.step(), p.number("N", 2))
	}
	return fault{}, false
}

// step names one step of one conversation, the same at each retry.
func (p *prompt) step() string {
	return fmt.Sprintf("%s/%d/%d/%s", p.session, p.turns, len(p.done), p.marker)
}

// reply is the script.
func (p *prompt) reply(kind Kind) reply {
	switch kind {
	case Title, Classifier:
		return p.unasked(kind)
	}
	switch p.scenario() {
	case "edit":
		return p.edit()
	case "plan":
		return p.plan()
	case "bash":
		if p.refused() {
			return reply{text: "The command was refused."}
		}
		if len(p.done) < p.number("N", 1) || p.boxed() {
			return p.shell(p.arg("CMD", "sh -c 'mkdir -p build && date +%s%N > build/stamp'"))
		}
		return reply{text: "The command said: " + head(p.last().text, 200)}
	case "endless":
		return p.shell(p.arg("CMD", "true"))
	case "ask", "question":
		return p.ask()
	case "mcp":
		return p.mcp()
	case "long":
		return reply{text: words(p.number("N", 400))}
	case "slow":
		return reply{text: words(p.number("N", 240)), pace: p.millis("DELAY", 250*time.Millisecond)}
	case "silent":
		return reply{text: "One moment.", hang: true}
	case "cut":
		return reply{text: words(p.number("N", 40)), cut: true}
	default:
		return reply{thought: "A greeting is enough.", text: "Hello from the scripted model. This is all I have to say."}
	}
}

// edit writes the files, one after the other. An agent that wants an existing
// file read first says so in a failed result, and gets that.
func (p *prompt) edit() reply {
	files := strings.Split(p.arg("FILE", "hello.txt"), ",")
	written := p.count(writers) + p.count(shells)
	switch last := p.last(); {
	case p.refused():
		return reply{text: "The edit was refused."}
	case written >= len(files):
		return reply{text: "I wrote " + strings.Join(files, ", ") + "."}
	case len(p.done) > 4*len(files):
		return reply{text: "I could not write " + files[written] + ": " + head(last.text, 200)}
	case last.failed && named(last.name, writers) && p.find(readers) != nil:
		return p.use(p.find(readers), map[string]any{"path": p.path(files[written])}, "It exists already: I read it first.")
	}
	return p.write(files[written])
}

func (p *prompt) write(file string) reply {
	content := p.arg("TEXT", fmt.Sprintf("written by the scripted model, turn %d", p.turns)) + "\n"
	t := p.find(writers)
	if t == nil {
		return p.shell(fmt.Sprintf("printf '%%s\\n' %s > %s", quote(strings.TrimSuffix(content, "\n")), quote(file)))
	}
	r := p.use(t, map[string]any{"path": p.path(file), "content": content}, "I will write "+file+".")
	r.thought = "The file is small; one write will do."
	return r
}

var planFile = regexp.MustCompile(`/\S+/plans/[\w.-]+\.md`)

// plan makes a plan in whatever way the agent has one, then edits.
func (p *prompt) plan() reply {
	steps := []string{"Look at the repository", "Write " + p.arg("FILE", "hello.txt"), "Check the result"}
	text := "1. " + steps[0] + "\n2. " + steps[1] + "\n3. " + steps[2]
	if r, first := p.load(exits); first && strings.Contains(strings.ToLower(p.system+p.after), "plan mode") {
		return r
	}
	exit, inPlan := p.find(exits), strings.Contains(strings.ToLower(p.system+p.after), "plan mode")
	if exit == nil || !inPlan {
		planner := p.find(planners)
		if planner != nil && len(p.done) == 0 {
			return p.use(planner, map[string]any{"steps": steps}, "Here is the plan.\n\n"+text)
		}
		r := p.edit()
		if len(p.done) == 0 {
			r.text = "Here is the plan.\n\n" + text + "\n\n" + r.text
		}
		return r
	}
	file := planFile.FindString(p.system + p.after)
	switch {
	case p.refused() && named(p.last().name, exits):
		return reply{text: "The plan was sent back: " + head(p.last().text, 200)}
	case p.count(exits) > 0 && p.count(writers) > 1 || p.count(exits) > 0 && file == "" && p.count(writers) > 0:
		return reply{text: "I wrote " + p.arg("FILE", "hello.txt") + " as planned."}
	case p.count(exits) > 0:
		return p.write(p.arg("FILE", "hello.txt"))
	case file != "" && p.count(writers) == 0 && p.find(writers) != nil:
		return p.use(p.find(writers), map[string]any{"path": file, "content": "# Plan\n\n" + text + "\n"}, "I write the plan down.")
	}
	return p.use(exit, map[string]any{"plan": text}, "Here is the plan.")
}

// ask puts one question with two answers.
func (p *prompt) ask() reply {
	if n := len(p.done); n > 0 && p.last().name != loader {
		return reply{text: "You answered: " + head(p.last().text, 300)}
	}
	if r, first := p.load(askers); first {
		return r
	}
	if t := p.find(askers); t != nil {
		return p.use(t, map[string]any{"question": "Which colour should the button have?", "choices": []string{"Red", "Blue"}}, "I need to know one thing.")
	}
	return reply{text: "Which colour should the button have, red or blue?"}
}

// mcp calls a tool of an MCP server.
func (p *prompt) mcp() reply {
	if len(p.done) > 0 {
		return reply{text: "The tool said: " + head(p.last().text, 300)}
	}
	want := p.arg("TOOL", "")
	for _, t := range p.tools {
		if strings.Contains(t.name, "__") && strings.Contains(t.name, want) || want != "" && t.name == want {
			return p.use(&t, map[string]any{"text": p.arg("TEXT", "hello")}, "I use "+t.name+".")
		}
	}
	if t := p.offered(scripted); t != nil && t.freeform {
		js := "const t = ALL_TOOLS.find(t => t.name.includes('__') && t.name.includes(" + mustJSON(want) + "));\n" +
			"text(t ? await tools[t.name](" + mustJSON(map[string]any{"text": p.arg("TEXT", "hello")}) + ") : 'There is no MCP tool.');\n"
		return reply{text: "I use an MCP tool.", call: &call{tool: *t, text: js}}
	}
	return reply{text: "There is no MCP tool."}
}

func (p *prompt) shell(command string) reply {
	t := p.find(shells)
	if t == nil {
		return reply{text: "There is no shell to run: " + command}
	}
	have := map[string]any{"command": command}
	if p.boxed() {
		have["escalate"], have["why"] = "require_escalated", "The sandbox cannot start here."
	}
	return p.use(t, have, "I run a command.")
}

// unasked answers what agents ask by themselves, in the form they want.
func (p *prompt) unasked(kind Kind) reply {
	if t := p.offered("classify_result"); t != nil {
		return p.use(t, nil, "")
	}
	text := "Scripted task"
	if kind == Classifier && p.format == nil {
		text = "<block>no</block>"
	}
	if p.format != nil {
		text = mustJSON(p.format.sample("", "Scripted task"))
	}
	return reply{text: text}
}

// words are n of them, different enough to see an order.
func words(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "word%d", i+1)
		b.WriteByte(" \n"[b2i((i+1)%12 == 0)])
	}
	return b.String()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func head(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "..."
	}
	return s
}

// quote makes a shell word.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
