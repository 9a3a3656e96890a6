package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
)

// Dial connects to an address of the workspace; a port on either loopback, IPv4
// first. ErrRefused means that the address is outside. The connection has
// CloseWrite. The end of ctx after Dial does not touch it.
func (c *Client) Dial(ctx context.Context, a Address) (net.Conn, error) {
	conn, err := c.through(ctx, request{Op: "dial", Address: &a})
	if err != nil {
		return nil, fmt.Errorf("dialling the workspace: %w", err)
	}
	return conn, nil
}

// through makes a call whose connection becomes the answer.
func (c *Client) through(ctx context.Context, q request) (net.Conn, error) {
	conn, stop, err := c.open(ctx, q, nil)
	if err != nil {
		return nil, err
	}
	if _, err := readAnswer(conn); err != nil {
		stop()
		return nil, cause(ctx, err)
	}
	if !conn.release() {
		return nil, context.Cause(ctx)
	}
	return conn.Conn, nil
}

// Listener waits for connections to an address of the workspace.
type Listener struct {
	client *Client
	conn   *call
	stop   func()
	r      *bufio.Reader
	port   int
}

// Listen listens at an address of the workspace; port 0 picks one. It ends with
// Close, and the end of ctx after Listen does not touch it.
func (c *Client) Listen(ctx context.Context, a Address) (*Listener, error) {
	conn, stop, err := c.open(ctx, request{Op: "listen", Address: &a}, nil)
	if err != nil {
		return nil, fmt.Errorf("listening in the workspace: %w", err)
	}
	got, err := readAnswer(conn)
	if err != nil {
		stop()
		return nil, fmt.Errorf("listening in the workspace: %w", cause(ctx, err))
	}
	if !conn.release() {
		return nil, fmt.Errorf("listening in the workspace: %w", context.Cause(ctx))
	}
	return &Listener{client: c, conn: conn, stop: stop, r: bufio.NewReader(conn), port: got.Port}, nil
}

// Port is the TCP port that it listens on; 0: a unix socket.
func (l *Listener) Port() int { return l.port }

// Next waits for a connection. Fetch is to be called within some seconds; from
// is the address that it came from. For one goroutine at a time.
func (l *Listener) Next() (fetch func(context.Context) (net.Conn, error), from string, err error) {
	kind, b, err := readFrame(l.r, maxHead)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, "", fmt.Errorf("listening in the workspace: %w", err)
	}
	var g guest
	if kind != kindGuest || json.Unmarshal(b, &g) != nil {
		return nil, "", fmt.Errorf("listening in the workspace: %w: frame %q", ErrInvalid, kind)
	}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := l.client.through(ctx, request{Op: "accept", ID: g.ID})
		if err != nil {
			return nil, fmt.Errorf("taking a connection of the workspace: %w", err)
		}
		return conn, nil
	}, g.From, nil
}

// Close ends the listener and Next. Connections that were fetched stay.
func (l *Listener) Close() error {
	l.stop()
	return nil
}
