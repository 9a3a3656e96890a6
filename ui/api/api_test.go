package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// fixture is the API over a Room that works, with every answer held against
// openapi.json.
type fixture struct {
	t      *testing.T
	kit    *chattest.Kit
	server *httptest.Server
	router routers.Router
	role   string // of the caller: owner, member, viewer, nobody
}

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, kit: chattest.NewKit(), router: router, role: "owner"}
	n := 0
	c := Config{
		Room: f.kit.Room, Node: "node-1", Version: "test",
		NewID: func() string { n++; return fmt.Sprintf("01JC0000000000000000000%03d", n) },
		Who: func(*http.Request) (Caller, error) {
			if f.role == "nobody" {
				return Caller{}, errors.New("who are you?")
			}
			return Caller{Person: "ana@example.com", Role: f.role}, nil
		},
		SetSecret: func(ctx context.Context, by chat.Author, p chat.ProjectID, name, value string) error {
			op := chat.Op{SecretPut: &chat.SecretPut{Secret: chat.Secret{Scope: p, Name: name, Sealed: []byte("sealed:" + value)}}}
			_, err := f.kit.Do(ctx, by, "", op)
			return err
		},
		Why: func(chat.TaskID) string { return "Next in line: all 2 slots are in use" },
	}
	for _, with := range change {
		with(&c)
	}
	f.server = httptest.NewServer(New(c))
	t.Cleanup(f.server.Close)
	return f
}

// call sends a request and returns the status and the body, which matches the
// description.
func (f *fixture) call(method, path, body string) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	f.describes(req, resp, data)
	return resp.StatusCode, string(data)
}

func (f *fixture) describes(req *http.Request, resp *http.Response, body []byte) {
	f.t.Helper()
	clone := req.Clone(f.t.Context())
	clone.URL.Host, clone.URL.Scheme, clone.Host = "", "", ""
	route, params, err := f.router.FindRoute(clone)
	if err != nil {
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
			return
		}
		f.t.Errorf("%s %s is not described: %v", req.Method, req.URL.Path, err)
		return
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: clone, PathParams: params, Route: route},
		Status:                 resp.StatusCode, Header: resp.Header,
	}
	in.SetBodyBytes(body)
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		in.Options = &openapi3filter.Options{ExcludeResponseBody: true} // its reader knows JSON only
	}
	if err := openapi3filter.ValidateResponse(f.t.Context(), in); err != nil {
		f.t.Errorf("answer of %s %s differs from its description: %v", req.Method, req.URL.Path, err)
	}
}

func (f *fixture) want(status int, method, path, body string) string {
	f.t.Helper()
	got, text := f.call(method, path, body)
	if got != status {
		f.t.Fatalf("%s %s = %d %s, want %d", method, path, got, text, status)
	}
	return text
}

func get[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestEveryRouteIsDescribed(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]bool{}
	for _, rt := range (&server{}).routes() {
		routes[strings.ReplaceAll(rt.pattern, "...}", "}")] = true
	}
	described := map[string]bool{"/api/": true}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	for r := range routes {
		if !described[r] {
			t.Errorf("%s is not in openapi.json", r)
		}
	}
	for d := range described {
		if !routes[d] {
			t.Errorf("%s is described but not served", d)
		}
	}
}

