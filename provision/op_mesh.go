package provision

import (
	"slices"
	"time"
)

// applier is one command on its way into the state.
type applier struct {
	*Pool
	index uint64
	now   time.Time
}

// apply calls the op's function. An error is a refusal: nothing changed.
func (a *applier) apply(c Command) error {
	switch {
	case c.Found != nil:
		return a.found(*c.Found)
	case c.Invite != nil:
		return a.invite(*c.Invite)
	case c.Uninvite != nil:
		return a.uninvite(*c.Uninvite)
	case c.Join != nil:
		return a.join(*c.Join)
	case c.Start != nil:
		return a.start(*c.Start)
	case c.Beats != nil:
		return a.beats(*c.Beats)
	case c.Drain != nil:
		return a.drain(*c.Drain)
	case c.Remove != nil:
		return a.remove(*c.Remove)
	case c.Grant != nil:
		return a.grant(*c.Grant)
	case c.Release != nil:
		return a.release(*c.Release)
	case c.Machine != nil:
		return a.machine(*c.Machine)
	}
	return a.applyPurchase(c)
}

// member is what the state takes from a node that someone else describes.
func (a *applier) member(n Node, core bool, by Invite) Node {
	return Node{Name: n.Name, Addr: n.Addr, Core: core, Version: n.Version, URL: n.URL, Person: by.By, Invite: by.ID, Joined: a.now}
}

func checkNode(n Node) error {
	if err := CheckName(n.Name); err != nil {
		return err
	}
	return checkText(n.Addr, n.Version, n.URL)
}

func (a *applier) found(f Found) error {
	if f.Mesh == "" {
		return refuse(CodeInvalid, "A mesh needs an id.")
	}
	if err := checkNode(f.Node); err != nil {
		return err
	}
	if err := checkText(f.Mesh, f.Over); err != nil {
		return err
	}
	if a.Mesh.ID == f.Mesh {
		if _, is := a.Node(f.Node.Name); is {
			return nil
		}
	}
	switch {
	case a.Mesh.ID == f.Over && f.Over != "":
		// The machines of the lost mesh carry its label, so that this one leaves
		// them alone: a copy of a mesh must not delete what the mesh itself has.
		*a.Pool = Pool{Index: a.Index, At: a.At, Rules: a.Rules, Days: a.Days, Shares: a.Shares}
	case a.Mesh.ID != "":
		return refuse(CodeRefused, "This is the mesh %s, founded on %s: start another in a state directory of its own.", a.Mesh.ID, when(a.Mesh.Founded))
	case f.Over != "":
		return refuse(CodeRefused, "There is no mesh %s here that another could take the place of.", f.Over)
	}
	a.Mesh = Mesh{ID: f.Mesh, Founded: a.now}
	a.Nodes = []Node{a.member(f.Node, true, Invite{})}
	// A lone node of the time before there was a mesh goes on with its leases.
	a.Machines = slices.DeleteFunc(a.Machines, func(m Machine) bool { return m.Node != f.Node.Name })
	a.Leases = slices.DeleteFunc(a.Leases, func(l Lease) bool { return l.Node != f.Node.Name })
	return nil
}

func (a *applier) invite(i Invite) error {
	switch {
	case a.Mesh.ID == "":
		return refuse(CodeRefused, "There is no mesh to invite to yet: start one with samnode init.")
	case i.ID == "":
		return refuse(CodeInvalid, "An invitation needs an id.")
	case !isHash(i.Hash):
		return refuse(CodeInvalid, "An invitation needs the SHA-256 of its secret, as 64 hex digits.")
	}
	if err := checkText(i.ID, i.By); err != nil {
		return err
	}
	if i.Machine != "" {
		return refuse(CodeInvalid, "An invitation for a bought machine is made when it is bought.")
	}
	return a.putInvite(i)
}

func (a *applier) putInvite(i Invite) error {
	i.Expires = i.Expires.UTC()
	if old, is := get(a.Invites, i.ID, inviteKey); is {
		if old.Hash != i.Hash {
			return refuse(CodeRefused, "There is another invitation %s.", i.ID)
		}
		return nil
	}
	if !a.now.Before(i.Expires) {
		return refuse(CodeInvalid, "The invitation would have run out before it was made (%s): give it a later time.", when(i.Expires))
	}
	open := slices.DeleteFunc(slices.Clone(a.Invites), func(i Invitation) bool { return !a.now.Before(i.Expires) })
	if len(open) >= MaxInvites {
		return refuse(CodeRefused, "There are %d invitations already: take some back, or wait until they run out.", MaxInvites)
	}
	a.Invites = put(open, Invitation{Invite: i, Made: a.now}, inviteKey)
	return nil
}

// isHash says whether s is a SHA-256 in hex.
func isHash(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 64
}

func (a *applier) uninvite(u Uninvite) error {
	i, is := get(a.Invites, u.ID, inviteKey)
	switch {
	case !is:
		return refuse(CodeNotFound, "There is no invitation %s: it ran out, or was taken back.", short(u.ID, 80))
	case i.Node != "":
		return refuse(CodeRefused, "Node %s joined with this invitation: to part with it, run samnode node remove %s.", i.Node, i.Node)
	}
	a.Invites = slices.DeleteFunc(a.Invites, func(i Invitation) bool { return i.ID == u.ID })
	return nil
}

