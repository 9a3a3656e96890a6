package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

const realKey = "sk-real-0123456789"

// space is a workspace's side of a broker: what was told about it, and ways
// through its sockets.
type space struct {
	*Broker
	dir string
	log *strings.Builder

	mu      sync.Mutex
	spent   []chat.Usage
	calls   []Call
	refused []Refusal
	stale   error
	left    int64
	limited bool
	mode    chat.Egress
	allow   []string
}

// open opens a broker with a good lease, a key, and whatever mend changes.
func open(t *testing.T, mend func(*Config, *space)) *space {
	t.Helper()
	s := &space{dir: filepath.Join(t.TempDir(), "sock"), mode: chat.EgressPackages, log: &strings.Builder{}}
	cfg := Config{
		Dir: s.dir,
		Stale: func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.stale
		},
		Key: func(context.Context, string) (Credential, error) { return Credential{Value: realKey}, nil },
		Spent: func(u chat.Usage) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.spent = append(s.spent, u)
			s.left -= u.Cost
		},
		Called: func(c Call) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calls = append(s.calls, c)
		},
		Budget: func() (int64, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.left, s.limited
		},
		Egress: func() (chat.Egress, []string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.mode, s.allow
		},
		Refused: func(r Refusal) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refused = append(s.refused, r)
		},
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") },
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("nothing may be dialled here")
		},
		Proxy:  func(*http.Request) (*url.URL, error) { return nil, nil },
		Logger: slog.New(slog.NewTextHandler(lockedWriter{s}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if mend != nil {
		mend(&cfg, s)
	}
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Broker = b
	return s
}

type lockedWriter struct{ s *space }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.log.Write(p)
}

func (s *space) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *space) told() (calls []Call, spent []chat.Usage, refused []Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(calls, s.calls...), append(spent, s.spent...), append(refused, s.refused...)
}

// dial connects to one of the sockets.
func (s *space) dial(t *testing.T, name string) net.Conn {
	t.Helper()
	c, err := s.dialCtx(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (s *space) dialCtx(ctx context.Context, name string) (net.Conn, error) {
	return dialLong(ctx, filepath.Join(s.dir, name))
}

// client talks HTTP through one of the sockets, as if at a host.
func (s *space) client(name string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dialCtx(ctx, name) },
		DisableCompression: true,
		DisableKeepAlives:  true,
	}}
}

// forward is the shim's part: a loopback port that leads to a socket.
func (s *space) forward(t *testing.T, name string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := s.dialCtx(context.Background(), name)
				if err != nil {
					return
				}
				defer out.Close()
				var wg sync.WaitGroup
				wg.Go(func() {
					_, _ = io.Copy(out, in)
					_ = out.(*net.UnixConn).CloseWrite()
				})
				_, _ = io.Copy(in, out)
				_ = in.(*net.TCPConn).CloseWrite()
				wg.Wait()
			}()
		}
	}()
	return ln.Addr().String()
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
