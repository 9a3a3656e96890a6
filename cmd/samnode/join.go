package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/seal"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/tailnet"
)

func (c *cli) initMesh() *cobra.Command {
	var cfg Config
	var id identity
	var verbose, only, policy bool
	var owners, members []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Begin a mesh on a tailnet, with this machine as its first core node",
		Long: "Begin a mesh. This machine becomes its first core node, on your tailnet under a name of its own, and runs\n" +
			"until it is stopped; `samnode run` starts it again, `samnode install` makes it a service.\n\n" +
			"The node needs the tag tag:samnode. Give it a tagged auth key (TS_AUTHKEY), or sign it in at the URL that is\n" +
			"printed and tag it in the control server's admin page. --control names a headscale server.",
		Args: args(cobra.NoArgs),
	}
	f := cmd.Flags()
	runFlags(f, &cfg)
	networkFlags(f.StringVar, &cfg, &id)
	f.BoolVar(&policy, "print-policy", false, "print what the tailnet's policy file has to say about a mesh, and exit")
	f.StringSliceVar(&owners, "owner", nil, "with --print-policy: login of an owner; may be repeated")
	f.StringSliceVar(&members, "member", nil, "with --print-policy: login of a member; may be repeated")
	f.StringVar(&id.Shared, "shared-address", "", "address on the tailnet that all core nodes answer (an approved subnet route), such as 100.127.255.1")
	f.BoolVar(&only, "setup-only", false, "set up and exit; samnode run starts the node")
	f.BoolVar(&verbose, "verbose", false, "log debug messages")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if policy {
			return c.printPolicy(owners, members, id.Shared)
		}
		if err := c.prepare(cmd, &cfg, verbose); err != nil {
			return err
		}
		if err := begin(cmd.Context(), cfg, id); err != nil {
			return err
		}
		return c.goOn(cmd.Context(), cfg, only)
	}
	return cmd
}

func (c *cli) printPolicy(owners, members []string, shared string) error {
	if len(owners) == 0 {
		return &exitError{exitUsage, "a mesh needs an owner: --owner you@example.com"}
	}
	p := tailnet.Policy{Owners: owners, Members: members}
	if shared != "" {
		addr, err := netip.ParseAddr(shared)
		if err != nil {
			return &exitError{exitUsage, fmt.Sprintf("--shared-address %q is no address: %v", shared, err)}
		}
		p.Shared = addr
	}
	_, err := fmt.Fprint(c.out, p)
	return err
}

// networkFlags say how the node is on its tailnet.
func networkFlags(str func(*string, string, string, string), cfg *Config, id *identity) {
	str(&id.Node, "name", "", "name of the node, for ever (default: the host's)")
	str(&id.Hostname, "hostname", "", "name on the tailnet (default: samnode-NAME)")
	str(&id.Control, "control", os.Getenv("SAMNODE_CONTROL"), "URL of the control server, or SAMNODE_CONTROL (default: Tailscale's)")
	str(&cfg.AuthKey, "auth-key", os.Getenv("TS_AUTHKEY"), "auth key of the tailnet, or TS_AUTHKEY (default: sign in at a URL)")
}

// goOn runs the node that was set up.
func (c *cli) goOn(ctx context.Context, cfg Config, only bool) error {
	if only {
		id, err := readIdentity(cfg.State)
		if err != nil {
			return err
		}
		return c.print(map[string]any{"mesh": id.Mesh, "node": id.Node, "core": id.Core, "state": cfg.State}, func(w io.Writer) {
			fmt.Fprintf(w, "%s is set up in %s; start it with samnode run, or samnode install\n", id.Node, cfg.State)
		})
	}
	return run(ctx, cfg, c.ready)
}

// ready prints where the pages are: the last line is what scripts wait for.
func (c *cli) ready(url, here string) {
	if here != url {
		fmt.Fprintf(c.out, "on this machine: %s\n", here)
	}
	fmt.Fprintf(c.out, "samnode is ready: %s\n", url)
}

