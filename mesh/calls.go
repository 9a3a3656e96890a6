package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is both ends of a call between nodes, so that they stay in step.
// A call is a POST of JSON that is answered in JSON, or with an error: a status
// of 400 or more and {"error": text, "code": word}.

const (
	// CallLimit is how much a call may carry, each way. Longer things are streams.
	CallLimit = 8 << 20

	callTimeout = 30 * time.Second // of a call whose context has no deadline
	readTimeout = 30 * time.Second // for the body of a call to arrive
	errorLimit  = 64 << 10
)

// ErrNoAnswer is returned when a node was asked and did not answer: whether it
// did what it was asked is not known.
var ErrNoAnswer = errors.New("the node did not answer")

// Codes are the errors that keep their meaning on the way to another node: the
// caller gets an error that Is the one in its own table. Both ends have the
// same table; what is not in it arrives as text.
type Codes map[string]error

// The codes that every call knows.
const (
	codeBad      = "bad_call"  // not JSON, or not of this shape
	codeTooLarge = "too_large" // more than CallLimit
	codeRefused  = "refused"   // the caller may not
	codeTimeout  = "timeout"   // the called node gave up waiting
)

// Refusal is an error that another node answered.
type Refusal struct {
	Node   string // its address
	Status int
	Code   string
	Text   string
	is     error // of the table; nil: not known here
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// Unwrap gives what the code stands for.
func (r *Refusal) Unwrap() error { return r.is }

// Client calls other nodes. Make one for a node: it keeps connections open.
type Client struct {
	http  *http.Client
	codes Codes
}

// NewClient returns a client over a twin's Dial.
func NewClient(dial func(ctx context.Context, addr string, s Service) (net.Conn, error), codes Codes) *Client {
	return &Client{http: NewHTTPClient(dial), codes: codes}
}

// With returns a client on the same connections with a table of its own.
func (c *Client) With(codes Codes) *Client { return &Client{http: c.http, codes: codes} }

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// NewHTTPClient returns an HTTP client whose hosts are nodes: see CallURL. It
// follows no redirects and uses no proxy. A node that has answered before and
// is dead now is not waited for longer than a few seconds, however long an
// answer may take.
func NewHTTPClient(dial func(ctx context.Context, addr string, s Service) (net.Conn, error)) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: newVigil(&http.Transport{
			DialContext: func(ctx context.Context, _, host string) (net.Conn, error) {
				name, _, err := net.SplitHostPort(host)
				if err != nil {
					return nil, &dialError{err}
				}
				addr, err := unescapeAddr(name)
				if err != nil {
					return nil, &dialError{err}
				}
				c, err := dial(ctx, addr, Calls)
				if err != nil {
					return nil, &dialError{err}
				}
				return c, nil
			},
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
		}),
	}
}

// dialError marks what went wrong before anything was asked.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// CallURL is the URL of a path at a node.
func CallURL(addr, path string) string { return "http://" + escapeAddr(addr) + path }

// escapeAddr makes any address the host of a URL: what is no letter, digit or
// dot becomes -XX.
func escapeAddr(addr string) string {
	var b strings.Builder
	for _, c := range []byte(addr) {
		if c == '.' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "-%02x", c)
		}
	}
	return b.String()
}

func unescapeAddr(host string) (string, error) {
	first, rest, _ := strings.Cut(host, "-")
	addr := []byte(first)
	for part := range strings.SplitSeq(rest, "-") {
		if rest == "" {
			break
		}
		if len(part) < 2 {
			return "", fmt.Errorf("%q is not the escaped address of a node", host)
		}
		c, err := strconv.ParseUint(part[:2], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is not the escaped address of a node", host)
		}
		addr = append(append(addr, byte(c)), part[2:]...)
	}
	return string(addr), nil
}

// Call asks the node at addr: in goes to path as JSON, its answer into out,
// which may be nil. The error is ErrUnreachable when nothing was asked,
// ErrNoAnswer when it is not known what came of it, and a *Refusal when the
// node refused.
func (c *Client) Call(ctx context.Context, addr, path string, in, out any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding a call of %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, CallURL(addr, path), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("calling %s of node %s: %w", path, addr, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		out = new(json.RawMessage)
	}
	return decodeAnswer(resp.Body, addr, path, out)
}

