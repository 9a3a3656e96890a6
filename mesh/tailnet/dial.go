package tailnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"

	"github.com/samnode/samnode/mesh"
)

const (
	statusFresh  = time.Second // a dial looks at a status that may be this old
	pingTimeout  = time.Second
	meetPing     = 200 * time.Millisecond // a lost one is not repeated by itself
	meetTimeout  = time.Second            // and then a dial tries all the same
	pingAtOnce   = 16
	latencyFresh = 15 * time.Second
	relayFresh   = 2 * time.Second  // the first way to a peer is often a relay
	relayLong    = 30 * time.Second // after that it is not only the first way
)

// Dial connects to a service of the node at address to, which is to be a node
// of this mesh. It gives up after 10 s, or when ctx ends.
func (n *Node) Dial(ctx context.Context, to string, s mesh.Service) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := n.dial(ctx, to, s)
	if err != nil {
		return nil, fmt.Errorf("calling %s of node %s: %w", s, to, err)
	}
	return c, nil
}

func (n *Node) dial(ctx context.Context, to string, s mesh.Service) (net.Conn, error) {
	port, err := port(s)
	if err != nil {
		return nil, err
	}
	if n.ctx.Err() != nil {
		return nil, mesh.ErrNotUp
	}
	if to == n.Addr() {
		return n.gate.Inside(ctx, s, mesh.Caller{Node: to, Name: n.Name(), Local: true})
	}
	p, err := n.peer(ctx, to)
	if err != nil {
		return nil, err
	}
	if err := n.gate.Check(ctx, s, mesh.Caller{Node: to, Name: shortName(p)}); err != nil {
		return nil, err
	}
	n.meet(ctx, p)
	raw, err := n.srv.Dial(ctx, "tcp", netip.AddrPortFrom(p.TailscaleIPs[0], uint16(port)).String())
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not answer: %w", mesh.ErrUnreachable, shortName(p), err)
	}
	c, err := n.gate.Track(raw)
	if err != nil {
		return nil, err
	}
	// For what the tailnet does not have, it asks the host's network, where the
	// address may be anybody's.
	if far, near, err := ends(c); err != nil || far != p.TailscaleIPs[0] || !n.isOwn(near) {
		return nil, errors.Join(fmt.Errorf("%w: %s left the tailnet", mesh.ErrUnreachable, shortName(p)), err, c.Close())
	}
	return c, nil
}

// meet waits, before the first connection to a peer, until that knows this
// node's present key: the keys are new with each start, and come by way of the
// control server. A connection that is quicker is lost in the change of keys,
// and comes about 5 to 12 s later.
func (n *Node) meet(ctx context.Context, p *ipnstate.PeerStatus) {
	if _, met := n.met.Load(p.ID); met {
		return
	}
	for end := time.Now().Add(meetTimeout); time.Now().Before(end) && ctx.Err() == nil; {
		ctx, cancel := context.WithTimeout(ctx, meetPing)
		r, err := n.lc.Ping(ctx, p.TailscaleIPs[0], tailcfg.PingDisco)
		if err == nil && r.Err == "" {
			cancel()
			n.met.Store(p.ID, true)
			return
		}
		<-ctx.Done() // where it was not lost, but refused
		cancel()
	}
	n.logger.Debug("A peer does not answer to this node's key", "node", string(p.ID))
}

// isOwn says whether an address of a connection is this node's on the tailnet.
func (n *Node) isOwn(a netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.self.TailscaleIPs, a)
}