// fresh refuses a directory that belongs to a mesh already, or holds the state
// of something else.
func fresh(state string) error {
	id, err := readIdentity(state)
	if err == nil {
		return &exitError{exitRefused, fmt.Sprintf("%s is node %s of mesh %s already: start it with samnode run; to leave that mesh first, samnode leave", state, id.Node, id.Mesh)}
	}
	if !errors.Is(err, errNoMesh) {
		return err
	}
	for _, old := range []string{"raft", "chat", "mesh.key", leftFile} {
		if _, err := os.Stat(filepath.Join(state, old)); err == nil {
			return &exitError{exitRefused, fmt.Sprintf("%s holds the state of another mesh (%s) without saying which node it is: choose another --state", state, old)}
		}
	}
	return nil
}

// begin makes the directory the founder's of a new mesh on a tailnet, once the
// node is there.
func begin(ctx context.Context, cfg Config, id identity) error {
	release, err := take(cfg.State)
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the lock is read-only
	if err := id.complete(); err != nil {
		return err
	}
	id.Mesh, id.Core, id.Founder, id.Network = ulid.Make().String(), true, true, onTailnet
	id.RequestTag = cfg.AuthKey == ""
	h := host{c: cfg, id: id}
	if err := h.tryNetwork(ctx); err != nil {
		return err
	}
	return id.write(cfg.State)
}

