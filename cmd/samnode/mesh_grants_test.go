package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/mesh/tailnet"
)

// TestTailnetGrantsOfProjects: the tailnet's policy gives a person a role in one
// project, which opens that one alone, in the API and in the pages.
func TestTailnetGrantsOfProjects(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := &testMesh{t: t, state: t.TempDir()}
	t.Cleanup(m.tearDown)
	n := m.place("grants")
	m.setUpNode(n, []string{"init", "--control", control.URL, "--state", n.state, "--name", "grants", "--auth-key", "tskey-auth-test", "--setup-only"})
	m.up(n)
	ben := meshtest.Person(t, control, "ben-laptop")
	must[chat.Project](n, "project", "add", "app", "--repo", "/nowhere.git")
	must[chat.Project](n, "project", "add", "other", "--repo", "/elsewhere.git")
	if code, text := as(t, ben, n, "GET", "projects", nil, nil); code != http.StatusForbidden {
		t.Fatalf("without a grant the projects are %d: %s", code, text)
	}
	control.Grant(tailnet.DefaultCapability, `{"role":"member","projects":["app"]}`)
	var list struct{ Projects []chat.Project }
	m.await("the grant to arrive", func() bool {
		code, _ := as(t, ben, n, "GET", "projects", nil, &list)
		return code == http.StatusOK
	})
	if len(list.Projects) != 1 || list.Projects[0].Name != "app" {
		t.Errorf("the projects are %+v, want app alone", list.Projects)
	}
	task := func(project string) map[string]any {
		return map[string]any{"project": project, "text": "hello", "draft": true}
	}
	var v taskView
	if code, text := as(t, ben, n, "POST", "tasks", task("app"), &v); code != http.StatusCreated {
		t.Errorf("a task of app is %d: %s", code, text)
	}
	if code, text := as(t, ben, n, "POST", "tasks", task("other"), nil); code != http.StatusNotFound || !strings.Contains(text, "There is no project") {
		t.Errorf("a task of other is %d: %s", code, text)
	}
	for _, path := range []string{"mesh", "nodes", "people", "pool", "backup"} {
		if code, text := as(t, ben, n, "GET", path, nil, nil); code != http.StatusForbidden || !strings.Contains(text, "about the whole mesh") {
			t.Errorf("%s is %d: %s", path, code, text)
		}
	}
	for path, want := range map[string]int{"/": 200, "/t/" + string(v.ID): 200, "/p/app": 200, "/p/other": 404, "/pool": 403, "/settings": 403} {
		resp, err := ben.Client.Get(n.page + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is %d, want %d", path, resp.StatusCode, want)
		}
	}
}
