package preview

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
)

// rewrite makes a browser's request one that the server in the workspace takes
// for one of its own machine.
func rewrite(p *httputil.ProxyRequest) {
	v := visitOf(p.In)
	out := p.Out
	out.URL.Scheme, out.URL.Host, out.URL.RawQuery = "http", v.address(), p.In.URL.RawQuery
	out.Host = v.inside()
	for name := range out.Header {
		if claims(name) {
			out.Header.Del(name)
		}
	}
	inside := "http://" + v.inside()
	if out.Header.Get("Origin") != "" { // it is the preview's own, or sender had refused it
		out.Header.Set("Origin", inside)
	}
	if path, ok := strings.CutPrefix(out.Header.Get("Referer"), v.Origin+"/"); ok {
		out.Header.Set("Referer", inside+"/"+path)
	} else {
		out.Header.Del("Referer") // where the person came from is not the server's business
	}
	cookiesIn(out.Header, v.Cookies)
	if u, err := url.Parse(v.Origin); err == nil {
		out.Header.Set("X-Forwarded-Host", u.Host)
		out.Header.Set("X-Forwarded-Proto", u.Scheme)
	}
}

// claims are headers in which proxies say who sent a request: nobody else is
// to be believed.
func claims(name string) bool {
	for _, begin := range []string{"Tailscale-", "X-Forwarded-", "X-Samnode", "Samnode-", "X-Real-Ip", "Forwarded"} {
		if len(name) >= len(begin) && strings.EqualFold(name[:len(begin)], begin) {
			return true
		}
	}
	return false
}

// loosen are headers of an answer that would let others at the preview, or
// reach beyond it.
var loosen = []string{
	"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Private-Network", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
	"Timing-Allow-Origin", "Strict-Transport-Security", "Alt-Svc", "Public-Key-Pins", "Expect-Ct", "Set-Cookie2",
}

// harden keeps an answer within its preview.
func harden(res *http.Response) error {
	v := visitOf(res.Request).View
	for _, name := range loosen {
		res.Header.Del(name)
	}
	if v.Cookies != "" {
		res.Header.Del("Clear-Site-Data") // it is of the host's other previews, too
	}
	cookiesOut(res.Header, v.Cookies)
	protect(res.Header, v)
	if to := res.Header.Get("Location"); to != "" {
		res.Header.Set("Location", comeBack(to, v))
	}
	return nil
}

// protect sets what keeps other pages from embedding, including or holding on
// to a preview. A policy that the server has stays and is joined by ours.
func protect(h http.Header, v View) {
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Add("Content-Security-Policy", "frame-ancestors 'self'")
	h.Set("Origin-Agent-Cluster", "?1") // no document.domain
	if trustworthy(v.Origin) && h.Get("Cross-Origin-Opener-Policy") == "" {
		h.Set("Cross-Origin-Opener-Policy", "same-origin") // elsewhere browsers complain of it
	}
}

// trustworthy is what browsers call an origin that nobody can speak for.
func trustworthy(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "https" || strings.HasSuffix(u.Hostname(), within))
}

// comeBack keeps a redirect to the server's own address within the preview.
func comeBack(to string, v View) string {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		return to
	}
	port := u.Port()
	if port == "" && u.Scheme != "https" {
		port = "80"
	}
	if port != strconv.Itoa(v.Port) || !isLoopback(u.Hostname()) {
		return to
	}
	u.Scheme, u.Host, u.User = "", "", nil
	if u.Path == "" {
		u.Path = "/"
	}
	return v.Origin + u.String()
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}
