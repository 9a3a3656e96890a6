package ui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

func (s *Server) nodes(w http.ResponseWriter, r *http.Request) error {
	return s.showNodes(w, r, nil, nil)
}

func (s *Server) nodesFrame(r *http.Request, title string) frame {
	f := s.frame(r, title)
	f.Nav, f.Extra = "nodes", []string{s.assets.url("nodes.css")}
	return f
}

// showNodes renders the page of all nodes: after an invitation was made with
// it, after a refusal with the reason and what was chosen.
func (s *Server) showNodes(w http.ResponseWriter, r *http.Request, alert *problem, fill func(*nodesView)) error {
	f := s.nodesFrame(r, "Nodes")
	f.Alert = alert
	owner := callerOf(r).may(Owner)
	v := s.nodesView(s.around(r.Context()), owner)
	v.Form = inviteForm{ID: newID(), Valid: api.DefaultValid.String()}
	if s.Mesh == nil {
		v.Problem = "This node works alone: it is in no mesh that could be shown."
	}
	if v.CanInvite {
		list, err := s.Invitations.Invitations(r.Context())
		if err != nil {
			return fmt.Errorf("reading invitations: %w", err)
		}
		v.Invitations = invitationViews(list, s.Room.Now())
	}
	if fill != nil {
		fill(&v)
	}
	render(w, r, alert.status(), nodesPage(f, v))
	return nil
}

// findNode asks a node about itself. One that does not answer is shown as the
// mesh knows it, with the reason.
func (s *Server) findNode(ctx context.Context, name string) (d api.NodeDetail, asleep string, err error) {
	if s.Mesh == nil {
		return d, "", errNoPart
	}
	d, err = s.Mesh.Node(ctx, name)
	if err == nil || errors.Is(err, chat.ErrNotFound) {
		return d, "", err
	}
	nodes := s.around(ctx).Nodes
	i := slices.IndexFunc(nodes, func(n api.Node) bool { return n.Name == name })
	if i < 0 {
		return d, "", err
	}
	s.Logger.Info("asking a node about itself", "node", name, "err", err)
	return api.NodeDetail{Node: nodes[i]}, name + " does not answer. This is what the mesh knew last.", nil
}

func (s *Server) node(w http.ResponseWriter, r *http.Request) error {
	d, asleep, err := s.findNode(r.Context(), r.PathValue("node"))
	if err != nil {
		return fmt.Errorf("reading node: %w", err)
	}
	f := s.nodesFrame(r, d.Name)
	v := s.nodeDetail(d, s.around(r.Context()))
	v.Asleep, v.Node.CanChange = asleep, callerOf(r).may(Owner) && s.NodeKeeper != nil
	render(w, r, http.StatusOK, nodePage(f, v))
	return nil
}

func (s *Server) nodeDrain(w http.ResponseWriter, r *http.Request) error {
	if s.NodeKeeper == nil {
		return errNoPart
	}
	err := s.NodeKeeper.Drain(r.Context(), callerOf(r).author(), r.PathValue("node"), r.PostFormValue("on") != "")
	s.lookout.forget()
	if err == nil {
		return s.did(w, r, "/nodes")
	}
	if scripted(r) {
		return err
	}
	p := s.problem(r, err)
	return s.showNodes(w, r, &p, nil)
}

// removal is the page that says what removing a node, or deleting a machine,
// means.
type removal struct {
	Verb    string
	Name    string
	Back    string // to where it is left alone
	Effects []string
	Tasks   []link
}

func (s *Server) nodeRemoveForm(w http.ResponseWriter, r *http.Request) error {
	return s.showRemoval(w, r, nil)
}

func (s *Server) showRemoval(w http.ResponseWriter, r *http.Request, alert *problem) error {
	if s.Mesh == nil || s.NodeKeeper == nil {
		return errNoPart
	}
	name := r.PathValue("node")
	a := s.around(r.Context())
	i := slices.IndexFunc(a.Nodes, func(n api.Node) bool { return n.Name == name })
	if i < 0 {
		return fmt.Errorf("%w: there is no node %.60q in the mesh", chat.ErrNotFound, name)
	}
	f := s.nodesFrame(r, "Remove "+name)
	f.Alert = alert
	v := removal{Verb: "Remove", Name: name, Back: "/nodes", Effects: effects(a.Nodes[i], a)}
	for _, l := range a.Nodes[i].Leases {
		v.Tasks = append(v.Tasks, link{Name: s.titleOf(l.Task), URL: "/t/" + string(l.Task)})
	}
	render(w, r, alert.status(), removalPage(f, v))
	return nil
}

func (s *Server) nodeRemove(w http.ResponseWriter, r *http.Request) error {
	if s.NodeKeeper == nil {
		return errNoPart
	}
	_, err := s.NodeKeeper.Remove(r.Context(), callerOf(r).author(), r.PathValue("node"))
	s.lookout.forget()
	if err == nil || errors.Is(err, chat.ErrNotFound) { // the same form a second time
		return s.did(w, r, "/nodes")
	}
	p := s.problem(r, err)
	return s.showRemoval(w, r, &p)
}

