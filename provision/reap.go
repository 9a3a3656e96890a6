package provision

import (
	"fmt"
	"slices"
	"time"
)

// The times of the reaper.
const (
	// Grace is how old a server must be that nobody knows, and for how long one
	// that has no id must not be listed, before it is taken for what it seems.
	Grace = 15 * time.Minute
	// MissingFor is how long a server must not be listed before the provider is
	// asked for it by its id: a list can lag.
	MissingFor = 3 * time.Minute
	// DeleteLate is how long a deletion may take before a person is told.
	DeleteLate = 10 * time.Minute
	// SweepLate is how long the reaper may say nothing before a person is told.
	SweepLate = 20 * time.Minute
)

// MaxStrays is how many servers, or sentences, a [Sweep] names at most.
const MaxStrays = 50

// Sweep is what the reaper saw last.
type Sweep struct {
	At       time.Time `json:"at,omitzero"`
	Seen     int       `json:"seen"`               // servers with this mesh's label
	Strays   []string  `json:"strays,omitempty"`   // names of those that nobody knows, which are deleted
	Troubles []string  `json:"troubles,omitempty"` // sentences
}

// Finding is one thing that the provider's list and the state do not agree on.
type Finding struct {
	Kind    FindingKind
	Server  Server // of what is listed
	Machine string // of what the state has
	Reason  string // a sentence
}

// FindingKind is what a finding is, and so what is to be done.
type FindingKind string

// The kinds of findings.
const (
	Stray   FindingKind = "stray"   // no machine has this server: look again, then delete it
	Missing FindingKind = "missing" // a machine's server is not listed: ask for it by its id
	Located FindingKind = "located" // this is the server of a machine that failed before its id was known
	Never   FindingKind = "never"   // a machine of which no server was listed for long has none
	Off     FindingKind = "off"     // a machine's server does not run: it costs what it cost running
)

// Ours tells whether a server is one of this mesh's machines: nothing else is
// ever touched.
func (p Pool) Ours(s Server) bool {
	return p.Mesh.ID != "" && s.Labels[LabelManagedBy] == ManagedBy && s.Labels[LabelMesh] == p.Mesh.ID && s.Labels[LabelRole] == RoleWorker
}

// Reap compares the provider's list with the state. Unlisted says for how long
// each machine has not been listed, by name, as far as the caller saw that by
// its own clock; Reap returns which are not in this list. A server is judged by
// itself: one that makes no sense keeps no other from being found.
//
// The state must not be older than the list: then a server that is listed and
// has no machine is not one that is being bought, for that is in the state
// first.
func Reap(p Pool, list []Server, unlisted map[string]time.Duration, now time.Time) (found []Finding, not []string) {
	listed := make(map[string]bool, len(list))
	for _, s := range list {
		if !p.Ours(s) {
			continue
		}
		m, is := p.machineOf(s)
		switch {
		case !is && (s.Created.IsZero() || now.Sub(s.Created) < Grace): // it may be of a moment ago
		case !is:
			found = append(found, Finding{Kind: Stray, Server: s, Reason: fmt.Sprintf("No machine of the mesh has server %s (%s), made on %s.", s.ID, s.Name, when(s.Created))})
		default:
			listed[m.Node] = true
			found = append(found, p.listed(m, s)...)
		}
	}
	for _, m := range p.bought() {
		if !m.Bought.exists() || listed[m.Node] || m.State == Wanted || m.State == Creating {
			continue
		}
		not = append(not, m.Node)
		found = append(found, missing(m, unlisted[m.Node])...)
	}
	return found, not
}

// machineOf returns the machine that a server is, or is going to be.
func (p Pool) machineOf(s Server) (Machine, bool) {
	for _, m := range p.Machines {
		b := m.Bought
		if m.IsBought() && (b.Server == s.ID || b.Server == "" && m.Node == s.Name && b.Op == s.Labels[LabelOp]) {
			return m, true
		}
	}
	return Machine{}, false
}

// listed judges a machine that the provider lists.
func (p Pool) listed(m Machine, s Server) []Finding {
	switch {
	case m.Bought.Server == "" && (m.State == Failed || m.State == Deleting):
		return []Finding{{Kind: Located, Server: s, Machine: m.Node, Reason: "The provider lists it."}}
	case s.Status == "off" && (m.State == Ready || m.State == Draining):
		return []Finding{{Kind: Off, Server: s, Machine: m.Node, Reason: "The machine has powered itself off, and costs what it did."}}
	}
	return nil
}

// missing judges a machine that the provider does not list.
func missing(m Machine, age time.Duration) []Finding {
	switch {
	case m.Bought.Server != "" && age >= MissingFor:
		return []Finding{{Kind: Missing, Machine: m.Node, Reason: "The provider does not have the server any more: somebody else deleted it."}}
	case m.Bought.Server == "" && m.State == Deleting && age >= Grace:
		return []Finding{{Kind: Never, Machine: m.Node, Reason: "The provider never listed such a server."}}
	}
	return nil
}

// Alarms are what a person should know about the machines now, as sentences.
// There is at least one provider to watch if anything was ever bought.
func (p Pool) Alarms(now time.Time) []string {
	var list []string
	if p.Breaker.Reason != "" {
		list = append(list, p.Breaker.String())
	}
	for _, m := range p.Machines {
		if m.State == Deleting && now.Sub(m.Since) > DeleteLate {
			o, _ := p.Op(m.Bought.Delete)
			list = append(list, fmt.Sprintf("Machine %s is being deleted since %s, and costs on: %s", m.Node, when(m.Since), o.Text))
		}
		if m.State == Creating && now.Sub(m.Since) > p.Policy().BootFor {
			o, _ := p.Op(m.Bought.Op)
			list = append(list, fmt.Sprintf("Whether there is a machine %s is not known since %s: %s", m.Node, when(m.Since), o.Text))
		}
	}
	if s := p.Sweep; len(p.bought()) > 0 && now.Sub(s.At) > SweepLate {
		list = append(list, fmt.Sprintf("Nobody has compared the provider's list with the machines since %s.", when(s.At)))
	}
	if n := len(p.Sweep.Strays); n > 0 {
		list = append(list, fmt.Sprintf("%d servers at the provider were nobody's, and are deleted: %v", n, p.Sweep.Strays))
	}
	return slices.Clip(append(list, p.Sweep.Troubles...))
}

// Overdue lists the servers of a list that are past the time they may live,
// whatever the state says: for the day on which every node is dead. Only those
// of that mesh, or with no mesh named those of any.
func Overdue(list []Server, mesh string, now time.Time) []Server {
	var out []Server
	for _, s := range list {
		end, has := s.Expires()
		ours := s.Labels[LabelManagedBy] == ManagedBy && s.Labels[LabelRole] == RoleWorker && (mesh == "" || s.Labels[LabelMesh] == mesh)
		if ours && has && now.After(end) {
			out = append(out, s)
		}
	}
	return out
}
