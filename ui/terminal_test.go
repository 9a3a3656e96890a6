package ui

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/samnode/samnode/chat"
)

// echo is a terminal that says what it was told, behind a prompt.
type echo struct {
	out    *io.PipeReader
	in     *io.PipeWriter
	mu     sync.Mutex
	sizes  [][2]uint16
	closed chan struct{}
	once   sync.Once
}

func newEcho() *echo {
	r, w := io.Pipe()
	return &echo{out: r, in: w, closed: make(chan struct{})}
}

func (e *echo) Changes() <-chan struct{} { return nil }

func (e *echo) Info() TerminalInfo {
	return TerminalInfo{ID: "t1", Name: "t1", Rows: 30, Cols: 100, People: []Present{{Person: "ana@example.com", You: true}}}
}

func (e *echo) Read(p []byte) (int, error) { return e.out.Read(p) }
func (e *echo) Write(p []byte) (int, error) {
	return e.in.Write([]byte("you said " + string(p)))
}

func (e *echo) Resize(rows, cols uint16) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sizes = append(e.sizes, [2]uint16{rows, cols})
	return nil
}

func (e *echo) Close() error {
	e.once.Do(func() { close(e.closed); e.out.Close(); e.in.Close() })
	return nil
}

func dial(t *testing.T, url string, origin string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1), &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
}

