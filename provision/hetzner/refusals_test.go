package hetzner

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

// no is a refusal of orders.
func no(status int, code, message string) func(d *desk, o *provision.Order) {
	return breaks(hetznertest.Fault{On: "POST /servers", Status: status, Code: code, Message: message})
}

func breaks(f hetznertest.Fault) func(d *desk, o *provision.Order) {
	return func(d *desk, _ *provision.Order) { d.cloud.Break(f) }
}

func asked(change func(o *provision.Order)) func(d *desk, o *provision.Order) {
	return func(_ *desk, o *provision.Order) { change(o) }
}

// refusal is an order that is refused: how, and what a person reads.
type refusal struct {
	spoil func(d *desk, o *provision.Order)
	want  provision.Trouble
	parts []string
	posts int // that Hetzner sees
}

func capacity() map[string]refusal {
	next := "the next type or location is tried"
	return map[string]refusal{
		"R12 sold out":             {func(d *desk, _ *provision.Order) { d.cloud.SellOut("cx23", "nbg1", false) }, provision.SoldOut, []string{"no cx23 left in nbg1", next}, 1},
		"R12 no placement":         {breaks(hetznertest.NoPlacement(1)), provision.SoldOut, []string{"no cx23 left in nbg1", next}, 1},
		"R12 unsupported there":    {func(d *desk, _ *provision.Order) { d.cloud.Unsupport("cx23", "nbg1") }, provision.SoldOut, []string{"no cx23 left in nbg1", "unsupported location", next}, 1},
		"R12 a 412 of another day": {no(412, "new_code", "the hosts are full"), provision.SoldOut, []string{"the hosts are full", "next type"}, 1},
		"a type that is gone":      {func(d *desk, _ *provision.Order) { d.cloud.RemoveType("cx23") }, provision.BadOffer, []string{"does not sell servers of type cx23", next}, 1},
		"a type of the past":       {no(422, "invalid_server_type", "server type is deprecated"), provision.BadOffer, []string{"of type cx23 any more", next}, 1},
		"a closed location":        {func(d *desk, _ *provision.Order) { d.cloud.CloseLocation("nbg1") }, provision.BadOffer, []string{"closed the location nbg1", next}, 1},
		"an unknown location":      {asked(func(o *provision.Order) { o.Location = "ber1" }), provision.BadOffer, []string{"no servers in ber1", next}, 1},
		"a type not found":         {no(404, "not_found", "server_type not found"), provision.BadOffer, []string{"cx23", next}, 1},
		"R15 servers":              {func(d *desk, _ *provision.Order) { d.cloud.Limit(0) }, provision.NoQuota, []string{"server_limit", "ask for more"}, 1},
		"R15 addresses": {breaks(hetznertest.Fault{On: "POST /servers", Status: 403, Code: "resource_limit_exceeded", Message: "limit", Details: map[string]any{
			"limits": []any{map[string]any{"name": "primary_ip_limit"}, map[string]any{"name": "dedicated_core_limit"}},
		}}), provision.NoQuota, []string{"primary_ip_limit, dedicated_core_limit"}, 1},
		"R15 without details": {no(403, "resource_limit_exceeded", "limit"), provision.NoQuota, []string{"(resource_limit_exceeded)", "ask for more"}, 1},
		"R15 odd details": {breaks(hetznertest.Fault{
			On: "POST /servers", Status: 403,
			Body: `{"error":{"code":"resource_limit_exceeded","message":"limit","details":["x"]}}`,
		}), provision.NoQuota, []string{"(resource_limit_exceeded)"}, 1},
		"R15 as it was called": {no(403, "server_limit_exceeded", "limit"), provision.NoQuota, []string{"server_limit_exceeded"}, 1},
	}
}

