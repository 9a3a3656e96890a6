package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/shim"
)

// spaces is a node's workspaces: what they answer, and what was asked.
type spaces struct {
	err   error
	text  io.ReadCloser
	mu    sync.Mutex
	asked []string
}

func (s *spaces) note(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
	return s.err
}

func (s *spaces) Ports(_ context.Context, task chat.TaskID) ([]shim.Port, error) {
	return []shim.Port{{Port: 3000, Address: "::", Process: "node"}}, s.note("ports %q", task)
}

func (s *spaces) Journal(_ context.Context, task chat.TaskID) (io.ReadCloser, error) {
	return s.text, s.note("journal %q", task)
}

func (s *spaces) Output(_ context.Context, task chat.TaskID, message string) (io.ReadCloser, error) {
	return s.text, s.note("output %q %q", task, message)
}

func (s *spaces) Tapes(_ context.Context, task chat.TaskID) ([]workspace.Tape, error) {
	return []workspace.Tape{{Name: "t1.cast", Size: 7}}, s.note("tapes %q", task)
}

func (s *spaces) Tape(_ context.Context, task chat.TaskID, name string) (io.ReadCloser, error) {
	return s.text, s.note("tape %q %q", task, name)
}

func (s *spaces) Inside(_ context.Context, task chat.TaskID) (workspace.Inside, error) {
	return workspace.Inside{Dir: "/workspaces/app", Env: []string{"A=b"}, Binary: "/samnode"}, s.note("inside %q", task)
}

// Connect gives one that says what is said to it, and then "bye".
func (s *spaces) Connect(_ context.Context, task chat.TaskID) (net.Conn, error) {
	if err := s.note("connect %q", task); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go func() {
		defer far.Close()
		if _, err := io.Copy(far, far); err == nil {
			io.WriteString(far, "bye") // or the other end is gone
		}
	}()
	return near, nil
}

// pair is two nodes: a serves c, who asks.
func pair(t *testing.T, c ServerConfig) (*Client, *Server) {
	t.Helper()
	s := NewServer(c)
	srv := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); srv.Close() })
	return New(Config{Client: srv.Client(), Base: func(node chat.Node) (string, error) {
		if node != "a" {
			return "", fmt.Errorf("%s is not in the mesh: %w", node, chat.ErrNotFound)
		}
		return srv.URL, nil
	}}), s
}

