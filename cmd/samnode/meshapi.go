package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/ui/api"
)

// meshView is the mesh as pages and API show it: api's interfaces over the
// pool, the log and the network.
type meshView struct{ n *node }

// offlineAfter is how old a node's last sign of life is when people are told
// that it is silent: some signs may be late.
func (n *node) offlineAfter() time.Duration { return 2*n.c.BeatEvery + 5*time.Second }

// Mesh implements api.Mesh.
func (v meshView) Mesh(ctx context.Context) (api.MeshInfo, error) {
	n := v.n
	pool, _ := n.pool.Pool()
	s := n.log.Stats()
	info := api.MeshInfo{
		ID: pool.Mesh.ID, Node: n.c.Node, Leader: s.Leader, Quorum: s.Quorum, Version: version,
		Versions: map[string]string{}, Index: n.room.Index(), Warnings: []string{},
	}
	members, err := n.log.Members(ctx)
	if err != nil {
		return info, err
	}
	for _, m := range members {
		info.Members = append(info.Members, api.Member{Node: m.Node, Voter: m.Voter})
		if m.Voter {
			info.Voters++
		}
	}
	for _, m := range pool.Nodes {
		info.Versions[m.Name] = m.Version
	}
	info.Lag = s.Commit - min(s.Applied, s.Commit)
	b := n.backup.get(n)
	info.Backup = &b
	info.Warnings = append(info.Warnings, n.warnings(info, pool)...)
	return info, nil
}

// warnings are what a person should do something about.
func (n *node) warnings(info api.MeshInfo, pool provision.Pool) []string {
	var list []string
	if info.Voters == 1 && !n.c.Alone {
		list = append(list, "one voter holds the mesh: two more core nodes would survive its loss (samnode node invite --core)")
	}
	if info.Backup == nil || info.Backup.Destination == "" {
		list = append(list, "there is no backup: samnode backup set")
	}
	versions := map[string]bool{}
	for _, m := range pool.Nodes {
		versions[m.Version] = m.Version != ""
	}
	if len(versions) > 1 {
		list = append(list, "the nodes run different versions: upgrade the older ones")
	}
	return append(append(list, n.traces.texts()...), n.net.Warnings()...)
}

// Nodes implements api.Mesh.
func (v meshView) Nodes(ctx context.Context) ([]api.Node, error) {
	n := v.n
	pool, _ := n.pool.Pool()
	s := n.log.Stats()
	voters := map[string]bool{}
	members, err := n.log.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		voters[m.Node] = m.Voter
	}
	lags := map[string]uint64{n.c.Node: s.Commit - min(s.Applied, s.Commit)}
	for _, p := range s.Peers {
		lags[p.Node] = p.Lag // known to the leader only
	}
	paths := n.paths()
	out := []api.Node{}
	for _, m := range pool.Nodes {
		x := v.node(pool, m)
		x.Voter, x.Leader, x.Lag = voters[m.Name], m.Name == s.Leader, lags[m.Name]
		x.Path = paths[m.Addr]
		out = append(out, x)
	}
	return out, nil
}

// node is one node as the pool knows it.
func (v meshView) node(pool provision.Pool, m provision.Node) api.Node {
	n := v.n
	silent := time.Since(m.Beat)
	x := api.Node{
		Name: m.Name, URL: m.URL, Self: m.Name == n.c.Node, Core: m.Core, Version: m.Version,
		Online: !m.Beat.IsZero() && silent < n.offlineAfter(), Since: m.Started,
	}
	if !x.Online {
		x.Since = m.Beat
	}
	if x.Self {
		x.Online, x.Since = true, n.started
	}
	if machine, ok := pool.Machine(m.Name); ok {
		x.Slots, x.Draining, x.Labels = machine.Slots, machine.State == provision.Draining, machine.Labels
	}
	for _, l := range pool.Leases {
		if l.Node == m.Name {
			x.Leases = append(x.Leases, api.Lease{Task: chat.TaskID(l.Task), Slot: l.Slot, Token: l.Token, Since: l.Since})
		}
	}
	x.Used = len(x.Leases)
	if r := m.Report; r != nil {
		x.Load = &api.Load{CPUs: r.CPUs, Load: r.Load, Memory: r.Mem - r.MemFree, MemoryMax: r.Mem, Disk: r.DiskFree}
		x.Warnings, x.Index = r.Warnings, r.Index
	}
	return x
}

