package mesh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
)

// door is a gate on a loopback port, whose callers are who the test says.
type door struct {
	*Gate
	addr string
	who  Identify
}

func node(name string) Identify {
	return func(context.Context, net.Conn) (Visit, error) {
		return Visit{Service: Calls, Caller: Caller{Node: name}}, nil
	}
}

func newDoor(t *testing.T, c GateConfig, who Identify) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{NewGate(c), l.Addr().String(), who}
	if err := d.Serve(l, d.who); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

func (d *door) listen(t *testing.T, s Service) net.Listener {
	t.Helper()
	l, err := d.Listen(s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// dial is a twin's Dial to this door, whatever the address.
func (d *door) dial(ctx context.Context, _ string, _ Service) (net.Conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, errors.Join(ErrUnreachable, err)
	}
	return c, nil
}

// logs is a log that is read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
