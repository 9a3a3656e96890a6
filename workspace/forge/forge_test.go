package forge

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git"
	"github.com/samnode/samnode/workspace/git/gittest"
)

func TestLocate(t *testing.T) {
	t.Parallel()
	want := Place{Host: "github.com", Owner: "acme", Name: "widget"}
	for _, u := range []string{
		"https://github.com/acme/widget.git", "https://github.com/acme/widget", "https://ana@GitHub.com/acme/widget/", "git@github.com:acme/widget.git",
		"github.com:acme/widget", "ssh://git@github.com/acme/widget.git", "ssh://git@github.com:22/acme/widget",
	} {
		if got, ok := Locate(u); !ok || got != want {
			t.Errorf("Locate(%q) = %+v, %v", u, got, ok)
		}
	}
	for _, u := range []string{"", "/srv/git/widget.git", "file:///srv/acme/widget", "https://gitlab.com/a/b/c.git", "https://github.com/acme", "git@github.com:acme"} {
		if got, ok := Locate(u); ok {
			t.Errorf("Locate(%q) = %+v, want none", u, got)
		}
	}
}

func TestAddressesOfTheAPI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, api, rest, graph string }{
		{"https://github.com/acme/widget", "", "https://api.github.com/", "https://api.github.com/graphql"},
		{"git@github.com:acme/widget.git", "", "https://api.github.com/", "https://api.github.com/graphql"},
		{"https://git.example.com/acme/widget", "", "https://git.example.com/api/v3/", "https://git.example.com/api/graphql"},
		{"https://github.com/acme/widget", "http://127.0.0.1:9/x", "http://127.0.0.1:9/x/", "http://127.0.0.1:9/x/graphql"},
	} {
		g, err := NewGitHub(Config{URL: c.url, API: c.api})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{c.rest, c.graph}, []string{g.client.BaseURL.String(), g.graph}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.url, diff)
		}
	}
	if _, err := NewGitHub(Config{URL: "/srv/git/x"}); err == nil {
		t.Error("a folder is a repository of GitHub")
	}
	if _, err := NewGitHub(Config{URL: "https://github.com/a/b", App: &App{Key: []byte("no key")}}); err == nil || strings.Contains(err.Error(), "no key") {
		t.Errorf("an odd key: %v", err)
	}
}

func TestAppsTokensAreForOneRepositoryAndShort(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.hub.Create("acme/other")
	app := k.hub.Install(githubtest.App{Repos: []string{name, "acme/other"}, May: map[string]string{
		"contents": "write", "pull_requests": "write", "checks": "read", "statuses": "read", "metadata": "read",
	}})
	g := k.open(Config{App: &App{ID: app.ID, Installation: app.Installation, Key: app.Key}})
	a, err := g.Credentials(t.Context())
	if err != nil || a.Username != "x-access-token" || a.Password == "" || time.Until(a.Expires) < 50*time.Minute {
		t.Fatalf("Credentials = %+v, %v", a, err)
	}
	if again, err := g.Credentials(t.Context()); err != nil || again.Password != a.Password {
		t.Errorf("a second token was made: %v", err)
	}
	// It opens this repository for git, and no other.
	m, err := git.Open(git.Config{Dir: filepath.Join(t.TempDir(), "mirrors")})
	if err != nil {
		t.Fatal(err)
	}
	for url, opens := range map[string]bool{k.url: true, k.hub.Git.CloneURL("acme/other"): false} {
		r, err := m.Repo(url)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Fetch(t.Context(), g.Credentials, nil); (err == nil) != opens {
			t.Errorf("Fetch(%s) = %v", url, err)
		}
	}
	if _, err := k.open(Config{Token: a.Password}).Status(t.Context(), 1); err == nil {
		t.Error("there is a pull request")
	}
	// The same value works the API.
	if pr, err := g.EnsurePull(t.Context(), spec()); err != nil || pr.Number != 1 {
		t.Errorf("EnsurePull = %+v, %v", pr, err)
	}
	k.hub.AddCheck(name, branch, githubtest.Check{Name: "test", Status: "completed", Conclusion: "success"})
	if s, err := g.Status(t.Context(), 1); err != nil || s.Pull.Checks != "success" {
		t.Errorf("Status = %+v, %v", s, err)
	}
}

func TestAppsTokensAreRenewedInTime(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	app := k.hub.Install(githubtest.App{Repos: []string{name}, TTL: 5 * time.Minute}) // less than a push may need
	g := k.open(Config{App: &App{ID: app.ID, Installation: app.Installation, Key: app.Key}})
	first, err := g.Credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if second, err := g.Credentials(t.Context()); err != nil || second.Password == first.Password {
		t.Errorf("the token that ends soon was handed out again: %v", err)
	}
}

