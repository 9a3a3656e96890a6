package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/follow"
	"github.com/samnode/samnode/mesh/loopback"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/ui/preview"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/shim"
)

// openPortPath leads to the preview of a port, wherever it is for this browser.
const openPortPath = "GET /t/{task}/ports/{port}/open"

func (n *node) openPreviews(context.Context) (err error) {
	if n.portals, err = openPortals(n.c.dir("previews.json")); err != nil {
		return err
	}
	n.previews = preview.New(preview.Config{
		Admit: n.admitPreview, Seen: n.previewSeen, Dial: n.dialPort, Logger: n.c.Logger,
		Listening: func(ctx context.Context, task string) ([]int, error) {
			list, err := n.ports(ctx, chat.TaskID(task))
			var numbers []int
			for _, p := range list {
				numbers = append(numbers, p.Number)
			}
			return numbers, err
		},
	})
	n.onClose(n.previews.Close)
	return nil
}

// admitPreview says whether the sender of a request may see what listens in a
// task's workspace: whoever may read the task.
func (n *node) admitPreview(r *http.Request, task string) (string, error) {
	t, err := n.readable(r.Context(), task)
	switch {
	case err != nil:
		return "", err
	case string(t.ID) != task:
		return "", preview.ErrNoTask
	case t.Lease == nil:
		return "", preview.ErrNoWorkspace
	}
	return strconv.FormatUint(t.Lease.Token, 10), nil
}

// previewSeen notes who looks at what a workspace serves.
func (n *node) previewSeen(r *http.Request, t preview.Target) (left func()) {
	c, _ := mesh.CallerOf(r.Context()) // who was let in a moment ago
	leave := n.visits.enter(visit{guest{chat.TaskID(t.Task), c.Person, deviceOf(c)}, chat.VisitPreview, "port " + strconv.Itoa(t.Port)})
	return func() { leave(0) }
}

// readable finds a task that the caller of ctx may read. What they may not read
// is as if it did not exist.
func (n *node) readable(ctx context.Context, name string) (chat.Task, error) {
	a, role, err := n.roleOnTask(ctx, name)
	switch {
	case errors.Is(err, chat.ErrNotFound), errors.Is(err, chat.ErrInvalid), err == nil && role == "":
		return chat.Task{}, preview.ErrNoTask
	case errors.Is(err, errNoRole), errors.Is(err, mesh.ErrStranger), errors.Is(err, mesh.ErrNotPerson):
		return chat.Task{}, fmt.Errorf("%w: %w", preview.ErrForbidden, err)
	}
	return a.task, err
}

// dialPort connects to a port of a workspace, wherever that is.
func (n *node) dialPort(ctx context.Context, t preview.Target) (net.Conn, error) {
	if workspace.IsOwnPort(t.Port) {
		return nil, preview.ErrOwn
	}
	var away error
	c := shim.NewClient(func(ctx context.Context) (net.Conn, error) {
		c, err := n.connect(ctx, chat.TaskID(t.Task))
		away = err
		return c, err
	})
	conn, err := c.Dial(ctx, shim.Address{Port: t.Port})
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(away, workspace.ErrNoWorkspace):
		return nil, fmt.Errorf("%w: %w", preview.ErrNoWorkspace, err)
	case away != nil, ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", preview.ErrAway, err)
	case errors.Is(err, shim.ErrRefused):
		return nil, fmt.Errorf("%w: %w", preview.ErrOwn, err)
	}
	return nil, fmt.Errorf("%w: %w", preview.ErrClosed, err)
}

// apart sends requests for the hosts of previews to them, and to nothing of the
// node's own.
func (n *node) apart(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, port := splitHost(r.Host)
		t, ok := preview.ParseHost(name)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		v := preview.View{Target: t, Origin: "http://" + withPort(t.Host(), port), Pages: "http://" + withPort("localhost", port)}
		n.afterCatchUp(n.showing(v)).ServeHTTP(w, r)
	})
}

func (n *node) showing(v preview.View) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.previews.Serve(w, r, v) })
}

// servePorts shows previews at ports of this node on its tailnet.
func (n *node) servePorts(ctx context.Context, g *errgroup.Group) error {
	lines, ok := n.net.(interface {
		ListenPorts(ctx context.Context, open func(port uint16) bool) (net.Listener, error)
	})
	if !ok {
		return nil // everybody is at this machine, where previews have hosts
	}
	l, err := lines.ListenPorts(ctx, n.portals.open)
	if err != nil {
		return fmt.Errorf("listening for previews: %w", err)
	}
	g.Go(func() error {
		return mesh.Serve(ctx, mesh.ServeConfig{Listener: l, Handler: n.metrics.Count(http.HandlerFunc(n.portShown)), Host: n.net.Host, Logger: n.c.Logger})
	})
	return nil
}

