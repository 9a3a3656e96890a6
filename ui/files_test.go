package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// fakeFiles look as the func says.
type fakeFiles func(q api.FileQuery) (api.FileView, error)

func (f fakeFiles) Look(_ context.Context, _ chat.Task, q api.FileQuery) (api.FileView, error) {
	v, err := f(q)
	v.Path = q.Path
	return v, err
}

func (f fakeFiles) Archive(_ context.Context, _ chat.Task, _, path string) (string, io.ReadCloser, error) {
	return "top", io.NopCloser(strings.NewReader("archive of " + path)), nil
}

func (f fakeFiles) Patch(context.Context, chat.Task, string, string) (io.ReadCloser, error) {
	return nil, errors.New("not asked for")
}

// textFile is a file with a text.
func textFile(q api.FileQuery, text string) api.FileView {
	name := q.Path[strings.LastIndexByte(q.Path, '/')+1:]
	v := api.FileView{FileInfo: api.FileInfo{Name: name, Kind: "file", Size: int64(len(text))}, At: api.Now, As: "as it is now"}
	v.Body = io.NopCloser(strings.NewReader(text[q.From:]))
	return v
}

// fakeKeeper remembers what it was told to change.
type fakeKeeper struct {
	did []string
	err error // of all from the second on
}

func (k *fakeKeeper) Write(_ context.Context, by chat.Person, _ chat.Task, path string, from io.Reader, replace bool, _ uint32) (api.FileInfo, error) {
	b, err := io.ReadAll(from)
	if err != nil {
		return api.FileInfo{}, err
	}
	return k.note("%s writes %s: %s %v", by, path, b, replace)
}

func (k *fakeKeeper) Change(_ context.Context, by chat.Person, _ chat.Task, c api.FileChange) (api.FileInfo, error) {
	return k.note("%s: %+v", by, c)
}

func (k *fakeKeeper) note(format string, a ...any) (api.FileInfo, error) {
	if k.err != nil && len(k.did) > 0 {
		return api.FileInfo{}, k.err
	}
	k.did = append(k.did, fmt.Sprintf(format, a...))
	return api.FileInfo{}, nil
}