// take makes the directory and keeps others out of it while it is set up.
func take(state string) (release func() error, err error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	if release, err = lockState(state); err != nil {
		return nil, &exitError{exitRefused, err.Error()}
	}
	if err := fresh(state); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// complete fills in and checks the names of a new node, and picks its port.
func (id *identity) complete() error {
	if id.Node == "" {
		name, err := hostName()
		if err != nil {
			return err
		}
		id.Node = name
	}
	if err := checkName(id.Node); err != nil {
		return err
	}
	if id.Hostname == "" {
		id.Hostname = hostnameOf(id.Node)
	}
	if err := checkName(id.Hostname); err != nil {
		return err
	}
	port, err := freeUDP()
	id.UDPPort = port
	return err
}

// hostnameOf is the name on the tailnet of a node that asks for no other.
func hostnameOf(node string) string { return "samnode-" + strings.TrimPrefix(node, "samnode-") }

// freeUDP picks a port that nobody uses now. The node keeps it: its peers find
// it there at once after a restart.
func freeUDP() (uint16, error) {
	c, err := net.ListenPacket("udp", ":0") //nolint:noctx // nothing to wait for
	if err != nil {
		return 0, fmt.Errorf("picking a UDP port: %w", err)
	}
	port := c.LocalAddr().(*net.UDPAddr).Port
	return uint16(port), c.Close()
}

// tryNetwork goes onto the network once: what is wrong is said now, and the
// node's key is in the state afterwards.
func (h *host) tryNetwork(ctx context.Context) error {
	h.c.Listen = "off"
	err := h.openNetwork(ctx, nil)
	return errors.Join(err, h.close())
}

func (c *cli) join() *cobra.Command {
	var cfg Config
	var opts joinOptions
	var id identity
	var verbose, only bool
	cmd := &cobra.Command{
		Use:   "join INVITATION",
		Short: "Make this machine a node of a mesh",
		Long: "Make this machine a node of a mesh: a worker, which runs tasks, or with --core one that also holds the chat,\n" +
			"the secrets and a vote. The invitation is from `samnode node invite` and works once. The node runs until it is\n" +
			"stopped; `samnode run` starts it again, `samnode install` makes it a service, `samnode leave` ends it.",
		Args: args(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	runFlags(f, &cfg)
	networkFlags(f.StringVar, &cfg, &id)
	f.BoolVar(&opts.core, "core", false, "as a core node; the invitation must be for one")
	f.BoolVar(&only, "setup-only", false, "join and exit; samnode run starts the node")
	f.BoolVar(&verbose, "verbose", false, "log debug messages")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if err := c.prepare(cmd, &cfg, verbose); err != nil {
			return err
		}
		opts.token, opts.name, opts.hostname = a[0], id.Node, id.Hostname
		if err := join(cmd.Context(), cfg, opts); err != nil {
			return err
		}
		return c.goOn(cmd.Context(), cfg, only)
	}
	return cmd
}

type joinOptions struct {
	token, name, hostname string
	core                  bool
	patience              time.Duration // with nodes that do not answer; 0: a minute
}

// join makes the directory that of a new node of the inviting mesh.
func join(ctx context.Context, cfg Config, o joinOptions) error {
	v, err := parseInvitation(o.token)
	if err != nil {
		return err
	}
	switch {
	case time.Now().After(v.Expires.Add(time.Hour)): // clocks differ; the mesh decides by its own
		return &exitError{exitRefused, fmt.Sprintf("the invitation ran out at %s: ask for a new one, samnode node invite", v.Expires.Format(time.RFC3339))}
	case o.core && !v.Core:
		return &exitError{exitRefused, "the invitation is for a worker: ask for one with samnode node invite --core, or join without --core"}
	}
	release, err := take(cfg.State)
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the lock is read-only
	id := identity{
		Mesh: v.Mesh, Node: o.name, Core: o.core, Network: v.Network,
		Control: v.Control, Hostname: o.hostname, RequestTag: cfg.AuthKey == "" && v.Network == onTailnet,
		Secret: v.DevSecret, Cores: v.Cores,
	}
	if err := id.complete(); err != nil {
		return err
	}
	h := host{c: cfg, id: id}
	h.c.Listen = "off"
	if id.Network == onLoopback {
		h.c.Listen = "127.0.0.1:0"
	}
	err = h.openNetwork(ctx, nil)
	if err == nil {
		err = h.enter(ctx, v, cmp.Or(o.patience, time.Minute))
	}
	return errors.Join(err, h.close())
}

// enter asks a core node to be let in, and writes down what it answers.
func (h *host) enter(ctx context.Context, v invitation, patience time.Duration) error {
	c := &cores{client: h.client, list: v.Cores}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out joinAnswer
	var last error // the one before the time was up says more
	err := patiently(ctx, h.c.Logger, "asking to be let in", func(ctx context.Context) error {
		err := c.call(ctx, "/calls/v1/join", joinCall{Mesh: v.Mesh, Invite: v.ID, Secret: v.Secret, Name: h.id.Node, Core: h.id.Core, Version: version}, &out)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return err
	})
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && last != nil {
		err = last
	}
	switch {
	case errors.Is(err, mesh.ErrStranger):
		return &exitError{exitRefused, "the nodes of the invitation and this one are not of one mesh: ask for a new one (samnode node invite). " + err.Error()}
	case errors.Is(err, mesh.ErrUnreachable):
		return &exitError{exitUnreachable, "no core node of the mesh answers; is this machine on their tailnet, and are they running? " + err.Error()}
	case isRefusal(err):
		return &exitError{exitRefused, err.Error()}
	case err != nil:
		return err
	}
	if h.id.Core {
		key, err := seal.New(out.Key)
		if err == nil {
			err = key.Save(filepath.Join(h.c.State, "mesh.key"))
		}
		if err != nil {
			return err
		}
	}
	h.id.Cores, h.id.Person, h.id.Epoch = out.Cores, chat.Person(out.Person), out.Epoch
	return h.id.write(h.c.State)
}

func (c *cli) run() *cobra.Command {
	var cfg Config
	var verbose bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the node that was set up on this machine",
		Args:  args(cobra.NoArgs),
	}
	runFlags(cmd.Flags(), &cfg)
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log debug messages")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.prepare(cmd, &cfg, verbose); err != nil {
			return err
		}
		return c.goOn(cmd.Context(), cfg, false)
	}
	return cmd
}
