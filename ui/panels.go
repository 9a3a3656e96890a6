package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/a-h/templ"

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
