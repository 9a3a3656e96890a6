package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// via returns the host's own proxy for a target, or nil.
func (e *egress) via(scheme string, t target) (*url.URL, error) {
	u := &url.URL{Scheme: scheme, Host: net.JoinHostPort(t.host, t.port)}
	via, err := e.b.cfg.Proxy(&http.Request{URL: u, Host: u.Host, Header: http.Header{}})
	if err != nil {
		return nil, fmt.Errorf("reading the host's proxy settings: %w", err)
	}
	return via, nil
}

// dialTunnel connects to the target, through the host's own proxy when it has
// one.
func (e *egress) dialTunnel(ctx context.Context, t target, list []string) (net.Conn, error) {
	via, err := e.via("https", t)
	if err != nil {
		return nil, err
	}
	ips, err := e.resolve(ctx, t, list)
	// Behind a proxy a host often cannot look up names; the proxy will. Where
	// it can, a private address is refused here.
	if via != nil && !errors.Is(err, errPrivate) {
		return e.dialVia(ctx, via, net.JoinHostPort(t.host, t.port))
	}
	if err != nil {
		return nil, err
	}
	return e.dialFirst(ctx, ips, t.port)
}

// dialVia asks an upstream proxy for a tunnel.
func (e *egress) dialVia(ctx context.Context, via *url.URL, addr string) (net.Conn, error) {
	port := via.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[via.Scheme]
	}
	if port == "" {
		port = "80"
	}
	conn, err := e.b.cfg.Dial(ctx, "tcp", net.JoinHostPort(via.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("reaching the host's proxy: %w", err)
	}
	if via.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: via.Hostname()})
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	r, err := askProxy(conn, via, addr)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("asking the host's proxy: %w", err), conn.Close())
	}
	if r.Buffered() > 0 {
		return nil, errors.Join(errors.New("the host's proxy spoke before it was asked"), conn.Close())
	}
	return conn, nil
}

// askProxy sends CONNECT and reads the answer.
func askProxy(conn net.Conn, via *url.URL, addr string) (*bufio.Reader, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := via.User; u != nil {
		pw, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+pw)))
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("sending CONNECT: %w", err)
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, req) //nolint:bodyclose // what follows the answer is the tunnel
	if err != nil {
		return nil, fmt.Errorf("reading its answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", oneLine(res.Status))
	}
	return r, nil
}
