package hetzner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

// subject is what a call was about, for its error's sentence.
type subject struct {
	doing string          // "creating the server x"
	order provision.Order // of a create
}

func about(format string, args ...any) subject { return subject{doing: fmt.Sprintf(format, args...)} }

func refuse(t provision.Trouble, err error, format string, args ...any) *provision.ProviderError {
	return &provision.ProviderError{Trouble: t, Text: fmt.Sprintf(format, args...), Err: err}
}

// explain makes a refusal of what a call returned.
func explain(s subject, resp *hcloud.Response, err error) *provision.ProviderError {
	var (
		known *provision.ProviderError
		spent spentError
		api   hcloud.Error
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &spent):
		e := refuse(provision.NoBudget, err, "The allowance of calls to Hetzner is used up: %s goes on in %s.", s.doing, soon(spent.wait))
		e.Wait = spent.wait
		return e
	case errors.As(err, &api):
		return s.answered(api, wait(resp))
	case errors.Is(err, hcloud.ErrStatusCode) && resp != nil && resp.Response != nil:
		return s.bare(resp.StatusCode, wait(resp), err)
	}
	var arg hcloud.ArgumentError
	if errors.As(err, &arg) {
		return refuse(provision.BadOrder, err, "Hetzner's library refuses %s: %s. This is a fault of samnode's: upgrade it, or report it.", s.doing, clip(arg.Error()))
	}
	return s.unanswered(resp, err)
}

// unanswered is for calls without an answer that can be read.
func (s subject) unanswered(resp *hcloud.Response, err error) *provision.ProviderError {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return refuse(provision.Unreachable, err, "%s was given up before Hetzner answered; samnode looks later what came of it.", upper(s.doing))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return refuse(provision.Unreachable, err, "Hetzner did not answer in time to %s; it may be done all the same, and samnode looks again.", s.doing)
	case resp != nil && resp.Response != nil:
		return refuse(provision.Unreachable, err, "What Hetzner answered to %s (status %d) cannot be read; samnode asks again. If it stays so, see whether there is a proxy in between.", s.doing, resp.StatusCode)
	}
	return refuse(provision.Unreachable, err, "There is no answer from Hetzner to %s (%s); samnode asks again.", s.doing, clip(err.Error()))
}

// answered is for Hetzner's own error codes.
func (s subject) answered(e hcloud.Error, wait time.Duration) *provision.ProviderError {
	var p *provision.ProviderError
	switch e.Code { // what is not here is told by its status
	case hcloud.ErrorCodeUnauthorized:
		p = refuse(provision.Denied, e, "Hetzner does not know the API token and so refuses %s: %s", s.doing, newToken)
	case hcloud.ErrorCodeForbidden, "token_readonly":
		p = refuse(provision.Denied, e, "The Hetzner API token may not do this (%s: %s), it probably may only read: %s", s.doing, clip(e.Message), newToken)
	case hcloud.ErrorCodeNotFound:
		p = s.missing(e)
	case hcloud.ErrorCodeInvalidInput:
		p = s.invalid(e)
	case hcloud.ErrorCodeResourceUnavailable, hcloud.ErrorCodePlacementError:
		p = s.soldOut(e)
	case hcloud.ErrorCodeInvalidServerType:
		p = refuse(provision.BadOffer, e, "Hetzner does not make servers of type %s any more, or not with this image (%s); %s", s.order.Type, clip(e.Message), nextChoice)
	case hcloud.ErrorCodeUniquenessError: // whose it is, only a look tells
		p = refuse(provision.Unreachable, e, "Hetzner has something of that name already and did not show whose it is (%s); samnode looks again.", s.doing)
	case hcloud.ErrorCodeRateLimitExceeded:
		p = refuse(provision.NoBudget, e, "Hetzner wants fewer calls: %s goes on in %s.", s.doing, soon(max(wait, time.Second)))
	case hcloud.ErrorCodeProtected:
		p = refuse(provision.Busy, e, "Hetzner refuses %s because somebody protected it: take the protection away in the Hetzner console. Until then samnode tries again.", s.doing)
	case hcloud.ErrorCodeLocked, hcloud.ErrorCodeConflict, hcloud.ErrorCodeResourceLocked, "must_be_unassigned":
		p = refuse(provision.Busy, e, "Hetzner is doing something else with it (%[2]s), so %[1]s is tried again later.", s.doing, clip(e.Message))
	case hcloud.ErrorDeprecatedAPIEndpoint:
		p = refuse(provision.BadOrder, e, "Hetzner took away what this samnode uses for %s: upgrade samnode.", s.doing)
	case hcloud.ErrorCodeMaintenance, hcloud.ErrorCodeServiceError, hcloud.ErrorCodeServerError, hcloud.ErrorCodeBadGateway,
		hcloud.ErrorCodeTimeout, hcloud.ErrorCodeUnknownError, hcloud.ErrorCodeRobotUnavailable:
		p = refuse(provision.Unreachable, e, "Hetzner has trouble of its own with %s (%s); samnode tries again.", s.doing, clip(e.Message))
	default:
		p = s.other(e)
	}
	p.Wait = wait
	return p
}

