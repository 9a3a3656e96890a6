package tailnet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/samnode/samnode/mesh"
)

// Policy is what a tailnet's policy file has to say about a mesh, for people to
// put there. Nodes refuse what they are to refuse under any policy.
type Policy struct {
	Tag, Capability string   // empty: the defaults
	Owners, Members []string // logins; there is to be an owner. Of headscale's own users: name@
	Shared          netip.Addr
}

// String is the policy, for Tailscale and headscale alike: JSON with comments.
func (p Policy) String() string {
	tag, capability := quote(cmp.Or(p.Tag, DefaultTag)), quote(cmp.Or(p.Capability, DefaultCapability))
	dst := tag
	var routes, shared string
	if p.Shared.IsValid() {
		host := quote(netip.PrefixFrom(p.Shared, p.Shared.BitLen()).String())
		dst += ", " + host
		routes = fmt.Sprintf("\n  \"autoApprovers\": {\"routes\": {%s: [%s]}},", host, tag)
		shared = fmt.Sprintf("\n    // The address that the nodes share.\n    {\"src\": [\"autogroup:member\", %s], \"dst\": [%s], \"ip\": [\"tcp:80\"]},", tag, host)
	}
	return fmt.Sprintf(`{
  "groups": {"group:samnode-owners": [%[1]s], "group:samnode-members": [%[2]s]},
  "tagOwners": {%[3]s: ["group:samnode-owners"]},
  // A node that starts while the control server is away uses what it knew.
  "nodeAttrs": [{"target": [%[3]s], "attr": ["cache-network-maps"]}],%[4]s
  "grants": [
    // Nodes talk to each other.
    {"src": [%[3]s], "dst": [%[3]s], "ip": ["*"]},
    // People reach the pages, workspaces by SSH, and what listens in them.
    {"src": ["autogroup:member"], "dst": [%[3]s], "ip": ["tcp:80", "tcp:443", "tcp:22", "tcp:%[8]d-%[9]d", "icmp:*"]},%[5]s
    // Roles; "projects" may name some instead of all.
    {"src": ["group:samnode-owners"], "dst": [%[6]s], "app": {%[7]s: [{"role": "owner", "projects": ["*"]}]}},
    {"src": ["group:samnode-members"], "dst": [%[6]s], "app": {%[7]s: [{"role": "member", "projects": ["*"]}]}},
  ],
}
`, quoteAll(p.Owners), quoteAll(p.Members), tag, routes, shared, dst, capability, mesh.FirstPort, mesh.LastPort)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string always has a form
		return `""`
	}
	return string(b)
}

func quoteAll(list []string) string {
	var quoted []string
	for _, s := range list {
		quoted = append(quoted, quote(s))
	}
	return strings.Join(quoted, ", ")
}
