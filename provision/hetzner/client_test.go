package hetzner

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
	"github.com/samnode/samnode/provision/keeper"
)

// What package keeper asks of a provider.
var _ keeper.Provider = (*Client)(nil)

const (
	testMesh  = "01J0MESH"
	testToken = "hT9sKq2vYx7LmNc4RbWd8ZfGj3PaUe6TiQoXyBnVrSkMwDhCzEuJl5FgA1pI0Ot"
	op1       = "01J0000000000000000000OP01"
)

// desk is a mesh's client and the cloud that it calls, in a bubble.
type desk struct {
	*testing.T
	*Client
	cloud  *hetznertest.Cloud
	log    *bytes.Buffer // everything, debug included
	logger *slog.Logger  // into log
}

// bench is what may differ from the usual desk; the zero value: nothing.
type bench struct {
	cloud  hetznertest.Config
	client Config
	quiet  bool // what is said once for many runs
}

// run runs a test in a bubble, whose clock stands while anything moves. What the
// two said to each other is held against Hetzner's description, and nobody may
// have heard of the token.
func (b bench) run(t *testing.T, test func(d *desk)) {
	t.Helper()
	spec, err := hetznertest.LoadSpec()
	if err != nil && !b.quiet {
		t.Logf("NOT held against Hetzner's description: %v", err)
	}
	b.cloud.Token = testToken
	synctest.Test(t, func(t *testing.T) {
		d := &desk{T: t, cloud: hetznertest.New(b.cloud), log: &bytes.Buffer{}}
		d.logger = slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if spec != nil {
			d.cloud.Validate(spec)
		}
		d.Client = d.newClient(b.client)
		test(d)
		synctest.Wait()
		for _, v := range d.cloud.Violations() {
			t.Errorf("not as described: %s", v)
		}
		if strings.Contains(d.log.String(), testToken) {
			t.Errorf("the token is in the log:\n%s", d.log)
		}
	})
}

func (d *desk) newClient(cfg Config) *Client {
	d.Helper()
	cfg.Token, cfg.Mesh, cfg.Endpoint, cfg.Transport = testToken, testMesh, "https://hetzner.test/v1", d.cloud.Transport()
	cfg.Logger = d.logger
	c, err := New(cfg)
	if err != nil {
		d.Fatal(err)
	}
	return c
}

// order is one for a small machine, as the keeper makes them.
func order(op string, attempt int) provision.Order {
	return provision.Order{
		Op: op, Name: provision.ServerName(op, attempt), Type: "cx23", Location: "nbg1", Image: "debian-12",
		UserData: []byte("#cloud-config\n"), Labels: provision.Labels(testMesh, op, time.Now().Add(24*time.Hour)),
	}
}

// create makes the server of op1.
func (d *desk) create() (provision.Server, error) { return d.Create(d.Context(), order(op1, 1)) }

func (d *desk) mustCreate() provision.Server {
	d.Helper()
	s, err := d.create()
	if err != nil {
		d.Fatalf("create: %v", err)
	}
	return s
}

// refused expects a refusal of that kind whose sentence has all parts.
func (d *desk) refused(err error, want provision.Trouble, parts ...string) *provision.ProviderError {
	d.Helper()
	var p *provision.ProviderError
	if !errors.As(err, &p) {
		d.Fatalf("the error is %v, want a refusal: %s", err, want)
	}
	if p.Trouble != want {
		d.Errorf("trouble = %s (%s), want %s", p.Trouble, p.Text, want)
	}
	for _, part := range parts {
		if !strings.Contains(p.Text, part) {
			d.Errorf("the sentence %q lacks %q", p.Text, part)
		}
	}
	if flaw := sentenceFlaw(p.Text); flaw != "" {
		d.Errorf("the sentence %q %s", p.Text, flaw)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), testToken) {
			d.Errorf("the token is in the error %v", e)
		}
	}
	return p
}

// whatNext is how sentences say how it goes on, or what a person is to do.
var whatNext = []string{
	"samnode asks", "samnode look", "samnode tries", "is tried", "goes on in", "make a new one", "ask for more", "upgrade",
	"choose another", "shorten them", "add it", "another name is taken", "left alone", "is deleted", "takes it for gone",
	"take the protection away", "samnode's", "There is no server", "its servers have numbers", "euro",
}

// sentenceFlaw is what keeps a text from being a sentence for a person.
func sentenceFlaw(s string) string {
	switch {
	case s == "" || strings.ToUpper(s[:1]) != s[:1] && !strings.HasPrefix(s, `"`):
		return "does not begin as a sentence"
	case !strings.HasSuffix(s, "."):
		return "does not end"
	case strings.Contains(s, "%!") || strings.ContainsAny(s, "\n\t") || strings.Contains(s, ".."):
		return "is not written well"
	case len(s) > 700:
		return "is long"
	case !slices.ContainsFunc(whatNext, func(next string) bool { return strings.Contains(s, next) }):
		return "does not say what is next"
	}
	return ""
}

// calls are those to a place since the test began: "POST /v1/servers". A query
// is not part of it.
func (d *desk) calls(call string) (n int) {
	for _, c := range d.cloud.Calls() {
		path, _, _ := strings.Cut(c.Path, "?")
		if c.Method+" "+path == call {
			n++
		}
	}
	return n
}