func TestTaskFromTheFirstWordToTheExport(t *testing.T) {
	f := newFixture(t)
	f.want(201, "POST", "/api/v1/projects", `{"name":"web","repo":"/srv/web.git","agent":"script"}`)
	f.want(200, "GET", "/api/v1/projects", "")
	f.want(200, "PATCH", "/api/v1/projects/web", `{"mode":"everything"}`)

	body := `{"id":"01JC1AAAAAAAAAAAAAAAAAAAAA","project":"web","text":"Add rate limiting"}`
	first := f.want(201, "POST", "/api/v1/tasks", body)
	if again := f.want(201, "POST", "/api/v1/tasks", body); again != first {
		t.Errorf("the same task sent twice:\n%s\n%s", first, again)
	}
	task := get[task](t, first)
	if task.State != chat.Queued || task.Mode != chat.ModeEverything || task.Why == "" || task.PullRequest != nil {
		t.Errorf("new task = %+v", task)
	}
	path := "/api/v1/tasks/" + string(task.ID)
	f.kit.Work(t, task.ID)

	say := `{"id":"m-2","text":"and test it"}`
	answer := f.want(200, "POST", path+"/messages", say)
	if m := get[said](t, answer); m.Task != task.ID || m.Message != "m-2" || m.Index == 0 {
		t.Errorf("the answer to a message = %s", answer)
	}
	if again := f.want(200, "POST", path+"/messages", say); again != answer {
		t.Errorf("the same message twice:\n%s\n%s", answer, again)
	}
	after := get[map[string]any](t, f.want(200, "GET", path, ""))
	if q := after["queue"].([]any); len(q) != 1 {
		t.Errorf("queue after the same message twice = %v", q)
	}
	f.want(200, "PATCH", path+"/queue/m-2", `{"text":"and test it well"}`)
	f.want(200, "DELETE", path+"/queue/m-2", "")
	f.want(200, "PATCH", path, `{"title":"Rate limits","mode":"ask"}`)

	f.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAsk, Ask: &chat.Ask{
		ID: "a1", Kind: chat.AskPermission, Title: "Run npm test?", Options: []chat.AskOption{{ID: "yes", Name: "Allow", Kind: "allow_once"}},
	}})
	f.want(200, "POST", path+"/asks/a1", `{"option":"yes"}`)
	if text := f.want(409, "POST", path+"/asks/a1", `{"option":"yes"}`); !strings.Contains(text, "Ana answered") {
		t.Errorf("second answer: %s; want who was first", text)
	}
	f.want(200, "POST", path+"/stop", "")
	f.kit.Finish(t, task.ID)
	f.want(200, "POST", path+"/retry", "")
	f.want(200, "GET", path, "")
	f.want(200, "GET", "/api/v1/tasks?project=web&q=rate", "")
	if text := f.want(200, "GET", path+"/export?format=md", ""); !strings.Contains(text, "Add rate limiting") {
		t.Errorf("export = %s", text)
	}
	f.want(200, "GET", path+"/export?format=json", "")
	f.want(400, "GET", path+"/export?format=pdf", "")
}

func TestItemsByCursor(t *testing.T) {
	f := newFixture(t)
	p := f.kit.Project(t, "web")
	task := f.kit.NewTask(t, p.ID, "hello")
	f.kit.Work(t, task.ID)
	for i := range 5 {
		f.kit.Emit(t, task.ID, chat.Item{ID: fmt.Sprint("x", i), Kind: chat.KindAgent, Text: "word", Closed: true})
	}
	type page struct {
		Items []chat.Message
		Index uint64
		More  bool
	}
	path := "/api/v1/tasks/" + string(task.ID)
	var seen []string
	var after uint64
	for more := true; more; {
		p := get[page](t, f.want(200, "GET", fmt.Sprintf("%s/items?after=%d&limit=2", path, after), ""))
		for _, m := range p.Items {
			seen = append(seen, m.ID)
		}
		more, after = p.More, p.Index
	}
	if got := strings.Join(seen[1:], " "); got != "x0 x1 x2 x3 x4" {
		t.Errorf("items by cursor = %v", seen)
	}
	if p := get[page](t, f.want(200, "GET", fmt.Sprintf("%s/items?after=%d", path, after), "")); len(p.Items) != 0 || p.Index != after {
		t.Errorf("items at the end = %+v", p)
	}
	for _, bad := range []string{"after=x", "after=-1", "limit=0", "limit=x", "limit=100000"} {
		f.want(400, "GET", path+"/items?"+bad, "")
	}
}

func TestStreamResumes(t *testing.T) {
	f := newFixture(t)
	task := f.kit.NewTask(t, f.kit.Project(t, "web").ID, "hello")
	f.kit.Work(t, task.ID)
	id, ids := f.readEvent(task.ID, "", "")
	if len(ids) != 1 {
		t.Fatalf("first event has %v", ids)
	}
	f.kit.Emit(t, task.ID, chat.Item{ID: "x", Kind: chat.KindAgent, Text: "now"})
	if _, ids = f.readEvent(task.ID, id, ""); len(ids) != 1 || ids[0] != "x" {
		t.Errorf("event after Last-Event-ID %s has %v, want x alone", id, ids)
	}
	if _, ids = f.readEvent(task.ID, "", id); len(ids) != 1 || ids[0] != "x" {
		t.Errorf("event after=%s has %v, want x alone", id, ids)
	}
}

