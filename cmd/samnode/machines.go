package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh/keys"
	"github.com/samnode/samnode/mesh/tailnet"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/cloudinit"
	"github.com/samnode/samnode/provision/hetzner"
	"github.com/samnode/samnode/provision/keeper"
)

// The mesh's secrets with which machines are bought. They never leave core
// nodes, whoever asks.
const (
	secretHetzner      = "HCLOUD_TOKEN"
	secretClientID     = "TS_OAUTH_CLIENT_ID"
	secretClientSecret = "TS_OAUTH_CLIENT_SECRET"
	secretHeadscale    = "HEADSCALE_API_KEY"
)

// isCoreSecret says that a secret is for core nodes alone.
func isCoreSecret(name string) bool {
	return slices.Contains([]string{secretHetzner, secretClientID, secretClientSecret, secretHeadscale, secretHostKey}, name)
}

// deadManAfter is how long a bought machine may be cut off from the mesh before
// it powers itself off.
const deadManAfter = 2 * time.Hour

// credentials are what buying needs; equal ones need no new keeper.
type credentials struct {
	token string
	keys  keys.Config
}

// credentialsNow reads them. Without a token there is nothing to buy with.
func (n *node) credentialsNow() (c credentials, err error) {
	c.keys = keys.Config{URL: n.c.KeysAPI, Tag: tailnet.DefaultTag}
	for name, into := range map[string]*string{
		secretHetzner: &c.token, secretClientID: &c.keys.ClientID, secretClientSecret: &c.keys.ClientSecret, secretHeadscale: &c.keys.APIKey,
	} {
		if *into, err = n.openSecret("", name); err != nil && !errors.Is(err, chat.ErrNotFound) {
			return credentials{}, fmt.Errorf("reading the secret %s: %w", name, err)
		}
	}
	if c.keys.APIKey != "" && c.keys.URL == "" {
		c.keys.URL = n.id.Control
	}
	return c, nil
}

// lookAgain is how often the leader looks whether it may buy now.
const lookAgain = 5 * time.Second

// keepMachines buys and deletes machines while this node leads and the mesh has
// a token for it.
func (n *node) keepMachines(ctx context.Context, heart *provision.Heart) error {
	var said string
	for {
		c, err := n.credentialsNow()
		var k *keeper.Keeper
		if err == nil && c.token != "" {
			k, err = n.newKeeper(c, heart)
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			n.c.Logger.Error("machines cannot be bought", "err", err)
		}
		n.noKeeper.set(err)
		if k != nil && err == nil {
			said = ""
			n.runKeeper(ctx, k, c)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookAgain):
		}
	}
}

// runKeeper runs a keeper until the credentials change or ctx ends.
func (n *node) runKeeper(ctx context.Context, k *keeper.Keeper, c credentials) {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	n.keeper.set(k)
	defer n.keeper.set(nil)
	go func() {
		defer cancel()
		for run.Err() == nil {
			if now, err := n.credentialsNow(); err == nil && now != c {
				return
			}
			select {
			case <-run.Done():
			case <-time.After(lookAgain):
			}
		}
	}()
	if err := k.Run(run); err != nil && run.Err() == nil {
		n.c.Logger.Error("keeping machines", "err", err)
	}
}

// newKeeper makes the keeper and what it calls.
func (n *node) newKeeper(c credentials, heart *provision.Heart) (*keeper.Keeper, error) {
	if n.id.Network != onTailnet {
		return nil, errors.New("machines are bought for a mesh on a tailnet only: begin one with samnode init")
	}
	cloud, err := n.cloud(c)
	if err != nil {
		return nil, err
	}
	server, err := keys.New(c.keys)
	if err != nil {
		return nil, fmt.Errorf("keys for new machines: %w (samnode secret set %s and %s, or %s)", err, secretClientID, secretClientSecret, secretHeadscale)
	}
	return keeper.New(keeper.Config{
		State: n.pool, Provider: &forgetful{Client: cloud, n: n, server: server}, Keys: bootKeys{n, server},
		Propose: n.proposeAsLeader, UserData: n.userData,
		Waiting: func() []provision.Waiting { return waiting(n.room, n.room.Waiting()) },
		Silent:  heart.Silent, Heard: heart.HeardAgo,
		NewID: func() string { return ulid.Make().String() }, Logger: n.c.Logger.With("part", "machines"),
	})
}

// proposeAsLeader commits a pool command while this node leads, and returns what
// became of it.
func (n *node) proposeAsLeader(ctx context.Context, c provision.Command) error {
	return n.poolDoBy(ctx, n.log.Propose, c)
}

// cloud is the mesh's project at the provider.
func (n *node) cloud(c credentials) (*hetzner.Client, error) {
	pool, _ := n.pool.Pool()
	return hetzner.New(hetzner.Config{Token: c.token, Mesh: pool.Mesh.ID, Endpoint: n.c.HetznerAPI, Version: version, Logger: n.c.Logger})
}

// bootKeys make what lets one new machine in.
type bootKeys struct {
	n      *node
	server *keys.Server
}

// Mint implements keeper.Keys.
func (b bootKeys) Mint(ctx context.Context, op provision.Op) (string, error) {
	return b.server.Mint(ctx, "samnode "+op.Machine)
}

// Invitation implements keeper.Keys.
func (b bootKeys) Invitation(op provision.Op, expires time.Time) (string, provision.Invite, error) {
	inv := b.n.newInvitation("", false, expires)
	word, err := inv.text()
	return word, provision.Invite{ID: inv.ID, Hash: inv.hash(), By: op.By, Expires: inv.Expires}, err
}

// userData is what a machine boots with: the keys, and where samnode is.
func (n *node) userData(b keeper.Boot) ([]byte, error) {
	url, sum, err := n.binary()
	if err != nil {
		return nil, err
	}
	boot := cloudinit.Boot{
		Node: b.Machine.Node, Binary: url, SHA256: sum, AuthKey: b.Key, Word: b.Word,
		Slots: b.Machine.Slots, DeadMan: deadManAfter,
	}
	if n.c.Image != defaultImage {
		boot.Image = n.c.Image
	}
	return boot.UserData()
}

// forgetful is the provider, and has the control server forget a machine when
// its deletion begins: nobody else tells it, and the name is taken until then.
type forgetful struct {
	*hetzner.Client
	n      *node
	server *keys.Server
}

// Delete implements keeper.Provider.
func (f *forgetful) Delete(ctx context.Context, id string) error {
	if err := f.Client.Delete(ctx, id); err != nil {
		return err
	}
	pool, _ := f.n.pool.Pool()
	for _, m := range pool.Machines {
		if m.Bought.Server == id {
			f.forget(ctx, m.Node)
		}
	}
	return nil
}

func (f *forgetful) forget(ctx context.Context, name string) {
	peers, err := f.n.net.Peers(ctx)
	for _, p := range peers {
		if p.Name == hostnameOf(name) && len(p.IPs) > 0 {
			err = errors.Join(err, f.server.Forget(ctx, p.IPs[0]))
		}
	}
	if err != nil { // an ephemeral device goes by itself, later
		f.n.c.Logger.Warn("taking a machine off the tailnet", "machine", name, "err", err)
	}
}

var _ slog.LogValuer = credentials{}

// LogValue keeps the secrets out of logs.
func (credentials) LogValue() slog.Value { return slog.StringValue("(secret)") }
