package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/keys"
)

// traces are the devices on the tailnet of nodes that were removed. Logging out
// does not take a device off the control server's list, unless it is ephemeral:
// that takes the server's API, where the mesh has credentials for it, or a
// person. Until the tailnet does not list it any more the warnings of this node
// name it. They are kept in memory, by the node that was asked for the removal.
//
// A nil traces is that of a node that is on no tailnet.
type traces struct {
	peers  func(context.Context) ([]mesh.Peer, error)
	server func() (forgetter, error) // errNoKeys: there are no credentials
	member func(addr string) bool
	logger *slog.Logger

	mu   sync.Mutex
	left map[string]*trace // by address
}

// forgetter is a control server's API.
type forgetter interface {
	// Forget removes the device with that address from the tailnet.
	Forget(ctx context.Context, addr netip.Addr) error
}

// trace is one device.
type trace struct {
	node    string
	removed time.Time
	next    time.Time // when to try again
	text    string    // for a person; empty: it is not listed
}

const (
	tracesEvery = 5 * time.Second
	traceStops  = 30 * time.Second // for a node to hear that it was removed, and stop
	traceAgain  = time.Minute      // after a try that failed
	traceWait   = 5 * time.Second  // for the tailnet and the control server, while a person waits
)

var errNoKeys = errors.New("the mesh has no credentials of the control server's API")

// openTraces is a step of opening a node on a tailnet.
func (n *node) openTraces() {
	if n.id.Network != onTailnet {
		return
	}
	n.traces = &traces{
		peers: n.net.Peers, logger: n.c.Logger,
		server: func() (forgetter, error) {
			c, err := n.credentialsNow()
			if err == nil && c.keys.ClientID == "" && c.keys.APIKey == "" {
				err = errNoKeys
			}
			if err != nil {
				return nil, err
			}
			return keys.New(c.keys)
		},
		member: func(addr string) bool { _, ok := n.nodeAt(addr); return ok },
	}
}

// add takes note of a node that was removed, tries to remove its device, and
// returns what a person should know.
func (t *traces) add(ctx context.Context, node, addr string) string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	if t.left == nil {
		t.left = make(map[string]*trace)
	}
	x := &trace{node: node, removed: time.Now(), text: node + "'s device may still be on the tailnet: look for it in the control server's list"}
	t.left[addr] = x
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, traceWait)
	defer cancel()
	if err := t.sweep(ctx); err != nil {
		t.logger.Warn("looking for the devices of removed nodes", "err", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return x.text
}

// texts are the sentences about all devices that are left.
func (t *traces) texts() []string {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for _, x := range t.left {
		if x.text != "" {
			list = append(list, x.text)
		}
	}
	slices.Sort(list)
	return list
}

func (t *traces) any() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.left) > 0
}

// run removes the devices until ctx ends.
func (t *traces) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(tracesEvery):
		}
		if t == nil || !t.any() {
			continue
		}
		if err := t.sweep(ctx); err != nil && ctx.Err() == nil {
			t.logger.Warn("looking for the devices of removed nodes", "err", err)
		}
	}
}

// sweep takes one step with each device.
func (t *traces) sweep(ctx context.Context) error {
	peers, err := t.peers(ctx)
	if err != nil {
		return err
	}
	listed := make(map[string]mesh.Peer)
	for _, p := range peers {
		listed[p.Addr] = p
	}
	for addr, x := range t.due(listed) {
		text, again := t.forget(ctx, x, listed[addr])
		t.settle(addr, text, again)
	}
	return nil
}

// due are the devices that a step is to be taken with. One that is not listed is
// gone, unless it is so new that the list may not have it yet.
func (t *traces) due(listed map[string]mesh.Peer) map[string]trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := make(map[string]trace)
	for addr, x := range t.left {
		_, there := listed[addr]
		switch {
		case t.member(addr), !there && time.Since(x.removed) > traceStops:
			delete(t.left, addr)
			x.text = ""
		case !there:
			x.text = ""
		case !time.Now().Before(x.next):
			due[addr] = *x
		}
	}
	return due
}

// settle takes note of how a step ended; an empty text: the device is gone.
func (t *traces) settle(addr, text string, again time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.left[addr]
	if x == nil {
		return
	}
	x.text, x.next = text, time.Now().Add(again)
	if text == "" {
		delete(t.left, addr)
	}
}

// forget tries to remove one device. What it returns is why it is still there,
// and when to look again; an empty text: it is not.
func (t *traces) forget(ctx context.Context, x trace, p mesh.Peer) (text string, again time.Duration) {
	device := p.Name
	if len(p.IPs) > 0 {
		device += ", " + p.IPs[0].String()
	}
	server, err := t.server()
	switch {
	case errors.Is(err, errNoKeys):
		return fmt.Sprintf("%s's device (%s) stays on the tailnet, because %s (samnode secret set %s): remove it in the control server's list",
			x.node, device, err, strings.Join([]string{secretClientID, secretClientSecret, "or " + secretHeadscale}, ", ")), 0
	case err == nil && p.Online && time.Since(x.removed) < traceStops:
		// Off the tailnet it would never hear that it was removed.
		return fmt.Sprintf("%s's device (%s) is taken off the tailnet as soon as the node has stopped", x.node, device), 0
	case err == nil && len(p.IPs) == 0:
		return "", 0 // it never got onto the tailnet
	case err == nil:
		err = server.Forget(ctx, p.IPs[0])
	}
	if err != nil {
		return fmt.Sprintf("%s's device (%s) is still on the tailnet, and samnode tries again: %s", x.node, device, err), traceAgain
	}
	t.logger.Info("took the device of a removed node off the tailnet", "name", x.node, "device", device)
	return "", 0
}
