package githubtest

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

const widget = "acme/widget"

// seeded has main and a branch with a commit.
func seeded(t *testing.T, s *Server) string {
	t.Helper()
	url := s.Create(widget)
	gittest.Push(t, s.Dir(widget), "main", "first", map[string]string{"a": "1\n"})
	gittest.Push(t, s.Dir(widget), "feature", "work", map[string]string{"b": "1\n"})
	return url
}

// gh runs GitHub's own command line tool against the fake.
func gh(t *testing.T, s *Server, token string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "gh", args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GH_HOST=" + strings.TrimPrefix(s.URL, "https://"),
		"GH_ENTERPRISE_TOKEN=" + token, "SSL_CERT_FILE=" + s.CertFile(), "GH_PROMPT_DISABLED=1", "NO_COLOR=1",
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestGitHubsOwnToolWorksWithIt(t *testing.T) {
	if _, err := exec.LookPath("gh"); err != nil {
		t.Skip("SKIPPED: gh is not installed")
	}
	s := StartTLS(t)
	if spec, err := LoadSpec(); err == nil {
		s.Validate(spec)
	}
	seeded(t, s)
	token := s.Grant(Token{Login: "ana"})
	for _, c := range []struct {
		want string
		args []string
	}{
		{"ana", []string{"api", "user", "--jq", ".login"}},
		{"acme/widget main", []string{"api", "repos/acme/widget", "--jq", `.full_name + " " + .default_branch`}},
		{"1 true feature", []string{"api", "repos/acme/widget/pulls", "-f", "title=Add b", "-f", "head=feature", "-f", "base=main", "-f", "body=By hand", "-F", "draft=true", "--jq", `"\(.number) \(.draft) \(.head.ref)"`}},
		{"PR Add b", []string{"api", "repos/acme/widget/pulls?state=open&head=acme:feature", "--jq", `"PR " + .[0].title`}},
		{"Add c", []string{"api", "-X", "PATCH", "repos/acme/widget/pulls/1", "-f", "title=Add c", "--jq", ".title"}},
		{"refs/heads/feature", []string{"api", "repos/acme/widget/git/ref/heads/feature", "--jq", ".ref"}},
		{"5000", []string{"api", "rate_limit", "--jq", ".rate.limit"}},
	} {
		if out, err := gh(t, s, token, c.args...); err != nil || out != c.want {
			t.Errorf("gh %v = %q, %v, want %q", c.args, out, err, c.want)
		}
	}
	node, err := gh(t, s, token, "api", "repos/acme/widget/pulls/1", "--jq", ".node_id")
	if err != nil {
		t.Fatal(node)
	}
	mutation := `mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }`
	if out, err := gh(t, s, token, "api", "graphql", "-f", "query="+mutation, "-f", "id="+node, "--jq", ".data.markPullRequestReadyForReview.pullRequest.isDraft"); err != nil || out != "false" {
		t.Errorf("ready: %q, %v", out, err)
	}
	if _, _, state := s.Pull(widget, 1); state != "open" {
		t.Errorf("state = %s", state)
	}
	if out, err := gh(t, s, "wrong", "api", "user"); err == nil || !strings.Contains(out, "Bad credentials") {
		t.Errorf("a wrong token: %q, %v", out, err)
	}
	if out, err := gh(t, s, token, "api", "repos/acme/widget/pulls", "-f", "title=x", "-f", "head=feature", "-f", "base=main"); err == nil || !strings.Contains(out, "already exists") {
		t.Errorf("a second one: %q, %v", out, err)
	}
	for _, f := range s.Faults() {
		t.Errorf("not as GitHub specifies: %s", f)
	}
}

func TestGitWithItsTokens(t *testing.T) {
	s := Start(t)
	url := seeded(t, s)
	s.Create("acme/other")
	writer := s.Grant(Token{Login: "ana", Repos: []string{widget}})
	reader := s.Grant(Token{Login: "bo", May: map[string]string{"contents": "read"}})
	old := s.Grant(Token{Login: "cy", Expires: time.Now().Add(-time.Second)})
	with := func(token, u string) string {
		return strings.Replace(u, "http://", "http://x-access-token:"+token+"@", 1)
	}
	dir := gittest.Clone(t, with(reader, url))
	gittest.Commit(t, dir, "more", map[string]string{"c": "1\n"})
	if out, err := gittest.Try(t, dir, nil, "push", "origin", "HEAD:refs/heads/x"); err == nil {
		t.Errorf("a reader pushed: %s", out)
	}
	if out, err := gittest.Try(t, dir, nil, "push", with(writer, url), "HEAD:refs/heads/x"); err != nil {
		t.Errorf("a writer did not push: %s", out)
	}
	for _, u := range []string{with(old, url), with(writer, s.Git.CloneURL("acme/other")), url} {
		if out, err := gittest.Try(t, "", nil, "ls-remote", u); err == nil {
			t.Errorf("%s answered: %s", u, out)
		}
	}
}

func TestSpecNoticesWhatIsMissing(t *testing.T) {
	spec, err := LoadSpec()
	if err != nil {
		t.Skipf("SKIPPED: GitHub's OpenAPI description is not there: %v", err)
	}
	s := Start(t)
	seeded(t, s)
	s.Open(widget, "ana", "feature", "main", "x", "y")
	s.mu.Lock()
	whole := s.pullJSON(s.repos[widget], s.repos[widget].pulls[0], true)
	s.mu.Unlock()
	get := httptest.NewRequest("GET", "/api/v3/repos/acme/widget/pulls/1", nil)
	post := httptest.NewRequest("POST", "/api/v3/repos/acme/widget/pulls", nil)
	body := func(change func(object)) []byte {
		o := object{}
		for k, v := range whole {
			o[k] = v
		}
		change(o)
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	same := func(object) {}
	if f := spec.compare(get, nil, 200, body(same)); len(f) != 0 {
		t.Errorf("a good answer: %v", f)
	}
	for name, f := range map[string][]string{
		"a field is missing":    spec.compare(get, nil, 200, body(func(o object) { delete(o, "mergeable_state") })),
		"a field has no value":  spec.compare(get, nil, 200, body(func(o object) { o["title"] = nil })),
		"a field is of a kind":  spec.compare(get, nil, 200, body(func(o object) { o["number"] = "1" })),
		"a word is not allowed": spec.compare(get, nil, 200, body(func(o object) { o["state"] = "merged" })),
		"an undeclared status":  spec.compare(get, nil, 202, body(same)),
		"an odd request":        spec.compare(post, []byte(`{"title": 1, "base": "main"}`), 201, body(same)),
		"an unknown path":       spec.compare(httptest.NewRequest("GET", "/api/v3/repos/a/b/secrets", nil), nil, 200, nil),
		"a 304 with a body":     spec.compare(get, nil, 304, []byte("{}")),
	} {
		if len(f) == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
}
