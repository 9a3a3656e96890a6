package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-github/v62/github"
)

// maxCached bounds what conditional requests remember of one repository.
const maxCached = 500

// cached is an answer with the tag that asks "has it changed?".
type cached struct {
	etag string
	next int // page
	body []byte
}

// get asks for a path unless it did not change; that costs none of the rate
// limit. next is the number of the following page, 0 if there is none.
func (g *GitHub) get(ctx context.Context, path string, v any) (next int, err error) {
	req, err := g.client.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return 0, err
	}
	g.mu.Lock()
	old, known := g.cache[path]
	g.mu.Unlock()
	if known {
		req.Header.Set("If-None-Match", old.etag)
	}
	var body bytes.Buffer
	res, err := g.client.Do(ctx, req, &body)
	if e, ok := errors.AsType[*github.ErrorResponse](err); ok && known && e.Response.StatusCode == http.StatusNotModified {
		return old.next, json.Unmarshal(old.body, v)
	}
	if err != nil {
		return 0, err
	}
	if etag := res.Header.Get("ETag"); etag != "" {
		g.mu.Lock()
		if len(g.cache) >= maxCached {
			clear(g.cache)
		}
		g.cache[path] = cached{etag: etag, next: res.NextPage, body: body.Bytes()}
		g.mu.Unlock()
	}
	return res.NextPage, json.Unmarshal(body.Bytes(), v)
}

// Status asks how a pull request stands, by conditional requests.
func (g *GitHub) Status(ctx context.Context, number int) (Status, error) {
	const doing = "asking for the pull request"
	var pr github.PullRequest
	if _, err := g.get(ctx, fmt.Sprintf("repos/%s/pulls/%d", g.repo, number), &pr); err != nil {
		return Status{}, explain(doing, err)
	}
	s := Status{
		Pull: pullRequest(&pr), Head: pr.GetHead().GetSHA(), Base: pr.GetBase().GetRef(),
		Conflicts: pr.GetMergeableState() == "dirty" || pr.Mergeable != nil && !pr.GetMergeable(),
	}
	if err := g.checks(ctx, &s); err != nil {
		return Status{}, explain("asking for the checks", err)
	}
	said, err := g.reviews(ctx, number, &s)
	if err != nil {
		return Status{}, explain("asking for the reviews", err)
	}
	g.mu.Lock()
	old, before := g.seen[number]
	s.Notes = news(old, before, s, said)
	keep := s
	keep.Notes = said
	g.seen[number] = keep
	g.mu.Unlock()
	return s, nil
}

// checks adds up check runs and the older commit statuses. A repository that
// hides either from the token has none of that kind.
func (g *GitHub) checks(ctx context.Context, s *Status) error {
	pending := 0
	add := func(name, state string) {
		s.Total++
		switch state {
		case "success", "neutral", "skipped":
			s.Passed++
		case "", "pending", "stale":
			pending++
		default: // failure, error, timed_out, cancelled, action_required, startup_failure
			s.Failing = append(s.Failing, name)
		}
	}
	for page := 1; page != 0; {
		var runs github.ListCheckRunsResults
		next, err := g.get(ctx, fmt.Sprintf("repos/%s/commits/%s/check-runs?per_page=100&page=%d", g.repo, s.Head, page), &runs)
		if err != nil && !hidden(err) {
			return err
		}
		for _, r := range runs.CheckRuns {
			state := ""
			if r.GetStatus() == "completed" {
				state = r.GetConclusion()
			}
			add(r.GetName(), state)
		}
		page = next
	}
	var all github.CombinedStatus
	if _, err := g.get(ctx, fmt.Sprintf("repos/%s/commits/%s/status?per_page=100", g.repo, s.Head), &all); err != nil && !hidden(err) {
		return err
	}
	for _, st := range all.Statuses {
		add(st.GetContext(), st.GetState())
	}
	slices.Sort(s.Failing)
	switch {
	case len(s.Failing) > 0:
		s.Pull.Checks = "failure"
	case pending > 0:
		s.Pull.Checks = "pending"
	case s.Total > 0:
		s.Pull.Checks = "success"
	}
	return nil
}

func hidden(err error) bool {
	e, ok := errors.AsType[*github.ErrorResponse](err)
	return ok && (e.Response.StatusCode == http.StatusForbidden || e.Response.StatusCode == http.StatusNotFound)
}

// reviews takes each person's last word, and returns a sentence per review.
func (g *GitHub) reviews(ctx context.Context, number int, s *Status) ([]string, error) {
	var said []string
	words := map[string]string{}
	for page := 1; page != 0; {
		var list []*github.PullRequestReview
		next, err := g.get(ctx, fmt.Sprintf("repos/%s/pulls/%d/reviews?per_page=100&page=%d", g.repo, number, page), &list)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			who := r.GetUser().GetLogin()
			switch r.GetState() {
			case "APPROVED", "CHANGES_REQUESTED", "DISMISSED":
				words[who] = r.GetState()
			}
			if line := reviewNote(who, r); line != "" {
				said = append(said, line)
			}
		}
		page = next
	}
	for _, w := range words {
		switch {
		case w == "CHANGES_REQUESTED":
			s.Pull.Review = "changes_requested"
		case w == "APPROVED" && s.Pull.Review == "":
			s.Pull.Review = "approved"
		}
	}
	return said, nil
}

func reviewNote(who string, r *github.PullRequestReview) string {
	what := map[string]string{"APPROVED": " approved", "CHANGES_REQUESTED": " asked for changes", "COMMENTED": " commented", "DISMISSED": "'s review was dismissed"}[r.GetState()]
	if what == "" {
		return ""
	}
	text := strings.Join(strings.Fields(r.GetBody()), " ")
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "…"
	}
	if text != "" {
		text = ": " + text
	}
	return who + what + text
}

// news says what changed between two looks. old.Notes are the reviews that
// were known then.
func news(old Status, before bool, s Status, said []string) []string {
	var notes []string
	if before && old.Pull.State != s.Pull.State {
		switch s.Pull.State {
		case "open":
			if old.Pull.State == "draft" {
				notes = append(notes, "The pull request is ready for review.")
			} else {
				notes = append(notes, "The pull request was opened again.")
			}
		case "draft":
			notes = append(notes, "The pull request is a draft again.")
		default:
			notes = append(notes, "The pull request was "+s.Pull.State+".")
		}
	}
	if s.Pull.Checks != old.Pull.Checks || !slices.Equal(s.Failing, old.Failing) {
		switch s.Pull.Checks {
		case "failure":
			notes = append(notes, fmt.Sprintf("Checks failed (%d of %d passed): %s.", s.Passed, s.Total, strings.Join(s.Failing, ", ")))
		case "success":
			notes = append(notes, fmt.Sprintf("All %d checks passed.", s.Total))
		}
	}
	if s.Conflicts && !old.Conflicts {
		notes = append(notes, "The pull request conflicts with "+s.Base+".")
	}
	for i, line := range said {
		if i >= len(old.Notes) || old.Notes[i] != line {
			notes = append(notes, line)
		}
	}
	return notes
}
