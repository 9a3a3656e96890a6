package mesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type question struct{ Text string }

type answer struct{ From, Text string }

var errTaken = errors.New("taken")

// newCalls serves calls as node n1 sends them, and returns a client for them.
func newCalls(t *testing.T, codes Codes, routes map[string]http.Handler) (*Client, *door) {
	t.Helper()
	d := newDoor(t, GateConfig{}, node("n1"))
	mux := http.NewServeMux()
	for path, h := range routes {
		mux.Handle(path, h)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	l := d.listen(t, Calls)
	go func() { served <- Serve(ctx, ServeConfig{Listener: l, Handler: mux}) }()
	c := NewClient(d.dial, codes)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return c, d
}

func TestCall(t *testing.T) {
	codes := Codes{"taken": errTaken}
	c, _ := newCalls(t, codes, map[string]http.Handler{
		"/echo": Answer(codes, func(_ context.Context, from Caller, in question) (answer, error) {
			return answer{from.Node, in.Text}, nil
		}),
		"/taken": Answer(codes, func(context.Context, Caller, question) (answer, error) {
			return answer{}, fmt.Errorf("slot 3 of n2: %w", errTaken)
		}),
		"/broken": Answer(codes, func(context.Context, Caller, question) (answer, error) {
			return answer{}, errors.New("the disk is gone")
		}),
		"/slow": Answer(codes, func(ctx context.Context, _ Caller, _ question) (answer, error) {
			<-ctx.Done()
			return answer{}, ctx.Err()
		}),
		"/late": Answer(codes, func(context.Context, Caller, question) (answer, error) {
			return answer{}, fmt.Errorf("waiting for the leader: %w", context.DeadlineExceeded)
		}),
		"/text": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }),
		"/huge": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, io.LimitReader(zeros{}, CallLimit+1))
		}),
		"/elsewhere": http.RedirectHandler("/echo", http.StatusTemporaryRedirect),
	})
	call := func(path string, in any) (answer, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var out answer
		err := c.Call(ctx, "n2:1", path, in, &out)
		return out, err
	}
	got, err := call("/echo", question{"hello"})
	if diff := cmp.Diff(answer{"n1", "hello"}, got); err != nil || diff != "" {
		t.Errorf("Call = %v\n%s", err, diff)
	}
	if _, err := call("/taken", question{}); !errors.Is(err, errTaken) || err.Error() != "slot 3 of n2: taken" {
		t.Errorf("a known error came back as %v", err)
	}
	if _, err := call("/late", question{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the node's own timeout came back as %v", err)
	}
	for path, want := range map[string]string{
		"/broken":    "calling /broken of node n2:1: the disk is gone",
		"/nowhere":   "404 Not Found: 404 page not found",
		"/text":      "the answer makes no sense",
		"/huge":      "larger than 8 MiB",
		"/elsewhere": "the answer makes no sense",
	} {
		if _, err := call(path, question{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := call("/echo", []int{1}); err == nil || !strings.Contains(err.Error(), "the call makes no sense") {
		t.Errorf("a call of another shape: %v", err)
	}
	if _, err := call("/echo", question{strings.Repeat("x", CallLimit)}); err == nil || !strings.Contains(err.Error(), "at most 8 MiB") {
		t.Errorf("a huge call: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "n2", "/slow", question{}, nil); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow node: %v, want ErrNoAnswer and DeadlineExceeded", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// TestCallWho: calls are answered to nodes, whatever the listener let in.
func TestCallWho(t *testing.T) {
	h := Answer(nil, func(context.Context, Caller, question) (answer, error) { return answer{}, nil })
	for _, c := range []struct {
		name string
		who  Caller
		want int
	}{
		{"node", Caller{Node: "n1"}, http.StatusOK},
		{"person", Caller{Person: "ada", Role: Owner}, http.StatusForbidden},
		{"nobody", Caller{}, http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &recorder{header: http.Header{}}
			r, err := http.NewRequestWithContext(WithCaller(t.Context(), c.who), http.MethodPost, "/", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			h.ServeHTTP(w, r)
			if w.status != c.want {
				t.Errorf("status %d, want %d", w.status, c.want)
			}
		})
	}
}

// recorder is a ResponseWriter with deadlines, as a connection has.
type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header             { return r.header }
func (r *recorder) WriteHeader(status int)          { r.status = status }
func (r *recorder) SetReadDeadline(time.Time) error { return nil }
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return len(p), nil
}

// TestCallUnreachable tells what was not asked from what was not answered.
func TestCallUnreachable(t *testing.T) {
	errPolicy := errors.New("the policy forbids it")
	c := NewClient(func(context.Context, string, Service) (net.Conn, error) { return nil, errPolicy }, nil)
	err := c.Call(t.Context(), "n2", "/x", nil, nil)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, errPolicy) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("no connection: %v, want ErrUnreachable and the reason", err)
	}
	c = NewClient(func(context.Context, string, Service) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			http.ReadRequest(bufio.NewReader(far))
			far.Close()
		}()
		return near, nil
	}, nil)
	err = c.Call(t.Context(), "n2", "/x", nil, nil)
	if !errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrUnreachable) {
		t.Errorf("no answer: %v, want ErrNoAnswer", err)
	}
}

