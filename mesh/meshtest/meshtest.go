package meshtest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/ipn/store/mem"
	"tailscale.com/tsnet"

	"github.com/samnode/samnode/mesh/tailnet"
)

// upTimeout is far more than a node on loopback takes.
const upTimeout = time.Minute

// Control runs a control server until the test ends. Where the machine has
// nothing but loopback, the test is skipped: the network stack needs more.
func Control(t testing.TB) *ControlServer {
	t.Helper()
	return ControlWith(t, ControlConfig{})
}

// ControlWith is Control with a configuration.
func ControlWith(t testing.TB, c ControlConfig) *ControlServer {
	t.Helper()
	if err := tailnet.CheckInterfaces(); errors.Is(err, tailnet.ErrNoInterface) {
		t.Skipf("no tailnet here: %v (ip link add veth0 type veth peer name veth1, an address, and up, is enough)", err)
	}
	if c.Log == nil {
		c.Log = Logger(t)
	}
	s, err := StartControl(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Logger logs into the test's output, and no more when the test has ended.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// UDPPort picks a port for a node's WireGuard.
func UDPPort(t testing.TB) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// Node runs a node until the test ends. Its host name is to begin with the
// control server's prefix.
func Node(t testing.TB, s *ControlServer, hostname string, c tailnet.Config) *tailnet.Node {
	t.Helper()
	c.Dir, c.Hostname, c.ControlURL = cmp.Or(c.Dir, t.TempDir()), hostname, s.URL
	c.Port = cmp.Or(c.Port, UDPPort(t))
	if c.Logger == nil {
		c.Logger = Logger(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	n, err := tailnet.Up(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing %s: %v", hostname, err)
		}
	})
	return n
}

// Device is a device of a person.
type Device struct {
	*tsnet.Server
	Login  string       // its owner's
	Client *http.Client // over the tailnet, by MagicDNS names or addresses
}

// Person runs a person's device until the test ends. Its host name is not to
// begin with the control server's prefix.
func Person(t testing.TB, s *ControlServer, hostname string) *Device {
	t.Helper()
	return PersonWith(t, PersonConfig{Control: s.URL, Hostname: hostname})
}

// PersonWith is Person with a configuration.
func PersonWith(t testing.TB, c PersonConfig) *Device {
	t.Helper()
	c.Dir = cmp.Or(c.Dir, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	d, err := StartPerson(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("closing %s: %v", c.Hostname, err)
		}
	})
	return d
}

// PersonConfig is what a person's device needs.
type PersonConfig struct {
	Control  string // URL of the control server
	Hostname string
	Dir      string // for the time that it runs
	AuthKey  string // where the control server wants one
}

// StartPerson runs a person's device, whose state is gone when it is closed.
func StartPerson(ctx context.Context, c PersonConfig) (*Device, error) {
	quiet := func(string, ...any) {}
	d := &Device{Server: &tsnet.Server{
		Dir: c.Dir, Hostname: c.Hostname, ControlURL: c.Control, AuthKey: c.AuthKey,
		Store: new(mem.Store), Ephemeral: true, UserLogf: quiet, Logf: quiet,
	}}
	status, err := d.Up(ctx)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.Login = status.User[status.Self.UserID].LoginName
	d.Client = &http.Client{Transport: d.Transport()}
	return d, nil
}

// AcceptRoutes lets the device use routes that nodes announce, which is off by
// default on Linux.
func (d *Device) AcceptRoutes(ctx context.Context) error {
	lc, err := d.LocalClient()
	if err != nil {
		return err
	}
	_, err = lc.EditPrefs(ctx, &ipn.MaskedPrefs{Prefs: ipn.Prefs{RouteAll: true}, RouteAllSet: true})
	return err
}

// Transport reaches nodes as the person.
func (d *Device) Transport() *http.Transport {
	return &http.Transport{DialContext: d.Dial, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}
}

// Close ends the device and its connections.
func (d *Device) Close() error {
	if d.Client != nil {
		d.Client.CloseIdleConnections()
	}
	return d.Server.Close()
}
