package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/samnode/samnode/chat"
)

// target is where an agent wants to go: a name or an address, and a port.
type target struct {
	host string // lower case, no final dot, no brackets
	port string
	ip   netip.Addr // valid when host is an address
}

var errNoHost = errors.New("the request names no host")

// parseTarget reads "host", "host:port" or "[v6]:port".
func parseTarget(authority, port string) (target, error) {
	host := authority
	if h, p, err := net.SplitHostPort(authority); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "" {
		return target{}, errNoHost
	}
	if n := len(port); n == 0 || n > 5 || strings.Trim(port, "0123456789") != "" {
		return target{}, fmt.Errorf("%q is not a port", cut(oneLine(port), 20))
	}
	t := target{host: host, port: port}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return target{}, errors.New("addresses with a zone are not reachable from a workspace")
		}
		t.ip = ip.Unmap()
		t.host = t.ip.String()
		return t, nil
	}
	if len(host) > 253 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(host, "..") {
		return target{}, fmt.Errorf("%q is not a host name", cut(oneLine(host), 80))
	}
	return t, nil
}

// listed reports whether an entry of a list names the target. Entries are
// "example.com", "*.example.com" (every name below it, not itself), an address,
// each with ":port" to open another port than 80 and 443.
func (t target) listed(list []string) bool {
	for _, entry := range list {
		host, port := splitEntry(entry)
		if port == "" && t.port != "80" && t.port != "443" || port != "" && port != t.port {
			continue
		}
		if t.ip.IsValid() {
			if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap() == t.ip {
				return true
			}
			continue
		}
		if below, wild := strings.CutPrefix(host, "*."); wild && below != "" {
			if strings.HasSuffix(t.host, "."+below) {
				return true
			}
		} else if host == t.host {
			return true
		}
	}
	return false
}

// splitEntry is as tolerant as people are: spaces, case, a scheme, a path.
func splitEntry(entry string) (host, port string) {
	entry = strings.ToLower(strings.TrimSpace(entry))
	if _, after, ok := strings.Cut(entry, "://"); ok {
		entry = after
	}
	entry, _, _ = strings.Cut(entry, "/")
	host = entry
	if h, p, err := net.SplitHostPort(entry); err == nil {
		host, port = h, p
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), "."), port
}

// allowed decides by name alone.
func allowed(t target, mode chat.Egress, list []string) bool {
	switch mode {
	case chat.EgressNone:
		return false
	case chat.EgressPackages:
		return t.listed(registries) || t.listed(editors)
	case chat.EgressListed:
		return t.listed(list) || t.listed(registries) || t.listed(editors)
	case chat.EgressOpen:
		return t.port == "80" || t.port == "443" || t.listed(list)
	default:
		return false
	}
}

// errPrivate says that a name leads to a place that no workspace may reach.
var errPrivate = errors.New("leads to a private address")

// resolve returns the addresses that may be dialled for the target, or
// errPrivate when one of them must not: a name that also points inside is not
// trusted with the rest. An address that the project's list names is exempt.
func (e *egress) resolve(ctx context.Context, t target, list []string) ([]netip.Addr, error) {
	ips := []netip.Addr{t.ip}
	if !t.ip.IsValid() {
		var err error
		if ips, err = e.b.cfg.Lookup(ctx, t.host); err != nil {
			return nil, fmt.Errorf("looking up %s: %w", t.host, err)
		}
	}
	own := ownAddrs()
	for i, ip := range ips {
		ips[i] = ip.Unmap().WithZone("")
		if !inside(ips[i], own) || (target{host: ips[i].String(), port: t.port, ip: ips[i]}).listed(list) {
			continue
		}
		return nil, fmt.Errorf("%s %w (%s)", t.host, errPrivate, ips[i])
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%s has no address", t.host)
	}
	return ips, nil
}

// closedNets are what is not the public internet beside what netip knows. The
// tailnet is the first of them; clouds keep their metadata in others.
var closedNets = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"),    // carrier-grade NAT, tailnets
	netip.MustParsePrefix("0.0.0.0/8"),        // this host
	netip.MustParsePrefix("192.0.0.0/24"),     // protocol assignments, Oracle's metadata
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),      // reserved, broadcast
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's host
	netip.MustParsePrefix("fec0::/10"),        // site-local
	netip.MustParsePrefix("64:ff9b:1::/48"),   // local NAT64
	netip.MustParsePrefix("2002::/16"),        // 6to4 and Teredo carry any IPv4 address
	netip.MustParsePrefix("2001::/32"),        //
	netip.MustParsePrefix("::ffff:0:0:0/96"),  // SIIT, the same
	netip.MustParsePrefix("::/96"),            // IPv4-compatible, the same
}

// nat64 is how an IPv6-only machine reaches IPv4: the address inside counts.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// inside reports whether an address is not on the public internet, or is this
// machine's own.
func inside(ip netip.Addr, own []netip.Addr) bool {
	if nat64.Contains(ip) {
		b := ip.As16()
		return inside(netip.AddrFrom4([4]byte(b[12:])), own)
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return true
	}
	for _, p := range closedNets {
		if p.Contains(ip) {
			return true
		}
	}
	for _, o := range own {
		if o == ip {
			return true
		}
	}
	return false
}

// ownAddrs are this machine's addresses: what listens on its public one for
// the neighbours is not meant for workspaces. Nothing is known when the system
// does not tell; the rules above hold all the same.
func ownAddrs() []netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []netip.Addr
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				own = append(own, ip.Unmap())
			}
		}
	}
	return own
}
