// Package forge opens a task's pull request where its repository lives, keeps
// it up to date, and says how it stands: [GitHub] for github.com and GitHub
// Enterprise, [Plain] for any other git remote, which has no pull requests.
//
// A task has at most one open pull request. It is found by its branch before
// one is made; what people wrote into it is kept; one that samnode did not
// make is shown and not touched.
package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/git"
)

// What a forge can answer, to be found with errors.Is. The errors of this
// package are *Error values around one of these.
var (
	ErrCredentials = errors.New("the forge refused the credentials")
	ErrPermission  = errors.New("the credentials lack a permission")
	ErrSSO         = errors.New("the token is not authorised for the organisation's single sign-on")
	ErrNotFound    = errors.New("the forge does not know it, or does not show it")
	ErrFork        = errors.New("the credentials may not push to this repository") // only through a fork
	ErrNoCommits   = errors.New("no commits between base and branch")
	ErrNoBranch    = errors.New("the base or the branch is not on the forge")
	ErrInvalid     = errors.New("the forge refused the request")
	ErrRateLimit   = errors.New("the forge's rate limit is used up") // Error.Reset says until when
	ErrNetwork     = errors.New("the forge is not reachable")
)

// Error says what a forge answered, in a sentence.
type Error struct {
	Kind  error     // one of the sentinels
	Text  string    // the sentence
	Out   string    // the forge's own words; may be empty
	Reset time.Time // of ErrRateLimit: when to ask again
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Kind }

// Detail returns the forge's own words.
func (e *Error) Detail() string { return e.Out }

// Retryable says whether the same can work later without a person's help.
func (e *Error) Retryable() bool {
	return errors.Is(e.Kind, ErrRateLimit) || errors.Is(e.Kind, ErrNetwork)
}

// Spec is the pull request that a task wants.
type Spec struct {
	Head  string // branch, in the same repository
	Base  string
	Title string // replaced later only while no person changed it
	Body  string // of ours; what people write around it stays
	Draft bool   // false also makes an existing draft ready for review
	Again bool   // open a new one although an earlier one was merged or closed
}

// Status is how a pull request stands.
type Status struct {
	Pull      chat.PullRequest
	Head      string   // commit
	Base      string   // branch
	Conflicts bool     // cannot be merged as it is
	Passed    int      // checks
	Total     int      // checks
	Failing   []string // names of failed checks
	// Notes are sentences about what changed since the last Status of this
	// pull request; all that is remarkable the first time.
	Notes []string
}

// Repository is what a forge says of a repository.
type Repository struct {
	DefaultBranch string
	Private       bool
	Page          string // URL for people
}

// Place is where a repository is.
type Place struct{ Host, Owner, Name string }

var scpRE = regexp.MustCompile(`^(?:[^@/]+@)?([^:/]+):(.+)$`)

// Locate reads host, owner and name out of a repository's URL; false if it has
// not these three (a local path, a group of groups).
func Locate(repo string) (Place, bool) {
	host, path := "", ""
	if u, err := url.Parse(repo); err == nil && u.Host != "" {
		host, path = u.Host, u.Path
		if u.Scheme == "ssh" {
			host = u.Hostname()
		}
	} else if m := scpRE.FindStringSubmatch(repo); m != nil && !strings.Contains(repo, "://") {
		host, path = m[1], m[2]
	}
	parts := strings.Split(strings.TrimSuffix(strings.Trim(path, "/"), ".git"), "/")
	if host == "" || len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		return Place{}, false
	}
	return Place{Host: strings.ToLower(host), Owner: parts[0], Name: parts[1]}, true
}

// Plain is a git remote without pull requests: the task's compare view takes
// their place.
type Plain struct {
	// Auth opens the remote; the zero value is anonymous, or the host's ssh.
	Auth git.Auth
	// Compare is the URL of the task's compare view; may be empty.
	Compare string
}

// Credentials returns what the remote is opened with.
func (p Plain) Credentials(context.Context) (git.Auth, error) { return p.Auth, nil }

// EnsurePull returns the compare view in the place of a pull request.
func (p Plain) EnsurePull(_ context.Context, s Spec) (chat.PullRequest, error) {
	return chat.PullRequest{URL: p.Compare, State: "open", Title: s.Title}, nil
}

// seconds writes how long until a time, for a person.
func until(t time.Time) string {
	if t.IsZero() {
		return "later"
	}
	d := max(time.Until(t), 0).Round(time.Second)
	return fmt.Sprintf("in %s", d)
}
