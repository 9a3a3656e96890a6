// Package hetzner buys machines at Hetzner Cloud. It is the only package that
// knows Hetzner: what it gives and takes are package provision's words, and
// every refusal is a [provision.ProviderError].
//
// # What it promises
//
// One op has one server. Create sends one POST at most and then looks for what
// came of it: a server of that name that carries the op's label is the op's,
// whoever made it and whatever became of the answer. So Create may be called
// again after anything, by anybody.
//
// Calls are counted where they leave, one by one. Nothing is repeated behind
// the caller's back but what the comments say, and in no hour does one client
// make more than half of those that Hetzner allows.
//
// Only servers with this mesh's labels are listed, adopted or swept.
package hetzner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

const (
	// MinTimeout is the shortest time that a call may be given. A create takes
	// that long on a bad day, and who gives up earlier calls again and again.
	MinTimeout = 60 * time.Second
	// MaxCreates is how many servers are made at the same time.
	MaxCreates = 3

	defaultActionWait = 5 * time.Minute
)

// Config is what a client needs.
type Config struct {
	// Token is the API token of a Hetzner project that is used for nothing else.
	Token string
	// Mesh is the mesh's id. It is a label of all its servers.
	Mesh string
	// Endpoint is the API's address; empty: Hetzner's. It begins with https, or
	// is on this machine: else the token could be read on the way.
	Endpoint string
	// SSHKey is the fingerprint of a key in the project, for people who want to
	// log in past samnode. Empty: servers are made without one, and Hetzner
	// sends a root password to the account's owner by mail.
	SSHKey string
	// Timeout is how long one call may take, at least [MinTimeout]; zero takes that.
	Timeout time.Duration
	// ActionWait is how long Create waits for the server's actions once it is
	// made; zero takes five minutes.
	ActionWait time.Duration
	// Transport carries the calls; nil: a connection to the endpoint.
	Transport http.RoundTripper
	// Version is samnode's, for Hetzner's logs.
	Version string
	// Logger gets what is odd and, at level debug, every call; nil: nobody does.
	Logger *slog.Logger
}

// Client is one mesh at Hetzner. Its methods may be called from many goroutines.
type Client struct {
	cfg    Config
	log    *slog.Logger
	api    *hcloud.Client
	budget *allowance
	slots  chan struct{} // one for each create in flight

	mu  sync.Mutex
	key *hcloud.SSHKey // of Config.SSHKey, once found
}

// New makes a client. It does not call Hetzner: [Client.Check] does.
func New(cfg Config) (*Client, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	budget := newAllowance(time.Now())
	options := []hcloud.ClientOption{
		hcloud.WithToken(cfg.Token),
		hcloud.WithApplication("samnode", cfg.Version),
		hcloud.WithRetryOpts(hcloud.RetryOpts{MaxRetries: 0}), // its own would spend the allowance unseen, and repeat a POST
		hcloud.WithHTTPClient(&http.Client{
			Transport: &transport{next: cfg.Transport, budget: budget, token: cfg.Token, log: cfg.Logger},
			Timeout:   cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // an API that redirects is not the API
			},
		}),
	}
	if cfg.Endpoint != "" {
		options = append(options, hcloud.WithEndpoint(cfg.Endpoint))
	}
	return &Client{
		cfg: cfg, log: cfg.Logger, budget: budget,
		api:   hcloud.NewClient(options...),
		slots: make(chan struct{}, MaxCreates),
	}, nil
}

func (c *Config) complete() error {
	c.Token = strings.TrimSpace(c.Token)
	switch {
	case c.Token == "":
		return errors.New("there is no Hetzner API token: make one with read and write rights in the Hetzner console, in the project under Security, API tokens")
	case !visible(c.Token):
		return errors.New("the Hetzner API token holds characters that no token has: copy it once more from the Hetzner console")
	case c.Mesh == "" || !labelValue(c.Mesh):
		return fmt.Errorf("the mesh's id %q cannot be a label at Hetzner: use letters, digits, '-', '_' and '.', 63 at most", c.Mesh)
	case c.Timeout != 0 && c.Timeout < MinTimeout:
		return fmt.Errorf("a Hetzner timeout of %s is too short: give at least %s, or leave it out", c.Timeout, MinTimeout)
	case c.Endpoint != "" && !private(c.Endpoint):
		return fmt.Errorf("the address %q of Hetzner's API is not one that begins with https:// (or http:// and this machine's own address): the token would not be safe on the way", c.Endpoint)
	}
	if c.Timeout == 0 {
		c.Timeout = MinTimeout
	}
	if c.ActionWait == 0 {
		c.ActionWait = defaultActionWait
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConns: 8, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 15 * time.Second,
		}
	}
	return nil
}

func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// private is whether nobody on the way reads what is sent to a URL.
func private(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// selector is what every list of servers asks for.
func (c *Client) selector() string {
	return fmt.Sprintf("%s=%s,%s=%s,%s=%s", provision.LabelManagedBy, provision.ManagedBy,
		provision.LabelMesh, c.cfg.Mesh, provision.LabelRole, provision.RoleWorker)
}

// ours is whether labels are those of a machine of this mesh.
func (c *Client) ours(labels map[string]string) bool {
	return labels[provision.LabelManagedBy] == provision.ManagedBy &&
		labels[provision.LabelMesh] == c.cfg.Mesh && labels[provision.LabelRole] == provision.RoleWorker
}

// labelValue is whether Hetzner takes s as a label's value: a time with ':' it
// does not.
func labelValue(s string) bool {
	letter := func(r byte) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	for i := range len(s) {
		edge := i == 0 || i == len(s)-1
		if !letter(s[i]) && (edge || !strings.ContainsRune("._-", rune(s[i]))) {
			return false
		}
	}
	return len(s) <= 63
}

// Budget is the state of the API allowance. It calls nobody.
func (c *Client) Budget() provision.Budget { return c.budget.state(time.Now()) }

// sleep waits, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
