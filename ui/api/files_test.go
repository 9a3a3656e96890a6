package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// space is a workspace's files, in memory.
type space map[string]string

func (s space) Look(_ context.Context, _ chat.Task, q FileQuery) (FileView, error) {
	v := FileView{Path: q.Path, At: Now, As: "as it is now", FileInfo: FileInfo{Name: q.Path, Kind: "folder"}, Total: len(s)}
	if q.Path == "" {
		for name, text := range s {
			v.Entries = append(v.Entries, FileInfo{Name: name, Kind: "file", Size: int64(len(text)), Mode: 0o644, State: "added"})
		}
		return v, nil
	}
	text, ok := s[q.Path]
	if !ok {
		return v, fmt.Errorf("there is no %q: %w", q.Path, chat.ErrNotFound)
	}
	v.Kind, v.Size = "file", int64(len(text))
	if q.Length != 0 {
		v.Body = io.NopCloser(strings.NewReader(text[q.From:]))
	}
	return v, nil
}

func (s space) Archive(context.Context, chat.Task, string, string) (string, io.ReadCloser, error) {
	return "app", io.NopCloser(io.MultiReader(strings.NewReader("half of it"), broken{})), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the machine is gone") }

func (s space) Patch(_ context.Context, _ chat.Task, at, path string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("patch of " + path + " " + at)), nil
}

func (s space) Write(_ context.Context, _ chat.Person, _ chat.Task, path string, from io.Reader, replace bool, mode uint32) (FileInfo, error) {
	if _, ok := s[path]; ok && !replace {
		return FileInfo{}, fmt.Errorf("%q is there already: %w", path, chat.ErrRefused)
	}
	b, err := io.ReadAll(from)
	s[path] = string(b)
	return FileInfo{Name: path, Kind: "file", Size: int64(len(b)), Mode: mode}, err
}

func (s space) Change(_ context.Context, _ chat.Person, _ chat.Task, c FileChange) (FileInfo, error) {
	switch c.Do {
	case "rename":
		s[c.To] = s[c.Path]
		fallthrough
	case "remove":
		delete(s, c.Path)
	case "folder":
		return FileInfo{Name: c.Path, Kind: "folder"}, nil
	}
	return FileInfo{Name: c.Path, Kind: "file"}, nil
}

func TestFileRoutes(t *testing.T) {
	files := space{"a.txt": "hello", "new\nline \xff": "odd"}
	f := newFixture(t, func(c *Config) { c.Files, c.FileKeeper = files, files })
	f.kit.Project(t, "web")
	task := get[task](t, f.want(201, "POST", "/api/v1/tasks", `{"project":"web","text":"x","draft":true}`))
	base := "/api/v1/tasks/" + string(task.ID)

	list := get[folder](t, f.want(200, "GET", base+"/files", ""))
	if list.Total != 2 || len(list.Entries) != 2 {
		t.Errorf("the list is %+v", list)
	}
	for _, e := range list.Entries {
		if f.want(200, "GET", base+"/files/"+e.Path, ""); e.Name != "a.txt" && e.Name != `new\nline \xff` {
			t.Errorf("an entry is %+v", e)
		}
	}
	if got := get[folder](t, f.want(200, "GET", base+"/files/a.txt?list=true", "")); got.Kind != "file" || got.Size != 5 {
		t.Errorf("a file's line is %+v", got)
	}
	big := strings.Repeat("x", maxRequest+1) // more than other requests may have
	f.want(200, "PUT", base+"/files/big?mode=755", big)
	if files["big"] != big {
		t.Errorf("wrote %d bytes", len(files["big"]))
	}
	f.want(409, "PUT", base+"/files/big?new=true", "x")
	f.want(400, "PUT", base+"/files/big?mode=999", "x")
	f.want(200, "POST", base+"/files/big?do=rename&to=b%2Fc", "")
	if files["b/c"] != big {
		t.Error("it is not renamed")
	}
	f.want(200, "POST", base+"/files/d?do=folder", "")
	f.want(400, "POST", base+"/files/d?do=dance", "")
	f.want(200, "DELETE", base+"/files/a.txt", "")
	f.want(404, "GET", base+"/files/a.txt", "")
	f.want(400, "GET", base+"/files?at=tomorrow", "")
	f.want(400, "GET", base+"/files?archive=rar", "")
	f.want(400, "GET", base+"/files?limit=0", "")
	if got := f.want(200, "GET", base+"/diff?path=x&at=now", ""); got != "patch of x now" {
		t.Errorf("diff = %q", got)
	}
	f.role = "viewer"
	f.want(200, "GET", base+"/files", "")
	for _, method := range []string{"PUT", "DELETE", "POST"} {
		f.want(403, method, base+"/files/x?do=folder", "")
	}
	if resp, err := http.Get(f.server.URL + base + "/files?archive=tar.gz"); err == nil { // it may break off before it begins
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("half of an archive reads as a whole: %q", b)
		}
	}
}

func TestParts(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Files = space{"a": "0123456789"} })
	f.kit.Project(t, "web")
	task := get[task](t, f.want(201, "POST", "/api/v1/tasks", `{"project":"web","text":"x","draft":true}`))
	for spec, want := range map[string]string{"bytes=2-4": "206 234", "bytes=7-": "206 789", "bytes=-2": "206 89", "bytes=0-0,5-5": "200 0123456789", "bytes=99-": "416 "} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.server.URL+"/api/v1/tasks/"+string(task.ID)+"/files/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", spec)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if got := fmt.Sprint(resp.StatusCode, " ", string(b)); err != nil || got != want && !strings.HasPrefix(want, "416") || resp.StatusCode == 416 != strings.HasPrefix(want, "416") {
			t.Errorf("%s = %s, %v", spec, got, err)
		}
	}
}

func TestNamesInHeadersAndURLs(t *testing.T) {
	for name, want := range map[string]string{
		"a.txt":             `attachment; filename="a.txt"`,
		"a\"b\\c%d\r\nX: y": `attachment; filename="a_b_c_d__X: y"; filename*=UTF-8''a%22b_c%25d__X%3A%20y`,
		"日本.txt":            `attachment; filename="__.txt"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt`,
		"\u202etxt.exe\xff": `attachment; filename="_txt.exe_"`,
	} {
		if got := Attachment(name); got != want {
			t.Errorf("%q = %s, want %s", name, got, want)
		}
	}
	for p, want := range map[string]string{"a b/c": "a%20b/c", "../x/.": "%2E%2E/x/%2E", "/etc//x": "%2Fetc/x", "\xff\n?#": "%FF%0A%3F%23"} {
		if got := EscapePath(p); got != want {
			t.Errorf("%q = %s, want %s", p, got, want)
		}
	}
}
