package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/google/go-github/v62/github"
)

// explain makes a sentence of what GitHub or the network answered.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*github.RateLimitError](err); ok {
		reset := e.Rate.Reset.Time
		return &Error{Kind: ErrRateLimit, Reset: reset, Out: e.Message, Text: fmt.Sprintf("%s: GitHub's rate limit is used up; it begins again %s", doing, until(reset))}
	}
	if e, ok := errors.AsType[*github.AbuseRateLimitError](err); ok {
		wait := &Error{Kind: ErrRateLimit, Out: e.Message}
		if e.RetryAfter != nil {
			wait.Reset = timeIn(*e.RetryAfter)
		}
		wait.Text = fmt.Sprintf("%s: GitHub asks to slow down; try %s", doing, until(wait.Reset))
		return wait
	}
	if e, ok := errors.AsType[*github.ErrorResponse](err); ok {
		return answered(doing, e)
	}
	if e, ok := errors.AsType[*ghinstallation.HTTPError](err); ok && e.Response != nil {
		return appRefused(doing, e)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return &Error{Kind: ErrNetwork, Text: doing + ": GitHub could not be reached; it can be tried again", Out: e.Err.Error()}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func appRefused(doing string, e *ghinstallation.HTTPError) error {
	out := &Error{Kind: ErrCredentials, Out: e.Message}
	switch {
	case e.Response.StatusCode == http.StatusNotFound:
		out.Text = fmt.Sprintf("%s: installation %d of the App does not exist, or is another App's", doing, e.InstallationID)
	case e.Response.StatusCode == http.StatusUnprocessableEntity:
		out.Kind = ErrPermission
		out.Text = doing + ": the App's installation does not cover this repository, or lacks a permission (contents: write, pull requests: write)"
	case e.Response.StatusCode >= 500:
		out.Kind, out.Text = ErrNetwork, doing+": GitHub failed; it can be tried again"
	default:
		out.Text = doing + ": GitHub refused the App's id or private key"
	}
	return out
}

// answered explains an error that GitHub sent.
func answered(doing string, e *github.ErrorResponse) error {
	out := &Error{Out: words(e)}
	if e.Response == nil {
		return fmt.Errorf("%s: %w", doing, e)
	}
	head := e.Response.Header
	switch code := e.Response.StatusCode; {
	case code == http.StatusUnauthorized:
		out.Kind, out.Text = ErrCredentials, doing+": GitHub refused the token (GITHUB_TOKEN); it may have expired"
	case strings.HasPrefix(head.Get("X-Github-Sso"), "required"):
		_, link, _ := strings.Cut(head.Get("X-Github-Sso"), "url=")
		out.Kind, out.Text = ErrSSO, doing+": the token must be authorised for the organisation's single sign-on: "+link
	case code == http.StatusTooManyRequests:
		out.Kind, out.Text = ErrRateLimit, doing+": GitHub asks to slow down"
	case code == http.StatusForbidden:
		out.Kind, out.Text = ErrPermission, doing+": the token may not do that"+lacking(head)
	case code == http.StatusNotFound:
		out.Kind, out.Text = ErrNotFound, doing+": GitHub does not know it, or the token (GITHUB_TOKEN) may not see it"
	case code == http.StatusUnprocessableEntity:
		out.Text, out.Kind = invalid(doing, out.Out)
	case code >= 500:
		out.Kind, out.Text = ErrNetwork, fmt.Sprintf("%s: GitHub failed (%d); it can be tried again", doing, code)
	default:
		out.Kind, out.Text = ErrInvalid, fmt.Sprintf("%s: GitHub answered %d: %s", doing, code, out.Out)
	}
	return out
}

// lacking names the permission that would do, where GitHub tells.
func lacking(head http.Header) string {
	if p := head.Get("X-Accepted-Github-Permissions"); p != "" {
		return "; it needs " + p
	}
	if p := head.Get("X-Accepted-Oauth-Scopes"); p != "" {
		return "; it needs the scope " + p
	}
	return ""
}

func invalid(doing, out string) (text string, kind error) {
	low := strings.ToLower(out)
	switch {
	case strings.Contains(low, "no commits between"):
		return doing + ": the branch has no commits that the base lacks", ErrNoCommits
	case strings.Contains(low, "field base"), strings.Contains(low, "field head"):
		which := "base branch"
		if strings.Contains(low, "field head") {
			which = "task's branch"
		}
		return doing + ": the " + which + " is not on GitHub", ErrNoBranch
	}
	return doing + ": GitHub refused it: " + out, ErrInvalid
}

// words joins what GitHub said in its message and its list of errors.
func words(e *github.ErrorResponse) string {
	parts := []string{e.Message}
	for _, sub := range e.Errors {
		switch {
		case sub.Message != "":
			parts = append(parts, sub.Message)
		case sub.Field != "":
			parts = append(parts, "field "+sub.Field+" is "+sub.Code)
		}
	}
	return strings.Join(parts, "; ")
}
