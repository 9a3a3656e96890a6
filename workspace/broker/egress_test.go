package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// web is an internet of stubs: names to addresses, addresses to servers.
type web struct {
	mu      sync.Mutex
	names   map[string][]string
	servers map[string]string // "ip:port" to a loopback address
	dialled []string
}

func (w *web) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ips []netip.Addr
	for _, s := range w.names[host] {
		ips = append(ips, netip.MustParseAddr(s))
	}
	if ips == nil {
		return nil, errors.New("no such host")
	}
	return ips, nil
}

func (w *web) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	w.dialled = append(w.dialled, addr)
	to := w.servers[addr]
	w.mu.Unlock()
	if to == "" {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to)
}

func (w *web) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.dialled...)
}

func onWeb(t *testing.T, w *web, mode chat.Egress, allow ...string) *space {
	t.Helper()
	return open(t, func(c *Config, s *space) {
		c.Lookup, c.Dial = w.lookup, w.dial
		s.mode, s.allow = mode, allow
	})
}

// connect asks for a tunnel and returns the status line, the body of a
// refusal, and the connection.
func (s *space) connect(t *testing.T, authority string, header ...string) (string, string, net.Conn, *bufio.Reader) {
	t.Helper()
	c := s.dial(t, EgressSocket)
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", authority, authority, strings.Join(header, "\r\n")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatalf("CONNECT %q: %v", authority, err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Status, "", c, r
	}
	var body bytes.Buffer
	if _, err := io.Copy(&body, r); err != nil {
		t.Fatal(err)
	}
	return res.Status, body.String(), c, r
}

func TestTunnelToListedHost(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "you reached %s", r.Host) }))
	t.Cleanup(srv.Close)
	w := &web{names: map[string][]string{"files.example.com": {"93.184.216.34"}}, servers: map[string]string{"93.184.216.34:443": srv.Listener.Addr().String()}}
	s := onWeb(t, w, chat.EgressListed, "files.example.com")
	proxy, err := url.Parse("http://" + s.forward(t, EgressSocket))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"}, DisableKeepAlives: true}}
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			res, err := client.Get("https://files.example.com/a")
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != "you reached files.example.com" {
				t.Errorf("body = %q, %v", body, err)
			}
		})
	}
	wg.Wait()
	if _, err := client.Get("https://other.example.com/a"); err == nil || !strings.Contains(err.Error(), "samnode: egress to other.example.com is blocked (mode listed). An owner can add it to the project's list.") {
		t.Errorf("what a Go client shows of a refusal: %v", err)
	}
	eventually(t, "all tunnels are closed", func() bool { return s.Stats().Open == 0 })
	if st := s.Stats(); st.Tunnels != 30 || st.Denied != 1 || st.In == 0 || st.Out == 0 {
		t.Errorf("stats = %+v", st)
	}
}

