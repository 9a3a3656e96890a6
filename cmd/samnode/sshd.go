package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/shim"
	"github.com/samnode/samnode/workspace/sshd"
)

// secretHostKey is the mesh's SSH host key: a workspace goes from node to node,
// and a client that knows one knows all.
const secretHostKey = "SSH_HOST_KEY"

// sshDoor is the SSH server of a node, and how long it is open.
type sshDoor struct {
	*sshd.Server
	open context.Context
}

// serveSSH lets people into workspaces: over the tailnet, and by way of the API.
func (n *node) serveSSH(ctx context.Context, g *errgroup.Group) error {
	door := &sshDoor{open: ctx, Server: sshd.New(sshd.Config{HostKey: n.hostKey, Enter: n.enter, Node: n.isHost, Logger: n.c.Logger})}
	n.door.set(door)
	if n.id.Network != onTailnet { // there the API is the only way
		return nil
	}
	l, err := n.net.Listen(ctx, mesh.SSH)
	if err != nil {
		return fmt.Errorf("listening for ssh: %w", err)
	}
	g.Go(func() error { return door.Serve(ctx, l) })
	return nil
}

// isHost says whether ssh reaches a node of this mesh by that name.
func (n *node) isHost(host string) bool {
	if n.id.Network != onTailnet {
		return false // they are called localhost, as the workspace is
	}
	pool, _ := n.pool.Pool()
	return slices.ContainsFunc(sshNodes(pool), func(s sshNode) bool {
		return strings.EqualFold(host, s.Name) || strings.EqualFold(host, s.Host)
	})
}

// deviceOf says for people where a caller is.
func deviceOf(c mesh.Caller) string {
	if c.Name == "" {
		return "the node's own machine"
	}
	return c.Name
}

// hostKey is the mesh's, once its leader has made one.
func (n *node) hostKey(ctx context.Context) ([]byte, error) {
	for {
		index := n.room.Index()
		key, err := n.openSecret("", secretHostKey)
		if !errors.Is(err, chat.ErrNotFound) {
			return []byte(key), err
		}
		if n.room.Wait(ctx, index+1) != nil {
			return nil, fmt.Errorf("the mesh has no ssh host key yet; its leader makes one: %w", err)
		}
	}
}

