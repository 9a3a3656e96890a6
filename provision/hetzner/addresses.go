package hetzner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

// addressGrace is how long an address may be without a server: Hetzner makes
// the one before the other.
const addressGrace = 15 * time.Minute

// mark puts the server's labels on its addresses. Hetzner makes them with the
// server and deletes them with it, but does not label them; one that stays
// behind all the same counts against the account's limit, and costs, and only
// a label says whose it is. Without it the server is as good.
func (c *Client) mark(ctx context.Context, server *hcloud.Server) {
	for _, id := range []int64{server.PublicNet.IPv4.ID, server.PublicNet.IPv6.ID} {
		if id == 0 {
			continue
		}
		labels := server.Labels
		_, resp, err := c.api.PrimaryIP.Update(ctx, &hcloud.PrimaryIP{ID: id}, hcloud.PrimaryIPUpdateOpts{Labels: &labels})
		if err != nil {
			c.log.Warn("an address has no labels", "server", server.Name, "err", explain(about("labelling the address %d", id), resp, err))
		}
	}
}

// SweepAddresses deletes this mesh's addresses that belong to no server and
// are older than 15 minutes, and returns them. One that cannot be deleted does
// not keep the others.
func (c *Client) SweepAddresses(ctx context.Context) ([]string, error) {
	s := about("listing the addresses")
	found, err := pages(s, func(page int) ([]*hcloud.PrimaryIP, *hcloud.Response, error) {
		return c.api.PrimaryIP.List(ctx, hcloud.PrimaryIPListOpts{ListOpts: hcloud.ListOpts{Page: page, PerPage: perPage, LabelSelector: c.selector()}})
	})
	if err != nil {
		return nil, err
	}
	var gone []string
	var errs []error
	for _, ip := range found {
		if !c.ours(ip.Labels) || ip.AssigneeID != 0 || time.Since(ip.Created) < addressGrace {
			continue
		}
		resp, err := c.api.PrimaryIP.Delete(ctx, ip)
		if err != nil {
			refusal := explain(about("deleting the address %s", ip.IP), resp, err)
			if refusal.Trouble != provision.Gone {
				errs = append(errs, refusal)
			}
			continue
		}
		c.log.Info("deleted an address without a server", "address", ip.IP, "id", ip.ID)
		gone = append(gone, fmt.Sprint(ip.IP))
	}
	return gone, errors.Join(errs...)
}