// decodeAnswer reads one JSON value, and no more than a call may carry.
func decodeAnswer(r io.Reader, addr, path string, out any) error {
	data, err := io.ReadAll(io.LimitReader(r, CallLimit+1))
	switch {
	case err != nil:
		return fmt.Errorf("calling %s of node %s: %w: %w", path, addr, ErrNoAnswer, err)
	case len(data) > CallLimit:
		return fmt.Errorf("calling %s of node %s: the answer is larger than %d MiB", path, addr, CallLimit>>20)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("calling %s of node %s: the answer makes no sense (is it of another version?): %w", path, addr, err)
	}
	return nil
}

// Do sends a request for a CallURL, for what is not one JSON value each way.
// An answer with a status of 400 or more becomes an error, as in Call; the body
// of any other is the caller's to close.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	addr, err := unescapeAddr(req.URL.Hostname())
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling %s of node %s: %w", req.URL.Path, addr, failed(err))
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refusal(addr, req.URL.Path, resp)
}

// failed tells what was not asked from what was not answered.
func failed(err error) error {
	if dial, ok := errors.AsType[*dialError](err); ok {
		if errors.Is(dial.err, ErrUnreachable) {
			return dial.err
		}
		return fmt.Errorf("%w: %w", ErrUnreachable, dial.err)
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		err = call.Err // without the method and the URL, which are said already
	}
	return fmt.Errorf("%w: %w", ErrNoAnswer, err)
}

type wireError struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

// refusal reads the error that a node answered. One that the table knows means
// the same here as there, so it is left as it is.
func (c *Client) refusal(addr, path string, resp *http.Response) error {
	r := &Refusal{Node: addr, Status: resp.StatusCode}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, errorLimit)) // half a text is better than none
	var e wireError
	if err := json.Unmarshal(data, &e); err != nil || e.Error == "" {
		e = wireError{Error: fmt.Sprintf("%s: %s", resp.Status, strings.TrimSpace(string(data)))}
	}
	r.Code, r.Text, r.is = e.Code, e.Error, c.codes[e.Code]
	if r.is != nil {
		return r
	}
	if e.Code == codeTimeout {
		r.is = context.DeadlineExceeded
	}
	return fmt.Errorf("calling %s of node %s: %w", path, addr, r)
}

// Answer makes a handler of calls from a function: the other end of Call.
// Errors of f go to the caller as Refuse sends them.
func Answer[In, Out any](codes Codes, f func(ctx context.Context, from Caller, in In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, ok := CallerOf(r.Context())
		if !ok || from.Node == "" {
			Refuse(w, codes, ErrNotNode)
			return
		}
		var in In
		if err := decodeCall(w, r, &in); err != nil {
			Refuse(w, codes, err)
			return
		}
		out, err := f(r.Context(), from, in)
		if err != nil {
			Refuse(w, codes, err)
			return
		}
		data, err := json.Marshal(out)
		if err != nil {
			Refuse(w, codes, fmt.Errorf("encoding the answer: %w", err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data) // an error means that nobody listens
	})
}

type badCall struct {
	code string
	err  error
}

func (e *badCall) Error() string { return e.err.Error() }
func (e *badCall) Unwrap() error { return e.err }

// decodeCall reads one JSON value, not for longer and not more than a call may.
func decodeCall(w http.ResponseWriter, r *http.Request, in any) error {
	if r.Method != http.MethodPost {
		return &badCall{codeBad, fmt.Errorf("calls are made with POST, not %s", r.Method)}
	}
	deadline := http.NewResponseController(w).SetReadDeadline
	if err := deadline(time.Now().Add(readTimeout)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, CallLimit))
	if err == nil {
		err = deadline(time.Time{})
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &badCall{codeTooLarge, fmt.Errorf("a call carries at most %d MiB", CallLimit>>20)}
	}
	if err != nil {
		return &badCall{codeBad, fmt.Errorf("reading the call: %w", err)}
	}
	if err := json.Unmarshal(data, in); err != nil {
		return &badCall{codeBad, fmt.Errorf("the call makes no sense (is it of another version?): %w", err)}
	}
	return nil
}

// Refuse answers a call with an error: its text, and its code if it has one.
func Refuse(w http.ResponseWriter, codes Codes, err error) {
	status, code := classify(codes, err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(wireError{err.Error(), code}) // an error means that nobody listens
}

func classify(codes Codes, err error) (status int, code string) {
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if errors.Is(err, codes[code]) {
			return http.StatusConflict, code
		}
	}
	if bad, ok := errors.AsType[*badCall](err); ok {
		return http.StatusBadRequest, bad.code
	}
	switch {
	case errors.Is(err, ErrNotNode), errors.Is(err, ErrStranger):
		return http.StatusForbidden, codeRefused
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, codeTimeout
	}
	return http.StatusInternalServerError, ""
}
