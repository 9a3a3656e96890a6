package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	errOther := errors.New("of another mesh")
	g := NewGate(GateConfig{Allow: func(_ context.Context, s Service, c Caller) error {
		if c.Node == "stranger" || s == Log && c.Node != "core" {
			return errOther
		}
		return nil
	}})
	defer g.Close()
	for _, c := range []struct {
		name    string
		service Service
		caller  Caller
		want    error
	}{
		{"person on pages", Pages, Caller{Person: "ada"}, nil},
		{"person on the log", Log, Caller{Person: "ada"}, ErrNotNode},
		{"person on calls", Calls, Caller{Person: "ada"}, ErrNotNode},
		{"person on ssh", SSH, Caller{Person: "ada"}, nil},
		{"node on ssh", SSH, Caller{Node: "core"}, ErrNotPerson},
		{"nobody on ssh", SSH, Caller{Name: "tv"}, ErrStranger},
		{"node on pages", Pages, Caller{Node: "core"}, ErrNotPerson},
		{"core node on the log", Log, Caller{Node: "core"}, nil},
		{"worker on the log", Log, Caller{Node: "worker"}, errOther},
		{"worker on calls", Calls, Caller{Node: "worker"}, nil},
		{"node of another mesh", Calls, Caller{Node: "stranger"}, errOther},
		{"nobody on pages", Pages, Caller{Name: "tv"}, ErrStranger},
		{"nobody on calls", Calls, Caller{}, ErrStranger},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := g.Check(t.Context(), c.service, c.caller); !errors.Is(err, c.want) {
				t.Errorf("Check = %v, want %v", err, c.want)
			}
		})
	}
}

// TestAcceptLivesOn: callers that are refused, silent or gone are in nobody's
// way, and the connection that gets in knows who called.
func TestAcceptLivesOn(t *testing.T) {
	var log logs
	turn := make(chan string, 8)
	silent := make(chan struct{})
	d := newDoor(t, GateConfig{Logger: log.logger()}, func(ctx context.Context, c net.Conn) (Visit, error) {
		switch who := <-turn; who {
		case "silent":
			close(silent)
			_, err := io.ReadFull(c, make([]byte, 1))
			return Visit{}, err
		case "unknown":
			return Visit{}, fmt.Errorf("asking the network: %w", ErrStranger)
		case "person":
			return Visit{Service: Calls, Caller: Caller{Person: "eve"}}, nil
		default:
			return Visit{Service: Calls, Caller: Caller{Node: who}}, nil
		}
	})
	l := d.listen(t, Calls)
	for _, who := range []string{"silent", "unknown", "person", "n1"} {
		turn <- who
		c, err := d.dial(t.Context(), "", Calls)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if who == "silent" {
			<-silent
		}
		if who == "unknown" || who == "person" {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("%s: reading = %v, want the end", who, err)
			}
		}
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	who := c.(interface{ Caller() Caller }).Caller()
	if who.Node != "n1" {
		t.Errorf("Caller = %v, want node n1", who)
	}
	for _, want := range []string{ErrStranger.Error(), ErrNotNode.Error(), "who=eve"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, &log)
		}
	}
}

// TestCloseEndsConnections: both those that were taken and those that were not,
// and callers that have not said who they are.
func TestCloseEndsConnections(t *testing.T) {
	block := make(chan struct{})
	identified := make(chan struct{}, 3)
	d := newDoor(t, GateConfig{}, func(ctx context.Context, c net.Conn) (Visit, error) {
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err != nil {
			return Visit{}, err
		}
		identified <- struct{}{}
		return Visit{Service: Calls, Caller: Caller{Node: "n1"}}, nil
	})
	defer close(block)
	l := d.listen(t, Calls)
	var conns []net.Conn
	for i := range 3 {
		c, err := d.dial(t.Context(), "", Calls)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i < 2 {
			c.Write([]byte("x"))
			<-identified
		}
		conns = append(conns, c)
	}
	taken, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Close took %s", took)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v, want net.ErrClosed", err)
	}
	if _, err := taken.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading from a taken connection = %v, want net.ErrClosed", err)
	}
	for i, c := range conns {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("connection %d is still open: %v", i, err)
		}
	}
	if _, err := d.Listen(Log, nil, nil); !errors.Is(err, ErrNotUp) {
		t.Errorf("Listen = %v, want ErrNotUp", err)
	}
	if _, err := d.Track(conns[0]); !errors.Is(err, ErrNotUp) {
		t.Errorf("Track = %v, want ErrNotUp", err)
	}
}

