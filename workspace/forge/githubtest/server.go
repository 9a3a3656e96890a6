// Package githubtest is a GitHub for tests: repositories that are real git
// ones, pull requests, checks, reviews, tokens, Apps, rate limits and
// conditional requests, with state. What it is asked and what it answers can
// be held against GitHub's own OpenAPI description ([Server.Validate]), and
// GitHub's own command line tool works with it.
package githubtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// Server is a GitHub Enterprise host on loopback: git at <URL>/owner/name.git,
// REST at <URL>/api/v3/, GraphQL at <URL>/api/graphql.
type Server struct {
	URL string // without a trailing slash
	API string // REST base URL, with one
	Git *gittest.Server

	t    testing.TB
	http *httptest.Server
	spec *Spec // nil: nothing is validated

	mu       sync.Mutex
	tokens   map[string]*Token
	repos    map[string]*repo // by full name, lower case
	apps     map[int64]*App
	next     int64 // id
	rate     rate
	faults   []string // what did not agree with the specification
	requests []string // "GET 200 /repos/acme/widget"
	before   func(*http.Request)
}

type rate struct {
	limit, remaining int
	reset            time.Time
}

// Token is who asks and what for.
type Token struct {
	Login   string
	Repos   []string          // full names; empty: all
	May     map[string]string // permission → read or write; nil: everything
	Expires time.Time         // zero: never
	SSO     string            // not authorised for this organisation, which wants single sign-on
}

// App is a GitHub App and its one installation.
type App struct {
	ID, Installation int64
	Key              []byte   // private key, PEM
	Repos            []string // what the installation covers, full names
	May              map[string]string
	TTL              time.Duration // of its tokens; 0: an hour

	public *rsa.PublicKey
}

// repo is one repository. Server.mu covers it.
type repo struct {
	id          int64
	owner, name string
	branch      string
	dir         string
	archived    bool
	noDrafts    bool
	pulls       []*pull
	checks      map[string][]Check
	statuses    map[string][]Check
}

type pull struct {
	id            int64
	number        int
	title, body   string
	head, base    string
	headSHA       string // fixed once closed
	draft, closed bool
	author        string
	merged        time.Time
	mergeCommit   string
	created       time.Time
	updated       time.Time
	reviews       []review
}

type review struct {
	id    int64
	login string
	state string
	body  string
	sha   string
	at    time.Time
}

// Check is a check run or a commit status.
type Check struct {
	Name       string
	Status     string // queued, in_progress, completed; of a commit status: unused
	Conclusion string // success, failure, …; of a commit status its state
}

// Start serves until the test ends.
func Start(t testing.TB) *Server { return start(t, "", false) }

// StartAt is Start on an address of this machine that is not loopback's, for
// containers that have to get there.
func StartAt(t testing.TB, addr string) *Server { return start(t, addr, false) }

// StartTLS is Start over https; CertFile holds the certificate.
func StartTLS(t testing.TB) *Server { return start(t, "", true) }

func start(t testing.TB, addr string, tls bool) *Server {
	t.Helper()
	s := &Server{
		t: t, Git: gittest.New(t), tokens: map[string]*Token{}, repos: map[string]*repo{}, apps: map[int64]*App{},
		next: 1000, rate: rate{5000, 5000, time.Now().Add(time.Hour)},
	}
	s.Git.Authorize = s.authorizeGit
	s.http = httptest.NewUnstartedServer(s.handler())
	if addr != "" {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s.http.Listener.Close()
		s.http.Listener = l
	}
	if tls {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	t.Cleanup(s.http.Close)
	s.URL, s.API = s.http.URL, s.http.URL+"/api/v3/"
	s.Git.URL = s.URL
	return s
}

// CertFile writes the certificate of StartTLS for other programs to trust.
func (s *Server) CertFile() string {
	s.t.Helper()
	p := filepath.Join(s.t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	if err := os.WriteFile(p, block, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// Client trusts the certificate of StartTLS.
func (s *Server) Client() *http.Client { return s.http.Client() }

// Close ends the listener before the test does: the host is away.
func (s *Server) Close() { s.http.Close() }

func (s *Server) id() int64 {
	s.next++
	return s.next
}

// Create makes an empty repository ("acme/widget") and returns its URL.
func (s *Server) Create(name string) string {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, short, _ := strings.Cut(name, "/")
	s.repos[strings.ToLower(name)] = &repo{
		id: s.id(), owner: owner, name: short, branch: "main", dir: s.Git.Create(name),
		checks: map[string][]Check{}, statuses: map[string][]Check{},
	}
	return s.Git.CloneURL(name)
}

// Dir returns a repository's folder.
func (s *Server) Dir(name string) string { return s.Git.Path(name) }

// Archive makes a repository read-only. NoDrafts makes it refuse drafts.
func (s *Server) Archive(name string) { s.change(name, func(r *repo) { r.archived = true }) }

// NoDrafts makes a repository refuse draft pull requests.
func (s *Server) NoDrafts(name string) { s.change(name, func(r *repo) { r.noDrafts = true }) }

func (s *Server) change(name string, f func(*repo)) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[strings.ToLower(name)]
	if r == nil {
		s.t.Fatalf("githubtest: no repository %s", name)
	}
	f(r)
}

// Grant makes a token.
func (s *Server) Grant(t Token) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grantLocked("ghp_", t)
}

func (s *Server) grantLocked(prefix string, t Token) string {
	name := fmt.Sprintf("%s%s", prefix, rand.Text())
	s.tokens[name] = &t
	return name
}

// Install makes an App that is installed on some repositories.
func (s *Server) Install(a App) App {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.ID, a.Installation, a.public = s.id(), s.id(), &key.PublicKey
	a.Key = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	s.apps[a.Installation] = &a
	return a
}

// RateLimit sets what is left of the rate limit.
func (s *Server) RateLimit(remaining int, reset time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate.remaining, s.rate.reset = remaining, reset
}

// Remaining is what is left of the rate limit.
func (s *Server) Remaining() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate.remaining
}

// Before is called before each API request is answered; nil: nothing is.
func (s *Server) Before(f func(*http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Requests returns the API's log: method, status, path with query.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// find returns the token of a request, nil for none.
func (s *Server) findLocked(name string) (*Token, error) {
	if name == "" {
		return nil, nil
	}
	t := s.tokens[name]
	if t == nil || !t.Expires.IsZero() && time.Now().After(t.Expires) {
		return nil, errors.New("Bad credentials") //nolint:staticcheck // as GitHub says it
	}
	return t, nil
}

func (t *Token) sees(r *repo) bool {
	if t == nil {
		return false
	}
	full := strings.ToLower(r.owner + "/" + r.name)
	if len(t.Repos) == 0 {
		return true
	}
	for _, name := range t.Repos {
		if strings.ToLower(name) == full {
			return true
		}
	}
	return false
}

func (t *Token) may(permission, level string) bool {
	if t.May == nil {
		return true
	}
	return t.May[permission] == "write" || level == "read" && t.May[permission] == "read"
}

func (s *Server) authorizeGit(name, token string, write bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.findLocked(token)
	if err != nil || t == nil {
		return gittest.ErrNoAuth
	}
	r := s.repos[strings.ToLower(name)]
	level := "read"
	if write {
		level = "write"
	}
	switch {
	case r == nil || !t.sees(r) || !t.may("contents", "read"):
		return gittest.ErrHidden
	case !t.may("contents", level):
		return fmt.Errorf("Permission to %s denied to %s", name, t.Login) //nolint:staticcheck // as GitHub says it
	}
	return nil
}