// effects are the sentences of what happens when a node is removed.
func effects(n api.Node, a around) []string {
	out := []string{"It leaves the mesh for good. To come back it has to be invited anew.", "What is on its disk stays there."}
	if len(n.Leases) > 0 {
		out = append(out, "The tasks below lose their workspaces and are queued again. They go on elsewhere from their branches; what an agent did since its last turn ended stays on "+n.Name+".")
	}
	if n.Leader {
		out = append(out, "It leads the mesh: another core node takes over first, and nobody can write for about a second.")
	}
	if n.Voter {
		out = append(out, votersWithout(n, a.Nodes))
	}
	if n.Self {
		out = append(out, "It serves this page: go on at another node.")
	}
	return out
}

// votersWithout says what the group is worth without one of its voters.
func votersWithout(n api.Node, nodes []api.Node) string {
	voters, spares := 0, 0
	for _, other := range nodes {
		switch {
		case other.Name == n.Name || !other.Core:
		case other.Voter:
			voters++
		case other.Online:
			spares++
		}
	}
	if spares > 0 {
		return "It is a voter: a spare core node takes its place."
	}
	may := (voters - 1) / 2
	switch {
	case voters == 0:
		return "It is the only voter, so removing it is refused: add another core node first."
	case may == 0:
		return "It is a voter: " + plural(voters, "voter") + " remain, and if one of them is lost the mesh is read-only."
	}
	return "It is a voter: " + plural(voters, "voter") + " remain, of which " + strconv.Itoa(may) + " may be lost."
}

// forget makes the next look a new one, after a change.
func (l *lookout) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = time.Time{}
}

// nodesEvents streams the cards of the nodes that changed.
func (s *Server) nodesEvents(w http.ResponseWriter, r *http.Request) error {
	owner, list := callerOf(r).may(Owner), cardList{}
	l := looks[around]{life: r.Context(), see: func(ctx context.Context) (around, error) { return s.around(ctx), nil }}
	l.show = func(ctx context.Context, e *events, a around) ([]string, error) {
		v := s.nodesView(a, owner)
		out, err := e.render(ctx, region{"nodes-sum", nodesSummary(v)}, region{"advice", adviceView(v.Advice)})
		if err != nil {
			return nil, err
		}
		var cards []region
		shape := ""
		for _, n := range v.Nodes {
			cards, shape = append(cards, region{n.DOM, nodeCardView(n)}), shape+n.Name+" "
		}
		changed, err := list.render(ctx, e, shape, region{"nodes", nodeList(v)}, cards)
		return append(out, changed...), err
	}
	return s.follow(w, r, l.step)
}

// nodeEvents streams one node's page.
func (s *Server) nodeEvents(w http.ResponseWriter, r *http.Request) error {
	name, may := r.PathValue("node"), callerOf(r).may(Owner) && s.NodeKeeper != nil
	known := slices.ContainsFunc(s.around(r.Context()).Nodes, func(n api.Node) bool { return n.Name == name })
	if !known { // one that is known is not asked yet: it may be dead, and the page waits
		if _, _, err := s.findNode(r.Context(), name); err != nil {
			return fmt.Errorf("reading node: %w", err)
		}
	}
	type found struct {
		node   api.NodeDetail
		asleep string
		around around
	}
	l := looks[found]{life: r.Context(), see: func(ctx context.Context) (f found, err error) {
		f.node, f.asleep, err = s.findNode(ctx, name)
		f.around = s.around(ctx)
		return f, err
	}}
	l.show = func(ctx context.Context, e *events, f found) ([]string, error) {
		v := s.nodeDetail(f.node, f.around)
		v.Asleep, v.Node.CanChange = f.asleep, may
		return e.render(ctx, region{"node", nodeBody(v)})
	}
	return s.follow(w, r, l.step)
}

// region is a part of a page with an id of its own.
type region struct {
	id   string
	view templ.Component
}

// render are the regions that the browser does not have like this.
func (e *events) render(ctx context.Context, regions ...region) ([]string, error) {
	var out []string
	for _, r := range regions {
		p, err := newPiece(ctx, r.id, r.view)
		if err != nil {
			return nil, err
		}
		out = append(out, e.fresh(p)...)
	}
	return out, nil
}

// cardList is a list of cards of which each is sent by itself.
type cardList struct{ shape string }

// render are the cards that changed, or the whole list when its shape did: a
// card came, went or has another place.
func (c *cardList) render(ctx context.Context, e *events, shape string, whole region, cards []region) ([]string, error) {
	changed, err := e.render(ctx, cards...)
	if err == nil && shape != c.shape {
		c.shape = shape
		delete(e.sent, whole.id) // the cards may have changed since it was sent
		changed, err = e.render(ctx, whole)
	}
	return changed, err
}
