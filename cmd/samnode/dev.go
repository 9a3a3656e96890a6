package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/ui/api"
)

func (c *cli) dev() *cobra.Command {
	var cfg Config
	var name string
	var verbose bool
	nodes := 1
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a mesh on this machine's loopback interface",
		Args:  args(cobra.NoArgs),
	}
	f := cmd.Flags()
	runFlags(f, &cfg)
	f.StringVar(&name, "name", "", "name of the node, for ever (default: the host's)")
	f.IntVar(&nodes, "nodes", 1, "core nodes, each with a port of its own behind --listen's: 1, 3 or 5")
	f.BoolVar(&verbose, "verbose", false, "log debug messages")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.prepare(cmd, &cfg, verbose); err != nil {
			return err
		}
		cfg.Gallery = true
		if name == "" {
			var err error
			if name, err = hostName(); err != nil {
				return err
			}
		}
		if nodes != 1 && nodes != 3 && nodes != 5 {
			return &exitError{exitUsage, "--nodes is 1, 3 or 5: an even number of voters survives no more than one less does"}
		}
		if nodes == 1 {
			cfg.Alone = true
			if err := beginDev(cfg.State, name); err != nil {
				return err
			}
			return run(cmd.Context(), cfg, c.ready)
		}
		return runMany(cmd.Context(), cfg, name, nodes, c.ready)
	}
	return cmd
}

// beginDev makes the directory a node's of a new loopback mesh, unless it is
// one already.
func beginDev(state, name string) error {
	id, err := readIdentity(state)
	if err == nil && id.Network != onLoopback {
		return &exitError{exitRefused, state + " is of a node on a tailnet: start it with samnode run"}
	}
	if !errors.Is(err, errNoMesh) {
		return err
	}
	return identity{
		Mesh: ulid.Make().String(), Node: name, Core: true, Founder: true, Network: onLoopback, Secret: token(32),
	}.write(state)
}

// runMany runs a mesh of several nodes in one process: NAME-1 to NAME-N, each
// with a folder in the state and a port.
func runMany(ctx context.Context, cfg Config, name string, count int, ready func(url, here string)) error {
	if _, err := os.Stat(filepath.Join(cfg.State, identityFile)); err == nil {
		return &exitError{exitRefused, cfg.State + " is of a mesh of one node: choose another --state for more"}
	}
	g, ctx := errgroup.WithContext(ctx)
	m := &devMesh{cfg: cfg, name: name, urls: make([]string, count), up: make([]chan struct{}, count)}
	for i := range count {
		m.up[i] = make(chan struct{})
	}
	if err := beginDev(m.dir(0), m.node(0)); err != nil {
		return err
	}
	for i := range count {
		g.Go(func() error { return m.run(ctx, i) })
	}
	g.Go(func() error {
		for i := range count {
			select {
			case <-m.up[i]:
			case <-ctx.Done():
				return nil
			}
		}
		ready(m.urls[0], m.urls[0])
		return nil
	})
	return g.Wait()
}

// devMesh is a mesh of several nodes in one process.
type devMesh struct {
	cfg  Config
	name string

	joining sync.Mutex // one node after the other joins
	urls    []string   // of node i, once up[i] is closed
	up      []chan struct{}
}

func (m *devMesh) node(i int) string { return m.name + "-" + strconv.Itoa(i+1) }
func (m *devMesh) dir(i int) string  { return filepath.Join(m.cfg.State, m.node(i)) }

// run runs one node; a new one joins at the first.
func (m *devMesh) run(ctx context.Context, i int) error {
	cfg := m.cfg
	cfg.State = m.dir(i)
	var err error
	if cfg.Listen, err = nextPort(cfg.Listen, i); err != nil {
		return err
	}
	if _, err := readIdentity(cfg.State); errors.Is(err, errNoMesh) {
		if err := m.join(ctx, cfg, i); err != nil {
			return fmt.Errorf("joining %s: %w", m.node(i), err)
		}
	}
	return run(ctx, cfg, func(url, _ string) {
		m.urls[i] = url
		close(m.up[i])
	})
}

func (m *devMesh) join(ctx context.Context, cfg Config, i int) error {
	select {
	case <-m.up[0]:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	m.joining.Lock()
	defer m.joining.Unlock()
	var v api.Invitation
	err := patiently(ctx, cfg.Logger, "asking for an invitation", func(ctx context.Context) error {
		return newClient(m.urls[0]).call(ctx, http.MethodPost, "invitations", map[string]any{"core": true}, &v)
	})
	if err != nil {
		return err
	}
	return join(ctx, cfg, joinOptions{token: v.Token, name: m.node(i), core: true})
}

// nextPort is the address i ports further; port 0 stays.
func nextPort(listen string, i int) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", &exitError{exitUsage, fmt.Sprintf("--listen %q is no address: %v", listen, err)}
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", &exitError{exitUsage, fmt.Sprintf("--listen %q has no number for a port", listen)}
	}
	if n != 0 {
		n += i
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

// dataDir is where a person's own node keeps its state (XDG base directories).
func dataDir() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "samnode"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the home folder; use --state: %w", err)
	}
	return filepath.Join(home, ".local", "share", "samnode"), nil
}
