package githubtest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// reply is what a handler answers.
type reply struct {
	status int
	body   any
	header http.Header
}

// asked is one API request.
type asked struct {
	*http.Request
	token *Token
	body  []byte
	repo  *repo // of routes below /repos; seen by the token
	pull  *pull // of routes below /pulls/{number}
}

func ok(body any) reply { return reply{status: http.StatusOK, body: body} }

func refuse(status int, message string) reply {
	return reply{status: status, body: map[string]any{
		"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status),
	}}
}

func invalid(errs ...map[string]any) reply {
	r := refuse(http.StatusUnprocessableEntity, "Validation Failed")
	r.body.(map[string]any)["errors"] = errs
	return r
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*asked) reply{
		"GET /user":                                            s.user,
		"GET /rate_limit":                                      s.rateLimit,
		"GET /repos/{owner}/{repo}":                            s.getRepo,
		"GET /repos/{owner}/{repo}/pulls":                      s.listPulls,
		"POST /repos/{owner}/{repo}/pulls":                     s.createPull,
		"GET /repos/{owner}/{repo}/pulls/{n}":                  s.getPull,
		"PATCH /repos/{owner}/{repo}/pulls/{n}":                s.editPull,
		"GET /repos/{owner}/{repo}/pulls/{n}/reviews":          s.listReviews,
		"GET /repos/{owner}/{repo}/commits/{ref}/check-runs":   s.listChecks,
		"GET /repos/{owner}/{repo}/commits/{ref}/status":       s.combinedStatus,
		"GET /repos/{owner}/{repo}/git/ref/heads/{branch...}":  s.getRef,
		"POST /app/installations/{installation}/access_tokens": s.accessToken,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/v3"+path, s.serve(h))
	}
	mux.HandleFunc("POST /api/graphql", s.serve(s.graphQL))
	mux.HandleFunc("/api/", s.serve(func(*asked) reply { return refuse(http.StatusNotFound, "Not Found") }))
	mux.Handle("/", s.Git)
	return mux
}

// serve is what every API request goes through: token, rate limit, ETag, and
// the comparison with the specification.
func (s *Server) serve(h func(*asked) reply) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		before := s.before
		s.mu.Unlock()
		if before != nil {
			before(req)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		a := &asked{Request: req, body: body}
		r := s.answerLocked(a, h)
		for k, v := range r.header {
			w.Header()[k] = v
		}
		out, err := json.Marshal(r.body)
		if err != nil {
			s.faults = append(s.faults, err.Error())
		}
		if req.Method == http.MethodGet && r.status == http.StatusOK {
			etag := fmt.Sprintf(`W/"%x"`, sha256.Sum256(out))
			w.Header().Set("ETag", etag)
			if req.Header.Get("If-None-Match") == etag {
				r.status, out = http.StatusNotModified, nil
			}
		}
		if r.status != http.StatusNotModified && s.rate.remaining > 0 {
			s.rate.remaining--
		}
		s.limitHeaders(w.Header())
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		path := strings.TrimPrefix(req.URL.RequestURI(), "/api/v3")
		s.requests = append(s.requests, fmt.Sprintf("%s %d %s", req.Method, r.status, path))
		if s.spec != nil {
			s.faults = append(s.faults, s.spec.compare(req, body, r.status, out)...)
		}
		w.WriteHeader(r.status)
		_, _ = w.Write(out)
	}
}

