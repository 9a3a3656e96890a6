package loopback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/samnode/samnode/mesh"
)

// ListenPages listens at an address of the loopback interface for the person
// who runs this program, and root. Logger may be nil.
func ListenPages(ctx context.Context, addr string, logger *slog.Logger) (net.Listener, error) {
	person, err := owner()
	if err != nil {
		return nil, err
	}
	raw, err := listen(ctx, addr)
	if err != nil {
		return nil, err
	}
	n := &Node{owner: person, uid: os.Getuid(), gate: mesh.NewGate(mesh.GateConfig{Logger: logger})}
	l, err := n.gate.Listen(mesh.Pages, raw.Addr(), nil)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if err := n.gate.Serve(raw, n.person); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return &own{l, n.gate}, nil
}

// own is a listener with a gate of its own.
type own struct {
	net.Listener
	gate *mesh.Gate
}

// Close implements net.Listener. It closes the connections, too.
func (o *own) Close() error { return o.gate.Close() }
