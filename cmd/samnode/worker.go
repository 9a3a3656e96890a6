package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/remote"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/git"
)

// worker is a node without the log: it runs tasks for the mesh, and asks a
// core node for all that they need.
type worker struct {
	host
	cores *cores
	board *remote.Room
}

// runWorker opens a worker and serves until ctx ends or the node must stop.
func runWorker(ctx context.Context, c Config, ready func(url, here string)) error {
	w := &worker{host: host{c: c}}
	err := w.open(ctx)
	if err == nil {
		ready(w.base, w.here())
		err = w.serve(ctx)
	}
	return errors.Join(err, w.close())
}

func (w *worker) open(ctx context.Context) error {
	if err := w.openState(ctx); err != nil {
		return err
	}
	if err := w.openNetwork(ctx, w.allow); err != nil {
		return err
	}
	w.cores = &cores{client: w.client, list: w.id.Cores}
	w.board = remote.New(remote.Config{
		Client: w.nodes, Node: chat.Node(w.c.Node), Logger: w.c.Logger,
		Base: func() string { return mesh.CallURL(w.cores.get()[0].Addr, roomPath) },
		Lost: func() { w.cores.back(w.cores.get()[0].Node) },
	})
	return w.openWorkspaces(spaces{board: w.board, forge: w.forge, secret: w.secret, image: w.baseImage, agent: w.agentPart})
}

// allow lets core nodes in, and dials nobody else.
func (w *worker) allow(_ context.Context, _ mesh.Service, c mesh.Caller) error {
	for _, p := range w.cores.get() {
		if p.Addr == c.Node {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", c.Node, errNotMember)
}

func (w *worker) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if err := w.serveCalls(ctx, g, w.workspaceCalls()); err != nil {
		return err
	}
	if err := w.servePages(ctx, g, w.pages(), func() {}); err != nil {
		return err
	}
	g.Go(func() error { return w.sendSSHOn(ctx) })
	g.Go(func() error { return w.work(ctx) })
	if w.c.DeadMan > 0 {
		d := &deadMan{tenure: w.tenure, after: w.c.DeadMan, off: powerOff, logger: w.c.Logger}
		g.Go(func() error { return d.run(ctx) })
	}
	return w.left(ended(g.Wait()))
}

// work takes part in the pool once the mesh knows this process.
func (w *worker) work(ctx context.Context) error {
	if err := w.announce(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.beats(ctx, w.beat) })
	g.Go(func() error { return w.runner.Run(ctx) })
	g.Go(func() error { return w.supply(ctx) })
	return g.Wait()
}

// announce says that this process is the node now. It waits for the mesh: a
// laptop may wake up before its network does.
func (w *worker) announce(ctx context.Context) error {
	return patiently(ctx, w.c.Logger, "announcing this node to the mesh", func(ctx context.Context) error {
		var out beatAnswer
		sent := time.Now()
		err := w.cores.call(ctx, "/calls/v1/start", w.start(), &out)
		if err == nil {
			w.tenure.Renewed(sent)
		}
		w.learn(out.Cores)
		return err
	})
}

func (w *worker) beat(ctx context.Context) error {
	var out beatAnswer
	err := w.cores.call(ctx, "/calls/v1/beat", beatCall{Beat: provision.Beat{Node: w.c.Node, Boot: w.boot, Report: w.report(ctx, 0)}}, &out)
	w.learn(out.Cores)
	return err
}

// learn keeps who the core nodes are, on disk too: a worker that was away must
// find those that are there then.
func (w *worker) learn(list []peer) {
	if len(list) == 0 {
		return
	}
	w.cores.set(list)
	if samePeers(w.id.Cores, list) {
		return
	}
	w.id.Cores = list
	if err := w.id.write(w.c.State); err != nil {
		w.c.Logger.Warn("keeping the list of core nodes", "err", err)
	}
}

func samePeers(a, b []peer) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// secret asks a core node for what one lease needs.
func (w *worker) secret(ctx context.Context, p chat.ProjectID, name string) (string, error) {
	var out secretAnswer
	err := w.cores.call(ctx, "/calls/v1/secret", secretCall{Project: p, Name: name}, &out)
	return out.Value, err
}

// forge is a project's forge by way of a core node: the credentials that it
// hands out are of one repository and last for an hour, and pull requests are
// opened where the App's key is.
func (w *worker) forge(p chat.Project) (workspace.Forge, error) {
	return distantForge{w.cores, p.ID}, nil
}

type distantForge struct {
	cores   *cores
	project chat.ProjectID
}

func (f distantForge) Auth(ctx context.Context) (git.Auth, error) {
	var out git.Auth
	err := f.cores.call(ctx, "/calls/v1/forge/auth", forgeCall{Project: f.project}, &out)
	return out, err
}

func (f distantForge) EnsurePull(ctx context.Context, t chat.Task, _ []chat.Message, draft bool) (*chat.PullRequest, error) {
	var out pullAnswer
	err := f.cores.call(ctx, "/calls/v1/forge/pull", forgeCall{Project: f.project, Task: t.ID, Token: t.Lease.Token, Draft: draft}, &out)
	return out.Pull, err
}

// PullStatus is the leader's to ask, never a worker's.
func (distantForge) PullStatus(context.Context, chat.Task) (*chat.PullRequest, []string, error) {
	return nil, nil, nil
}

// pages answers the person whose machine this is by way of a core node, in the
// name of who invited the node. Everybody else is sent on to one: a worker
// cannot vouch for people.
func (w *worker) pages() http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport:     w.nodes.Transport,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			host := r.In.Host
			target, err := url.Parse(mesh.CallURL(w.cores.get()[0].Addr, pagesPath))
			if err != nil {
				return // the request goes nowhere, and ErrorHandler says so
			}
			r.SetURL(target)
			r.Out.Host = host
		},
		ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			w.cores.back(w.cores.get()[0].Node)
			w.c.Logger.Debug("asking a core node for a page", "path", r.URL.Path, "err", err)
			http.Error(rw, "No core node of the mesh answers at the moment: "+err.Error(), http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		who, err := mesh.WhoIs(r)
		switch {
		case err != nil:
			http.Error(rw, err.Error(), http.StatusForbidden)
		case who.Local && r.Method+" "+r.URL.Path == leavePath:
			fromHere(w.leaveRequest).ServeHTTP(rw, r)
		case who.Local:
			proxy.ServeHTTP(rw, r)
		default:
			http.Redirect(rw, r, w.cores.get()[0].URL+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		}
	})
}

// patiently tries until it works, is refused, or ctx ends.
func patiently(ctx context.Context, log logger, what string, try func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := try(ctx)
		if err == nil || ctx.Err() != nil || isRefusal(err) {
			return err
		}
		log.Warn(what+"; trying again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

type logger interface{ Warn(string, ...any) }

// isRefusal tells a no from an answer that did not come.
func isRefusal(err error) bool {
	for _, no := range []error{errNotMember, errTwin, errForbidden, chat.ErrNotFound, chat.ErrRefused, chat.ErrStale, chat.ErrInvalid} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
