package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/loopback"
)

// TestMeshPorts sends garbage, huge and slow requests to every port of a node,
// from outside and from programs that know the mesh's secret. The node lives,
// stays small, and serves the others meanwhile.
func TestMeshPorts(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m := foundMesh(t)
	a := m.nodes[0]
	b := m.join(a, "b", true)
	must[chat.Project](a, "project", "add", "app", "--repo", "/nowhere.git")
	id, err := readIdentity(a.state)
	if err != nil {
		t.Fatal(err)
	}
	pages := strings.TrimPrefix(a.url, "http://")
	garbage := bytes.Repeat([]byte("\xff\x00garbage\r\n\x16\x03\x01"), 60_000)
	before := peak(t, a.cmd.Process.Pid)

	var slow sync.WaitGroup
	for _, addr := range []string{pages, id.NodeAddr} {
		for name, data := range map[string][]byte{
			"nothing":            nil,
			"garbage":            garbage,
			"a TLS hello":        []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 500)),
			"half a request":     []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "),
			"an endless header":  append([]byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "), bytes.Repeat([]byte("x"), 1<<20)...),
			"an endless line":    bytes.Repeat([]byte("GET "), 1<<18),
			"an endless preface": append([]byte("samnode\x01\xff"), bytes.Repeat([]byte("1"), 1<<20)...),
			"half a preface":     []byte("samnode\x01\x0f127.0.0.1:12345\x05pages"),
			"another version":    []byte("samnode\x02\x0f127.0.0.1:12345\x05calls0123456789abcdef"),
			"no proof":           append([]byte("samnode\x01\x0f127.0.0.1:12345\x05calls0123456789abcdef"), make([]byte, 32)...),
		} {
			slow.Go(func() { closes(t, addr, name, data, 25*time.Second) })
		}
	}
	slow.Go(func() { drips(t, pages) })
	slow.Go(func() { drips(t, id.NodeAddr) })
	hold := crowd(t, pages, 300)
	crowdOfNodes := crowd(t, id.NodeAddr, 400)
	served(t, a, b, "while strangers crowd both ports")
	fromOutside(t, a)
	slow.Wait() // the ports have sent the crowds away
	hold()
	crowdOfNodes()
	withSecret(t, m, a, b, id)
	served(t, a, b, "after all that")
	if after := peak(t, a.cmd.Process.Pid); after > before+120 {
		t.Errorf("the node took %d MiB more", after-before)
	} else {
		t.Logf("the node took %d MiB, and %d MiB more for all this", before, after-before)
	}
	unharmed(t, m, a, "a", "b")
}

// closes sends data to a port and waits for its answer, if any, and the end.
func closes(t *testing.T, addr, name string, data []byte, within time.Duration) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(within)) // it is open
	_, _ = c.Write(data)                      // it may be closed already
	answer, err := io.ReadAll(io.LimitReader(c, 64<<10))
	if errors.Is(err, context.DeadlineExceeded) || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("%s to %s: it is still open after %s", name, addr, within)
	}
	if bytes.HasPrefix(answer, []byte("HTTP/1.1 2")) || bytes.Contains(answer, []byte("panic")) {
		t.Errorf("%s to %s is answered with %.200q", name, addr, answer)
	}
}

// drips sends a request a byte at a time, for longer than a node waits.
func drips(t *testing.T, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	began := time.Now()
	for time.Since(began) < 20*time.Second {
		if _, err := c.Write([]byte("G")); err != nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Errorf("%s lets a caller drip for 20 s", addr)
}

// crowd opens many connections that say nothing.
func crowd(t *testing.T, addr string, many int) (leave func()) {
	t.Helper()
	var all []net.Conn
	for range many {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("after %d connections: %v", len(all), err)
		}
		all = append(all, c)
	}
	return func() {
		for _, c := range all {
			c.Close()
		}
	}
}

// served holds that both nodes read and write.
func served(t *testing.T, a, b *testNode, when string) {
	t.Helper()
	began := time.Now()
	for _, n := range []*testNode{a, b} {
		must[[]chat.Project](n, "project", "list")
		must[map[string]string](n, "people", "role", "eve@example.com", "member")
		if code, _ := n.get("/"); code != http.StatusOK {
			t.Errorf("%s the first page is %d", when, code)
		}
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("%s reading and writing at two nodes took %s", when, took)
	}
}

