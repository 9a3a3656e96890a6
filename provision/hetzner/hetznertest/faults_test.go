package hetznertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHealEndsEverything(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Cloud){
		"sold out":           func(c *Cloud) { c.SellOut("cx23", "nbg1", true) },
		"unsupported":        func(c *Cloud) { c.Unsupport("cx23", "nbg1") },
		"closed":             func(c *Cloud) { c.CloseLocation("nbg1") },
		"a type that left":   func(c *Cloud) { c.RemoveType("cx23") },
		"an image that left": func(c *Cloud) { c.RemoveImage("debian-12") },
		"no room":            func(c *Cloud) { c.Limit(0) },
		"read only":          (*Cloud).ReadOnly,
		"revoked":            (*Cloud).Revoke,
		"down":               func(c *Cloud) { c.Break(Down(time.Hour)) },
		"a failing action":   func(c *Cloud) { c.FailAction(Failure{Command: "create_server", Code: "x", Message: "y"}) },
		"slow deletes":       func(c *Cloud) { c.SlowDelete(time.Hour) },
		"a lag":              func(c *Cloud) { c.Lag(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{}, func(c client) {
				spoil(c.cloud)
				c.cloud.Heal()
				at := c.want(200, "GET", "/server_types?name=cx23", "")["server_types"].([]any)[0].(map[string]any)["locations"].([]any)[1].(map[string]any)
				if at["name"] != "nbg1" || at["available"] != true {
					c.Errorf("it is sold at %v", at)
				}
				c.want(201, "POST", "/servers", x1)
				time.Sleep(10 * time.Second)
				if n := names(c.want(200, "GET", "/servers?status=running", "")); len(n) != 1 {
					c.Errorf("running: %v", n)
				}
				c.cloud.Remove(c.cloud.Alive()[0].ID)
				id := c.want(201, "POST", "/servers", x1)["server"].(map[string]any)["id"]
				time.Sleep(10 * time.Second)
				c.want(200, "DELETE", fmt.Sprintf("/servers/%.0f", id), "")
				time.Sleep(5 * time.Second)
				if left := c.cloud.Alive(); len(left) != 0 {
					c.Errorf("left: %+v", left)
				}
			})
		})
	}
}

// What goes wrong with an answer goes wrong in the same way over a connection and
// without one.
func TestAnswersThatGoWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		f    Fault
		body string // of the answer
		err  error
		made int
	}{
		"reset after it":  {f: AnswerReset(), made: 1, err: io.EOF}, // what a connection shows, see below
		"reset before it": {f: Fault{On: "POST /servers", Reset: true}, err: io.EOF},
		"hangs after it":  {f: AnswerHangs(), made: 1, err: context.DeadlineExceeded},
		"hangs before it": {f: CreateHangs(), err: context.DeadlineExceeded},
		"garbled":         {f: AnswerGarbled(), made: 1, body: `{"server":{"id":10`},
		"too late":        {f: Fault{On: "POST /servers", Delay: time.Hour}, made: 1, err: context.DeadlineExceeded},
		"late":            {f: Fault{On: "POST /servers", Delay: time.Millisecond}, made: 1, body: `{"action":`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, transport := range map[string]func(*Cloud) (string, http.RoundTripper){
				"connection": func(c *Cloud) (string, http.RoundTripper) { return c.URL, http.DefaultTransport },
				"none":       func(c *Cloud) (string, http.RoundTripper) { return "http://hetzner.test/v1", c.Transport() },
			} {
				cloud := Start(t, Config{})
				cloud.Break(c.f)
				url, next := transport(cloud)
				patience := time.Minute
				if errors.Is(c.err, context.DeadlineExceeded) {
					patience = time.Second
				}
				body, err := post(t, next, url+"/servers", patience)
				reset := errors.Is(c.err, io.EOF) && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET))
				if !errors.Is(err, c.err) && !reset || !strings.HasPrefix(body, c.body) || len(cloud.Ever()) != c.made {
					t.Errorf("%s: %.40q, %v; %d servers", how, body, err, len(cloud.Ever()))
				}
			}
		})
	}
}

// post orders a server, and waits that long.
func post(t *testing.T, next http.RoundTripper, url string, patience time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(x1)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer any")
	resp, err := next.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}
