package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/shim"
)

// TestMain is also the shim, which needs a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "shim" {
		os.Exit(m.Run())
	}
	dir := os.Args[2]
	err := shim.Main(context.Background(), shim.Config{Socket: filepath.Join(dir, "s"), Journal: dir + "/", Home: dir, Shell: "/bin/sh"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// real are the terminals of a shim.
type real struct {
	spaces
	c      *shim.Client
	socket string
}

func (r *real) Connect(ctx context.Context, _ chat.TaskID) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", r.socket)
}

func newReal(t *testing.T) *real {
	t.Helper()
	dir, err := os.MkdirTemp("", "sn") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "shim", dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := errors.Join(cmd.Wait(), os.RemoveAll(dir)); err != nil {
			t.Errorf("ending the shim: %v", err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := shim.Dial(t.Context(), filepath.Join(dir, "s"))
		if err == nil {
			return &real{c: c, socket: filepath.Join(dir, "s")}
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// until reads until the text was shown.
func until(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var shown strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(shown.String(), text) {
		n, err := r.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			t.Fatalf("the terminal showed %q, then %v", shown.String(), err)
		}
	}
}

// Two attach to one shell by way of another node: both see the same, one
// leaves and comes back, and the shell's end is everybody's.
func TestRealTerminal(t *testing.T) {
	t.Parallel()
	node, _ := pair(t, ServerConfig{Spaces: newReal(t)})
	c := shim.NewClient(func(ctx context.Context) (net.Conn, error) { return node.Connect(ctx, "a", "t") })
	open := func(rows, cols uint16) *shim.Terminal {
		t.Helper()
		term, err := c.OpenTerminal(t.Context(), shim.TerminalSpec{ID: "t1", Rows: rows, Cols: cols})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { term.Close() })
		return term
	}
	say := func(term *shim.Terminal, line string) {
		t.Helper()
		if _, err := term.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	ana, ben := open(31, 97), open(0, 0)
	say(ana, "stty size; echo o''ne")
	until(t, ana, "31 97\r\none")
	until(t, ben, "31 97\r\none")
	if err := ben.Resize(40, 120); err != nil {
		t.Fatal(err)
	}
	say(ben, "stty size")
	until(t, ana, "40 120")
	if err := ana.Close(); err != nil {
		t.Fatal(err)
	}
	say(ben, "echo t''wo")
	until(t, ben, "two")
	ana = open(0, 0)
	until(t, ana, "two") // the replay
	list, err := c.Terminals(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != "t1" || list[0].Attached != 2 || list[0].Rows != 40 {
		t.Errorf("Terminals = %+v, %v", list, err)
	}
	say(ana, "exit 3")
	for _, term := range []*shim.Terminal{ana, ben} {
		if _, err := io.Copy(io.Discard, term); err != nil {
			t.Errorf("the end of the shell reads as %v", err)
		}
	}
	if err := c.CloseTerminal(t.Context(), "t1"); !errors.Is(err, shim.ErrNotFound) {
		t.Errorf("closing what has ended: %v", err)
	}
}
