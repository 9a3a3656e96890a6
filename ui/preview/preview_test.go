package preview

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const aTask = "01JD0000000000000000000001"

// rig is a preview of a server that a test gives.
type rig struct {
	*httptest.Server
	err  atomic.Pointer[error] // of Admit
	port int
}

func newRig(t *testing.T, cookies string, app http.HandlerFunc) *rig {
	t.Helper()
	inside := httptest.NewServer(app)
	t.Cleanup(inside.Close)
	r := &rig{port: inside.Listener.Addr().(*net.TCPAddr).Port}
	s := New(Config{
		Again: 20 * time.Millisecond,
		Admit: func(*http.Request, string) (string, error) {
			if err := r.err.Load(); err != nil {
				return "", *err
			}
			return "7", nil
		},
		Dial: func(ctx context.Context, to Target) (net.Conn, error) {
			if to.Port != r.port {
				return nil, fmt.Errorf("%w: refused", ErrClosed)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", inside.Listener.Addr().String())
		},
		Listening: func(context.Context, string) ([]int, error) { return []int{r.port}, nil },
	})
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		port := r.port
		if q.URL.Path == "/closed" {
			port = 1
		}
		s.Serve(w, q, View{Target: Target{aTask, port}, Origin: r.URL, Pages: "http://pages.example", Cookies: cookies})
	}))
	t.Cleanup(func() { r.Close(); s.Close() })
	return r
}

func (r *rig) get(t *testing.T, path string, header ...string) (*http.Response, string) {
	t.Helper()
	return r.do(t, http.MethodGet, path, header...)
}

