package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/samnode/samnode/mesh/follow"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/ui/preview"
)

// TestTailnetPorts: a person of a tailnet sees at one node what listens in a
// workspace on another, and opens it. Previews are kept apart although browsers
// take them for one site. Viewers may look, strangers may not, and who loses
// the role loses the connection.
func TestTailnetPorts(t *testing.T) {
	needDocker(t)
	t.Parallel()
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := newTailnetMesh(t, control, "--slots", "1")
	ana, eve, vic := meshtest.Person(t, control, "ana-laptop"), meshtest.Person(t, control, "eve-laptop"), meshtest.Person(t, control, "vic-laptop")
	runs, door, other := m.nodes[2], m.nodes[0], m.nodes[1]
	must[map[string]string](door, "people", "role", ana.Login, "member")
	must[map[string]string](door, "people", "role", vic.Login, "viewer")
	for _, n := range []*testNode{door, other} {
		must[map[string]string](n, "node", "drain", filepath.Base(n.state))
	}
	v := serverTask(t, door)
	if string(v.Lease.Node) != filepath.Base(runs.state) {
		t.Fatalf("the task runs on %s", v.Lease.Node)
	}
	task := string(v.ID)
	door.proxy = proxyFor(t, ana)
	p := newTab(t, door)
	p.expect(`favicon|net::`)
	p.do(chromedp.Navigate(door.page + "/t/" + task + "/ports"))
	p.shows("#ports-body", "Nothing listens")
	listenIn(t, door, task, "127.0.0.1", 3000)
	listenIn(t, door, task, "127.0.0.1", 3001)
	p.shows("#ports-count", "2") // by itself
	open := func(port int) string {
		t.Helper()
		p.do(chromedp.Navigate(door.page + "/t/" + task + "/ports"))
		link := `document.querySelector("#port-` + strconv.Itoa(port) + ` a")`
		p.wait(link)
		p.do(chromedp.Navigate(script[string](p, link+".href"))) // its target is a tab of its own
		p.shows("h1", "app on "+strconv.Itoa(port))
		p.shows("#ws", strconv.Itoa(port)+" heard hello")
		p.shows("#cookie", `"cookie":"session=secret`+strconv.Itoa(port)+`"`)
		return script[string](p, "location.origin")
	}
	hostile, victim := open(3001), open(3000)
	if hostile == victim || !strings.HasPrefix(victim, door.page+":") {
		t.Errorf("previews are at %s and %s", hostile, victim)
	}
	if got := script[string](p, "document.cookie"); got != "" {
		t.Errorf("a script reads the cookies %q", got)
	}
	attacks(p, hostile, victim, door.page, task)
	p.do(chromedp.Navigate(victim + "/me"))
	p.wait(`document.body.textContent.includes("session=secret3000") && !document.body.textContent.includes("tossed")`)
	portsUntouched(t, door, task, previewOf(t, door, task, 3000))

	at := door.page + "/t/" + task + "/ports/3000/open"
	if code, text := gets(t, vic, at); code != http.StatusOK || !strings.Contains(text, "app on 3000") {
		t.Errorf("a viewer gets %d: %s", code, text)
	}
	for _, at := range []string{at, victim + "/me"} {
		if code, text := gets(t, eve, at); code != http.StatusForbidden || !strings.Contains(text, "no role in this mesh") {
			t.Errorf("a stranger gets %d at %s: %s", code, at, text)
		}
	}
	portsFollowed(t, m, ana, task)
	portsRole(t, door, vic, victim)
}

func gets(t *testing.T, d *meshtest.Device, at string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// portsRole ends a viewer's WebSocket by taking the role away.
func portsRole(t *testing.T, n *testNode, vic *meshtest.Device, at string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := func(origin string) (*websocket.Conn, error) {
		c, resp, err := websocket.Dial(ctx, strings.Replace(at, "http", "ws", 1)+"/ws", &websocket.DialOptions{
			HTTPClient: vic.Client, HTTPHeader: http.Header{"Origin": {origin}},
		})
		if err == nil && resp.Body != nil {
			resp.Body.Close()
		}
		return c, err
	}
	if _, err := dial(n.page); err == nil {
		t.Error("a WebSocket of another origin opened")
	}
	c, err := dial(at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	say := func() error {
		if err := c.Write(ctx, websocket.MessageText, []byte("hi")); err != nil {
			return err
		}
		_, text, err := c.Read(ctx)
		if err == nil && string(text) != "3000 heard hi" {
			t.Errorf("the WebSocket says %q", text)
		}
		return err
	}
	if err := say(); err != nil {
		t.Fatal(err)
	}
	must[map[string]string](n, "people", "role", vic.Login, "none")
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the WebSocket of who lost the role: %v", err)
	}
	if code, _ := gets(t, vic, at+"/me"); code != http.StatusForbidden {
		t.Errorf("who lost the role gets %d", code)
	}
}

// portsFollowed opens a preview by way of samnode open, whose node then dies.
func portsFollowed(t *testing.T, m *testMesh, ana *meshtest.Device, task string) {
	t.Helper()
	proxy, err := follow.Start(t.Context(), follow.Config{
		Listen: "127.0.0.1:0", Nodes: []string{m.nodes[1].page}, Transport: ana.Transport(), Apart: preview.IsHost,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	p := newTab(t, &testNode{url: proxy.URL()})
	p.expect(`favicon|net::`)
	u, err := url.Parse(proxy.URL())
	if err != nil {
		t.Fatal(err)
	}
	at := "http://" + preview.Target{Task: task, Port: 3000}.Host() + ":" + u.Port()
	p.open("/t/" + task + "/ports/3000/open")
	p.shows("#ws", "3000 heard hello")
	if got := script[string](p, "location.origin"); got != at {
		t.Errorf("by way of samnode open the preview is at %s, want %s", got, at)
	}
	m.nodes[1].kill()
	p.shows("#ws", "closed")
	p.do(chromedp.Reload())
	p.shows("#ws", "3000 heard hello")
	m.nodes[1].start()
}
