package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/ui/api"
)

// site is a server over a conversation in memory, and who calls it.
type site struct {
	*Server
	kit  *chattest.Kit
	role Role
	log  bytes.Buffer
}

func newSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	s := &site{kit: chattest.NewKit(), role: Owner}
	cfg := Config{
		Room: s.kit.Room, Node: "core-1", Version: "test", Dev: true, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
		WhoIs: func(*http.Request) (chat.Person, Role, error) {
			if s.role == "" {
				return "", "", errors.New("not on the tailnet")
			}
			return chattest.Ana.Person, s.role, nil
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	s.Server = server
	return s
}

func (s *site) get(t testing.TB, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
	return w
}

func (s *site) post(t testing.TB, path string, form url.Values, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// working is a task whose agent is at work.
func (s *site) working(t testing.TB, text string) chat.Task {
	t.Helper()
	if _, err := s.kit.Room.Project("web"); err != nil {
		s.kit.Project(t, "web")
	}
	task := s.kit.NewTask(t, "web", text)
	return s.kit.Work(t, task.ID)
}

func permission(id string) chat.Item {
	return chat.Item{ID: id, Kind: chat.KindAsk, Ask: &chat.Ask{
		ID: id, Kind: chat.AskPermission, Title: "Wants to run a command", Detail: "npm test",
		Options: []chat.AskOption{{ID: "y", Name: "Approve", Kind: "allow_once"}, {ID: "n", Name: "Reject", Kind: "reject_once"}},
	}}
}

func TestNewRefusesAConfigThatCannotServe(t *testing.T) {
	if _, err := New(Config{WhoIs: func(*http.Request) (chat.Person, Role, error) { return "", "", nil }}); err == nil {
		t.Error("New without a room: no error")
	}
	if _, err := New(Config{Room: chattest.NewKit().Room}); err == nil {
		t.Error("New without WhoIs: no error")
	}
}

func TestPagesAnswer(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix login redirect")
	s.kit.Emit(t, task.ID, permission("ask-1"))
	id := string(task.ID)
	for path, want := range map[string]string{
		"/":                       "Fix login redirect",
		"/?f=s:needs":             "Fix login redirect",
		"/?f=nothing-like-this":   "No task matches",
		"/start":                  "First task",
		"/settings":               "Secrets of the mesh",
		"/projects":               "/srv/web.git",
		"/projects/new":           "Add project",
		"/p/web":                  "What should be done in web?",
		"/p/web/settings":         "Remove project",
		"/t/" + id:                "Wants to run a command",
		"/t/" + id + "/diff":      "cannot read the branch",
		"/t/" + id + "/files":     "cannot read the branch",
		"/t/" + id + "/terminal":  "no terminals",
		"/t/" + id + "/ports":     "cannot list ports",
		"/t/" + id + "/log":       "Newest items",
		"/t/" + id + "?before=1":  "Fix login redirect",
		"/t/" + id + "?before=no": "Fix login redirect",
		"/gallery":                "delivery unknown",
	} {
		w := s.get(t, path)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s = %d, want 200 with %q", path, w.Code, want)
		}
		if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, "script-src 'self'") || strings.Contains(got, "script-src 'self' 'unsafe") {
			t.Errorf("GET %s: policy = %q", path, got)
		}
	}
	if s.log.Len() > 0 {
		t.Errorf("log = %s", s.log.String())
	}
}

func TestFirstRunSaysWhatToDo(t *testing.T) {
	s := newSite(t)
	if body := s.get(t, "/").Body.String(); !strings.Contains(body, "No project yet.") || !strings.Contains(body, "/projects/new") {
		t.Errorf("first page = %s", body)
	}
	s.kit.Project(t, "web")
	if body := s.get(t, "/").Body.String(); !strings.Contains(body, "Nothing here yet. Ask for something.") {
		t.Errorf("page without tasks = %s", body)
	}
	example := s.get(t, exampleURL("/p/web", exampleTasks[1])).Body.String()
	if !strings.Contains(example, ">"+exampleTasks[1]+"</textarea>") || strings.Contains(example, "came from a link") {
		t.Error("an example does not fill the box")
	}
}

