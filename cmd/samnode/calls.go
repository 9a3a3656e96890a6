package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/remote"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/provision"
	workspaces "github.com/samnode/samnode/workspace/remote"
)

// Where the larger parts of the calls between nodes are.
const (
	roomPath  = "/calls/v1/room"
	pagesPath = "/calls/v1/pages"
)

// calls is what other nodes ask of a core node. Who calls is the network's
// word; what a node may ask follows from what the pool says of it.
func (n *node) calls() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/calls/v1/join", mesh.Answer(callCodes, n.callJoin))
	mux.Handle("/calls/v1/epoch", mesh.Answer(callCodes, n.callEpoch))
	mux.Handle("/calls/v1/start", mesh.Answer(callCodes, n.callStart))
	mux.Handle("/calls/v1/beat", mesh.Answer(callCodes, n.callBeat))
	mux.Handle("/calls/v1/leave", mesh.Answer(callCodes, n.callLeave))
	mux.Handle("/calls/v1/secret", mesh.Answer(callCodes, n.callSecret))
	mux.Handle("/calls/v1/forge/auth", mesh.Answer(callCodes, n.callForgeAuth))
	mux.Handle("/calls/v1/forge/pull", mesh.Answer(callCodes, n.callForgePull))
	mux.Handle(roomPath+"/", http.StripPrefix(roomPath, remote.NewServer(remote.ServerConfig{
		Room: n.room, Logger: n.c.Logger,
		Caller: func(r *http.Request) (chat.Node, error) {
			m, err := n.memberOf(r)
			return chat.Node(m.Name), err
		},
	})))
	mux.HandleFunc("GET "+imagePath, n.callImage)
	mux.HandleFunc("GET "+agentPath+"{part}", n.callAgent)
	mux.Handle("/calls/v1/self", mesh.Answer(callCodes, n.callSelf))
	mux.Handle(workspaces.Prefix, n.onlyCore(n.workspaceServer()))
	mux.Handle(pagesPath+"/", http.StripPrefix(pagesPath, http.HandlerFunc(n.callPages)))
	return mux
}

// workspaceServer offers this node's workspaces.
func (h *host) workspaceServer() http.Handler {
	s := workspaces.NewServer(workspaces.ServerConfig{Spaces: h.runner, Logger: h.c.Logger})
	h.onClose(s.Close)
	return s
}

// workspaceCalls is all that a worker offers: its workspaces, to core nodes.
func (w *worker) workspaceCalls() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/calls/v1/self", mesh.Answer(callCodes, w.callSelf))
	mux.Handle(workspaces.Prefix, w.workspaceServer()) // allow let core nodes in only
	return mux
}

// member is the node that calls, if it is one of this mesh. A no is final for
// who hears it, so it is given from the newest state only.
func (n *node) member(ctx context.Context, from mesh.Caller) (provision.Node, error) {
	if !n.isCaught() {
		return provision.Node{}, fmt.Errorf("%s is catching up with the mesh: %w", n.c.Node, errNoLeader)
	}
	if m, ok := n.nodeAt(from.Node); ok {
		return m, nil
	}
	if _, err := n.log.Fresh(ctx); err != nil {
		return provision.Node{}, logError(err)
	}
	if m, ok := n.nodeAt(from.Node); ok {
		return m, nil
	}
	return provision.Node{}, fmt.Errorf("node %s: %w; join it with an invitation (samnode node invite)", from, errNotMember)
}

func (n *node) nodeAt(addr string) (provision.Node, bool) {
	pool, _ := n.pool.Pool()
	i := slices.IndexFunc(pool.Nodes, func(m provision.Node) bool { return m.Addr == addr })
	if addr == "" || i < 0 {
		return provision.Node{}, false
	}
	return pool.Nodes[i], true
}

func (n *node) memberOf(r *http.Request) (provision.Node, error) {
	from, ok := mesh.CallerOf(r.Context())
	if !ok {
		return provision.Node{}, mesh.ErrStranger
	}
	return n.member(r.Context(), from)
}

