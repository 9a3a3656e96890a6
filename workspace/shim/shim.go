// Package shim is the part of samnode that lives inside a workspace, as the
// init of its container, and the client that the node uses to talk to it.
//
// The shim owns the agent's process and the terminals. Everything said to and
// by the agent is a numbered record of a journal on the workspace's volume,
// and a record is shown to nobody before it is synced. A node attaches over a
// unix socket, reads the records from an offset, and may vanish at any moment:
// the agent does not notice, and the next node goes on where the last one
// stopped. What is sent to the agent carries an id; the same id is never sent
// twice, also not by the next shim on the same journal.
//
// The disk sets the pace: while the journal can not be written the agent's
// output is not read, and Hello says so. Nothing is dropped but stderr beyond
// its rate, which leaves a note.
//
// The socket gives full command over the workspace and nothing outside it. As
// init the shim answers only to processes outside its container. The journal
// is a file of the workspace's own user, so it is evidence of what the agent
// said only as far as that user is trusted.
package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Protocol is the version of the socket's protocol. A node and a shim of
// different versions refuse each other with ErrProtocol.
const Protocol = 1

// MaxSend is the longest line that Send takes, in bytes.
const MaxSend = 64 << 20

// Errors that the client returns, also across the socket.
var (
	ErrNotRunning = errors.New("no agent runs")
	ErrRunning    = errors.New("another agent runs")
	ErrStart      = errors.New("the program does not start")               // not found, not executable, no such folder
	ErrUnsent     = errors.New("the agent may not have the line")          // journaled, but stdin broke; never sent again
	ErrNotReading = errors.New("the agent does not read its stdin")        // too much waits already; nothing was journaled
	ErrFull       = errors.New("the journal can not be written")           // usually a full disk; nothing was journaled
	ErrAhead      = errors.New("the journal ends before that record")      // it is not the journal that was read before
	ErrNotFound   = errors.New("no such terminal")                         //
	ErrBusy       = errors.New("somebody is attached to the terminal")     //
	ErrRefused    = errors.New("refused")                                  // a limit, or a caller inside the workspace
	ErrProtocol   = errors.New("the shim speaks another protocol version") //
	ErrInvalid    = errors.New("invalid request")
)

// Config is what Main needs. Socket and Journal are required.
type Config struct {
	Socket  string        // unix socket to serve; its folder protects it, any user may connect
	Journal string        // file on the volume, or a folder in which it is named "journal"
	Forward []Forward     // loopback ports of the workspace that lead to the broker's sockets
	Logger  *slog.Logger  // nil: text on stderr
	Home    string        // HOME of all processes and their default folder; empty: $HOME, else "/"
	User    string        // USER and LOGNAME; empty: $USER, else "agent"
	Shell   string        // of terminals; empty: $SHELL, else bash or sh
	MaxLine int           // bytes of a line that are journaled; 0: 32 MiB
	Grace   time.Duration // for the agent when the shim ends; 0: 5 s, below Docker's 10
}

// Forward is a loopback listener whose connections go to a unix socket.
type Forward struct {
	Listen string // "127.0.0.1:7101"
	Socket string // "/run/samnode/model.sock"
}

const (
	defaultMaxLine = 32 << 20
	defaultGrace   = 5 * time.Second
)

func (c *Config) defaults() error {
	if c.Socket == "" || c.Journal == "" {
		return fmt.Errorf("%w: socket and journal are required", ErrInvalid)
	}
	if info, err := os.Stat(c.Journal); err == nil && info.IsDir() || strings.HasSuffix(c.Journal, "/") {
		c.Journal = filepath.Join(c.Journal, "journal")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	c.Home = firstOf(c.Home, os.Getenv("HOME"), "/")
	c.User = firstOf(c.User, os.Getenv("USER"), "agent")
	c.Shell = firstOf(c.Shell, os.Getenv("SHELL"))
	for _, sh := range []string{"/bin/bash", "/usr/bin/bash", "/bin/sh"} {
		if _, err := os.Stat(sh); err == nil {
			c.Shell = firstOf(c.Shell, sh)
		}
	}
	if c.MaxLine <= 0 || c.MaxLine > defaultMaxLine {
		c.MaxLine = defaultMaxLine
	}
	if c.Grace <= 0 {
		c.Grace = defaultGrace
	}
	return nil
}

// server is the running shim.
type server struct {
	config  Config
	log     *slog.Logger
	started time.Time
	journal *journal
	procs   *procs
	agent   *agent
	terms   *terminals
	guests  guests
}

// Main is the whole shim. It returns when ctx ends or SIGTERM or SIGINT comes,
// after the agent was ended and the journal synced. It reaps every child of
// this process, so it must be the only thing that the process does.
func Main(ctx context.Context, c Config) error {
	if err := c.defaults(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := becomeInit(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.Journal), 0o700); err != nil {
		return fmt.Errorf("making the journal's folder: %w", err)
	}
	f, s, note, err := openJournalFile(c.Journal)
	if err != nil {
		return err
	}
	j := newJournal(osFile{f}, s, c.Logger)
	if err := j.inherit(ctx, s, note); err != nil {
		return errors.Join(err, j.Close())
	}
	p := newProcs(c.Logger)
	defer p.Close()
	srv := &server{
		config: c, log: c.Logger, started: time.Now(), journal: j, procs: p,
		agent: newAgent(j, p, s, c.MaxLine, c.Logger),
		terms: newTerminals(p, c.Logger),
	}
	err = srv.run(ctx)
	return errors.Join(err, j.Close())
}

// becomeInit makes orphans ours, and keeps processes of the same user from
// reading or changing this one through /proc and ptrace.
func becomeInit() error {
	if os.Getpid() != 1 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("becoming a reaper: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing /proc/self: %w", err)
	}
	return nil
}

// run serves until ctx ends, then ends the agent and the terminals.
func (s *server) run(ctx context.Context) error {
	forwards, err := forwardAll(s.config.Forward, s.log)
	if err != nil {
		return err
	}
	defer forwards.Close()
	l, err := listen(s.config.Socket)
	if err != nil {
		return err
	}
	served, serveErr := make(chan struct{}), error(nil)
	conns, closeConns := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(served)
		serveErr = s.serve(conns, l)
	}()
	select {
	case <-ctx.Done():
	case <-served: // the socket broke: there is no way to reach us
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Grace+2*time.Second)
	defer cancel()
	stopErr := s.agent.stop(end, s.config.Grace)
	s.terms.closeAll()
	closeConns()
	l.Close()
	<-served
	return errors.Join(serveErr, stopErr)
}

// listen takes the place of a socket that a dead shim left; the journal's lock
// has already proven that no other one lives.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the old socket: %w", err)
	}
	old := syscall.Umask(0) // the node is another user; no moment with fewer rights than it needs
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

// env is what every process gets, before what its own request adds.
func (s *server) env(more []string) []string {
	base := append(os.Environ(), "HOME="+s.config.Home, "USER="+s.config.User,
		"LOGNAME="+s.config.User, "SHELL="+s.config.Shell)
	if os.Getenv("PATH") == "" {
		base = append(base, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return append(base, more...)
}