// fromOutside: people reach nothing of nodes, and nothing of other names.
func fromOutside(t *testing.T, a *testNode) {
	t.Helper()
	for _, path := range []string{"join", "start", "beat", "leave", "secret", "forge/auth", "forge/pull", "room/tasks", "room/", "self", "spaces/", "pages/", "pages/api/v1/nodes"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			code, body := ask(t, method, a.url+"/calls/v1/"+path, "{}", nil)
			if code != http.StatusNotFound && code != http.StatusForbidden && code != http.StatusMethodNotAllowed {
				t.Errorf("%s /calls/v1/%s on the pages is %d: %.200s", method, path, code, body)
			}
		}
	}
	for name, c := range map[string]struct {
		method, path, body string
		header             map[string]string
		code               int
	}{
		"a name that was pointed here": {"GET", "/", "", map[string]string{"Host": "evil.example"}, http.StatusMisdirectedRequest},
		"a page elsewhere":             {"POST", "/api/v1/tasks", "{}", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		"a huge body":                  {"POST", "/api/v1/tasks", `{"text":"` + strings.Repeat("x", 40<<20) + `"}`, nil, http.StatusRequestEntityTooLarge},
		"a huge invitation":            {"POST", "/api/v1/invitations", `{"valid":"` + strings.Repeat("x", 20<<20) + `"}`, nil, http.StatusRequestEntityTooLarge},
		"deep JSON":                    {"POST", "/api/v1/tasks", strings.Repeat("[", 100_000), nil, http.StatusBadRequest},
		"a long path":                  {"GET", "/t/" + strings.Repeat("x", 30_000), "", nil, http.StatusNotFound},
		"a path that climbs":           {"GET", "/static/..%2f..%2f..%2fetc/passwd", "", nil, http.StatusNotFound},
		"a node that is none":          {"POST", "/api/v1/nodes/" + strings.Repeat("n", 2000) + "/drain", `{"on":true}`, nil, http.StatusNotFound},
		"a role that is none":          {"PUT", "/api/v1/people/eve", `{"role":"king"}`, nil, http.StatusBadRequest},
		"a leave of a stranger's page": {"POST", "/api/v1/leave", "", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
	} {
		if code, body := ask(t, c.method, a.url+c.path, c.body, c.header); code != c.code || len(body) > 8000 {
			t.Errorf("%s: %d, want %d: %.300s", name, code, c.code, body)
		}
	}
}

func ask(t *testing.T, method, url, body string, header map[string]string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	req.Host = header["Host"]
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, url[:min(len(url), 100)], err)
		return 0, ""
	}
	return readAll(t, resp)
}

// withSecret is what a program can do that knows the mesh's secret: as a
// stranger, and at the address of a core node that is away.
func withSecret(t *testing.T, m *testMesh, a, b *testNode, id identity) {
	t.Helper()
	bID, err := readIdentity(b.state)
	if err != nil {
		t.Fatal(err)
	}
	up := func(addr string) *loopback.Node {
		n, err := loopback.Up(t.Context(), loopback.Config{Listen: "127.0.0.1:0", NodeAddr: addr, Secret: id.Secret})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	stranger := up("")
	if _, err := stranger.Dial(t.Context(), id.NodeAddr, mesh.Log); err == nil || !strings.Contains(err.Error(), "no core node of this mesh") {
		t.Errorf("a stranger's log: %v", err)
	}
	if _, err := stranger.Dial(t.Context(), id.NodeAddr, mesh.Pages); !errors.Is(err, mesh.ErrNotPerson) {
		t.Errorf("a node's pages: %v", err)
	}
	client := mesh.NewHTTPClient(stranger.Dial)
	for _, path := range []string{"start", "beat", "leave", "secret", "forge/auth", "forge/pull", "room/tasks", "self", "pages/api/v1/nodes", "nothing"} {
		for name, body := range map[string]string{"nothing": "", "an object": "{}", "garbage": "\xff\xfe", "deep": strings.Repeat("[", 1<<20), "huge": `{"x":"` + strings.Repeat("x", 12<<20) + `"}`} {
			resp, err := client.Post(mesh.CallURL(id.NodeAddr, "/calls/v1/"+path), "application/json", strings.NewReader(body))
			if err != nil {
				if name != "huge" { // which may be cut off
					t.Errorf("calling %s with %s: %v", path, name, err)
				}
				continue
			}
			if code, answer := readAll(t, resp); code < 400 || code >= 500 || len(answer) > 4000 {
				t.Errorf("a stranger's call %s with %s is answered with %d %.300s", path, name, code, answer)
			}
		}
	}
	client.CloseIdleConnections()
	if err := stranger.Close(); err != nil {
		t.Error(err)
	}

	b.kill()
	twin := up(bID.NodeAddr)
	var wg sync.WaitGroup
	for i, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte{0}, 1<<20), bytes.Repeat([]byte{0xff}, 8<<20), []byte("\x01\x02\x03"), []byte("GET / HTTP/1.1\r\n\r\n")} {
		wg.Go(func() {
			c, err := twin.Dial(t.Context(), id.NodeAddr, mesh.Log)
			if err != nil {
				t.Errorf("the log for a core node: %v", err)
				return
			}
			defer c.Close()
			_, _ = c.Write(data) // it may be cut off
			_ = c.SetReadDeadline(time.Now().Add(25 * time.Second))
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("garbage %d in the log is listened to for 25 s", i)
			}
		})
	}
	wg.Wait()
	if err := twin.Close(); err != nil {
		t.Error(err)
	}
	if out, errs, code := a.cli("project", "list"); code != exitDone {
		t.Errorf("after garbage in the log %s exits with %d: %s%s", filepath.Base(a.state), code, out, errs)
	}
	b.start()
	m.leader()
}
