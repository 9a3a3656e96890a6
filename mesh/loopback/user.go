package loopback

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/mesh"
)

// person lets whoever runs this node use its pages, and root. A machine may
// have other users, and the loopback interface is theirs too.
func (n *Node) person(_ context.Context, c net.Conn) (mesh.Visit, error) {
	if err := n.sameUser(c); err != nil {
		return mesh.Visit{Service: mesh.Pages}, err
	}
	return mesh.Visit{Service: mesh.Pages, Caller: n.owner}, nil
}

// sameUser refuses the programs of other users of this machine.
func (n *Node) sameUser(c net.Conn) error {
	owner, err := peerUser(c)
	if err != nil {
		return fmt.Errorf("%w, and who calls from %s cannot be found out: %w", mesh.ErrNotLocal, c.RemoteAddr(), err)
	}
	if owner != n.uid && owner != 0 {
		return fmt.Errorf("%w, and on it only the user who runs the node, not the one with the number %d", mesh.ErrNotLocal, owner)
	}
	return nil
}

// peerUser returns the user who owns the other end of a connection over the
// loopback interface.
func peerUser(c net.Conn) (int, error) {
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return 0, err
	}
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return 0, err
	}
	s, err := askSocket(remote, local)
	if err != nil { // a kernel without that question, or no such socket
		s, err = findSocket(remote, local)
	}
	if err != nil {
		return 0, err
	}
	// One that its program has closed belongs to nobody: the kernel shows it with
	// user 0 and no inode, so it is not taken for root's.
	if s.inode == 0 {
		return 0, fmt.Errorf("the caller at %s has hung up", remote)
	}
	return s.owner, stillOpen(c)
}

// sock is a socket as the kernel shows it to everyone.
type sock struct {
	owner int
	inode uint64
}

// findSocket looks in the list of all sockets for the one at local that is
// connected to remote. That takes milliseconds where there are many.
func findSocket(local, remote netip.AddrPort) (sock, error) {
	// An IPv4 connection of an IPv6 socket is among the IPv6 ones.
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		s, err := findIn(name, local, remote)
		if err != nil {
			return sock{}, err
		}
		if s != nil {
			return *s, nil
		}
	}
	return sock{}, fmt.Errorf("this machine has no connection from %s to %s", local, remote)
}

func findIn(name string, local, remote netip.AddrPort) (*sock, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ends := [2][]string{procAddrs(local), procAddrs(remote)}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local rem st queues timer retransmits uid timeout inode …
		w := strings.Fields(lines.Text())
		if len(w) < 10 || !slices.Contains(ends[0], w[1]) || !slices.Contains(ends[1], w[2]) {
			continue
		}
		owner, err := strconv.Atoi(w[7])
		if err != nil {
			return nil, err
		}
		inode, err := strconv.ParseUint(w[9], 10, 64)
		return &sock{owner, inode}, err
	}
	return nil, lines.Err()
}

// procAddrs is an address as the kernel writes it: words of the machine's own
// byte order, and IPv4 in either family.
func procAddrs(a netip.AddrPort) []string {
	write := func(ip []byte) string {
		for word := range slices.Chunk(ip, 4) {
			binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
		}
		return strings.ToUpper(hex.EncodeToString(ip)) + fmt.Sprintf(":%04X", a.Port())
	}
	wide := a.Addr().As16()
	list := []string{write(wide[:])}
	if a.Addr().Unmap().Is4() {
		ip := a.Addr().Unmap().As4()
		list = append(list, write(ip[:]))
	}
	return list
}

// stillOpen makes sure that our end is the one that was looked for: had the
// caller hung up, another program could have got its port.
func stillOpen(c net.Conn) error {
	for {
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = wrapped.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("%T is no TCP connection", c)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("asking for the state of the connection: %w", failed)
	}
	const established, closeWait = 1, 8 // the caller may have said all it had to say
	if info.State != established && info.State != closeWait {
		return fmt.Errorf("the caller at %s has hung up", c.RemoteAddr())
	}
	return nil
}
