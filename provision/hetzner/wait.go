package hetzner

import (
	"context"
	"slices"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

const (
	firstPoll = time.Second
	lastPoll  = 5 * time.Second
)

// actions are what Hetzner did and does to a server that was adopted.
func (c *Client) actions(ctx context.Context, server *hcloud.Server) (all []*hcloud.Action, err error) {
	s := about("reading what is done to the server %s", server.Name)
	err = c.patient(ctx, s, 0, func() (bool, *hcloud.Response, error) {
		opts := hcloud.ActionListOpts{ListOpts: hcloud.ListOpts{PerPage: perPage}}
		list, resp, err := c.api.Server.Action.ListFor(ctx, server, opts)
		all = list
		return true, resp, err
	})
	return all, err
}

// await returns nil once all actions have succeeded, and trouble Broken as
// soon as one has failed.
func (c *Client) await(ctx context.Context, s subject, actions []*hcloud.Action) error {
	open, err := unfinished(s, actions)
	if err != nil || len(open) == 0 {
		return err
	}
	waiting := about("waiting for the server %s", s.order.Name)
	return c.patient(ctx, waiting, firstPoll, func() (bool, *hcloud.Response, error) {
		list, resp, err := c.api.Action.List(ctx, hcloud.ActionListOpts{ID: open})
		if err != nil {
			return false, resp, err
		}
		still, err := unfinished(s, list)
		if err != nil {
			return false, resp, err
		}
		open = slices.DeleteFunc(open, func(id int64) bool {
			shown := slices.ContainsFunc(list, func(a *hcloud.Action) bool { return a.ID == id })
			return shown && !slices.Contains(still, id) // what is not shown is not over
		})
		return len(open) == 0, resp, nil
	})
}

// unfinished are the ids of the actions that have not ended. A failed one is
// an error.
func unfinished(s subject, actions []*hcloud.Action) (open []int64, err error) {
	for _, a := range actions {
		switch a.Status {
		case hcloud.ActionStatusError:
			return nil, refuse(provision.Broken, a.Error(), "Hetzner made the server %s and then could not finish it (%s: %s): it is deleted.", s.order.Name, a.Command, clip(a.ErrorMessage))
		case hcloud.ActionStatusSuccess:
		default:
			open = append(open, a.ID)
		}
	}
	return open, nil
}

// patient calls until it is done, the first time after a pause, then after
// longer ones. Trouble that passes by itself is waited for; other trouble is
// returned, and so is the end of ctx.
func (c *Client) patient(ctx context.Context, s subject, pause time.Duration, call func() (done bool, resp *hcloud.Response, err error)) error {
	asked := time.Duration(0) // by Hetzner
	for {
		if sleep(ctx, max(pause, asked)) != nil {
			return refuse(provision.Unreachable, context.Cause(ctx), "%s took too long; samnode looks again later.", upper(s.doing))
		}
		done, resp, err := call()
		asked = 0
		if err != nil {
			refusal := explain(s, resp, err)
			passing := refusal.Trouble == provision.Unreachable || refusal.Trouble == provision.NoBudget || refusal.Trouble == provision.Busy
			if !passing || ctx.Err() != nil {
				return refusal
			}
			asked = refusal.Wait
		} else if done {
			return nil
		}
		pause = min(max(pause, firstPoll)*3/2, lastPoll)
	}
}
