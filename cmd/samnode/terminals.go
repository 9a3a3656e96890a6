package main

import (
	"context"
	"net"
	"sync"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/workspace/shim"
)

// How people come to a shell, as others in it read.
const (
	byPage = "page"
	bySSH  = "ssh"
)

// shimOf talks to the shim of the task's workspace, wherever that is at the
// time of each call.
func (n *node) shimOf(task chat.TaskID) *shim.Client {
	return shim.NewClient(func(ctx context.Context) (net.Conn, error) { return n.connect(ctx, task) })
}

// pageWho is who a request of a page is from, as others in a shell are told.
// The device is what the network says of the connection.
func pageWho(ctx context.Context, a ui.Attach) shim.Who {
	c, _ := mesh.CallerOf(ctx)
	return shim.Who{Person: string(a.Person), Device: deviceOf(c), By: byPage, Owner: a.Owner}
}

// terminal attaches a page to a shell.
func (n *node) terminal(ctx context.Context, task chat.TaskID, a ui.Attach) (ui.Terminal, error) {
	in, err := n.inside(ctx, task)
	if err != nil {
		return nil, noWorkspace(err)
	}
	t, err := n.shimOf(task).OpenTerminal(ctx, shim.TerminalSpec{
		ID: a.ID, Rows: a.Rows, Cols: a.Cols, Who: pageWho(ctx, a), Watch: a.Watch,
		Dir: in.Dir, Env: append([]string{"TERM=xterm-256color"}, in.Env...),
	})
	if err != nil {
		return nil, noWorkspace(err)
	}
	who := pageWho(ctx, a)
	what := t.Info().Name
	if a.Watch {
		what += ", watching"
	}
	leave := n.visits.enter(visit{guest{task, a.Person, who.Device}, chat.VisitPage, what})
	return &pageTerminal{t, sync.OnceFunc(func() { leave(0) })}, nil
}

// pageTerminal is a shim's terminal as pages know it, and a visit until it is
// closed.
type pageTerminal struct {
	*shim.Terminal
	leave func()
}

// Close implements io.Closer.
func (t *pageTerminal) Close() error {
	t.leave()
	return t.Terminal.Close()
}

// Info implements ui.Terminal.
func (t *pageTerminal) Info() ui.TerminalInfo { return pageShell(t.Terminal.Info()) }

func pageShell(t shim.TerminalInfo) ui.TerminalInfo {
	info := ui.TerminalInfo{
		ID: t.ID, Name: t.Name, Created: t.Started, Rows: t.Rows, Cols: t.Cols, Maker: t.Maker.Person, Held: t.Held, Recorded: t.Recorded,
	}
	for _, p := range t.People {
		info.People = append(info.People, ui.Present{
			Person: p.Person, Device: p.Device, By: p.By, Since: p.Since, Watches: p.Watches, Leads: p.Leads, You: p.You,
		})
	}
	return info
}

// terminals lists the shells of a task's workspace: the pages' and those of ssh.
func (n *node) terminals(ctx context.Context, task chat.TaskID) ([]ui.TerminalInfo, error) {
	list, err := n.shimOf(task).Terminals(ctx)
	if err != nil {
		return nil, noWorkspace(err)
	}
	var out []ui.TerminalInfo
	for _, t := range list {
		out = append(out, pageShell(t))
	}
	return out, nil
}

func (n *node) closeTerminal(ctx context.Context, task chat.TaskID, id string) error {
	return noWorkspace(n.shimOf(task).CloseTerminal(ctx, id))
}

func (n *node) renameTerminal(ctx context.Context, task chat.TaskID, id, name string) error {
	return noWorkspace(n.shimOf(task).RenameTerminal(ctx, id, name))
}

func (n *node) holdTerminal(ctx context.Context, task chat.TaskID, id string, a ui.Attach, on bool) error {
	return noWorkspace(n.shimOf(task).HoldTerminal(ctx, id, pageWho(ctx, a), on))
}
