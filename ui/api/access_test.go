package api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// twoProjects is a mesh of the projects shared and hidden, with a task in each
// that asks something, and a caller who has a role in shared alone.
type twoProjects struct {
	*fixture
	role           atomic.Pointer[string] // in shared
	shared, hidden chat.Task
	pool           *onePool
}

func newTwoProjects(t *testing.T) *twoProjects {
	p := &twoProjects{pool: &onePool{info: PoolInfo{Ops: []PoolOp{{ID: "o", Reason: "It is for hidden."}}}}}
	p.as("member")
	p.fixture = newFixture(t, withMesh(newThreeNodes()), func(c *Config) {
		c.Who = func(*http.Request) (Caller, error) {
			return Caller{Person: "ben@example.com", In: func(project string) string {
				return map[string]string{"shared": *p.role.Load()}[project]
			}}, nil
		}
		c.Merge = func(context.Context, chat.Author, chat.Task, string) (string, error) { return "c0ffee", nil }
		c.Pool = p.pool
	})
	p.shared, p.hidden = p.asking(t, "shared"), p.asking(t, "hidden")
	return p
}

func (p *twoProjects) as(role string) { p.role.Store(&role) }

func (p *twoProjects) asking(t *testing.T, project string) chat.Task {
	p.kit.Project(t, project)
	task := p.kit.NewTask(t, chat.ProjectID(project), "words of "+project)
	p.kit.Work(t, task.ID)
	p.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAsk, Ask: &chat.Ask{
		ID: "a1", Kind: chat.AskPermission, Title: "Run it?", Options: []chat.AskOption{{ID: "yes", Name: "Allow", Kind: "allow_once"}},
	}})
	return task
}

// bodies are what routes need to get as far as they can.
var bodies = map[string]string{
	"PATCH /api/v1/projects/{project}":           `{"mode":"everything"}`,
	"POST /api/v1/projects":                      `{"name":"mine","repo":"/srv/hidden.git"}`,
	"PUT /api/v1/secrets/{name}":                 `{"value":"v"}`,
	"PATCH /api/v1/tasks/{task}":                 `{"title":"mine"}`,
	"POST /api/v1/tasks/{task}/messages":         `{"id":"m9","text":"to whom it may concern"}`,
	"PATCH /api/v1/tasks/{task}/queue/{message}": `{"text":"else"}`,
	"POST /api/v1/tasks/{task}/asks/{ask}":       `{"option":"yes"}`,
	"POST /api/v1/tasks/{task}/merge":            `{"method":"merge"}`,
	"PUT /api/v1/people/{person}":                `{"role":"owner"}`,
	"PUT /api/v1/settings/{name}":                `{"value":"x"}`,
	"PUT /api/v1/backup":                         `{"destination":"/b","schedule":""}`,
	"POST /api/v1/pool/machines/{machine}/keep":  `{"until":"2030-01-01T00:00:00Z"}`,
	"PUT /api/v1/pool/settings":                  `{"machines":9}`,
	"POST /api/v1/tasks":                         `{"project":"hidden","text":"work on it"}`,
	"POST /api/v1/pool/machines":                 `{}`,
	"POST /api/v1/invitations":                   `{}`,
}

// TestAnotherProjectIsNobodysBusiness goes through every route as a caller with
// a role in one project, and asks for another one's things.
func TestAnotherProjectIsNobodysBusiness(t *testing.T) {
	for _, role := range []string{"viewer", "member", "owner"} {
		t.Run(role, func(t *testing.T) {
			p := newTwoProjects(t)
			p.as(role)
			before := p.state(t)
			for _, rt := range (&server{}).routes() {
				if rt.pattern == "/api/" {
					continue
				}
				body := bodies[rt.pattern]
				method, path, _ := strings.Cut(rt.pattern, " ")
				path = strings.NewReplacer("{task}", string(p.hidden.ID), "{project}", "hidden", "{ask}", "a1", "{message}", "m9",
					"{node}", "lap-3", "{name}", "KEY", "{person}", "ben@example.com", "{machine}", "m", "{id}", "i", "{path...}", "a.txt", "{shell}", "t1", "{recording}", "t1.cast").Replace(path)
				if strings.Contains(path, "{") {
					t.Errorf("the test does not know what %s is about", rt.pattern)
				}
				for _, query := range []string{"", "?project=hidden", "?q=hidden"} {
					code, text := p.glance(method, path+query, body)
					if strings.Contains(strings.ReplaceAll(text, `There is no project \"hidden\"`, ""), "hidden") ||
						strings.Contains(strings.ReplaceAll(text, `There is no task \"`+string(p.hidden.ID), ""), string(p.hidden.ID)) {
						t.Errorf("%s%s shows another project: %d %s", rt.pattern, query, code, text)
					}
					if rt.about != anything && code != 403 && code != 404 {
						t.Errorf("%s%s = %d %s", rt.pattern, query, code, text)
					}
				}
			}
			if diff := cmp.Diff(before, p.state(t)); diff != "" {
				t.Errorf("another project was changed (-before +after):\n%s", diff)
			}
		})
	}
}

