package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/samnode/samnode/mesh"
)

// Core nodes that were given up by `samnode recover` can come back and be a
// majority of the mesh as it was. Their logs cannot meet the new one's, which
// is of another group, and as a majority they would never ask anyone. So every
// core node asks the core nodes that it knows for the mesh's epoch, the number
// of its recoveries: before it proposes anything, and again and again, for one
// that was away. Only those are asked: no other may end this node.
//
// It does not help when none of them is left in the mesh that went on.
const (
	epochEvery = 10 * time.Second
	epochWait  = 2 * time.Second // for an answer
)

// epochAnswer is how a core node knows its mesh.
type epochAnswer struct {
	Mesh  string `json:"mesh"`
	Epoch uint64 `json:"epoch"`
}

// errOvertaken ends a node of an earlier epoch.
type errOvertaken struct {
	by    string // a node of the mesh that went on; empty: not known any more
	epoch uint64
}

func (e *errOvertaken) Error() string {
	by := "it was recovered"
	if e.by != "" {
		by += ", and " + e.by + " is of it"
	}
	return "the mesh has gone on without this node: " + by + " (samnode recover). What this node has done since counts nowhere, and it stops. " +
		"To come back it needs an invitation (samnode node invite) and another --state; " +
		"keep this state as long as something in it may be missed"
}

// callEpoch answers any node, also one that is no member any more: those are
// who must know.
func (n *node) callEpoch(context.Context, mesh.Caller, struct{}) (epochAnswer, error) {
	return epochAnswer{Mesh: n.id.Mesh, Epoch: n.id.Epoch}, nil
}

// watchEpoch ends this node when it is of an earlier epoch than another.
func (n *node) watchEpoch(ctx context.Context) error {
	for {
		if err := n.askEpoch(ctx); err != nil {
			return err
		}
		n.current.confirm()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(epochEvery):
		}
	}
}

// currency is whether this node has asked for the epoch, and is of the newest
// that it heard of.
type currency struct {
	made, asked sync.Once
	c           chan struct{} // closed when it has
}

func (c *currency) confirmed() chan struct{} {
	c.made.Do(func() { c.c = make(chan struct{}) })
	return c.c
}

func (c *currency) confirm() { c.asked.Do(func() { close(c.confirmed()) }) }

// askEpoch asks all core nodes that this one knows.
func (n *node) askEpoch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, epochWait)
	defer cancel()
	known := n.knownCores(ctx)
	newer := make(chan error, len(known))
	var asking sync.WaitGroup
	for name, addr := range known {
		asking.Go(func() {
			var out epochAnswer
			if err := n.client.Call(ctx, addr, "/calls/v1/epoch", struct{}{}, &out); err != nil {
				n.c.Logger.Debug("asking for the epoch of the mesh", "of", name, "err", err)
			} else if out.Mesh == n.id.Mesh && out.Epoch > n.id.Epoch {
				newer <- &errOvertaken{by: name, epoch: out.Epoch}
			}
		})
	}
	asking.Wait()
	select {
	case err := <-newer:
		return err
	default:
		return nil
	}
}

// knownCores are the addresses of the other core nodes: of the pool, and until
// that is read, of the log's group and of who let this one in.
func (n *node) knownCores(ctx context.Context) map[string]string {
	known := make(map[string]string)
	for _, p := range n.id.Cores {
		known[p.Node] = p.Addr
	}
	if members, err := n.log.Members(ctx); err == nil { // the log's end is told elsewhere
		for _, m := range members {
			known[m.Node] = m.Addr
		}
	}
	for _, p := range n.corePeers() {
		known[p.Node] = p.Addr
	}
	delete(known, n.c.Node)
	return known
}

// awaitEpoch keeps what this node proposes back until it has asked.
func (n *node) awaitEpoch(ctx context.Context) error {
	if n.c.Alone {
		return nil // there are no others
	}
	select {
	case <-n.current.confirmed():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("asking the other core nodes whether the mesh has gone on: %w", context.Cause(ctx))
	}
}
