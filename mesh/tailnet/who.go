package tailnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tailscale.com/client/local"
	"tailscale.com/client/tailscale/apitype"
	"tailscale.com/tailcfg"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
)

const (
	whoTimeout = 3 * time.Second
	whoFresh   = 10 * time.Second // how long a right outlives its end
	whoMost    = 4096             // callers that are kept
)

// identify says who connected, by the network's own word.
func (n *Node) identify(s mesh.Service, wrap func(net.Conn) net.Conn) mesh.Identify {
	return func(ctx context.Context, c net.Conn) (mesh.Visit, error) {
		from, to, err := ends(c)
		if err != nil {
			return mesh.Visit{Service: s}, err
		}
		who, err := n.caller(ctx, from, to)
		again := func() mesh.Caller {
			ctx, cancel := context.WithTimeout(n.ctx, whoTimeout)
			defer cancel()
			who, err := n.caller(ctx, from, to)
			if err != nil {
				n.logger.Debug("Asking who is calling", "from", from.String(), "err", err)
				return mesh.Caller{}
			}
			return who
		}
		return mesh.Visit{Service: s, Caller: who, Again: again, Wrap: wrap}, err
	}
}

// ends are the addresses of a connection that the gate has: others have none
// once the other side has hung up.
func ends(c net.Conn) (from, to netip.Addr, err error) {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return from, to, fmt.Errorf("reading the caller's address: %w", err)
	}
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return from, to, fmt.Errorf("reading the called address: %w", err)
	}
	return remote.Addr().Unmap(), local.Addr().Unmap(), nil
}

// callers are the answers of the last few seconds.
type callers struct {
	mu    sync.Mutex
	known map[[2]netip.Addr]known // :: from, to → caller
}

type known struct {
	who   mesh.Caller
	until time.Time
}

func (c *callers) get(ends [2]netip.Addr) (mesh.Caller, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[ends]
	return k.who, ok && time.Now().Before(k.until)
}

func (c *callers) put(ends [2]netip.Addr, who mesh.Caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= whoMost {
		c.known = make(map[[2]netip.Addr]known) // the next question fills it again
	}
	c.known[ends] = known{who, time.Now().Add(whoFresh)}
}

// caller asks the network who has an address, and what it grants them at to.
func (n *Node) caller(ctx context.Context, from, to netip.Addr) (mesh.Caller, error) {
	key := [2]netip.Addr{from, to}
	if who, ok := n.who.get(key); ok {
		return who, nil
	}
	ctx, cancel := context.WithTimeout(ctx, whoTimeout)
	defer cancel()
	ask := n.lc.WhoIs
	if to == n.c.SharedAddr {
		ask = func(ctx context.Context, from string) (*apitype.WhoIsResponse, error) {
			return n.lc.WhoIsForIP(ctx, from, to)
		}
	}
	resp, err := ask(ctx, from.String())
	if errors.Is(err, local.ErrPeerNotFound) {
		return mesh.Caller{}, mesh.ErrStranger
	}
	if err != nil {
		return mesh.Caller{}, fmt.Errorf("asking the tailnet who %s is: %w", from, err)
	}
	who, err := callerOf(resp, n.c.Tag, n.c.Capability)
	if err == nil {
		n.who.put(key, who)
	}
	return who, err
}

// callerOf makes a caller of what the tailnet says. A device with tags is
// nobody's: it is a node of this mesh or a stranger.
func callerOf(resp *apitype.WhoIsResponse, tag, capability string) (mesh.Caller, error) {
	name, _, _ := strings.Cut(resp.Node.Name, ".")
	switch {
	case slices.Contains(resp.Node.Tags, tag):
		return mesh.Caller{Node: string(resp.Node.StableID), Name: name}, nil
	case len(resp.Node.Tags) > 0:
		return mesh.Caller{Name: name}, fmt.Errorf("%w: it has the tags %s", mesh.ErrStranger, strings.Join(resp.Node.Tags, ", "))
	case resp.UserProfile.LoginName == "":
		return mesh.Caller{Name: name}, fmt.Errorf("%w: its owner has no login", mesh.ErrStranger)
	}
	who := mesh.Caller{Person: chat.Person(resp.UserProfile.LoginName), Name: name}
	return who.Granted(grants(resp.CapMap, capability)), nil
}

// grants reads the roles that a policy gives. One that makes no sense gives
// none, and takes none of the others away.
func grants(caps tailcfg.PeerCapMap, capability string) []mesh.Grant {
	var list []mesh.Grant
	for _, raw := range caps[tailcfg.PeerCapability(capability)] {
		var g mesh.Grant
		if json.Unmarshal([]byte(raw), &g) == nil {
			list = append(list, g)
		}
	}
	return list
}
