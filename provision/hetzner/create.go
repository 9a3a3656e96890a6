package hetzner

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

// How often a server is looked for whose POST had no answer, and one whose name
// is taken, with pauses of 1, 2, 4 ... seconds: lists lag by some seconds. If
// Hetzner wants to be left alone for longer than longestLook, the caller waits.
const (
	looksAfterSilence = 3
	looksAfterTaken   = 6
	longestLook       = 30 * time.Second
)

// Create makes the server of an order, waits for everything that Hetzner does
// to it, and returns it. At most [MaxCreates] are made at a time; others wait.
//
// It sends one POST at most. Where the answer leaves open whether there is a
// server, and where one of that name was there before, the server of that name
// is looked up and adopted if its labels are this mesh's and this op's. So it
// may be called again for the same op at any time, also with another type or
// location; what it returns says what the server really is. A server of that
// name with other labels is left alone: trouble Foreign.
//
// Once there may be a server of this order, only these are its troubles: Broken,
// one of its actions failed, and the server beside the error is to be deleted;
// Gone, Busy, somebody deletes it; and Unreachable: call again, whatever else
// went wrong. Any other trouble says that this call made none.
func (c *Client) Create(ctx context.Context, o provision.Order) (provision.Server, error) {
	opts, err := c.options(ctx, o)
	if err != nil {
		return provision.Server{}, err
	}
	s := subject{doing: "creating the server " + o.Name, order: o}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return provision.Server{}, explain(s, nil, context.Cause(ctx))
	}
	server, actions, err := c.place(ctx, s, opts)
	if err != nil {
		return provision.Server{}, err
	}
	return c.finish(ctx, s, server, actions)
}

// place returns the server of an order, new or adopted, and its actions; nil
// actions: they are not known.
func (c *Client) place(ctx context.Context, s subject, opts hcloud.ServerCreateOpts) (*hcloud.Server, []*hcloud.Action, error) {
	made, resp, err := c.api.Server.Create(ctx, opts)
	if err == nil && made.Server.ID != 0 && made.Action.ID != 0 {
		return made.Server, append([]*hcloud.Action{made.Action}, made.NextActions...), nil
	}
	if err == nil {
		err = errors.New("the answer has no server")
	}
	refusal := explain(s, resp, err)
	taken := hcloud.IsError(err, hcloud.ErrorCodeUniquenessError)
	switch {
	case taken, refusal.Trouble == provision.Unreachable && !unsent(err):
		server, err := c.adopt(ctx, s, refusal, taken)
		return server, nil, err
	case len(opts.SSHKeys) > 0 && refusal.Trouble == provision.BadOrder:
		c.forgetKey()
	}
	return nil, nil, refusal
}

// unsent is whether a call surely never reached Hetzner.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// adopt looks for the server of an order whose POST was refused with why.
// Lists lag: that it is not in one does not say that it does not exist, least
// of all when its name is taken. A look that fails is only worth another one.
func (c *Client) adopt(ctx context.Context, s subject, why *provision.ProviderError, taken bool) (*hcloud.Server, error) {
	looks, asked := looksAfterSilence, why.Wait // by Hetzner
	if taken {
		looks = looksAfterTaken
	}
	pause := firstPoll
	for i := range looks {
		if i > 0 || !taken {
			if asked > longestLook || sleep(ctx, max(pause, asked)) != nil {
				return nil, why
			}
			pause *= 2
		}
		found, resp, err := c.api.Server.GetByName(ctx, s.order.Name)
		switch {
		case err != nil:
			refusal := explain(about("looking for the server %s", s.order.Name), resp, err)
			c.log.Warn("Hetzner did not say whether there is a server", "name", s.order.Name, "err", refusal)
			asked = refusal.Wait
		case found != nil && found.Name == s.order.Name:
			return c.claim(s, found)
		}
	}
	if taken {
		return nil, refuse(provision.Unreachable, why, "Hetzner says that there is a server %s, and does not show it; samnode asks again later.", s.order.Name)
	}
	return nil, why
}

// claim takes a server that carries this op's label, and no other.
func (c *Client) claim(s subject, found *hcloud.Server) (*hcloud.Server, error) {
	switch {
	case !c.ours(found.Labels) || found.Labels[provision.LabelOp] != s.order.Op:
		return nil, refuse(provision.Foreign, nil, "There is a server %s at Hetzner (%d) that samnode did not make for this: it is left alone, and another name is taken.", found.Name, found.ID)
	case found.Status == hcloud.ServerStatusDeleting:
		return nil, refuse(provision.Busy, nil, "The server %s is being deleted at Hetzner; its name is free only after that, and samnode asks for it again.", found.Name)
	}
	c.log.Info("adopted a server that was there", "name", found.Name, "id", found.ID, "op", s.order.Op)
	return found, nil
}

// finish waits for the server's actions and reads it once more.
func (c *Client) finish(ctx context.Context, s subject, server *hcloud.Server, actions []*hcloud.Action) (provision.Server, error) {
	known := serverOf(server)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ActionWait)
	defer cancel()
	if actions == nil {
		all, err := c.actions(ctx, server)
		if err != nil {
			return known, exists(err)
		}
		actions = all
	}
	if err := c.await(ctx, s, actions); err != nil {
		return known, exists(err)
	}
	c.mark(ctx, server)
	now, err := c.Server(ctx, known.ID)
	switch {
	case err == nil:
		return now, nil
	case provision.TroubleOf(err) == provision.Gone:
		return known, err // somebody deleted it
	}
	c.log.Warn("a new server was not read again", "name", known.Name, "err", err)
	return known, nil
}

// exists is a refusal about a server that was made. That a call may not be made
// any more, say, is then not what became of the order.
func exists(err error) error {
	var p *provision.ProviderError
	if !errors.As(err, &p) || p.Trouble == provision.Broken || p.Trouble == provision.Gone {
		return err
	}
	open := refuse(provision.Unreachable, err, "%s", p.Text)
	open.Wait = p.Wait
	return open
}
