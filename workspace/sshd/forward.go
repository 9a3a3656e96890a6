package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/samnode/samnode/workspace/shim"
)

// dialPort is -L, -D and -J: a connection from the client to a port of the
// workspace.
func (c *conn) dialPort(nc ssh.NewChannel) {
	var to struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil || to.Port > 65535 {
		c.refuse(nc, ssh.ConnectionFailed, errors.New("that is no address"))
		return
	}
	if to.Port == sshPort && c.s.c.Node != nil && c.s.c.Node(to.Host) {
		c.jump(nc)
		return
	}
	c.dial(nc, shim.Address{Host: to.Host, Port: int(to.Port)})
}

// dialSocket is -L with a path.
func (c *conn) dialSocket(nc ssh.NewChannel) {
	var to struct {
		Path      string
		Reserved  string
		Reserved2 uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil || to.Path == "" {
		c.refuse(nc, ssh.ConnectionFailed, errors.New("that is no path"))
		return
	}
	c.dial(nc, shim.Address{Path: to.Path})
}

func (c *conn) dial(nc ssh.NewChannel, a shim.Address) {
	if err := c.check(); err != nil {
		c.refuse(nc, ssh.Prohibited, err)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, enterTimeout)
	defer cancel()
	to, err := c.space.Shim.Dial(ctx, a)
	if err != nil {
		why := ssh.ConnectionFailed
		if errors.Is(err, shim.ErrRefused) {
			why = ssh.Prohibited
		}
		c.refuse(nc, why, err)
		return
	}
	defer to.Close()
	ch, requests, err := nc.Accept()
	if err != nil {
		return // the connection has ended
	}
	c.forward(placeOf(a), ch, requests, to)
}

// placeOf says where a forwarded connection ends.
func placeOf(a shim.Address) string {
	if a.Path != "" {
		return a.Path
	}
	return "port " + strconv.Itoa(a.Port)
}

// forward carries a connection, and tells of it.
func (c *conn) forward(what string, ch ssh.Channel, requests <-chan *ssh.Request, to net.Conn) {
	var moved counter
	done := c.did(UseForward, what)
	defer func() { done(moved.n.Load()) }()
	c.join(ch, requests, to, &moved)
}

// join copies both ways until both have ended. The end of one way closes that
// way only.
func (c *conn) join(ch ssh.Channel, requests <-chan *ssh.Request, to net.Conn, moved *counter) {
	go ssh.DiscardRequests(requests)
	defer ch.Close()
	defer to.Close()
	defer context.AfterFunc(c.ctx, func() { to.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() {
		if copied(moved.writer(ch), to) {
			_ = ignoreClosed(ch.CloseWrite()) // the client may have closed it
			return
		}
		ch.Close()
		to.Close()
	})
	wg.Go(func() {
		if half, ok := to.(interface{ CloseWrite() error }); copied(moved.writer(to), ch) && ok {
			_ = ignoreClosed(half.CloseWrite()) // the other end may be gone
			return
		}
		ch.Close()
		to.Close()
	})
	wg.Wait()
}

// copied copies until the end; false: something broke.
func copied(to io.Writer, from io.Reader) bool {
	_, err := io.CopyBuffer(writer{to}, reader{from}, make([]byte, 64<<10))
	return err == nil
}

// listenPort is -R: a port of the workspace whose connections come to the
// client.
func (c *conn) listenPort(payload []byte) ([]byte, error) {
	var at struct {
		Host string
		Port uint32
	}
	if err := ssh.Unmarshal(payload, &at); err != nil || at.Port > 65535 {
		return nil, errors.New("that is no address")
	}
	l, err := c.listen(shim.Address{Host: at.Host, Port: int(at.Port)})
	if err != nil {
		return nil, err
	}
	port := uint32(l.Port())
	if err := c.keep(portKey(at.Host, port), l); err != nil {
		return nil, err
	}
	go c.guests(l, func(from string) (string, []byte) {
		host, text, err := net.SplitHostPort(from)
		number, convErr := strconv.ParseUint(text, 10, 16)
		if err != nil || convErr != nil {
			host, number = "127.0.0.1", 0
		}
		return "forwarded-tcpip", ssh.Marshal(struct {
			Host     string
			Port     uint32
			From     string
			FromPort uint32
		}{at.Host, port, host, uint32(number)})
	})
	if at.Port == 0 {
		return ssh.Marshal(struct{ Port uint32 }{port}), nil
	}
	return nil, nil
}

// listenSocket is -R with a path.
func (c *conn) listenSocket(payload []byte) error {
	var at struct{ Path string }
	if err := ssh.Unmarshal(payload, &at); err != nil || at.Path == "" {
		return errors.New("that is no path")
	}
	l, err := c.listen(shim.Address{Path: at.Path})
	if err != nil {
		return err
	}
	if err := c.keep(at.Path, l); err != nil {
		return err
	}
	go c.guests(l, func(string) (string, []byte) {
		return "forwarded-streamlocal@openssh.com", ssh.Marshal(struct{ Path, Reserved string }{at.Path, ""})
	})
	return nil
}

func (c *conn) listen(a shim.Address) (*shim.Listener, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, enterTimeout)
	defer cancel()
	return c.space.Shim.Listen(ctx, a)
}

func portKey(host string, port uint32) string { return fmt.Sprintf("%s:%d", host, port) }

// keep remembers a listener until it is cancelled or the connection ends.
func (c *conn) keep(key string, l closer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil || c.listening[key] != nil {
		return errors.Join(fmt.Errorf("%s is forwarded already", key), l.Close())
	}
	c.listening[key] = l
	return nil
}

func (c *conn) unlisten(kind string, payload []byte) error {
	var port struct {
		Host string
		Port uint32
	}
	var socket struct{ Path string }
	key := ""
	if kind == "cancel-tcpip-forward" && ssh.Unmarshal(payload, &port) == nil {
		key = portKey(port.Host, port.Port)
	} else if ssh.Unmarshal(payload, &socket) == nil {
		key = socket.Path
	}
	c.mu.Lock()
	l := c.listening[key]
	delete(c.listening, key)
	c.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%q is not forwarded", key)
	}
	return l.Close()
}

// guests carries each connection of a listener to the client.
func (c *conn) guests(l *shim.Listener, channel func(from string) (kind string, extra []byte)) {
	defer l.Close()
	for {
		fetch, from, err := l.Next()
		if err != nil {
			return // it was closed, or the workspace is gone
		}
		go func() {
			if err := c.guest(fetch, channel, from); err != nil && c.ctx.Err() == nil {
				c.s.logger.Info("carrying a connection out of a workspace", "err", err)
			}
		}()
	}
}

func (c *conn) guest(fetch func(context.Context) (net.Conn, error), channel func(string) (string, []byte), from string) error {
	ctx, cancel := context.WithTimeout(c.ctx, enterTimeout)
	defer cancel()
	in, err := fetch(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := c.check(); err != nil {
		return err
	}
	kind, extra := channel(from)
	ch, requests, err := c.ssh.OpenChannel(kind, extra)
	if err != nil {
		return fmt.Errorf("reaching the client: %w", err)
	}
	c.forward("from inside to the client", ch, requests, in)
	return nil
}
