package forge

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git/gittest"
)

func TestOnePullRequestPerTask(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	g := k.forge()
	s := spec()
	s.Draft = true
	pr, err := g.EnsurePull(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	want := chat.PullRequest{Number: 1, URL: k.hub.URL + "/acme/widget/pull/1", State: "draft", Title: "Add a login"}
	if diff := cmp.Diff(want, pr, cmpopts.IgnoreFields(chat.PullRequest{}, "Seen")); diff != "" {
		t.Errorf("opened (-want +got):\n%s", diff)
	}
	// The next turn: another title and text, still the same one.
	s.Title, s.Body = "Add a login page", "It adds a login page."
	k.commit("more")
	pr, err = g.EnsurePull(t.Context(), s)
	if err != nil || pr.Number != 1 || pr.Title != "Add a login page" || pr.State != "draft" {
		t.Errorf("updated: %+v, %v", pr, err)
	}
	if _, body, _ := k.hub.Pull(name, 1); !strings.Contains(body, "login page.") || strings.Contains(body, "a login.\n") {
		t.Errorf("body = %s", body)
	}
	// Nothing changed: nothing is written.
	before := len(k.hub.Requests())
	if _, err = g.EnsurePull(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if asked := k.hub.Requests()[before:]; len(asked) != 1 || !strings.HasPrefix(asked[0], "GET 200") {
		t.Errorf("an unchanged one cost %v", asked)
	}
	// Ready for review; and never a draft again by itself.
	s.Draft = false
	if pr, err = g.EnsurePull(t.Context(), s); err != nil || pr.State != "open" {
		t.Errorf("made ready: %+v, %v", pr, err)
	}
	s.Draft = true
	if pr, err = g.EnsurePull(t.Context(), s); err != nil || pr.State != "open" {
		t.Errorf("after: %+v, %v", pr, err)
	}
	if _, _, state := k.hub.Pull(name, 1); state != "open" || k.hub.Pulls(name) != 1 {
		t.Errorf("GitHub has %d, the first is %s", k.hub.Pulls(name), state)
	}
}

func TestPullRequestThatPeopleEdited(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	g := k.forge()
	if _, err := g.EnsurePull(t.Context(), spec()); err != nil {
		t.Fatal(err)
	}
	_, body, _ := k.hub.Pull(name, 1)
	title, mine := "Login, at last", "Closes #7\r\n\r\n"+strings.ReplaceAll(body, "\n", "\r\n")+"\r\n- [x] tested by Bo"
	k.hub.EditPull(name, 1, &title, &mine)
	for _, text := range []string{"Second text.", "Third text."} {
		s := spec()
		s.Title, s.Body = "Another title "+text, text
		if _, err := g.EnsurePull(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		title, body, _ = k.hub.Pull(name, 1)
		if title != "Login, at last" {
			t.Errorf("the person's title became %q", title)
		}
		if !strings.HasPrefix(body, "Closes #7\n") || !strings.HasSuffix(body, "- [x] tested by Bo") || !strings.Contains(body, text) || strings.Contains(body, "It adds") {
			t.Errorf("body = %q", body)
		}
	}
}

func TestPullRequestOfSomebodyElse(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.hub.Open(name, "bo", branch, "main", "Bo's own", "By hand.")
	pr, err := k.forge().EnsurePull(t.Context(), spec())
	if err != nil || pr.Number != 1 || pr.Title != "Bo's own" {
		t.Errorf("EnsurePull = %+v, %v", pr, err)
	}
	if title, body, _ := k.hub.Pull(name, 1); title != "Bo's own" || body != "By hand." || k.hub.Pulls(name) != 1 {
		t.Errorf("it was touched: %q %q", title, body)
	}
}

func TestPullRequestThatIsOver(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"merged", "closed"} {
		k := newKit(t)
		g := k.forge()
		if _, err := g.EnsurePull(t.Context(), spec()); err != nil {
			t.Fatal(err)
		}
		if state == "merged" {
			k.hub.MergePull(name, 1)
		} else {
			k.hub.ClosePull(name, 1)
		}
		pr, err := g.EnsurePull(t.Context(), spec())
		if err != nil || pr.State != state || pr.Number != 1 || k.hub.Pulls(name) != 1 {
			t.Errorf("EnsurePull = %+v, %v", pr, err)
		}
		// A person decides to go on with the branch.
		k.commit("goes on")
		s := spec()
		s.Again = true
		if pr, err = g.EnsurePull(t.Context(), s); err != nil || pr.State != "open" || pr.Number != 2 {
			t.Errorf("again: %+v, %v", pr, err)
		}
		if pr, err = g.EnsurePull(t.Context(), s); err != nil || pr.Number != 2 || k.hub.Pulls(name) != 2 {
			t.Errorf("and again: %+v, %v", pr, err)
		}
	}
}

func TestTwoOpenAtOnce(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	g := k.forge()
	// Between the look and the attempt, the other node was quicker.
	raced := false
	k.hub.Before(func(r *http.Request) {
		if r.Method == http.MethodPost && !raced {
			raced = true
			k.hub.Open(name, "samnode-bot", branch, "main", "Add a login", mark("Add a login", "It adds a login."))
		}
	})
	pr, err := g.EnsurePull(t.Context(), spec())
	if err != nil || pr.Number != 1 || k.hub.Pulls(name) != 1 {
		t.Errorf("EnsurePull = %+v, %v; GitHub has %d", pr, err, k.hub.Pulls(name))
	}
}

func TestNoDraftsHere(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.hub.NoDrafts(name)
	s := spec()
	s.Draft = true
	if pr, err := k.forge().EnsurePull(t.Context(), s); err != nil || pr.State != "open" {
		t.Errorf("EnsurePull = %+v, %v", pr, err)
	}
}

func TestWhatGitHubRefuses(t *testing.T) {
	t.Parallel()
	all := githubtest.Token{Login: "bot"}
	for _, c := range []struct {
		name  string
		token githubtest.Token
		set   func(*kit)
		spec  func(*Spec)
		want  error
		says  string
	}{
		{"a token that expired", githubtest.Token{Login: "bot", Expires: time.Unix(1, 0)}, nil, nil, ErrCredentials, "GITHUB_TOKEN"},
		{"a token of another repository", githubtest.Token{Login: "bot", Repos: []string{"acme/other"}}, nil, nil, ErrNotFound, "may not see"},
		{"a token that may only read", githubtest.Token{Login: "bot", May: map[string]string{"pull_requests": "read"}}, nil, nil, ErrPermission, "pull_requests=write"},
		{"single sign-on", githubtest.Token{Login: "bot", SSO: "acme"}, nil, nil, ErrSSO, "/orgs/acme/sso"},
		{"nothing to merge", all, func(k *kit) {
			gittest.Git(k.t, k.hub.Dir(name), "update-ref", "refs/heads/"+branch, "main")
		}, nil, ErrNoCommits, "no commits"},
		{"no such base", all, nil, func(s *Spec) { s.Base = "never" }, ErrNoBranch, "base branch"},
		{"no such branch", all, nil, func(s *Spec) { s.Head = "never" }, ErrNoBranch, "task's branch"},
		{"no title", all, nil, func(s *Spec) { s.Title = "" }, ErrInvalid, "title"},
		{"the rate limit", all, func(k *kit) { k.hub.RateLimit(0, time.Now().Add(20*time.Minute)) }, nil, ErrRateLimit, "begins again in"},
		{"GitHub is away", all, func(k *kit) { k.hub.Close() }, nil, ErrNetwork, "tried again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			if c.set != nil {
				c.set(k)
			}
			s := spec()
			if c.spec != nil {
				c.spec(&s)
			}
			token := k.hub.Grant(c.token)
			_, err := k.open(Config{Token: token}).EnsurePull(t.Context(), s)
			e := wantKind(t, err, c.want)
			if !strings.Contains(e.Error(), c.says) || strings.Contains(e.Error()+e.Detail(), token) {
				t.Errorf("says %q (%q)", e.Error(), e.Detail())
			}
			if retry := errors.Is(c.want, ErrRateLimit) || errors.Is(c.want, ErrNetwork); e.Retryable() != retry {
				t.Errorf("retryable = %v", e.Retryable())
			}
			if errors.Is(c.want, ErrRateLimit) && time.Until(e.Reset) < 10*time.Minute {
				t.Errorf("reset = %v", e.Reset)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	if r, err := k.forge().Check(t.Context()); err != nil || r.DefaultBranch != "main" || !r.Private || r.Page == "" {
		t.Errorf("Check = %+v, %v", r, err)
	}
	reader := k.open(Config{Token: k.hub.Grant(githubtest.Token{Login: "guest", May: map[string]string{"contents": "read"}})})
	_, err := reader.Check(t.Context())
	wantKind(t, err, ErrFork)
	k.hub.Archive(name)
	_, err = k.forge().Check(t.Context())
	wantKind(t, err, ErrPermission)
}