// one expects one server, ever, and returns it.
func (d *desk) one() hetznertest.Server {
	d.Helper()
	all := d.cloud.Ever()
	if len(all) != 1 {
		d.Fatalf("there were %d servers, want 1: %+v", len(all), all)
	}
	return all[0]
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := Config{Token: testToken, Mesh: testMesh}
	for name, c := range map[string]struct {
		change func(c *Config)
		want   string // part of the error; empty: it is taken
	}{
		"good":                     {func(*Config) {}, ""},
		"a token with a line end":  {func(c *Config) { c.Token += "\n" }, ""},
		"no token":                 {func(c *Config) { c.Token = " " }, "make one"},
		"a token in two parts":     {func(c *Config) { c.Token = "a b" }, "copy it once more"},
		"no mesh":                  {func(c *Config) { c.Mesh = "" }, "cannot be a label"},
		"a mesh with a colon":      {func(c *Config) { c.Mesh = "a:b" }, "cannot be a label"},
		"a mesh with a dash first": {func(c *Config) { c.Mesh = "-a" }, "cannot be a label"},
		"an address with https":    {func(c *Config) { c.Endpoint = "https://api.example/v1" }, ""},
		"one on this machine":      {func(c *Config) { c.Endpoint = "http://127.0.0.1:8337/v1" }, ""},
		"one by name":              {func(c *Config) { c.Endpoint = "http://localhost:8337/v1" }, ""},
		"one elsewhere":            {func(c *Config) { c.Endpoint = "http://10.0.0.1/v1" }, "not be safe"},
		"half of one":              {func(c *Config) { c.Endpoint = "api.example" }, "begins with https"},
		"R18: 5 s for a call":      {func(c *Config) { c.Timeout = 5 * time.Second }, "too short"},
		"R18: a minute":            {func(c *Config) { c.Timeout = time.Minute }, ""},
	} {
		cfg := good
		c.change(&cfg)
		_, err := New(cfg)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), testToken)) {
			t.Errorf("%s: New = %v, want %q", name, err, c.want)
		}
	}
}

func TestCheckBuysNothing(t *testing.T) {
	t.Parallel()
	key := Config{SSHKey: "b7:2f:30:a0:2f:6c:58:6c:21:04:58:61:ba:06:3b:2f"}
	for name, c := range map[string]struct {
		spoil func(*hetznertest.Cloud)
		cfg   Config
		want  provision.Trouble // empty: all is well
		part  string
	}{
		"a token that may write": {},
		"one that may only read": {spoil: (*hetznertest.Cloud).ReadOnly, want: provision.Denied, part: "may only read"},
		"one that is unknown":    {spoil: (*hetznertest.Cloud).Revoke, want: provision.Denied, part: "does not know the API token"},
		"an API that is away":    {spoil: func(c *hetznertest.Cloud) { c.Break(hetznertest.Down(time.Hour)) }, want: provision.Unreachable},
		"a proxy that says yes": {
			spoil: func(c *hetznertest.Cloud) { c.Break(hetznertest.Fault{Status: 200, Body: "{}"}) }, want: provision.Unreachable, part: "cannot be read",
		},
		"a proxy that says yes later": {
			spoil: func(c *hetznertest.Cloud) { c.Break(hetznertest.Fault{On: "PUT /servers/*", Status: 200, Body: "{}"}) }, want: provision.Unreachable,
		},
		"a key that is there":  {cfg: key, spoil: func(c *hetznertest.Cloud) { c.AddSSHKey("people", key.SSHKey) }},
		"a key that is not":    {cfg: key, want: provision.BadOrder, part: "add it in the Hetzner console"},
		"a key, and no answer": {cfg: key, spoil: func(c *hetznertest.Cloud) { c.Break(hetznertest.Fault{On: "GET /ssh_keys", Status: 200, Body: "{}"}) }, want: provision.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{client: c.cfg}.run(t, func(d *desk) {
				if c.spoil != nil {
					c.spoil(d.cloud)
				}
				err := d.Check(d.Context())
				if c.want == "" && err != nil {
					d.Errorf("Check = %v", err)
				}
				if c.want != "" {
					d.refused(err, c.want, c.part)
				}
				if n := len(d.cloud.Ever()); n != 0 {
					d.Errorf("%d servers were made", n)
				}
			})
		})
	}
}

// What stands between may send back whatever it was sent.
func TestTheTokenIsNeverTold(t *testing.T) {
	t.Parallel()
	echo := `{"error":{"code":"service_error","message":"no backend for Authorization: Bearer ` + testToken + `","details":null}}`
	bench{}.run(t, func(d *desk) {
		d.cloud.Break(hetznertest.Fault{Status: 503, Body: echo})
		calls := map[string]func(ctx context.Context) error{
			"Check":   d.Check,
			"Create":  func(ctx context.Context) error { _, err := d.Create(ctx, order(op1, 1)); return err },
			"Server":  func(ctx context.Context) error { _, err := d.Server(ctx, "1"); return err },
			"Servers": func(ctx context.Context) error { _, err := d.Servers(ctx); return err },
			"Offers":  func(ctx context.Context) error { _, err := d.Offers(ctx); return err },
			"Delete":  func(ctx context.Context) error { return d.Delete(ctx, "1") },
			"Sweep":   func(ctx context.Context) error { _, err := d.SweepAddresses(ctx); return err },
		}
		for name, call := range calls {
			err := call(d.Context())
			p := d.refused(err, provision.Unreachable, "[token]")
			d.logger.Warn("as the keeper logs it", "call", name, "err", err, "cause", p.Err)
		}
	})
}
