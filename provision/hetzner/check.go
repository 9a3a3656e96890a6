package hetzner

import (
	"context"
	"errors"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

// nobody is the largest id that Hetzner has.
const nobody = 1<<53 - 1

// Check says whether the token can buy, without buying: it reads, and then
// changes nothing about a server that does not exist. A token with write rights
// is told that there is no such server; one that may only read is refused
// before anybody looks. It also finds the SSH key of the settings.
//
// Nil does not say that there is room in the account's limits: no call tells.
func (c *Client) Check(ctx context.Context) error {
	found, resp, err := c.api.Location.List(ctx, hcloud.LocationListOpts{ListOpts: hcloud.ListOpts{PerPage: 1}})
	if err == nil && len(found) == 0 {
		err = errors.New("the answer has no locations")
	}
	if err != nil {
		return explain(about("reading the locations"), resp, err)
	}
	_, resp, err = c.api.Server.Update(ctx, &hcloud.Server{ID: nobody}, hcloud.ServerUpdateOpts{})
	if err == nil {
		err = errors.New("a server that does not exist was changed")
	}
	refusal := explain(about("changing servers"), resp, err)
	if refusal.Trouble != provision.Gone && refusal.Trouble != provision.BadOrder { // else it looked at what was asked
		return refusal
	}
	_, err = c.sshKey(ctx)
	return err
}
