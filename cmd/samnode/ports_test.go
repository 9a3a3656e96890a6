package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/ui/preview"
)

//go:embed testdata/preview.py
var previewServer string

// serverTask is an idle task whose workspace has the server of previews.
func serverTask(t *testing.T, n *testNode) taskView {
	t.Helper()
	must[struct{}](n, "project", "add", "app", "--repo", localRepo(t, map[string]string{"preview.py": previewServer}), "--mode", "everything")
	return must[taskView](n, "task", "run", "--project", "app", "--wait", sh("true"))
}

// listenIn starts a server in a task's workspace.
func listenIn(t *testing.T, n *testNode, task, host string, port int) {
	t.Helper()
	line := fmt.Sprintf("nohup python3 preview.py %s %d >/tmp/%d.log 2>&1 & echo $! >/tmp/%d.pid", host, port, port, port)
	if _, errs, code := n.cli("ssh", task, line); code != 0 {
		t.Fatalf("starting a server: %d %s", code, errs)
	}
}

// stopIn ends it.
func stopIn(t *testing.T, n *testNode, task string, port int) {
	t.Helper()
	if _, errs, code := n.cli("ssh", task, fmt.Sprintf("kill $(cat /tmp/%d.pid)", port)); code != 0 {
		t.Fatalf("ending a server: %d %s", code, errs)
	}
}

// previewOf is where the browser of a node's own machine finds a preview.
func previewOf(t *testing.T, n *testNode, task string, port int) string {
	t.Helper()
	u, err := url.Parse(n.url)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + preview.Target{Task: task, Port: port}.Host() + ":" + u.Port()
}

// askAt asks at a preview as a program at this machine: name resolution is the
// browser's. An answer that breaks off is asked for once more, and said.
func askAt(t *testing.T, n *testNode, method, at, body string, header ...string) (*http.Response, string) {
	t.Helper()
	resp, text, err := tryAt(t, n, method, at, body, header...)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		t.Logf("%s %s broke off after %d bytes", method, at, len(text))
		resp, text, err = tryAt(t, n, method, at, body, header...)
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, at, err)
	}
	return resp, text
}

