// Package mesh is this node among the others: where it listens, how it reaches
// its peers, and who is calling.
//
// It has two twins behind one surface. The loopback twin (sub-package
// loopback) serves one machine: development, tests, and a node that has no
// tailnet yet. The tailnet twin (sub-package tailnet) joins a real one.
//
// A node offers services. Each has its own kind of caller, and is out of reach
// for the other kind: people get pages, nodes get the log and calls. Who calls
// is what the network says and never what a header says, and it is decided
// where a connection is accepted and again where one is dialled (Gate).
package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/samnode/samnode/chat"
)

// Service is what a node offers to callers of one kind.
type Service string

// The services of a node.
const (
	Pages Service = "pages" // people: the pages and the API
	Log   Service = "log"   // core nodes: Raft
	Calls Service = "calls" // nodes: HTTP between nodes, see Client
	SSH   Service = "ssh"   // people: into workspaces
	Ports Service = "ports" // people: what listens in workspaces, each at a port of the node
)

// The ports of a node on its tailnet at which the service Ports may be, the last
// one included. Browsers refuse none of them, and nothing else of ours is there;
// the tailnet's policy has to let people reach them.
const (
	FirstPort = 20000
	LastPort  = 59999
)

// forPeople says who may call a service: people, or else nodes.
func (s Service) forPeople() bool { return s == Pages || s == SSH || s == Ports }

// The errors of a connection. Each is a sentence that says what is wrong; what
// wraps it says with whom.
var (
	// ErrNotLocal is returned when a caller is not who may call.
	ErrNotLocal = errors.New("only this machine may call")
	// ErrStranger: the network cannot say who calls, or says someone who is
	// neither a node of this mesh nor a person.
	ErrStranger = errors.New("neither a node of this mesh nor a person of its tailnet")
	// ErrNotNode: a person called a service of nodes.
	ErrNotNode = errors.New("this service is for nodes of the mesh; people use the pages")
	// ErrNotPerson: a node called a service of people.
	ErrNotPerson = errors.New("this service is for people; nodes use the calls between nodes")
	// ErrUnreachable: no connection came about, so nothing was asked.
	ErrUnreachable = errors.New("the node cannot be reached")
	// ErrNotUp: this node is not on the network, or not any more.
	ErrNotUp = errors.New("this node is not on the network")
)

// Role is what a person may do.
type Role string

// The roles, from most to least. The first person of a mesh is its owner.
const (
	Owner  Role = "owner"
	Member Role = "member"
	Viewer Role = "viewer"
)

// Stronger returns the role of the two that may do more. What is no role is
// less than any.
func (r Role) Stronger(o Role) Role {
	for _, known := range []Role{Owner, Member, Viewer} {
		if r == known || o == known {
			return known
		}
	}
	return ""
}

// Caller is who is at the other end of a connection, as the network says:
// either a node or a person.
type Caller struct {
	Person   chat.Person
	Role     Role     // the strongest that the network grants; "": it grants none, the state decides
	Projects []string // to which Role applies, by name; "*": all
	Grants   []Grant  // all that the network grants, for RoleIn
	Node     string   // the stable address of a node; "": a person
	Name     string   // host name of the calling device, as the network says; for people to read
	Local    bool     // the call came from this machine, not over a network
}

// Grant is a role in some projects, by name; "*": all.
type Grant struct {
	Role     Role     `json:"role"`
	Projects []string `json:"projects"`
}

// Granted returns c with what the network grants. A person who has several
// grants has the strongest role, in the projects of those grants that give it.
// What names no projects is for all; what names no role of people is ignored.
func (c Caller) Granted(grants []Grant) Caller {
	c.Role, c.Projects, c.Grants = "", nil, nil
	for _, g := range grants {
		if g.Role.Stronger("") == "" {
			continue
		}
		if len(g.Projects) == 0 {
			g.Projects = []string{"*"}
		}
		c.Grants = append(c.Grants, g)
		c.Role = c.Role.Stronger(g.Role)
	}
	for _, g := range c.Grants {
		if g.Role == c.Role {
			c.Projects = append(c.Projects, g.Projects...)
		}
	}
	slices.Sort(c.Projects)
	c.Projects = slices.Compact(c.Projects)
	if slices.Contains(c.Projects, "*") {
		c.Projects = []string{"*"}
	}
	return c
}

// RoleIn is the strongest role that the network grants in a project; "": none.
func (c Caller) RoleIn(project string) Role {
	var role Role
	for _, g := range c.Grants {
		if slices.Contains(g.Projects, "*") || slices.Contains(g.Projects, project) {
			role = role.Stronger(g.Role)
		}
	}
	return role
}

// LogValue keeps a caller one short word in the log.
func (c Caller) LogValue() slog.Value { return slog.StringValue(c.String()) }

// String names a caller for people.
func (c Caller) String() string {
	switch {
	case c.Node != "" && c.Name != "":
		return "node " + c.Name + " (" + c.Node + ")"
	case c.Node != "":
		return "node " + c.Node
	case c.Person != "":
		return string(c.Person)
	case c.Name != "":
		return "stranger " + c.Name
	}
	return "stranger"
}

// Allow is the node's own say on a node that calls or is dialled: is it of this
// mesh, and may it use s? A nil error lets it. People are not asked about: what
// they may do is decided where they ask for it.
type Allow func(ctx context.Context, s Service, c Caller) error

// Peer is another node as the network sees it.
type Peer struct {
	Addr    string        // stable
	Name    string        // host name, for people
	URL     string        // of its pages; "": not known
	IPs     []netip.Addr  // on the tailnet
	Online  bool          // as the network says: it may still not answer
	Path    string        // "direct", "relay NAME", "loopback"; "": not known
	Latency time.Duration // one round trip; 0: not measured, or no answer
	Seen    time.Time     // when the network last heard of it; zero: not known, or now
}
