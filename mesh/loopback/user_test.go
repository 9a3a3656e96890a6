package loopback

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestOtherUser: on a machine with several users, the others do not own the
// node. A client that hangs up before it is looked at is nobody's, not root's.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash to call as another user: apt-get install bash")
	}
	var log safeBuffer
	n := up(t, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	servePages(t, n)
	const client = `
trap "" PIPE
exec 3<>/dev/tcp/127.0.0.1/$0 || exit
printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3
if [ $1 = wait ]; then read -t 5 -r line <&3; echo "got $line"; fi
exit 0`
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(n.URL(), "http://"))
	call := func(uid uint32, how string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bash, "-c", client, port, how)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return string(out)
	}
	if got := call(0, "wait"); !strings.Contains(got, "200 OK") {
		t.Errorf("root gets %q", got)
	}
	if got := call(65534, "wait"); strings.Contains(got, "HTTP") {
		t.Errorf("another user gets %q", got)
	}
	if !strings.Contains(log.String(), "not the one with the number 65534") {
		t.Errorf("the log does not say who was refused:\n%s", &log)
	}
	call(65534, "leave")
	if err := nobody(t); err == nil {
		t.Error("a connection whose caller has hung up has an owner")
	}
}

// nobody asks for the owner of a connection whose caller has hung up.
func nobody(t *testing.T) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if owner, err := peerUser(far); err != nil || owner != os.Getuid() {
		t.Errorf("peerUser = %d, %v; want %d", owner, err, os.Getuid())
	}
	io.WriteString(near, "GET / HTTP/1.1\r\n\r\n")
	near.Close()
	_, err = peerUser(far)
	return err
}

func TestPeerUserIPv6(t *testing.T) {
	for _, addr := range []string{"[::1]:0", "127.0.0.1:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Skipf("no %s here: %v", addr, err)
		}
		defer l.Close()
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		if owner, err := peerUser(far); err != nil || owner != os.Getuid() {
			t.Errorf("%s: peerUser = %d, %v; want %d", addr, owner, err, os.Getuid())
		}
	}
}

// BenchmarkPeerUser is what a new connection costs beside a thousand others.
func BenchmarkPeerUser(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var far net.Conn
	for range 1000 {
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer near.Close()
		if far, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
		defer far.Close()
	}
	for b.Loop() {
		if _, err := peerUser(far); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBothWays: the quick question and the list of all sockets agree.
func TestBothWays(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	local, remote := netip.MustParseAddrPort(near.LocalAddr().String()), netip.MustParseAddrPort(l.Addr().String())
	listed, err := findSocket(local, remote)
	if err != nil || listed.owner != os.Getuid() || listed.inode == 0 {
		t.Errorf("findSocket = %+v, %v", listed, err)
	}
	if asked, err := askSocket(local, remote); err != nil || asked != listed {
		t.Errorf("askSocket = %+v, %v; want %+v", asked, err, listed)
	}
	elsewhere := netip.AddrPortFrom(remote.Addr(), remote.Port()^1)
	if s, err := askSocket(local, elsewhere); err == nil {
		t.Errorf("askSocket of a connection that is not there = %+v", s)
	}
	if s, err := findSocket(local, elsewhere); err == nil {
		t.Errorf("findSocket of a connection that is not there = %+v", s)
	}
}
