package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/mesh/loopback"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/sshd"
)

func (c *cli) forward() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "forward TASK [LOCAL:]PORT...",
		Short: "Bring ports of a task's workspace to this computer",
		Long: "Listen on this computer, and carry what connects to ports of a task's workspace, wherever that is: any TCP, as it is.\n" +
			"It goes on when a node restarts or the workspace moves; what was connected then is lost, what comes is carried. Each\n" +
			"port is said when it can be used. LOCAL is the port here, by default the same; 0 picks one.\n\n" +
			"  samnode forward 01JD4N 3000 15432:5432",
		Args: args(cobra.MinimumNArgs(2)),
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1", "address of this computer to listen on")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		ways, err := parseWays(a[1:])
		if err != nil {
			return err
		}
		return c.forwardPorts(cmd.Context(), a[0], listen, ways)
	}
	return cmd
}

// way is a port here that leads to one there.
type way struct{ local, port int }

func parseWays(words []string) ([]way, error) {
	var ways []way
	for _, word := range words {
		here, there, both := strings.Cut(word, ":")
		if !both {
			there = here
		}
		local, err := strconv.ParseUint(here, 10, 16)
		port, err2 := strconv.ParseUint(there, 10, 16)
		if errors.Join(err, err2) != nil || port == 0 {
			return nil, &exitError{exitUsage, fmt.Sprintf("%.40q is not [LOCAL:]PORT with numbers up to 65535", word)}
		}
		if workspace.IsOwnPort(int(port)) {
			return nil, &exitError{exitRefused, fmt.Sprintf("port %d is samnode's own way out of the workspace, and is not forwarded", port)}
		}
		ways = append(ways, way{int(local), int(port)})
	}
	return ways, nil
}

// forwardPorts serves until ctx ends.
func (c *cli) forwardPorts(ctx context.Context, task, listen string, ways []way) error {
	f := &forwarder{c: c, task: task, said: map[string]time.Time{}}
	if err := c.client().call(ctx, http.MethodGet, "ssh", nil, &f.info); err != nil {
		return err
	}
	defer f.close()
	first, err := f.take(ctx)
	if err != nil {
		return err
	}
	f.give(first)
	g, ctx := errgroup.WithContext(ctx)
	var lines []net.Listener
	for _, w := range ways {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(listen, strconv.Itoa(w.local)))
		if err != nil {
			return errors.Join(cannotListen(task, w, err), closeAll(lines))
		}
		lines = append(lines, l)
	}
	if !loopback.IsLoopback(listen) {
		fmt.Fprintf(c.err, "samnode: whoever reaches %s can use these ports now\n", listen)
	}
	for i, l := range lines {
		g.Go(func() error { return f.serve(ctx, l, ways[i].port) })
		if err := c.printWay(l.Addr(), ways[i].port); err != nil {
			return errors.Join(err, closeAll(lines))
		}
	}
	return g.Wait()
}

func closeAll(lines []net.Listener) error {
	var errs []error
	for _, l := range lines {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func cannotListen(task string, w way, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d of this computer is in use; choose another one: samnode forward %s %d:%d", w.local, task, w.local+1, w.port)
	}
	return fmt.Errorf("listening on this computer: %w", err)
}

func (c *cli) printWay(at net.Addr, port int) error {
	if c.json {
		return json.NewEncoder(c.out).Encode(map[string]any{"listen": at.String(), "port": port})
	}
	_, err := fmt.Fprintf(c.out, "%s is port %d of the workspace\n", at, port)
	return err
}

// A lane is an SSH connection into the workspace, which carries many others.
type lane struct {
	*sshd.Client
	open int  // connections that it carries
	dead bool // it has ended
}

const (
	perLane     = 128              // the server takes twice as many
	laneWait    = 15 * time.Second // for a node that restarts
	laneAgain   = 300 * time.Millisecond
	sayAgain    = 5 * time.Second // until the same trouble is told again
	forwardDial = 30 * time.Second
)

// forwarder keeps lanes into one workspace.
type forwarder struct {
	c    *cli
	task string
	info sshInfo

	mu    sync.Mutex // held while a lane is opened: the others wait for it
	lanes []*lane
	said  map[string]time.Time
}

// take returns a lane with room, opening one when there is none.
func (f *forwarder) take(ctx context.Context) (*lane, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lanes {
		if !l.dead && l.open < perLane {
			l.open++
			return l, nil
		}
	}
	conn, err := f.c.dialSSH(ctx, f.task)
	if err != nil {
		return nil, err
	}
	space, err := sshd.Connect(ctx, conn, f.info.HostKey, f.task)
	if errors.Is(err, sshd.ErrNotIn) {
		return nil, &exitError{exitRefused, err.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: entering the workspace: %w", errUnreachable, err)
	}
	l := &lane{Client: space, open: 1}
	f.lanes = append(f.lanes, l)
	go func() {
		_ = space.Wait() // whatever ended it, the next connection opens another
		f.drop(l)
	}()
	return l, nil
}

func (f *forwarder) give(l *lane) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.open--
}

// drop forgets a lane.
func (f *forwarder) drop(l *lane) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.dead = true
	var alive []*lane
	for _, x := range f.lanes {
		if x != l {
			alive = append(alive, x)
		}
	}
	f.lanes = alive
	_ = l.Close() // it may have ended by itself
}

func (f *forwarder) close() {
	f.mu.Lock()
	lines := f.lanes
	f.mu.Unlock()
	for _, l := range lines {
		f.drop(l)
	}
}

// serve carries what connects to l until ctx ends.
func (f *forwarder) serve(ctx context.Context, l net.Listener, port int) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		near, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				near.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting at %s: %w", l.Addr(), err)
		}
		conns.Go(func() {
			defer near.Close()
			if err := f.carry(ctx, near, port); err != nil && ctx.Err() == nil {
				f.say(fmt.Sprintf("port %d: %v", port, err))
			}
		})
	}
}

func (f *forwarder) carry(ctx context.Context, near net.Conn, port int) error {
	l, far, err := f.reach(ctx, port)
	if err != nil {
		return err
	}
	defer f.give(l)
	defer far.Close()
	defer context.AfterFunc(ctx, func() { near.Close(); far.Close() })()
	var ways sync.WaitGroup
	ways.Go(func() { oneWay(far, near) })
	ways.Go(func() { oneWay(near, far) })
	ways.Wait()
	return nil
}

// oneWay copies until the end, which it hands on. What breaks breaks both ways.
func oneWay(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the other end may be gone
	}
}

// reach connects to the port. It is patient with a node that restarts, and not
// with a no.
func (f *forwarder) reach(ctx context.Context, port int) (*lane, net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardDial)
	defer cancel()
	for deadline := time.Now().Add(laneWait); ; {
		l, err := f.take(ctx)
		if err == nil {
			var far net.Conn
			if far, err = l.DialPort(ctx, port); err == nil {
				return l, far, nil
			}
			f.give(l)
			if errors.Is(err, sshd.ErrPort) {
				return nil, nil, err
			}
			if !errors.Is(err, sshd.ErrBusy) {
				f.drop(l)
			}
		} else if !errors.Is(err, errUnreachable) {
			return nil, nil, err
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, nil, err
		}
		select {
		case <-time.After(laneAgain):
		case <-ctx.Done():
		}
	}
}

// say tells of trouble, not each time that it happens.
func (f *forwarder) say(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.said[text]) < sayAgain {
		return
	}
	if len(f.said) > 100 {
		f.said = map[string]time.Time{}
	}
	f.said[text] = time.Now()
	fmt.Fprintln(f.c.err, "samnode:", text)
}
