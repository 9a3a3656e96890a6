package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/agents"
)

// What nodes tell each other keeps its meaning by these codes.
var callCodes = mesh.Codes{
	"no_leader":  errNoLeader,
	"not_member": errNotMember,
	"twin":       errTwin,
	"not_found":  chat.ErrNotFound,
	"refused":    chat.ErrRefused,
	"stale":      chat.ErrStale,
	"invalid":    chat.ErrInvalid,
	"forbidden":  errForbidden,

	"not_installed": agents.ErrNotInstalled,
}

var (
	errNoLeader  = errors.New("the mesh has no leader at the moment")
	errNotMember = errors.New("this node is not in the mesh (any more)")
	errTwin      = errors.New("another samnode runs under this node's name")
	errForbidden = errors.New("this node may not ask for that")
)

// joinCall enters the mesh. It is the one call that a node may make that is no
// member yet.
type joinCall struct {
	Mesh    string `json:"mesh"`
	Invite  string `json:"invite"`
	Secret  string `json:"secret"`
	Name    string `json:"name"`
	Core    bool   `json:"core"`
	Version string `json:"version"`
}

type joinAnswer struct {
	Key    []byte      `json:"key,omitempty"` // the mesh key, for core nodes
	Person chat.Person `json:"person"`        // who invited it
	Cores  []peer      `json:"cores"`
	Epoch  uint64      `json:"epoch,omitempty"` // of the mesh
}

// beatCall is a node's sign of life; the answer comes when it is in the log.
type beatCall struct {
	Beat provision.Beat `json:"beat"`
}

type beatAnswer struct {
	Cores []peer `json:"cores"`
}

// leaveAnswer says what is left of a node elsewhere, in a sentence.
type leaveAnswer struct {
	Trace string `json:"trace,omitempty"`
}

// cores knows the core nodes and asks one that answers.
type cores struct {
	client *mesh.Client

	mu   sync.Mutex
	list []peer // the one that answered last is first
}

func (c *cores) set(list []peer) {
	if len(list) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last := peer{}
	if len(c.list) > 0 {
		last = c.list[0]
	}
	c.list = slices.Clone(list)
	c.frontLocked(last.Node)
}

func (c *cores) get() []peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

func (c *cores) front(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frontLocked(node)
}

func (c *cores) frontLocked(node string) {
	if i := slices.IndexFunc(c.list, func(p peer) bool { return p.Node == node }); i > 0 {
		p := c.list[i]
		copy(c.list[1:i+1], c.list[:i])
		c.list[0] = p
	}
}

// back moves a core node that does not answer behind the others.
func (c *cores) back(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.list, func(p peer) bool { return p.Node == node }); i >= 0 {
		p := c.list[i]
		c.list = append(slices.Delete(c.list, i, i+1), p)
	}
}

// call asks the core nodes one after the other until one answers. An answer
// that refuses is an answer.
func (c *cores) call(ctx context.Context, path string, in, out any) error {
	err := errors.New("no core node is known")
	for _, p := range c.get() {
		err = c.client.Call(ctx, p.Addr, path, in, out)
		if err == nil {
			c.front(p.Node)
			return nil
		}
		if !isAway(err) && !errors.Is(err, errNoLeader) || errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		c.back(p.Node) // also when the time is over: the next call is not to wait for the same one
		if ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("asking the core nodes: %w: %w", workspace.ErrAway, err)
}

// isAway tells whether a node could not be asked, or did not answer.
func isAway(err error) bool {
	return errors.Is(err, mesh.ErrUnreachable) || errors.Is(err, mesh.ErrNoAnswer)
}
