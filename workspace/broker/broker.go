// Package broker is everything that leaves a workspace: the model APIs, git
// and the web, through three unix sockets that belong to one workspace. The
// socket is the workspace's identity. Credentials are added on this side and
// never enter the workspace; every request asks first whether the lease's
// token is still good.
//
// What an owner decides while an agent runs (egress mode and list, budget,
// keys) is asked for at each request, never remembered.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// The sockets' names inside Config.Dir. The shim in the workspace forwards
// 127.0.0.1:7101, :7102 and :7103 to them.
const (
	ModelSocket  = "model.sock"
	GitSocket    = "git.sock"
	EgressSocket = "egress.sock"
)

// ErrNoKey says that no key is stored for a provider. Config.Key returns it,
// wrapped or not; the agent is told how to set one.
var ErrNoKey = errors.New("no key")

// ErrForNow says that what is refused may be good again in a while: Stale and
// Key wrap it when this node is cut off from the mesh. Agents are told to try
// again then, where any other refusal tells them not to.
var ErrForNow = errors.New("for now")

// errClosed is the cause that ends requests in flight.
var errClosed = errors.New("the workspace's broker is closed")

// The kinds of credential.
const (
	APIKey = "api-key"
	Bearer = "bearer" // a subscription's token, sent as Authorization: Bearer
)

// Credential is what opens a model API.
type Credential struct {
	Value string
	Kind  string // APIKey (also when empty) or Bearer
}

// Config is what one workspace's broker needs. Dir and Stale must be set; a
// nil func or handler closes the road that it serves. The funcs are called by
// many requests at once, and a request waits for them; Close waits for both.
type Config struct {
	// Dir is the host directory of the sockets. It is made when missing and
	// may be longer than a socket address allows. Everyone who can enter it
	// can use the sockets: keep its parent closed.
	Dir string

	// Stale returns nil while the lease's token is good, else why it is not or,
	// with ErrForNow, is in doubt.
	Stale func() error

	// Key returns the credential for "anthropic", "openai" or "gemini", or
	// ErrNoKey, or ErrForNow. It is asked for each model call.
	Key func(ctx context.Context, provider string) (Credential, error)

	// Upstream replaces a provider's public base URL (a gateway, a test). The
	// base is what stands before "/v1/messages", "/v1/responses" or "/v1beta".
	Upstream map[string]string

	// Spent gets the tokens and money of each finished model call, and of one
	// that was broken off as far as that is known. It may be nil.
	Spent func(chat.Usage)

	// Called gets the same with the model's name, also for calls that failed.
	// It may be nil.
	Called func(Call)

	// Budget returns what the task may still spend, in the unit of
	// chat.Usage.Cost. Nil: no limit. A call that runs when the budget ends
	// is finished; the next one is refused.
	Budget func() (left int64, limited bool)

	// Git serves smart HTTP for this task's repository at "/".
	Git http.Handler

	// Egress returns the mode and the project's list, asked per connection.
	// Nil is chat.EgressNone.
	Egress func() (mode chat.Egress, allow []string)

	// Refused gets what a person should read in the chat, the same refusal at
	// most once a minute. It may be nil.
	Refused func(Refusal)

	// Lookup resolves a name; nil is the host's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	// Dial connects egress to an address that was checked, as "ip:port"; nil
	// is a plain dial.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Proxy names the host's own upstream proxy; nil reads HTTPS_PROXY,
	// HTTP_PROXY and NO_PROXY.
	Proxy func(*http.Request) (*url.URL, error)

	// Logger is slog.Default when nil.
	Logger *slog.Logger
}

// Broker serves one workspace's sockets until Close.
type Broker struct {
	cfg     Config
	log     *slog.Logger
	stop    context.CancelCauseFunc
	servers []*http.Server
	socks   []*socket
	notes   notes
	tunnels tunnels
	stats   counters
	once    sync.Once
	err     error

	mu      sync.Mutex     // for closed, and for adding to running
	closed  bool           // nothing begins any more
	running sync.WaitGroup // servers, requests, the watch
}