// readEvent returns the first event's id and its items' ids.
func (f *fixture) readEvent(task chat.TaskID, last, after string) (string, []string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), "GET", f.server.URL+"/api/v1/tasks/"+string(task)+"/stream?after="+after, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	var id string
	for in.Scan() {
		if v, ok := strings.CutPrefix(in.Text(), "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(in.Text(), "data: "); ok {
			e := get[struct{ Items []chat.Message }](f.t, v)
			var ids []string
			for _, m := range e.Items {
				ids = append(ids, m.ID)
			}
			return id, ids
		}
	}
	f.t.Fatalf("no event: %v", in.Err())
	return "", nil
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	f.kit.Project(t, "web")
	task := f.kit.NewTask(t, "web", "hello")
	path := "/api/v1/tasks/" + string(task.ID)
	for _, c := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"unknown path", "GET", "/api/v1/nothing", "", 404},
		{"unknown task", "GET", "/api/v1/tasks/01JZZZZZZZZZZZZZZZZZZZZZZZ", "", 404},
		{"unknown project", "POST", "/api/v1/tasks", `{"project":"nope","text":"x"}`, 404},
		{"empty text", "POST", "/api/v1/tasks", `{"project":"web","text":" "}`, 400},
		{"no repository", "POST", "/api/v1/projects", `{"name":"x"}`, 400},
		{"bad name", "POST", "/api/v1/projects", `{"name":"<b>","repo":"/x"}`, 400},
		{"name taken", "POST", "/api/v1/projects", `{"name":"web","repo":"/x"}`, 409},
		{"broken JSON", "POST", path + "/messages", `{"text":`, 400},
		{"unknown field", "POST", path + "/messages", `{"text":"x","colour":"red"}`, 400},
		{"not UTF-8", "POST", path + "/messages", "{\"text\":\"\xff\"}", 400},
		{"10 MiB", "POST", path + "/messages", `{"text":"` + strings.Repeat("a", 10<<20) + `"}`, 413},
		{"over MaxText", "POST", path + "/messages", `{"text":"` + strings.Repeat("a", chat.MaxText+1) + `"}`, 413},
		{"no such ask", "POST", path + "/asks/x", `{"option":"y"}`, 404},
		{"release without a workspace", "POST", path + "/release", "", 409},
		{"merge is not offered", "POST", path + "/merge", `{}`, 501},
		{"secret without a value", "PUT", "/api/v1/secrets/X", `{}`, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := *f
			f.t = t
			text := f.want(c.want, c.method, c.path, c.body)
			if e := get[map[string]string](t, text); e["error"] == "" || strings.Contains(e["error"], "goroutine") {
				t.Errorf("no sentence in %s", text)
			}
		})
	}
}

func TestRoles(t *testing.T) {
	f := newFixture(t)
	f.kit.Project(t, "web")
	for _, c := range []struct {
		role, method, path, body string
		want                     int
	}{
		{"nobody", "GET", "/api/v1/tasks", "", 403},
		{"viewer", "GET", "/api/v1/tasks", "", 200},
		{"viewer", "POST", "/api/v1/tasks", `{"project":"web","text":"x"}`, 403},
		{"member", "POST", "/api/v1/tasks", `{"project":"web","text":"x"}`, 201},
		{"member", "PUT", "/api/v1/secrets/KEY", `{"value":"v"}`, 403},
		{"member", "GET", "/api/v1/secrets", "", 403},
		{"owner", "PUT", "/api/v1/secrets/KEY", `{"value":"v"}`, 204},
	} {
		f.role = c.role
		f.want(c.want, c.method, c.path, c.body)
	}
	list := f.want(200, "GET", "/api/v1/secrets", "")
	if !strings.Contains(list, "KEY") || strings.Contains(list, "sealed") {
		t.Errorf("secrets = %s; want the name without the value", list)
	}
	f.want(204, "DELETE", "/api/v1/secrets/KEY", "")
	f.want(404, "DELETE", "/api/v1/secrets/KEY", "")
	f.want(200, "GET", "/api/v1/version", "")
	f.want(200, "GET", "/api/v1/agents", "")
	if !bytes.Contains(description, []byte("/api/v1/tasks")) {
		t.Error("no description")
	}
	f.want(200, "GET", "/api/v1/openapi.json", "")
}
