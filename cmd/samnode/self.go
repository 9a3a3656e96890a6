package main

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui/api"
)

// ownView is what only a node itself knows, for the page about it on another.
type ownView struct {
	Raft    *api.Raft   `json:"raft,omitempty"`
	Peers   []api.Peer  `json:"peers,omitempty"`
	Docker  string      `json:"docker,omitempty"`
	System  string      `json:"system,omitempty"`
	Started time.Time   `json:"started"`
	Recent  []api.Event `json:"recent,omitempty"`
}

func (h *host) ownView(ctx context.Context) ownView {
	v := ownView{System: system(), Started: h.started, Recent: h.c.Recent.list()}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	info, err := h.engine.Ping(ctx)
	if v.Docker = info.Version; err != nil {
		v.Docker = err.Error()
	}
	return v
}

func (n *node) ownView(ctx context.Context) ownView {
	v := n.host.ownView(ctx)
	s := n.log.Stats()
	v.Raft = &api.Raft{Role: s.Role, Term: s.Term, Last: s.Last, Commit: s.Commit, Applied: s.Applied, Snapshot: s.Snapshot}
	pool, _ := n.pool.Pool()
	paths := n.paths()
	for _, p := range s.Peers {
		x := api.Peer{Node: p.Node, Lag: p.Lag}
		if s.Role == "leader" && p.Silent >= 0 {
			x.Contact = time.Now().Add(-p.Silent)
		}
		if m, ok := pool.Node(p.Node); ok {
			x.Path = paths[m.Addr]
		}
		v.Peers = append(v.Peers, x)
	}
	return v
}

// callSelf tells another node about this one.
func (n *node) callSelf(ctx context.Context, from mesh.Caller, _ struct{}) (ownView, error) {
	if _, err := n.member(ctx, from); err != nil {
		return ownView{}, err
	}
	return n.ownView(ctx), nil
}

func (w *worker) callSelf(ctx context.Context, _ mesh.Caller, _ struct{}) (ownView, error) {
	return w.ownView(ctx), nil
}

// system names the machine's architecture and distribution.
func system() string {
	name := ""
	if data, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(data)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				name = ", " + strings.Trim(v, `"`)
			}
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH + name
}

// recent keeps the newest warnings of the log for the node's page.
type recent struct {
	mu     sync.Mutex
	events []api.Event // the newest last
}

const maxRecent = 30

func (r *recent) add(at time.Time, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, api.Event{At: at, Text: text})
	if len(r.events) > maxRecent {
		r.events = slices.Delete(r.events, 0, len(r.events)-maxRecent)
	}
}

// list returns them, the newest first.
func (r *recent) list() []api.Event {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.events)
	slices.Reverse(out)
	return out
}

// watchLog is a log handler that also keeps the warnings.
type watchLog struct {
	slog.Handler
	to    *recent
	attrs string
}

// Handle implements slog.Handler.
func (w watchLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString(r.Message)
		r.Attrs(func(a slog.Attr) bool {
			b.WriteString(" " + a.String())
			return true
		})
		w.to.add(r.Time, b.String()+w.attrs)
	}
	return w.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (w watchLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key != "node" {
			w.attrs += " " + a.String()
		}
	}
	w.Handler = w.Handler.WithAttrs(attrs)
	return w
}

// WithGroup implements slog.Handler.
func (w watchLog) WithGroup(name string) slog.Handler {
	w.Handler = w.Handler.WithGroup(name)
	return w
}
