package shim

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	ordinaryPorts = 32768 // the kernel gives out those from here on by itself
	ticksPerSec   = 100   // USER_HZ, the same on every Linux that Go runs on
	stateListen   = "0A"
)

// listening lists the listening sockets, each port once per address.
func listening(all bool, ours []Forward) ([]Port, error) {
	found, inodes, err := sockets(all, ours)
	if err != nil {
		return nil, err
	}
	return owned(found, inodes), nil
}

// sockets lists the listening sockets without their owners, and where in that
// list an inode is. It is cheap.
func sockets(all bool, ours []Forward) (found []Port, inodes map[string]int, err error) {
	own := map[string]bool{}
	for _, f := range ours {
		own[f.Listen] = true
	}
	inodes = map[string]int{}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		err := eachListener(name, func(addr netip.AddrPort, inode string) {
			known := slices.ContainsFunc(found, func(p Port) bool {
				return p.Port == int(addr.Port()) && p.Address == addr.Addr().String()
			})
			if known || own[addr.String()] || !all && addr.Port() >= ordinaryPorts {
				return
			}
			inodes[inode] = len(found)
			found = append(found, Port{Port: int(addr.Port()), Address: addr.Addr().String()})
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) { // no IPv6: no file
			return nil, nil, fmt.Errorf("listing ports: %w", err)
		}
	}
	return found, inodes, nil
}

// owned puts the owners into a list of sockets, and puts it in order.
func owned(found []Port, inodes map[string]int) []Port {
	if len(found) > 0 {
		nameOwners(found, inodes)
	}
	slices.SortFunc(found, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Address, b.Address))
	})
	return found
}

func eachListener(name string, fn func(netip.AddrPort, string)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		v := strings.Fields(lines.Text())
		if len(v) < 10 || v[3] != stateListen {
			continue // the heading, or a connection
		}
		addr, err := parseAddr(v[1])
		if err != nil {
			return err
		}
		fn(addr, v[9])
	}
	return lines.Err()
}

// parseAddr reads the kernel's form: the address as 32 bit words in the
// machine's order, which is little endian on amd64 and arm64, and the port.
func parseAddr(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("unknown form of address %q", s)
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(net.IP(raw))
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("unknown form of address %q", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

// nameOwners finds which process holds which socket. A process that ends
// meanwhile, or is not ours to look at, stays without a name.
func nameOwners(found []Port, inodes map[string]int) {
	boot := bootTime()
	for _, pid := range pids() {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			to, err := os.Readlink(fd)
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(strings.TrimSuffix(to, "]"), "socket:[")
			i, wanted := inodes[inode]
			if !ok || !wanted || found[i].PID != 0 {
				continue
			}
			s, err := readStat(pid)
			if err != nil {
				continue
			}
			found[i].PID, found[i].Process = pid, s.name
			if !boot.IsZero() {
				found[i].Since = boot.Add(time.Duration(s.started) * time.Second / ticksPerSec)
			}
		}
	}
}

func bootTime() time.Time {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "btime "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
				return time.Unix(n, 0).UTC()
			}
		}
	}
	return time.Time{}
}