func TestWhoMayBeReached(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	to := srv.Listener.Addr().String()
	w := func() *web {
		return &web{names: map[string][]string{
			"registry.npmjs.org": {"104.16.0.1"}, "files.example.com": {"93.184.216.34"}, "deep.sub.example.com": {"93.184.216.35"}, "example.com": {"93.184.216.36"},
			"inside.example.com": {"10.0.0.5"}, "mixed.example.com": {"93.184.216.34", "127.0.0.1"}, "six.example.com": {"::ffff:169.254.169.254"},
			"update.code.visualstudio.com": {"104.16.0.1"}, "golang.gallery.vsassets.io": {"104.16.0.1"},
			"local.example.com": {"::1"}, "tail.example.com": {"100.100.100.100"}, "nat.example.com": {"64:ff9b::a9fe:a9fe"}, "pub6.example.com": {"2606:4700::1"},
		}, servers: map[string]string{
			"104.16.0.1:443": to, "93.184.216.34:443": to, "93.184.216.34:8443": to, "93.184.216.35:443": to, "93.184.216.36:443": to,
			"10.0.0.5:8080": to, "10.0.0.5:443": to, "[2606:4700::1]:443": to, "8.8.8.8:443": to,
		}}
	}
	const listed, open, packages, none = chat.EgressListed, chat.EgressOpen, chat.EgressPackages, chat.EgressNone
	for _, tc := range []struct {
		name      string
		mode      chat.Egress
		allow     string
		authority string
		status    int
		text      string
	}{
		{"a registry in packages", packages, "", "registry.npmjs.org:443", 200, ""},
		{"a registry in listed", listed, "", "registry.npmjs.org:443", 200, ""},
		{"an editor's server in packages", packages, "", "update.code.visualstudio.com:443", 200, ""},
		{"an editor's extension in listed", listed, "", "golang.gallery.vsassets.io:443", 200, ""},
		{"an editor's server in none", none, "", "update.code.visualstudio.com:443", 403, "blocked (mode none)"},
		{"a registry in none", none, "", "registry.npmjs.org:443", 403, "samnode: egress to registry.npmjs.org is blocked (mode none). An owner"},
		{"the list is closed in packages", packages, "files.example.com", "files.example.com:443", 403, "egress to files.example.com is blocked (mode packages). An owner can add it to the project's list."},
		{"a mode from a newer mesh", "everything", "", "registry.npmjs.org:443", 403, "mode everything"},
		{"anything in open", open, "", "files.example.com:443", 200, ""},
		{"capitals and a final dot", listed, "Files.Example.Com", "FILES.example.com.:443", 200, ""},
		{"an entry copied from the address bar", listed, "https://files.example.com/a", "files.example.com:443", 200, ""},
		{"a wildcard", listed, "*.example.com", "deep.sub.example.com:443", 200, ""},
		{"a wildcard is not its own name", listed, "*.example.com", "example.com:443", 403, "blocked"},
		{"a wildcard ends at a dot", listed, "*.ample.com", "example.com:443", 403, "blocked"},
		{"a lone star is nothing", listed, "*", "example.com:443", 403, "blocked"},
		{"another port", listed, "files.example.com", "files.example.com:8443", 403, "egress to files.example.com:8443 is blocked"},
		{"another port in open", open, "", "files.example.com:22", 403, "egress to files.example.com:22 is blocked"},
		{"a listed port", listed, "files.example.com:8443", "files.example.com:8443", 200, ""},
		{"a listed port in open", open, "files.example.com:8443", "files.example.com:8443", 200, ""},
		{"a listed port opens no other", listed, "files.example.com:8443", "files.example.com:443", 403, "blocked"},
		{"a public address in open", open, "", "8.8.8.8:443", 200, ""},
		{"a public address in listed", listed, "", "8.8.8.8:443", 403, "egress to 8.8.8.8 is blocked"},
		{"metadata", open, "", "169.254.169.254:80", 403, "169.254.169.254 leads to a private address"},
		{"metadata as IPv6", open, "", "[::ffff:169.254.169.254]:80", 403, "leads to a private address"},
		{"loopback", open, "", "127.0.0.1:80", 403, "leads to a private address"},
		{"loopback by no address", open, "", "0.0.0.0:80", 403, "leads to a private address"},
		{"IPv6 loopback", open, "", "[::1]:443", 403, "leads to a private address"},
		{"a name of a private address", open, "", "inside.example.com:443", 403, "inside.example.com leads to a private address (10.0.0.5). An owner can add the address itself"},
		{"a listed name of a private address", listed, "inside.example.com", "inside.example.com:443", 403, "leads to a private address"},
		{"one bad address of two", open, "", "mixed.example.com:443", 403, "leads to a private address (127.0.0.1)"},
		{"metadata behind a mapped name", open, "", "six.example.com:443", 403, "leads to a private address"},
		{"metadata behind NAT64", open, "", "nat.example.com:443", 403, "leads to a private address"},
		{"the tailnet", open, "", "tail.example.com:443", 403, "leads to a private address"},
		{"a public IPv6", open, "", "pub6.example.com:443", 200, ""},
		{"a private address that is listed", listed, "10.0.0.5:8080", "10.0.0.5:8080", 200, ""},
		{"a private address listed for another port", listed, "10.0.0.5:8080", "10.0.0.5:443", 403, "blocked"},
		{"a name whose private address is listed too", listed, "inside.example.com", "inside.example.com:443", 403, "private"},
		{"a name that does not exist", open, "", "nowhere.example.com:443", 502, "nowhere.example.com could not be reached"},
		{"no host", open, "", ":443", 400, "samnode: the request names no host"},
		{"a null host", open, "", "\x00:443", 400, ""},
		{"only dots", open, "", "...:443", 400, "not a host name"},
		{"a host with a newline of another kind", open, "", "a%0ab:443", 400, ""},
		{"a port that is none", open, "", "example.com:http", 400, ""},
		{"an address with a zone", open, "", "[fe80::1%25eth0]:443", 400, ""},
		{"an octal address is a name", open, "", "0177.0.0.1:443", 502, "could not be reached"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := onWeb(t, w(), tc.mode, tc.allow)
			status, body, _, _ := s.connect(t, tc.authority, "User-Agent: pip/24.0 {x}\r\n")
			if !strings.HasPrefix(status, fmt.Sprint(tc.status)) || !strings.Contains(body, tc.text) {
				t.Errorf("CONNECT %s = %q %q, want %d %q", tc.authority, status, body, tc.status, tc.text)
			}
			if tc.status == 403 && (strings.Count(body, "\n") != 1 || !strings.Contains(status, "samnode: egress")) {
				t.Errorf("refusal = %q %q, want one line in both places", status, body)
			}
			_, _, told := s.told()
			if (tc.status == 403) != (len(told) == 1) || len(told) == 1 && (told[0].Kind != KindEgress || !strings.Contains(told[0].Why, "asked by pip/24.0. Mode: "+string(tc.mode))) {
				t.Errorf("told = %+v", told)
			}
		})
	}
}

