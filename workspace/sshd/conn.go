package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	handshakeTimeout = 20 * time.Second // to the end of authentication
	enterTimeout     = 15 * time.Second
	maxChannels      = 256 // at once on one connection
)

// conn is a connection whose caller has entered a workspace.
type conn struct {
	s     *Server
	raw   net.Conn
	ssh   *ssh.ServerConn
	space *Space
	ctx   context.Context // ends with the connection

	did1st    sync.Once
	busy      chan struct{} // closed when the caller has done anything
	dismissed chan struct{} // closed when they may not be here any more
	why       error         // of that

	mu        sync.Mutex
	listening map[string]closer // of -R and -A, by what the client asked for
	agent     string            // path of the socket that leads to the client's; "": none
}

type closer interface{ Close() error }

// serve says hello, lets the caller enter, and serves until the end.
func (s *Server) serve(ctx context.Context, raw net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	c := &conn{s: s, raw: raw, ctx: ctx, listening: map[string]closer{}, busy: make(chan struct{}), dismissed: make(chan struct{})}
	config := &ssh.ServerConfig{ServerVersion: "SSH-2.0-samnode"}
	(&door{c: c, raw: raw}).admit(config)
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fmt.Errorf("limiting the handshake: %w", err)
	}
	key, err := s.hostKey(ctx)
	if err != nil {
		return err
	}
	config.AddHostKey(key)
	sc, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		return fmt.Errorf("saying hello: %w", err)
	}
	defer sc.Close()
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("after the handshake: %w", err)
	}
	c.ssh = sc
	c.serve(cancel, channels, requests)
	return nil
}

func (s *Server) hostKey(ctx context.Context) (ssh.Signer, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	text, err := s.c.HostKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("reading the host key: %w", err)
	}
	return key, nil
}

func (c *conn) serve(cancel context.CancelFunc, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	var wg sync.WaitGroup
	wg.Go(func() { c.keepAlive() })
	wg.Go(func() { c.askAgain() })
	wg.Go(func() { c.sit() })
	wg.Go(func() { c.requests(requests) })
	slots := make(chan struct{}, maxChannels)
	for ch := range channels { // until the connection ends
		select {
		case slots <- struct{}{}:
		default:
			c.refuse(ch, ssh.ResourceShortage, fmt.Errorf("one connection has %d channels at most", maxChannels))
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			c.channel(ch)
		})
	}
	cancel()
	c.mu.Lock()
	for _, l := range c.listening {
		l.Close()
	}
	c.mu.Unlock()
	wg.Wait()
}

// check asks whether the caller may still be here.
func (c *conn) check() error {
	if c.space.Check == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, enterTimeout)
	defer cancel()
	return c.space.Check(ctx)
}

func (c *conn) channel(ch ssh.NewChannel) {
	switch ch.ChannelType() {
	case "session":
		c.session(ch)
	case "direct-tcpip":
		c.dialPort(ch)
	case "direct-streamlocal@openssh.com":
		c.dialSocket(ch)
	default:
		c.refuse(ch, ssh.UnknownChannelType, fmt.Errorf("there are no channels of type %.40q", ch.ChannelType()))
	}
}

func (c *conn) refuse(ch ssh.NewChannel, why ssh.RejectionReason, err error) {
	if err := ch.Reject(why, told(err)); err != nil && c.ctx.Err() == nil {
		c.s.logger.Debug("refusing a channel", "err", err)
	}
}

// requests answers what is asked of the connection as a whole.
func (c *conn) requests(requests <-chan *ssh.Request) {
	for r := range requests {
		ok, payload := c.request(r)
		if !r.WantReply {
			continue
		}
		if err := r.Reply(ok, payload); err != nil && c.ctx.Err() == nil {
			c.s.logger.Debug("answering a request", "type", r.Type, "err", err)
		}
	}
}

func (c *conn) request(r *ssh.Request) (ok bool, payload []byte) {
	var err error
	switch r.Type {
	case "tcpip-forward":
		payload, err = c.listenPort(r.Payload)
	case "streamlocal-forward@openssh.com":
		err = c.listenSocket(r.Payload)
	case "cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com":
		err = c.unlisten(r.Type, r.Payload)
	default: // a keep-alive too: a no is an answer
		return false, nil
	}
	if err != nil {
		c.s.logger.Info("an ssh request was refused", "type", r.Type, "err", err)
	}
	return err == nil, payload
}

// keepAlive ends the connection when the client is gone without a word.
func (c *conn) keepAlive() {
	tick := time.NewTicker(c.s.c.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		late := time.AfterFunc(3*c.s.c.KeepAlive, func() { c.ssh.Close() })
		_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			return
		}
	}
}

// ignoreClosed drops the errors of saying something to who has left.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
