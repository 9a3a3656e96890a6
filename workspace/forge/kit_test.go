package forge

import (
	"errors"
	"testing"

	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git/gittest"
)

const (
	name   = "acme/widget"
	branch = "samnode/add-login-x7k2"
)

// kit is a GitHub with one repository, whose task branch has a commit.
type kit struct {
	t   *testing.T
	hub *githubtest.Server
	url string
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{t: t, hub: githubtest.Start(t)}
	k.url = k.hub.Create(name)
	gittest.Push(t, k.hub.Dir(name), "main", "first", map[string]string{"a": "1\n"})
	k.commit("work")
	if spec, err := githubtest.LoadSpec(); err == nil {
		k.hub.Validate(spec)
		t.Cleanup(func() {
			for _, f := range k.hub.Faults() {
				t.Errorf("not as GitHub specifies: %s", f)
			}
		})
	}
	return k
}

func (k *kit) commit(text string) string {
	k.t.Helper()
	return gittest.Push(k.t, k.hub.Dir(name), branch, text, map[string]string{"b": text + "\n"})
}

func (k *kit) open(c Config) *GitHub {
	k.t.Helper()
	c.URL, c.API = k.url, k.hub.API
	g, err := NewGitHub(c)
	if err != nil {
		k.t.Fatal(err)
	}
	return g
}

// forge opens the repository with a token that may do everything.
func (k *kit) forge() *GitHub {
	k.t.Helper()
	return k.open(Config{Token: k.hub.Grant(githubtest.Token{Login: "samnode-bot"})})
}

func spec() Spec {
	return Spec{Head: branch, Base: "main", Title: "Add a login", Body: "It adds a login."}
}

func wantKind(t *testing.T, err, want error) *Error {
	t.Helper()
	var e *Error
	if !errors.Is(err, want) || !errors.As(err, &e) {
		t.Fatalf("got %v, want %v", err, want)
	}
	return e
}
