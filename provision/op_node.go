package provision

import (
	"slices"
	"time"
)

// unknown refuses what a process says that runs as a node which is none.
func unknown(node string) error {
	return refuse(CodeNotFound, "The mesh has no node %s: it was removed, or never joined. Ask for an invitation: samnode node invite", short(node, 80))
}

// copied refuses the process that is not the node's.
func copied(n Node) error {
	return refuse(CodeStale, "This state directory was copied: another samnode runs as node %s since %s. Stop one of them, remove the copy and join it as a new node.",
		n.Name, when(n.Started))
}

func (a *applier) start(s Start) error {
	n, is := a.Node(s.Node)
	switch {
	case !is:
		return unknown(s.Node)
	case s.Boot == "":
		return refuse(CodeInvalid, "A process needs a boot id.")
	case s.Slots < 0 || s.Slots > maxSlots:
		return refuse(CodeInvalid, "A machine has 0 to %d slots, not %d.", maxSlots, s.Slots)
	case s.Generation < n.Generation, s.Generation == n.Generation && n.Boot != "" && s.Boot != n.Boot:
		return copied(n)
	}
	if err := checkText(s.Addr, s.Boot, s.Version, s.URL); err != nil {
		return err
	}
	if s.Boot != n.Boot {
		n.Started = a.now
	}
	n.Addr, n.Boot, n.Generation, n.Version, n.URL = s.Addr, s.Boot, s.Generation, s.Version, s.URL
	n.Beat, n.Index, n.Report = a.now, a.index, s.Report.clip()
	a.Nodes = put(a.Nodes, n, nodeKey)
	a.renew(map[string]bool{n.Name: true})

	m := Machine{Node: s.Node, State: Ready, Slots: s.Slots, CPUs: s.CPUs, Mem: s.Mem, Since: a.now}
	if old, is := a.Machine(s.Node); is {
		m.State, m.Since, m.Idle, m.Labels, m.Bought = old.State, old.Since, old.Idle, old.Labels, old.Bought
		if old.IsBought() {
			// What a bought machine is, and for how many tasks, the order says: the
			// node sees a little less memory than was sold.
			m.Slots, m.CPUs, m.Mem = old.Slots, old.CPUs, old.Mem
		}
	}
	a.Machines = put(a.Machines, m, machineKey)
	return nil
}

func (a *applier) beats(b Beats) error {
	alive := make(map[string]bool, len(b.Beats))
	for _, b := range b.Beats {
		i, is := find(a.Nodes, b.Node, nodeKey)
		if !is || a.Nodes[i].Boot == "" || a.Nodes[i].Boot != b.Boot {
			continue // its process is told by Heart.Beat
		}
		n := &a.Nodes[i]
		n.Beat, n.Index = a.now, a.index
		if b.Report != nil {
			n.Report = b.Report.clip()
		}
		alive[b.Node] = true
		if m, is := a.Machine(b.Node); is && m.State == Booting && n.fit() {
			a.ready(m)
		}
	}
	a.renew(alive)
	return nil
}

// renew makes the leases of these nodes new again.
func (a *applier) renew(nodes map[string]bool) {
	for i := range a.Leases {
		if l := &a.Leases[i]; nodes[l.Node] {
			l.Renewed, l.Index = a.now, a.index
		}
	}
}

func (a *applier) drain(d Drain) error {
	i, is := find(a.Machines, d.Node, machineKey)
	if !is {
		if _, member := a.Node(d.Node); member {
			return refuse(CodeRefused, "Node %s has not started yet: it has no machine to drain.", d.Node)
		}
		return refuse(CodeNotFound, "The mesh has no node %s.", short(d.Node, 80))
	}
	m := a.Machines[i]
	if m.State != Ready && m.State != Draining {
		return refuse(CodeRefused, "Machine %s is %s: only one that is ready can be drained.", m.Node, m.State)
	}
	m.State = Ready
	if d.On {
		m.State = Draining
	} else if m.Bought.Delete != "" {
		a.endOp(m.Bought.Delete, OpWithdrawn, "Somebody wants the machine to go on.")
		m.Bought.Delete, m.Bought.Token = "", a.index
	}
	a.Machines[i] = m
	return nil
}

// machine puts the machine of a lone node. See [Command].
func (a *applier) machine(m Machine) error {
	if a.Mesh.ID != "" {
		return refuse(CodeRefused, "The nodes of a mesh announce themselves with a start.")
	}
	m.Since, m.Bought = a.now, Bought{}
	if old, is := a.Machine(m.Node); is {
		m.Since = old.Since
	}
	a.Machines = put(a.Machines, m, machineKey)
	return nil
}

func (a *applier) grant(g Grant) error {
	m, is := a.Machine(g.Node)
	if !is {
		return refuse(CodeNotFound, "There is no machine %s.", short(g.Node, 80))
	}
	if l, has := a.Lease(g.Task); has {
		return refuse(CodeRefused, "The task has slot %s already.", l.Slot)
	}
	if m.State != Ready {
		return refuse(CodeRefused, "Machine %s takes no new leases: it is %s.", m.Node, m.State)
	}
	if !slices.Contains(a.Free(m), g.Slot) {
		return refuse(CodeRefused, "Slot %s is not free.", short(g.Slot, 80))
	}
	if why := anothers(m, a.Policy(), g.Owner); why != "" {
		return refuse(CodeRefused, "Machine %s cannot take the task: %s.", m.Node, why)
	}
	if m.IsBought() && m.Bought.Owner == "" {
		m.Bought.Owner = g.Owner
	}
	m.Idle = time.Time{}
	a.Machines = put(a.Machines, m, machineKey)
	a.arrived()
	l := Lease{Task: g.Task, Node: g.Node, Slot: g.Slot, Token: a.index, Since: a.now, Renewed: a.now, Index: a.index}
	a.Leases = put(a.Leases, l, leaseKey)
	return nil
}

func (a *applier) release(r Release) error {
	l, has := a.Lease(r.Task)
	switch {
	case !has || l.Token != r.Token:
		return refuse(CodeStale, "The task's lease %d has ended.", r.Token)
	case r.Index != 0 && l.Index != r.Index:
		return refuse(CodeStale, "Node %s has renewed its leases.", l.Node)
	}
	a.Leases = slices.DeleteFunc(a.Leases, func(l Lease) bool { return l.Task == r.Task })
	if m, is := a.Machine(l.Node); is {
		a.share(m, l)
		if a.idle(m) {
			m.Idle = a.now
			a.Machines = put(a.Machines, m, machineKey)
		}
	}
	return nil
}

// anothers says that a bought machine is for another owner's tasks, or nothing.
func anothers(m Machine, p Policy, owner string) string {
	if !m.IsBought() || p.Shared || m.Bought.Owner == "" || m.Bought.Owner == owner {
		return ""
	}
	return "it is another person's, and the settings do not share bought machines"
}
