package ui

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/alecthomas/chroma/v2/lexers"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// filesView is the files panel.
type filesView struct {
	Base    string // of the task's page
	Path    string // "" is the root
	Crumbs  []link
	Links   []link // now or the last commit
	As      string
	Kind    string // of what is at the path
	Entries []entryView
	Lines   []string // highlighted HTML
	Size    int64
	Binary  bool
	Image   string // URL
	RawURL  string
	DiffURL string
	Note    string
	Cut     string
	Problem string
	May     bool // change it
	At      string
	Script  string
	Style   string
}

type entryView struct{ Name, URL, Icon, Size, Link, State string }

const (
	filesLines   = 5000
	filesShown   = 2000    // entries of a folder
	filesContent = 1 << 20 // bytes of a file that are read for the page
	imageShown   = 20 << 20
)

// Parts of a URL that say where files are read.
func atQuery(at string) string {
	if at == "" {
		return ""
	}
	return "?at=" + url.QueryEscape(at)
}

func (s *Server) fileRoutes(mux *http.ServeMux) {
	for _, below := range []string{"", "/{path...}"} {
		mux.Handle("GET /t/{task}/files"+below, s.page(Viewer, s.taskFiles))
		mux.Handle("POST /t/{task}/files"+below, s.page(Member, s.fileChange))
	}
	mux.Handle("GET /t/{task}/raw/{path...}", s.page(Viewer, s.rawFile))
	mux.Handle("POST /t/{task}/upload/{path...}", s.pageUpTo(api.MaxUpload, theMesh, Member, s.upload))
}

func (s *Server) taskFiles(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	return s.showFiles(w, r, t, strings.TrimSuffix(r.PathValue("path"), "/"), nil)
}

// showFiles shows a path of a task's files; failed is what went wrong with a
// change just now.
func (s *Server) showFiles(w http.ResponseWriter, r *http.Request, t chat.Task, name string, failed error) error {
	at := r.URL.Query().Get("at")
	v := filesView{Base: "/t/" + string(t.ID), Path: name, At: at, Script: s.assets.url("files.js"), Style: s.assets.url("files.css")}
	v.Crumbs = crumbs(v.Base+"/files", name, atQuery(at))
	status := http.StatusOK
	if s.Files == nil {
		v.Problem = "This node cannot read the branch."
	} else {
		s.fillFiles(r, t, &v)
		v.May = v.At == api.Now && s.FileKeeper != nil && callerOf(r).may(Member)
	}
	if failed != nil {
		p := s.problem(r, failed)
		v.Note, status = strings.TrimSpace(p.Title+". "+p.Text), p.Status
	}
	return s.showTask(w, r, "files", status, filesPanel(v), func(f *frame, _ *taskView) { f.Extra = append(f.Extra, v.Style) })
}

func (s *Server) fillFiles(r *http.Request, t chat.Task, v *filesView) {
	asked := v.At
	f, err := s.Files.Look(r.Context(), t, api.FileQuery{At: asked, Path: v.Path, Length: filesContent, Limit: filesShown})
	if err != nil {
		v.Problem = s.words(r, err)
		if t.Lease != nil && asked != api.AtCommit {
			v.At = api.Now // what cannot be opened can be removed
		}
		v.links(t, asked)
		return
	}
	v.At, v.As, v.Note, v.Kind, v.Size = f.At, visible(f.As), visible(f.Note), f.Kind, f.Size
	v.links(t, asked)
	if f.Kind == "folder" {
		v.Entries = entries(v.Base+"/files", f, atQuery(asked))
		if f.Total > len(f.Entries) || f.More {
			v.Cut = fmt.Sprintf("The first %s of %s entries.", count(int64(len(f.Entries))), totalOf(f))
		}
		return
	}
	if f.Body == nil {
		return
	}
	content, err := io.ReadAll(io.LimitReader(f.Body, filesContent))
	if err = errors.Join(err, f.Body.Close()); err != nil {
		v.Problem = s.words(r, err)
		return
	}
	v.source(content)
}

func totalOf(f api.FileView) string {
	if f.More {
		return "more than " + count(int64(f.Total))
	}
	return count(int64(f.Total))
}

// links are what can be done with the path that is shown.
func (v *filesView) links(t chat.Task, asked string) {
	here := v.Base + "/files"
	raw := v.Base + "/raw/"
	if v.Path != "" {
		here += "/" + escapePath(v.Path)
		raw += escapePath(v.Path)
	}
	v.RawURL = raw + atQuery(asked)
	scope := url.Values{}
	if v.At == api.Now {
		scope.Set("scope", "now")
	}
	if v.Path != "" {
		scope.Set("path", v.Path)
	}
	v.DiffURL = strings.TrimSuffix(v.Base+"/diff?"+scope.Encode(), "?")
	if v.Kind == "folder" {
		v.RawURL = raw + "?archive=tar.gz" + strings.Replace(atQuery(asked), "?", "&", 1)
	}
	if t.Lease != nil {
		v.Links = []link{{"Now", here, v.At == api.Now}, {"Last commit", here + "?at=commit", v.At == api.AtCommit}}
	}
}

