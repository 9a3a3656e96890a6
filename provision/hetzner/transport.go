package hetzner

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer. A page of 50 servers has a few
// hundred kilobytes.
const maxAnswer = 8 << 20

// transport is the one door to Hetzner: every call is paid for here, and every
// answer has an end.
type transport struct {
	next   http.RoundTripper
	budget *allowance
	token  string
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
		if err = t.read(resp); err != nil {
			resp = nil
		}
	}
	t.log.Debug("called Hetzner", "method", req.Method, "path", req.URL.Path, "status", status, "took", time.Since(began), "err", err)
	return resp, err
}

// read takes the whole of an answer. Should something in between have sent the
// token back, it is taken out, so that no error and no log can hold it.
func (t *transport) read(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	resp.Body.Close()
	switch {
	case err != nil:
		return fmt.Errorf("reading the answer: %w", err)
	case len(data) > maxAnswer:
		return fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	data = bytes.ReplaceAll(data, []byte(t.token), []byte("[token]"))
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	return nil
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