func tryAt(t *testing.T, n *testNode, method, at, body string, header ...string) (*http.Response, string, error) {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, n.url+u.RequestURI(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = u.Host
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// attacks lets a hostile preview try everything on another one and on the chat.
func attacks(p *tab, hostile, victim, chat, task string) {
	p.t.Helper()
	p.expect(`.`)
	q := url.Values{"victim": {victim}, "chat": {chat}, "task": {task}}
	p.do(chromedp.Navigate(hostile + "/attack?" + q.Encode()))
	p.wait(`document.title === "done"`)
	var got map[string]string
	if err := json.Unmarshal([]byte(script[string](p, `document.querySelector("#out").textContent`)), &got); err != nil {
		p.t.Fatal(err)
	}
	if len(got) < 20 {
		p.t.Errorf("the hostile page tried %d things only", len(got))
	}
	for try, what := range got {
		if what != "blocked" {
			p.t.Errorf("a hostile preview at %s: %s: %s", hostile, try, what)
		}
	}
}

// TestPorts: what listens in a workspace shows in the page, with a link to a
// preview that works, and is kept apart from another one and from the page.
func TestPorts(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	v := serverTask(t, n)
	task := string(v.ID)
	p := newTab(t, n)
	p.open("/t/" + task + "/ports")
	p.shows("#ports-body", "Nothing listens")
	listenIn(t, n, task, "127.0.0.1", 3000)
	p.shows("#ports-body", "python3")
	p.shows("#ports-count", "1")
	listenIn(t, n, task, "localhost", 3001)
	listenIn(t, n, task, "0.0.0.0", 3002)
	p.wait(`document.querySelectorAll(".port").length === 3`)
	p.still()
	p.shot("ports-light")
	p.phone(390, 844)
	p.theme("dark")
	p.shot("ports-phone-dark")
	p.still()
	p.size(1280, 900)
	p.open("/t/" + task) // the count is at the tab of every view
	p.shows("#ports-count", "3")
	p.shot("ports-count-dark")

	at := previewOf(t, n, task, 3000)
	p.expect("favicon")
	p.do(chromedp.Navigate(n.url + "/t/" + task + "/ports/3000/open?path=/?from=page"))
	p.shows("#ws", "3000 heard hello")
	p.shows("#cookie", `"cookie":"session=secret3000"`)
	p.shows("#cookie", `"host":"localhost:3000"`)
	if where := script[string](p, "location.href"); where != at+"/?from=page" {
		t.Errorf("the preview is at %s, want %s", where, at)
	}
	p.do(chromedp.Reload())
	p.shows("#cookie", "secret3000")
	portsHeaders(t, n, at)
	portsPages(t, n, p, task)
	listed := must[struct{ Ports []api.Port }](n, "task", "ports", task)
	if len(listed.Ports) != 3 || listed.Ports[1].Port != 3001 || listed.Ports[1].Process != "python3" {
		t.Errorf("task ports = %+v", listed)
	}
	attacks(p, previewOf(t, n, task, 3001), at, strings.Replace(n.url, "127.0.0.1", "localhost", 1), task)
	portsUntouched(t, n, task, at)
	portsForward(t, n, task)
	m := &testMesh{t: t}
	for _, by := range []chat.VisitBy{chat.VisitPreview, chat.VisitForward} {
		m.await("the visits to say who looked by "+string(by), func() bool {
			return slices.ContainsFunc(must[[]api.Visit](n, "task", "visits", task), func(v api.Visit) bool {
				return v.By == by && strings.HasPrefix(v.What, "port 30")
			})
		})
	}
}

// portsUntouched checks that what a hostile page sent came nowhere.
func portsUntouched(t *testing.T, n *testNode, task, victim string) {
	t.Helper()
	if _, hits := askAt(t, n, "GET", victim+"/hits", ""); strings.Contains(hits, `"POST /post"`) {
		t.Errorf("a hostile page's requests came in: %s", hits)
	}
	if said := fmt.Sprint(n.items(must[taskView](n, "task", "show", task).ID)); strings.Contains(said, "evil words") {
		t.Errorf("a hostile page spoke in the chat: %s", said)
	}
}

// portsHeaders looks at what goes in and comes out.
func portsHeaders(t *testing.T, n *testNode, at string) {
	t.Helper()
	_, text := askAt(t, n, "GET", at+"/headers", "", "Tailscale-User-Login", "boss@example.com", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-User", "boss")
	if strings.Contains(text, "boss") || strings.Contains(text, "1.2.3.4") || !strings.Contains(text, `"X-Forwarded-Host": "`+strings.TrimPrefix(at, "http://")+`"`) {
		t.Errorf("the server sees %s", text)
	}
	resp, _ := askAt(t, n, "GET", at+"/abs", "")
	if to := resp.Header.Get("Location"); to != at+"/landed?a=b" {
		t.Errorf("a redirect to itself leads to %q", to)
	}
	if got := resp.Header.Get("Cross-Origin-Resource-Policy") + resp.Header.Get("X-Frame-Options"); got != "same-originSAMEORIGIN" {
		t.Errorf("answers have %q", got)
	}
	if resp, _ := askAt(t, n, "POST", at+"/post", "x", "Origin", "http://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another site's POST = %d", resp.StatusCode)
	}
	if _, sum := askAt(t, n, "POST", at+"/post-own", strings.Repeat("a", 8<<20), "Origin", at); len(sum) != 64 {
		t.Errorf("a big POST = %.100q", sum)
	}
	if _, body := askAt(t, n, "GET", at+"/big", ""); len(body) != 64<<20 {
		t.Errorf("a big answer has %d bytes", len(body))
	}
	stream, _ := askAt(t, n, "GET", at+"/events", "")
	defer stream.Body.Close()
	if line, err := bufio.NewReader(stream.Body).ReadString('\n'); line != "data: tick\n" || err != nil {
		t.Errorf("a stream begins with %q, %v", line, err)
	}
}

// portsPages are the pages of what cannot be shown.
func portsPages(t *testing.T, n *testNode, p *tab, task string) {
	t.Helper()
	p.expect(`favicon|status of (502|404|403|503)`)
	show := func(at, want, shot string) {
		t.Helper()
		p.do(chromedp.Navigate(at))
		p.shows("h1", want)
		p.still()
		if shot != "" {
			p.shot(shot)
		}
	}
	p.theme("light")
	show(n.url+"/t/"+task+"/ports/4000/open", "Nothing listens on port 4000", "ports-closed-light")
	p.shows("ul", "3000")
	p.phone(390, 844)
	p.theme("dark")
	p.shot("ports-closed-phone-dark")
	p.size(1280, 900)
	for _, port := range []int{7101, 7102, 7103} {
		show(previewOf(t, n, task, port), fmt.Sprintf("Port %d is not shown", port), "")
		if _, errs, code := n.cli("forward", task, strconv.Itoa(port)); code != exitRefused || !strings.Contains(errs, "own way out") {
			t.Errorf("forwarding port %d = %d: %s", port, code, errs)
		}
	}
	show(previewOf(t, n, "01JD0000000000000000000009", 3000), "There is no such preview", "ports-none-dark")
	stopIn(t, n, task, 3002)
	show(previewOf(t, n, task, 3002), "Nothing listens on port 3002", "")
	listenIn(t, n, task, "0.0.0.0", 3002)
	p.shows("h1", "app on 3002") // by itself
}
