package main

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace"
)

// shellsView are the shells of workspaces as API and pages have them.
type shellsView struct{ n *node }

var _ api.Shells = shellsView{}

// Shells implements api.Shells.
func (v shellsView) Shells(ctx context.Context, task chat.TaskID) ([]api.Shell, error) {
	return v.n.terminals(ctx, task)
}

// HoldShell implements api.Shells.
func (v shellsView) HoldShell(ctx context.Context, task chat.TaskID, shell string, who chat.Person, owner, on bool) error {
	return v.n.holdTerminal(ctx, task, shell, ui.Attach{Person: who, Owner: owner}, on)
}

// Recordings implements api.Shells.
func (v shellsView) Recordings(ctx context.Context, task chat.TaskID) ([]api.Recording, error) {
	at, here, err := v.n.place(task)
	if err != nil {
		return nil, err
	}
	var list []workspace.Tape
	if here {
		list, err = v.n.runner.Tapes(ctx, task)
	} else {
		list, err = v.n.spaces.Tapes(ctx, at, task)
	}
	if err != nil {
		return nil, noWorkspace(err)
	}
	var out []api.Recording
	for _, t := range list {
		out = append(out, api.Recording(t))
	}
	return out, nil
}

// Recording implements api.Shells.
func (v shellsView) Recording(ctx context.Context, task chat.TaskID, name string) (io.ReadCloser, error) {
	at, here, err := v.n.place(task)
	if err != nil {
		return nil, err
	}
	if here {
		return v.n.runner.Tape(ctx, task, name)
	}
	r, err := v.n.spaces.Tape(ctx, at, task, name)
	return r, noWorkspace(err)
}

// answersNow says whether a node has been heard from lately.
func (n *node) answersNow(name chat.Node) bool {
	if string(name) == n.c.Node {
		return true
	}
	pool, _ := n.pool.Pool()
	_, known := pool.Node(string(name))
	return known && !slices.Contains(n.quiet(pool), string(name))
}

// secondsOf is a duration that a person reads.
func secondsOf(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Second)
}