// form is an upload as browsers send it: pairs of a field, or of a file's name,
// and its content.
func (s *site) form(t *testing.T, path string, parts ...string) *httptest.ResponseRecorder {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		var part io.Writer
		var err error
		if field, ok := strings.CutPrefix(parts[i], "field:"); ok {
			part, err = w.CreateFormField(field)
		} else {
			part, err = w.CreateFormFile("file", parts[i])
		}
		if err == nil {
			_, err = io.WriteString(part, parts[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, path, &b)
	r.Header.Set("Content-Type", w.FormDataContentType())
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec
}

func TestFilesAreChanged(t *testing.T) {
	keeper := &fakeKeeper{}
	role := Member
	s := newSite(t, func(c *Config) {
		c.Files = fakeFiles(func(q api.FileQuery) (api.FileView, error) {
			return api.FileView{FileInfo: api.FileInfo{Kind: "folder"}, At: api.Now}, nil
		})
		c.FileKeeper = keeper
		c.WhoIs = func(*http.Request) (chat.Person, Role, error) { return "ana@example.com", role, nil }
	})
	page := "/t/" + string(s.working(t, "Fix it").ID)
	big := strings.Repeat("x", 5*chat.MaxText) // more than other forms may have
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{[]string{"a.txt", "a", "b.txt", "b"}, "ana@example.com writes src/a.txt: a false;ana@example.com writes src/b.txt: b false"},
		{[]string{"field:replace", "on", "a.txt", "a"}, "ana@example.com writes src/a.txt: a true"},
		{[]string{"field:name", "no\nway", "x", "a"}, "ana@example.com writes src/no\nway: a false"},
		{[]string{"a%0Ab.txt", "a"}, "ana@example.com writes src/a\nb.txt: a false"},
		{[]string{"../../up.txt", "a"}, "ana@example.com writes src/up.txt: a false"},
		{[]string{"big", big}, "ana@example.com writes src/big: " + big + " false"},
	} {
		keeper.did = nil
		w := s.form(t, page+"/upload/src", c.parts...)
		if got := strings.Join(keeper.did, ";"); got != c.want || w.Code != http.StatusSeeOther || w.Header().Get("Location") != page+"/files/src" {
			t.Errorf("%.60q: %d to %s, did %.200q", c.parts, w.Code, w.Header().Get("Location"), got)
		}
	}
	for _, c := range []struct {
		at, do, name, want, to string
	}{
		{"/files", "folder", "new", "{Do:folder Path:new To: All:false}", "/files/new"},
		{"/files/src", "folder", "new", "{Do:folder Path:src/new To: All:false}", "/files/src/new"},
		{"/files/src/a.txt", "rename", "b.txt", "{Do:rename Path:src/a.txt To:src/b.txt All:false}", "/files/src/b.txt"},
		{"/files/src/a.txt", "rename", "/b.txt", "{Do:rename Path:src/a.txt To:b.txt All:false}", "/files/b.txt"},
		{"/files/src/a.txt", "remove", "", "{Do:remove Path:src/a.txt To: All:false}", "/files/src"},
		{"/files/src", "remove", "", "{Do:remove Path:src To: All:false}", "/files"},
	} {
		keeper.did = nil
		w := s.post(t, page+c.at, url.Values{"do": {c.do}, "name": {c.name}})
		if got := strings.Join(keeper.did, ";"); got != "ana@example.com: "+c.want || w.Header().Get("Location") != page+c.to {
			t.Errorf("%+v: to %s, did %s", c, w.Header().Get("Location"), got)
		}
	}
	keeper.did, keeper.err = nil, fmt.Errorf("“b.txt” is there already: %w", chat.ErrRefused)
	w := s.form(t, page+"/upload/", "a.txt", "a", "b.txt", "b")
	if body := w.Body.String(); w.Code != http.StatusConflict || !strings.Contains(body, "“b.txt” is there already") || !strings.Contains(body, "1 file: done") {
		t.Errorf("a conflict = %d %.400s", w.Code, body)
	}
	if w := s.form(t, page+"/upload/"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("nothing = %d", w.Code)
	}
	role = Viewer
	for _, path := range []string{"/upload/", "/files", "/files/a"} {
		if w := s.form(t, page+path, "a.txt", "a"); w.Code != http.StatusForbidden {
			t.Errorf("a viewer at %s = %d", path, w.Code)
		}
	}
	if body := s.get(t, page+"/files").Body.String(); strings.Contains(body, "upload") {
		t.Error("a viewer is shown the upload")
	}
}

func TestFilesShown(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.FileKeeper = &fakeKeeper{}
		c.Files = fakeFiles(func(q api.FileQuery) (api.FileView, error) {
			switch q.Path {
			case "":
				return api.FileView{FileInfo: api.FileInfo{Kind: "folder"}, At: api.AtCommit, As: "as of commit 1a2b3c", Note: "No machine runs this task now.", Total: 5000, Entries: []api.FileInfo{
					{Name: "new\nline", Kind: "file", State: "added"}, {Name: "\xff", Kind: "file"}, {Name: "gone", Kind: "file", State: "deleted"}, {Name: "..", Kind: "fifo"},
				}}, nil
			case "no":
				return api.FileView{}, fmt.Errorf("“no” leads out: %w", chat.ErrRefused)
			}
			return textFile(q, "\x89PNG\x00 <script>"), nil
		})
	})
	page := "/t/" + string(s.working(t, "Fix it").ID)
	shows := func(path string, want ...string) {
		t.Helper()
		body := s.get(t, page+path).Body.String()
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %q", path, w)
			}
		}
		if strings.Contains(body, `id="upload"`) {
			t.Errorf("%s of a commit takes uploads", path)
		}
	}
	shows("/files", "new\\nline", page+"/files/new%0Aline", page+"/files/%FF", page+"/diff?path=gone", page+"/files/%2E%2E", "No machine runs", "as of commit", "4 of 5", "fifo")
	shows("/files/no", "leads out")
	for path, kind := range map[string]string{"a.png": "image/png", "a.svg": "application/octet-stream", "a.html": "application/octet-stream", "%E2%80%AEgpj.exe": "application/octet-stream"} {
		w := s.get(t, page+"/raw/"+path)
		h := w.Header()
		if h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment;") {
			t.Errorf("%s has %v", path, h)
		}
		if strings.ContainsFunc(h.Get("Content-Disposition"), api.Hidden) {
			t.Errorf("%s has %q", path, h.Get("Content-Disposition"))
		}
	}
	if w := s.get(t, page+"/files/a.svg").Body.String(); strings.Contains(w, "<img src=\"/t/") {
		t.Error("an SVG is shown as an image")
	}
	r := httptest.NewRequest(http.MethodGet, page+"/raw/x.txt", nil)
	r.Header.Set("Range", "bytes=1-3")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusPartialContent || w.Body.String() != "PNG" {
		t.Errorf("a part = %d %q", w.Code, w.Body)
	}
	if w := s.get(t, page+"/raw/src?archive=tar.gz"); w.Body.String() != "archive of src" || w.Header().Get("Content-Disposition") != `attachment; filename="top.tar.gz"` {
		t.Errorf("a folder = %q %v", w.Body, w.Header())
	}
}
