package ui

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
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
		c.Terminal = func(_ context.Context, _ chat.TaskID, id string, rows, cols uint16) (Terminal, error) {
			if id != "t1" {
				return nil, chat.ErrNotFound
			}
			asked = [2]uint16{rows, cols}
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
		c.Terminal = func(context.Context, chat.TaskID, string, uint16, uint16) (Terminal, error) {
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
	for path, status := range map[string]int{"..%2fx/ws": 422, "a b/ws": 422, strings.Repeat("x", 40) + "/ws": 422} {
		if _, answer, err := dial(t, base+path, server.URL); err == nil || answer == nil || answer.StatusCode != status {
			t.Errorf("terminal %s: %v", path, err)
		}
	}
	s.role = Viewer
	if _, answer, err := dial(t, base+"t1/ws", server.URL); err == nil || answer.StatusCode != 403 {
		t.Errorf("a viewer's terminal: %v", err)
	}
	if body := s.get(t, "/t/"+string(task.ID)+"/terminal").Body.String(); !strings.Contains(body, "Only members open terminals.") {
		t.Error("a viewer's terminal page does not say why")
	}
}

func TestATerminalWithoutItsScriptSaysWhatToRun(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Terminal = func(context.Context, chat.TaskID, string, uint16, uint16) (Terminal, error) { return newEcho(), nil }
	})
	task := s.working(t, "Fix it")
	delete(s.assets.files, "vendor/xterm.js")
	if body := s.get(t, "/t/"+string(task.ID)+"/terminal").Body.String(); !strings.Contains(body, "run scripts/assets") {
		t.Error("the page does not say what is missing")
	}
}
