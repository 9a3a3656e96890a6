package mesh

import (
	"bufio"
	"context"
	"crypto/tls"
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

func servePages(t *testing.T, who Identify, c ServeConfig) *door {
	t.Helper()
	d := newDoor(t, GateConfig{}, who)
	c.Listener = d.listen(t, Pages)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return d
}

func get(t *testing.T, d *door, host string, header ...string) (int, string) {
	t.Helper()
	c, err := d.dial(t.Context(), "", Pages)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", host, strings.Join(header, "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func person(context.Context, net.Conn) (Visit, error) {
	return Visit{Service: Pages, Caller: Caller{Person: "ada", Role: Owner}}, nil
}

var sayWho = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	who, err := WhoIs(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	fmt.Fprint(w, who)
})

func TestServe(t *testing.T) {
	d := servePages(t, person, ServeConfig{Handler: sayWho, Host: func(name string) bool { return name == "n1" || name == "::1" }})
	for _, c := range []struct {
		host string
		want int
	}{
		{"n1", 200}, {"n1:7070", 200}, {"[::1]:7070", 200}, {"evil.example", 421}, {"n1.evil.example:80", 421}, {"", 421},
	} {
		status, body := get(t, d, c.host)
		if status != c.want || c.want == 200 && body != "ada" {
			t.Errorf("host %q: %d %q, want %d", c.host, status, body, c.want)
		}
	}
	if _, body := get(t, d, "n1", "Tailscale-User-Login: eve", "X-Forwarded-User: eve\r\n"); body != "ada" {
		t.Errorf("with a header that says somebody else: %q", body)
	}
}

// TestCallerIsAskedAgain: a connection does not outlive its caller's rights.
func TestCallerIsAskedAgain(t *testing.T) {
	var gone atomic.Bool
	d := servePages(t, func(ctx context.Context, c net.Conn) (Visit, error) {
		v, err := person(ctx, c)
		v.Again = func() Caller {
			if gone.Load() {
				return Caller{}
			}
			return v.Caller
		}
		return v, err
	}, ServeConfig{Handler: sayWho})
	c, err := d.dial(t.Context(), "", Pages)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for _, want := range []int{http.StatusOK, http.StatusForbidden} {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: n1\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
		gone.Store(true)
	}
}

// TestServeEnds: when its context ends, streams are told, and what does not
// listen is cut.
func TestServeEnds(t *testing.T) {
	drain := make(chan struct{})
	began := make(chan struct{}, 2)
	d := newDoor(t, GateConfig{}, person)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	l := d.listen(t, Pages)
	go func() {
		served <- Serve(ctx, ServeConfig{
			Listener: l, Grace: 50 * time.Millisecond, Drain: func() { close(drain) },
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				began <- struct{}{}
				if r.Host == "stream" {
					<-drain
					io.WriteString(w, "the end")
					return
				}
				<-r.Context().Done()
			}),
		})
	}()
	var conns []net.Conn
	for _, host := range []string{"stream", "deaf"} {
		c, err := d.dial(t.Context(), "", Pages)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		<-began
		conns = append(conns, c)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if got, err := io.ReadAll(conns[0]); !strings.HasSuffix(string(got), "the end") || err != nil {
		t.Errorf("the stream got %q, %v", got, err)
	}
	if _, err := conns[1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the deaf one: %v, want the end", err)
	}
}

func TestServeSaysWhyItEnds(t *testing.T) {
	d := newDoor(t, GateConfig{}, person)
	l := d.listen(t, Pages)
	l.Close()
	if err := Serve(t.Context(), ServeConfig{Listener: l, Handler: sayWho}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want net.ErrClosed", err)
	}
}

// TestServeTLS: with a certificate the caller is still known, and streams share
// one connection.
func TestServeTLS(t *testing.T) {
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	conf := &tls.Config{Certificates: certs.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	d := servePages(t, func(ctx context.Context, c net.Conn) (Visit, error) {
		v, err := person(ctx, c)
		v.Wrap = func(c net.Conn) net.Conn { return tls.Server(c, conf) }
		return v, err
	}, ServeConfig{Handler: sayWho, Host: func(name string) bool { return name == "example.com" }})
	transport := certs.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = true
	transport.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return d.dial(ctx, addr, Pages) }
	client := &http.Client{Transport: transport}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "ada" || resp.ProtoMajor != 2 || err != nil {
		t.Errorf("%s %q, %v", resp.Proto, body, err)
	}
}
