package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/ui/api"
)

// front is all that people and their tools reach of this node.
func (n *node) front() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", n.healthz)
	mux.HandleFunc("GET /readyz", n.readyz)
	mux.Handle("GET /metrics", n.onlyPeople(n.metrics))
	mux.Handle(leavePath, fromHere(n.leaveRequest))
	mux.Handle(sshPath, n.afterCatchUp(http.HandlerFunc(n.ssh)))
	mux.Handle(openPortPath, n.afterCatchUp(http.HandlerFunc(n.openPort)))
	mux.Handle("/", n.afterCatchUp(n.pages))
	return n.metrics.Count(n.apart(mux))
}

// catchUpFor is how long a node that has just started lets people wait until it
// has caught up. A mesh without a majority never does: then what was known when
// it stopped is shown.
const catchUpFor = 5 * time.Second

func (n *node) afterCatchUp(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-n.caught:
		case <-time.After(time.Until(n.started.Add(catchUpFor))):
		case <-r.Context().Done():
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (n *node) onlyPeople(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, role, err := n.who(r); err != nil || role == "" {
			http.Error(w, "only people with a role in this mesh may read this", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// healthz says that the process works: the log can be written, or could be
// with a majority. Restart the node when it does not answer 200.
func (n *node) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := n.log.Err(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// readyz says that this node has caught up and the mesh can write: send people
// to another node when it does not answer 200.
func (n *node) readyz(w http.ResponseWriter, _ *http.Request) {
	s := n.log.Stats()
	body := map[string]any{"node": n.c.Node, "role": s.Role, "leader": s.Leader, "applied": s.Applied, "caught_up": n.isCaught()}
	w.Header().Set("Content-Type", "application/json")
	if !n.isCaught() || s.Leader == "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // whoever asked is gone
}

// who is the person behind a request, and the role in the whole mesh: the
// network's grant if there is one, else what the mesh's own list says.
func (n *node) who(r *http.Request) (chat.Person, mesh.Role, error) {
	c, err := mesh.WhoIs(r)
	if err != nil {
		return "", "", err
	}
	return n.roleOf(r.Context(), c)
}

func (n *node) roleOf(ctx context.Context, c mesh.Caller) (chat.Person, mesh.Role, error) {
	if c.Node != "" {
		return "", "", mesh.ErrNotPerson
	}
	role := c.RoleIn("*")
	if role == "" {
		role = mesh.Role(n.room.RoleOf(c.Person))
	}
	if err := n.arrived(ctx, c.Person); err != nil {
		n.c.Logger.Warn("remembering who called", "person", c.Person, "err", err)
	}
	if role == "" {
		role = mesh.Role(n.room.RoleOf(c.Person)) // the first person becomes the owner
	}
	if role == "" {
		return c.Person, "", fmt.Errorf("%w: %s has no role in this mesh: an owner can give one (samnode people role %s member)", errNoRole, c.Person, c.Person)
	}
	return c.Person, role, nil
}

// arrivals keeps each person's first call from being written more than once.
type arrivals struct {
	mu   sync.Mutex
	seen map[chat.Person]time.Time
}

// due says whether to write it: not for a minute after a try.
func (a *arrivals) due(p chat.Person) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.seen[p]) < time.Minute {
		return false
	}
	if a.seen == nil {
		a.seen = map[chat.Person]time.Time{}
	}
	a.seen[p] = time.Now()
	return true
}

// arrived puts a person who calls for the first time into the log. A mesh
// without a majority cannot; people read on nevertheless.
func (n *node) arrived(ctx context.Context, p chat.Person) error {
	if n.room.Known(p) || !n.arrivals.due(p) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := n.room.Do(ctx, chat.Author{Node: chat.Node(n.c.Node)}, "", chat.Op{Arrive: &chat.Arrive{Person: p}})
	return err
}

// errNoRole: the network knows the person, the mesh does not.
var errNoRole = errors.New("no role")

// whoIs is who as the pages ask it: they tell a person without a role whom to
// ask for one.
func (n *node) whoIs(r *http.Request) (chat.Person, ui.Role, error) {
	person, role, err := n.who(r)
	if errors.Is(err, errNoRole) {
		err = nil
	}
	return person, ui.Role(role), err
}

// rolesIn are the caller's roles in single projects, for the pages.
func (n *node) rolesIn(r *http.Request) func(project string) ui.Role {
	c, err := mesh.WhoIs(r)
	if err != nil || len(c.Grants) == 0 {
		return nil // who has no grants has no such roles, and an error is whoIs's to tell
	}
	return func(project string) ui.Role { return ui.Role(c.RoleIn(project)) }
}

// roleOrGrants is roleOf for what knows roles in single projects: who has such a
// role needs none in the whole mesh.
func (n *node) roleOrGrants(ctx context.Context, c mesh.Caller) (chat.Person, mesh.Role, error) {
	person, role, err := n.roleOf(ctx, c)
	if errors.Is(err, errNoRole) && len(c.Grants) > 0 {
		err = nil
	}
	return person, role, err
}

// apiCaller is who as the API asks it, which knows roles in single projects, too.
func (n *node) apiCaller(r *http.Request) (api.Caller, error) {
	c, err := mesh.WhoIs(r)
	if err != nil {
		return api.Caller{}, err
	}
	person, role, err := n.roleOrGrants(r.Context(), c)
	return api.Caller{Person: person, Role: string(role), In: func(project string) string { return string(c.RoleIn(project)) }}, err
}
