package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxPrompt is the most bytes of one model request, what the largest vendor
// limit allows.
const maxPrompt = 32 << 20

// maxErrorBody is how much of a vendor's error answer is read and handed on.
const maxErrorBody = 64 << 10

// models is the reverse proxy to the model APIs, one prefix per provider.
type models struct {
	b     *Broker
	base  map[string]*url.URL
	proxy *httputil.ReverseProxy
}

// call is one request on its way to a vendor. It travels in the context,
// because ReverseProxy has no other place for it.
type call struct {
	api    *api
	base   *url.URL
	path   string // below base
	cred   Credential
	model  string // as asked for
	size   int    // bytes of the prompt
	billed bool
}

type callKey struct{}

func newModels(b *Broker) (*models, error) {
	m := &models{b: b, base: map[string]*url.URL{}}
	for name, a := range apis {
		base := b.cfg.Upstream[name]
		if base == "" {
			base = a.base
		}
		u, err := url.Parse(strings.TrimRight(base, "/"))
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return nil, fmt.Errorf("upstream of %s is not an http URL: %q", name, base)
		}
		m.base[name] = u
	}
	m.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		ModifyResponse: m.answer,
		ErrorHandler:   m.failed,
		FlushInterval:  -1, // each chunk of a stream at once
		ErrorLog:       slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
		Transport: &http.Transport{
			Proxy:                 b.cfg.Proxy,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // usage is read from the answer as it passes
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   15 * time.Second,
			ExpectContinueTimeout: time.Second,
		},
	}
	return m, nil
}

// ServeHTTP checks everything that can refuse a call, in an order that tells
// the agent the first thing to mend, and hands it to the proxy.
func (m *models) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	provider, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	a := apis[provider]
	if a == nil {
		http.Error(w, "samnode: the model APIs are at /anthropic/, /openai/ and /gemini/", http.StatusNotFound)
		return
	}
	c := &call{api: a, base: m.base[provider], path: "/" + path}
	if refused := m.admit(c, r); refused != nil {
		m.b.log.Info("model call refused", "provider", provider, "path", c.path, "status", refused.status, "reason", refused.text)
		a.answer(w, *refused)
		return
	}
	m.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
}

// admit fills c and prepares r, or says why the call is refused.
func (m *models) admit(c *call, r *http.Request) *refusal {
	if why, forNow := m.b.stale(); forNow {
		return &refusal{http.StatusServiceUnavailable, "away", why}
	} else if why != "" {
		return &refusal{http.StatusForbidden, "stale", why}
	}
	route, ok := c.api.route(r.Method, c.path)
	if !ok {
		return m.wrongPath(c, r.Method)
	}
	c.billed = route.billed
	if route.billed {
		if refused := m.prompt(c, r); refused != nil {
			return refused
		}
		if refused := m.budget(c); refused != nil {
			return refused
		}
	} else {
		r.Body = http.MaxBytesReader(nil, r.Body, maxPrompt)
	}
	return m.key(c, r)
}

func (m *models) wrongPath(c *call, method string) *refusal {
	what := method + " " + c.path
	text := fmt.Sprintf("samnode: %s of the %s API is not open to agents; only model calls are", what, c.api.name)
	m.b.notes.tell(Refusal{
		Kind: KindPath, What: c.api.name + ": " + what, Why: "Only model calls pass the broker.",
		Todo: "Nothing, unless the agent needs it: then its key must be used outside of the workspace.",
	})
	return &refusal{http.StatusForbidden, "path", text}
}

