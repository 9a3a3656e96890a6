package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
)

// door is the authentication of one connection. The network has said already
// who calls, so all that a client says here is which workspace it wants. Every
// public key will do: some clients have no way to come with none.
type door struct {
	c     *conn
	raw   net.Conn
	name  string
	err   error
	asked bool
}

// admit sets what the client may authenticate by. A password is not offered: who
// is refused would be asked for one.
func (d *door) admit(config *ssh.ServerConfig) {
	config.NoClientAuth = true
	config.NoClientAuthCallback = func(meta ssh.ConnMetadata) (*ssh.Permissions, error) { return nil, d.enter(meta.User()) }
	config.PublicKeyCallback = func(meta ssh.ConnMetadata, _ ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, d.enter(meta.User())
	}
}

// enter asks once, whatever a client tries. A refusal reaches the caller as a
// banner, which every client shows.
func (d *door) enter(name string) error {
	switch {
	case !d.asked:
		d.asked, d.name = true, name
	case name != d.name:
		return errors.New("a connection is for one workspace")
	default:
		return d.err // the banner was shown
	}
	ctx, cancel := context.WithTimeout(d.c.ctx, enterTimeout)
	defer cancel()
	space, err := d.c.s.c.Enter(ctx, d.raw, name)
	if err != nil {
		d.err = err
		return &ssh.BannerError{Err: err, Message: told(err) + "\n"}
	}
	d.c.space = space
	return nil
}

// TurnAway tells an ssh client why nobody is let in here, and closes. It needs
// no host key: the words come before keys are exchanged.
func TurnAway(c net.Conn, why string) error {
	defer c.Close()
	if err := sayGoodbye(c, told(errors.New(why))); err != nil {
		return fmt.Errorf("turning an ssh client away: %w", err)
	}
	return nil
}