// peer finds a node by its address, whatever its name and IPs are by now.
func (n *Node) peer(ctx context.Context, to string) (*ipnstate.PeerStatus, error) {
	for _, fresh := range []time.Duration{statusFresh, 0} { // it may be a new one
		status, err := n.status.get(ctx, n, fresh)
		if err != nil {
			return nil, err
		}
		for _, p := range status.Peer {
			if string(p.ID) != to {
				continue
			}
			if p.Tags == nil || !slices.Contains(p.Tags.AsSlice(), n.c.Tag) {
				return nil, fmt.Errorf("%w: %s does not have %s", mesh.ErrStranger, shortName(p), n.c.Tag)
			}
			if len(p.TailscaleIPs) == 0 {
				return nil, fmt.Errorf("%w: the tailnet gave %s no address", mesh.ErrUnreachable, shortName(p))
			}
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: no such device on the tailnet, or its policy does not let this node see it", mesh.ErrUnreachable)
}

// statusCache keeps the network's last status, since asking costs in proportion
// to the size of the tailnet.
type statusCache struct {
	mu   sync.Mutex
	last *ipnstate.Status
	at   time.Time
	ping map[tailcfg.StableNodeID]latency
}

type latency struct {
	path  string
	trip  time.Duration
	at    time.Time
	since time.Time // when it was first reached by this path, in a row
}

func (l latency) relayed() bool { return strings.HasPrefix(l.path, "relay ") }

func (l latency) fresh() bool {
	if l.relayed() {
		return time.Since(l.at) < relayFresh
	}
	return time.Since(l.at) < latencyFresh
}

// get returns a status that is not older than fresh, nor than the call when it
// is 0. Nobody may change it.
func (c *statusCache) get(ctx context.Context, n *Node, fresh time.Duration) (*ipnstate.Status, error) {
	c.mu.Lock()
	if c.last != nil && time.Since(c.at) < fresh {
		defer c.mu.Unlock()
		return c.last, nil
	}
	c.mu.Unlock()
	at := time.Now()
	status, err := n.lc.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the tailnet: %w", err)
	}
	n.learn(status)
	n.mu.Lock()
	off := n.off
	n.mu.Unlock()
	if off == nil && status.Self == nil {
		off = mesh.ErrNotUp
	}
	if off != nil {
		return nil, off
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.at = status, at
	return status, nil
}

// Peers are the nodes that have the mesh's tag. Those that are online are asked
// for a round trip, all at once, for at most a second.
func (n *Node) Peers(ctx context.Context) ([]mesh.Peer, error) {
	status, err := n.status.get(ctx, n, statusFresh)
	if err != nil {
		return nil, err
	}
	var list []mesh.Peer
	var asked sync.WaitGroup
	slots := make(chan struct{}, pingAtOnce)
	for _, p := range status.Peer {
		if p.Tags == nil || !slices.Contains(p.Tags.AsSlice(), n.c.Tag) {
			continue
		}
		list = append(list, mesh.Peer{
			Addr: string(p.ID), Name: shortName(p), URL: "http://" + fullName(p),
			IPs: p.TailscaleIPs, Online: p.Online, Seen: p.LastSeen,
		})
		if p.Online && len(p.TailscaleIPs) > 0 {
			asked.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				n.measure(ctx, p)
			})
		}
	}
	asked.Wait()
	n.status.mu.Lock()
	defer n.status.mu.Unlock()
	for i := range list {
		l := n.status.ping[tailcfg.StableNodeID(list[i].Addr)]
		list[i].Path, list[i].Latency = l.path, l.trip
	}
	slices.SortFunc(list, func(a, b mesh.Peer) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// measure finds out how a peer is reached. A lost ping says nothing by itself,
// so there are two.
func (n *Node) measure(ctx context.Context, p *ipnstate.PeerStatus) {
	n.status.mu.Lock()
	known := n.status.ping[p.ID]
	n.status.mu.Unlock()
	if known.fresh() {
		return
	}
	l := latency{at: time.Now(), since: time.Now()}
	for range 2 {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout/2)
		r, err := n.lc.Ping(ctx, p.TailscaleIPs[0], tailcfg.PingDisco)
		cancel()
		if err == nil && r.Err != "" {
			err = errors.New(r.Err)
		}
		if err != nil {
			n.logger.Debug("Asking a peer for a round trip", "node", string(p.ID), "err", err)
			continue
		}
		l.trip = time.Duration(r.LatencySeconds * float64(time.Second))
		switch {
		case r.Endpoint != "":
			l.path = "direct"
		case r.PeerRelay != "":
			l.path = "relay " + r.PeerRelay
		case r.DERPRegionCode != "":
			l.path = "relay " + r.DERPRegionCode
		}
		break
	}
	if l.path == known.path {
		l.since = known.since
	}
	n.status.mu.Lock()
	defer n.status.mu.Unlock()
	if n.status.ping == nil {
		n.status.ping = make(map[tailcfg.StableNodeID]latency)
	}
	n.status.ping[p.ID] = l
}