// TestCallGarbage: what is no HTTP, or never ends, harms nobody else.
func TestCallGarbage(t *testing.T) {
	c, d := newCalls(t, nil, map[string]http.Handler{
		"/echo": Answer(nil, func(_ context.Context, _ Caller, in question) (answer, error) { return answer{Text: in.Text}, nil }),
	})
	for _, garbage := range []string{
		"\x16\x03\x01\x00garbage",
		"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 200),
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{", // and waits
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{{{",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
	} {
		raw, err := d.dial(t.Context(), "", Calls)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if _, err := io.WriteString(raw, garbage); err != nil {
			t.Logf("writing garbage: %v", err) // it may hang up on us
		}
	}
	var out answer
	if err := c.Call(t.Context(), "n2", "/echo", question{"still here"}, &out); err != nil || out.Text != "still here" {
		t.Errorf("Call = %v, %v", out, err)
	}
}

// TestCallReuses: calls share connections.
func TestCallReuses(t *testing.T) {
	h := Answer(nil, func(_ context.Context, _ Caller, in question) (answer, error) { return answer{}, nil })
	c, d := newCalls(t, nil, map[string]http.Handler{"/x": h})
	dials := 0
	c = NewClient(func(ctx context.Context, addr string, s Service) (net.Conn, error) {
		dials++
		if addr != "127.0.0.1:7 [x]" || s != Calls {
			t.Errorf("dialled %q for %q", addr, s)
		}
		return d.dial(ctx, addr, s)
	}, nil)
	defer c.Close()
	for range 10 {
		if err := c.Call(t.Context(), "127.0.0.1:7 [x]", "/x", question{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if dials != 1 {
		t.Errorf("%d connections for ten calls", dials)
	}
}

// TestCallStream: what is no call goes through the same client, both ways.
func TestCallStream(t *testing.T) {
	c, _ := newCalls(t, nil, map[string]http.Handler{
		"/stream": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := range 3 {
				fmt.Fprintf(w, "%d\n", i)
				w.(http.Flusher).Flush()
			}
		}),
		"/up": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer raw.Close()
			io.WriteString(raw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			line, err := rw.ReadString('\n')
			fmt.Fprintf(raw, "echo %s", line)
			if err != nil {
				t.Error(err)
			}
		}),
	})
	get := func(path string, header http.Header) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, CallURL("n2", path), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	resp := get("/stream", http.Header{})
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); string(got) != "0\n1\n2\n" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	up := get("/up", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}})
	defer up.Body.Close()
	rw := up.Body.(io.ReadWriter)
	io.WriteString(rw, "hello\n")
	if got, err := bufio.NewReader(rw).ReadString('\n'); got != "echo hello\n" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func FuzzAddr(f *testing.F) {
	for _, s := range []string{"127.0.0.1:7070", "nABCdefCNTRL", "1", "[::1]:80", "-2d", "a-b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		if got, err := unescapeAddr(escapeAddr(addr)); got != addr || err != nil {
			t.Errorf("%q came back as %q, %v", addr, got, err)
		}
		unescapeAddr(addr)
		if _, err := http.NewRequestWithContext(t.Context(), http.MethodGet, CallURL(addr, "/x"), nil); err != nil {
			t.Errorf("no URL for %q: %v", addr, err)
		}
	})
}