func TestAsk(t *testing.T) {
	t.Parallel()
	s := &spaces{}
	c, _ := pair(t, ServerConfig{Spaces: s})
	ctx := t.Context()
	for _, id := range []string{"t1", "a/b", "..", "", "ü ?#%", "."} {
		if list, err := c.Ports(ctx, "a", chat.TaskID(id)); err != nil || len(list) != 1 || list[0].Port != 3000 {
			t.Errorf("Ports = %+v, %v", list, err)
		}
		want := []string{fmt.Sprintf("ports %q", id)}
		if d := cmp.Diff(want, s.asked); d != "" {
			t.Errorf("the node was asked (-want +got):\n%s", d)
		}
		s.asked = nil
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	s := &spaces{}
	c, _ := pair(t, ServerConfig{Spaces: s})
	for _, is := range []error{
		workspace.ErrNoWorkspace, workspace.ErrAway, chat.ErrNotFound, chat.ErrStale, chat.ErrInvalid, chat.ErrTooLarge, chat.ErrRefused,
		shim.ErrNotFound, shim.ErrRefused,
	} {
		s.err = fmt.Errorf("%w on a; it starts with the next message", is)
		_, perr := c.Ports(t.Context(), "a", "t")
		_, jerr := c.Journal(t.Context(), "a", "t")
		_, oerr := c.Output(t.Context(), "a", "t", "m")
		_, lerr := c.Tapes(t.Context(), "a", "t")
		_, terr := c.Tape(t.Context(), "a", "t", "x.cast")
		_, ierr := c.Inside(t.Context(), "a", "t")
		_, cerr := c.Connect(t.Context(), "a", "t")
		for what, err := range map[string]error{"Inside": ierr, "Connect": cerr, "Ports": perr, "Tapes": lerr, "Tape": terr, "Journal": jerr, "Output": oerr} {
			if !errors.Is(err, is) || err.Error() != s.err.Error() {
				t.Errorf("%s = %v, want %v", what, err, s.err)
			}
		}
	}
	s.err = errors.New("the engine is on fire " + strings.Repeat("!", 5000))
	_, err := c.Connect(t.Context(), "a", "t")
	if err == nil || !strings.Contains(err.Error(), "the engine is on fire") {
		t.Errorf("an error of no kind = %v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c := New(Config{Client: gone.Client(), Base: func(chat.Node) (string, error) { return gone.URL, nil }})
	_, terr := c.Connect(t.Context(), "a", "t")
	_, serr := c.Secret(t.Context(), "a", "p", "TOKEN")
	_, jerr := c.Journal(t.Context(), "a", "t")
	for _, err := range []error{terr, serr, jerr} {
		if !errors.Is(err, workspace.ErrAway) || !strings.HasPrefix(err.Error(), "a does not answer") {
			t.Errorf("an error of a node that is gone = %v", err)
		}
	}
	other, _ := pair(t, ServerConfig{Spaces: &spaces{}})
	if _, err := other.Ports(t.Context(), "z", "t"); !errors.Is(err, chat.ErrNotFound) || errors.Is(err, workspace.ErrAway) || !strings.Contains(err.Error(), "z is not in the mesh") {
		t.Errorf("a node that is not in the mesh = %v", err)
	}
	// Not ours at all.
	strange := httptest.NewServer(http.NotFoundHandler())
	defer strange.Close()
	c = New(Config{Client: strange.Client(), Base: func(chat.Node) (string, error) { return strange.URL, nil }})
	if _, err := c.Ports(t.Context(), "a", "t"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("something else answers: %v", err)
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	give := func(_ context.Context, caller chat.Node, p chat.ProjectID, name string) (string, error) {
		if name != "TOKEN" {
			return "", fmt.Errorf("secret %s: %w", name, chat.ErrNotFound)
		}
		return fmt.Sprintf("%s %q %s", caller, p, "\x00\nü"), nil
	}
	who := func(*http.Request) (chat.Node, error) { return "b", nil }
	c, _ := pair(t, ServerConfig{Secret: give, Caller: who})
	for _, p := range []chat.ProjectID{"p1", ""} {
		if got, err := c.Secret(t.Context(), "a", p, "TOKEN"); err != nil || got != fmt.Sprintf("b %q \x00\nü", p) {
			t.Errorf("Secret = %q, %v", got, err)
		}
	}
	if _, err := c.Secret(t.Context(), "a", "p1", "OTHER"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("Secret(OTHER) = %v", err)
	}
	if _, err := c.Ports(t.Context(), "a", "t"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("a node without workspaces = %v", err)
	}
	stranger, _ := pair(t, ServerConfig{Secret: give, Caller: func(*http.Request) (chat.Node, error) { return "", errors.New("who are you?") }})
	none, _ := pair(t, ServerConfig{Spaces: &spaces{}})
	for _, c := range []*Client{stranger, none} {
		if got, err := c.Secret(t.Context(), "a", "p1", "TOKEN"); !errors.Is(err, chat.ErrRefused) || got != "" {
			t.Errorf("Secret = %q, %v, want a refusal", got, err)
		}
	}
}

// counted is a long text that says how much of it was read, and ends as told.
type counted struct {
	left   int64
	err    error
	closed chan struct{}
	read   int64
}

func (c *counted) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, c.err
	}
	n := int(min(int64(len(b)), c.left))
	for i := range n {
		b[i] = 'x'
	}
	c.left -= int64(n)
	c.read += int64(n)
	return n, nil
}

func (c *counted) Close() error { close(c.closed); return nil }

func TestStreamsAreWholeOrFail(t *testing.T) {
	t.Parallel()
	s := &spaces{}
	c, _ := pair(t, ServerConfig{Spaces: s})
	for _, broken := range []error{io.EOF, errors.New("the disk is gone")} {
		text := &counted{left: 5 << 20, err: broken, closed: make(chan struct{})}
		s.text = text
		r, err := c.Journal(t.Context(), "a", "t")
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		if broken == io.EOF && (err != nil || n != 5<<20) {
			t.Errorf("read %d, %v", n, err)
		}
		if broken != io.EOF && err == nil {
			t.Errorf("a stream that broke reads as whole, %d bytes", n)
		}
		<-text.closed
	}
}

// A reader that stops holds neither the source's bytes nor the source.
func TestSlowReaderOfAStream(t *testing.T) {
	t.Parallel()
	text := &counted{left: 1 << 40, closed: make(chan struct{})}
	s := &spaces{text: text}
	c, _ := pair(t, ServerConfig{Spaces: s})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := c.Output(ctx, "a", "t", "m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	time.Sleep(100 * time.Millisecond)
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("a reader that waits makes the heap grow by %d", grown)
	}
	cancel()
	<-text.closed
	if text.read > 64<<20 {
		t.Errorf("%d bytes were read for a reader of one MiB", text.read)
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	s := NewServer(ServerConfig{Spaces: &spaces{text: io.NopCloser(strings.NewReader(""))}})
	srv := httptest.NewServer(s)
	defer srv.Close()
	defer s.Close()
	for path, want := range map[string]int{
		Prefix:                                http.StatusNotFound,
		Prefix + "tasks/t/ports":              http.StatusUnprocessableEntity,
		Prefix + "tasks/_t/other":             http.StatusNotFound,
		Prefix + "tasks/_t/outputs/x":         http.StatusUnprocessableEntity,
		Prefix + "tasks/_t/shim":              http.StatusUpgradeRequired,
		Prefix + "projects/_p/secrets/_x":     http.StatusConflict,
		Prefix + "tasks/_t/../../../../x":     http.StatusNotFound,
		Prefix + "tasks/_t/outputs/_a%2Fb/..": http.StatusNotFound,
	} {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("GET %s = %d, want %d", path, res.StatusCode, want)
		}
	}
}
