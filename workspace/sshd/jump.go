package sshd

import (
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const sshPort = 22

// jump is -J by way of one workspace to another of the mesh: this server is as
// good as that node's, and knows already who calls.
func (c *conn) jump(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return // the connection has ended
	}
	go ssh.DiscardRequests(requests)
	c.s.ServeConn(c.ctx, &inner{Channel: ch, outer: c.raw})
}

// inner is a connection within another, of the same caller.
type inner struct {
	ssh.Channel
	outer net.Conn

	mu    sync.Mutex
	timer *time.Timer
}

var _ net.Conn = (*inner)(nil)

// NetConn is the connection that says who calls.
func (i *inner) NetConn() net.Conn { return i.outer }

// LocalAddr implements net.Conn.
func (i *inner) LocalAddr() net.Addr { return i.outer.LocalAddr() }

// RemoteAddr implements net.Conn.
func (i *inner) RemoteAddr() net.Addr { return i.outer.RemoteAddr() }

// SetDeadline ends the connection then, for good.
func (i *inner) SetDeadline(at time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
	if !at.IsZero() {
		i.timer = time.AfterFunc(time.Until(at), func() { i.Close() })
	}
	return nil
}

// SetReadDeadline is SetDeadline.
func (i *inner) SetReadDeadline(at time.Time) error { return i.SetDeadline(at) }

// SetWriteDeadline is SetDeadline.
func (i *inner) SetWriteDeadline(at time.Time) error { return i.SetDeadline(at) }