// prompt reads the request's body: for the model's name, and because the
// request is not sent before it is known to be whole and small enough.
func (m *models) prompt(c *call, r *http.Request) *refusal {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxPrompt+1))
	if err != nil {
		return &refusal{http.StatusBadRequest, "invalid", "samnode: reading the request: " + oneLine(err.Error())}
	}
	if len(body) > maxPrompt {
		return &refusal{http.StatusRequestEntityTooLarge, "large", fmt.Sprintf("samnode: the request is larger than %d MiB", maxPrompt>>20)}
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return &refusal{http.StatusUnsupportedMediaType, "invalid", "samnode: send the request without Content-Encoding " + oneLine(enc)}
	}
	var asked asked
	if err := json.Unmarshal(body, &asked); err != nil {
		return &refusal{http.StatusBadRequest, "invalid", "samnode: the request is not JSON: " + oneLine(err.Error())}
	}
	if asked.Background {
		return &refusal{http.StatusForbidden, "path", "samnode: background answers are not open to agents: their cost cannot be counted"}
	}
	if strings.HasSuffix(c.path, "/chat/completions") && asked.Stream {
		if body, err = withUsage(body); err != nil {
			return &refusal{http.StatusBadRequest, "invalid", "samnode: " + oneLine(err.Error())}
		}
	}
	c.model, c.size = c.api.model(c.path, asked.Model), len(body)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.TransferEncoding = nil
	return nil
}

// asked is what the broker reads of a request.
type asked struct {
	Model      string `json:"model"`
	Stream     bool   `json:"stream"`
	Background bool   `json:"background"`
}

// withUsage asks for the usage of a chat completion's stream, which is
// otherwise not sent. Whatever else the request says stays as it is.
func withUsage(body []byte) ([]byte, error) {
	var req map[string]json.RawMessage
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding request: %w", err)
	}
	opts := map[string]json.RawMessage{}
	if raw := req["stream_options"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &opts); err != nil {
			return nil, fmt.Errorf("decoding stream_options: %w", err)
		}
	}
	if opts == nil { // was null
		opts = map[string]json.RawMessage{}
	}
	opts["include_usage"] = json.RawMessage("true")
	raw, err := json.Marshal(opts)
	if err != nil {
		return nil, fmt.Errorf("encoding stream_options: %w", err)
	}
	req["stream_options"] = raw
	return json.Marshal(req)
}

func (m *models) budget(c *call) *refusal {
	if m.b.cfg.Budget == nil {
		return nil
	}
	left, limited := m.b.cfg.Budget()
	if !limited || left > 0 {
		m.b.notes.forget(KindBudget) // it was raised: its next end is news
		return nil
	}
	m.b.notes.tell(Refusal{
		Kind: KindBudget, What: c.model, Why: "The task's budget is used up.",
		Todo: "An owner can raise it; then say how to go on.",
	})
	return &refusal{http.StatusPaymentRequired, "budget", "samnode: the task's budget is used up; an owner can raise it. Do not try again."}
}

func (m *models) key(c *call, r *http.Request) *refusal {
	if m.b.cfg.Key == nil {
		return m.noKey(c)
	}
	cred, err := m.b.cfg.Key(r.Context(), c.api.name)
	if errors.Is(err, ErrNoKey) || (err == nil && strings.TrimSpace(cred.Value) == "") {
		return m.noKey(c)
	}
	if err != nil {
		m.b.log.Error("getting model key", "provider", c.api.name, "err", err)
		kind := "key"
		if errors.Is(err, ErrForNow) {
			kind = "away"
		}
		return &refusal{http.StatusServiceUnavailable, kind, "samnode: the key of " + c.api.name + " could not be had right now"}
	}
	cred.Value = strings.TrimSpace(cred.Value)
	c.cred = cred
	return nil
}

func (m *models) noKey(c *call) *refusal {
	todo := "set it with: samnode secret set " + c.api.secret
	m.b.notes.tell(Refusal{Kind: KindKey, What: c.api.name, Why: "There is no key for " + c.api.name + ".", Todo: todo})
	return &refusal{http.StatusForbidden, "key", "samnode: there is no key for " + c.api.name + "; " + todo}
}

// theirs are the headers of a request that carry a credential, say who is
// asking, or would be believed by the vendor.
var theirs = []string{
	"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Proxy-Authorization", "Cookie",
	"Openai-Organization", "Openai-Project", "X-Goog-User-Project", "X-Goog-Authenticated-User-Email",
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via",
}

