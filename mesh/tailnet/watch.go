package tailnet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tailscale.com/tailcfg"
)

const (
	watchEvery  = 5 * time.Second
	clockEvery  = 15 * time.Minute
	expiresSoon = 14 * 24 * time.Hour
	certRetry   = 10 * time.Minute
)

// watch keeps up with what is not asked for: the control server, this node's
// own name and key.
func (n *Node) watch() {
	var clock time.Time
	for {
		inTouch := n.inTouch()
		n.mu.Lock()
		if inTouch {
			n.away = time.Time{}
		} else if n.away.IsZero() {
			n.away = time.Now()
		}
		n.mu.Unlock()
		if _, err := n.status.get(n.ctx, n, watchEvery); err != nil {
			n.logger.Debug("Asking the tailnet", "err", err)
		}
		if time.Since(clock) > clockEvery {
			clock = time.Now()
			err := n.probe(n.ctx)
			if !errors.Is(err, ErrClock) { // that it is away is known already
				err = nil
			}
			n.mu.Lock()
			n.clock = err
			n.mu.Unlock()
		}
		select {
		case <-time.After(watchEvery):
		case <-n.ctx.Done():
			return
		}
	}
}

// fetchCertificate gets the tailnet's certificate before a browser waits for
// it. After that it is renewed as it is used.
func (n *Node) fetchCertificate(domain string) {
	for {
		_, _, err := n.lc.CertPair(n.ctx, domain)
		n.mu.Lock()
		n.secure, n.noCert = err == nil, err
		n.mu.Unlock()
		if err == nil || n.ctx.Err() != nil {
			return
		}
		n.logger.Debug("Getting a certificate", "name", domain, "err", err)
		select {
		case <-time.After(certRetry):
		case <-n.ctx.Done():
			return
		}
	}
}

// Warnings are sentences about what is not as it should be, for people.
func (n *Node) Warnings() []string {
	var list []string
	n.mu.Lock()
	switch {
	case n.login != "" && !n.away.IsZero():
		list = append(list, fmt.Sprintf("the tailnet does not let this node in any more: its key has expired or somebody logged it out. A person can let it in at %s; a new key does it, too", n.login))
	case n.off != nil:
		list = append(list, n.off.Error())
	case !n.away.IsZero() && time.Since(n.away) > 2*watchEvery:
		list = append(list, fmt.Sprintf("control server unreachable since %s: what runs goes on, but no new node gets in", n.away.UTC().Format("2006-01-02 15:04 UTC")))
	}
	if n.clock != nil {
		list = append(list, n.clock.Error())
	}
	if e := n.self.KeyExpiry; e != nil && time.Until(*e) < expiresSoon {
		list = append(list, fmt.Sprintf("this node's key expires on %s, and the node is off the tailnet then: switch key expiry off for it", e.UTC().Format(time.DateOnly)))
	}
	if n.noCert != nil {
		list = append(list, "the tailnet gives this node no certificate, so its pages are on plain HTTP: "+n.noCert.Error())
	}
	n.mu.Unlock()
	if relayed := n.relayed(); len(relayed) > 0 {
		list = append(list, "reached through a relay, which is slow: "+strings.Join(relayed, ", "))
	}
	return list
}

// KeepsMap says whether the node can start while the control server is away. It
// is the policy that lets it: see Policy.
func (n *Node) KeepsMap() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.self.HasCap(tailcfg.NodeAttrCacheNetworkMaps)
}

// relayed are the nodes that have been reached through a relay for a while.
func (n *Node) relayed() []string {
	n.status.mu.Lock()
	defer n.status.mu.Unlock()
	var names []string
	if n.status.last == nil {
		return nil
	}
	for _, p := range n.status.last.Peer {
		if l := n.status.ping[p.ID]; l.relayed() && l.at.Sub(l.since) >= relayLong {
			names = append(names, fmt.Sprintf("%s (%s)", shortName(p), strings.TrimPrefix(l.path, "relay ")))
		}
	}
	slices.Sort(names)
	return names
}