func TestListedPrivateAddressOpensItsListedName(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	w := &web{names: map[string][]string{"inside.example.com": {"10.0.0.5"}}, servers: map[string]string{"10.0.0.5:443": srv.Listener.Addr().String()}}
	s := onWeb(t, w, chat.EgressListed, "inside.example.com", "10.0.0.5")
	if status, body, _, _ := s.connect(t, "inside.example.com:443"); !strings.HasPrefix(status, "200") {
		t.Errorf("%s %s", status, body)
	}
}

func TestRebindingFindsTheCheckedAddress(t *testing.T) {
	w := &web{names: map[string][]string{}}
	answers := [][]string{{"93.184.216.34"}, {"127.0.0.1"}, {"127.0.0.1"}}
	asked := 0
	s := open(t, func(c *Config, s *space) {
		s.mode = chat.EgressOpen
		c.Dial = w.dial
		c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			a := answers[min(asked, 2)]
			asked++
			return []netip.Addr{netip.MustParseAddr(a[0])}, nil
		}
	})
	first, _, _, _ := s.connect(t, "rebind.example.com:443")
	second, _, _, _ := s.connect(t, "rebind.example.com:443")
	if !strings.HasPrefix(first, "502") || !strings.HasPrefix(second, "403") || asked != 2 {
		t.Errorf("answers %q, %q after %d lookups", first, second, asked)
	}
	if diff := cmp.Diff([]string{"93.184.216.34:443"}, w.seen()); diff != "" {
		t.Errorf("dialled (-want +got):\n%s", diff)
	}
}

