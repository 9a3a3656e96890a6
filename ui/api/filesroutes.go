package api

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

func (s *server) fileRoutes() []route {
	return []route{
		{"GET /api/v1/tasks/{task}/diff", reads, aTask, s.patch},
		{"GET /api/v1/tasks/{task}/files", reads, aTask, s.readFile},
		{"GET /api/v1/tasks/{task}/files/{path...}", reads, aTask, s.readFile},
		{"PUT /api/v1/tasks/{task}/files/{path...}", writes, aTask, s.writeFile},
		{"POST /api/v1/tasks/{task}/files/{path...}", writes, aTask, s.changeFile},
		{"DELETE /api/v1/tasks/{task}/files/{path...}", writes, aTask, s.removeFile},
	}
}

// file is a FileInfo as JSON, which knows no bytes that are not UTF-8: Path
// names the file as the URL does, and Name shows it.
type file struct {
	Name    string     `json:"name"`
	Path    string     `json:"path"`
	Kind    string     `json:"kind"`
	Size    int64      `json:"size"`
	Mode    string     `json:"mode,omitempty"`
	Changed *time.Time `json:"changed,omitempty"`
	Link    string     `json:"link,omitempty"`
	Leads   string     `json:"leads,omitempty"`
	State   string     `json:"state,omitempty"`
}

type folder struct {
	file
	At      string `json:"at"`
	As      string `json:"as"`
	Note    string `json:"note,omitempty"`
	Entries []file `json:"entries,omitempty"`
	Total   int    `json:"total"`
	More    bool   `json:"more,omitempty"`
}

func fileOf(i FileInfo, p string) file {
	f := file{
		Name: ShowName(i.Name), Path: EscapePath(p), Kind: i.Kind, Size: i.Size, Link: ShowName(i.Link), Leads: i.Leads, State: i.State,
	}
	if i.Mode != 0 {
		f.Mode = fmt.Sprintf("%04o", i.Mode)
	}
	if !i.Changed.IsZero() {
		f.Changed = &i.Changed
	}
	return f
}

func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}

// pathOf is the path of the request, without the slash that may end it.
func pathOf(r *request) string { return strings.TrimSuffix(r.PathValue("path"), "/") }

func atOf(r *request) (string, error) {
	switch at := r.URL.Query().Get("at"); at {
	case "", Now, AtCommit:
		return at, nil
	default:
		return "", fmt.Errorf("at is %s or %s, and not %.40q: %w", Now, AtCommit, at, chat.ErrInvalid)
	}
}

