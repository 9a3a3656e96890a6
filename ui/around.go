package ui

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/ui/api"
)

// around is the mesh as pages show it: who is there, and where a page goes on
// when its node dies.
type around struct {
	Mesh  api.MeshInfo
	Nodes []api.Node
	hint  string // for the script of pages: where they can go on
	top   piece  // the notes, as streams carry them
}

const (
	aroundFor  = time.Second     // a look at the mesh serves all pages for so long
	aroundWait = 2 * time.Second // a look takes no longer
	othersMost = 8               // nodes that a page knows to go on at
)

// lookout keeps the newest look.
type lookout struct {
	mu   sync.Mutex // held during a look: one is enough for all
	seen around
	at   time.Time
}

// around looks at the mesh, or remembers a look that is not old. Without a
// mesh, and while it cannot be read, the newest look stands.
func (s *Server) around(ctx context.Context) around {
	if s.Mesh == nil {
		return around{Mesh: api.MeshInfo{Quorum: true}}
	}
	s.lookout.mu.Lock()
	defer s.lookout.mu.Unlock()
	if !s.lookout.at.IsZero() && time.Since(s.lookout.at) < aroundFor {
		return s.lookout.seen
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), aroundWait) // others wait for it, too
	defer stop()
	m, err := s.Mesh.Mesh(ctx)
	var nodes []api.Node
	if err == nil {
		nodes, err = s.Mesh.Nodes(ctx)
	}
	if err != nil {
		s.Logger.Warn("looking at the mesh", "err", err)
	} else {
		s.lookout.seen = around{Mesh: m, Nodes: nodes}
		s.lookout.seen.hint, err = hintOf(s.lookout.seen, string(s.Node))
		if err == nil {
			s.lookout.seen.top, err = newPiece(ctx, "mesh", notesView(s.lookout.seen.notes()))
		}
		if err != nil {
			s.Logger.Error("writing what streams tell of the mesh", "err", err)
		}
	}
	s.lookout.at = time.Now()
	return s.lookout.seen
}

// hintOf is what a stream tells its page.
func hintOf(a around, node string) (string, error) {
	b, err := json.Marshal(struct {
		Node   string   `json:"node"`
		Self   string   `json:"self"`
		Others []string `json:"others"`
	}{node, a.self(), append([]string{}, a.others()...)})
	return string(b), err
}

// self is where this node's own pages are, empty when it does not say.
func (a around) self() string {
	for _, n := range a.Nodes {
		if n.Self {
			return n.Origin()
		}
	}
	return ""
}

// reach is where a page of this node may ever go on, those first that answer,
// and core nodes before workers. A page keeps the list that it began with, so
// nodes that are silent now are in it.
func (a around) reach() []string { return a.origins(func(api.Node) bool { return true }) }

// others are those of reach that answer now.
func (a around) others() []string { return a.origins(func(n api.Node) bool { return n.Online }) }

func (a around) origins(want func(api.Node) bool) []string {
	nodes := slices.SortedStableFunc(slices.Values(a.Nodes), func(x, y api.Node) int {
		return cmp.Or(compareBool(y.Online, x.Online), compareBool(y.Core, x.Core), strings.Compare(x.Name, y.Name))
	})
	var out []string
	for _, n := range nodes {
		if origin := n.Origin(); !n.Self && want(n) && origin != "" && len(out) < othersMost {
			out = append(out, origin)
		}
	}
	return out
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// movedFrom names the node whose page sent the reader here, or nobody. Only a
// page that leaves a dead node says where it comes from (app.js), so what it
// brings along was typed there and is not a stranger's link.
func (a around) movedFrom(r *http.Request) string {
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host == "" || from.Host == r.Host {
		return ""
	}
	for _, n := range a.Nodes {
		if n.Origin() == from.Scheme+"://"+from.Host {
			return n.Name
		}
	}
	return ""
}

// note is a line about the mesh that stands on top of every page.
type note struct {
	Bad        bool
	Text, Link string
	Word       string // of the link
}

// lagLong is how long a node may be behind before its pages say so.
const lagLong = 3 * time.Second

// notes say what keeps a reader from seeing or writing the newest.
func (a around) notes() []note {
	if a.Mesh.ID == "" {
		return nil
	}
	var out []note
	if !a.Mesh.Quorum {
		out = append(out, note{Bad: true, Text: api.ReadOnly(a.Mesh, a.Nodes) + " What you write waits in the page and is sent then.", Link: "/nodes", Word: "Nodes"})
	}
	if behind := time.Duration(a.Mesh.BehindMS) * time.Millisecond; behind > lagLong {
		n := note{Text: "This node is behind: it has lacked " + entriesOf(a.Mesh.Lag) + " for " + length(behind.Truncate(time.Second)) + "."}
		for _, other := range a.Nodes {
			if other.Leader && !other.Self && other.Origin() != "" {
				n.Link, n.Word = other.Origin(), "Open on "+other.Name
			}
		}
		out = append(out, n)
	}
	return out
}

// advice is what an owner should do about the mesh.
func (a around) advice() []string {
	var out []string
	for _, w := range a.Mesh.Warnings {
		out = append(out, visible(w))
	}
	return append(out, versionAdvice(a.Nodes)...)
}

func versionAdvice(nodes []api.Node) []string {
	newest, old := api.Outdated(nodes)
	if len(old) > 0 {
		text := "Upgrade " + andList(old) + " to " + visible(newest) + ": "
		if slices.ContainsFunc(nodes, func(n api.Node) bool { return n.Self && slices.Contains(old, n.Name) }) {
			return []string{text + "this node is among those that run an older version. One that meets what it does not know stops."}
		}
		return []string{text + "a node that meets what its version does not know stops."}
	}
	seen := map[string]bool{}
	for _, n := range nodes {
		if n.Version != "" {
			seen[n.Version] = true
		}
	}
	if len(seen) > 1 {
		return []string{"The nodes run different versions: give all the same one."}
	}
	return nil
}

// entriesOf is a number of log entries.
func entriesOf(n uint64) string {
	if n == 1 {
		return "1 log entry"
	}
	return thousands(n) + " log entries"
}

// andList is "a", "a and b", "a, b and c".
func andList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// policy is what a page may load: scripts and styles of our own files, and
// connections to this node and to those that it may go on at.
func policy(style string, connect ...string) string {
	return "default-src 'none'; script-src 'self'; style-src " + style + "; img-src 'self' data:; " +
		"connect-src " + strings.Join(append([]string{"'self'"}, connect...), " ") + "; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

const (
	ownStyles = "'self'"
	// termStyles lets xterm.js write its own style element; scripts stay ours.
	termStyles = "'self' 'unsafe-inline'"
)

func (s *Server) setPolicy(w http.ResponseWriter, r *http.Request, style string) {
	w.Header().Set("Content-Security-Policy", policy(style, s.around(r.Context()).reach()...))
}