func (a *applier) join(j Join) error {
	if a.Mesh.ID == "" {
		return refuse(CodeRefused, "There is no mesh to join here yet: start one with samnode init.")
	}
	if err := checkNode(j.Node); err != nil {
		return err
	}
	if j.Node.Addr == "" {
		return refuse(CodeInvalid, "Node %s has no address that the others can reach it at.", j.Node.Name)
	}
	other, taken := a.Node(j.Node.Name)
	if taken && other.Addr == j.Node.Addr && other.Core == j.Node.Core && other.Invite == j.Invite && j.Invite != "" {
		return nil // a retry, also of an invitation that ran out meanwhile
	}
	i, err := a.good(j)
	if err != nil {
		return err
	}
	if err := a.admits(i, j.Node.Name, taken); err != nil {
		return err
	}
	switch {
	case taken && other.Addr == j.Node.Addr && other.Core == j.Node.Core:
		return nil // it is in already; the invitation stays good
	case taken && other.Addr == j.Node.Addr:
		return refuse(CodeRefused, "Node %s is in this mesh already, as a %s: to change that, remove it first (samnode node remove %s).", other.Name, other.kind(), other.Name)
	case taken:
		return refuse(CodeRefused, "The mesh has a node %s, at %s: join as %s (samnode join --name %s), or remove the other first (samnode node remove %s).",
			other.Name, other.Addr, a.freeName(other.Name), a.freeName(other.Name), other.Name)
	case a.holds(j.Node.Name):
		return refuse(CodeRefused, "A node %s was removed, and may be at work still: join again in a minute, or as %s (samnode join --name %s).",
			j.Node.Name, a.freeName(j.Node.Name), a.freeName(j.Node.Name))
	}
	a.Nodes = put(a.Nodes, a.member(j.Node, j.Node.Core, i.Invite), nodeKey)
	i.Node, i.Used = j.Node.Name, a.now
	a.Invites = put(a.Invites, i, inviteKey)
	if m, is := a.Machine(i.Machine); is {
		a.logTo(m.Bought.Op, "Its node has joined, from "+short(j.Node.Addr, 80)+".")
	}
	return nil
}

// admits refuses a bought machine that may not join as it does, and others
// that would take its place.
func (a *applier) admits(i Invitation, name string, taken bool) error {
	m, is := a.Machine(name)
	switch {
	case i.Machine == "" && is && m.IsBought():
		return refuse(CodeRefused, "The name %s is that of a machine that the mesh buys: join as %s (samnode join --name %s).", name, a.freeName(name), a.freeName(name))
	case i.Machine == "":
		return nil
	case i.Machine != name:
		return refuse(CodeRefused, "This invitation is for the bought machine %s, not for %s.", i.Machine, name)
	case taken:
		return refuse(CodeRefused, "Machine %s has joined already: this is a second one, which nobody waits for.", name)
	case !is || m.State != Wanted && m.State != Creating && m.State != Booting:
		return refuse(CodeRefused, "Nobody waits for machine %s any more: it came too late, and is deleted.", name)
	}
	return nil
}

// good returns the invitation that the join shows, if it can be used.
func (a *applier) good(j Join) (Invitation, error) {
	i, is := get(a.Invites, j.Invite, inviteKey)
	var err error
	switch {
	case !is:
		err = refuse(CodeNotFound, "This mesh does not know the invitation: it is another mesh's, was taken back, or ran out long ago. Ask for a new one: samnode node invite")
	case i.Hash != j.Hash:
		err = refuse(CodeRefused, "The invitation's secret is not right: copy the whole of it, or ask for a new one: samnode node invite")
	case i.Node != "":
		err = refuse(CodeRefused, "Node %s has joined with this invitation, and each works once. Ask for a new one: samnode node invite", i.Node)
	case !a.now.Before(i.Expires):
		err = refuse(CodeRefused, "This invitation ran out on %s. Ask for a new one: samnode node invite", when(i.Expires))
	case j.Node.Core && !i.Core:
		err = refuse(CodeRefused, "This invitation is for a worker. Join without --core, or ask for a new one: samnode node invite --core")
	}
	return i, err
}

func (a *applier) remove(r Remove) error {
	n, is := a.Node(r.Node)
	if !is {
		return refuse(CodeNotFound, "The mesh has no node %s.", short(r.Node, 80))
	}
	core := 0
	for _, n := range a.Nodes {
		if n.Core {
			core++
		}
	}
	if n.Core && core == 1 {
		return refuse(CodeRefused, "Node %s is the last core node, and the mesh lives on it: let another join first (samnode node invite --core).", n.Name)
	}
	a.Nodes = slices.DeleteFunc(a.Nodes, func(n Node) bool { return n.Name == r.Node })
	if m, is := a.Machine(r.Node); is && m.IsBought() {
		a.failed(m, "Its node was removed from the mesh.")
		return nil
	}
	a.Machines = slices.DeleteFunc(a.Machines, func(m Machine) bool { return m.Node == r.Node })
	return nil
}
