// Package sshd lets people into workspaces with the ssh they have: shells,
// commands, files and forwarded ports, all inside the workspace.
//
// There are no passwords, and no keys that matter. Who calls is known from the connection
// before a word is said, and Config.Enter says whether that person may enter
// the workspace that the client names as its user. The server offers the
// mesh's own host key, the same at every node, so that a client that knows it
// knows them all.
//
// The server has no workspaces of its own: it talks to a shim, here or by way
// of another node. Nothing it does touches the node's files, programs or
// network.
package sshd

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/samnode/samnode/workspace/shim"
)

// Config is what a Server needs. HostKey and Enter are required.
type Config struct {
	// HostKey reads the mesh's, as NewHostKey makes it, for each connection; it
	// may wait for one.
	HostKey func(context.Context) ([]byte, error)
	// Enter finds the workspace that a caller names, if it may be entered. The
	// error is shown to the caller, so it says what to do. The context ends
	// with the connection.
	Enter func(ctx context.Context, c net.Conn, name string) (*Space, error)
	// Node says whether a host is a node of the mesh, so that a client can jump
	// from one workspace to another; nil: none is.
	Node func(host string) bool
	// KeepAlive is how often a client is asked for a sign of life; after three
	// without an answer it is gone. 0: 15 s.
	KeepAlive time.Duration
	// AskEvery is how often Check is asked while a connection lives; 0: 30 s.
	AskEvery time.Duration
	MaxConns int          // at once; 0: 1000
	Logger   *slog.Logger // nil: none
}

// Space is a workspace that somebody has entered.
type Space struct {
	Shim   *shim.Client
	Dir    string   // the working copy: where programs begin, but not sftp, which begins at home
	Env    []string // of every program
	Binary string   // samnode itself, in the workspace: `Binary sftp-server` serves files
	Shells string   // begins the ids of this person's shells
	Agent  bool     // the caller's own ssh agent may be forwarded into it
	// Check says whether the caller may still be there. It is asked for each
	// shell, command and forwarded connection, and now and then for all that
	// goes on; nil: yes.
	Check func(context.Context) error
	// Who is the caller, as others in a shell read.
	Who shim.Who
	// Did is told of each thing that the caller does, when it begins, and done
	// with the bytes that it moved (0: not known) when it is over. Both keep
	// nobody waiting; nil: nobody wants to know.
	Did func(by Use, what string) (done func(bytes int64))
}

// Server answers SSH.
type Server struct {
	c      Config
	slots  chan struct{}
	logger *slog.Logger
}

// New returns a Server.
func New(c Config) *Server {
	c.KeepAlive, c.AskEvery = cmp.Or(c.KeepAlive, 15*time.Second), cmp.Or(c.AskEvery, 30*time.Second)
	return &Server{
		c: c, slots: make(chan struct{}, cmp.Or(c.MaxConns, 1000)), logger: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)),
	}
}

// Serve answers on l until ctx ends, which is no error. It closes l and all
// connections, and returns when they have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting ssh: %w", err)
		}
		conns.Go(func() { s.ServeConn(ctx, c) })
	}
}

// ServeConn answers on one connection until it or ctx ends, and closes it.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) {
	defer c.Close()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.logger.Warn("an ssh connection was turned away: there are too many", "from", c.RemoteAddr().String())
		return
	}
	if err := s.serve(ctx, c); err != nil && !errors.Is(err, io.EOF) {
		s.logger.Info("an ssh connection ended", "from", c.RemoteAddr().String(), "err", err)
	}
}

// NewHostKey makes a host key.
func NewHostKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "samnode")
	if err != nil {
		return nil, fmt.Errorf("making a host key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// PublicKey is the part of a host key that a known_hosts file holds, after the
// names: "ssh-ed25519 AAAA…".
func PublicKey(hostKey []byte) (string, error) {
	key, err := ssh.ParsePrivateKey(hostKey)
	if err != nil {
		return "", fmt.Errorf("reading the host key: %w", err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))), nil
}

// told is an error as the person at the other end reads it.
func told(err error) string {
	text := strings.ToValidUTF8(err.Error(), "")
	if errors.Is(err, context.DeadlineExceeded) {
		text = "the workspace does not answer; try again in a while"
	}
	return "samnode: " + strings.Map(printable, text)
}

// printable keeps a terminal from being told what to do.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
		return ' '
	}
	return r
}
