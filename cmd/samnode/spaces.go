package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/remote"
	"github.com/samnode/samnode/workspace/shim"
)

// openSpaces reaches the workspaces of the other nodes.
func (n *node) openSpaces(context.Context) error {
	n.spaces = remote.New(remote.Config{Client: n.nodes, Base: func(node chat.Node) (string, error) {
		pool, _ := n.pool.Pool()
		m, ok := pool.Node(string(node))
		if !ok {
			return "", fmt.Errorf("node %s is not in the mesh any more: %w", node, chat.ErrNotFound)
		}
		return mesh.CallURL(m.Addr, ""), nil
	}})
	return nil
}

// place is the node that has the task's workspace, or had the last one, and
// whether that is this one.
func (n *node) place(task chat.TaskID) (at chat.Node, here bool, err error) {
	t, err := n.room.Task(string(task))
	if err != nil {
		return "", false, err
	}
	at = t.Home
	if t.Lease != nil {
		at = t.Lease.Node
	}
	return at, at == "" || string(at) == n.c.Node, nil
}

// noWorkspace turns the runner's word into one that pages and API know.
func noWorkspace(err error) error {
	switch {
	case errors.Is(err, workspace.ErrNoWorkspace), errors.Is(err, workspace.ErrAway), errors.Is(err, shim.ErrRefused):
		return fmt.Errorf("%w: %w", chat.ErrRefused, err)
	case errors.Is(err, shim.ErrNotFound):
		return fmt.Errorf("%w: %w", chat.ErrNotFound, err)
	}
	return err
}

func (n *node) ports(ctx context.Context, task chat.TaskID) ([]ui.Port, error) {
	at, here, err := n.place(task)
	if err != nil {
		return nil, err
	}
	list, err := n.runner.Ports(ctx, task)
	if !here {
		list, err = n.spaces.Ports(ctx, at, task)
	}
	if err != nil {
		return nil, noWorkspace(err)
	}
	return uiPorts(list), nil
}

// uiPorts is a list of listeners with each port once: it may listen on several
// addresses.
func uiPorts(list []shim.Port) []ui.Port {
	var out []ui.Port
	for _, p := range list {
		if len(out) == 0 || out[len(out)-1].Number != p.Port {
			out = append(out, ui.Port{Number: p.Port, Process: p.Process, Since: p.Since})
		}
	}
	return out
}

func (n *node) journal(ctx context.Context, task chat.TaskID) (io.ReadCloser, error) {
	at, here, err := n.place(task)
	if err != nil {
		return nil, err
	}
	if here {
		return n.runner.Journal(ctx, task)
	}
	r, err := n.spaces.Journal(ctx, at, task)
	return r, noWorkspace(err)
}

func (n *node) output(ctx context.Context, task chat.TaskID, message string) (io.ReadCloser, error) {
	at, here, err := n.place(task)
	if err != nil {
		return nil, err
	}
	if here {
		return n.runner.Output(ctx, task, message)
	}
	r, err := n.spaces.Output(ctx, at, task, message)
	return r, noWorkspace(err)
}
