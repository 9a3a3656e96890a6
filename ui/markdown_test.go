package ui

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

func TestMarkdownOfHostileText(t *testing.T) {
	m := newMarkdown()
	for name, c := range map[string]struct{ in, want, not string }{
		"raw HTML is text":                {"<b onclick=x()>hi</b>", "&lt;b onclick=x()&gt;hi", "<b "},
		"a script block is text":          {"<script>alert(1)</script>", "&lt;script&gt;", "<script"},
		"an image is a link":              {"![logo](https://evil.example/p.png)", "image: logo</a> <span class=\"host\">(evil.example)", "<img"},
		"an image by HTML is text":        {"<img src=https://evil.example/p.png>", "&lt;img", "<img"},
		"a link shows its host":           {"[bank](https://evil.example/a)", `rel="noreferrer noopener nofollow"`, "javascript"},
		"a script link goes nowhere":      {"[x](javascript:alert(1))", "x", `href="javascript`},
		"a data link goes nowhere":        {"[x](data:text/html,hi)", "x", `href="data`},
		"a vbscript reference link":       {"[x][1]\n\n[1]: vbscript:x", "x", `href="vbscript`},
		"escapes are seen":                {"a\x1b[31mb\x00c", "␛[31mb", "\x1b"},
		"direction is seen":               {"\u202egnp.exe", "⟨U+202E⟩gnp.exe", "\u202e"},
		"zero width is seen":              {"pay\u200bpal", "pay⟨U+200B⟩pal", "\u200b"},
		"tag characters are seen":         {"hi\U000E0041", "⟨U+E0041⟩", "\U000E0041"},
		"invalid UTF-8 is replaced":       {"a\xffb", "a\uFFFDb", "\xff"},
		"code is text":                    {"```html\n<script>alert(1)</script>\n```", "&lt;", "<script"},
		"a language is text":              {"```\"><script>\nx\n```", "x", "<script"},
		"a table cell is text":            {"|a|\n|-|\n|<i onload=x>|", "&lt;i", "<i "},
		"a link title cannot break out":   {`[x](https://a.example "\"><script>")`, "x", "<script"},
		"a quote in an address":           {`[x](https://a.example/"onmouseover="x)`, "x", `"onmouseover="`},
		"classes of ours cannot be named": {`<span class="k-ask">x</span>`, "&lt;span", `<span class="k-ask"`},
		"a bare address is a link":        {"see https://a.example/x", `href="https://a.example/x"`, "<img"},
		"a half fence is code":            {"```go\nfunc main() {", `<div class="code">`, "```"},
		"GFM works":                       {"~~no~~ **yes**\n\n- [x] done", "<del>no</del>", "<input"},
	} {
		got := m.HTML(c.in)
		if !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("%s: HTML(%q) = %s", name, c.in, got)
		}
	}
}

func TestTextThatWouldTakeTheParserLongIsShownAsItIs(t *testing.T) {
	m := newMarkdown()
	for name, unit := range map[string]string{
		"brackets": "[", "nested links": "[a](", "quotes": "> ", "emphasis": "*a_", "lists": "- ", "numbered": "1. ", "images": "![", "tildes": "~~a", "tags": "<a ", "ticks": "` ",
	} {
		in := strings.Repeat(unit, chat.MaxBody/len(unit))
		if got := m.HTML(in); !strings.HasPrefix(got, `<pre class="raw">`) {
			t.Errorf("%s: HTML = %.80s", name, got)
		}
	}
	if got := m.HTML("> quote\n\n- a\n  - b **c**\n"); strings.Contains(got, "raw") {
		t.Errorf("ordinary text is raw: %s", got)
	}
}

var (
	tags     = regexp.MustCompile(`<([a-zA-Z][a-zA-Z0-9]*)`)
	handlers = regexp.MustCompile(`<[^>]*\son[a-z]+\s*=`)
	hrefs    = regexp.MustCompile(`href="([^"]*)"`)
)

