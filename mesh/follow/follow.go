// Package follow gives a person one address on their own computer for a mesh of
// many nodes: a proxy on the loopback interface that goes to a node which is
// alive, and to another one when that dies.
//
// http://localhost is a secure context for browsers, so the pages can do there
// what they cannot do on plain HTTP elsewhere. Who the person is, is what the
// tailnet says of this computer; so nobody else on it may use the proxy.
package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/loopback"
)

// Config is what a proxy needs.
type Config struct {
	// Listen is an address of the loopback interface. Empty: 127.0.0.1:7070.
	Listen string
	// Nodes are the base URLs of the nodes to begin with, at least one.
	Nodes []string
	// Stay keeps to Nodes. Otherwise the others are learnt from them.
	Stay bool
	// Apart says which host names beside this computer's own are passed on to the
	// node as they are: those of previews. Nil: none.
	Apart func(name string) bool
	// Transport reaches the nodes. Nil: this computer's network.
	Transport *http.Transport
	// Pace is how often the node is asked whether it is alive, and how long it has
	// to answer. 0: 1 s.
	Pace   time.Duration
	Logger *slog.Logger // nil: none
}

// Proxy is a running proxy. Close it.
type Proxy struct {
	logger  *slog.Logger
	listen  net.Listener
	url     string
	nodes   *nodes
	running sync.WaitGroup
	cancel  context.CancelFunc
	served  chan error
}

// Start starts a proxy. The nodes need not be alive yet.
func Start(ctx context.Context, c Config) (*Proxy, error) {
	p := &Proxy{logger: c.Logger, served: make(chan error, 1)}
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}
	}
	var err error
	if p.nodes, err = newNodes(c, p.logger); err != nil {
		return nil, err
	}
	if p.listen, err = loopback.ListenPages(ctx, cmp.Or(c.Listen, "127.0.0.1:7070"), p.logger); err != nil {
		return nil, err
	}
	// Browsers take the name for a secure context, and it says where one is.
	p.url = "http://" + p.listen.Addr().String()
	if host, port, err := net.SplitHostPort(p.listen.Addr().String()); err == nil && host == "127.0.0.1" {
		p.url = "http://localhost:" + port
	}
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.running.Go(func() { p.nodes.watch(ctx) })
	go func() {
		p.served <- mesh.Serve(ctx, mesh.ServeConfig{
			Listener: p.listen, Handler: p.handler(), Host: p.host, Grace: time.Millisecond, Logger: p.logger,
		})
	}()
	return p, nil
}

func (p *Proxy) host(name string) bool { return loopback.IsLoopback(name) || p.nodes.apart(name) }

// URL is where a browser finds the mesh.
func (p *Proxy) URL() string { return p.url }

// Node is the base URL of the node that requests go to.
func (p *Proxy) Node() string { return p.nodes.now().base.String() }

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.cancel()
	err := <-p.served
	p.running.Wait()
	p.nodes.close()
	return errors.Join(err, p.listen.Close())
}

func (p *Proxy) handler() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(*httputil.ProxyRequest) {}, // the transport knows the node
		Transport:      p.nodes,
		ModifyResponse: comeBack,
		ErrorHandler:   p.fail,
		ErrorLog:       slog.NewLogLogger(p.logger.Handler(), slog.LevelDebug),
	}
	// The nodes refuse what another site sends. It does not get that far.
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A WebSocket is a GET, so the check above lets it through.
		if o := r.Header.Get("Origin"); o != "" && r.Header.Get("Upgrade") != "" && !isOwn(o, r.Host) {
			http.Error(w, "Another site may not open a connection here.", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
}

// isOwn says whether an origin is this proxy, as the browser calls it.
func isOwn(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

// comeBack keeps redirects within the proxy.
func comeBack(resp *http.Response) error {
	to, err := resp.Location()
	if err != nil || !strings.EqualFold(to.Host, resp.Request.URL.Host) {
		return nil //nolint:nilerr // no redirect, or one that leads elsewhere
	}
	to.Scheme, to.Host, to.User = "", "", nil
	resp.Header.Set("Location", to.String())
	return nil
}

// fail answers what no node answers.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	p.logger.Debug("No answer", "path", r.URL.Path, "err", err)
	w.Header().Set("Retry-After", "2")
	w.Header().Set("Cache-Control", "no-store")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprintf(w, `<!doctype html><title>No node answers</title><meta http-equiv="refresh" content="3"><p>No node of the mesh answers. This page tries again every few seconds.<p><small>%s</small>`, html.EscapeString(err.Error()))
}
