package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Client is the other end of a connection, for those who have no ssh.
type Client struct{ ssh *ssh.Client }

// ErrNotIn is what Connect returns when the server refuses; the error's text is
// what it says.
var ErrNotIn = errors.New("not allowed in")

// refusedError reads as the server said it.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }
func (e *refusedError) Unwrap() error { return ErrNotIn }

// Connect enters the workspace of that name over c, whose other end has to
// have that host key, as PublicKey gives it. It closes c when it fails.
func Connect(ctx context.Context, c net.Conn, hostKey, name string) (*Client, error) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(hostKey))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the mesh's host key: %w", err), c.Close())
	}
	var said strings.Builder
	conn, channels, requests, err := ssh.NewClientConn(c, "samnode", &ssh.ClientConfig{
		User: name, HostKeyCallback: ssh.FixedHostKey(key),
		BannerCallback: func(text string) error { said.WriteString(text); return nil },
	})
	if err != nil && said.Len() > 0 {
		err = &refusedError{strings.TrimPrefix(strings.TrimSpace(said.String()), "samnode: ")}
	}
	if err != nil {
		return nil, errors.Join(err, ignoreClosed(c.Close()))
	}
	return &Client{ssh.NewClient(conn, channels, requests)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.ssh.Close() }

// The errors of DialPort. Their text is what the server says.
var (
	ErrPort = errors.New("there is no way to that port") // closed, or not to be forwarded
	ErrBusy = errors.New("this connection carries no more channels")
)

// DialPort connects to a port of the workspace's own interface. The connection
// has CloseWrite. Any other error than those above is the end of the Client.
func (c *Client) DialPort(ctx context.Context, port int) (net.Conn, error) {
	conn, err := c.ssh.DialContext(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(port)))
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	switch {
	case ok && refused.Reason == ssh.ResourceShortage:
		return nil, fmt.Errorf("%w: %s", ErrBusy, refused.Message)
	case ok:
		return nil, fmt.Errorf("%w: %s", ErrPort, strings.TrimPrefix(refused.Message, "samnode: "))
	case err != nil:
		return nil, fmt.Errorf("reaching the workspace: %w", err)
	}
	return conn, nil
}

// Wait waits for the end of the connection.
func (c *Client) Wait() error { return c.ssh.Wait() }

// Program is what a Client runs.
type Program struct {
	Command        string   // for the shell; empty: a shell
	Env            []string // NAME=value
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Term is the kind of terminal to run it on, such as "xterm-256color"; empty:
	// none. Rows and Cols are its size, and Sizes says when that changes.
	Term       string
	Rows, Cols int
	Sizes      <-chan [2]int // rows, columns
}

// Run runs a program until it or ctx ends and returns its exit code.
func (c *Client) Run(ctx context.Context, p Program) (int, error) {
	s, err := c.ssh.NewSession()
	if err != nil {
		return failed, fmt.Errorf("opening a session: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { c.ssh.Close() })()
	s.Stdin, s.Stdout, s.Stderr = p.Stdin, p.Stdout, p.Stderr
	for _, v := range p.Env {
		name, value, _ := strings.Cut(v, "=")
		_ = s.Setenv(name, value) // a server takes what it likes
	}
	if p.Term != "" {
		if err := s.RequestPty(p.Term, p.Rows, p.Cols, ssh.TerminalModes{}); err != nil {
			return failed, fmt.Errorf("asking for a terminal: %w", err)
		}
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case to := <-p.Sizes:
				_ = s.WindowChange(to[0], to[1]) // fails when the connection has ended, which Wait says
			case <-ended:
				return
			}
		}
	}()
	return waited(ctx, start(s, p.Command))
}

// start runs and waits.
func start(s *ssh.Session, command string) error {
	if command != "" {
		return s.Run(command)
	}
	if err := s.Shell(); err != nil {
		return err
	}
	return s.Wait()
}

func waited(ctx context.Context, err error) (int, error) {
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		return exit.ExitStatus(), nil
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if _, ok := errors.AsType[*ssh.ExitMissingError](err); ok {
		err = errors.New("the connection to the node was lost")
	}
	if err != nil {
		return failed, err
	}
	return 0, nil
}
