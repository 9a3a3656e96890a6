package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Outside is the header in which the proxy says how the browser calls it.
const Outside = "Samnode-Outside"

// hostName is a host without its port.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

const (
	attempts    = 3 // nodes that are tried for one request
	dialTimeout = 3 * time.Second
)

// RoundTrip implements http.RoundTripper: it sends a request to the node that
// is followed. A request that no node got goes to another one, and so does one
// that is harmless to repeat.
func (n *nodes) RoundTrip(req *http.Request) (*http.Response, error) {
	body := &keptBody{ReadCloser: req.Body}
	t := n.now()
	var errs []error
	for range attempts {
		resp, err := n.send(t, req, body)
		if err == nil {
			return resp, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", t.base.Host, err))
		if req.Context().Err() != nil {
			break
		}
		if !repeatable(req, err) || body.used() {
			errs = append(errs, errors.New("whether it was done is not known: look before you do it again"))
			break
		}
		next, err := n.leave(req.Context(), t)
		if err != nil {
			errs = append(errs, err)
			break
		}
		t = next
	}
	return nil, errors.Join(errs...)
}

// repeatable says whether a request that failed may be sent once more.
func repeatable(req *http.Request, err error) bool {
	if _, ok := errors.AsType[*dialError](err); ok {
		return true
	}
	return harmless(req)
}

func harmless(req *http.Request) bool {
	return req.Method == http.MethodGet || req.Method == http.MethodHead
}

// dialError marks what the transport could not even connect for.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// marking returns a transport whose errors of dialling are dialErrors.
func marking(t *http.Transport) *http.Transport {
	t = t.Clone()
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		return c, nil
	}
	t.DisableCompression = true // what the browser asks for goes to the node
	return t
}

// send sends one request to one node, as if the browser had asked that node
// itself.
func (n *nodes) send(t *target, req *http.Request, kept *keptBody) (*http.Response, error) {
	n.mu.Lock()
	life := t.ctx
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(req.Context())
	out := req.Clone(ctx)
	out.URL.Scheme, out.URL.Host = t.base.Scheme, t.base.Host
	out.Header.Del(Outside)
	if !n.apart(hostName(req.Host)) {
		out.Host = t.base.Host
		out.Header.Set(Outside, req.Host)
		if origin := req.Header.Get("Origin"); isOwn(origin, req.Host) {
			out.Header.Set("Origin", t.base.String())
		}
	}
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = kept
	}
	stop := context.AfterFunc(life, cancel)
	transport := n.transport
	if !harmless(req) {
		// A connection that was kept may have died in the meantime, and then nobody
		// knows whether the node got the request. A new one comes about or does not.
		transport = n.once
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	body := resp.Body
	answer := &answerBody{ReadCloser: body, stop: stop, cancel: cancel}
	resp.Body = answer
	if w, ok := body.(io.Writer); ok { // a WebSocket, which has no request any more
		answer.stop = context.AfterFunc(life, func() { body.Close() })
		resp.Body = struct {
			io.ReadCloser
			io.Writer
		}{answer, w}
	}
	return resp, nil
}

// answerBody ends with its node.
type answerBody struct {
	io.ReadCloser
	stop   func() bool
	cancel func()
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	b.stop()
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// keptBody is the body of a request that may be sent again while nothing of it
// was read: the transport's Close is not its end, the server closes it.
type keptBody struct {
	io.ReadCloser
	mu   sync.Mutex
	read bool
}

// Read implements io.Reader.
func (b *keptBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.read = true
	b.mu.Unlock()
	return b.ReadCloser.Read(p)
}

// Close implements io.Closer.
func (b *keptBody) Close() error { return nil }

func (b *keptBody) used() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}
