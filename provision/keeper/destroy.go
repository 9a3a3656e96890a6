package keeper

import (
	"context"
	"errors"
	"time"

	"github.com/samnode/samnode/provision"
)

// The times between two looks at a server that is being deleted.
const (
	firstLook = 2 * time.Second
	lastLook  = 30 * time.Second
	denied    = 5 * time.Minute // nothing but a person will change that
)

// destroy has the provider delete a machine's server, directly, until it says
// that there is none; then it tells the pool.
func (o *office) destroy(ctx context.Context, m provision.Machine) {
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		err := o.remove(ctx, m.Bought.Server)
		if err == nil && sleep(ctx, wait) {
			err = o.gone(ctx, m.Bought.Server)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			o.propose(ctx, provision.Command{Ended: &provision.Ended{Machine: m.Node, Token: m.Bought.Token, Reason: "The provider has deleted it."}})
			return
		case errors.Is(err, errThere):
			continue // it takes its time
		}
		o.c.Logger.Warn("deleting a machine", "machine", m.Node, "server", m.Bought.Server, "err", err)
		o.propose(ctx, provision.Command{Note: &provision.Note{Op: m.Bought.Delete, Text: sentence(err)}})
		least := wait
		if provision.TroubleOf(err) == provision.Denied {
			least = denied
		}
		if !sleep(ctx, pause(err, least)) {
			return
		}
	}
}

var errThere = errors.New("the server is there still")

// remove begins a deletion; a server that is gone is one that is deleted.
func (o *office) remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, o.c.CallFor)
	defer cancel()
	if err := o.c.Provider.Delete(ctx, id); err != nil && provision.TroubleOf(err) != provision.Gone {
		return err
	}
	return nil
}

// gone returns nil once the provider says that it has no such server.
func (o *office) gone(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, o.c.CallFor)
	defer cancel()
	_, err := o.c.Provider.Server(ctx, id)
	switch {
	case err == nil:
		return errThere
	case provision.TroubleOf(err) == provision.Gone:
		return nil
	}
	return err
}
