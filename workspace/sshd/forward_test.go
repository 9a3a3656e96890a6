package sshd

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// web is a program that answers at a port, or a socket.
func web(t *testing.T, l net.Listener, text string) {
	t.Helper()
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %d", text, len(body))
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
}

func listen(t *testing.T, network, at string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// get asks a port here, once it answers.
func get(t *testing.T, c *http.Client, at string) string {
	t.Helper()
	got := ""
	eventually(t, "an answer of "+at, func() bool {
		resp, err := c.Post("http://"+at+"/", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		got = string(b)
		return err == nil
	})
	return got
}

// freePort is an address of the loopback interface that no other test has.
func freePort(t *testing.T) string {
	t.Helper()
	l := listen(t, "tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	defer l.Close()
	return l.Addr().String()
}

func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

// hold keeps an ssh that only forwards.
func (h *house) hold(args ...string) {
	h.t.Helper()
	cmd := h.client("ssh", append([]string{"-N", "-o", "ExitOnForwardFailure=yes"}, args...)...)
	cmd.Stderr = h.t.Output()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	})
}

func TestForwards(t *testing.T) {
	t.Parallel()
	h := open(t)
	inside := listen(t, "tcp", "127.0.0.1:0")
	web(t, inside, "inside")
	_, port, _ := net.SplitHostPort(inside.Addr().String())
	socket := filepath.Join(h.dir, "web.sock")
	web(t, listen(t, "unix", socket), "socket")
	outside := listen(t, "tcp", "127.0.0.1:0")
	web(t, outside, "outside")
	local, toSocket, socks, remote := freePort(t), freePort(t), freePort(t), freePort(t)
	remoteSocket := filepath.Join(h.dir, "back.sock")
	h.hold("-L", local+":localhost:"+port, "-L", toSocket+":"+socket, "-D", socks,
		"-R", remote+":"+outside.Addr().String(), "-R", remoteSocket+":"+outside.Addr().String(), "node")
	for at, want := range map[string]string{local: "inside 1048576", toSocket: "socket 1048576", remote: "outside 1048576"} {
		if got := get(t, client(), at); got != want {
			t.Errorf("%s answers %q, want %q", at, got, want)
		}
	}
	proxy, err := url.Parse("socks5://" + socks)
	if err != nil {
		t.Fatal(err)
	}
	bySocks := client()
	bySocks.Transport.(*http.Transport).Proxy = http.ProxyURL(proxy)
	if got := get(t, bySocks, "127.0.0.1:"+port); got != "inside 1048576" {
		t.Errorf("by SOCKS it answers %q", got)
	}
	back := client()
	back.Transport.(*http.Transport).Dial = func(string, string) (net.Conn, error) { return net.Dial("unix", remoteSocket) } //nolint:staticcheck // a test's
	if got := get(t, back, "workspace"); got != "outside 1048576" {
		t.Errorf("the socket in the workspace answers %q", got)
	}
}

func TestForwardRefused(t *testing.T) {
	t.Parallel()
	h := open(t)
	for to, want := range map[string]string{
		"192.0.2.1:80":     "outside the workspace",
		"example.com:443":  "outside the workspace",
		freePort(t):        "connection refused",
		"localhost:abcdef": "",
	} {
		if _, errs, code := h.run("", "-W", to, "node"); code != 255 || !strings.Contains(errs, want) {
			t.Errorf("ssh -W %s = %d: %s", to, code, errs)
		}
	}
	taken := listen(t, "tcp", "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	if _, errs, code := h.run("", "-N", "-o", "ExitOnForwardFailure=yes", "-R", port+":localhost:1", "node"); code != 255 || !strings.Contains(errs, "remote port forwarding failed") {
		t.Errorf("a port that is taken = %d: %s", code, errs)
	}
}

// A jump ends at a port of the workspace, where here the same server is, or at
// another node of the mesh.
func TestProxyJump(t *testing.T) {
	t.Parallel()
	h := open(t)
	if out, errs, code := h.run("", "inner", "echo through; exit 5"); out != "through\n" || code != 5 {
		t.Errorf("ssh by way of the workspace = %q, %q, %d", out, errs, code)
	}
	for host, want := range map[string]int{"b.mesh.test": 6, "c.mesh.test": 255} {
		out, errs, code := h.run("", "-o", "HostName="+host, "-o", "Port=22", "inner", "echo through; exit 6")
		if code != want || want == 6 && out != "through\n" || want == 255 && !strings.Contains(errs, "outside the workspace") {
			t.Errorf("ssh by way of the workspace to %s = %q, %q, %d", host, out, errs, code)
		}
	}
	if _, errs, code := h.run("", "-o", "HostName=b.mesh.test", "-o", "Port=22", "-l", "nobody", "inner", "true"); code != 255 || !strings.Contains(errs, "there is no task") {
		t.Errorf("a jump to no task = %d: %s", code, errs)
	}
}
