package follow

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// fakeNode is a node's pages, as far as a browser sees them.
type fakeNode struct {
	*httptest.Server
	name  string
	core  bool
	mesh  []*fakeNode                   // which it knows
	hung  atomic.Pointer[chan struct{}] // not nil: it accepts and does not answer until that is closed
	asked atomic.Int32                  // requests for /who
}

func newNode(t *testing.T, name string, core bool) *fakeNode {
	t.Helper()
	n := &fakeNode{name: name, core: core}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/nodes", n.nodes)
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		n.asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%s for %s: %s %s", n.name, r.Host, r.Method, body)
	})
	mux.HandleFunc("GET /stream", n.stream)
	mux.HandleFunc("GET /ws", n.ws)
	mux.HandleFunc("GET /die", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("POST /die", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("GET /old", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/who?a=b", http.StatusFound)
	})
	// As a node does it.
	onlyName := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hung := n.hung.Load(); hung != nil {
			<-*hung
		}
		if r.Host != n.Listener.Addr().String() {
			http.Error(w, "wrong host", http.StatusMisdirectedRequest)
			return
		}
		http.NewCrossOriginProtection().Handler(mux).ServeHTTP(w, r)
	})
	n.Server = httptest.NewServer(onlyName)
	t.Cleanup(n.kill)
	return n
}

// kill ends a node with all its connections, as a crash does.
func (n *fakeNode) kill() {
	n.Listener.Close()
	n.CloseClientConnections()
}

// hang lets requests wait until the end of the test.
func (n *fakeNode) hang(t *testing.T) {
	hung := make(chan struct{})
	n.hung.Store(&hung)
	t.Cleanup(func() { close(hung) })
}

func (n *fakeNode) nodes(w http.ResponseWriter, _ *http.Request) {
	list := []map[string]any{{"name": "without-pages", "url": ""}, {"name": "odd", "url": "javascript:alert(1)"}}
	for _, m := range n.mesh {
		list = append(list, map[string]any{"name": m.name, "url": m.URL, "core": m.core})
	}
	json.NewEncoder(w).Encode(map[string]any{"nodes": list})
}

func (n *fakeNode) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "data: %s after %s\n\n", n.name, r.Header.Get("Last-Event-ID"))
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func (n *fakeNode) ws(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, append([]byte(n.name+" says "), data...)); err != nil {
			return
		}
	}
}

func (n *fakeNode) says(method, body string) string {
	return fmt.Sprintf("%s for %s: %s %s", n.name, n.Listener.Addr(), method, body)
}

func (n *nodes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for _, t := range n.list {
		list = append(list, t.base.String())
	}
	return list
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}