func terminal() map[string]refusal {
	return map[string]refusal{
		"R16 an unknown token":     {func(d *desk, _ *provision.Order) { d.cloud.Revoke() }, provision.Denied, []string{"does not know the API token", "make a new one"}, 1},
		"R16 a token that reads":   {func(d *desk, _ *provision.Order) { d.cloud.ReadOnly() }, provision.Denied, []string{"may only read", "read and write rights"}, 1},
		"R16 as it was called":     {no(403, "token_readonly", "read only"), provision.Denied, []string{"make a new one"}, 1},
		"R16 a bare 403":           {no(403, "", ""), provision.Denied, []string{"403 Forbidden", "account is in order"}, 1},
		"R16 an image that left":   {func(d *desk, _ *provision.Order) { d.cloud.RemoveImage("debian-12") }, provision.BadOrder, []string{"no image debian-12", "choose another"}, 1},
		"an image not found":       {no(404, "not_found", "image not found"), provision.BadOrder, []string{"no image debian-12"}, 1},
		"a snapshot that left":     {asked(func(o *provision.Order) { o.Image = "7" }), provision.BadOrder, []string{"no image 7"}, 1},
		"R28 too much user data":   {asked(func(o *provision.Order) { o.UserData = make([]byte, MaxUserData+1) }), provision.BadOrder, []string{"32769 bytes", "takes 32768"}, 0},
		"R28 too much for Hetzner": {no(422, "invalid_input", "invalid input in field 'user_data'"), provision.BadOrder, []string{"first instructions (14 bytes)", "shorten them"}, 1},
		"R28 no text":              {asked(func(o *provision.Order) { o.UserData = []byte{0x1f, 0x8b} }), provision.BadOrder, []string{"base64"}, 0},
		"R17 an old samnode":       {no(410, "deprecated_api_endpoint", "gone"), provision.BadOrder, []string{"upgrade samnode"}, 1},
		"bad JSON":                 {no(400, "json_error", "invalid JSON"), provision.BadOrder, []string{"json_error", "upgrade samnode"}, 1},
		"another field":            {no(422, "invalid_input", "invalid input in field 'automount'"), provision.BadOrder, []string{"automount", "upgrade samnode"}, 1},
		"no name":                  {asked(func(o *provision.Order) { o.Name = "Big" }), provision.BadOrder, []string{"host name"}, 0},
		"no type":                  {asked(func(o *provision.Order) { o.Type = "" }), provision.BadOrder, []string{"no type"}, 0},
		"R6 another mesh's labels": {asked(func(o *provision.Order) { o.Labels = provision.Labels("other", o.Op, time.Now()) }), provision.BadOrder, []string{"not those of this mesh"}, 0},
		"R2 another op's label":    {asked(func(o *provision.Order) { o.Labels[provision.LabelOp] = "x" }), provision.BadOrder, []string{"another op's"}, 0},
		"R31 no end":               {asked(func(o *provision.Order) { delete(o.Labels, provision.LabelExpires) }), provision.BadOrder, []string{"unix seconds"}, 0},
		"R1 a label with a colon":  {asked(func(o *provision.Order) { o.Labels["at"] = "12:00" }), provision.BadOrder, []string{`at="12:00"`}, 0},
	}
}

func passing() map[string]refusal {
	posts := func(f hetznertest.Fault) hetznertest.Fault {
		f.On = "POST /servers"
		return f
	}
	looks := "samnode"
	return map[string]refusal{
		"R17 429":              {breaks(hetznertest.TooMany(1, "30")), provision.NoBudget, []string{"fewer calls", "goes on in 30s"}, 1},
		"R17 429 and no more":  {breaks(hetznertest.TooMany(1, "")), provision.NoBudget, []string{"goes on in 1s"}, 1},
		"5xx for an hour":      {breaks(hetznertest.Down(time.Hour)), provision.Unreachable, []string{"trouble of its own", "tries again"}, 1},
		"maintenance":          {no(503, "maintenance", "back soon"), provision.Unreachable, []string{"back soon", "tries again"}, 1},
		"a bare 502":           {breaks(posts(hetznertest.BadGateway(1))), provision.Unreachable, []string{"502 Bad Gateway", "tried again"}, 1},
		"a bare 404":           {no(404, "", ""), provision.Unreachable, []string{"404 Not Found", "tried again"}, 1},
		"an unknown code":      {no(500, "new_code", "odd"), provision.Unreachable, []string{"odd (new_code)", "tried again"}, 1},
		"no answer":            {breaks(hetznertest.CreateHangs()), provision.Unreachable, []string{"did not answer in time", looks}, 1},
		"a reset":              {breaks(posts(hetznertest.Fault{Reset: true})), provision.Unreachable, []string{"no answer from Hetzner", looks}, 1},
		"malformed JSON":       {breaks(posts(hetznertest.Fault{Status: 201, Body: `{"server":`})), provision.Unreachable, []string{"cannot be read", "proxy"}, 1},
		"a proxy's page":       {breaks(posts(hetznertest.Fault{Status: 200})), provision.Unreachable, []string{"cannot be read", "proxy"}, 1},
		"something locked":     {no(423, "locked", "busy"), provision.Busy, []string{"tried again later"}, 1},
		"something that moved": {no(409, "conflict", "changed"), provision.Busy, []string{"tried again later"}, 1},
	}
}

// Each kind of trouble means something else to the keeper, and says to a person
// what happened and what is next. None makes a server, and none lasts.
func TestR12R15R16EveryRefusalHasItsKind(t *testing.T) {
	t.Parallel()
	for kind, all := range map[string]map[string]refusal{"capacity": capacity(), "terminal": terminal(), "passing": passing()} {
		for name, c := range all {
			t.Run(kind+": "+name, func(t *testing.T) {
				t.Parallel()
				bench{}.run(t, func(d *desk) {
					o := order(op1, 1)
					c.spoil(d, &o)
					s, err := d.Create(d.Context(), o)
					d.refused(err, c.want, c.parts...)
					if s.ID != "" || len(d.cloud.Ever()) != 0 {
						d.Errorf("Create = %+v", s)
					}
					if n := d.calls("POST /v1/servers"); n != c.posts {
						d.Errorf("%d POSTs, want %d", n, c.posts)
					}
					d.cloud.Heal()
					time.Sleep(time.Hour)
					d.mustCreate()
					d.one()
				})
			})
		}
	}
}

