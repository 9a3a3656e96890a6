package loopback

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/samnode/samnode/mesh"
)

func TestListenRefusesWhatOthersReach(t *testing.T) {
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0", "127.0.0.1"} {
		if l, err := m.Listen(t.Context(), addr); err == nil {
			l.Close()
			t.Errorf("Listen(%q) listens", addr)
		}
	}
	l, err := m.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestWhoIs(t *testing.T) {
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, remote, host string
		ok                 bool
	}{
		{"own browser", "127.0.0.1:5000", "127.0.0.1:7070", true},
		{"by name", "127.0.0.1:5000", "localhost:7070", true},
		{"IPv6", "[::1]:5000", "[::1]:7070", true},
		{"from elsewhere", "192.0.2.7:5000", "127.0.0.1:7070", false},
		{"a name rebound to loopback", "127.0.0.1:5000", "evil.example:7070", false},
		{"no port", "127.0.0.1", "127.0.0.1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr, r.Host = c.remote, c.host
			who, err := m.WhoIs(r)
			if c.ok && (err != nil || who.Role != mesh.Owner || who.Person == "") {
				t.Errorf("WhoIs = %v, %v; want the owner", who, err)
			}
			if !c.ok && !errors.Is(err, mesh.ErrNotLocal) {
				t.Errorf("WhoIs = %v, %v; want ErrNotLocal", who, err)
			}
		})
	}
}