// paths are the ways to the other nodes, asked of the network now and then.
func (n *node) paths() map[string]*api.Path {
	out := map[string]*api.Path{}
	for _, p := range n.peers.get(n.net) {
		if p.Path == "" {
			continue
		}
		way := &api.Path{Direct: p.Path == "direct" || p.Path == "loopback", LatencyMS: float64(p.Latency.Microseconds()) / 1000}
		if !way.Direct {
			way.Relay = p.Path
		}
		out[p.Addr] = way
	}
	return out
}

// peerCache asks the network for the peers in the background, at most every
// few seconds: a page must not wait for pings.
type peerCache struct {
	list   sheet[[]mesh.Peer]
	asking sheet[time.Time]
}

func (c *peerCache) get(net network) []mesh.Peer {
	if time.Since(c.asking.get()) > 5*time.Second {
		c.asking.set(time.Now())
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
			defer cancel()
			if list, err := net.Peers(ctx); err == nil {
				c.list.set(list)
			}
		}()
	}
	return c.list.get()
}

// Node implements api.Mesh.
func (v meshView) Node(ctx context.Context, name string) (api.NodeDetail, error) {
	n := v.n
	list, err := v.Nodes(ctx)
	if err != nil {
		return api.NodeDetail{}, err
	}
	i := slices.IndexFunc(list, func(x api.Node) bool { return x.Name == name })
	if i < 0 {
		return api.NodeDetail{}, fmt.Errorf("there is no node %.80q in the mesh: %w", name, chat.ErrNotFound)
	}
	var own ownView
	if name == n.c.Node {
		own = n.ownView(ctx)
	} else {
		pool, _ := n.pool.Pool()
		m, _ := pool.Node(name)
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if err := n.client.Call(ctx, m.Addr, "/calls/v1/self", struct{}{}, &own); err != nil {
			return api.NodeDetail{Node: list[i]}, err
		}
	}
	return api.NodeDetail{Node: list[i], Raft: own.Raft, Peers: own.Peers, Docker: own.Docker, System: own.System, Started: own.Started, Recent: own.Recent}, nil
}

// Label implements api.NodeKeeper.
func (v meshView) Label(ctx context.Context, _ chat.Author, node string, labels []string) error {
	return v.n.poolDo(ctx, provision.Command{Label: &provision.Label{Machine: node, Labels: labels}})
}

// Drain implements api.NodeKeeper.
func (v meshView) Drain(ctx context.Context, _ chat.Author, node string, on bool) error {
	return v.n.poolDo(ctx, provision.Command{Drain: &provision.Drain{Node: node, On: on}})
}

// Remove implements api.NodeKeeper.
func (v meshView) Remove(ctx context.Context, _ chat.Author, node string) (trace string, err error) {
	return v.n.remove(ctx, node)
}

// remove takes a node out of the mesh, and says what is left of it elsewhere.
// The vote goes first: a node that is in no list any more must not count for a
// majority.
func (n *node) remove(ctx context.Context, node string) (trace string, err error) {
	pool, _ := n.pool.Pool()
	m, ok := pool.Node(node)
	if !ok {
		return "", fmt.Errorf("there is no node %.80q in the mesh: %w", node, chat.ErrNotFound)
	}
	cores := 0
	for _, p := range pool.Nodes {
		if p.Core {
			cores++
		}
	}
	if m.Core && cores == 1 {
		return "", fmt.Errorf("%s is the last core node: the mesh would be gone. Remove its state directory to end the mesh: %w", node, chat.ErrRefused)
	}
	if node == n.c.Node {
		return n.removedByOther(ctx, pool)
	}
	if m.Core {
		if err := n.log.RemoveMember(ctx, node); err != nil {
			return "", logError(err)
		}
	}
	if err := n.poolDo(ctx, provision.Command{Remove: &provision.Remove{Node: node}}); err != nil {
		return "", err
	}
	return n.traces.add(ctx, node, m.Addr), nil
}

