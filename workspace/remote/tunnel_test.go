package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/shim"
)

func TestInside(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, ServerConfig{Spaces: &spaces{}})
	got, err := c.Inside(t.Context(), "a", "t")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(workspace.Inside{Dir: "/workspaces/app", Env: []string{"A=b"}, Binary: "/samnode"}, got); d != "" {
		t.Errorf("Inside (-want +got):\n%s", d)
	}
}

// A tunnel carries both ways at the pace of who reads, and each way ends by
// itself.
func TestTunnel(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, ServerConfig{Spaces: &spaces{}})
	conn, err := c.Connect(t.Context(), "a", "t")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB, more than any buffer on the way
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(want)
		sent <- errors.Join(err, conn.(interface{ CloseWrite() error }).CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, append(want, "bye"...)) {
		t.Errorf("%d bytes came back, want %d", len(got), len(want)+3)
	}
}

func TestTunnelEnds(t *testing.T) {
	t.Parallel()
	connect := func(c *Client) net.Conn {
		conn, err := c.Connect(t.Context(), "a", "t")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	c, s := pair(t, ServerConfig{Spaces: &spaces{}})
	closed, late, cut := connect(c), connect(c), connect(c)
	closed.Close()
	if _, err := closed.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading what was closed = %v", err)
	}
	if err := late.SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading too late = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cut.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("reading when the other node stopped = %v, want an error that is no end", err)
	}
	if _, err := c.Connect(t.Context(), "a", "t"); !errors.Is(err, workspace.ErrAway) {
		t.Errorf("connecting to a node that stops = %v", err)
	}
}

// A whole client of a shim works by way of another node.
func TestRealShim(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, ServerConfig{Spaces: newReal(t)})
	far := shim.NewClient(func(ctx context.Context) (net.Conn, error) { return c.Connect(ctx, "a", "t") })
	var out bytes.Buffer
	code, err := far.Exec(t.Context(), shim.ExecSpec{Command: "tr a-z A-Z; exit 3", Stdin: bytes.NewReader([]byte("hello\n")), Stdout: &out})
	if code != 3 || err != nil || out.String() != "HELLO\n" {
		t.Errorf("Exec = %d, %v with %q", code, err, out.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := far.Exec(ctx, shim.ExecSpec{Command: "sleep 600"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a cancelled command = %v", err)
	}
}