func (r *rig) do(t *testing.T, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestSender(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprint(w, q.Header.Get("Origin"), " ", q.Host)
	})
	inside := fmt.Sprintf("localhost:%d", r.port)
	for _, c := range []struct {
		method string
		header []string
		in     bool
	}{
		{"GET", nil, true},
		{"POST", nil, true},
		{"POST", []string{"Origin", r.URL}, true},
		{"POST", []string{"Origin", "http://evil.example"}, false},
		{"POST", []string{"Origin", "null"}, false},
		{"POST", []string{"Origin", "null", "Sec-Fetch-Site", "same-origin"}, true},
		{"GET", []string{"Origin", "http://evil.example"}, false},
		{"OPTIONS", []string{"Origin", "http://evil.example", "Access-Control-Request-Method", "PUT"}, false},
		{"GET", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, true},
		{"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, true},
		{"POST", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false},
		{"GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, false},
		{"GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, false},
		{"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, false},
		{"GET", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, false},
		{"GET", []string{"Connection", "Upgrade", "Upgrade", "websocket", "Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"}, false},
		{"GET", []string{"Connection", "Upgrade", "Upgrade", "h2c", "Origin", r.URL}, false},
		{"TRACE", nil, false},
	} {
		resp, text := r.do(t, c.method, "/", c.header...)
		if in := resp.StatusCode == http.StatusOK; in != c.in {
			t.Errorf("%s with %q = %d: %s", c.method, c.header, resp.StatusCode, text)
		}
		if c.in && !strings.HasSuffix(text, " "+inside) || strings.HasPrefix(text, "http") && !strings.HasPrefix(text, "http://"+inside) {
			t.Errorf("%s with %q comes in as %q", c.method, c.header, text)
		}
		if resp.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s with %q is answered without a policy", c.method, c.header)
		}
	}
}

func TestCookies(t *testing.T) {
	t.Parallel()
	const word = "snsecret-"
	r := newRig(t, word, func(w http.ResponseWriter, q *http.Request) {
		for _, c := range []string{"a=1; Path=/; Domain=node.example", "__Host-b=2; Secure; httponly; SameSite=Lax", "bare", "=nameless", "c=x=y"} {
			w.Header().Add("Set-Cookie", c)
		}
		fmt.Fprint(w, q.Header["Cookie"])
	})
	resp, text := r.get(t, "/", "Cookie", "a=tossed; snother-a=3; "+word+"a=1; "+word+"__Host-b=2;snsecre; "+word)
	if text != "[a=1; __Host-b=2]" {
		t.Errorf("the server gets the cookies %s", text)
	}
	want := []string{word + "a=1; Path=/; HttpOnly", word + "__Host-b=2; Secure; SameSite=Lax; HttpOnly", word + "c=x=y; HttpOnly"}
	if got := resp.Header["Set-Cookie"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the browser gets %q, want %q", got, want)
	}
	own := newRig(t, "", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Set-Cookie", "a=1; Domain=localhost; Path=/x")
		fmt.Fprint(w, q.Header["Cookie"])
	})
	if resp, text := own.get(t, "/", "Cookie", "a=1; b=2"); text != "[a=1; b=2]" || resp.Header.Get("Set-Cookie") != "a=1; Path=/x" {
		t.Errorf("at a host of its own: %s, %q", text, resp.Header["Set-Cookie"])
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	var r *rig
	r = newRig(t, "sn-", func(w http.ResponseWriter, q *http.Request) {
		h := w.Header()
		h.Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Strict-Transport-Security", "max-age=1")
		h.Set("Clear-Site-Data", `"cookies"`)
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("Content-Security-Policy", "default-src *; frame-ancestors *")
		h.Set("Location", fmt.Sprintf("http://127.0.0.1:%d/in?a=b#c", r.port))
		w.WriteHeader(http.StatusFound)
		for name := range q.Header {
			fmt.Fprint(w, name, " ")
		}
		fmt.Fprint(w, q.Header.Get("X-Forwarded-Host"), " ", q.Header.Get("X-Forwarded-Proto"), " ", q.URL.RawQuery)
	})
	resp, text := r.get(t, "/a?x;y=%zz", "Tailscale-User-Login", "boss", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-User", "boss", "X-Real-Ip", "1.2.3.4", "Referer", "http://pages.example/t/secret")
	for _, bad := range []string{"Tailscale", "X-Forwarded-For", "X-Forwarded-User", "X-Real", "Referer"} {
		if strings.Contains(text, bad) {
			t.Errorf("the server gets %s: %s", bad, text)
		}
	}
	if !strings.HasSuffix(text, strings.TrimPrefix(r.URL, "http://")+" http x;y=%zz") {
		t.Errorf("the server gets %s", text)
	}
	h := resp.Header
	if h.Get("Access-Control-Allow-Origin")+h.Get("Strict-Transport-Security")+h.Get("Clear-Site-Data") != "" {
		t.Errorf("what loosens is let through: %v", h)
	}
	if got := h["Content-Security-Policy"]; len(got) != 2 || got[1] != "frame-ancestors 'self'" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
		t.Errorf("the policies are %q, %q", got, h.Get("Cross-Origin-Resource-Policy"))
	}
	if got := h.Get("Location"); got != r.URL+"/in?a=b#c" {
		t.Errorf("a redirect leads to %q", got)
	}
}

func TestComeBack(t *testing.T) {
	t.Parallel()
	v := View{Target: Target{aTask, 3000}, Origin: "http://here.example:20001"}
	for to, want := range map[string]string{
		"http://localhost:3000":        v.Origin + "/",
		"http://[::1]:3000/a?b":        v.Origin + "/a?b",
		"//0.0.0.0:3000/a":             v.Origin + "/a",
		"https://localhost:3000/a":     v.Origin + "/a",
		"http://localhost:3001/a":      "http://localhost:3001/a",
		"http://example.com:3000/a":    "http://example.com:3000/a",
		"http://localhost/a":           "http://localhost/a",
		"/a":                           "/a",
		"app://localhost:3000/a":       "app://localhost:3000/a",
		"http://u:p@localhost:3000//x": v.Origin + "//x",
	} {
		if got := comeBack(to, v); got != want {
			t.Errorf("comeBack(%s) = %s, want %s", to, got, want)
		}
	}
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, c := range []struct {
		err  error
		path string
		code int
		says string
	}{
		{nil, "/closed", 502, fmt.Sprintf(`href="http://pages.example/t/%s/ports/%d/open"`, aTask, r.port)},
		{nil, "/", 502, "The connection broke"},
		{ErrNoTask, "/", 404, "There is no such preview"},
		{fmt.Errorf("%w: bob has no role <b>", ErrForbidden), "/", 403, "Bob has no role &lt;b&gt;."},
		{ErrNoWorkspace, "/", 503, "No workspace of this task is alive"},
		{ErrAway, "/", 502, "does not answer"},
		{ErrOwn, "/", 403, "is not shown"},
		{errors.New("secret detail"), "/", 500, "Something went wrong"},
	} {
		r.err.Store(nil)
		if c.err != nil {
			r.err.Store(&c.err)
		}
		resp, text := r.get(t, c.path, "Accept", "text/html")
		if resp.StatusCode != c.code || !strings.Contains(text, c.says) || strings.Contains(text, "secret") || !strings.Contains(resp.Header["Content-Security-Policy"][1], styleHash) {
			t.Errorf("%v: %d %s", c.err, resp.StatusCode, text)
		}
		if again := resp.Header.Get("Refresh") != ""; again != (c.code == 502 || c.code == 503) {
			t.Errorf("%v: the page tries again: %t", c.err, again)
		}
		if resp, text := r.get(t, c.path); resp.StatusCode != c.code || strings.Contains(text, "<html") {
			t.Errorf("%v for a program: %d %s", c.err, resp.StatusCode, text)
		}
	}
}

// A stream ends with the right to see it.
func TestAskedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintln(w, "tick")
		w.(http.Flusher).Flush()
		<-q.Context().Done()
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); line != "tick\n" || err != nil {
		t.Fatalf("the stream begins with %q, %v", line, err)
	}
	no := ErrNoTask
	r.err.Store(&no)
	if _, err := in.ReadByte(); err == nil {
		t.Error("the stream goes on")
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"3000--01jd0000000000000000000001.localhost", "0--x.localhost", "03000--01jd0000000000000000000001.localhost", "65536--01jd0000000000000000000001.localhost", "a.3000--01jd0000000000000000000001.localhost", "3000--01jd0000000000000000000001.localhost.", "3000--01jd0000000000000000000001.localhost.evil.example", "3000--01jd0000000000000000000001.localho\u017ft", "+3000--01jd0000000000000000000001.localhost", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, ok := ParseHost(name)
		if ok && (got.Port < 1 || got.Port > 65535 || strings.ToLower(name) != got.Host() || len(name) != len(got.Host()) || strings.Count(name, ".") != 1) {
			t.Errorf("ParseHost(%q) = %+v, whose host is %q", name, got, got.Host())
		}
	})
}

func TestHost(t *testing.T) {
	t.Parallel()
	for _, want := range []Target{{aTask, 1}, {aTask, 65535}} {
		if got, ok := ParseHost(want.Host()); !ok || got != want {
			t.Errorf("ParseHost(%s) = %+v, %t", want.Host(), got, ok)
		}
	}
}
