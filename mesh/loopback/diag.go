package loopback

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The sizes of what is said to the kernel and what it answers: a netlink
// header, a struct inet_diag_req_v2, a struct inet_diag_msg.
const (
	headerSize = 16
	askSize    = headerSize + 56
	answerSize = headerSize + 72
)

// askSocket asks the kernel for the socket at local that is connected to
// remote, which costs the same however many there are.
func askSocket(local, remote netip.AddrPort) (sock, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return sock{}, fmt.Errorf("asking the kernel for a socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return sock{}, fmt.Errorf("asking the kernel for a socket: %w", err)
	}
	if err := unix.Sendto(fd, question(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return sock{}, fmt.Errorf("asking the kernel for a socket: %w", err)
	}
	b := make([]byte, 4096)
	n, from, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return sock{}, fmt.Errorf("asking the kernel for a socket: %w", err)
	}
	if k, ok := from.(*unix.SockaddrNetlink); !ok || k.Pid != 0 {
		return sock{}, errors.New("asking the kernel for a socket: somebody else answers")
	}
	return answer(b[:n])
}

func question(local, remote netip.AddrPort) []byte {
	b := make([]byte, 0, askSize)
	b = binary.NativeEndian.AppendUint32(b, askSize)
	b = binary.NativeEndian.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // number, sender
	family, src, dst := byte(unix.AF_INET6), local.Addr().Unmap().AsSlice(), remote.Addr().Unmap().AsSlice()
	if len(src) == 4 {
		family = unix.AF_INET
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // in any state
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, remote.Port())
	for _, ip := range [][]byte{src, dst} {
		b = append(append(b, ip...), make([]byte, 16-len(ip))...)
	}
	b = append(b, 0, 0, 0, 0)                              // on any interface
	return binary.NativeEndian.AppendUint64(b, ^uint64(0)) // with any cookie
}

func answer(b []byte) (sock, error) {
	if len(b) < headerSize+4 {
		return sock{}, errors.New("asking the kernel for a socket: no answer")
	}
	switch kind := binary.NativeEndian.Uint16(b[4:]); {
	case kind == unix.NLMSG_ERROR:
		return sock{}, fmt.Errorf("asking the kernel for a socket: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(b[headerSize:]))))
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(b) < answerSize:
		return sock{}, fmt.Errorf("asking the kernel for a socket: an answer of kind %d with %d bytes", kind, len(b))
	}
	return sock{
		owner: int(binary.NativeEndian.Uint32(b[headerSize+64:])),
		inode: uint64(binary.NativeEndian.Uint32(b[headerSize+68:])),
	}, nil
}
