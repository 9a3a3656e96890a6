package loopback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/mesh"
)

var secret = []byte("sixteen bytes or more")

func up(t *testing.T, c Config) *Node {
	t.Helper()
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Secret == nil {
		c.Secret = secret
	}
	n, err := Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return n
}

// echo answers on a service with who called and what they said.
func echo(t *testing.T, n *Node, s mesh.Service) {
	t.Helper()
	l, err := n.Listen(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 5)
				if _, err := io.ReadFull(c, b); err == nil {
					fmt.Fprintf(c, "%s says %s", c.(interface{ Caller() mesh.Caller }).Caller().Node, b)
				}
			}()
		}
	}()
}

func say(t *testing.T, c net.Conn) string {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Error(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(got)
}

func TestDial(t *testing.T) {
	a, b := up(t, Config{}), up(t, Config{})
	echo(t, b, mesh.Log)
	c, err := a.Dial(t.Context(), b.Addr(), mesh.Log)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := say(t, c), a.Addr()+" says hello"; got != want {
		t.Errorf("b answers %q, want %q", got, want)
	}
	if _, err := a.Dial(t.Context(), b.Addr(), mesh.Calls); err == nil || !strings.Contains(err.Error(), `no service "calls"`) {
		t.Errorf("a service that nobody listens for: %v", err)
	}
	echo(t, a, mesh.Calls)
	if c, err = a.Dial(t.Context(), a.Addr(), mesh.Calls); err != nil {
		t.Fatal(err)
	}
	if got, want := say(t, c), a.Addr()+" says hello"; got != want {
		t.Errorf("a answers itself %q, want %q", got, want)
	}
}

func TestDialRefuses(t *testing.T) {
	errWorker := errors.New("a worker has no part in the log")
	core := up(t, Config{Allow: func(_ context.Context, s mesh.Service, c mesh.Caller) error {
		if s == mesh.Log {
			return errWorker
		}
		return nil
	}})
	echo(t, core, mesh.Log)
	echo(t, core, mesh.Calls)
	worker := up(t, Config{})
	foreign := up(t, Config{Secret: []byte("the secret of another mesh")})
	gone := up(t, Config{})
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		from    *Node
		to      string
		service mesh.Service
		is      error
		says    string
	}{
		{"with another secret", foreign, core.Addr(), mesh.Calls, mesh.ErrStranger, "secret"},
		{"not allowed there", worker, core.Addr(), mesh.Log, mesh.ErrUnreachable, errWorker.Error()},
		{"not allowed here", core, worker.Addr(), mesh.Log, errWorker, ""},
		{"a node at the pages", worker, core.Addr(), mesh.Pages, mesh.ErrNotPerson, ""},
		{"nobody there", worker, gone.Addr(), mesh.Calls, mesh.ErrUnreachable, "refused"},
		{"a node that is closed", gone, core.Addr(), mesh.Calls, mesh.ErrNotUp, ""},
		{"off this machine", worker, "192.0.2.1:80", mesh.Calls, mesh.ErrUnreachable, "loopback"},
		{"no address", worker, "nABC", mesh.Calls, mesh.ErrUnreachable, "loopback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := c.from.Dial(t.Context(), c.to, c.service)
			if err == nil {
				conn.Close()
			}
			if !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("Dial = %v, want %v and %q", err, c.is, c.says)
			}
		})
	}
}

// TestDialEnds: a program that accepts and says nothing costs a deadline.
func TestDialEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := up(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := n.Dial(ctx, l.Addr().String(), mesh.Calls); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("Dial = %v, want ErrUnreachable", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Dial took %s", took)
	}
}

// TestStrangers: other programs of this user cannot get at what is between
// nodes, and do no harm.
func TestStrangers(t *testing.T) {
	var log safeBuffer
	n := up(t, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	echo(t, n, mesh.Calls)
	hello := magic + string(text("127.0.0.1:9")) + string(text("calls")) + strings.Repeat("n", nonceSize)
	for _, c := range []struct{ name, send string }{
		{"HTTP", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"},
		{"noise", string(bytes.Repeat([]byte{0xff}, 1<<16))},
		{"no proof", hello + strings.Repeat("p", 32) + "GET / HTTP/1.1\r\n\r\n"},
		{"an address elsewhere", magic + string(text("192.0.2.1:9")) + string(text("calls")) + strings.Repeat("n", nonceSize)},
		{"its own proof", reflected(t, n, hello)},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := net.Dial("tcp", n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(raw, c.send) // it may hang up before all is said
			got, err := io.ReadAll(raw)
			if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
				t.Error("the connection is still open")
			}
			if len(got) > nonceSize+32 || bytes.Contains(got, []byte("says")) {
				t.Errorf("it was answered %q", got)
			}
		})
	}
	// Slow ones wait while the others go on.
	for range 20 {
		raw, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		io.WriteString(raw, magic[:3])
	}
	other := up(t, Config{})
	c, err := other.Dial(t.Context(), n.Addr(), mesh.Calls)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := say(t, c), other.Addr()+" says hello"; got != want {
		t.Errorf("n answers %q, want %q", got, want)
	}
	if !strings.Contains(log.String(), "does not know the secret") {
		t.Errorf("the log does not say who was refused:\n%s", &log)
	}
}

