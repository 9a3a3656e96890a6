package sshd

import (
	"crypto/rand"
	"errors"

	"github.com/samnode/samnode/workspace/shim"
)

// agentKind is the channel by which a client's agent is asked.
const agentKind = "auth-agent@openssh.com"

// errNoAgent is the server's no to -A, in its log: clients are told without a
// word.
var errNoAgent = errors.New("the project does not let ssh agents in")

// forwardAgent is -A: a socket of the workspace that leads to the client's
// agent, one for the whole connection, and the variable that names it.
func (c *conn) forwardAgent() (env string, err error) {
	if !c.space.Agent {
		return "", errNoAgent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agent == "" {
		if err := c.listenAgent(); err != nil {
			return "", err
		}
	}
	return "SSH_AUTH_SOCK=" + c.agent, nil
}

// listenAgent takes the same path for each connection of a person, so that a
// shell that stayed finds the agent of the next one; where that is taken, some
// other.
func (c *conn) listenAgent() error {
	path := "/tmp/" + c.space.Shells + "-agent"
	l, err := c.listen(shim.Address{Path: path})
	if err != nil {
		path += "-" + rand.Text()[:8]
		if l, err = c.listen(shim.Address{Path: path}); err != nil {
			return err
		}
	}
	if c.ctx.Err() != nil {
		return errors.Join(c.ctx.Err(), l.Close())
	}
	c.listening[path], c.agent = l, path
	go c.guests(l, func(string) (string, []byte) { return agentKind, nil })
	return nil
}