// rewrite makes the vendor's request out of the agent's.
func rewrite(p *httputil.ProxyRequest) {
	c := p.In.Context().Value(callKey{}).(*call)
	p.Out.URL.Scheme, p.Out.URL.Host = c.base.Scheme, c.base.Host
	p.Out.URL.Path, p.Out.URL.RawPath = c.base.Path+c.path, ""
	p.Out.Host = c.base.Host
	for _, h := range theirs {
		p.Out.Header.Del(h)
	}
	p.Out.Header.Set("Accept-Encoding", "identity")
	q := p.In.URL.Query()
	for _, name := range []string{"key", "access_token", "api_key"} {
		q.Del(name)
	}
	p.Out.URL.RawQuery = q.Encode()
	c.api.sign(p.Out.Header, c.cred)
}

// answer reads the vendor's answer on its way to the agent.
func (m *models) answer(res *http.Response) error {
	c := res.Request.Context().Value(callKey{}).(*call)
	for _, h := range []string{"Set-Cookie", "Anthropic-Organization-Id", "Openai-Organization", "Openai-Project"} {
		res.Header.Del(h)
	}
	for name, values := range res.Header {
		for i, v := range values {
			res.Header[name][i] = strings.ReplaceAll(v, c.cred.Value, hidden)
		}
	}
	if res.StatusCode >= 300 {
		return m.refusedByVendor(c, res)
	}
	if !c.billed {
		return nil
	}
	stream := strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	res.Body = &metered{ReadCloser: res.Body, meter: newMeter(c.api, stream), done: func(t tally, whole bool) {
		m.finished(c, t, res.StatusCode, whole)
	}}
	return nil
}

// hidden stands where a vendor or a gateway repeated the key.
const hidden = "[key]"

// refusedByVendor hands an error on, without the key that some vendors and
// gateways repeat in it. A refused key is told to the people too.
func (m *models) refusedByVendor(c *call, res *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.base.Host, err)
	}
	if res.StatusCode < 400 {
		return fmt.Errorf("%s answered with a redirect (%d)", c.base.Host, res.StatusCode)
	}
	body = bytes.ReplaceAll(body, []byte(c.cred.Value), []byte(hidden))
	if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
		why := fmt.Sprintf("%s refused the key (%d): %s", c.base.Host, res.StatusCode, c.api.message(body))
		todo := "check the key, then: samnode secret set " + c.api.secret
		m.b.notes.tell(Refusal{Kind: KindKey, What: c.api.name, Why: why, Todo: todo})
		if res.StatusCode == http.StatusUnauthorized {
			// Claude Code tries a 401 again for minutes, in silence; it is not
			// its key that is wrong.
			body = c.api.explain(refusal{kind: "key", status: http.StatusForbidden, text: "samnode: " + why + "; " + todo})
			res.StatusCode, res.Status = http.StatusForbidden, "403 Forbidden"
			res.Header.Set("Content-Type", "application/json")
			res.Header.Set("X-Should-Retry", "false")
		}
	}
	m.b.log.Info("model API refused", "provider", c.api.name, "model", c.model, "status", res.StatusCode)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	if c.billed {
		m.finished(c, tally{}, res.StatusCode, true)
	}
	return nil
}

// failed answers when there was no answer.
func (m *models) failed(w http.ResponseWriter, r *http.Request, err error) {
	c := r.Context().Value(callKey{}).(*call)
	text := strings.ReplaceAll(oneLine(err.Error()), c.cred.Value, hidden)
	if cause := context.Cause(r.Context()); cause != nil {
		text = oneLine(cause.Error())
	}
	m.b.log.Warn("model API not reached", "provider", c.api.name, "err", text)
	if c.billed {
		m.finished(c, tally{}, http.StatusBadGateway, true)
	}
	c.api.answer(w, refusal{http.StatusBadGateway, "upstream", "samnode: " + c.base.Host + " could not be reached: " + text})
}
