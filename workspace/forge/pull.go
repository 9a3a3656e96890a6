package forge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-github/v62/github"

	"github.com/samnode/samnode/chat"
)

// Our part of a body stands between two comments. The first carries a hash of
// the title we gave, so that a title which a person changed is left alone.
var markRE = regexp.MustCompile(`(?s)<!-- samnode begin ([0-9a-f]{12}) -->\n.*?\n<!-- samnode end -->`)

func mark(title, body string) string {
	body = strings.ReplaceAll(body, "<!--", "&lt;!--")
	return "<!-- samnode begin " + titleHash(title) + " -->\n" + body + "\n<!-- samnode end -->"
}

func titleHash(title string) string {
	sum := sha256.Sum256([]byte(title))
	return hex.EncodeToString(sum[:6])
}

// EnsurePull makes the branch's pull request what the spec says: opened if
// there is none, else updated in place. One that is merged or closed is
// returned as it is (unless Again); so is one that samnode did not open.
func (g *GitHub) EnsurePull(ctx context.Context, s Spec) (chat.PullRequest, error) {
	// Twice: somebody may open one between the look and the attempt.
	for try := 1; ; try++ {
		pr, err := g.find(ctx, s.Head)
		if err != nil {
			return chat.PullRequest{}, err
		}
		if pr != nil && (pr.GetState() == "open" || !s.Again) {
			if pr.GetState() != "open" {
				return pullRequest(pr), nil
			}
			return g.update(ctx, pr, s)
		}
		pr, err = g.create(ctx, s)
		if err != nil && alreadyExists(err) && try == 1 {
			continue
		}
		if err != nil {
			return chat.PullRequest{}, explain("opening the pull request", err)
		}
		return pullRequest(pr), nil
	}
}

// find returns the branch's open pull request, or else its newest one, or nil.
func (g *GitHub) find(ctx context.Context, head string) (*github.PullRequest, error) {
	prs, _, err := g.client.PullRequests.List(ctx, g.place.Owner, g.place.Name, &github.PullRequestListOptions{
		State: "all", Head: g.place.Owner + ":" + head, Sort: "created", Direction: "desc",
		ListOptions: github.ListOptions{PerPage: 100},
	})
	if err != nil {
		return nil, explain("looking for the pull request", err)
	}
	var best *github.PullRequest
	for _, pr := range prs {
		// The head filter is ignored when it does not parse; trust the answer only.
		if pr.GetHead().GetRef() != head || !strings.EqualFold(pr.GetHead().GetRepo().GetFullName(), g.place.Owner+"/"+g.place.Name) {
			continue
		}
		if best == nil || pr.GetState() == "open" && best.GetState() != "open" {
			best = pr
		}
	}
	return best, nil
}

func (g *GitHub) create(ctx context.Context, s Spec) (*github.PullRequest, error) {
	want := &github.NewPullRequest{
		Title: github.String(s.Title), Head: github.String(s.Head), Base: github.String(s.Base),
		Body: github.String(mark(s.Title, s.Body)), Draft: github.Bool(s.Draft), MaintainerCanModify: github.Bool(true),
	}
	pr, _, err := g.client.PullRequests.Create(ctx, g.place.Owner, g.place.Name, want)
	if e, ok := errors.AsType[*github.ErrorResponse](err); ok && s.Draft && strings.Contains(strings.ToLower(words(e)), "draft pull requests are not supported") {
		want.Draft = github.Bool(false) // private repositories of free plans have no drafts
		pr, _, err = g.client.PullRequests.Create(ctx, g.place.Owner, g.place.Name, want)
	}
	return pr, err
}

func alreadyExists(err error) bool {
	e, ok := errors.AsType[*github.ErrorResponse](err)
	return ok && strings.Contains(strings.ToLower(words(e)), "already exists")
}

// update changes what differs, in an open pull request of ours.
func (g *GitHub) update(ctx context.Context, pr *github.PullRequest, s Spec) (chat.PullRequest, error) {
	m := markRE.FindStringSubmatchIndex(strings.ReplaceAll(pr.GetBody(), "\r\n", "\n"))
	if m == nil {
		return pullRequest(pr), nil
	}
	body := strings.ReplaceAll(pr.GetBody(), "\r\n", "\n")
	change := &github.PullRequest{}
	title := pr.GetTitle()
	if titleHash(title) == body[m[2]:m[3]] && s.Title != "" {
		title = s.Title
	}
	if title != pr.GetTitle() {
		change.Title = github.String(title)
	}
	// A person's title stays a person's: the hash that does not match is kept.
	ours := mark(s.Title, s.Body)
	if titleHash(title) != titleHash(s.Title) {
		ours = strings.Replace(ours, titleHash(s.Title), body[m[2]:m[3]], 1)
	}
	if text := body[:m[0]] + ours + body[m[1]:]; text != body {
		change.Body = github.String(text)
	}
	if s.Base != "" && pr.GetBase().GetRef() != s.Base {
		change.Base = &github.PullRequestBranch{Ref: github.String(s.Base)}
	}
	if change.Title != nil || change.Body != nil || change.Base != nil {
		edited, _, err := g.client.PullRequests.Edit(ctx, g.place.Owner, g.place.Name, pr.GetNumber(), change)
		if err != nil {
			return chat.PullRequest{}, explain("updating the pull request", err)
		}
		pr = edited
	}
	if pr.GetDraft() && !s.Draft {
		if err := g.ready(ctx, pr.GetNodeID()); err != nil {
			return chat.PullRequest{}, err
		}
		pr.Draft = github.Bool(false)
	}
	return pullRequest(pr), nil
}

const readyMutation = `mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }`

// ready makes a draft ready for review. The REST API cannot.
func (g *GitHub) ready(ctx context.Context, node string) error {
	const doing = "marking the pull request ready for review"
	req, err := g.client.NewRequest(http.MethodPost, g.graph, map[string]any{
		"query": readyMutation, "variables": map[string]string{"id": node},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	var answer struct {
		Errors []struct{ Type, Message string }
	}
	if _, err := g.client.Do(ctx, req, &answer); err != nil {
		return explain(doing, err)
	}
	if len(answer.Errors) == 0 {
		return nil
	}
	e := &Error{Kind: ErrInvalid, Text: doing + ": GitHub refused it: " + answer.Errors[0].Message, Out: answer.Errors[0].Message}
	switch answer.Errors[0].Type {
	case "FORBIDDEN", "INSUFFICIENT_SCOPES":
		e.Kind = ErrPermission
	case "NOT_FOUND":
		e.Kind = ErrNotFound
	case "RATE_LIMITED":
		e.Kind = ErrRateLimit
	}
	return e
}

// pullRequest is GitHub's value in our words.
func pullRequest(pr *github.PullRequest) chat.PullRequest {
	state := pr.GetState()
	switch {
	case pr.GetMerged() || !pr.GetMergedAt().IsZero():
		state = "merged"
	case state == "open" && pr.GetDraft():
		state = "draft"
	}
	return chat.PullRequest{Number: pr.GetNumber(), URL: pr.GetHTMLURL(), State: state, Title: pr.GetTitle(), Seen: now()}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func timeIn(d time.Duration) time.Time { return time.Now().Add(d) }
