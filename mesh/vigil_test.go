package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// plug is a node with HTTP whose power can be cut: it then neither answers nor
// ends a connection, and takes no new one.
type plug struct {
	in chan net.Conn

	mu  sync.Mutex
	out chan struct{} // closed when the power is back; nil: it is on
}

func newPlug(t *testing.T, mux *http.ServeMux) *plug {
	p := &plug{in: make(chan net.Conn)}
	srv := &http.Server{Handler: mux}
	go srv.Serve(p)
	t.Cleanup(func() { srv.Close() })
	return p
}

func (p *plug) cut(off bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if off {
		p.out = make(chan struct{})
	} else {
		close(p.out)
		p.out = nil
	}
}

// wait returns when the power is on, or ends is closed.
func (p *plug) wait(ends <-chan struct{}) {
	p.mu.Lock()
	out := p.out
	p.mu.Unlock()
	if out == nil {
		return
	}
	select {
	case <-out:
	case <-ends:
	}
}

func (p *plug) dial(ctx context.Context, _ string, _ Service) (net.Conn, error) {
	if p.wait(ctx.Done()); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	ends := make(chan struct{})
	select {
	case p.in <- &pluggedConn{far, p, ends, sync.OnceFunc(func() { close(ends) })}:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *plug) Accept() (net.Conn, error) {
	c, ok := <-p.in
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements net.Listener.
func (p *plug) Close() error   { close(p.in); return nil }
func (p *plug) Addr() net.Addr { return &net.TCPAddr{} }

type pluggedConn struct {
	net.Conn
	p    *plug
	ends chan struct{}
	end  func()
}

func (c *pluggedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.p.wait(c.ends)
	return n, err
}

func (c *pluggedConn) Write(b []byte) (int, error) {
	c.p.wait(c.ends)
	return c.Conn.Write(b)
}

func (c *pluggedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

func fetch(ctx context.Context, c *http.Client, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, CallURL("n1", path), nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// slowly answers after a minute, unless the caller has gone.
func slowly(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(time.Minute):
		io.WriteString(w, "at last")
	case <-r.Context().Done():
	}
}

func TestADeadNodeIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("/slow", slowly)
		mux.HandleFunc("/fast", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") })
		p := newPlug(t, mux)
		client := NewHTTPClient(p.dial)
		defer client.CloseIdleConnections()
		if got, err := fetch(t.Context(), client, "/slow"); got != "at last" || err != nil {
			t.Errorf("a slow answer of a node that lives = %q, %v", got, err)
		}

		var asking sync.WaitGroup
		began := time.Now()
		for _, path := range []string{"/slow", "/slow", "/fast"} {
			asking.Go(func() {
				if path == "/fast" {
					time.Sleep(1500 * time.Millisecond) // this one has to dial
				}
				_, err := fetch(t.Context(), client, path)
				if !errors.Is(err, errSilent) || !strings.Contains(err.Error(), "nothing is heard of it") {
					t.Errorf("%s of a dead node = %v", path, err)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		p.cut(true)
		asking.Wait()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a dead node was waited for for %v", took)
		}

		p.cut(false)
		if got, err := fetch(t.Context(), client, "/fast"); got != "here" || err != nil {
			t.Errorf("when it is back: %q, %v", got, err)
		}
	})
}

// TestThePatienceOfVigil is for nodes that were never heard, for those that are
// back soon, for answers that have begun, and no longer than the caller's.
func TestThePatienceOfVigil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("/slow", slowly)
		mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "once ")
			w.(http.Flusher).Flush()
			time.Sleep(time.Minute)
			io.WriteString(w, "and again")
		})
		p := newPlug(t, mux)
		client := NewHTTPClient(p.dial)
		defer client.CloseIdleConnections()
		p.cut(true)
		time.AfterFunc(20*time.Second, func() { p.cut(false) })
		if got, err := fetch(t.Context(), client, "/slow"); got != "at last" || err != nil {
			t.Errorf("a node whose first way took long = %q, %v", got, err)
		}

		for _, at := range []time.Duration{0, 20500 * time.Millisecond} {
			time.AfterFunc(at+1100*time.Millisecond, func() { p.cut(true) })
			time.AfterFunc(at+3300*time.Millisecond, func() { p.cut(false) })
		}
		if got, err := fetch(t.Context(), client, "/slow"); got != "at last" || err != nil {
			t.Errorf("a node that was away for two seconds, twice = %q, %v", got, err)
		}

		time.AfterFunc(10*time.Second, func() { p.cut(true) })
		time.AfterFunc(30*time.Second, func() { p.cut(false) })
		if got, err := fetch(t.Context(), client, "/stream"); got != "once and again" || err != nil {
			t.Errorf("an answer that had begun = %q, %v", got, err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if _, err := fetch(ctx, client, "/slow"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller with less patience: %v", err)
		}
	})
}

// TestAnUpgradedConnectionIsTheCallers: its body is the connection.
func TestAnUpgradedConnectionIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("/echo", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(conn, conn)
		})
		client := NewHTTPClient(newPlug(t, mux).dial)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, CallURL("n1", "/echo"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		both, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("the body is a %T", resp.Body)
		}
		for _, text := range []string{"one", "two"} {
			time.Sleep(time.Minute)
			got := make([]byte, len(text))
			go io.WriteString(both, text)
			if _, err := io.ReadFull(both, got); string(got) != text || err != nil {
				t.Errorf("read %q, %v; want %q", got, err, text)
			}
		}
	})
}