func TestALinkFillsTheBoxAndWarns(t *testing.T) {
	s := newSite(t)
	s.kit.Project(t, "web")
	body := s.get(t, "/p/web?prompt=rm+-rf&mode=everything").Body.String()
	if !strings.Contains(body, "This text came from a link. Read it before you send it.") || !strings.Contains(body, ">rm -rf</textarea>") {
		t.Error("the link's text is not in the box with its notice")
	}
	if strings.Contains(body, `value="everything" selected`) {
		t.Error("a link changed the mode")
	}
	if n := len(s.kit.Tasks(chat.Filter{})); n != 0 {
		t.Errorf("a link made %d tasks", n)
	}
}

func TestErrorsHaveOneStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{errNoPage, 404, ""},
		{fmt.Errorf("reading: %w", chat.ErrNotFound), 404, ""},
		{fmt.Errorf("%w: Ben answered at 14:03", chat.ErrRefused), 409, "Ben answered at 14:03"},
		{fmt.Errorf("saying: %w", fmt.Errorf("%w: a: b", chat.ErrInvalid)), 422, "a: b"},
		{chat.ErrStale, 409, ""},
		{chat.ErrTooLarge, 413, ""},
		{&http.MaxBytesError{Limit: 1}, 413, ""},
		{&refusal{Owner}, 403, "this is for a owner"},
		{errNoPart, 501, ""},
		{errors.New("secret detail"), 500, "It was written to the node's log."},
		{context.DeadlineExceeded, 504, ""},
	} {
		p := explain(c.err)
		if p.Status != c.status || c.text != "" && !strings.Contains(p.Text, c.text) {
			t.Errorf("explain(%v) = %+v, want %d %q", c.err, p, c.status, c.text)
		}
		if strings.Contains(p.Text, "secret detail") {
			t.Errorf("explain(%v) shows internals: %q", c.err, p.Text)
		}
	}
}

func TestUnknownThingsAre404(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/nope", "/p/nope", "/p/nope/settings", "/t/nope", "/t/nope/diff", "/t/nope/events", "/t/nope/log", "/t/nope/export?format=md", "/static/nope.js"} {
		if w := s.get(t, path); w.Code != 404 {
			t.Errorf("GET %s = %d, want 404", path, w.Code)
		}
	}
	for _, path := range []string{"/t/nope/say", "/t/nope/stop", "/t/nope/answer", "/p/nope/tasks", "/t/nope/merge"} {
		if w := s.post(t, path, url.Values{"text": {"x"}}); w.Code != 404 {
			t.Errorf("POST %s = %d, want 404", path, w.Code)
		}
	}
}

func TestRolesDecide(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	paths := map[string]Role{
		"/projects/new": Member, "/p/web/tasks": Member, "/t/" + string(task.ID) + "/say": Member, "/t/" + string(task.ID) + "/stop": Member,
		"/t/" + string(task.ID) + "/answer": Member, "/p/web/settings": Owner, "/p/web/secrets": Owner, "/settings/secrets": Owner, "/p/web/remove": Owner,
	}
	for _, role := range []Role{"", Viewer, Member} {
		s.role = role
		for path, need := range paths {
			w := s.post(t, path, url.Values{})
			if want := !(caller{Role: role}).may(need); want != (w.Code == 403) {
				t.Errorf("POST %s as %q = %d, refused should be %v", path, role, w.Code, want)
			}
		}
	}
	s.role = Viewer
	body := s.get(t, "/t/"+string(task.ID)).Body.String()
	if strings.Contains(body, `id="composer"`) || !strings.Contains(body, "Only members can write and answer") {
		t.Error("a viewer sees a composer")
	}
	if body := s.get(t, "/settings").Body.String(); !strings.Contains(body, "Only owners see secrets") {
		t.Error("a viewer sees secrets")
	}
	s.role = ""
	if w := s.get(t, "/"); w.Code != 403 || strings.Contains(w.Body.String(), "not on the tailnet") {
		t.Errorf("an unknown caller got %d", w.Code)
	}
}

