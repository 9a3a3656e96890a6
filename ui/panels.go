package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"sort"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"github.com/alecthomas/chroma/v2/lexers"

	"github.com/samnode/samnode/chat"
)

// withPanel shows a task page with a panel, whatever its part of the node
// said; an error stands inside the panel, and the chat beside it stays.
func (s *Server) withPanel(w http.ResponseWriter, r *http.Request, view string, panel templ.Component) error {
	return s.showTask(w, r, view, http.StatusOK, panel, nil)
}

// words are an error as a panel shows it.
func (s *Server) words(r *http.Request, err error) string {
	p := s.problem(r, err)
	return strings.TrimSpace(p.Title + ". " + p.Text)
}

type filesView struct {
	File    File
	Crumbs  []link
	Entries []entryView
	Lines   []string // highlighted HTML
	RawURL  string
	Cut     string
	Problem string
}

type entryView struct{ Name, URL, Icon, Size string }

const filesLines = 5000

func (s *Server) taskFiles(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	name := clean(r.PathValue("path"))
	base := "/t/" + string(t.ID)
	v := filesView{Crumbs: crumbs(base+"/files", name), RawURL: base + "/raw/" + escapePath(name)}
	if s.Files == nil {
		v.Problem = "This node cannot read the branch."
		return s.withPanel(w, r, "files", filesPanel(v))
	}
	v.File, err = s.Files(r.Context(), t, name)
	v.File.As = visible(v.File.As)
	switch {
	case err != nil:
		v.Problem = s.words(r, err)
	case v.File.Dir:
		v.Entries = entries(base+"/files", name, v.File.Entries)
	case !v.File.Binary:
		v.source(name)
	}
	return s.withPanel(w, r, "files", filesPanel(v))
}

func (v *filesView) source(name string) {
	text := visible(string(v.File.Content))
	language := ""
	if l := lexers.Match(path.Base(name)); l != nil {
		language = l.Config().Name
	}
	v.Lines = sourceLines(highlight(language, text))
	if len(v.Lines) > filesLines {
		v.Cut = fmt.Sprintf("The first %d of %d lines.", filesLines, len(v.Lines))
		v.Lines = v.Lines[:filesLines]
	} else if int64(len(v.File.Content)) < v.File.Size {
		v.Cut = "The first " + size(int64(len(v.File.Content))) + " of " + size(v.File.Size) + "."
	}
}

// sourceLines cuts highlighted code at its line ends; a colour that spans
// lines is closed and opened again.
func sourceLines(code string) []string {
	lines := strings.Split(strings.TrimSuffix(code, "\n"), "\n")
	open := ""
	for i, l := range lines {
		lines[i] = open + l
		open = lastOpen(lines[i])
		if open != "" {
			lines[i] += "</span>"
		}
	}
	return lines
}

// lastOpen is the span that a line leaves open; spans of highlight do not nest.
func lastOpen(l string) string {
	i := strings.LastIndex(l, "<span ")
	if i < 0 || strings.Contains(l[i:], "</span>") {
		return ""
	}
	return l[i : i+strings.IndexByte(l[i:], '>')+1]
}

func clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

func escapePath(p string) string {
	return strings.TrimPrefix((&url.URL{Path: "/" + p}).EscapedPath(), "/")
}

func crumbs(base, name string) []link {
	out := []link{{Name: "root", URL: base}}
	if name == "" {
		return out
	}
	at := ""
	for _, part := range strings.Split(name, "/") {
		at = path.Join(at, part)
		out = append(out, link{Name: visible(part), URL: base + "/" + escapePath(at)})
	}
	return out
}

func entries(base, dir string, list []Entry) []entryView {
	sort.SliceStable(list, func(i, j int) bool { return list[i].Dir && !list[j].Dir })
	var out []entryView
	for _, e := range list {
		v := entryView{Name: visible(e.Name), URL: base + "/" + escapePath(path.Join(dir, e.Name)), Icon: "file", Size: size(e.Size)}
		if e.Dir {
			v.Icon, v.Size = "folder", ""
		}
		out = append(out, v)
	}
	return out
}

// fileURL is where a tool's location is shown. Agents name absolute paths too:
// the working copy is the one folder below /workspaces.
func fileURL(task, name string, line int) string {
	if inside, ok := strings.CutPrefix(name, "/workspaces/"); ok {
		_, name, _ = strings.Cut(inside, "/")
	}
	u := "/t/" + task + "/files/" + escapePath(clean(name))
	if line > 0 {
		u += "#L" + strconv.Itoa(line)
	}
	return u
}

func (s *Server) rawFile(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.Files == nil {
		return errNoPart
	}
	name := clean(r.PathValue("path"))
	f, err := s.Files(r.Context(), t, name)
	if err != nil {
		return fmt.Errorf("reading file: %w", err)
	}
	if f.Dir {
		return fmt.Errorf("%w: this is a folder", chat.ErrInvalid)
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Content-Disposition", "attachment; filename="+strconv.QuoteToASCII(path.Base(name)))
	_, err = w.Write(f.Content)
	return err
}

type logView struct {
	URL     string
	Journal bool
	Facts   []fact
	Items   []rawItem
}

type (
	fact    struct{ Name, Value string }
	rawItem struct{ Seq, Kind, ID, Index, JSON string }
	link    struct {
		Name, URL string
		On        bool
	}
)

const logItems = 100

func (s *Server) taskLog(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	messages, err := s.Room.Messages(r.Context(), t.ID, 0, logItems)
	if err != nil {
		return fmt.Errorf("reading messages: %w", err)
	}
	v := logView{URL: "/t/" + string(t.ID), Journal: s.Journal != nil && t.Lease != nil, Facts: facts(t)}
	for i := len(messages) - 1; i >= 0; i-- {
		m := messages[i]
		body, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding message: %w", err)
		}
		v.Items = append(v.Items, rawItem{
			strconv.FormatUint(m.Seq, 10), line(string(m.Kind), 20), m.ID, strconv.FormatUint(m.Index, 10), visible(string(body)),
		})
	}
	return s.withPanel(w, r, "log", logPanel(v))
}

func facts(t chat.Task) []fact {
	f := []fact{
		{"task", string(t.ID)},
		{"state", string(t.State) + " since " + absolute(t.Since)},
		{"branch", t.Branch},
		{"workspace", strconv.Itoa(t.Workspace)},
		{"journal cursor", strconv.FormatUint(t.Cursor, 10)},
		{"index", strconv.FormatUint(t.Index, 10) + ", seq " + strconv.FormatUint(t.Seq, 10)},
	}
	if t.Session != "" {
		f = append(f, fact{"agent session", t.Session})
	}
	if l := t.Lease; l != nil {
		f = append(f, fact{"lease", fmt.Sprintf("token %d, %s, slot %s, granted %s", l.Token, l.Node, l.Slot, absolute(l.Since))})
	}
	if n := t.Turn; n != nil {
		f = append(f, fact{"turn", fmt.Sprintf("%d, %s, %s, stop %q", n.Number, n.ID, n.Delivery, n.Stop)})
	}
	for _, step := range t.Steps {
		f = append(f, fact{string(step.Name), strings.TrimSuffix(fmt.Sprintf("%s, attempt %d, %s", step.State, step.Attempt, step.Log), ", ")})
	}
	for i := range f {
		f[i].Value = visible(f[i].Value)
	}
	return f
}