// onlyCore keeps workers out: they have no business in others' workspaces.
func (n *node) onlyCore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := n.memberOf(r)
		if err == nil && !m.Core {
			err = fmt.Errorf("%s is a worker: %w", m.Name, errForbidden)
		}
		if err != nil {
			mesh.Refuse(w, callCodes, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allow is this node's say on who may connect: the log is for core nodes, and
// calls are for members, and for those who want to become one; each call looks
// for itself.
//
// Who may have the log is what the log's own group says, which a restarted node
// knows before it has caught up. One that has just joined knows nobody yet: it
// trusts those whom the node that let it in had named.
func (n *node) allow(ctx context.Context, s mesh.Service, c mesh.Caller) error {
	if s != mesh.Log {
		return nil
	}
	group := n.id.Cores
	if l := n.group.get(); l != nil {
		members, err := l.Members(ctx)
		if err != nil {
			return err
		}
		for i, m := range members {
			if i == 0 {
				group = nil
			}
			group = append(group, peer{Node: m.Node, Addr: m.Addr})
		}
	}
	if slices.ContainsFunc(group, func(p peer) bool { return p.Addr == c.Node }) {
		return nil
	}
	return fmt.Errorf("%s is no core node of this mesh: %w", c, errNotMember)
}

func (n *node) isCaught() bool {
	select {
	case <-n.caught:
		return true
	default:
		return false
	}
}

// poolDo proposes a command of the pool and returns its refusal, if that is
// what became of it.
func (n *node) poolDo(ctx context.Context, c provision.Command, more ...consensus.Part) error {
	return poolError(n.poolDoBy(ctx, n.propose, c, more...))
}

// poolDoBy is poolDo by a way into the log, with the pool's own refusals.
func (n *node) poolDoBy(ctx context.Context, propose func(context.Context, ...consensus.Part) (uint64, error), c provision.Command, more ...consensus.Part) error {
	c.ID = ulid.Make().String()
	part, err := poolPart(c)
	if err != nil {
		return err
	}
	if _, err := propose(ctx, append([]consensus.Part{part}, more...)...); err != nil {
		return err
	}
	out, known := n.pool.Outcome(c.ID)
	if !known {
		return fmt.Errorf("command %s has no outcome", c.ID)
	}
	return out.Err()
}

// poolError gives the pool's refusals the names that pages and calls know.
func poolError(err error) error {
	for ours, theirs := range map[error]error{
		provision.ErrNotFound: chat.ErrNotFound, provision.ErrRefused: chat.ErrRefused,
		provision.ErrInvalid: chat.ErrInvalid, provision.ErrStale: chat.ErrStale,
	} {
		if errors.Is(err, ours) {
			return &renamed{err, theirs}
		}
	}
	return err
}

// renamed is an error that also is another.
type renamed struct {
	error
	as error
}

func (r *renamed) Unwrap() []error { return []error{r.error, r.as} }

// callJoin makes the caller a member. A core node is added to the log's group
// as a spare, and gets the mesh key.
func (n *node) callJoin(ctx context.Context, from mesh.Caller, in joinCall) (joinAnswer, error) {
	v := invitation{Secret: in.Secret}
	pool, _ := n.pool.Pool()
	switch pool.Mesh.ID {
	case in.Mesh:
	case "":
		return joinAnswer{}, fmt.Errorf("%s has not caught up with the mesh: %w", n.c.Node, errNoLeader)
	default:
		return joinAnswer{}, fmt.Errorf("the invitation is of mesh %s, this one is %s: ask for a new one (samnode node invite): %w", in.Mesh, pool.Mesh.ID, errForbidden)
	}
	err := n.poolDo(ctx, provision.Command{Join: &provision.Join{Invite: in.Invite, Hash: v.hash(), Node: provision.Node{
		Name: in.Name, Addr: from.Node, Core: in.Core, Version: in.Version,
	}}})
	if err != nil {
		return joinAnswer{}, err
	}
	out := joinAnswer{Cores: n.corePeers(), Epoch: n.id.Epoch}
	pool, _ = n.pool.Pool()
	if m, ok := pool.Node(in.Name); ok {
		out.Person = chat.Person(m.Person)
	}
	n.c.Logger.Info("a node joined", "name", in.Name, "addr", from.Node, "core", in.Core)
	if !in.Core {
		return out, nil
	}
	if err := n.log.AddMember(ctx, in.Name, from.Node); err != nil {
		return joinAnswer{}, logError(err)
	}
	out.Key = n.key.Bytes()
	return out, nil
}

// corePeers are the core nodes, this one first.
func (n *node) corePeers() []peer {
	pool, _ := n.pool.Pool()
	var list []peer
	for _, m := range pool.Nodes {
		if !m.Core {
			continue
		}
		p := peer{Node: m.Name, Addr: m.Addr, URL: m.URL}
		if m.Name == n.c.Node {
			list = slices.Insert(list, 0, p)
		} else {
			list = append(list, p)
		}
	}
	return list
}

// callStart announces a worker's process.
func (n *node) callStart(ctx context.Context, from mesh.Caller, in provision.Start) (beatAnswer, error) {
	m, err := n.member(ctx, from)
	if err != nil {
		return beatAnswer{}, err
	}
	if m.Name != in.Node {
		return beatAnswer{}, fmt.Errorf("the node at %s is %s, not %s: %w", from.Node, m.Name, in.Node, errForbidden)
	}
	in.Addr = from.Node
	if err := startError(n.poolDo(ctx, provision.Command{Start: &in})); err != nil {
		return beatAnswer{}, err
	}
	return beatAnswer{Cores: n.corePeers()}, nil
}

// startError tells a copy of a state directory from other refusals.
func startError(err error) error {
	if errors.Is(err, provision.ErrStale) {
		return &renamed{errors.New(err.Error()), errTwin} // not also chat.ErrStale, whose code it would travel under
	}
	return err
}

// callBeat takes a node's sign of life to the leader.
func (n *node) callBeat(ctx context.Context, from mesh.Caller, in beatCall) (beatAnswer, error) {
	m, err := n.member(ctx, from)
	if err != nil {
		return beatAnswer{}, err
	}
	if m.Name != in.Beat.Node && !m.Core { // core nodes pass on what workers tell them
		return beatAnswer{}, fmt.Errorf("the node at %s is %s, not %s: %w", from.Node, m.Name, in.Beat.Node, errForbidden)
	}
	if err := n.takeBeat(ctx, in.Beat, m.Core); err != nil {
		return beatAnswer{}, err
	}
	return beatAnswer{Cores: n.corePeers()}, nil
}

// callPages answers a worker's own person, in the name of who invited the
// node and at most as a member.
func (n *node) callPages(w http.ResponseWriter, r *http.Request) {
	m, err := n.memberOf(r)
	if err == nil && m.Person == "" {
		err = fmt.Errorf("nobody invited %s: %w", m.Name, errForbidden)
	}
	if err != nil {
		mesh.Refuse(w, callCodes, err)
		return
	}
	role := mesh.Member
	if n.room.RoleOf(chat.Person(m.Person)) == chat.RoleViewer {
		role = mesh.Viewer
	}
	who := mesh.Caller{Person: chat.Person(m.Person), Name: m.Name}.Granted([]mesh.Grant{{Role: role}})
	n.front().ServeHTTP(w, r.WithContext(mesh.WithCaller(r.Context(), who)))
}

// logError gives the log's errors the names that calls know.
func logError(err error) error {
	if errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrUnknownOutcome) {
		return &renamed{err, errNoLeader}
	}
	if errors.Is(err, consensus.ErrLastVoter) || errors.Is(err, consensus.ErrTooFewVoters) {
		return &renamed{err, chat.ErrRefused}
	}
	return err
}
