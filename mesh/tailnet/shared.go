package tailnet

import (
	"context"
	"fmt"
	"net/netip"

	"tailscale.com/ipn"
)

// announceShared offers the shared address as a route of this node. All nodes
// do, and the control server picks one that is alive.
func (n *Node) announceShared(ctx context.Context) error {
	a := n.c.SharedAddr
	_, err := n.lc.EditPrefs(ctx, &ipn.MaskedPrefs{
		Prefs:              ipn.Prefs{AdvertiseRoutes: []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}},
		AdvertiseRoutesSet: true,
	})
	if err != nil {
		return fmt.Errorf("announcing the shared address %s: %w", a, err)
	}
	return nil
}