// reflected is a preface that proves itself with what the node said to another
// connection.
func reflected(t *testing.T, n *Node, hello string) string {
	t.Helper()
	raw, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	io.WriteString(raw, hello)
	said := make([]byte, nonceSize+32)
	if _, err := io.ReadFull(raw, said); err != nil {
		t.Fatal(err)
	}
	return hello + string(said[nonceSize:])
}

func TestPeers(t *testing.T) {
	a, b, c := up(t, Config{}), up(t, Config{}), up(t, Config{})
	echo(t, b, mesh.Calls)
	echo(t, c, mesh.Calls)
	for _, to := range []*Node{b, c} {
		conn, err := a.Dial(t.Context(), to.Addr(), mesh.Calls)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	peers, err := a.Peers(t.Context())
	if err != nil || len(peers) != 2 {
		t.Fatalf("Peers = %v, %v; want two", peers, err)
	}
	for _, p := range peers {
		if online := p.Addr == b.Addr(); p.Online != online || online != (p.Latency > 0) || p.Path != "loopback" {
			t.Errorf("%+v: want it to be online: %v", p, online)
		}
	}
	if peers, err = b.Peers(t.Context()); err != nil || len(peers) != 1 || peers[0].Addr != a.Addr() {
		t.Errorf("Peers of b = %v, %v; want a, which called", peers, err)
	}
}

// TestAddrIsKept: a node is found again where it was.
func TestAddrIsKept(t *testing.T) {
	a, b := up(t, Config{}), up(t, Config{})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := up(t, Config{NodeAddr: b.Addr()})
	echo(t, again, mesh.Log)
	c, err := a.Dial(t.Context(), b.Addr(), mesh.Log)
	if err != nil {
		t.Fatal(err)
	}
	say(t, c)
}

func TestUpRefuses(t *testing.T) {
	taken := up(t, Config{})
	for name, c := range map[string]Config{
		"no secret":         {Listen: "127.0.0.1:0"},
		"short secret":      {Listen: "127.0.0.1:0", Secret: []byte("short")},
		"pages to everyone": {Listen: "0.0.0.0:0", Secret: secret},
		"nodes to everyone": {Listen: "127.0.0.1:0", NodeAddr: "0.0.0.0:0", Secret: secret},
		"a port that is taken": {
			Listen: "127.0.0.1:0", NodeAddr: taken.Addr(), Secret: secret,
		},
	} {
		if n, err := Up(t.Context(), c); err == nil {
			t.Errorf("%s: it is up: %v", name, n.Close())
		}
	}
}

func servePages(t *testing.T, n *Node) {
	t.Helper()
	l, err := n.Listen(t.Context(), mesh.Pages)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- mesh.Serve(ctx, mesh.ServeConfig{Listener: l, Host: n.Host, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := mesh.WhoIs(r)
			fmt.Fprint(w, who.Person, " ", who.Role, " ", who.Local, " ", err)
		})})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestPages(t *testing.T) {
	n := up(t, Config{})
	servePages(t, n)
	get := func(host string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		if host != "" {
			req.Host = host
		}
		resp, err := http.DefaultClient.Do(req)
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
	if status, body := get(""); status != http.StatusOK || !strings.HasSuffix(body, " owner true <nil>") {
		t.Errorf("the person at this machine gets %d %q", status, body)
	}
	if status, body := get("evil.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("a name rebound to loopback gets %d %q", status, body)
	}
}

// BenchmarkDial is a connection between nodes, preface and all.
func BenchmarkDial(b *testing.B) {
	var nodes []*Node
	for range 2 {
		n, err := Up(b.Context(), Config{Listen: "127.0.0.1:0", Secret: secret})
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close()
		nodes = append(nodes, n)
	}
	l, err := nodes[1].Listen(b.Context(), mesh.Log)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, err := nodes[0].Dial(b.Context(), nodes[1].Addr(), mesh.Log)
		if err != nil {
			b.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		far.Close()
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
