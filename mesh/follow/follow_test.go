package follow

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func start(t *testing.T, c Config) *Proxy {
	t.Helper()
	c.Listen, c.Pace = "127.0.0.1:0", 200*time.Millisecond
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

func do(t *testing.T, p *Proxy, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(got)
}

func want(t *testing.T, p *Proxy, method, path, body, answer string) {
	t.Helper()
	if resp, got := do(t, p, method, path, body); resp.StatusCode != http.StatusOK || got != answer {
		t.Errorf("%s %s = %s %q, want %q", method, path, resp.Status, got, answer)
	}
}

// TestMovesOn: a node dies, and requests go to one that was learnt from it, a
// core node before a worker. A request that no node got is not lost.
func TestMovesOn(t *testing.T) {
	a, worker, b := newNode(t, "a", true), newNode(t, "worker", false), newNode(t, "b", true)
	a.mesh = []*fakeNode{a, worker, b}
	p := start(t, Config{Nodes: []string{a.URL}})
	want(t, p, "GET", "/who", "", a.says("GET", ""))
	want(t, p, "POST", "/who", "text", a.says("POST", "text"))
	await(t, "the nodes to be learnt", func() bool { return len(p.nodes.all()) == 3 })
	a.kill()
	want(t, p, "POST", "/who", "not lost", b.says("POST", "not lost"))
	if got := p.Node(); got != b.URL {
		t.Errorf("Node = %s, want %s", got, b.URL)
	}
	b.kill()
	want(t, p, "GET", "/who", "", worker.says("GET", ""))
}

// TestRepeats: what was asked of a node that died on it is asked again only
// where that is harmless.
func TestRepeats(t *testing.T) {
	a, b := newNode(t, "a", true), newNode(t, "b", true)
	p := start(t, Config{Nodes: []string{a.URL, b.URL}, Stay: true})
	// The node hangs up on each of them, and is alive each time it is asked.
	if resp, _ := do(t, p, "GET", "/die", ""); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("a GET that no node can answer = %s", resp.Status)
	}
	if resp, body := do(t, p, "POST", "/die", "x"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "not known") {
		t.Errorf("a POST that a node died on = %s %q", resp.Status, body)
	}
	a.hang(t)
	got := make(chan string, 1)
	go func() {
		_, body := do(t, p, "GET", "/who", "")
		got <- body
	}()
	select {
	case body := <-got:
		if body != b.says("GET", "") {
			t.Errorf("a GET at a node that hangs = %q, want %q", body, b.says("GET", ""))
		}
	case <-time.After(15 * time.Second):
		t.Error("a GET waits for a node that hangs")
	}
}

// TestStream: a stream ends with its node, and goes on at another where the
// browser left off.
func TestStream(t *testing.T) {
	a, b := newNode(t, "a", true), newNode(t, "b", true)
	p := start(t, Config{Nodes: []string{a.URL, b.URL}, Stay: true})
	open := func(after string) (*http.Response, *bufio.Reader) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Last-Event-ID", after)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp, bufio.NewReader(resp.Body)
	}
	resp, r := open("7")
	defer resp.Body.Close()
	if line, err := r.ReadString('\n'); line != "data: a after 7\n" || err != nil {
		t.Fatalf("read %q, %v", line, err)
	}
	a.kill()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, r)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the stream of a dead node does not end")
	}
	resp, r = open("8")
	defer resp.Body.Close()
	if line, err := r.ReadString('\n'); line != "data: b after 8\n" || err != nil {
		t.Errorf("read %q, %v", line, err)
	}
}

// TestSilentNode: a node that is there and says nothing is left, and its
// streams end.
func TestSilentNode(t *testing.T) {
	a, b := newNode(t, "a", true), newNode(t, "b", true)
	p := start(t, Config{Nodes: []string{a.URL, b.URL}, Stay: true})
	resp, err := http.Get(p.URL() + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c, _, err := websocket.Dial(t.Context(), p.URL()+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	a.hang(t)
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		ended <- err
	}()
	go func() {
		_, _, err := c.Read(t.Context())
		ended <- err
	}()
	for range 2 {
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			t.Fatal("what was open to a silent node does not end")
		}
	}
	want(t, p, "GET", "/who", "", b.says("GET", ""))
}

