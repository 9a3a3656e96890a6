package ui

import (
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// diffView is the diff panel.
type diffView struct {
	Files          []DiffFile
	Added, Removed int
	Side           bool
	Links          []link
	Note           string
	Problem        string
	Only, AllURL   string // the one path that is shown, and where all are
}

const bigFile = 500 // lines after which a file is folded

func big(f DiffFile) bool {
	n := 0
	for _, h := range f.Hunks {
		n += len(h.Lines)
	}
	return n > bigFile
}

func (s *Server) taskDiff(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	o := DiffOptions{Scope: "branch", Context: 3, IgnoreSpace: q.Get("space") == "ignore"}
	if scope := q.Get("scope"); scope == "turn" || scope == "now" {
		o.Scope = scope
	}
	o.Path = q.Get("path")
	if n, err := strconv.Atoi(q.Get("context")); err == nil && n >= 0 && n <= 10000 {
		o.Context = n
	}
	v := diffView{Side: q.Get("side") == "1", Links: diffLinks("/t/"+string(t.ID)+"/diff", o, q.Get("side") == "1")}
	if t.Lease != nil {
		v.Links = append([]link{nowLink("/t/"+string(t.ID)+"/diff", o)}, v.Links...)
	}
	if o.Path != "" {
		all := o
		all.Path = ""
		v.Only, v.AllURL = shownName(o.Path), diffURL("/t/"+string(t.ID)+"/diff", all, v.Side)
	}
	if s.Diff == nil {
		v.Problem = "This node cannot read the branch."
		return s.withPanel(w, r, "diff", diffPanel(v))
	}
	d, err := s.Diff(r.Context(), t, o)
	if err != nil {
		v.Problem = s.words(r, err)
	}
	v.Note = visible(d.Note)
	if o.Scope == "now" && err == nil && v.Note == "" {
		v.Note = "The workspace as it is now, committed or not, against the base."
	}
	for _, f := range d.Files {
		f = shown(f)
		v.Files = append(v.Files, f)
		v.Added, v.Removed = v.Added+f.Added, v.Removed+f.Removed
	}
	return s.withPanel(w, r, "diff", diffPanel(v))
}

// shown makes everything of a file diff safe to look at.
func shown(f DiffFile) DiffFile {
	f.Path, f.From, f.Note = visible(f.Path), visible(f.From), visible(f.Note)
	hunks := make([]Hunk, len(f.Hunks))
	for i, h := range f.Hunks {
		h.Title = visible(h.Title)
		lines := make([]DiffLine, len(h.Lines))
		for j, l := range h.Lines {
			lines[j] = DiffLine{l.Op, visible(l.Text)}
		}
		h.Lines = lines
		hunks[i] = h
	}
	f.Hunks = hunks
	return f
}

// diffLinks are the switches of the panel, each a URL of the whole choice.
func diffLinks(base string, o DiffOptions, side bool) []link {
	to := func(o DiffOptions, side bool) string { return diffURL(base, o, side) }
	other := func(change func(*DiffOptions)) DiffOptions { c := o; change(&c); return c }
	scope := func(name string) DiffOptions {
		return other(func(c *DiffOptions) {
			if c.Scope = name; o.Scope == name {
				c.Scope = "branch"
			}
		})
	}
	space := other(func(c *DiffOptions) { c.IgnoreSpace = !c.IgnoreSpace })
	more := other(func(c *DiffOptions) { c.Context += 20 })
	return []link{
		{"Last turn", to(scope("turn"), side), o.Scope == "turn"},
		{"Side by side", to(o, !side), side},
		{"Ignore space", to(space, side), o.IgnoreSpace},
		{"More context", to(more, side), o.Context > 3},
	}
}

// nowLink shows the live workspace, or the last commit again.
func nowLink(base string, o DiffOptions) link {
	on := o.Scope == "now"
	if o.Scope = "now"; on {
		o.Scope = "branch"
	}
	return link{"Now", diffURL(base, o, false), on}
}

// diffURL is the panel with all that was chosen.
func diffURL(base string, o DiffOptions, side bool) string {
	var q []string
	if o.Scope != "branch" {
		q = append(q, "scope="+o.Scope)
	}
	if o.Path != "" {
		q = append(q, "path="+url.QueryEscape(o.Path))
	}
	if side {
		q = append(q, "side=1")
	}
	if o.IgnoreSpace {
		q = append(q, "space=ignore")
	}
	if o.Context != 3 {
		q = append(q, "context="+strconv.Itoa(o.Context))
	}
	if len(q) == 0 {
		return base
	}
	return base + "?" + strings.Join(q, "&")
}

func statusLetter(status string) string {
	switch status {
	case "added":
		return "A"
	case "deleted":
		return "D"
	case "renamed":
		return "R"
	}
	return "M"
}

func dirOf(p string) string {
	if d := path.Dir(p); d != "." {
		return d + "/"
	}
	return ""
}

func baseOf(p string) string { return path.Base(p) }

func hunkHead(h Hunk) string {
	return strings.TrimSpace("@@ −" + strconv.Itoa(h.Old) + " +" + strconv.Itoa(h.New) + " @@ " + h.Title)
}

func lineClass(op byte) string {
	switch op {
	case '+':
		return "a"
	case '-':
		return "r"
	case 0:
		return "none"
	}
	return ""
}

func lineWord(op byte) string {
	switch op {
	case '+':
		return "added: "
	case '-':
		return "removed: "
	}
	return ""
}

// diffRow is a line with its numbers, as text.
type diffRow struct {
	Op       byte
	Old, New string
	Text     string
}

func numbered(h Hunk) []diffRow {
	rows := make([]diffRow, 0, len(h.Lines))
	before, after := h.Old, h.New
	for _, l := range h.Lines {
		r := diffRow{Op: l.Op, Text: l.Text}
		if l.Op != '+' {
			r.Old = strconv.Itoa(before)
			before++
		}
		if l.Op != '-' {
			r.New = strconv.Itoa(after)
			after++
		}
		rows = append(rows, r)
	}
	return rows
}

type diffPair struct{ Left, Right diffRow }

// paired puts a run of removed lines beside the run of added ones after it.
func paired(h Hunk) []diffPair {
	var out []diffPair
	var left, right []diffRow
	flush := func() {
		for i := range max(len(left), len(right)) {
			var p diffPair
			if i < len(left) {
				p.Left = left[i]
			}
			if i < len(right) {
				p.Right = right[i]
			}
			out = append(out, p)
		}
		left, right = nil, nil
	}
	for _, r := range numbered(h) {
		switch r.Op {
		case '-':
			if len(right) > 0 {
				flush()
			}
			left = append(left, r)
		case '+':
			right = append(right, r)
		default:
			flush()
			out = append(out, diffPair{r, r})
		}
	}
	flush()
	return out
}