func TestModeChangesWhileRunning(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	w := &web{names: map[string][]string{"a.example.com": {"93.184.216.34"}}, servers: map[string]string{"93.184.216.34:443": srv.Listener.Addr().String()}}
	s := onWeb(t, w, chat.EgressPackages)
	before, _, _, _ := s.connect(t, "a.example.com:443")
	s.set(func() { s.mode, s.allow = chat.EgressListed, []string{"a.example.com"} })
	after, _, _, _ := s.connect(t, "a.example.com:443")
	if !strings.HasPrefix(before, "403") || !strings.HasPrefix(after, "200") {
		t.Errorf("before %q, after %q", before, after)
	}
}

func TestPlainHTTP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q %v", r.Method, r.Host, r.URL, body, r.Header["Proxy-Authorization"])
	}))
	t.Cleanup(srv.Close)
	w := &web{names: map[string][]string{"deb.debian.org": {"151.101.0.1"}, "evil.example.com": {"127.0.0.1"}}, servers: map[string]string{"151.101.0.1:80": srv.Listener.Addr().String()}}
	s := onWeb(t, w, chat.EgressPackages)
	get := func(method, url, body string) (int, string) {
		c := s.dial(t, EgressSocket)
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: lies.example.com\r\nProxy-Authorization: Basic x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", method, url, len(body), body)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(got)
	}
	for _, tc := range []struct {
		method, url, body string
		status            int
		text              string
	}{
		{"GET", "http://deb.debian.org/debian/x", "", 200, `GET deb.debian.org /debian/x "" []`},
		{"POST", "http://DEB.debian.org.:80/y", "data", 200, `POST DEB.debian.org.:80 /y "data" []`},
		{"GET", "http://evil.example.com/", "", 403, "samnode: egress to evil.example.com is blocked (mode packages)."},
		{"GET", "http://deb.debian.org:8080/", "", 403, "deb.debian.org:8080 is blocked"},
		{"GET", "http://169.254.169.254/latest/meta-data", "", 403, "blocked"},
		{"GET", "http://pypi.org/", "", 502, "pypi.org could not be reached"},
		{"GET", "/", "", 400, "this is an HTTP proxy"},
		{"GET", "ftp://deb.debian.org/", "", 400, "this is an HTTP proxy"},
		{"GET", "http:///", "", 400, "this is an HTTP proxy"},
	} {
		status, body := get(tc.method, tc.url, tc.body)
		if status != tc.status || !strings.Contains(body, tc.text) {
			t.Errorf("%s %s = %d %q, want %d %q", tc.method, tc.url, status, body, tc.status, tc.text)
		}
	}
	s.set(func() { s.mode = chat.EgressOpen })
	if status, body := get("GET", "http://evil.example.com/", ""); status != 403 || !strings.Contains(body, "leads to a private address (127.0.0.1)") {
		t.Errorf("a private name in open = %d %q", status, body)
	}
}

// echo answers each connection with what it got, once the other side has
// closed its half.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				got, _ := io.ReadAll(c)
				_, _ = fmt.Fprintf(c, "got %d bytes", len(got))
			}()
		}
	}()
	return ln.Addr().String()
}

func TestHalfClose(t *testing.T) {
	w := &web{names: map[string][]string{"a.example.com": {"93.184.216.34"}}, servers: map[string]string{"93.184.216.34:443": echo(t)}}
	s := onWeb(t, w, chat.EgressOpen)
	_, _, c, r := s.connect(t, "a.example.com:443")
	if _, err := c.Write(bytes.Repeat([]byte("x"), 3<<20)); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != fmt.Sprintf("got %d bytes", 3<<20) {
		t.Errorf("answer after the half close = %q, %v", got, err)
	}
	eventually(t, "the tunnel is counted", func() bool { return s.Stats().Out == 3<<20 })
}

func TestDataSentWithConnectArrives(t *testing.T) {
	w := &web{names: map[string][]string{"a.example.com": {"93.184.216.34"}}, servers: map[string]string{"93.184.216.34:443": echo(t)}}
	s := onWeb(t, w, chat.EgressOpen)
	c := s.dial(t, EgressSocket)
	if _, err := io.WriteString(c, "CONNECT a.example.com:443 HTTP/1.1\r\nHost: a\r\n\r\nearly"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 200" {
		t.Fatalf("answer = %q, %v", answer, err)
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "got 5 bytes") {
		t.Errorf("answer = %q, %v", got, err)
	}
}

