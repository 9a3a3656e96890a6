package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
)

// shared is a mesh of two projects whose caller has no role but those in single
// projects.
func shared(t *testing.T, roles map[string]Role) (s *site, web, secret chat.Task) {
	t.Helper()
	s = newSite(t, func(c *Config) {
		c.WhoIs = func(*http.Request) (chat.Person, Role, error) { return "cy@example.com", "", nil }
		c.RoleIn = func(*http.Request) func(string) Role { return func(p string) Role { return roles[p] } }
	})
	web = s.working(t, "work on the web")
	s.kit.Project(t, "secret")
	secret = s.kit.NewTask(t, "secret", "work in secret")
	return s, web, secret
}

// TestARoleInOneProject opens its pages, and shows nothing of the others.
func TestARoleInOneProject(t *testing.T) {
	s, web, secret := shared(t, map[string]Role{"web": Member})
	for path, want := range map[string]int{
		"/": 200, "/projects": 200, "/p/web": 200, "/p/web/settings": 200, "/t/" + string(web.ID): 200, "/t/" + string(web.ID) + "/terminal": 200,
		"/p/secret": 404, "/p/nothing": 404, "/t/" + string(secret.ID): 404, "/t/" + string(secret.ID) + "/log": 404, "/t/nothing": 404,
		"/nodes": 403, "/settings": 403, "/projects/new": 403, "/start": 403, "/p/secret/settings": 404,
	} {
		w := s.get(t, path)
		if w.Code != want {
			t.Errorf("%s answers %d, want %d", path, w.Code, want)
		}
		if body := w.Body.String(); strings.Contains(body, "work in secret") || strings.Contains(body, "/p/secret") {
			t.Errorf("%s speaks of the other project", path)
		}
	}
	if a, b := s.get(t, "/t/"+string(secret.ID)).Body.String(), s.get(t, "/t/01JD0000000000000000009999").Body.String(); a != b {
		t.Error("a task that is not theirs looks other than one that does not exist")
	}
	page := s.get(t, "/").Body.String()
	if !strings.Contains(page, "work on the web") || strings.Contains(page, `href="/nodes"`) || strings.Contains(page, `href="/settings"`) {
		t.Error("the list has not their task, or leads to pages that are not for them")
	}
	for path, want := range map[string]int{
		"/t/" + string(web.ID) + "/say": 303, "/t/" + string(secret.ID) + "/say": 404, "/p/secret/tasks": 404, "/p/web/settings": 403, "/projects/new": 403,
		"/settings/people": 403, "/nodes/core-1/drain": 403,
	} {
		if w := s.post(t, path, url.Values{"text": {"hello"}, "id": {newID()}}); w.Code != want {
			t.Errorf("posting to %s answers %d, want %d", path, w.Code, want)
		}
	}
}

// TestAnOwnerOfOneProject changes it, but not what would lead to others.
func TestAnOwnerOfOneProject(t *testing.T) {
	s, _, _ := shared(t, map[string]Role{"web": Owner})
	p, err := s.kit.Room.Project("web")
	if err != nil {
		t.Fatal(err)
	}
	form := func(change ...string) url.Values {
		f := url.Values{"id": {newID()}, "repo": {p.Repo}, "name": {"web"}, "agent": {"script"}, "mode": {"plan"}, "publish": {"draft"}, "egress": {"none"}}
		for i := 0; i+1 < len(change); i += 2 {
			f.Set(change[i], change[i+1])
		}
		return f
	}
	for _, tc := range []struct {
		form url.Values
		want int
	}{{form(), 303}, {form("name", "secret2"), 403}, {form("repo", "https://git.example.com/secret"), 403}} {
		if w := s.post(t, "/p/web/settings", tc.form); w.Code != tc.want {
			t.Errorf("posting %v answers %d, want %d", tc.form, w.Code, tc.want)
		}
	}
	if p, _ = s.kit.Room.Project("web"); p.Egress != chat.EgressNone {
		t.Errorf("what an owner may change has not changed: %+v", p)
	}
}

// TestTheStrongerRoleCounts: a viewer of the mesh who is a member of one project.
func TestTheStrongerRoleCounts(t *testing.T) {
	s, web, secret := shared(t, map[string]Role{"web": Member})
	s.WhoIs = func(*http.Request) (chat.Person, Role, error) { return "cy@example.com", Viewer, nil }
	for path, want := range map[string]int{"/t/" + string(web.ID) + "/say": 303, "/t/" + string(secret.ID) + "/say": 403} {
		if w := s.post(t, path, url.Values{"text": {"hello"}, "id": {newID()}}); w.Code != want {
			t.Errorf("posting to %s answers %d, want %d", path, w.Code, want)
		}
	}
	if w := s.get(t, "/t/"+string(secret.ID)); w.Code != 200 {
		t.Errorf("a viewer of the mesh gets %d", w.Code)
	}
}

// TestAStreamEndsWithTheRole: who loses a role reads no further.
func TestAStreamEndsWithTheRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		roles := map[string]Role{"web": Viewer}
		s, web, _ := shared(t, roles)
		began := time.Now()
		time.AfterFunc(rolePause/2, func() { delete(roles, "web") })
		w := s.get(t, "/t/"+string(web.ID)+"/events?list=1") // returns when the stream ends
		if took := time.Since(began); w.Code != 200 || took < rolePause || took > 2*rolePause {
			t.Errorf("the stream answers %d and ends after %s", w.Code, took)
		}
		s.Close()
	})
}