// harmless checks what must hold of any rendered text.
func harmless(t *testing.T, in, out string) {
	t.Helper()
	for _, m := range tags.FindAllStringSubmatch(out, -1) {
		switch strings.ToLower(m[1]) {
		case "script", "style", "iframe", "img", "svg", "object", "embed", "form", "input", "link", "meta", "base", "video", "audio", "math":
			t.Fatalf("HTML(%q) has a <%s>: %s", in, m[1], out)
		}
	}
	if handlers.MatchString(out) {
		t.Fatalf("HTML(%q) has a handler: %s", in, out)
	}
	for _, m := range hrefs.FindAllStringSubmatch(out, -1) {
		u, err := url.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
		if err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "mailto" {
			t.Fatalf("HTML(%q) links to %q", in, m[1])
		}
	}
	if strings.ContainsFunc(out, sneaky) {
		t.Fatalf("HTML(%q) has a hidden character: %q", in, out)
	}
}

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{"# hi", "<script>", "[a](javascript:x)", "![x](y)", "```go\nx\n```", "|a|\n|-|\n|b|", "<!-- x -->", "<a href='x' onclick=y>", "a\x1bb", "&#106;avascript:x", "[x]: <y>", "> > > a", "1) a\n   - b"} {
		f.Add(s)
	}
	m := newMarkdown()
	f.Fuzz(func(t *testing.T, in string) { harmless(t, in, m.render(in)) })
}

func FuzzANSI(f *testing.F) {
	for _, s := range []string{"\x1b[31mred\x1b[0m", "\x1b]0;title\x07x", "a\rb", "\x1b[", "\x1b[1;38;5;9mx", "\x1bP\x1b\\", "\x1b(B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, s := range ansi(in) {
			if strings.ContainsFunc(s.Text, sneaky) {
				t.Fatalf("ansi(%q) keeps %q", in, s.Text)
			}
			if strings.Trim(s.Class, "bt0123456789 ") != "" {
				t.Fatalf("ansi(%q) has class %q", in, s.Class)
			}
		}
	})
}

func TestTerminalOutputKeepsItsColours(t *testing.T) {
	for in, want := range map[string][]styled{
		"plain":                          {{"", "plain"}},
		"\x1b[31mred\x1b[0m ok":          {{"t1", "red"}, {"", " ok"}},
		"\x1b[1m\x1b[92mb\x1b[22mg":      {{"b t10", "b"}, {"t10", "g"}},
		"10%\r50%\r100%\ndone":           {{"", "100%\ndone"}},
		"\x1b]8;;https://x\x07link":      {{"", "link"}},
		"\x1b[2J\x1b[Hclear":             {{"", "clear"}},
		"\x1b[38;5;196mx\x1b[39my":       {{"", "xy"}},
		"bell\x07":                       {{"", "bell␇"}},
		"cut\x1b[3":                      {{"", "cut"}},
		"\x1b[31ma\x1b[31mb":             {{"t1", "ab"}},
		"a\r\nb\r\n":                     {{"", "a\nb\n"}},
		"\x1b]0;never ended\nstill here": {{"", "\nstill here"}},
	} {
		got := ansi(in)
		if len(got) != len(want) {
			t.Errorf("ansi(%q) = %q, want %q", in, got, want)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("ansi(%q) = %q, want %q", in, got, want)
			}
		}
	}
}

const nasty = `"><script>alert(1)</script><img src=x onerror=alert(2)>` + "\x1b[31m\u202e" + `';--{{.}}`

