package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/samnode/samnode/workspace/sshd"
)

func (c *cli) ssh() *cobra.Command {
	var o sshOptions
	var list bool
	cmd := &cobra.Command{
		Use:   "ssh TASK [COMMAND...]",
		Short: "Enter a task's workspace, or run a command there",
		Long: "Enter a task's workspace, wherever it is, or run a command there and exit with its code. It needs no ssh client; with one,\n" +
			"see samnode ssh-config.\n\n" +
			"A shell stays when you leave without ending it (exit, Ctrl-D): the next samnode ssh, or ssh, goes on in it, also after\n" +
			"the node was restarted. --new gives a fresh one, --shell NAME one of that name, which several may share: also one of the page (t1) or of another\n" +
			"person, as --list calls it. --watch NAME shows one without typing.",
		Args: args(cobra.ArbitraryArgs),
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the task is the command's
	f.BoolVar(&o.fresh, "new", false, "a fresh shell, not one that was left")
	f.StringVar(&o.shell, "shell", "", "the shell of that name, shared by all your connections that ask for it")
	f.StringVar(&o.watch, "watch", "", "look at the shell of that name without typing; Ctrl-C leaves")
	f.BoolVar(&list, "list", false, "list the shells that are open, and who is in them")
	f.BoolVarP(&o.tty, "tty", "t", false, "run the command on a terminal")
	f.BoolVar(&o.stdio, "stdio", false, "be the ProxyCommand of an ssh client: carry its connection to the node, for the task if one is named")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		switch {
		case o.stdio:
			return c.sshStdio(cmd.Context(), strings.TrimSuffix(strings.Join(a, ""), "."+localSSH))
		case len(a) == 0:
			return &exitError{exitUsage, "which task? samnode task list shows them"}
		case o.fresh && o.shell != "" || o.watch != "" && (o.fresh || o.shell != ""):
			return &exitError{exitUsage, "--new, --shell and --watch exclude each other"}
		case list:
			shells := c.taskShells()
			shells.SetContext(cmd.Context())
			return shells.RunE(shells, a[:1])
		}
		return c.enterSpace(cmd.Context(), a[0], strings.Join(a[1:], " "), o)
	}
	return cmd
}

type sshOptions struct {
	fresh, tty, stdio bool
	shell, watch      string
}

// dialSSH opens a connection of SSH by way of the node's API, for a task; empty:
// the one that the client's user names.
func (c *cli) dialSSH(ctx context.Context, task string) (net.Conn, error) {
	u, err := url.Parse(c.api)
	if err != nil || u.Host == "" {
		return nil, &exitError{exitUsage, fmt.Sprintf("--api %q is not the URL of a node", c.api)}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := dialHTTP(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("%w at %s (is `samnode dev` running?): %w", errUnreachable, c.api, err)
	}
	late := context.AfterFunc(ctx, func() { conn.Close() })
	r := bufio.NewReader(conn)
	err = upgrade(conn, r, u, task)
	if !late() && err == nil {
		err = context.Cause(ctx)
	}
	if _, said := errors.AsType[*apiError](err); err != nil && !said {
		err = fmt.Errorf("%w at %s: %w", errUnreachable, c.api, err)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &upgraded{conn, r}, nil
}

func dialHTTP(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if u.Scheme == "https" {
		if port == "" {
			port = "443"
		}
		return new(tls.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	}
	if port == "" {
		port = "80"
	}
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
}

// upgrade asks for SSH on a connection of HTTP.
func upgrade(conn net.Conn, r *bufio.Reader, u *url.URL, task string) error {
	_, path, _ := strings.Cut(sshPath, " ")
	_, err := fmt.Fprintf(conn, "GET %s?task=%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
		path, url.QueryEscape(task), u.Host, sshProtocol)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return refusal(resp)
	}
	return nil
}

// upgraded is a connection that was one of HTTP.
type upgraded struct {
	net.Conn
	r *bufio.Reader // has what came with the last message of HTTP
}

func (s *upgraded) Read(b []byte) (int, error) { return s.r.Read(b) }

// sshStdio carries an ssh client's own connection.
func (c *cli) sshStdio(ctx context.Context, task string) error {
	conn, err := c.dialSSH(ctx, task)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		_, _ = io.Copy(conn, c.in) // the client's end
		conn.Close()
	}()
	if _, err := io.Copy(c.out, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("carrying ssh: %w", err)
	}
	return nil
}

// enterSpace runs a shell or a command in a task's workspace.
func (c *cli) enterSpace(ctx context.Context, task, command string, o sshOptions) error {
	var info sshInfo
	if err := c.client().call(ctx, http.MethodGet, "ssh", nil, &info); err != nil {
		return err
	}
	conn, err := c.dialSSH(ctx, task)
	if err != nil {
		return err
	}
	space, err := sshd.Connect(ctx, conn, info.HostKey, task)
	if errors.Is(err, sshd.ErrNotIn) {
		return &exitError{exitRefused, err.Error()}
	}
	if err != nil {
		return fmt.Errorf("entering the workspace: %w", err)
	}
	defer space.Close()
	p := sshd.Program{Command: command, Env: sentEnv(o), Stdin: c.in, Stdout: c.out, Stderr: c.err}
	restore, err := c.onTerminal(&p, o.tty)
	if err != nil {
		return err
	}
	code, err := space.Run(ctx, p)
	if err := errors.Join(err, restore()); err != nil {
		return err
	}
	if code != exitDone {
		return &exitError{code: code}
	}
	return nil
}

// sentEnv is what a shell there is told of the one here.
func sentEnv(o sshOptions) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name == "LANG" || strings.HasPrefix(name, "LC_") || name == "COLORTERM" || name == sshd.ShellVariable || name == sshd.WatchVariable {
			env = append(env, v)
		}
	}
	if o.fresh {
		o.shell = "new"
	}
	if o.watch != "" {
		env = append(env, sshd.WatchVariable+"="+o.watch)
	}
	if o.shell != "" {
		env = append(env, sshd.ShellVariable+"="+o.shell)
	}
	return env
}

// onTerminal lets a shell use the terminal that this process is on, if there is
// one; restore gives it back.
func (c *cli) onTerminal(p *sshd.Program, wanted bool) (restore func() error, err error) {
	in, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || p.Command != "" && !wanted {
		if wanted {
			p.Term, p.Rows, p.Cols = "xterm", 24, 80
		}
		return func() error { return nil }, nil
	}
	fd := int(in.Fd())
	if p.Cols, p.Rows, err = term.GetSize(fd); err != nil {
		return nil, fmt.Errorf("reading the terminal's size: %w", err)
	}
	if p.Term = os.Getenv("TERM"); p.Term == "" {
		p.Term = "xterm"
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("handing over the terminal: %w", err)
	}
	var stop func()
	p.Sizes, stop = sizes(fd)
	return sync.OnceValue(func() error {
		stop()
		return term.Restore(fd, before)
	}), nil
}

// sizes follows a terminal's size until stop.
func sizes(fd int) (_ <-chan [2]int, stop func()) {
	changed, out, done := make(chan os.Signal, 1), make(chan [2]int), make(chan struct{})
	signal.Notify(changed, unix.SIGWINCH)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			cols, rows, err := term.GetSize(fd)
			if err != nil {
				continue // it is gone, and so is who looks at it
			}
			select {
			case out <- [2]int{rows, cols}:
			case <-done:
				return
			}
		}
	}()
	return out, func() { signal.Stop(changed); close(done) }
}