func TestOtherOriginsChangeNothing(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	w := s.post(t, "/t/"+string(task.ID)+"/stop", url.Values{}, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	if w.Code != 403 || s.kit.Get(t, task.ID).Stopping {
		t.Errorf("a form of another origin = %d", w.Code)
	}
}

var hiddenID = regexp.MustCompile(`name="id" value="([0-9A-Z]{26})"`)

// formID reads the id of a form on a page, as a browser without scripts would.
func idIn(t *testing.T, body, action string) string {
	t.Helper()
	_, after, ok := strings.Cut(body, `action="`+action+`"`)
	if !ok {
		t.Fatalf("no form for %s", action)
	}
	m := hiddenID.FindStringSubmatch(after)
	if m == nil {
		t.Fatalf("form %s has no id", action)
	}
	return m[1]
}

func TestATaskLivesWithoutScripts(t *testing.T) {
	s := newSite(t)
	s.kit.Project(t, "web")
	form := url.Values{"id": {idIn(t, s.get(t, "/p/web").Body.String(), "/p/web/tasks")}, "text": {"Fix the login\r\nplease"}, "agent": {"script"}, "mode": {"ask"}}
	first, second := s.post(t, "/p/web/tasks", form), s.post(t, "/p/web/tasks", form)
	if first.Code != 303 || first.Header().Get("Location") != second.Header().Get("Location") || len(s.kit.Tasks(chat.Filter{})) != 1 {
		t.Fatalf("the same form twice: %d %s, %d tasks", first.Code, first.Body, len(s.kit.Tasks(chat.Filter{})))
	}
	page := first.Header().Get("Location")
	task := s.kit.Work(t, s.kit.Tasks(chat.Filter{})[0].ID)

	s.kit.Emit(t, task.ID, permission("ask-1"))
	body := s.get(t, page).Body.String()
	answer := url.Values{"id": {idIn(t, body, page+"/answer")}, "ask": {"ask-1"}, "option": {"y"}}
	for range 2 {
		if w := s.post(t, page+"/answer", answer); w.Code != 303 {
			t.Fatalf("answering = %d %s", w.Code, w.Body)
		}
	}
	if body := s.get(t, page).Body.String(); !strings.Contains(body, "Approve, by ana,") {
		t.Error("the answer does not show")
	}

	say := url.Values{"id": {idIn(t, body, page+"/say")}, "text": {"And the changelog"}}
	for range 2 {
		if w := s.post(t, page+"/say", say); w.Code != 303 {
			t.Fatalf("saying = %d %s", w.Code, w.Body)
		}
	}
	if got := s.kit.Get(t, task.ID).Queue; len(got) != 1 || got[0].Text != "And the changelog" {
		t.Fatalf("queue = %+v", got)
	}
	say.Set("text", "Something else from an old page")
	s.post(t, page+"/say", say)
	if got := s.kit.Get(t, task.ID).Queue; len(got) != 2 {
		t.Fatalf("a new text under an old form id: queue = %+v", got)
	}

	body = s.get(t, page).Body.String()
	edit := url.Values{"id": {idIn(t, body, page+"/queue")}, "message": {s.kit.Get(t, task.ID).Queue[0].ID}, "text": {"Only the changelog"}}
	s.post(t, page+"/queue", edit)
	s.post(t, page+"/queue", edit)
	if got := s.kit.Get(t, task.ID).Queue[0].Text; got != "Only the changelog" {
		t.Errorf("edited = %q", got)
	}
	edit.Set("drop", "1")
	s.post(t, page+"/queue", edit)
	if got := s.kit.Get(t, task.ID).Queue; len(got) != 1 {
		t.Errorf("after removal: queue = %+v", got)
	}

	stop := url.Values{"id": {idIn(t, body, page+"/stop")}}
	s.post(t, page+"/stop", stop)
	s.post(t, page+"/stop", stop) // the same press again is not the second press
	if got := s.kit.Get(t, task.ID); !got.Stopping || got.State == chat.Stopped {
		t.Errorf("after one stop, twice sent: %s, stopping %v", got.State, got.Stopping)
	}
	body = s.get(t, page).Body.String()
	s.post(t, page+"/stop", url.Values{"id": {idIn(t, body, page+"/stop")}, "force": {"1"}})
	if got := s.kit.Get(t, task.ID).State; got != chat.Stopped {
		t.Errorf("after force stop: %s", got)
	}
	body = s.get(t, page).Body.String()
	s.post(t, page+"/retry", url.Values{"id": {idIn(t, body, page+"/retry")}})
	if got := s.kit.Get(t, task.ID).State; got != chat.Queued {
		t.Errorf("after retry: %s", got)
	}
	s.post(t, page+"/edit", url.Values{"id": {newID()}, "title": {"A better title"}, "mode": {"plan"}})
	s.post(t, page+"/edit", url.Values{"id": {newID()}, "archived": {"true"}})
	if got := s.kit.Get(t, task.ID); got.Title != "A better title" || got.Mode != chat.ModePlan || !got.Archived {
		t.Errorf("after edits: %q %s %v", got.Title, got.Mode, got.Archived)
	}
}

func TestARefusedFormKeepsWhatWasTyped(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.CheckRepo = func(context.Context, string) error {
			return fmt.Errorf("%w: the repository did not answer", chat.ErrInvalid)
		}
	})
	task := s.working(t, "Fix it")
	page := "/t/" + string(task.ID)
	s.kit.Emit(t, task.ID, permission("ask-1"))
	s.post(t, page+"/answer", url.Values{"id": {newID()}, "ask": {"ask-1"}, "option": {"y"}})
	for name, c := range map[string]struct {
		path   string
		form   url.Values
		status int
		want   []string
	}{
		"an answer that came second": {page + "/answer", url.Values{"id": {newID()}, "ask": {"ask-1"}, "option": {"n"}, "text": {"use vitest"}}, 409, []string{"ana", "use vitest"}},
		"a text that is too long":    {page + "/say", url.Values{"text": {strings.Repeat("x", chat.MaxText+1)}}, 413, []string{strings.Repeat("x", 5000)}},
		"an empty text":              {page + "/say", url.Values{"text": {" "}}, 422, []string{"Nothing was written"}},
		"a mode that does not exist": {page + "/edit", url.Values{"mode": {"god"}}, 422, []string{"there is no mode"}},
		"a repository that is not": {"/projects/new", url.Values{"name": {"new-one"}, "repo": {"https://nope.example/x"}, "mode": {"ask"}, "publish": {"draft"}, "egress": {"open"}, "budget": {"2.5"}, "allow": {"a.example"}}, 422,
			[]string{"did not answer", "https://nope.example/x", `value="2.5"`, "a.example", `value="new-one"`}},
		"a name that is taken":  {"/p/web/tasks", url.Values{"text": {""}, "base": {"develop"}}, 422, []string{"Nothing was written", `value="develop"`}},
		"a merge without forge": {page + "/merge", url.Values{"method": {"squash"}}, 501, []string{"Not available here"}},
	} {
		w := s.post(t, c.path, c.form)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", name, w.Code, c.status)
		}
		for _, want := range c.want {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: the page lacks %.60q", name, want)
			}
		}
	}
	w := s.post(t, page+"/answer", url.Values{"id": {newID()}, "ask": {"ask-1"}, "option": {"n"}}, "X-Samnode", "1")
	if w.Code != 409 || strings.Contains(w.Body.String(), "<html") {
		t.Errorf("the script got %d %.80s", w.Code, w.Body)
	}
}