func (s *Server) limitHeaders(h http.Header) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(s.rate.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(s.rate.remaining))
	h.Set("X-RateLimit-Used", strconv.Itoa(s.rate.limit-s.rate.remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(s.rate.reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
}

func (s *Server) answerLocked(a *asked, h func(*asked) reply) reply {
	if time.Now().After(s.rate.reset) {
		s.rate = rate{5000, 5000, time.Now().Add(time.Hour)}
	}
	if s.rate.remaining == 0 {
		return refuse(http.StatusForbidden, "API rate limit exceeded for user ID 1.")
	}
	if strings.Contains(a.URL.Path, "/app/installations/") {
		return h(a) // signed, not by a token
	}
	token, err := s.findLocked(bearer(a.Request))
	if err != nil || token == nil {
		return refuse(http.StatusUnauthorized, "Bad credentials")
	}
	a.token = token
	if owner := a.PathValue("owner"); owner != "" {
		a.repo = s.repos[strings.ToLower(owner+"/"+a.PathValue("repo"))]
		if a.repo == nil || !token.sees(a.repo) {
			return refuse(http.StatusNotFound, "Not Found")
		}
		if token.SSO != "" && strings.EqualFold(token.SSO, owner) {
			r := refuse(http.StatusForbidden, "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this organization.")
			r.header = http.Header{"X-Github-Sso": {"required; url=" + s.URL + "/orgs/" + owner + "/sso?authorization_request=1"}}
			return r
		}
	}
	if n := a.PathValue("n"); n != "" {
		number, err := strconv.Atoi(n)
		if err != nil || number < 1 || number > len(a.repo.pulls) {
			return refuse(http.StatusNotFound, "Not Found")
		}
		a.pull = a.repo.pulls[number-1]
	}
	return h(a)
}

func lacks(permission string) reply {
	r := refuse(http.StatusForbidden, "Resource not accessible by personal access token")
	r.header = http.Header{"X-Accepted-Github-Permissions": {permission}}
	return r
}

func (s *Server) user(a *asked) reply {
	u := s.person(a.token.Login)
	for k, v := range map[string]any{
		"name": a.token.Login, "company": nil, "blog": "", "location": nil, "email": nil, "hireable": nil, "bio": nil,
		"public_repos": 0, "public_gists": 0, "followers": 0, "following": 0, "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
		"user_view_type": "public",
	} {
		u[k] = v
	}
	return ok(u)
}

func (s *Server) rateLimit(*asked) reply {
	one := map[string]any{"limit": s.rate.limit, "remaining": s.rate.remaining, "reset": s.rate.reset.Unix(), "used": s.rate.limit - s.rate.remaining, "resource": "core"}
	return ok(map[string]any{"resources": map[string]any{"core": one, "search": one, "graphql": one}, "rate": one})
}

func (s *Server) getRepo(a *asked) reply { return ok(s.fullRepo(a.repo, a.token)) }

func (s *Server) getRef(a *asked) reply {
	name := "refs/heads/" + a.PathValue("branch")
	sha := gittest.Tip(s.t, a.repo.dir, name)
	if sha == "" {
		return refuse(http.StatusNotFound, "Not Found")
	}
	base := s.API + "repos/" + a.repo.owner + "/" + a.repo.name + "/git/"
	return ok(map[string]any{"ref": name, "node_id": "REF_1", "url": base + name, "object": map[string]any{"type": "commit", "sha": sha, "url": base + "commits/" + sha}})
}

func (s *Server) listPulls(a *asked) reply {
	if !a.token.may("pull_requests", "read") {
		return lacks("pull_requests=read")
	}
	q := a.URL.Query()
	state, list := q.Get("state"), []any{}
	for i := range a.repo.pulls {
		p := a.repo.pulls[len(a.repo.pulls)-1-i] // newest first, GitHub's default
		switch {
		case state == "" && p.closed, state == "open" && p.closed, state == "closed" && !p.closed:
			continue
		}
		// A head without its owner is ignored, as GitHub does.
		if owner, branch, full := strings.Cut(q.Get("head"), ":"); full && (branch != p.head || !strings.EqualFold(owner, a.repo.owner)) {
			continue
		}
		if b := q.Get("base"); b != "" && b != p.base {
			continue
		}
		list = append(list, s.pullJSON(a.repo, p, false))
	}
	return s.page(a, list, func(part []any) any { return part })
}

// page cuts a list as per_page and page say, with GitHub's Link header.
func (s *Server) page(a *asked, list []any, wrap func([]any) any) reply {
	q := a.URL.Query()
	per, _ := strconv.Atoi(q.Get("per_page"))
	if per < 1 || per > 100 {
		per = 30
	}
	page, _ := strconv.Atoi(q.Get("page"))
	page = max(page, 1)
	from := min((page-1)*per, len(list))
	r := ok(wrap(list[from:min(from+per, len(list))]))
	if from+per < len(list) {
		u := *a.URL
		q.Set("page", strconv.Itoa(page+1))
		u.RawQuery = q.Encode()
		r.header = http.Header{"Link": {fmt.Sprintf(`<%s%s>; rel="next"`, s.URL, u.RequestURI())}}
	}
	return r
}

func (s *Server) createPull(a *asked) reply {
	var in struct {
		Title, Head, Base, Body string
		Draft                   bool
	}
	if err := json.Unmarshal(a.body, &in); err != nil {
		return refuse(http.StatusBadRequest, "Problems parsing JSON")
	}
	if !a.token.may("pull_requests", "write") {
		return lacks("pull_requests=write")
	}
	r := a.repo
	head := strings.TrimPrefix(in.Head, r.owner+":")
	headSHA, baseSHA := gittest.Tip(s.t, r.dir, "refs/heads/"+head), gittest.Tip(s.t, r.dir, "refs/heads/"+in.Base)
	fault := func(field, code, message string) reply {
		e := map[string]any{"resource": "PullRequest", "code": code}
		if field != "" {
			e["field"] = field
		}
		if message != "" {
			e["message"] = message
		}
		return invalid(e)
	}
	switch {
	case r.archived:
		return refuse(http.StatusForbidden, "Repository was archived so is read-only.")
	case in.Title == "":
		return fault("title", "missing_field", "")
	case headSHA == "":
		return fault("head", "invalid", "")
	case baseSHA == "":
		return fault("base", "invalid", "")
	case in.Draft && r.noDrafts:
		return refuse(http.StatusUnprocessableEntity, "Draft pull requests are not supported in this repository.")
	case gittest.Git(s.t, r.dir, "rev-list", "--count", baseSHA+".."+headSHA) == "0":
		return fault("", "custom", fmt.Sprintf("No commits between %s and %s", in.Base, head))
	}
	for _, p := range r.pulls {
		if !p.closed && p.head == head && p.base == in.Base {
			return fault("", "custom", fmt.Sprintf("A pull request already exists for %s:%s.", r.owner, head))
		}
	}
	p := s.openLocked(r, a.token.Login, head, in.Base, in.Title, in.Body, in.Draft)
	return reply{status: http.StatusCreated, body: s.pullJSON(r, p, true)}
}

func (s *Server) getPull(a *asked) reply {
	if !a.token.may("pull_requests", "read") {
		return lacks("pull_requests=read")
	}
	return ok(s.pullJSON(a.repo, a.pull, true))
}

func (s *Server) editPull(a *asked) reply {
	var in struct{ Title, Body, State, Base *string }
	if err := json.Unmarshal(a.body, &in); err != nil {
		return refuse(http.StatusBadRequest, "Problems parsing JSON")
	}
	if !a.token.may("pull_requests", "write") {
		return lacks("pull_requests=write")
	}
	p := a.pull
	for to, from := range map[*string]*string{&p.title: in.Title, &p.body: in.Body, &p.base: in.Base} {
		if from != nil {
			*to = *from
		}
	}
	if in.State != nil {
		p.headSHA = s.headLocked(a.repo, p)
		p.closed = *in.State == "closed"
	}
	p.updated = stamp()
	return ok(s.pullJSON(a.repo, p, true))
}

func (s *Server) listReviews(a *asked) reply {
	list := []any{}
	for _, r := range a.pull.reviews {
		list = append(list, s.reviewJSON(a.repo, a.pull, r))
	}
	return s.page(a, list, func(part []any) any { return part })
}

func (s *Server) listChecks(a *asked) reply {
	if !a.token.may("checks", "read") {
		return lacks("checks=read")
	}
	list := []any{}
	for i, c := range a.repo.checks[a.PathValue("ref")] {
		list = append(list, s.checkJSON(a.repo, a.PathValue("ref"), i, c))
	}
	return s.page(a, list, func(part []any) any { return map[string]any{"total_count": len(list), "check_runs": part} })
}

func (s *Server) combinedStatus(a *asked) reply {
	if !a.token.may("statuses", "read") {
		return lacks("statuses=read")
	}
	return ok(s.statusJSON(a.repo, a.PathValue("ref")))
}
