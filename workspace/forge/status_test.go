package forge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git/gittest"
)

func TestStatusFollowsThePullRequest(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	g := k.forge()
	s := spec()
	s.Draft = true
	if _, err := g.EnsurePull(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	page := k.hub.URL + "/acme/widget/pull/1"
	look := func(what string, want Status) {
		t.Helper()
		got, err := g.Status(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		want.Pull.Number, want.Pull.URL, want.Pull.Title, want.Base = 1, page, "Add a login", "main"
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(chat.PullRequest{}, "Seen"), cmpopts.IgnoreFields(Status{}, "Head"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	look("new", Status{Pull: chat.PullRequest{State: "draft"}})

	k.hub.AddCheck(name, branch, githubtest.Check{Name: "test", Status: "in_progress"})
	k.hub.AddCheck(name, branch, githubtest.Check{Name: "lint", Status: "completed", Conclusion: "success"})
	look("checks run", Status{Pull: chat.PullRequest{State: "draft", Checks: "pending"}, Passed: 1, Total: 2})

	k.hub.AddCheck(name, branch, githubtest.Check{Name: "test", Status: "completed", Conclusion: "failure"})
	k.hub.AddStatus(name, branch, githubtest.Check{Name: "ci/old", Conclusion: "error"})
	failed := Status{Pull: chat.PullRequest{State: "draft", Checks: "failure"}, Passed: 1, Total: 3, Failing: []string{"ci/old", "test"}}
	failed.Notes = []string{"Checks failed (1 of 3 passed): ci/old, test."}
	look("a check failed", failed)
	failed.Notes = nil
	look("still", failed)

	k.commit("fixed")
	k.hub.AddCheck(name, branch, githubtest.Check{Name: "test", Status: "completed", Conclusion: "success"})
	k.hub.AddCheck(name, branch, githubtest.Check{Name: "docs", Status: "completed", Conclusion: "skipped"})
	s.Draft = false
	if _, err := g.EnsurePull(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	k.hub.AddReview(name, 1, "bo", "CHANGES_REQUESTED", "Please\nadd a test.")
	k.hub.AddReview(name, 1, "cy", "APPROVED", "")
	look("fixed and reviewed", Status{
		Pull: chat.PullRequest{State: "open", Checks: "success", Review: "changes_requested"}, Passed: 2, Total: 2,
		Notes: []string{"The pull request is ready for review.", "All 2 checks passed.", "bo asked for changes: Please add a test.", "cy approved"},
	})

	k.hub.AddReview(name, 1, "bo", "APPROVED", "Thanks")
	k.hub.AddReview(name, 1, "bo", "COMMENTED", "One more thing")
	look("approved", Status{
		Pull: chat.PullRequest{State: "open", Checks: "success", Review: "approved"}, Passed: 2, Total: 2,
		Notes: []string{"bo approved: Thanks", "bo commented: One more thing"},
	})

	gittest.Push(t, k.hub.Dir(name), "main", "the same file", map[string]string{"b": "other\n"})
	conflict := Status{Pull: chat.PullRequest{State: "open", Checks: "success", Review: "approved"}, Passed: 2, Total: 2, Conflicts: true}
	conflict.Notes = []string{"The pull request conflicts with main."}
	look("the base moved", conflict)

	gittest.Git(t, k.hub.Dir(name), "update-ref", "refs/heads/main", "main~1")
	k.hub.MergePull(name, 1)
	look("merged", Status{
		Pull: chat.PullRequest{State: "merged", Checks: "success", Review: "approved"}, Passed: 2, Total: 2,
		Notes: []string{"The pull request was merged."},
	})
}

func TestAnUnchangedPullRequestIsFree(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	g := k.forge()
	if _, err := g.EnsurePull(t.Context(), spec()); err != nil {
		t.Fatal(err)
	}
	for i := range 130 { // more than a page
		k.hub.AddCheck(name, branch, githubtest.Check{Name: fmt.Sprintf("check %d", i), Status: "completed", Conclusion: "success"})
	}
	first, err := g.Status(t.Context(), 1)
	if err != nil || first.Total != 130 {
		t.Fatalf("Status = %+v, %v", first, err)
	}
	left := k.hub.Remaining()
	again, err := g.Status(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if k.hub.Remaining() != left {
		t.Errorf("it cost %d of the rate limit", left-k.hub.Remaining())
	}
	first.Notes = nil
	if diff := cmp.Diff(first, again, cmpopts.IgnoreFields(chat.PullRequest{}, "Seen")); diff != "" {
		t.Errorf("second look (-first +second):\n%s", diff)
	}
}

func TestStatusWithoutTheRightToSeeChecks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.hub.Open(name, "bo", branch, "main", "x", "y")
	k.hub.AddCheck(name, branch, githubtest.Check{Name: "test", Status: "completed", Conclusion: "failure"})
	g := k.open(Config{Token: k.hub.Grant(githubtest.Token{Login: "bot", May: map[string]string{"pull_requests": "write", "contents": "write"}})})
	if s, err := g.Status(t.Context(), 1); err != nil || s.Pull.Checks != "" || s.Pull.State != "open" {
		t.Errorf("Status = %+v, %v", s, err)
	}
	_, err := g.Status(t.Context(), 9)
	wantKind(t, err, ErrNotFound)
}

func TestTheFakeIsLikeGitHub(t *testing.T) {
	spec, err := githubtest.LoadSpec()
	if err != nil {
		t.Skipf("SKIPPED: the fake was not held against GitHub's OpenAPI description: %v", err)
	}
	t.Logf("every request and answer of this package's tests is held against %s, API %s", githubtest.Specification, spec.Version)
	k := newKit(t)
	g := k.forge()
	// And it notices: an answer without its required fields, a parameter that
	// GitHub does not have.
	if _, err := g.EnsurePull(t.Context(), Spec{Head: branch, Base: "main", Title: "x"}); err != nil {
		t.Fatal(err)
	}
	if n := len(k.hub.Faults()); n != 0 {
		t.Fatalf("%d faults: %v", n, k.hub.Faults())
	}
	other := githubtest.Start(t)
	other.Validate(spec)
	url := other.Create(name)
	g, err = NewGitHub(Config{URL: url, API: other.API, Token: other.Grant(githubtest.Token{Login: "x"})})
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if _, err := g.get(t.Context(), "repos/acme/widget/pulls?flavour=sweet", &v); err != nil {
		t.Fatal(err)
	}
	if f := other.Faults(); len(f) != 1 || !strings.Contains(f[0], "flavour") {
		t.Errorf("faults = %v", f)
	}
}
