package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// egress is the HTTP proxy of the workspace: CONNECT, and plain http in
// absolute form.
type egress struct {
	b     *Broker
	plain *httputil.ReverseProxy
}

func newEgress(b *Broker) *egress {
	e := &egress{b: b}
	e.plain = &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			t := p.In.Context().Value(planKey{}).(plan).target
			p.Out.URL.Host, p.Out.Host = net.JoinHostPort(t.host, t.port), p.In.URL.Host
		},
		ErrorHandler:  e.failed,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
		Transport: &http.Transport{
			Proxy:                 b.cfg.Proxy,
			DialContext:           e.dialPlain,
			DisableCompression:    true,
			MaxIdleConnsPerHost:   4,
			IdleConnTimeout:       30 * time.Second,
			ResponseHeaderTimeout: 5 * time.Minute,
		},
	}
	return e
}

func (e *egress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why, _ := e.b.stale(); why != "" {
		e.refuse(w, r, http.StatusForbidden, why)
		return
	}
	authority, port := r.URL.Host, "80"
	if r.Method == http.MethodConnect {
		authority, port = r.Host, "443"
	} else if r.URL.Scheme != "http" || r.URL.Host == "" {
		e.refuse(w, r, http.StatusBadRequest, "samnode: this is an HTTP proxy: use CONNECT, or http:// in full")
		return
	}
	t, err := parseTarget(authority, port)
	if err != nil {
		e.refuse(w, r, http.StatusBadRequest, "samnode: "+err.Error())
		return
	}
	mode, list := e.settings()
	if !allowed(t, mode, list) {
		e.blocked(w, r, t, mode, "")
		return
	}
	if r.Method == http.MethodConnect {
		e.connect(w, r, t, mode, list)
		return
	}
	e.b.stats.Requests.Add(1)
	e.plain.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), planKey{}, plan{t, mode, list})))
}

// settings asks for the mode and list in force now.
func (e *egress) settings() (chat.Egress, []string) {
	if e.b.cfg.Egress == nil {
		return chat.EgressNone, nil
	}
	mode, list := e.b.cfg.Egress()
	if mode == chat.EgressNone || mode == chat.EgressPackages {
		list = nil // is kept for when the mode comes back
	}
	return mode, list
}

// plan is what was decided for a plain request, for when it is dialled.
type plan struct {
	target target
	mode   chat.Egress
	list   []string
}

type planKey struct{}

// dialPlain connects a plain request. The address is checked here, where it is
// used.
func (e *egress) dialPlain(ctx context.Context, network, addr string) (net.Conn, error) {
	p, ok := ctx.Value(planKey{}).(plan)
	if !ok {
		return nil, errors.New("a request without a plan")
	}
	via, err := e.via("http", p.target)
	if err != nil {
		return nil, err
	}
	ips, err := e.resolve(ctx, p.target, p.list)
	if via != nil && !errors.Is(err, errPrivate) {
		return e.b.cfg.Dial(ctx, network, addr) // the proxy's address: the transport asked via's func too
	}
	if err != nil {
		return nil, err
	}
	return e.dialFirst(ctx, ips, p.target.port)
}