func TestStaleLease(t *testing.T) {
	w := &web{names: map[string][]string{"a.example.com": {"93.184.216.34"}}, servers: map[string]string{"93.184.216.34:443": echo(t)}}
	s := onWeb(t, w, chat.EgressOpen)
	_, _, c, r := s.connect(t, "a.example.com:443")
	s.set(func() { s.stale = errors.New("another node has the task") })
	if status, body, _, _ := s.connect(t, "a.example.com:443"); !strings.HasPrefix(status, "403") || !strings.Contains(body, "another node has the task") {
		t.Errorf("%s %s", status, body)
	}
	tick := make(chan time.Time)
	go s.watch(t.Context(), tick)
	tick <- time.Now()
	if _, err := io.ReadAll(r); err != nil {
		t.Logf("the tunnel ended with %v", err)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		eventually(t, "writing fails", func() bool { _, err := c.Write([]byte("x")); return err != nil })
	}
}

func TestCloseEndsTunnels(t *testing.T) {
	w := &web{names: map[string][]string{"a.example.com": {"93.184.216.34"}}, servers: map[string]string{"93.184.216.34:443": echo(t)}}
	s := onWeb(t, w, chat.EgressOpen)
	var ends []*bufio.Reader
	for range 10 {
		_, _, _, r := s.connect(t, "a.example.com:443")
		ends = append(ends, r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range ends {
		_, _ = io.ReadAll(r) // returns: the tunnel is gone
	}
	if st := s.Stats(); st.Open != 0 || st.Tunnels != 10 {
		t.Errorf("stats = %+v", st)
	}
}

func TestUpstreamProxyOfTheHost(t *testing.T) {
	var asked []string
	var mu sync.Mutex
	target := echo(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
		mu.Unlock()
		if r.Method != http.MethodConnect {
			fmt.Fprintf(w, "proxied %s", r.URL)
			return
		}
		if strings.HasPrefix(r.Host, "no.") {
			http.Error(w, "not here", http.StatusForbidden)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		to, err := net.Dial("tcp", target)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, c); _ = to.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(c, to)
		_ = c.Close()
	}))
	t.Cleanup(up.Close)
	via, err := url.Parse(strings.Replace(up.URL, "http://", "http://ana:pw@", 1))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, func(c *Config, s *space) {
		s.mode = chat.EgressOpen
		c.Proxy = func(*http.Request) (*url.URL, error) { return via, nil }
		c.Dial = (&net.Dialer{}).DialContext
		c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			if host == "inside.example.com" {
				return []netip.Addr{netip.MustParseAddr("192.168.1.1")}, nil
			}
			return nil, errors.New("this host has no resolver")
		}
	})
	status, body, c, r := s.connect(t, "a.example.com:443")
	if !strings.HasPrefix(status, "200") {
		t.Fatalf("%s %s", status, body)
	}
	_, _ = io.WriteString(c, "hello")
	_ = c.(*net.UnixConn).CloseWrite()
	if got, err := io.ReadAll(r); err != nil || string(got) != "got 5 bytes" {
		t.Errorf("answer = %q, %v", got, err)
	}
	if status, body, _, _ := s.connect(t, "no.example.com:443"); !strings.HasPrefix(status, "502") || !strings.Contains(body, "it answered 403 Forbidden") {
		t.Errorf("%s %s", status, body)
	}
	for _, name := range []string{"inside.example.com:443", "127.0.0.1:443", "169.254.169.254:80"} {
		if status, _, _, _ := s.connect(t, name); !strings.HasPrefix(status, "403") {
			t.Errorf("%s through the proxy: %s", name, status)
		}
	}
	p := s.dial(t, EgressSocket)
	fmt.Fprint(p, "GET http://b.example.com/x HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
	if got, _ := io.ReadAll(p); !strings.Contains(string(got), "proxied http://b.example.com") {
		t.Errorf("plain = %s", got)
	}
	mu.Lock()
	defer mu.Unlock()
	auth := "Basic YW5hOnB3"
	if diff := cmp.Diff([]string{"CONNECT a.example.com:443 " + auth, "CONNECT no.example.com:443 " + auth, "GET b.example.com " + auth}, asked); diff != "" {
		t.Errorf("the proxy was asked (-want +got):\n%s", diff)
	}
}

