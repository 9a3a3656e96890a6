package provision

import (
	"fmt"
	"slices"
)

// Decision is what the scheduler says of one waiting task: a slot, or why it
// waits.
type Decision struct {
	Task   string `json:"task"`
	Node   string `json:"node,omitempty"` // empty: it waits
	Slot   string `json:"slot,omitempty"`
	Reason string `json:"reason"` // one sentence for a person
}

// Schedule gives the waiting tasks, oldest first, the free slots of the pool:
// among machines the fullest first, so that the others can become empty. It is
// a pure function; nothing is granted until the log says so.
func Schedule(p Pool, waiting []string) []Decision {
	decisions := make([]Decision, 0, len(waiting))
	ahead := 0
	for _, task := range waiting {
		if l, has := p.Lease(task); has {
			decisions = append(decisions, Decision{Task: task, Reason: "Its last workspace on " + l.Node + " is being cleared"})
			continue
		}
		m, slot, ok := fullest(p)
		if !ok {
			decisions = append(decisions, Decision{Task: task, Reason: waits(p, ahead)})
			ahead++
			continue
		}
		p.Leases = append(slices.Clip(p.Leases), Lease{Task: task, Node: m.Node, Slot: slot})
		decisions = append(decisions, Decision{Task: task, Node: m.Node, Slot: slot, Reason: "Free slot on " + m.Node})
	}
	return decisions
}

// fullest returns the first free slot of the machine with the fewest free
// slots but one.
func fullest(p Pool) (best Machine, slot string, ok bool) {
	least := 0
	for _, m := range p.Machines {
		free := p.Free(m)
		if len(free) > 0 && (!ok || len(free) < least) {
			best, slot, least, ok = m, free[0], len(free), true
		}
	}
	return best, slot, ok
}

func waits(p Pool, ahead int) string {
	slots := 0
	for _, m := range p.Machines {
		if m.State == Ready {
			slots += m.Slots
		}
	}
	switch {
	case slots == 0:
		return "No machine takes tasks. Tasks wait until one joins."
	case ahead == 0:
		return fmt.Sprintf("Next in line: all %d slots are in use", slots)
	default:
		return fmt.Sprintf("%d ahead of you: all %d slots are in use", ahead, slots)
	}
}