// keepHostKey is the leader's: it makes the host key when there is none, which
// is once, or after an owner removed it to have another.
func (n *node) keepHostKey(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		if err := n.makeHostKey(ctx); err != nil && ctx.Err() == nil {
			n.c.Logger.Warn("making the ssh host key", "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (n *node) makeHostKey(ctx context.Context) error {
	if _, err := n.openSecret("", secretHostKey); !errors.Is(err, chat.ErrNotFound) {
		return err
	}
	key, err := sshd.NewHostKey()
	if err != nil {
		return err
	}
	return n.setSecret(ctx, chat.Author{Node: chat.Node(n.c.Node)}, "", secretHostKey, string(key))
}

// enter lets a caller into the workspace of the task that ssh's user names.
func (n *node) enter(ctx context.Context, c net.Conn, name string) (*sshd.Space, error) {
	select { // as pages do: what this node knew when it stopped may be old
	case <-n.caught:
	case <-time.After(time.Until(n.started.Add(catchUpFor))):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if t, ok := c.(*tunnelled); ok && t.task != "" {
		name = t.task
	}
	ctx = mesh.ConnContext(ctx, c)
	began, err := n.admitSSH(ctx, name)
	if err != nil {
		return nil, err
	}
	id := began.task.ID
	in, err := n.inside(ctx, id)
	if err != nil {
		return nil, n.noWay(began.task, err)
	}
	g := guest{id, began.who.Person, deviceOf(began.who)}
	return &sshd.Space{
		Shim: n.shimOf(id),
		Dir:  in.Dir, Env: in.Env, Binary: in.Binary, Shells: shellsOf(began.who.Person), Agent: began.project.SSHAgent,
		Check: func(context.Context) error {
			_, err := n.admitSSH(ctx, string(id)) // who calls is asked of the network anew
			return err
		},
		Who: shim.Who{Person: string(g.person), Device: g.device, By: bySSH},
		Did: func(by sshd.Use, what string) func(int64) { return n.visits.enter(visit{g, sshUse(by), what}) },
	}, nil
}

// admission is somebody whom a task's workspace is open to.
type admission struct {
	who     mesh.Caller
	task    chat.Task
	project chat.Project
}

// admitSSH finds the task, if the caller of ctx may work on it. What they may
// not even read is as if it did not exist.
func (n *node) admitSSH(ctx context.Context, name string) (admission, error) {
	a, role, err := n.roleOnTask(ctx, name)
	if err != nil {
		return admission{}, err
	}
	switch role {
	case mesh.Owner, mesh.Member:
		return a, nil
	case mesh.Viewer:
		return admission{}, fmt.Errorf("%s is a viewer in %s, and viewers only read; an owner can change that: %w", a.who.Person, a.project.Name, errForbidden)
	}
	return admission{}, noSuchTask(name)
}

// roleOnTask finds a task and what the caller of ctx may do in its project.
func (n *node) roleOnTask(ctx context.Context, name string) (admission, mesh.Role, error) {
	who, ok := mesh.CallerOf(ctx)
	if !ok {
		return admission{}, "", mesh.ErrStranger
	}
	_, role, err := n.roleOrGrants(ctx, who)
	if err != nil {
		return admission{}, "", err
	}
	t, err := api.FindTask(ctx, n.room, name)
	if err != nil {
		return admission{}, "", err
	}
	p, err := n.room.Project(string(t.Project))
	if err != nil {
		return admission{}, "", err
	}
	return admission{who, t, p}, role.Stronger(who.RoleIn(p.Name)), nil
}

func noSuchTask(name string) error {
	return chat.Outcome{Code: chat.CodeNotFound, Text: fmt.Sprintf("There is no task %.40q.", name)}.Err()
}

// shellsOf begins the ids of a person's shells. It is made for people to read,
// and of the login, which is unique, for the rest.
func shellsOf(p chat.Person) string {
	name, _, _ := strings.Cut(strings.ToLower(string(p)), "@")
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, name)
	sum := sha256.Sum256([]byte(p))
	return "ssh-" + name[:min(len(name), 20)] + "-" + hex.EncodeToString(sum[:3])
}

// noWay says why there is no workspace, and what to do.
func (n *node) noWay(t chat.Task, err error) error {
	if !errors.Is(err, workspace.ErrNoWorkspace) {
		return err
	}
	switch t.State {
	case chat.Idle:
		return fmt.Errorf("no workspace of this task is alive; this starts it: samnode task retry %s", t.ID)
	case chat.Draft, chat.Failed, chat.Stopped:
		return fmt.Errorf("no workspace of this task is alive; a message starts one: samnode task say %s TEXT", t.ID)
	}
	return fmt.Errorf("the workspace of this task is on its way (%s); try again in a moment", t.State)
}

// inside tells how to run programs in the task's workspace, wherever it is.
func (n *node) inside(ctx context.Context, task chat.TaskID) (workspace.Inside, error) {
	at, here, err := n.place(task)
	switch {
	case err != nil:
		return workspace.Inside{}, err
	case here:
		return n.runner.Inside(ctx, task)
	}
	return n.spaces.Inside(ctx, at, task)
}

// connect reaches the shim of the task's workspace, wherever it is now.
func (n *node) connect(ctx context.Context, task chat.TaskID) (net.Conn, error) {
	at, here, err := n.place(task)
	switch {
	case err != nil:
		return nil, err
	case here:
		return n.runner.Connect(ctx, task)
	}
	return n.spaces.Connect(ctx, at, task)
}