// source shows the content of a file as far as a page can.
func (v *filesView) source(content []byte) {
	if strings.HasPrefix(api.ContentType(v.Path), "image/") && v.Size <= imageShown {
		v.Image = v.RawURL
		return
	}
	if v.Binary = strings.IndexByte(string(content[:min(len(content), 8000)]), 0) >= 0; v.Binary {
		return
	}
	text := visible(string(content))
	language := ""
	if l := lexers.Match(path.Base(v.Path)); l != nil {
		language = l.Config().Name
	}
	v.Lines = sourceLines(highlight(language, text))
	if len(v.Lines) > filesLines {
		v.Cut = fmt.Sprintf("The first %d of %d lines.", filesLines, len(v.Lines))
		v.Lines = v.Lines[:filesLines]
	} else if int64(len(content)) < v.Size {
		v.Cut = "The first " + size(int64(len(content))) + " of " + size(v.Size) + "."
	}
}

func crumbs(base, name, query string) []link {
	out := []link{{Name: "root", URL: base + query}}
	if name == "" {
		return out
	}
	at := ""
	for _, part := range strings.Split(name, "/") {
		if at != "" {
			at += "/"
		}
		at += part
		out = append(out, link{Name: shownName(part), URL: base + "/" + escapePath(at) + query})
	}
	return out
}

func entries(base string, f api.FileView, query string) []entryView {
	var out []entryView
	for _, e := range f.Entries {
		p := e.Name
		if f.Path != "" {
			p = f.Path + "/" + e.Name
		}
		v := entryView{Name: shownName(e.Name), URL: base + "/" + escapePath(p) + query, Icon: "file", State: line(e.State, 20)}
		switch e.Kind {
		case "folder":
			v.Icon = "folder"
		case "link":
			v.Icon, v.Link = "link", "→ "+shownName(e.Link)
			if e.Leads == "" {
				v.Link += " (leads nowhere, or outside)"
			}
		case "file":
			v.Size = size(e.Size)
		default:
			v.Size = line(e.Kind, 20)
		}
		if e.State == "deleted" {
			v.Size, v.URL = "", strings.TrimSuffix(base, "/files")+"/diff?path="+url.QueryEscape(p)
			if f.At == api.Now {
				v.URL += "&scope=now"
			}
		}
		out = append(out, v)
	}
	return out
}

// shownName is a name on one line, with what hides in it.
func shownName(name string) string { return visible(api.ShowName(name)) }

func escapePath(p string) string { return api.EscapePath(p) }

// rawFile is a file's bytes, or a folder's archive.
func (s *Server) rawFile(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.Files == nil {
		return errNoPart
	}
	q := api.FileQuery{At: r.URL.Query().Get("at"), Path: strings.TrimSuffix(r.PathValue("path"), "/"), Length: -1}
	if r.URL.Query().Get("archive") != "" {
		return s.rawFolder(w, r, t, q)
	}
	f, err := s.Files.Look(r.Context(), t, q)
	if err != nil {
		return fmt.Errorf("reading file: %w", err)
	}
	if f.Body == nil {
		return fmt.Errorf("%w: this is a %s", chat.ErrInvalid, f.Kind)
	}
	q.At = f.At
	f.Body = s.watch(r, f.Body, Viewer)
	api.Serve(w, r, f, func(from int64) (io.ReadCloser, error) {
		q.From = from
		f, err := s.Files.Look(r.Context(), t, q)
		if err != nil || f.Body == nil {
			return nil, fmt.Errorf("reading file: %w", err)
		}
		return s.watch(r, f.Body, Viewer), nil
	})
	return nil
}

func (s *Server) rawFolder(w http.ResponseWriter, r *http.Request, t chat.Task, q api.FileQuery) error {
	name, in, err := s.Files.Archive(r.Context(), t, q.At, q.Path)
	if err != nil {
		return fmt.Errorf("reading folder: %w", err)
	}
	defer in.Close()
	api.Inert(w.Header(), name+".tar.gz")
	w.Header().Set("Content-Type", "application/gzip")
	return api.Send(w, s.watch(r, in, Viewer))
}

// watch ends a long stream when its person has lost the role for it.
func (s *Server) watch(r *http.Request, in io.ReadCloser, role Role) io.ReadCloser {
	still := func() bool {
		_, err := s.admit(r, theMesh, role)
		return err == nil
	}
	return struct {
		io.Reader
		io.Closer
	}{api.Watched(in, still), in}
}

// hereURL is where changes of what is shown are posted.
func (v filesView) hereURL() string {
	return strings.TrimSuffix(v.Base+"/files/"+escapePath(v.Path), "/")
}