func TestAFaultOfTheNodeKeepsWhatWasTyped(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	s.kit.Log.Fail = func() error { return errors.New("no leader at 10.0.0.7") }
	for path, form := range map[string]url.Values{
		"/t/" + string(task.ID) + "/say": {"text": {"a long thought"}},
		"/p/web/tasks":                   {"text": {"a long thought"}},
		"/projects/new":                  {"repo": {"https://a.example/a-long-thought"}, "name": {"x"}, "mode": {"ask"}, "publish": {"draft"}, "egress": {"none"}, "allow": {"a long thought"}},
	} {
		w := s.post(t, path, form)
		if body := w.Body.String(); w.Code != 500 || !strings.Contains(body, "a long thought") || strings.Contains(body, "10.0.0.7") {
			t.Errorf("POST %s = %d, or the text is gone, or internals show", path, w.Code)
		}
	}
	if !strings.Contains(s.log.String(), "no leader at 10.0.0.7") {
		t.Error("the fault is not in the log")
	}
}

func TestProjectsAreMadeOnceAndChanged(t *testing.T) {
	s := newSite(t)
	form := url.Values{"id": {newID()}, "repo": {"https://github.com/acme/My_App.git"}, "agent": {"script"}, "mode": {"ask"}, "publish": {"draft"}, "egress": {"listed"}, "allow": {"a.example, *.b.example"}, "budget": {"1.5"},
		"cpus": {"4"}, "memory": {"8"}, "labels": {"gpu, fast"}, "location": {"fsn1"}}
	for range 2 {
		if w := s.post(t, "/projects/new", form); w.Code != 303 || w.Header().Get("Location") != "/p/my-app" {
			t.Fatalf("making = %d %s %s", w.Code, w.Header().Get("Location"), w.Body)
		}
	}
	p, err := s.kit.Room.Project("my-app")
	if err != nil || p.Budget != 1_500_000 || len(p.Allow) != 2 || len(s.kit.Projects()) != 1 {
		t.Fatalf("project = %+v, %v", p, err)
	}
	form.Set("name", "my-app")
	if want := (chat.Needs{CPUs: 4, Memory: 8 << 30, Labels: []string{"gpu", "fast"}, Location: "fsn1"}); !reflect.DeepEqual(p.Machine, want) {
		t.Errorf("its machine is %+v, want %+v", p.Machine, want)
	}
	if body := s.get(t, "/p/my-app/settings").Body.String(); !strings.Contains(body, `name="memory" min="0" max="1000000" value="8"`) || !strings.Contains(body, `value="gpu fast"`) {
		t.Error("the form does not show what the machine must have")
	}
	form.Set("branch", "develop")
	if w := s.post(t, "/p/my-app/settings", form); w.Code != 303 {
		t.Fatalf("saving = %d %s", w.Code, w.Body)
	}
	if p, _ := s.kit.Room.Project("my-app"); p.Branch != "develop" {
		t.Errorf("branch = %q", p.Branch)
	}
	if w := s.post(t, "/p/my-app/remove", url.Values{"name": {"other"}}); w.Code != 422 {
		t.Errorf("removing under a wrong name = %d", w.Code)
	}
	if w := s.post(t, "/p/my-app/remove", url.Values{"name": {"my-app"}}); w.Code != 303 || len(s.kit.Projects()) != 0 {
		t.Errorf("removing = %d", w.Code)
	}
}

