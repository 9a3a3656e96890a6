package githubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// graphQL knows the two documents that are needed: who asks, and the mutation
// that makes a draft ready. Errors come with status 200, as GitHub sends them.
func (s *Server) graphQL(a *asked) reply {
	var in struct {
		Query     string
		Variables map[string]any
	}
	if err := json.Unmarshal(a.body, &in); err != nil {
		return refuse(http.StatusBadRequest, "Problems parsing JSON")
	}
	switch {
	case strings.Contains(in.Query, "markPullRequestReadyForReview"):
		return s.markReady(a, fmt.Sprint(in.Variables["id"]))
	case strings.Contains(in.Query, "viewer"):
		return ok(object{"data": object{"viewer": object{"login": a.token.Login}}})
	}
	return graphError("undefinedField", "this GitHub knows no such document")
}

func (s *Server) markReady(a *asked, node string) reply {
	for _, r := range s.repos {
		for _, p := range r.pulls {
			if fmt.Sprintf("PR_%d", p.id) != node || !a.token.sees(r) {
				continue
			}
			if !a.token.may("pull_requests", "write") {
				return graphError("FORBIDDEN", "Resource not accessible by integration")
			}
			if p.closed {
				return graphError("UNPROCESSABLE", "Pull request is closed")
			}
			p.draft, p.updated = false, stamp()
			return ok(object{"data": object{"markPullRequestReadyForReview": object{"pullRequest": object{"isDraft": false}}}})
		}
	}
	return graphError("NOT_FOUND", fmt.Sprintf("Could not resolve to a node with the global id of '%s'", node))
}

func graphError(kind, message string) reply {
	return ok(object{"data": nil, "errors": []any{object{"type": kind, "message": message}}})
}
