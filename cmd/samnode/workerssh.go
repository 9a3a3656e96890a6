package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/workspace/sshd"
)

// sendSSHOn tells people who come to a worker by ssh which nodes let them in. A
// worker cannot: it knows nobody's role and must not have the mesh's host key,
// and to a node that it passed them on to, the worker itself would be the
// caller.
func (w *worker) sendSSHOn(ctx context.Context) error {
	if w.id.Network != onTailnet {
		return nil // there the API is the only way
	}
	l, err := w.net.Listen(ctx, mesh.SSH)
	if err != nil {
		return fmt.Errorf("listening for ssh: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	few := make(chan struct{}, 50)
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting ssh: %w", err)
		}
		select {
		case few <- struct{}{}:
		case <-time.After(time.Second):
			c.Close()
			continue
		}
		go func() {
			defer func() { <-few }()
			w.turnAway(c)
		}()
	}
}

func (w *worker) turnAway(c net.Conn) {
	host := "a core node"
	if u, err := url.Parse(w.cores.get()[0].URL); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	why := fmt.Sprintf("this node is a worker, and workers do not answer ssh; core nodes do, for every workspace: ssh TASK@%s", host)
	if err := sshd.TurnAway(c, why); err != nil {
		w.c.Logger.Debug("somebody came by ssh", "err", err)
	}
}
