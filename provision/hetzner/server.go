package hetzner

import (
	"context"
	"errors"
	"strconv"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

const (
	perPage  = 50  // as many as Hetzner gives
	maxPages = 200 // 10,000 of anything is no project of a mesh's
)

// Server reads one server. Trouble Gone: Hetzner itself says that it does not
// exist. A proxy's 404 does not count.
func (c *Client) Server(ctx context.Context, id string) (provision.Server, error) {
	n, err := number(id)
	if err != nil {
		return provision.Server{}, err
	}
	s := about("reading the server %s", id)
	found, resp, err := c.api.Server.GetByID(ctx, n)
	switch {
	case err != nil:
		return provision.Server{}, explain(s, resp, err)
	case found == nil:
		return provision.Server{}, refuse(provision.Gone, nil, "There is no server %s at Hetzner.", id)
	case found.ID != n:
		return provision.Server{}, s.unanswered(resp, errors.New("the answer is about another server"))
	}
	return serverOf(found), nil
}

// Servers lists all servers with this mesh's labels, in one call for every 50.
// A new server may be missing from the list for a while, and a deleted one may
// still be in it.
func (c *Client) Servers(ctx context.Context) ([]provision.Server, error) {
	s := about("listing the servers")
	found, err := pages(s, func(page int) ([]*hcloud.Server, *hcloud.Response, error) {
		return c.api.Server.List(ctx, hcloud.ServerListOpts{ListOpts: hcloud.ListOpts{Page: page, PerPage: perPage, LabelSelector: c.selector()}})
	})
	if err != nil {
		return nil, err
	}
	list, seen := []provision.Server{}, map[int64]bool{} // pages shift while servers come and go
	for _, f := range found {
		if !c.ours(f.Labels) {
			c.log.Warn("Hetzner listed a server that does not match", "name", f.Name, "id", f.ID)
			continue
		}
		if !seen[f.ID] {
			list = append(list, serverOf(f))
		}
		seen[f.ID] = true
	}
	return list, nil
}

// Delete begins to delete a server, running or not; its disk and addresses go
// with it. Nil: it has begun, or there is no such server. It is over when
// [Client.Server] says Gone.
func (c *Client) Delete(ctx context.Context, id string) error {
	n, err := number(id)
	if err != nil {
		return err
	}
	s := about("deleting the server %s", id)
	begun, resp, err := c.api.Server.DeleteWithResult(ctx, &hcloud.Server{ID: n})
	switch {
	case err == nil && begun.Action != nil && begun.Action.ID != 0:
		return nil
	case err == nil:
		err = errors.New("the answer has no action")
	}
	refusal := explain(s, resp, err)
	if refusal.Trouble == provision.Gone {
		return nil
	}
	if refusal.Trouble == provision.Busy { // perhaps with just that
		now, err := c.Server(ctx, id)
		if provision.TroubleOf(err) == provision.Gone || now.Status == string(hcloud.ServerStatusDeleting) {
			return nil
		}
	}
	return refusal
}

// number reads the id of something at Hetzner.
func number(id string) (int64, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n <= 0 {
		return 0, refuse(provision.BadOrder, err, "%q is no server of Hetzner's: its servers have numbers.", id)
	}
	return n, nil
}

// pages reads all pages of a list. An answer without a page number is not one
// of the API's: taken for an empty list it would say that nothing is there.
func pages[T any](s subject, list func(page int) ([]T, *hcloud.Response, error)) ([]T, error) {
	var all []T
	for page, n := 1, 0; n < maxPages; n++ {
		some, resp, err := list(page)
		if err == nil && resp.Meta.Pagination == nil {
			err = errors.New("the answer has no pages")
		}
		if err != nil {
			return nil, explain(s, resp, err)
		}
		all = append(all, some...)
		switch following := resp.Meta.Pagination.NextPage; {
		case following == 0:
			return all, nil
		case following <= page:
			n = maxPages // it goes round
		default:
			page = following
		}
	}
	return nil, refuse(provision.Unreachable, nil, "Hetzner's list does not end (%s); samnode asks again.", s.doing)
}

func serverOf(s *hcloud.Server) provision.Server {
	out := provision.Server{
		ID: strconv.FormatInt(s.ID, 10), Name: s.Name, Labels: s.Labels,
		Status: string(s.Status), Created: s.Created.UTC(),
	}
	if s.ServerType != nil {
		out.Type = s.ServerType.Name
	}
	if s.Location != nil {
		out.Location = s.Location.Name
	}
	switch net := s.PublicNet; {
	case !net.IPv4.IsUnspecified():
		out.Address = net.IPv4.IP.String()
	case !net.IPv6.IsUnspecified():
		out.Address = net.IPv6.IP.String()
	}
	return out
}
