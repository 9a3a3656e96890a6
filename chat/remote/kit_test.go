package remote_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/chat/remote"
)

// board is what workspaces ask of a Room, here or elsewhere.
type board interface {
	TasksSince(ctx context.Context, after uint64) ([]chat.Task, uint64, error)
	Do(ctx context.Context, by chat.Author, id string, op chat.Op) (uint64, error)
	Task(id string) (chat.Task, error)
	Project(id string) (chat.Project, error)
	Message(ctx context.Context, task chat.TaskID, id string) (chat.Message, error)
	Messages(ctx context.Context, task chat.TaskID, before uint64, limit int) ([]chat.Message, error)
}

var (
	_ board = (*chat.Room)(nil)
	_ board = (*remote.Room)(nil)
)

var (
	ana, node = chattest.Ana, chattest.Node
	other     = chat.Author{Node: "node-2"}
)

// cores are core nodes: a client asks the first, and turns to the next when
// that is lost.
type cores struct {
	mu    sync.Mutex
	bases []string
	lost  int
}

func (c *cores) base() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bases[0]
}

func (c *cores) turn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost++
	c.bases = append(c.bases[1:], c.bases[0])
}

func (c *cores) set(bases ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bases = bases
}

// asNode is the network: it says who calls.
type asNode struct{ node chat.Node }

func (a asNode) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Test-Node", string(a.node))
	return http.DefaultTransport.RoundTrip(r)
}

func handler(room *chat.Room) http.Handler {
	return remote.NewServer(remote.ServerConfig{Room: room, Poll: 200 * time.Millisecond, Caller: func(r *http.Request) (chat.Node, error) {
		if n := r.Header.Get("Test-Node"); n != "" {
			return chat.Node(n), nil
		}
		return "", errors.New("not a node of this mesh")
	}})
}

// serve starts a core node. Closing it early is how it dies.
func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() { kill(s) })
	return s
}

// kill ends a server in the middle of whatever it does.
func kill(s *httptest.Server) {
	s.CloseClientConnections()
	s.Listener.Close()
	s.CloseClientConnections()
}

// worker is a client on that node.
func worker(by chat.Author, c *cores) *remote.Room {
	return remote.New(remote.Config{Client: &http.Client{Transport: asNode{by.Node}}, Node: by.Node, Base: c.base, Lost: c.turn})
}

// mesh is a Room with one server and one worker.
type mesh struct {
	*chattest.Kit
	cores  *cores
	server *httptest.Server
	worker *remote.Room
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	k := chattest.NewKit()
	k.Project(t, "demo")
	s := serve(t, handler(k.Room))
	c := &cores{bases: []string{s.URL}}
	return &mesh{Kit: k, cores: c, server: s, worker: worker(node, c)}
}

// must does an op by the worker.
func (m *mesh) must(t *testing.T, op chat.Op) uint64 {
	t.Helper()
	index, err := m.worker.Do(t.Context(), node, "", op)
	if err != nil {
		t.Fatalf("the worker's op: %v", err)
	}
	return index
}

// next is the worker's next news.
func (m *mesh) next(t *testing.T, after uint64) ([]chat.Task, uint64) {
	t.Helper()
	tasks, index, err := m.worker.TasksSince(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	return tasks, index
}

// place gives a task to a node and returns the token.
func place(t *testing.T, k *chattest.Kit, task chat.TaskID, by chat.Author) uint64 {
	t.Helper()
	return k.Must(t, by, chat.Op{Place: &chat.Place{Task: task, Node: by.Node, Slot: "slot-1"}})
}

func expire(t *testing.T, k *chattest.Kit, task chat.TaskID) {
	t.Helper()
	k.Must(t, node, chat.Op{Expire: &chat.Expire{Task: task, Token: k.Get(t, task).Lease.Token}})
}