func TestWebSocket(t *testing.T) {
	a := newNode(t, "a", true)
	p := start(t, Config{Nodes: []string{a.URL}})
	dial := func(origin string) (*websocket.Conn, error) {
		c, _, err := websocket.Dial(t.Context(), p.URL()+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		return c, err
	}
	c, err := dial(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); string(got) != "a says hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if c, err := dial("http://evil.example"); err == nil {
		c.CloseNow()
		t.Error("another site opens a WebSocket")
	}
}

// TestOtherSites: what a browser sends for another site does not get through,
// and what it sends for this one does.
func TestOtherSites(t *testing.T) {
	a := newNode(t, "a", true)
	p := start(t, Config{Nodes: []string{a.URL}})
	own := p.URL()
	port := own[strings.LastIndex(own, ":"):]
	for _, c := range []struct {
		name, method string
		header       []string
		want         int
	}{
		{"own page", "POST", []string{"Origin", own, "Sec-Fetch-Site", "same-origin"}, 200},
		{"own page in an old browser", "POST", []string{"Origin", own}, 200},
		{"own page by address", "POST", []string{"Host", "127.0.0.1" + port, "Origin", "http://127.0.0.1" + port}, 200},
		{"no browser", "POST", nil, 200},
		{"other site", "POST", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"other site in an old browser", "POST", []string{"Origin", "http://evil.example"}, 403},
		{"other site in a frame", "POST", []string{"Origin", "null"}, 403},
		{"other port of this computer", "POST", []string{"Origin", "http://localhost:1", "Sec-Fetch-Site", "same-site"}, 403},
		{"a name rebound to loopback", "GET", []string{"Host", "evil.example"}, 421},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := a.asked.Load()
			resp, body := do(t, p, c.method, "/who", "x", c.header...)
			if resp.StatusCode != c.want || (a.asked.Load() > before) != (c.want == 200) {
				t.Errorf("%s %s, want %d; the node was asked %d times", resp.Status, body, c.want, a.asked.Load()-before)
			}
		})
	}
	if resp, _ := do(t, p, "GET", "/old", ""); resp.Header.Get("Location") != "/who?a=b" {
		t.Errorf("a redirect leads to %q", resp.Header.Get("Location"))
	}
}

// TestNobody: when no node answers, the page says so and tries again; when one
// is back, it does.
func TestNobody(t *testing.T) {
	a := newNode(t, "a", true)
	addr := a.Listener.Addr().String()
	a.kill()
	p := start(t, Config{Nodes: []string{a.URL}})
	resp, body := do(t, p, "GET", "/who", "", "Accept", "text/html,*/*")
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "No node of the mesh answers") || !strings.Contains(body, `http-equiv="refresh"`) {
		t.Errorf("%s %q", resp.Status, body)
	}
	if resp, body := do(t, p, "POST", "/who", "x"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, errNone.Error()) {
		t.Errorf("%s %q", resp.Status, body)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("the port is taken by now: %v", err)
	}
	back := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "back") })}
	go back.Serve(l)
	defer back.Close()
	want(t, p, "GET", "/who", "", "back")
}

func TestStartRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no nodes":      {},
		"no URL":        {Nodes: []string{"node1"}},
		"another kind":  {Nodes: []string{"ftp://node1"}},
		"a path":        {Nodes: []string{"http://node1/tasks"}},
		"for everybody": {Nodes: []string{"http://node1"}, Listen: "0.0.0.0:0"},
	} {
		if p, err := Start(t.Context(), c); err == nil {
			t.Errorf("%s: it starts: %v", name, p.Close())
		}
	}
}

// TestGarbage: a node's list that makes no sense changes nothing.
func TestGarbage(t *testing.T) {
	var body atomic.Value
	body.Store(`{"nodes":[]}`)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body.Load().(string)) }))
	defer s.Close()
	n, err := newNodes(Config{Nodes: []string{s.URL}, Transport: new(http.Transport)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	for _, garbage := range []string{"<html>", `{"nodes":1}`, `[]`, "", `{"nodes":[{"url":"http://[::1"}]}`, string(bytes.Repeat([]byte(`{"nodes":[`), 1<<18))} {
		body.Store(garbage)
		list, err := n.check(t.Context(), n.now())
		if err != nil {
			t.Errorf("%.20q: a node that answers is not alive: %v", garbage, err)
		}
		n.learn(list)
		if got := n.all(); len(got) != 1 || got[0] != s.URL {
			t.Errorf("%.20q: the nodes are %v", garbage, got)
		}
	}
}