func TestSameRefusalIsToldOnceAMinute(t *testing.T) {
	s := onWeb(t, &web{}, chat.EgressNone)
	for range 5 {
		s.connect(t, "a.example.com:443")
	}
	s.connect(t, "b.example.com:443")
	_, _, told := s.told()
	var what []string
	for _, r := range told {
		what = append(what, r.What)
	}
	if diff := cmp.Diff([]string{"a.example.com", "b.example.com"}, what); diff != "" || s.Stats().Denied != 6 {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip(err)
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello curl") }))
	t.Cleanup(srv.Close)
	w := &web{names: map[string][]string{"pypi.org": {"151.101.0.223"}}, servers: map[string]string{"151.101.0.223:443": srv.Listener.Addr().String()}}
	s := onWeb(t, w, chat.EgressPackages)
	run := func(url string) (string, error) {
		cmd := exec.CommandContext(t.Context(), curl, "-sSvk", "--max-time", "20", url)
		cmd.Env = []string{"https_proxy=http://" + s.forward(t, EgressSocket), "http_proxy=http://" + s.forward(t, EgressSocket)}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("https://pypi.org/simple"); err != nil || !strings.Contains(out, "hello curl") {
		t.Errorf("curl: %v\n%s", err, out)
	}
	if out, err := run("https://files.example.com/x"); err == nil || !strings.Contains(out, "samnode: egress to files.example.com is blocked") {
		t.Errorf("curl to a blocked host: %v\n%s", err, out)
	}
	if out, err := run("http://files.example.com/x"); err != nil || !strings.Contains(out, "samnode: egress to files.example.com is blocked") {
		t.Errorf("curl to a blocked host in the clear: %v\n%s", err, out)
	}
}

func TestGit(t *testing.T) {
	backend, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	git := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.version=2"}, args...)...)
		cmd.Dir = dir
		cmd.Env = []string{"HOME=" + root, "PATH=/usr/bin:/bin", "GIT_TERMINAL_PROMPT=0"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	git(root, "init", "-q", "--bare", "-b", "main", "repo.git")
	git(filepath.Join(root, "repo.git"), "config", "http.receivepack", "true")
	s := open(t, func(c *Config, _ *space) {
		c.Git = &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(backend)), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}}
	})
	url := "http://" + s.forward(t, GitSocket) + "/repo.git"
	if out := git(root, "clone", "-q", url, "work"); strings.Contains(out, "fatal") {
		t.Fatal(out)
	}
	work := filepath.Join(root, "work")
	git(work, "commit", "-q", "--allow-empty", "-m", "first")
	if out := git(work, "push", "-q", "origin", "HEAD:main"); out != "" {
		t.Fatal(out)
	}
	if out := git(root, "clone", "-q", url, "again"); out != "" {
		t.Fatal(out)
	}
	if got := git(filepath.Join(root, "again"), "log", "--format=%s"); got != "first\n" {
		t.Errorf("log = %q", got)
	}
	s.set(func() { s.stale = errors.New("the lease is over") })
	if out := git(work, "fetch"); !strings.Contains(out, "403") {
		t.Errorf("fetch with a stale lease: %s", out)
	}
	if s.Stats().Git == 0 || s.Stats().Stale == 0 {
		t.Errorf("stats = %+v", s.Stats())
	}
}
