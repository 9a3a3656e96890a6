package provision

import (
	"cmp"
	"fmt"
	"time"
)

func (a *applier) retire(r Retire) error {
	m, is := a.Machine(r.Machine)
	switch {
	case !is:
		return refuse(CodeNotFound, "There is no machine %s.", short(r.Machine, 80))
	case !m.IsBought():
		return refuse(CodeRefused, "Machine %s was not bought: take its node out of the mesh instead (samnode node remove %s).", m.Node, m.Node)
	case r.Op != "" && m.Bought.Delete == r.Op:
		return nil
	case m.Bought.Delete != "":
		return refuse(CodeRefused, "Machine %s is being deleted already.", m.Node)
	case m.State == Wanted && !r.Idle:
		return a.withdraw(Withdraw{Op: m.Bought.Op, Reason: r.Reason})
	}
	if err := a.newDelete(r.Op, r.By); err != nil {
		return err
	}
	switch m.State {
	case Ready, Draining:
		if l, leased := a.leaseOn(m.Node); leased && r.Idle {
			return refuse(CodeRefused, "Machine %s is in use: slot %s was leased meanwhile.", m.Node, l.Slot)
		}
		a.beginDelete(m, r.Op, r.Reason, r.By, Draining)
		return nil
	case Creating, Booting:
		if r.Idle {
			return refuse(CodeRefused, "Machine %s is %s: it cannot be idle.", m.Node, m.State)
		}
		a.endOp(m.Bought.Op, OpWithdrawn, cmp.Or(r.Reason, "The machine is to be deleted."))
		m.Bought.Why, m.Bought.Deadline = cmp.Or(short(r.Reason, maxReason), "Somebody deletes it."), time.Time{}
		a.beginDelete(m, r.Op, r.Reason, r.By, Failed)
		return nil
	default:
		return refuse(CodeRefused, "Machine %s is %s: there is nothing to delete yet, or it is being deleted.", m.Node, m.State)
	}
}

// newDelete checks the id of an op that is to be new.
func (a *applier) newDelete(op, by string) error {
	if op == "" || CheckName(ServerName(op, 1)) != nil {
		return refuse(CodeInvalid, "%q cannot be an op's id.", short(op, 80))
	}
	if _, is := a.Op(op); is {
		return refuse(CodeRefused, "There is another op %s.", op)
	}
	return checkText(op, by)
}

// beginDelete begins the op that deletes a machine.
func (a *applier) beginDelete(m Machine, op, reason, by string, s MachineState) Machine {
	o := Op{ID: op, Kind: DeleteOp, State: OpOpen, Machine: m.Node, Reason: short(reason, maxReason), By: by, Began: a.now}
	a.log(&o, cmp.Or(o.Reason, "The machine is to be deleted."))
	a.putOp(o)
	m.Bought.Delete = op
	return a.step(m, s)
}

func (a *applier) leaseOn(node string) (Lease, bool) {
	for _, l := range a.Leases {
		if l.Node == node {
			return l, true
		}
	}
	return Lease{}, false
}

func (a *applier) delete(d Delete) error {
	m, err := a.machineAt(d.Machine, d.Token)
	if err != nil {
		return err
	}
	l, leased := a.leaseOn(m.Node)
	switch {
	case m.State == Draining && m.Bought.Delete != "":
		if leased && !d.Force {
			return refuse(CodeRefused, "Machine %s is in use: slot %s is leased.", m.Node, l.Slot)
		}
	case m.State == Failed && m.Bought.Delete == "":
		if err := a.newDelete(d.Op, ""); err != nil {
			return err
		}
		m = a.beginDelete(m, d.Op, m.Bought.Why, "", Failed)
	case m.State == Failed:
	default:
		return refuse(CodeRefused, "Machine %s is %s: it is not to be deleted.", m.Node, m.State)
	}
	a.uninvolve(m)
	m.Bought.Deadline = a.now.Add(DeleteLate)
	a.logTo(m.Bought.Delete, fmt.Sprintf("The provider is asked to delete server %s.", cmp.Or(m.Bought.Server, m.Node+", if there is one")))
	a.step(m, Deleting)
	return nil
}

func (a *applier) locate(l Locate) error {
	m, err := a.machineAt(l.Machine, l.Token)
	switch {
	case err != nil:
		return err
	case m.State != Failed && m.State != Deleting || m.Bought.Server != "":
		return refuse(CodeRefused, "Machine %s is %s, and its server is %q: it is not looked for.", m.Node, m.State, m.Bought.Server)
	}
	if m, err = a.identify(m, l.Server); err != nil {
		return err
	}
	a.logTo(cmp.Or(m.Bought.Delete, m.Bought.Op), fmt.Sprintf("Its server is %s.", m.Bought.Server))
	a.step(m, m.State)
	return nil
}

func (a *applier) note(n Note) error {
	o, is := a.Op(n.Op)
	switch {
	case !is:
		return refuse(CodeNotFound, "There is no op %s.", short(n.Op, 80))
	case o.State != OpOpen:
		return refuse(CodeStale, "Op %s has ended.", o.ID)
	}
	text := short(n.Text, maxReason)
	if o.Text == text {
		return nil
	}
	if o.Text = text; text != "" {
		a.log(&o, text)
	}
	a.putOp(o)
	return nil
}

func (a *applier) ended(e Ended) error {
	m, err := a.machineAt(e.Machine, e.Token)
	if err != nil {
		return err
	}
	switch {
	case m.State == Wanted || m.State == Creating:
		return refuse(CodeRefused, "Machine %s is %s: it may be about to be made.", m.Node, m.State)
	case m.Bought.Server == "" && m.State != Deleting:
		return refuse(CodeRefused, "Machine %s has no server that could be gone.", m.Node)
	}
	why := cmp.Or(m.Bought.Why, short(e.Reason, maxReason), "The provider has no such server.")
	if m.State != Deleting {
		a.logTo(m.Bought.Op, "Machine "+m.Node+": "+why)
	}
	a.gone(m, why)
	return nil
}

func (a *applier) keep(k Keep) error {
	m, is := a.Machine(k.Machine)
	if !is || !m.IsBought() {
		return refuse(CodeNotFound, "The mesh has bought no machine %s.", short(k.Machine, 80))
	}
	m.Bought.Keep = k.Until.UTC()
	a.Machines = put(a.Machines, m, machineKey)
	return nil
}

func (a *applier) label(l Label) error {
	m, is := a.Machine(l.Machine)
	if !is {
		return refuse(CodeNotFound, "There is no machine %s.", short(l.Machine, 80))
	}
	if err := checkLabels(l.Labels); err != nil {
		return err
	}
	m.Labels = l.Labels
	a.Machines = put(a.Machines, m, machineKey)
	return nil
}