// removedByOther has another core node take this one out: once it is out of the
// log's group it is not told what becomes of the rest.
func (n *node) removedByOther(ctx context.Context, pool provision.Pool) (trace string, err error) {
	err = errors.New("no other one is known")
	for _, m := range pool.Nodes {
		if !m.Core || m.Name == n.c.Node {
			continue
		}
		var out leaveAnswer
		err = n.client.Call(ctx, m.Addr, "/calls/v1/leave", struct{}{}, &out)
		if err == nil || errors.Is(err, errNotMember) { // of a try before, whose answer was lost
			return out.Trace, nil
		}
		if !isAway(err) && !errors.Is(err, errNoLeader) {
			return "", err
		}
	}
	return "", fmt.Errorf("no other core node answers, and the mesh lives on them: %w: %w", err, chat.ErrRefused)
}

// Invitations implements api.Invitations.
func (v meshView) Invitations(context.Context) ([]api.Invitation, error) {
	pool, _ := v.n.pool.Pool()
	out := []api.Invitation{}
	for _, i := range pool.Invites {
		if i.Node == "" && v.n.room.Now().Before(i.Expires) {
			out = append(out, api.Invitation{ID: i.ID, Core: i.Core, By: chat.Person(i.By), Made: i.Made, Expires: i.Expires})
		}
	}
	return out, nil
}

// Invite implements api.Invitations.
func (v meshView) Invite(ctx context.Context, by chat.Author, id string, core bool, valid time.Duration) (api.Invitation, error) {
	n := v.n
	if n.c.Alone {
		return api.Invitation{}, fmt.Errorf("this is a mesh for development on one machine; run `samnode dev --nodes 3` for three nodes, or `samnode init` on a tailnet: %w", chat.ErrRefused)
	}
	wait, cancel := context.WithTimeout(ctx, proposeFor)
	defer cancel()
	if err := n.awaitFounding(wait); err != nil {
		return api.Invitation{}, fmt.Errorf("%w: %w", errNoLeader, err)
	}
	inv := n.newInvitation(id, core, time.Now().Add(valid))
	err := n.poolDo(ctx, provision.Command{Invite: &provision.Invite{ID: inv.ID, Hash: inv.hash(), Core: core, By: string(by.Person), Expires: inv.Expires}})
	if err != nil {
		return api.Invitation{}, err
	}
	text, err := inv.text()
	if err != nil {
		return api.Invitation{}, err
	}
	command := "samnode join " + text
	if core {
		command = "samnode join --core " + text
	}
	return api.Invitation{ID: inv.ID, Core: core, By: by.Person, Made: n.room.Now(), Expires: inv.Expires, Token: text, Command: command}, nil
}

// newInvitation makes an invitation that the mesh does not know yet.
func (n *node) newInvitation(id string, core bool, expires time.Time) invitation {
	pool, _ := n.pool.Pool()
	return invitation{
		Version: 1, ID: cmp.Or(id, ulid.Make().String()), Secret: hex.EncodeToString(token(20)), Core: core,
		Expires: expires.UTC().Truncate(time.Second), Mesh: pool.Mesh.ID, Cores: n.corePeers(),
		Network: n.id.Network, Control: n.id.Control, DevSecret: n.id.Secret,
	}
}

// Withdraw implements api.Invitations.
func (v meshView) Withdraw(ctx context.Context, _ chat.Author, id string) error {
	return v.n.poolDo(ctx, provision.Command{Uninvite: &provision.Uninvite{ID: id}})
}

// People implements api.People.
func (v meshView) People(context.Context) ([]api.Person, error) {
	out := []api.Person{}
	for _, m := range v.n.room.People() {
		out = append(out, api.Person{Person: m.Person, Role: string(m.Role), Since: m.Since})
	}
	return out, nil
}

// SetRole implements api.People.
func (v meshView) SetRole(ctx context.Context, by chat.Author, person chat.Person, role string) error {
	_, err := v.n.room.Do(ctx, by, "", chat.Op{PersonPut: &chat.PersonPut{Person: person, Role: chat.Role(role)}})
	return err
}
