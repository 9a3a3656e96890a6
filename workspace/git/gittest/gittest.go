// Package gittest serves real git repositories over HTTP to tests: git's own
// http-backend behind a check of tokens that expire and open one repository,
// with the faults that remotes have (a connection cut half-way, a hook that
// refuses).
package gittest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a git host on loopback.
type Server struct {
	URL  string // without a trailing slash
	Root string // bare repositories are <Root>/<name>.git

	// Authorize replaces the check of tokens: repo is the name without .git,
	// token the password of basic authentication, "" if there was none. Set it
	// before the first request.
	Authorize func(repo, token string, write bool) error

	t       testing.TB
	backend cgi.Handler
	http    *httptest.Server

	mu       sync.Mutex
	tokens   map[string]grant
	cut      int64 // bytes after which the next pack is cut; 0: it is not
	requests []string
}

type grant struct {
	repo    string
	expires time.Time
}

// Errors of Authorize that choose the answer. Any other error is a 403.
var (
	ErrNoAuth = errors.New("authentication required") // 401
	ErrHidden = errors.New("Repository not found.")   //nolint:revive,staticcheck // 404, as hosts say it of what one may not see
)

// Start serves until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New(t)
	s.http = httptest.NewServer(s)
	t.Cleanup(s.http.Close)
	s.URL = s.http.URL
	return s
}

// New is Start without a listener: a handler for another server.
func New(t testing.TB) *Server {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "--exec-path").Output()
	if err != nil {
		t.Fatalf("git is needed: %v", err)
	}
	s := &Server{t: t, Root: t.TempDir(), tokens: map[string]grant{}}
	s.Authorize = s.check
	s.backend = cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env: []string{
			"GIT_PROJECT_ROOT=" + s.Root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=tester",
			"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		},
		InheritEnv: []string{"PATH"},
		Stderr:     io.Discard,
	}
	return s
}

// Create makes an empty bare repository, e.g. "acme/widget", whose default
// branch is main, and returns its folder.
func (s *Server) Create(name string) string {
	s.t.Helper()
	dir := s.Path(name)
	Git(s.t, "", "init", "-q", "--bare", "--initial-branch=main", dir)
	return dir
}

// Path returns a repository's folder.
func (s *Server) Path(name string) string { return filepath.Join(s.Root, name+".git") }

// CloneURL returns a repository's URL.
func (s *Server) CloneURL(name string) string { return s.URL + "/" + name + ".git" }

// Grant makes a token for one repository.
func (s *Server) Grant(repo string, ttl time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := fmt.Sprintf("token-%d-%s", len(s.tokens)+1, strings.ReplaceAll(repo, "/", "-"))
	s.tokens[token] = grant{repo: repo, expires: time.Now().Add(ttl)}
	return token
}

// Revoke ends a token.
func (s *Server) Revoke(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, token)
}

// CutAfter cuts the connection of the next fetched pack after that many bytes.
func (s *Server) CutAfter(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = bytes
}

// Requests returns what was asked so far, "GET /acme/widget.git/info/refs".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// Reject makes a repository refuse every push with that message; an empty one
// lets them in again.
func (s *Server) Reject(repo, message string) {
	s.t.Helper()
	hook := filepath.Join(s.Path(repo), "hooks", "pre-receive")
	if message == "" {
		if err := os.Remove(hook); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(hook), 0o755); err != nil {
		s.t.Fatal(err)
	}
	script := "#!/bin/sh\ncat <<'END' >&2\n" + message + "\nEND\nexit 1\n"
	if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) check(repo, token string, _ bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.tokens[token]
	switch {
	case token == "":
		return ErrNoAuth
	case !ok || time.Now().After(g.expires):
		return ErrNoAuth
	case g.repo != repo:
		return ErrHidden
	}
	return nil
}

// ServeHTTP serves git's smart HTTP for the repositories below Root.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, req.Method+" "+req.URL.Path)
	s.mu.Unlock()
	repo, _, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), ".git/")
	if !ok {
		http.NotFound(w, req)
		return
	}
	write := strings.HasSuffix(req.URL.Path, "/git-receive-pack") || req.URL.Query().Get("service") == "git-receive-pack"
	_, token, _ := req.BasicAuth()
	switch err := s.Authorize(repo, token, write); {
	case errors.Is(err, ErrNoAuth):
		w.Header().Set("WWW-Authenticate", `Basic realm="gittest"`)
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	case errors.Is(err, ErrHidden):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	// CGI needs a length; git sends large packs without one.
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	req = req.Clone(req.Context())
	req.Body, req.ContentLength, req.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	s.backend.ServeHTTP(s.cutter(w, req, body), req)
}

// cutter returns a writer that hangs up in the middle of a pack, once.
func (s *Server) cutter(w http.ResponseWriter, req *http.Request, body []byte) http.ResponseWriter {
	isPack := strings.HasSuffix(req.URL.Path, "/git-upload-pack") && bytes.Contains(body, []byte("done"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == 0 || !isPack {
		return w
	}
	c := &cutWriter{ResponseWriter: w, left: s.cut}
	s.cut = 0
	return c
}

type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	return c.ResponseWriter.Write(p)
}

// Stop ends the listener before the test does: the host is away.
func (s *Server) Stop() { s.http.Close() }
