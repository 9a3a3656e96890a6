package modeltest

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// dialect is one vendor's form of requests and answers.
type dialect interface {
	name() string
	parse(body []byte) (*prompt, error)
	fail(w responseWriter, f fault)
	write(s *stream, p *prompt, r reply)
	whole(p *prompt, r reply) any // the answer of a request that does not stream
}

// prompt is a request in common form.
type prompt struct {
	model   string
	stream  bool
	usage   bool // chat completions: was the usage asked for?
	think   bool // may the answer hold thoughts?
	system  string
	tools   []tool
	format  *schema // of the answer, when JSON is wanted
	session string  // what tells two conversations apart
	tokens  int64   // of the request, at 4 bytes each

	marker string // the last user text with a scenario
	turns  int    // how many such texts there are
	before string // user text up to the marker
	after  string // and from it on
	done   []done // tool calls since the marker that have results

	names map[string]string // tool call id to name, while parsing
}

// tool is one that the agent offers.
type tool struct {
	space    string // namespace, with Responses
	name     string
	freeform bool // takes text instead of JSON
	schema   *schema
}

// schema is as much of JSON schema as answers need.
type schema struct {
	Type       any                `json:"type"` // a string, or several
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Enum       []any              `json:"enum"`
	Items      *schema            `json:"items"`
	MinItems   int                `json:"minItems"`
}

// done is a call that the agent has carried out, or refused to.
type done struct {
	name   string
	text   string
	failed bool
}

// user takes one text of the user.
func (p *prompt) user(text string) {
	if strings.Contains(text, "SCENARIO=") {
		p.before += p.after
		p.marker, p.after, p.done = text, "", nil
		p.turns++
	}
	p.after += text + "\n"
}

// called takes one call of the model, result what came of it.
func (p *prompt) called(id, name string) {
	if p.names == nil {
		p.names = map[string]string{}
	}
	p.names[id] = name
}

func (p *prompt) result(id, text string, failed bool) {
	name := p.names[id]
	if name == "" {
		name = id // Gemini names the tool itself
	}
	low := strings.ToLower(strings.TrimSpace(text))
	failed = failed || strings.HasPrefix(low, "error") || strings.HasPrefix(low, "script failed") || strings.Contains(low, noBox)
	p.done = append(p.done, done{name: name, text: text, failed: failed})
}

// kind tells steps of a conversation from what agents ask by themselves.
func (p *prompt) kind() Kind {
	low := strings.ToLower(p.system)
	switch {
	case p.offered("classify_result") != nil || strings.Contains(p.system, "<block>"):
		return Classifier
	case len(p.tools) > 0 && p.format == nil:
		return Main
	case strings.Contains(low, "title") || strings.Contains(strings.ToLower(p.after), "title for"):
		return Title
	case p.format != nil:
		return Classifier
	default:
		return Main
	}
}

var marked = regexp.MustCompile(`\b([A-Z]+)=("[^"]*"|[^\s"<>]+)`)

// arg returns the value of KEY=value in the marker's text.
func (p *prompt) arg(key, fallback string) string {
	for _, m := range marked.FindAllStringSubmatch(p.marker, -1) {
		if m[1] == key {
			return strings.Trim(m[2], `"`)
		}
	}
	return fallback
}

func (p *prompt) scenario() string { return strings.TrimRight(p.arg("SCENARIO", ""), ".,;:!)") }

// number reads a count; "always" is -1.
func (p *prompt) number(key string, fallback int) int {
	v := p.arg(key, "")
	if v == "always" {
		return -1
	}
	if n, err := strconv.Atoi(v); err == nil {
		return n
	}
	return fallback
}

func (p *prompt) millis(key string, fallback time.Duration) time.Duration {
	if n := p.number(key, -1); n >= 0 {
		return time.Duration(n) * time.Millisecond
	}
	return fallback
}

// The ways in which agents tell the model where they work.
var workdirs = []*regexp.Regexp{
	regexp.MustCompile(`(?i)working directory(?: is)?: ["'` + "`" + `]?(/[^\s"'` + "`" + `<]*)`),
	regexp.MustCompile(`<cwd>(/[^<]*)</cwd>`),
	regexp.MustCompile(`(?i)working in the directory: (/\S*)`),
	regexp.MustCompile(`(?i)workspace directories?:?\s+-?\s*(/\S+)`),
}

// path makes a path absolute where the agent's folder is known: some write
// tools take nothing else.
func (p *prompt) path(file string) string {
	if strings.HasPrefix(file, "/") {
		return file
	}
	for _, re := range workdirs {
		for _, text := range []string{p.system, p.before, p.after} {
			if m := re.FindStringSubmatch(text); m != nil {
				return strings.TrimRight(m[1], "/.") + "/" + file
			}
		}
	}
	return file
}

// count says how often tools of that purpose were carried out without failing.
func (p *prompt) count(purpose []string) int {
	n := 0
	for _, d := range p.done {
		if !d.failed && named(d.name, purpose) {
			n++
		}
	}
	return n
}

func (p *prompt) last() done {
	if len(p.done) == 0 {
		return done{}
	}
	return p.done[len(p.done)-1]
}

// noBox is how codex's sandbox says that it cannot start.
const noBox = "bwrap: "

// boxed reports whether the last call failed for want of a sandbox.
func (p *prompt) boxed() bool { return strings.Contains(p.last().text, noBox) }

// refused reports whether a person (or a mode) said no to the last call.
func (p *prompt) refused() bool {
	low := strings.ToLower(p.last().text)
	for _, no := range []string{"doesn't want", "does not want", "rejected", "denied", "refused", "cancelled by", "canceled by", "permission to use", "declined", "requires approval", "while in plan mode"} {
		if strings.Contains(low, no) {
			return true
		}
	}
	return false
}
