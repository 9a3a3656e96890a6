package hetzner

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// transport is the one door to Hetzner: every call is paid for here.
type transport struct {
	next   http.RoundTripper
	budget *allowance
	log    *slog.Logger
}

// spentError says that a call was not made.
type spentError struct{ wait time.Duration }

func (e spentError) Error() string {
	return fmt.Sprintf("the allowance of calls to Hetzner is used up for %s", e.wait.Round(time.Second))
}

// RoundTrip makes the call if there is a token for it.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	kind, began := kindOf(req), time.Now()
	if wait, ok := t.budget.spend(began, kind); !ok {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, spentError{wait}
	}
	resp, err := t.next.RoundTrip(req)
	status := 0
	if err == nil {
		status = resp.StatusCode
		t.budget.learn(time.Now(), status, resp.Header)
		if pause := t.budget.pause(time.Now()); status == http.StatusTooManyRequests && pause > 0 {
			resp.Header.Set("Retry-After", strconv.Itoa(int(math.Ceil(pause.Seconds())))) // for the caller, where Hetzner gave none
		}
	}
	t.log.Debug("called Hetzner", "method", req.Method, "path", req.URL.Path, "status", status, "took", time.Since(began), "err", err)
	return resp, err
}

func kindOf(req *http.Request) string {
	dir, base := path.Split(req.URL.Path)
	resource := base
	if strings.HasSuffix(dir, "/servers/") {
		resource = "server"
	}
	switch {
	case req.Method == http.MethodDelete:
		return kindDelete
	case strings.Contains(req.URL.Path, "/primary_ips"):
		return kindAddress
	case req.Method == http.MethodPost && resource == "servers":
		return kindCreate
	case req.Method != http.MethodGet:
		return kindOther
	}
	switch resource {
	case "servers":
		return kindList
	case "server":
		return kindGet
	case "actions":
		return kindAction
	case "server_types", "pricing", "locations", "images", "ssh_keys":
		return kindCatalog
	}
	return kindOther
}
