package ui

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// TestTheTaskOpensInEditors: who may enter the workspace gets links that the
// editors on their own computer take.
func TestTheTaskOpensInEditors(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.SSH = func(t chat.Task) SSHAddr {
			return SSHAddr{User: string(t.ID), Host: "samnode-a.tail1.ts.net", Dir: "/workspaces/web"}
		}
	})
	task := s.working(t, "add a limit")
	id := string(task.ID)
	page := s.get(t, "/t/"+id).Body.String()
	for _, want := range []string{
		`data-copy="ssh ` + id + `@samnode-a.tail1.ts.net"`,
		`href="vscode://vscode-remote/ssh-remote+` + id + `@samnode-a.tail1.ts.net/workspaces/web"`,
		`href="cursor://vscode-remote/ssh-remote+` + id + `@samnode-a.tail1.ts.net/workspaces/web"`,
		`href="zed://ssh/` + id + `@samnode-a.tail1.ts.net/workspaces/web"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	_, rest, _ := strings.Cut(page, `href="jetbrains-gateway://connect#`)
	fragment, _, _ := strings.Cut(rest, `"`)
	got, err := url.ParseQuery(strings.ReplaceAll(fragment, "&amp;", "&"))
	want := url.Values{
		"host": {"samnode-a.tail1.ts.net"}, "port": {"22"}, "user": {id}, "type": {"ssh"}, "deploy": {"true"}, "projectPath": {"/workspaces/web"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Gateway's link %q: %v\n%s", fragment, err, diff)
	}
	s.role = Viewer
	if page := s.get(t, "/t/"+id).Body.String(); strings.Contains(page, "vscode://") || strings.Contains(page, "@samnode-a") {
		t.Error("a viewer, whom ssh refuses, is shown the way in")
	}
}