// Open makes the sockets and serves them. The broker ends with Close or when
// ctx does.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Dir == "" || cfg.Stale == nil {
		return nil, fmt.Errorf("opening broker: Dir and Stale must be set: %w", chat.ErrInvalid)
	}
	cfg = withDefaults(cfg)
	b := &Broker{cfg: cfg, log: cfg.Logger, notes: notes{say: cfg.Refused}}
	models, err := newModels(b)
	if err != nil {
		return nil, fmt.Errorf("opening broker: %w", err)
	}
	run, stop := context.WithCancelCause(ctx)
	b.stop = stop
	for name, h := range map[string]http.Handler{
		ModelSocket:  models,
		GitSocket:    http.HandlerFunc(b.serveGit),
		EgressSocket: newEgress(b),
	} {
		if err := b.serve(run, name, h); err != nil {
			stop(errClosed)
			return nil, errors.Join(fmt.Errorf("opening broker: %w", err), b.Close())
		}
	}
	b.running.Go(func() {
		tick := time.NewTicker(staleEvery)
		defer tick.Stop()
		b.watch(run, tick.C)
	})
	context.AfterFunc(ctx, func() { _ = b.Close() }) // what Close found is kept for the caller's own Close
	return b, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Lookup == nil {
		cfg.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	return cfg
}

// serve opens one socket and answers on it.
func (b *Broker) serve(run context.Context, name string, h http.Handler) error {
	s, err := listen(b.cfg.Dir, name)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           b.counted(h),
		BaseContext:       func(net.Listener) context.Context { return run },
		ReadHeaderTimeout: 20 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
	}
	b.servers, b.socks = append(b.servers, srv), append(b.socks, s)
	b.running.Go(func() {
		if err := srv.Serve(s); !errors.Is(err, http.ErrServerClosed) {
			b.log.Error("broker socket ended", "socket", name, "err", err)
		}
	})
	return nil
}

// counted keeps Close waiting for the request, whose connection may have been
// taken over and is then unknown to the server.
func (b *Broker) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.begin() {
			panic(http.ErrAbortHandler)
		}
		defer b.running.Done()
		h.ServeHTTP(w, r)
	})
}

func (b *Broker) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Add(1)
	return true
}

// Close ends what is in flight, waits for it, and removes the sockets. The
// directory stays. A second Close returns what the first did.
func (b *Broker) Close() error {
	b.once.Do(func() {
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		b.stop(errClosed)
		var errs []error
		for _, srv := range b.servers {
			errs = append(errs, srv.Close())
		}
		b.tunnels.shut()
		b.running.Wait()
		for _, s := range b.socks {
			errs = append(errs, s.remove())
		}
		b.err = errors.Join(errs...)
	})
	return b.err
}

// watch cuts open tunnels when the lease's token goes stale: they ask only
// once, when they open.
func (b *Broker) watch(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			if err := b.cfg.Stale(); err != nil && b.tunnels.cut() > 0 {
				b.log.Info("cut the workspace's tunnels", "err", err)
			}
		}
	}
}

// staleEvery is how long a tunnel may outlive its lease.
const staleEvery = 5 * time.Second

// stale returns the sentence for a workspace whose lease is over or in doubt,
// or "".
func (b *Broker) stale() (why string, forNow bool) {
	err := b.cfg.Stale()
	if err == nil {
		return "", false
	}
	b.stats.Stale.Add(1)
	if errors.Is(err, ErrForNow) {
		return "samnode: nothing leaves this workspace now: " + oneLine(err.Error()), true
	}
	return "samnode: this workspace no longer holds its task: " + oneLine(err.Error()), false
}

// serveGit answers on the git socket.
func (b *Broker) serveGit(w http.ResponseWriter, r *http.Request) {
	b.stats.Git.Add(1)
	if why, _ := b.stale(); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	if b.cfg.Git == nil {
		http.Error(w, "samnode: this workspace has no git remote", http.StatusNotFound)
		return
	}
	b.log.Debug("git request", "method", r.Method, "path", r.URL.Path)
	b.cfg.Git.ServeHTTP(w, r)
}

// oneLine keeps text from forging a second line in an answer or a log.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