func TestR17TheWaitThatHetznerAsksForIsHandedOn(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"30":                            30 * time.Second,
		"1000000":                       maxPause,
		"Sat, 01 Jan 2000 00:02:00 GMT": 2 * time.Minute, // bubbles begin with that year
		"Sat, 01 Jan 1999 00:00:00 GMT": 0,
	} {
		bench{}.run(t, func(d *desk) {
			d.cloud.Break(hetznertest.TooMany(1, header))
			_, err := d.create()
			if p := d.refused(err, provision.NoBudget); p.Wait != want {
				d.Errorf("Retry-After %q: wait = %s, want %s", header, p.Wait, want)
			}
		})
	}
}

// Every call says what is wrong in the same way, and gives nothing that could be
// taken for an answer.
func TestEveryCallExplainsItself(t *testing.T) {
	t.Parallel()
	calls := map[string]func(ctx context.Context, c *Client) error{
		"Check":   func(ctx context.Context, c *Client) error { return c.Check(ctx) },
		"Server":  func(ctx context.Context, c *Client) error { s, err := c.Server(ctx, "1001"); return none(s.ID, err) },
		"Servers": func(ctx context.Context, c *Client) error { s, err := c.Servers(ctx); return none(s, err) },
		"Offers":  func(ctx context.Context, c *Client) error { o, err := c.Offers(ctx); return none(o, err) },
		"Delete":  func(ctx context.Context, c *Client) error { return c.Delete(ctx, "1001") },
		"Sweep":   func(ctx context.Context, c *Client) error { s, err := c.SweepAddresses(ctx); return none(s, err) },
	}
	for name, c := range map[string]struct {
		f    hetznertest.Fault
		want provision.Trouble
	}{
		"401":              {hetznertest.Fault{Status: 401, Code: "unauthorized", Message: "unable to authenticate"}, provision.Denied},
		"403":              {hetznertest.Fault{Status: 403, Code: "forbidden", Message: "no"}, provision.Denied},
		"429":              {hetznertest.TooMany(0, "60"), provision.NoBudget},
		"503":              {hetznertest.Down(0), provision.Unreachable},
		"a bare 500":       {hetznertest.Fault{Status: 500}, provision.Unreachable},
		"a bare 404":       {hetznertest.Fault{Status: 404}, provision.Unreachable},
		"a 404 of another": {hetznertest.Fault{Status: 404, Code: "no_such_route", Message: "no such route"}, provision.Unreachable},
		"a redirect":       {hetznertest.Fault{Status: 302}, provision.Unreachable},
		"a page":           {hetznertest.Fault{Status: 200}, provision.Unreachable},
		"an empty object":  {hetznertest.Fault{Status: 200, Body: "{}"}, provision.Unreachable},
		"half an object":   {hetznertest.Fault{Status: 200, Body: `{"servers":[{"id":1`}, provision.Unreachable},
		"other types":      {hetznertest.Fault{Status: 200, Body: `{"server":"x","servers":{},"action":[],"locations":4,"pricing":1,"server_types":"y","primary_ips":2}`}, provision.Unreachable},
		"too much":         {hetznertest.Fault{Status: 200, Body: strings.Repeat(" ", maxAnswer+1)}, provision.Unreachable},
		"a reset":          {hetznertest.Fault{Reset: true}, provision.Unreachable},
		"a hang":           {hetznertest.Fault{Hang: true}, provision.Unreachable},
	} {
		for what, call := range calls {
			t.Run(what+", "+name, func(t *testing.T) {
				t.Parallel()
				bench{}.run(t, func(d *desk) {
					d.cloud.Break(c.f)
					d.refused(call(d.Context(), d.Client), c.want)
				})
			})
		}
	}
}

// none wants nothing beside an error.
func none[T any](got T, err error) error {
	if s := fmt.Sprint(got); err != nil && s != "" && s != "[]" {
		return fmt.Errorf("beside %w: %v", err, got)
	}
	return err
}

// What Hetzner writes is cut to something that can be read.
func TestLongMessagesAreCut(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		d.cloud.Break(hetznertest.Fault{On: "POST /servers", Status: 422, Code: "invalid_input", Message: string(bytes.Repeat([]byte("très\n"), 5000))})
		_, err := d.create()
		if p := d.refused(err, provision.BadOrder, "très très", "…"); len(p.Text) > 600 {
			d.Errorf("%d bytes", len(p.Text))
		}
	})
}
