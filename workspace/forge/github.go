package forge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/golang-jwt/jwt/v4"
	"github.com/google/go-github/v62/github"

	"github.com/samnode/samnode/workspace/git"
)

// Config of NewGitHub. Token or App; with neither, what is public can be read.
type Config struct {
	URL   string // of the repository
	Token string // a person's or a bot's token, used as it is
	App   *App   // wins over Token
	// API is the REST API's base URL. Empty: https://api.github.com/ for
	// github.com, https://<host>/api/v3/ for others.
	API    string
	HTTP   http.RoundTripper // nil: http.DefaultTransport
	Logger *slog.Logger      // nil: silent
}

// App is a GitHub App installed on the repository's owner.
type App struct {
	ID           int64
	Installation int64
	Key          []byte // private key, PEM
}

// tokenLeft is how long a git token must still be good when it is handed out.
const tokenLeft = 10 * time.Minute

// GitHub is one repository there. Safe for use by many goroutines.
type GitHub struct {
	place  Place
	repo   string // "owner/name"
	token  string
	client *github.Client
	graph  string // GraphQL URL
	log    *slog.Logger
	app    *appTokens // nil: token is used

	mu    sync.Mutex
	cache map[string]cached // by path; what a conditional request compares with
	seen  map[int]Status    // last status of each pull request
}

// NewGitHub checks the configuration; it asks nobody.
func NewGitHub(c Config) (*GitHub, error) {
	place, ok := Locate(c.URL)
	if !ok {
		return nil, fmt.Errorf("%s is not a repository of GitHub: it needs an owner and a name", c.URL)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.HTTP == nil {
		c.HTTP = http.DefaultTransport
	}
	if c.API == "" {
		c.API = "https://api.github.com/"
		if place.Host != "github.com" && place.Host != "ssh.github.com" && place.Host != "www.github.com" {
			c.API = "https://" + place.Host + "/api/v3/"
		}
	}
	base, err := url.Parse(strings.TrimRight(c.API, "/") + "/")
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("the GitHub API's address %q is not a URL", c.API)
	}
	g := &GitHub{
		place: place, repo: url.PathEscape(place.Owner) + "/" + url.PathEscape(place.Name), token: c.Token, log: c.Logger,
		graph: graphURL(base), cache: map[string]cached{}, seen: map[int]Status{},
	}
	tr := c.HTTP
	if c.App != nil {
		apps, err := appsTransport(tr, *c.App, base)
		if err != nil {
			return nil, err
		}
		// What git gets may push and no more. Our own requests may do what the
		// App may, in this repository: checks are read where it can read them.
		g.app = newAppTokens(apps, c.App.Installation, place.Name, &github.InstallationPermissions{
			Contents: github.String("write"), PullRequests: github.String("write"), Metadata: github.String("read"),
		})
		tr = newAppTokens(apps, c.App.Installation, place.Name, nil)
	}
	g.client = github.NewClient(&http.Client{Transport: tr, Timeout: time.Minute})
	if c.App == nil && c.Token != "" {
		g.client = g.client.WithAuthToken(c.Token)
	}
	g.client.BaseURL, g.client.UserAgent = base, "samnode"
	return g, nil
}

// graphURL: api.github.com/graphql, but <host>/api/graphql beside /api/v3/.
func graphURL(base *url.URL) string {
	u := *base
	u.Path = strings.TrimSuffix(u.Path, "v3/") + "graphql"
	return u.String()
}

// Credentials returns what git opens the repository with: the token as it is,
// or the App's token for this one repository, good for ten minutes at least.
func (g *GitHub) Credentials(ctx context.Context) (git.Auth, error) {
	if g.app == nil {
		return git.Auth{Username: "x-access-token", Password: g.token}, nil
	}
	token, expires, err := g.app.fresh(ctx)
	if err != nil {
		return git.Auth{}, explain("getting a token of the GitHub App", err)
	}
	return git.Auth{Username: "x-access-token", Password: token, Expires: expires}, nil
}

// appTokens hands out tokens of an App that open one repository and nothing
// else. As a transport it adds them to requests.
type appTokens struct {
	apps         *ghinstallation.AppsTransport
	installation int64
	options      *github.InstallationTokenOptions

	mu  sync.Mutex
	now *ghinstallation.Transport
}

func newAppTokens(apps *ghinstallation.AppsTransport, installation int64, name string, may *github.InstallationPermissions) *appTokens {
	a := &appTokens{apps: apps, installation: installation, options: &github.InstallationTokenOptions{Repositories: []string{name}, Permissions: may}}
	a.now = a.transport()
	return a
}

func appsTransport(tr http.RoundTripper, app App, base *url.URL) (*ghinstallation.AppsTransport, error) {
	key, err := jwt.ParseRSAPrivateKeyFromPEM(app.Key)
	if err != nil {
		return nil, errors.New("the GitHub App's private key cannot be read: it is to be the PEM file that GitHub gave")
	}
	t := ghinstallation.NewAppsTransportFromPrivateKey(tr, app.ID, key)
	t.BaseURL = strings.TrimRight(base.String(), "/")
	return t, nil
}

func (a *appTokens) transport() *ghinstallation.Transport {
	t := ghinstallation.NewFromAppsTransport(a.apps, a.installation)
	t.InstallationTokenOptions = a.options
	return t
}

func (a *appTokens) current() *ghinstallation.Transport {
	a.mu.Lock()
	defer a.mu.Unlock()
	// A token that ends soon is good for a request, not for a long push.
	if expires, _, err := a.now.Expiry(); err == nil && time.Until(expires) < tokenLeft {
		a.now = a.transport()
	}
	return a.now
}

func (a *appTokens) fresh(ctx context.Context) (string, time.Time, error) {
	t := a.current()
	token, err := t.Token(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	expires, _, err := t.Expiry()
	return token, expires, err
}

// RoundTrip implements http.RoundTripper.
func (a *appTokens) RoundTrip(req *http.Request) (*http.Response, error) {
	return a.current().RoundTrip(req)
}

// Check asks GitHub for the repository: that it is there, and that the
// credentials may push to it (ErrFork).
func (g *GitHub) Check(ctx context.Context) (Repository, error) {
	doing := "looking at " + g.place.Owner + "/" + g.place.Name
	r, _, err := g.client.Repositories.Get(ctx, g.place.Owner, g.place.Name)
	if err != nil {
		return Repository{}, explain(doing, err)
	}
	repo := Repository{DefaultBranch: r.GetDefaultBranch(), Private: r.GetPrivate(), Page: r.GetHTMLURL()}
	if r.GetArchived() {
		return repo, &Error{Kind: ErrPermission, Text: doing + ": the repository is archived; nothing can be pushed to it"}
	}
	if p := r.GetPermissions(); p != nil && !p["push"] {
		return repo, &Error{Kind: ErrFork, Text: doing + ": the credentials may read it but not push; use a token with write access, or a fork of your own"}
	}
	return repo, nil
}