func TestSecretsAreSetAndNeverShown(t *testing.T) {
	var got []string
	s := newSite(t, func(c *Config) {
		c.SetSecret = func(_ context.Context, scope chat.ProjectID, name, value string, by chat.Author) error {
			got = append(got, string(scope)+" "+name+" "+value+" "+string(by.Person))
			return nil
		}
	})
	s.kit.Project(t, "web")
	for path, scope := range map[string]string{"/settings/secrets": "", "/p/web/secrets": "web"} {
		got = nil
		w := s.post(t, path, url.Values{"name": {"OPENAI_API_KEY"}, "value": {"sk-hidden"}})
		if want := scope + " OPENAI_API_KEY sk-hidden ana@example.com"; w.Code != 303 || len(got) != 1 || got[0] != want {
			t.Errorf("POST %s = %d, set %q, want %q", path, w.Code, got, want)
		}
		w = s.post(t, path, url.Values{"name": {"bad name"}, "value": {"sk-hidden"}})
		if w.Code != 422 || strings.Contains(w.Body.String(), "sk-hidden") {
			t.Errorf("POST %s with a bad name = %d, or it shows the value", path, w.Code)
		}
	}
	s.kit.Must(t, chattest.Ana, chat.Op{SecretPut: &chat.SecretPut{Secret: chat.Secret{Name: "GITHUB_TOKEN", Sealed: []byte("sealed-bytes")}}})
	if body := s.get(t, "/settings").Body.String(); !strings.Contains(body, "GITHUB_TOKEN") || strings.Contains(body, "sealed-bytes") {
		t.Error("settings show a value, or not the name")
	}
	if w := s.post(t, "/settings/secrets", url.Values{"name": {"GITHUB_TOKEN"}, "drop": {"1"}}); w.Code != 303 || len(s.kit.Secrets("")) != 0 {
		t.Errorf("removing = %d", w.Code)
	}
}