// Everything that an agent, a repository or a person can name is put on the
// pages with the same nasty text.
func TestHostileTextInEveryField(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Diff = func(context_, chat.Task, DiffOptions) (Diff, error) {
			return Diff{Note: nasty, Files: []DiffFile{{Path: nasty, From: nasty + "2", Status: "renamed", Note: nasty, Added: 1, Hunks: []Hunk{{Old: 1, New: 1, Title: nasty, Lines: []DiffLine{{'+', nasty}, {'-', nasty}, {' ', nasty}}}}}}}, nil
		}
		c.Files = fakeFiles(func(q api.FileQuery) (api.FileView, error) {
			if q.Path == "" {
				return api.FileView{FileInfo: api.FileInfo{Kind: "folder"}, At: api.Now, As: nasty, Note: nasty, Entries: []api.FileInfo{
					{Name: nasty, Kind: "folder", State: "modified"}, {Name: nasty, Kind: "file", State: nasty}, {Name: "l", Kind: "link", Link: nasty}, {Name: nasty, Kind: nasty},
				}}, nil
			}
			return textFile(q, nasty), nil
		})
		c.Agents = func() []AgentInfo { return []AgentInfo{{Name: nasty, Label: nasty, Why: nasty}} }
		c.Ports = func(context_, chat.TaskID) ([]Port, error) {
			return []Port{{Number: 1, Process: nasty}}, nil
		}
	})
	task := s.working(t, nasty)
	exit := 1
	s.kit.Emit(t, task.ID,
		chat.Item{ID: "1", Kind: chat.KindAgent, Text: nasty},
		chat.Item{ID: "2", Kind: chat.KindThought, Text: nasty},
		chat.Item{ID: "3", Kind: chat.KindTool, Tool: &chat.Tool{Title: nasty, Kind: nasty, Status: "failed", Input: nasty, Output: nasty, Locations: []chat.Location{{Path: nasty, Line: 3}}, Exit: &exit, Diffs: []chat.FileDiff{{Path: nasty, Old: nasty, New: nasty + "\n"}}}},
		chat.Item{ID: "4", Kind: chat.KindTool, Tool: &chat.Tool{Title: nasty, Kind: "execute", Status: nasty, Input: `{"command":` + jsonOf(nasty) + `}`}},
		chat.Item{ID: "5", Kind: chat.KindPlan, Plan: []chat.Plan{{Text: nasty, Status: nasty, Priority: nasty}}},
		chat.Item{ID: "6", Kind: chat.KindStatus, Text: nasty, Level: nasty, Detail: nasty},
		chat.Item{ID: "7", Kind: chat.KindError, Text: nasty, Detail: nasty},
		chat.Item{ID: "8", Kind: "hologram", Text: nasty, Raw: []byte(jsonOf(nasty))},
		chat.Item{ID: "9", Kind: chat.KindAsk, Ask: &chat.Ask{ID: "9", Kind: chat.AskQuestion, Title: nasty, Detail: nasty, Options: []chat.AskOption{{ID: `"><i`, Name: nasty, Kind: nasty}}, Fields: []chat.AskField{{Name: nasty, Label: nasty, Type: "choice", Choices: []string{nasty}}, {Name: "x", Label: nasty, Type: nasty}}}},
	)
	s.kit.Must(t, by("<b>@evil.example"), chat.Op{Say: &chat.Say{Task: task.ID, Message: newID(), Text: `</textarea><script>alert(3)</script>`}})
	page := "/t/" + string(task.ID)
	for _, path := range []string{
		"/", "/?f=" + url.QueryEscape(nasty), "/start", "/settings", "/projects/new", "/p/web?prompt=" + url.QueryEscape(nasty) + "&base=" + url.QueryEscape(nasty) + "&agent=" + url.QueryEscape(nasty),
		page, page + "/diff", page + "/diff?side=1", page + "/files", page + "/files/" + url.PathEscape(nasty), page + "/ports", page + "/log", page + "/terminal",
	} {
		w := s.get(t, path)
		if w.Code != 200 {
			t.Errorf("GET %s = %d", path, w.Code)
		}
		body := w.Body.String()
		for _, bad := range []string{"<script>alert", "<img src=x", "\x1b", "\u202e", `href="javascript`} {
			if strings.Contains(body, bad) {
				i := strings.Index(body, bad)
				t.Errorf("GET %.40s shows %q: …%s", path, bad, body[max(0, i-120):min(len(body), i+60)])
			}
		}
	}
}