func TestWhatGitHubSaysToApps(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	app := k.hub.Install(githubtest.App{Repos: []string{"acme/other"}})
	stranger := k.hub.Install(githubtest.App{Repos: []string{name}})
	weak := k.hub.Install(githubtest.App{Repos: []string{name}, May: map[string]string{"contents": "read"}})
	for _, c := range []struct {
		name string
		app  App
		want error
	}{
		{"not installed here", App{app.ID, app.Installation, app.Key}, ErrPermission},
		{"too few permissions", App{weak.ID, weak.Installation, weak.Key}, ErrPermission},
		{"another App's installation", App{app.ID, stranger.Installation, app.Key}, ErrCredentials},
		{"another App's key", App{app.ID, app.Installation, stranger.Key}, ErrCredentials},
	} {
		_, err := k.open(Config{App: &c.app}).Credentials(t.Context())
		if e := wantKind(t, err, c.want); strings.Contains(e.Error()+e.Detail(), "PRIVATE KEY") {
			t.Errorf("%s: %v", c.name, e)
		}
	}
}

func TestPersonalTokenOpensGit(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	m, err := git.Open(git.Config{Dir: filepath.Join(t.TempDir(), "mirrors")})
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Repo(k.url)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Fetch(t.Context(), k.forge().Credentials, nil); err != nil {
		t.Fatal(err)
	}
	if tip, err := r.Tip(t.Context(), branch); err != nil || tip != gittest.Tip(t, k.hub.Dir(name), branch) {
		t.Errorf("Tip = %s, %v", tip, err)
	}
}

func TestPlainRemoteHasACompareView(t *testing.T) {
	t.Parallel()
	p := Plain{Auth: git.Auth{Password: "x"}, Compare: "https://node/tasks/1/diff"}
	pr, err := p.EnsurePull(context.Background(), spec())
	if diff := cmp.Diff(chat.PullRequest{URL: "https://node/tasks/1/diff", State: "open", Title: "Add a login"}, pr); diff != "" || err != nil {
		t.Errorf("EnsurePull (-want +got):\n%s%v", diff, err)
	}
	if a, err := p.Credentials(t.Context()); err != nil || a.Password != "x" {
		t.Errorf("Credentials = %+v, %v", a, err)
	}
}

func TestTitleAndBody(t *testing.T) {
	t.Parallel()
	task := chat.Task{ID: "01J", Agent: "claude", Author: chat.Author{Person: "ana@example.com"}}
	messages := []chat.Message{
		{Kind: chat.KindUser, Text: "Add a login page\nwith a <!-- samnode end --> form, ask @bo"},
		{Kind: chat.KindThought, Text: "secret thought"},
		{Kind: chat.KindAgent, Text: "I look around."},
		{Kind: chat.KindTool, Text: "tool noise"},
		{Kind: chat.KindUser, Text: "In blue"},
		{Kind: chat.KindAgent, Text: "The login page is there, in blue."},
	}
	if got := Title(task, messages); got != "Add a login page" {
		t.Errorf("Title = %q", got)
	}
	body := Body(task, messages, "https://node/t/01J")
	want := "The login page is there, in blue.\n\n### What was asked\n\n" +
		"> Add a login page\n> with a <!-- samnode end --> form, ask @\u200bbo\n\n> In blue\n\n" +
		"---\nWritten by an AI agent (claude) in samnode, asked by ana@\u200bexample.com. The whole conversation: https://node/t/01J"
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("Body (-want +got):\n%s", diff)
	}
	if n := len(markRE.FindAllString(mark("t", body), -1)); n != 1 || !strings.HasSuffix(markRE.FindString(mark("t", body)), "\n<!-- samnode end -->") ||
		!strings.Contains(markRE.FindString(mark("t", body)), "whole conversation") {
		t.Error("a text can end our part of the body")
	}
	task.Title = strings.Repeat("ü", 300)
	if got := []rune(Title(task, nil)); len(got) > maxTitle {
		t.Errorf("Title has %d characters", len(got))
	}
	if got := Title(chat.Task{ID: "01J"}, nil); got != "Task 01J" {
		t.Errorf("Title of nothing = %q", got)
	}
	long := make([]chat.Message, 0, 100)
	for range 100 {
		long = append(long, chat.Message{Kind: chat.KindUser, Text: strings.Repeat("日本 ", 3000)}, chat.Message{Kind: chat.KindAgent, Text: strings.Repeat("x", 200000)})
	}
	if got := Body(task, long, "l"); len([]rune(mark("t", got))) > 65536 || !strings.Contains(got, "Written by an AI agent") {
		t.Errorf("Body has %d characters", len([]rune(got)))
	}
}
