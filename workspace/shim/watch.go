package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// portsEvery is how soon a watcher is told of a port, and costs the reading of
// two small files in between.
const portsEvery = time.Second

// refuseOwn keeps visitors away from samnode's own ways out of the workspace:
// whoever goes through them spends the task's money and its credentials.
func (s *server) refuseOwn(a Address) error {
	for _, f := range s.config.Forward {
		_, port, err := net.SplitHostPort(f.Listen)
		if err != nil {
			return fmt.Errorf("reading the address of a forward: %w", err)
		}
		if a.Path == "" && port == strconv.Itoa(a.Port) || a.Path != "" && filepath.Clean(s.path(a)) == f.Socket {
			return fmt.Errorf("%w: %s is samnode's own way out of the workspace", ErrRefused, a)
		}
	}
	return nil
}

// watchPorts tells what listens, now and whenever that changes, for as long as
// the caller stays.
func (s *server) watchPorts(ctx context.Context, c net.Conn, w *frameWriter) error {
	if err := w.writeJSON(kindAnswer, answer{}); err != nil {
		return err
	}
	ctx, cancel := untilGone(ctx, c)
	defer cancel()
	tick := time.NewTicker(portsEvery)
	defer tick.Stop()
	var seen map[string]int
	var told []Port
	for first := true; ; first = false {
		found, inodes, err := sockets(false, s.config.Forward)
		if err != nil {
			return err
		}
		if first || !maps.Equal(seen, inodes) || slices.ContainsFunc(told, func(p Port) bool { return p.PID == 0 }) {
			seen = inodes
			if now := owned(found, inodes); first || !slices.Equal(now, told) {
				if err := w.writeJSON(kindPorts, now); err != nil {
					return err
				}
				told = now
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// WatchPorts calls fn with what Ports lists, at once and whenever it changes,
// until ctx ends or the workspace is gone; the error says which.
func (c *Client) WatchPorts(ctx context.Context, fn func([]Port)) error {
	conn, stop, err := c.open(ctx, request{Op: "watch_ports"}, nil)
	if err != nil {
		return fmt.Errorf("watching ports: %w", err)
	}
	defer stop()
	if _, err := readAnswer(conn); err != nil {
		return fmt.Errorf("watching ports: %w", cause(ctx, err))
	}
	r := bufio.NewReader(conn)
	for {
		kind, b, err := readFrame(r, maxHead)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("watching ports: %w", cause(ctx, err))
		}
		var list []Port
		if kind != kindPorts || json.Unmarshal(b, &list) != nil {
			return fmt.Errorf("watching ports: %w: frame %q", ErrInvalid, kind)
		}
		fn(list)
	}
}