// TestListenAgain: a service has one listener, and can have another later.
// forgotten is a connection as the tailnet's become when the other side hangs up.
type forgotten struct{ net.Conn }

func (forgotten) LocalAddr() net.Addr  { return nil }
func (forgotten) RemoteAddr() net.Addr { return nil }

// TestForgottenAddresses: who asks for the address of a caller who has hung up
// gets an answer, and not a panic.
func TestForgottenAddresses(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	g := NewGate(GateConfig{})
	defer g.Close()
	c, err := g.Track(forgotten{near})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.RemoteAddr().String() + ", " + c.LocalAddr().String(); got != "somebody who has hung up, somebody who has hung up" {
		t.Errorf("the addresses are %s", got)
	}
}

func TestListenAgain(t *testing.T) {
	d := newDoor(t, GateConfig{}, node("n1"))
	l := d.listen(t, Calls)
	if _, err := d.Listen(Calls, nil, nil); err == nil {
		t.Error("a second listener of the same service")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closing again = %v, want net.ErrClosed", err)
	}
	l = d.listen(t, Calls)
	c, err := d.dial(t.Context(), "", Calls)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
}

// TestInside: a node reaches its own services without the network, as itself.
func TestInside(t *testing.T) {
	d := newDoor(t, GateConfig{}, node("n1"))
	if _, err := d.Inside(t.Context(), Calls, Caller{Node: "self"}); err == nil {
		t.Error("connected to a service that is not there")
	}
	l := d.listen(t, Calls)
	if _, err := d.Inside(t.Context(), Calls, Caller{Person: "ada"}); !errors.Is(err, ErrNotNode) {
		t.Errorf("Inside as a person = %v, want ErrNotNode", err)
	}
	near, err := d.Inside(t.Context(), Calls, Caller{Node: "self"})
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		near.Write([]byte("hello"))
		near.Close()
	}()
	if got, err := io.ReadAll(far); string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestRefusalsArePaced: a caller who is refused a thousand times does not write
// a thousand lines.
func TestRefusalsArePaced(t *testing.T) {
	var log logs
	g := NewGate(GateConfig{Logger: log.logger()})
	defer g.Close()
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	for range 1000 {
		g.refuse(Log, from, Caller{Person: "eve"}, ErrNotNode)
	}
	if n := strings.Count(log.String(), "\n"); n < 1 || n > 10 {
		t.Errorf("%d lines, want a few", n)
	}
	g.refusals.second = time.Now().Add(-time.Second)
	g.refuse(Log, from, Caller{Person: "eve"}, ErrNotNode)
	if !strings.Contains(log.String(), "unlogged=9") {
		t.Errorf("the log does not say how many lines it lacks:\n%s", &log)
	}
}

func TestGranted(t *testing.T) {
	for _, c := range []struct {
		name     string
		grants   []Grant
		role     Role
		projects string
		in       map[string]Role
	}{
		{"none", nil, "", "[]", map[string]Role{"p1": ""}},
		{"owner of all", []Grant{{Owner, []string{"*"}}}, Owner, "[*]", map[string]Role{"p1": Owner}},
		{"no projects named", []Grant{{Role: Viewer}}, Viewer, "[*]", map[string]Role{"p1": Viewer}},
		{"member of two", []Grant{{Member, []string{"p2"}}, {Member, []string{"p1", "p2"}}}, Member, "[p1 p2]", map[string]Role{"p1": Member, "p3": ""}},
		{"owner of one sees all", []Grant{{Viewer, []string{"*"}}, {Owner, []string{"p1"}}}, Owner, "[p1]", map[string]Role{"p1": Owner, "p2": Viewer}},
		{"what is no role of people", []Grant{{"peer", nil}, {"", []string{"*"}}}, "", "[]", map[string]Role{"p1": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Caller{Person: "ada"}.Granted(c.grants)
			if got.Role != c.role || fmt.Sprint(got.Projects) != c.projects {
				t.Errorf("Role %q in %v, want %q in %s", got.Role, got.Projects, c.role, c.projects)
			}
			for project, want := range c.in {
				if role := got.RoleIn(project); role != want {
					t.Errorf("RoleIn(%q) = %q, want %q", project, role, want)
				}
			}
		})
	}
}