// glance is call for what may not end by itself.
func (p *twoProjects) glance(method, path, body string) (int, string) {
	p.t.Helper()
	if !strings.Contains(path, "/stream") {
		return p.call(method, path, body)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.server.URL+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && ctx.Err() == nil {
		p.t.Error(err)
	}
	return resp.StatusCode, string(data)
}

// state is all that a caller of the other project must not change.
func (p *twoProjects) state(t *testing.T) string {
	t.Helper()
	task, err := p.kit.Room.Task(string(p.hidden.ID))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal([]any{
		task, p.kit.Room.Projects(), p.kit.Room.Secrets(""), p.kit.Room.Secrets("hidden"), p.kit.Room.Tasks(chat.Filter{Project: "hidden"}), p.pool.did,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestWhatDoesNotExistLooksTheSame: neither the status nor the words tell a
// hidden thing from none.
func TestWhatDoesNotExistLooksTheSame(t *testing.T) {
	p := newTwoProjects(t)
	none := "01HZZZZZZZZZZZZZZZZZZZZZZZ"
	for _, path := range []string{"/api/v1/tasks/NAME", "/api/v1/tasks/NAME/items", "/api/v1/projects/NAME", "/api/v1/tasks?project=NAME"} {
		hidden, gone := string(p.hidden.ID), none
		if strings.Contains(path, "project") {
			hidden, gone = "hidden", "nothing"
		}
		a := p.want(404, "GET", strings.ReplaceAll(path, "NAME", hidden), "")
		b := p.want(404, "GET", strings.ReplaceAll(path, "NAME", gone), "")
		if strings.ReplaceAll(a, hidden, gone) != b {
			t.Errorf("%s: hidden %s, unknown %s", path, a, b)
		}
	}
	// The start that all ids have in common.
	if text := p.want(404, "GET", "/api/v1/tasks/01", ""); strings.Contains(text, "More than one") {
		t.Errorf("a part of several ids: %s", text)
	}
	// A second time with an id of somebody else's.
	body := `{"id":"` + string(p.hidden.ID) + `","project":"shared","text":"x"}`
	if code, text := p.call("POST", "/api/v1/tasks", body); code < 400 || strings.Contains(text, "words of hidden") {
		t.Errorf("a task with the id of a hidden one = %d %s", code, text)
	}
}

// TestARoleInOneProjectCountsThere: with all that it may, and no more.
func TestARoleInOneProjectCountsThere(t *testing.T) {
	p := newTwoProjects(t)
	task := "/api/v1/tasks/" + string(p.shared.ID)
	for _, c := range []struct {
		role, method, path, body string
		want                     int
	}{
		{"viewer", "GET", task, "", 200},
		{"viewer", "GET", task + "/items", "", 200},
		{"viewer", "GET", task + "/export", "", 200},
		{"viewer", "GET", "/api/v1/projects/shared", "", 200},
		{"viewer", "POST", task + "/messages", `{"text":"x"}`, 403},
		{"viewer", "POST", "/api/v1/tasks", `{"project":"shared","text":"x"}`, 403},
		{"member", "POST", task + "/asks/a1", `{"option":"yes"}`, 200},
		{"member", "POST", task + "/messages", `{"text":"x"}`, 200},
		{"member", "POST", "/api/v1/tasks", `{"project":"shared","text":"x"}`, 201},
		{"member", "PATCH", "/api/v1/projects/shared", `{"mode":"everything"}`, 403},
		{"member", "GET", "/api/v1/secrets?project=shared", "", 403},
		{"owner", "PATCH", "/api/v1/projects/shared", `{"mode":"everything"}`, 200},
		{"owner", "PATCH", "/api/v1/projects/shared", `{"repo":"/srv/hidden.git"}`, 403},
		{"owner", "PATCH", "/api/v1/projects/shared", `{"name":"other"}`, 403},
		{"owner", "PUT", "/api/v1/secrets/KEY?project=shared", `{"value":"v"}`, 204},
		{"owner", "GET", "/api/v1/secrets?project=shared", "", 200},
		{"owner", "PUT", "/api/v1/secrets/KEY", `{"value":"v"}`, 403},
		{"owner", "POST", "/api/v1/projects", `{"name":"mine","repo":"/r"}`, 403},
		{"", "GET", "/api/v1/tasks", "", 403},
		{"", "GET", "/api/v1/version", "", 403},
	} {
		p.as(c.role)
		p.want(c.want, c.method, c.path, c.body)
	}
	p.as("viewer")
	list := get[struct{ Tasks []chat.Task }](t, p.want(200, "GET", "/api/v1/tasks", "")).Tasks
	projects := get[struct{ Projects []chat.Project }](t, p.want(200, "GET", "/api/v1/projects", "")).Projects
	if len(list) != 2 || len(projects) != 1 || projects[0].Name != "shared" {
		t.Errorf("%d tasks, projects %v; want two of shared alone", len(list), projects)
	}
}

// TestAStreamEndsWithTheRole: who loses the right in the middle hears no more.
func TestAStreamEndsWithTheRole(t *testing.T) {
	p := newTwoProjects(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", p.server.URL+"/api/v1/tasks/"+string(p.shared.ID)+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	for in.Scan() && !strings.HasPrefix(in.Text(), "data: ") { // the first event
	}
	p.as("")
	for i := range 3 {
		p.kit.Emit(t, p.shared.ID, chat.Item{ID: "late" + string(rune('0'+i)), Kind: chat.KindAgent, Text: "late", Closed: true})
	}
	events := 0
	for in.Scan() {
		if strings.HasPrefix(in.Text(), "data: ") {
			events++
		}
	}
	if err := in.Err(); err != nil || events > 1 { // one may have waited already
		t.Errorf("after the role was taken the stream had %d events, and ended with %v", events, err)
	}
}