// dialFirst tries the checked addresses in turn. The name is not looked up
// again: it could lead elsewhere by now.
func (e *egress) dialFirst(ctx context.Context, ips []netip.Addr, port string) (net.Conn, error) {
	var errs []error
	for _, ip := range ips[:min(len(ips), 4)] {
		c, err := e.b.cfg.Dial(ctx, "tcp", net.JoinHostPort(ip.String(), port))
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// failed answers a plain request that got no answer.
func (e *egress) failed(w http.ResponseWriter, r *http.Request, err error) {
	p, _ := r.Context().Value(planKey{}).(plan)
	if errors.Is(err, errPrivate) {
		e.blocked(w, r, p.target, p.mode, err.Error())
		return
	}
	e.refuse(w, r, http.StatusBadGateway, "samnode: "+p.target.host+" could not be reached: "+oneLine(err.Error()))
}

// blocked answers what the mode or the address forbids, and says so in the chat.
func (e *egress) blocked(w http.ResponseWriter, r *http.Request, t target, mode chat.Egress, private string) {
	e.b.stats.Denied.Add(1)
	what, todo := t.host, "An owner can add it to the project's list."
	if t.port != "80" && t.port != "443" {
		what = net.JoinHostPort(t.host, t.port)
	}
	text := fmt.Sprintf("samnode: egress to %s is blocked (mode %s). %s", what, mode, todo)
	if private != "" {
		todo = "An owner can add the address itself to the project's list."
		text = fmt.Sprintf("samnode: egress is blocked: %s. %s", oneLine(private), todo)
	}
	e.b.log.Info("egress blocked", "host", what, "mode", mode, "private", private != "")
	e.b.notes.tell(Refusal{Kind: KindEgress, What: what, Why: "Blocked: " + what + askedBy(r) + ". Mode: " + string(mode) + ".", Todo: todo})
	e.refuse(w, r, http.StatusForbidden, text)
}

// askedBy names the program as far as it says so.
func askedBy(r *http.Request) string {
	agent, _, _ := strings.Cut(strings.TrimSpace(r.UserAgent()), " ")
	if agent == "" || agent == "Go-http-client/1.1" {
		return ""
	}
	return ", asked by " + cut(oneLine(agent), 60)
}

// refuse answers in one line. After CONNECT most programs show the status line
// only, so the text stands there as well.
func (e *egress) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	text = cut(oneLine(text), 400)
	if r.Method != http.MethodConnect {
		http.Error(w, text, status)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, text, status)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, ascii(text), len(text)+1, text)
	if err != nil {
		e.b.log.Debug("answering CONNECT", "err", err)
	}
}

// ascii keeps a status line to what every client reads.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// connect opens a tunnel.
func (e *egress) connect(w http.ResponseWriter, r *http.Request, t target, mode chat.Egress, list []string) {
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	up, err := e.dialTunnel(ctx, t, list)
	if errors.Is(err, errPrivate) {
		e.blocked(w, r, t, mode, err.Error())
		return
	}
	if err != nil {
		e.refuse(w, r, http.StatusBadGateway, "samnode: "+t.host+" could not be reached: "+err.Error())
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		e.b.log.Error("taking over the connection", "err", err)
		_ = up.Close()
		return
	}
	e.b.stats.Tunnels.Add(1)
	e.b.log.Debug("tunnel open", "host", t.host, "port", t.port)
	tun := &tunnel{down: conn, up: up}
	if !e.b.tunnels.add(tun) {
		tun.close()
		return
	}
	defer e.b.tunnels.remove(tun)
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		tun.close()
		return
	}
	out, in := tun.run(io.MultiReader(io.LimitReader(buf, int64(buf.Reader.Buffered())), conn))
	e.b.stats.Out.Add(out)
	e.b.stats.In.Add(in)
}

// tunnel is one open CONNECT.
type tunnel struct {
	down, up net.Conn
	once     sync.Once
}

func (t *tunnel) close() {
	t.once.Do(func() {
		_ = t.down.Close() // both ends are being given up: nobody is left to tell
		_ = t.up.Close()
	})
}

// run copies both ways until both have ended. One side may end before the
// other: what is still on its way the other way arrives.
func (t *tunnel) run(from io.Reader) (out, in int64) {
	defer t.close()
	var wg sync.WaitGroup
	wg.Go(func() { out = t.copy(t.up, from) })
	in = t.copy(t.down, t.up)
	wg.Wait()
	return out, in
}

// copy ends with a half close where the connection can do that, and gives both
// up after an error, which the other direction would not notice.
func (t *tunnel) copy(dst net.Conn, src io.Reader) int64 {
	n, err := io.Copy(dst, src)
	half, ok := dst.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		t.close()
	}
	return n
}

// tunnels are the open ones, to be cut when the lease ends.
type tunnels struct {
	mu     sync.Mutex
	open   map[*tunnel]struct{}
	closed bool
}

func (ts *tunnels) add(t *tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return false
	}
	if ts.open == nil {
		ts.open = map[*tunnel]struct{}{}
	}
	ts.open[t] = struct{}{}
	return true
}

func (ts *tunnels) remove(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, t)
}

func (ts *tunnels) count() int64 {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return int64(len(ts.open))
}

// cut ends all open tunnels and returns how many there were.
func (ts *tunnels) cut() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for t := range ts.open {
		t.close()
	}
	return len(ts.open)
}

// shut cuts all and lets no further one open.
func (ts *tunnels) shut() {
	ts.mu.Lock()
	ts.closed = true
	ts.mu.Unlock()
	ts.cut()
}