func TestATerminalRunsInThePage(t *testing.T) {
	term := newEcho()
	var asked [2]uint16
	s := newSite(t, func(c *Config) {
		c.Terminal = func(_ context.Context, _ chat.TaskID, a Attach) (Terminal, error) {
			if a.ID != "t1" || a.Watch {
				return nil, chat.ErrNotFound
			}
			asked = [2]uint16{a.Rows, a.Cols}
			return term, nil
		}
	})
	task := s.working(t, "Fix it")
	server := listen(t, s)
	url := server.URL + "/t/" + string(task.ID) + "/terminals/t1/ws?rows=30&cols=100"
	if _, answer, err := dial(t, url, "https://evil.example"); err == nil || answer.StatusCode != 403 {
		t.Fatalf("a socket of another origin: %v", err)
	}
	conn, _, err := dial(t, url, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if kind, data, err := conn.Read(t.Context()); err != nil || kind != websocket.MessageText || !strings.Contains(string(data), `"person":"ana@example.com"`) {
		t.Fatalf("who is there: %v %q %v", kind, data, err)
	}
	if err := conn.Write(t.Context(), websocket.MessageBinary, []byte("ls")); err != nil {
		t.Fatal(err)
	}
	kind, data, err := conn.Read(t.Context())
	if err != nil || kind != websocket.MessageBinary || string(data) != "you said ls" {
		t.Fatalf("read %v %q %v", kind, data, err)
	}
	for _, text := range []string{`{"rows":40,"cols":120}`, `{"rows":0,"cols":1}`, `nonsense`} {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Write(t.Context(), websocket.MessageBinary, []byte("pwd")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := conn.Read(t.Context()); err != nil || string(data) != "you said pwd" {
		t.Fatalf("read %q %v", data, err)
	}
	term.mu.Lock()
	if asked != [2]uint16{30, 100} || len(term.sizes) != 1 || term.sizes[0] != [2]uint16{40, 120} {
		t.Errorf("opened at %v, resized to %v", asked, term.sizes)
	}
	term.mu.Unlock()
	conn.Close(websocket.StatusNormalClosure, "")
	<-term.closed // detached with the page
}

func TestATerminalThatIsRefusedSaysWhy(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Terminal = func(context.Context, chat.TaskID, Attach) (Terminal, error) {
			return nil, errors.Join(chat.ErrRefused, errors.New("secret"))
		}
	})
	task := s.working(t, "Fix it")
	server := listen(t, s)
	base := server.URL + "/t/" + string(task.ID) + "/terminals/"
	conn, _, err := dial(t, base+"t1/ws", server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = conn.Read(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusTryAgainLater {
		t.Errorf("closed with %v", err)
	}
	for path, status := range map[string]int{"..%2fx/ws": 422, "a b/ws": 422, strings.Repeat("x", 90) + "/ws": 422} {
		if _, answer, err := dial(t, base+path, server.URL); err == nil || answer == nil || answer.StatusCode != status {
			t.Errorf("terminal %s: %v", path, err)
		}
	}
}

// TestAViewerWatchesATerminal: nothing that they send arrives.
func TestAViewerWatchesATerminal(t *testing.T) {
	term := newEcho()
	var came Attach
	s := newSite(t, func(c *Config) {
		c.Terminal = func(_ context.Context, _ chat.TaskID, a Attach) (Terminal, error) {
			came = a
			return term, nil
		}
	})
	task := s.working(t, "Fix it")
	server := listen(t, s)
	s.role = Viewer
	conn, _, err := dial(t, server.URL+"/t/"+string(task.ID)+"/terminals/t1/ws?watch=", server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if _, _, err := conn.Read(t.Context()); err != nil || !came.Watch || came.Owner || came.Person == "" {
		t.Fatalf("attached as %+v, %v", came, err)
	}
	for _, m := range []struct {
		kind websocket.MessageType
		data string
	}{{websocket.MessageBinary, "rm -rf"}, {websocket.MessageText, `{"rows":5,"cols":5}`}} {
		if err := conn.Write(t.Context(), m.kind, []byte(m.data)); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _, _ = term.in.Write([]byte("from the shell")) }()
	if _, data, err := conn.Read(t.Context()); err != nil || string(data) != "from the shell" {
		t.Fatalf("read %q %v", data, err)
	}
	if err := conn.Ping(ctxReading(t, conn)); err != nil { // what was sent has been read
		t.Fatal(err)
	}
	term.mu.Lock()
	defer term.mu.Unlock()
	if len(term.sizes) != 0 {
		t.Errorf("a viewer resized it to %v", term.sizes)
	}
	for _, path := range []string{"/close", "/name", "/hold"} {
		if code := s.post(t, "/t/"+string(task.ID)+"/terminals/t1"+path, url.Values{"name": {"x"}}).Code; code != 403 {
			t.Errorf("a viewer's %s = %d", path, code)
		}
	}
}

// ctxReading reads on, for pongs, and is not done before the test.
func ctxReading(t *testing.T, conn *websocket.Conn) context.Context {
	return conn.CloseRead(t.Context())
}

// TestATerminalEndsWithTheRight: who may do something else now is detached, and
// told so.
func TestATerminalEndsWithTheRight(t *testing.T) {
	var role atomic.Value
	role.Store(Member)
	s := newSite(t, func(c *Config) {
		c.Terminal = func(context.Context, chat.TaskID, Attach) (Terminal, error) { return newEcho(), nil }
		c.WhoIs = func(*http.Request) (chat.Person, Role, error) {
			if role.Load() == Role("") {
				return "", "", errors.New("not on the tailnet")
			}
			return "ana@example.com", role.Load().(Role), nil
		}
	})
	s.askEvery = 20 * time.Millisecond
	task := s.working(t, "Fix it")
	server := listen(t, s)
	for _, change := range []struct {
		role Role
		want string
	}{{Viewer, "has changed"}, {"", "who you are"}} {
		conn, _, err := dial(t, server.URL+"/t/"+string(task.ID)+"/terminals/t1/ws", server.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		role.Store(change.role)
		_, _, err = conn.Read(t.Context())
		if closed, ok := errors.AsType[websocket.CloseError](err); !ok || !strings.Contains(closed.Reason, change.want) {
			t.Errorf("detached with %v, want %q", err, change.want)
		}
		role.Store(Member)
	}
}

func TestATerminalWithoutItsScriptSaysWhatToRun(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Terminal = func(context.Context, chat.TaskID, Attach) (Terminal, error) { return newEcho(), nil }
	})
	task := s.working(t, "Fix it")
	delete(s.assets.files, "vendor/xterm.js")
	if body := s.get(t, "/t/"+string(task.ID)+"/terminal").Body.String(); !strings.Contains(body, "run scripts/assets") {
		t.Error("the page does not say what is missing")
	}
}