// portShown answers at a port of this node.
func (n *node) portShown(w http.ResponseWriter, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	var at netip.AddrPort
	if local != nil {
		at, _ = netip.ParseAddrPort(local.String()) // 0: no portal is there
	}
	x, ok := n.portals.at(at.Port())
	name, port := splitHost(r.Host)
	if !ok || port != strconv.Itoa(int(at.Port())) { // another port would be another origin
		http.Error(w, "There is no preview here any more. Open it from the task's page.", http.StatusMisdirectedRequest)
		return
	}
	scheme := schemeOf(r)
	v := preview.View{
		Target: preview.Target{Task: x.Task, Port: x.Port}, Cookies: x.Cookies,
		Origin: scheme + "://" + withPort(name, port), Pages: scheme + "://" + withPort(name, ""),
	}
	n.afterCatchUp(n.showing(v)).ServeHTTP(w, r)
}

// openPort sends a browser to the preview of a port.
func (n *node) openPort(w http.ResponseWriter, r *http.Request) {
	here := preview.View{Target: preview.Target{Task: r.PathValue("task")}, Pages: schemeOf(r) + "://" + r.Host}
	fail := func(err error) { n.previews.Explain(w, r, here, err) }
	t, err := n.readable(r.Context(), here.Task)
	if err != nil {
		fail(err)
		return
	}
	here.Task = string(t.ID)
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	here.Port = int(port)
	switch {
	case err != nil || port == 0:
		http.Error(w, fmt.Sprintf("%.20q is no port: it is a number from 1 to 65535.", r.PathValue("port")), http.StatusNotFound)
		return
	case workspace.IsOwnPort(here.Port):
		fail(preview.ErrOwn)
		return
	}
	to, err := n.previewAt(r, here.Target)
	if err != nil {
		fail(err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to+pathWithin(r.URL.Query().Get("path")))
	w.WriteHeader(http.StatusSeeOther)
}

// pathWithin is a path, with its query, to be put behind an origin.
func pathWithin(p string) string {
	u, err := url.Parse(p)
	if err != nil || !strings.HasPrefix(p, "/") {
		return "/"
	}
	u.Scheme, u.Host, u.User = "", "", nil
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/"
	}
	return u.String()
}

// previewAt is the origin of a preview for a browser: a host of its own where the
// browser is at a loopback name, else a port of this node.
func (n *node) previewAt(r *http.Request, t preview.Target) (string, error) {
	host := r.Host
	if outside := r.Header.Get(follow.Outside); outside != "" { // samnode open
		host = outside
	}
	name, port := splitHost(host)
	if loopback.IsLoopback(name) {
		if _, err := strconv.ParseUint(port, 10, 16); port != "" && err != nil {
			return "", fmt.Errorf("%w: %q is no host", preview.ErrNoTask, host)
		}
		return "http://" + withPort(t.Host(), port), nil
	}
	x, err := n.portals.give(t)
	if err != nil {
		return "", err
	}
	name, _ = splitHost(r.Host)
	if name == n.id.Shared { // whoever answers there next has no such port
		u := strings.SplitN(n.net.URL(), "://", 2)
		return u[0] + "://" + withPort(u[1], strconv.Itoa(int(x.At))), nil
	}
	return schemeOf(r) + "://" + withPort(name, strconv.Itoa(int(x.At))), nil
}

func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// splitHost takes a Host header apart; the port may be empty.
func splitHost(host string) (name, port string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return strings.Trim(host, "[]"), ""
	}
	return name, port
}

// withPort puts it together again.
func withPort(name, port string) string {
	if port != "" {
		return net.JoinHostPort(name, port)
	}
	if strings.Contains(name, ":") {
		return "[" + name + "]"
	}
	return name
}

// watchPorts calls seen with what listens in the task's workspace, at once and
// whenever that changes, until ctx ends or the workspace is gone.
func (n *node) watchPorts(ctx context.Context, task chat.TaskID, seen func([]ui.Port)) error {
	return noWorkspace(n.shimOf(task).WatchPorts(ctx, func(list []shim.Port) { seen(uiPorts(list)) }))
}

// apiPorts is ports as the API tells it.
func (n *node) apiPorts(ctx context.Context, task chat.TaskID) ([]api.Port, error) {
	list, err := n.ports(ctx, task)
	var out []api.Port
	for _, p := range list {
		out = append(out, api.Port{Port: p.Number, Process: p.Process, Since: p.Since, Open: fmt.Sprintf("/t/%s/ports/%d/open", task, p.Number)})
	}
	return out, err
}