func TestForgeButtonsReachTheirFuncs(t *testing.T) {
	var calls []string
	s := newSite(t, func(c *Config) {
		c.OpenPull = func(_ context.Context, _ chat.Task, draft bool, by chat.Author) error {
			calls = append(calls, fmt.Sprint("open ", draft, by.Person))
			return nil
		}
		c.Merge = func(_ context.Context, _ chat.Task, method string, _ chat.Author) error {
			calls = append(calls, "merge "+method)
			return fmt.Errorf("%w: main moved; rebase first", chat.ErrRefused)
		}
	})
	task := s.working(t, "Fix it")
	page := "/t/" + string(task.ID)
	if w := s.post(t, page+"/pull", url.Values{"draft": {"1"}}); w.Code != 303 {
		t.Errorf("opening = %d", w.Code)
	}
	if w := s.post(t, page+"/merge", url.Values{"method": {"squash"}}); w.Code != 409 || !strings.Contains(w.Body.String(), "main moved; rebase first") {
		t.Errorf("a refused merge = %d", w.Code)
	}
	if w := s.post(t, page+"/merge", url.Values{"method": {"octopus"}}); w.Code != 422 {
		t.Errorf("an unknown method = %d", w.Code)
	}
	if got, want := strings.Join(calls, ";"), "open trueana@example.com;merge squash"; got != want {
		t.Errorf("calls = %s, want %s", got, want)
	}
}

func TestDownloadsAreInert(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Output = func(context.Context, chat.TaskID, string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("<script>alert(1)</script>")), nil
		}
		c.Files = fakeFiles(func(q api.FileQuery) (api.FileView, error) { return textFile(q, "<script>alert(1)</script>"), nil })
	})
	task := s.working(t, "Fix it")
	for _, path := range []string{"/output/m1", "/raw/a.html", "/export?format=md", "/export?format=json"} {
		w := s.get(t, "/t/"+string(task.ID)+path)
		kind := w.Header().Get("Content-Type")
		if w.Code != 200 || strings.Contains(kind, "html") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("GET %s = %d %s", path, w.Code, kind)
		}
	}
	if w := s.get(t, "/t/"+string(task.ID)+"/export?format=exe"); w.Code != 422 {
		t.Errorf("an unknown format = %d", w.Code)
	}
}
