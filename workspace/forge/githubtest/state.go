package githubtest

import (
	"net/http"
	"strings"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// AddCheck sets a check run of a branch's newest commit.
func (s *Server) AddCheck(name, branch string, c Check) {
	s.t.Helper()
	s.change(name, func(r *repo) {
		sha := gittest.Tip(s.t, r.dir, "refs/heads/"+branch)
		r.checks[sha] = put(r.checks[sha], c)
	})
}

// AddStatus sets a commit status of a branch's newest commit.
func (s *Server) AddStatus(name, branch string, c Check) {
	s.t.Helper()
	s.change(name, func(r *repo) {
		sha := gittest.Tip(s.t, r.dir, "refs/heads/"+branch)
		r.statuses[sha] = put(r.statuses[sha], c)
	})
}

func put(list []Check, c Check) []Check {
	for i := range list {
		if list[i].Name == c.Name {
			list[i] = c
			return list
		}
	}
	return append(list, c)
}

// AddReview is a person's review: APPROVED, CHANGES_REQUESTED, COMMENTED.
func (s *Server) AddReview(name string, number int, login, state, body string) {
	s.t.Helper()
	s.changePull(name, number, func(r *repo, p *pull) {
		p.reviews = append(p.reviews, review{id: s.id(), login: login, state: state, body: body, sha: s.headLocked(r, p), at: stamp()})
	})
}

// EditPull is a person's edit of a pull request.
func (s *Server) EditPull(name string, number int, title, body *string) {
	s.t.Helper()
	s.changePull(name, number, func(_ *repo, p *pull) {
		if title != nil {
			p.title = *title
		}
		if body != nil {
			p.body = *body
		}
	})
}

// ClosePull closes a pull request without merging it.
func (s *Server) ClosePull(name string, number int) {
	s.t.Helper()
	s.changePull(name, number, func(r *repo, p *pull) { p.headSHA, p.closed = s.headLocked(r, p), true })
}

// MergePull merges a pull request on the server.
func (s *Server) MergePull(name string, number int) {
	s.t.Helper()
	s.changePull(name, number, func(r *repo, p *pull) {
		dir := gittest.Clone(s.t, r.dir)
		gittest.Git(s.t, dir, "checkout", "-q", p.base)
		gittest.Git(s.t, dir, "merge", "-q", "--no-ff", "-m", "Merge", "origin/"+p.head)
		gittest.Git(s.t, dir, "push", "-q", "origin", p.base)
		p.headSHA, p.closed, p.merged = s.headLocked(r, p), true, stamp()
		p.mergeCommit = gittest.Tip(s.t, r.dir, "refs/heads/"+p.base)
	})
}

// Pull returns a pull request's title, body and state (open, draft, closed,
// merged).
func (s *Server) Pull(name string, number int) (title, body, state string) {
	s.t.Helper()
	s.look(name, number, func(_ *repo, p *pull) {
		title, body, state = p.title, p.body, "open"
		switch {
		case !p.merged.IsZero():
			state = "merged"
		case p.closed:
			state = "closed"
		case p.draft:
			state = "draft"
		}
	})
	return title, body, state
}

// Pulls returns how many pull requests a repository has, open or not.
func (s *Server) Pulls(name string) (n int) {
	s.t.Helper()
	s.change(name, func(r *repo) { n = len(r.pulls) })
	return n
}

// Open opens a pull request as a person would.
func (s *Server) Open(name, login, head, base, title, body string) (number int) {
	s.t.Helper()
	s.change(name, func(r *repo) {
		number = s.openLocked(r, login, head, base, title, body, false).number
	})
	return number
}

func (s *Server) openLocked(r *repo, login, head, base, title, body string, draft bool) *pull {
	p := &pull{
		id: s.id(), number: len(r.pulls) + 1, title: title, body: body, head: head, base: base,
		draft: draft, author: login, created: stamp(), updated: stamp(),
	}
	r.pulls = append(r.pulls, p)
	return p
}

func (s *Server) changePull(name string, number int, f func(*repo, *pull)) {
	s.t.Helper()
	s.look(name, number, func(r *repo, p *pull) {
		f(r, p)
		p.updated = stamp()
	})
}

func (s *Server) look(name string, number int, f func(*repo, *pull)) {
	s.t.Helper()
	s.change(name, func(r *repo) {
		if number < 1 || number > len(r.pulls) {
			s.t.Fatalf("githubtest: no pull request #%d", number)
		}
		f(r, r.pulls[number-1])
	})
}

// headLocked is the commit of a pull request's branch.
func (s *Server) headLocked(r *repo, p *pull) string {
	if p.closed {
		return p.headSHA
	}
	return gittest.Tip(s.t, r.dir, "refs/heads/"+p.head)
}

func stamp() time.Time { return time.Now().UTC().Truncate(time.Second) }

// isZeroTime writes null for a time that never was.
func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Format(time.RFC3339)
}

func bearer(req *http.Request) string {
	if _, pass, ok := req.BasicAuth(); ok {
		return pass
	}
	kind, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if strings.EqualFold(kind, "bearer") || strings.EqualFold(kind, "token") {
		return token
	}
	return ""
}