// other is for codes that are new or rare.
func (s subject) other(e hcloud.Error) *provision.ProviderError {
	if strings.Contains(string(e.Code), "limit_exceeded") || strings.Contains(string(e.Code), "limit_reached") {
		name := limits(e)
		return refuse(provision.NoQuota, e, "Hetzner allows this account no more (%s): delete what is not needed, or ask for more in the Hetzner console under Limits. Tasks wait until then.", name)
	}
	status := 0
	if r := e.Response(); r != nil {
		status = r.StatusCode
	}
	t := ofStatus(status)
	return refuse(t, e, "Hetzner refuses %s: %s (%s). %s", s.doing, clip(e.Message), e.Code, next(t))
}

// bare is for answers with a status and nothing else, most of them not by the
// API but by what stands before it.
func (s subject) bare(status int, wait time.Duration, err error) *provision.ProviderError {
	t := ofStatus(status)
	p := refuse(t, err, "Hetzner answered %s with %d %s and no reason. %s", s.doing, status, http.StatusText(status), next(t))
	p.Wait = wait
	return p
}

// What a person is told to do, or what samnode does, in more than one sentence.
const (
	newToken   = "make a new one with read and write rights in the Hetzner console and give it to samnode (samnode secret set HCLOUD_TOKEN)."
	nextChoice = "the next type or location is tried."
)

// next is what follows a refusal that says little.
func next(t provision.Trouble) string {
	switch t { //nolint:exhaustive // the others pass by themselves
	case provision.Denied:
		return "Look in the Hetzner console whether the account is in order, or " + newToken
	case provision.BadOrder:
		return "Trying again will not help: look at the settings of the pool, or upgrade samnode."
	case provision.SoldOut:
		return upper(nextChoice)
	}
	return "It is tried again."
}

// ofStatus: a 404 without the API's code for it is by something in between that
// knows no such page, and does not say that there is no such server.
func ofStatus(status int) provision.Trouble {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return provision.Denied
	case http.StatusNotFound, http.StatusRequestTimeout:
		return provision.Unreachable
	case http.StatusConflict, http.StatusLocked:
		return provision.Busy
	case http.StatusPreconditionFailed:
		return provision.SoldOut
	case http.StatusTooManyRequests:
		return provision.NoBudget
	}
	if status >= 400 && status < 500 {
		return provision.BadOrder
	}
	return provision.Unreachable
}

// limits are the names of the limits that were reached. The library does not
// keep them.
func limits(e hcloud.Error) string {
	var body struct {
		Error struct {
			Details struct {
				Limits []struct {
					Name string `json:"name"`
				} `json:"limits"`
			} `json:"details"`
		} `json:"error"`
	}
	if r := e.Response(); r != nil && r.Response != nil && r.Body != nil {
		data, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		if err != nil || json.Unmarshal(data, &body) != nil {
			return string(e.Code) // details of another shape: the code has to do
		}
	}
	var names []string
	for _, l := range body.Error.Details.Limits {
		names = append(names, clip(l.Name))
	}
	if len(names) == 0 {
		return string(e.Code)
	}
	return strings.Join(names, ", ")
}

func wait(resp *hcloud.Response) time.Duration {
	if resp == nil || resp.Response == nil {
		return 0
	}
	d, _ := retryAfter(time.Now(), resp.Header)
	return min(d, maxPause)
}

func soon(d time.Duration) string { return max(d, time.Second).Round(time.Second).String() }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// clip keeps what others wrote short, on one line and without its full stop.
func clip(s string) string {
	s = strings.TrimRight(strings.Join(strings.Fields(s), " "), ".")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