// readFile answers with a folder's list, a file's bytes, or a folder's archive.
func (s *server) readFile(w http.ResponseWriter, r *request) error {
	if s.c.Files == nil {
		return errNotHere
	}
	at, err := atOf(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	switch kind := query.Get("archive"); kind {
	case "":
	case "tar.gz":
		return s.archive(w, r, at)
	default:
		return fmt.Errorf("archives are tar.gz, and not %.40q: %w", kind, chat.ErrInvalid)
	}
	q := FileQuery{At: at, Path: pathOf(r), Length: -1}
	if query.Get("list") == "true" {
		q.Length = 0
	}
	if n := query.Get("limit"); n != "" {
		if q.Limit, err = strconv.Atoi(n); err != nil || q.Limit < 1 {
			return fmt.Errorf("limit is a number of entries: %w", chat.ErrInvalid)
		}
	}
	v, err := s.c.Files.Look(r.Context(), r.task, q)
	if err != nil {
		return err
	}
	if v.Body == nil {
		w.Header().Set("Samnode-Kind", v.Kind)
		return s.answerView(w, v)
	}
	defer v.Body.Close()
	w.Header().Set("Samnode-Kind", v.Kind)
	w.Header().Set("Samnode-At", v.At)
	w.Header().Set("Samnode-Mode", fmt.Sprintf("%04o", v.Mode))
	v.Body = s.watch(r, v.Body)
	Serve(w, r.Request, v, func(from int64) (io.ReadCloser, error) {
		again := q
		again.From, again.At = from, v.At
		next, err := s.c.Files.Look(r.Context(), r.task, again)
		if err != nil || next.Body == nil {
			return nil, fmt.Errorf("opening the file once more: %w", err)
		}
		return s.watch(r, next.Body), nil
	})
	return nil
}

func (s *server) answerView(w http.ResponseWriter, v FileView) error {
	f := folder{file: fileOf(v.FileInfo, v.Path), At: v.At, As: ShowName(v.As), Note: ShowName(v.Note), Total: v.Total, More: v.More}
	for _, e := range v.Entries {
		f.Entries = append(f.Entries, fileOf(e, join(v.Path, e.Name)))
	}
	return answer(w, http.StatusOK, f)
}

// watch ends a long answer when its reader may not read any more.
func (s *server) watch(r *request, in io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{Watched(in, func() bool { return s.stillReads(r, r.task) }), in}
}

func (s *server) archive(w http.ResponseWriter, r *request, at string) error {
	name, in, err := s.c.Files.Archive(r.Context(), r.task, at, pathOf(r))
	if err != nil {
		return err
	}
	defer in.Close()
	Inert(w.Header(), name+".tar.gz")
	w.Header().Set("Content-Type", "application/gzip")
	return Send(w, s.watch(r, in))
}

func (s *server) patch(w http.ResponseWriter, r *request) error {
	if s.c.Files == nil {
		return errNotHere
	}
	at, err := atOf(r)
	if err != nil {
		return err
	}
	in, err := s.c.Files.Patch(r.Context(), r.task, at, r.URL.Query().Get("path"))
	if err != nil {
		return err
	}
	defer in.Close()
	Inert(w.Header(), string(r.task.ID)+".patch")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return Send(w, s.watch(r, in))
}

// Send copies an answer of unknown length. One that breaks off in its middle
// breaks the connection, so that nobody takes it for whole.
func Send(w http.ResponseWriter, in io.Reader) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, in, make([]byte, 64<<10))
	if err != nil && n > 0 {
		panic(http.ErrAbortHandler)
	}
	return err
}

// writeFile puts the request's body at a path.
func (s *server) writeFile(w http.ResponseWriter, r *request) error {
	if s.c.FileKeeper == nil {
		return errNotHere
	}
	var mode uint64
	q := r.URL.Query()
	if m := q.Get("mode"); m != "" {
		var err error
		if mode, err = strconv.ParseUint(m, 8, 32); err != nil || mode == 0 || mode > 0o777 {
			return fmt.Errorf("mode is a number as chmod's, up to 777: %w", chat.ErrInvalid)
		}
	}
	if r.ContentLength > MaxUpload {
		return TooLarge()
	}
	from := Watched(http.MaxBytesReader(w, r.whole, MaxUpload), func() bool { return s.stillHas(r, r.task, writes) })
	i, err := s.c.FileKeeper.Write(r.Context(), r.by.Person, r.task, pathOf(r), from, q.Get("new") != "true", uint32(mode))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, fileOf(i, pathOf(r)))
}

// TooLarge refuses an upload with a sentence.
func TooLarge() error {
	return fmt.Errorf("a file may have up to %d GiB; larger ones go by ssh: %w", int64(MaxUpload)>>30, chat.ErrTooLarge)
}

func (s *server) changeFile(w http.ResponseWriter, r *request) error {
	q := r.URL.Query()
	c := FileChange{Do: q.Get("do"), Path: pathOf(r), To: q.Get("to")}
	if c.Do != "folder" && c.Do != "rename" {
		return fmt.Errorf("do is folder or rename, and not %.40q: %w", c.Do, chat.ErrInvalid)
	}
	return s.doChange(w, r, c)
}

func (s *server) removeFile(w http.ResponseWriter, r *request) error {
	return s.doChange(w, r, FileChange{Do: "remove", Path: pathOf(r), All: r.URL.Query().Get("all") == "true"})
}

func (s *server) doChange(w http.ResponseWriter, r *request, c FileChange) error {
	if s.c.FileKeeper == nil {
		return errNotHere
	}
	i, err := s.c.FileKeeper.Change(r.Context(), r.by.Person, r.task, c)
	if err != nil {
		return err
	}
	p := c.Path
	if c.To != "" {
		p = c.To
	}
	return answer(w, http.StatusOK, fileOf(i, p))
}
