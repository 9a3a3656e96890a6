package hetznertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/provision"
)

// client says things to a cloud by hand.
type client struct {
	*testing.T
	cloud *Cloud
}

func (c client) do(method, path, body string) (int, map[string]any) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), method, "http://hetzner.test/v1"+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer any")
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.cloud.Transport().RoundTrip(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	var out map[string]any
	if len(data) > 0 && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(data, &out); err != nil {
			c.Fatal(err)
		}
	}
	return resp.StatusCode, out
}

func (c client) want(status int, method, path, body string) map[string]any {
	c.Helper()
	got, out := c.do(method, path, body)
	if got != status {
		c.Fatalf("%s %s = %d %v, want %d", method, path, got, out, status)
	}
	return out
}

// code is the error code of an answer.
func code(out map[string]any) string {
	e, _ := out["error"].(map[string]any)
	s, _ := e["code"].(string)
	return s
}

func names(out map[string]any) (all []string) {
	list, _ := out["servers"].([]any)
	for _, s := range list {
		all = append(all, s.(map[string]any)["name"].(string))
	}
	return all
}

// bubble runs a test on a cloud with a clock of its own, and holds all that is
// said against Hetzner's description of it.
func bubble(t *testing.T, cfg Config, test func(c client)) {
	t.Helper()
	spec, err := LoadSpec()
	if err != nil {
		t.Logf("NOT held against Hetzner's description: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := client{t, New(cfg)}
		if spec != nil {
			c.cloud.Validate(spec)
		}
		test(c)
		for _, v := range c.cloud.Violations() {
			t.Errorf("not as described: %s", v)
		}
		if spec != nil && c.cloud.Checked() == 0 {
			t.Error("nothing was held against the description")
		}
	})
}

const x1 = `{"name":"x1","server_type":"cx23","image":"debian-12","location":"nbg1","labels":{"a":"b"},"user_data":"#!"}`

func TestALife(t *testing.T) {
	t.Parallel()
	var seen []string
	cfg := Config{
		OnCreate: func(s Server, data []byte) { seen = append(seen, "made "+s.Name+" "+string(data)) },
		OnDelete: func(s Server) { seen = append(seen, "deletes "+s.Name) },
	}
	bubble(t, cfg, func(c client) {
		made := c.want(201, "POST", "/servers", x1)
		path := fmt.Sprintf("/servers/%.0f", made["server"].(map[string]any)["id"])
		status := func() string {
			return c.want(200, "GET", path, "")["server"].(map[string]any)["status"].(string)
		}
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{0, "initializing"}, {6 * time.Second, "starting"}, {4 * time.Second, "running"}} {
			time.Sleep(step.after)
			if got := status(); got != step.want {
				c.Errorf("status = %s, want %s", got, step.want)
			}
			if running := step.want == "running"; !running {
				if out := c.want(423, "DELETE", path, ""); code(out) != "locked" {
					c.Errorf("delete = %v", out)
				}
			}
		}
		c.want(201, "POST", path+"/actions/poweroff", "")
		time.Sleep(4 * time.Second)
		if got := status(); got != "off" {
			c.Errorf("status = %s", got)
		}
		c.want(200, "DELETE", path, "")
		if got := status(); got != "deleting" {
			c.Errorf("status = %s", got)
		}
		if out := c.want(409, "POST", "/servers", x1); code(out) != "uniqueness_error" { // the name is free only after it
			c.Errorf("create = %v", out)
		}
		time.Sleep(5 * time.Second)
		if out := c.want(404, "GET", path, ""); code(out) != "not_found" {
			c.Errorf("get = %v", out)
		}
		c.want(201, "POST", "/servers", x1)
	})
	if got, want := strings.Join(seen, ", "), "made x1 #!, deletes x1, made x1 #!"; got != want {
		t.Errorf("hooks saw %q, want %q", got, want)
	}
}

func TestOrdersThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil  func(*Cloud)
		body   string
		status int
		code   string
	}{
		"a type by number":           {body: strings.Replace(x1, `"cx23"`, `114`, 1), status: 201},
		"a location by number":       {body: strings.Replace(x1, `"nbg1"`, `"2"`, 1), status: 201},
		"a location sold out":        {spoil: func(c *Cloud) { c.SellOut("cx23", "nbg1", true) }, body: x1, status: 412, code: "resource_unavailable"},
		"and it by number":           {spoil: func(c *Cloud) { c.SellOut("cx23", "nbg1", true) }, body: strings.Replace(x1, `"nbg1"`, `"2"`, 1), status: 412, code: "resource_unavailable"},
		"a type not sold there":      {body: strings.Replace(x1, "nbg1", "ash", 1), status: 422, code: "invalid_input"},
		"a type refused there":       {spoil: func(c *Cloud) { c.Unsupport("cx23", "nbg1") }, body: x1, status: 422, code: "invalid_input"},
		"a location that is closed":  {spoil: func(c *Cloud) { c.CloseLocation("nbg1") }, body: x1, status: 412, code: "resource_unavailable"},
		"a type that is gone":        {spoil: func(c *Cloud) { c.RemoveType("cx23") }, body: x1, status: 422, code: "invalid_input"},
		"an image that is gone":      {spoil: func(c *Cloud) { c.RemoveImage("debian-12") }, body: x1, status: 422, code: "invalid_input"},
		"an image of another arch":   {body: strings.Replace(x1, `"debian-12"`, `1002`, 1), status: 422, code: "invalid_input"},
		"too much user data":         {body: strings.Replace(x1, "#!", strings.Repeat("x", 32<<10+1), 1), status: 422, code: "invalid_input"},
		"no room in the account":     {spoil: func(c *Cloud) { c.Limit(0) }, body: x1, status: 403, code: "resource_limit_exceeded"},
		"a token that may only read": {spoil: func(c *Cloud) { c.ReadOnly() }, body: x1, status: 403, code: "forbidden"},
		"a token that is unknown":    {spoil: func(c *Cloud) { c.Revoke() }, body: x1, status: 401, code: "unauthorized"},
		"no placement":               {spoil: func(c *Cloud) { c.Break(NoPlacement(1)) }, body: x1, status: 412, code: "placement_error"},
		"an API that is away":        {spoil: func(c *Cloud) { c.Break(Down(time.Hour)) }, body: x1, status: 503, code: "service_error"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{}, func(b client) {
				if c.spoil != nil {
					c.spoil(b.cloud)
				}
				if out := b.want(c.status, "POST", "/servers", c.body); code(out) != c.code {
					b.Errorf("code = %s, want %s", code(out), c.code)
				}
				want := 0
				if c.status == 201 {
					want = 1
				}
				if n := len(b.cloud.Ever()); n != want {
					b.Errorf("%d servers", n)
				}
				b.cloud.Heal()
			})
		})
	}
}

func TestListsHavePagesSelectorsAndLag(t *testing.T) {
	t.Parallel()
	bubble(t, Config{}, func(c client) {
		for i := range 60 {
			c.cloud.Put(fmt.Sprintf("s%02d", i), map[string]string{"mesh": "m", "n": fmt.Sprint(i)})
		}
		got := 0
		for page, next := 1, any(1.0); next != nil; page++ {
			out := c.want(200, "GET", fmt.Sprintf("/servers?per_page=25&page=%d", page), "")
			p := out["meta"].(map[string]any)["pagination"].(map[string]any)
			got, next = got+len(names(out)), p["next_page"]
			if p["total_entries"] != 60.0 || p["last_page"] != 3.0 {
				c.Errorf("pagination = %v", p)
			}
		}
		if got != 60 {
			c.Errorf("%d servers on all pages", got)
		}
		if n := names(c.want(200, "GET", "/servers?label_selector=mesh%3Dm,n+in+(3,5),!x&sort=id:desc", "")); fmt.Sprint(n) != "[s05 s03]" {
			c.Errorf("selected %v", n)
		}
		c.cloud.Lag(time.Minute)
		if n := names(c.want(200, "GET", "/servers?name=s01", "")); len(n) != 0 {
			c.Errorf("a list that lags shows %v", n)
		}
		time.Sleep(time.Minute)
		c.cloud.Remove(c.cloud.Alive()[1].ID)
		if n := names(c.want(200, "GET", "/servers?name=s01", "")); len(n) != 1 {
			c.Errorf("a list that lags shows %v of what is gone", n)
		}
	})
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"a": "1", "b": ""}
	for selector, want := range map[string]bool{
		"": true, "a": true, "c": false, "!c": true, "!a": false, "a=1": true, "a==1": true, "a=2": false, "b=": true, "a!=2": true,
		"a!=1": false, "c!=1": true, "a in (2, 1)": true, "a in (2)": false, "c in (1)": false, "a notin (2)": true, "c notin (1)": true,
		"a=1,b": true, "a=1,c": false, "a in (1,2),!c": true,
	} {
		if got := selects(selector, labels); got != want {
			t.Errorf("selects(%q) = %v", selector, got)
		}
	}
}

func TestEveryHourBegunIsPaid(t *testing.T) {
	t.Parallel()
	bubble(t, Config{DeleteTime: -1, StartTime: -1, CreateTime: -1}, func(c client) {
		c.want(201, "POST", "/servers", x1)
		hour := c.cloud.Bills()[0].Cost
		if hour != 9599 { // 5.99 € / 624
			c.Errorf("an hour costs %s", hour)
		}
		time.Sleep(time.Hour + time.Second)
		c.want(201, "POST", fmt.Sprintf("/servers/%d/actions/poweroff", c.cloud.Alive()[0].ID), "") // it costs the same
		time.Sleep(time.Hour - 2*time.Second)
		if b := c.cloud.Bills()[0]; b.Hours != 2 || b.Cost != 2*hour {
			c.Errorf("bill = %d h, %s", b.Hours, b.Cost)
		}
		c.want(200, "DELETE", fmt.Sprintf("/servers/%d", c.cloud.Alive()[0].ID), "")
		time.Sleep(1000 * time.Hour)
		if got := c.cloud.Paid(); got != 2*hour {
			c.Errorf("paid %s for what is gone, want %s", got, 2*hour)
		}
		c.want(201, "POST", "/servers", x1)
		time.Sleep(29 * 24 * time.Hour)
		if got := c.cloud.Paid() - 2*hour; got != 599*provision.Euro/100 {
			c.Errorf("a month costs %s, want 5.99 €", got)
		}
	})
}

func TestTheAllowanceRunsOutAndComesBack(t *testing.T) {
	t.Parallel()
	bubble(t, Config{RateLimit: 60}, func(c client) {
		for range 60 {
			c.want(200, "GET", "/locations", "")
		}
		if out := c.want(429, "GET", "/locations", ""); code(out) != "rate_limit_exceeded" {
			c.Errorf("answer = %v", out)
		}
		time.Sleep(time.Minute)
		c.want(200, "GET", "/locations", "")
		c.want(429, "GET", "/locations", "")
		if n := c.cloud.Busiest(time.Second); n != 61 {
			c.Errorf("busiest second = %d", n)
		}
	})
}

// A check that finds nothing has to be able to.
func TestValidationFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	spec, err := LoadSpec()
	if err != nil {
		t.Skip("SKIPPED: ", err)
	}
	c := client{t, New(Config{})}
	c.cloud.Validate(spec)
	wrong := func(side, part string) {
		t.Helper()
		v := c.cloud.Violations()
		if len(v) != 1 || v[0].Side != side || !strings.Contains(v[0].String(), part) {
			t.Errorf("violations = %v, want one of the %s with %q", v, side, part)
		}
		c.cloud.change(func() { c.cloud.broken = nil })
	}
	c.do("POST", "/servers", `{"name":"x","image":"debian-12"}`)
	wrong("request", "server_type")
	c.do("POST", "/servers", strings.Replace(x1, `"b"`, `"b:c"`, 1))
	wrong("request", "labels")
	c.do("GET", "/servers?lable_selector=a", "")
	wrong("request", "lable_selector")
	c.do("GET", "/volumes", "")
	wrong("request", "not in the description")
	c.cloud.Break(Fault{Times: 1, Status: 404, Code: "not_found", Message: "x", Details: "no object"})
	c.do("GET", "/servers/1", "")
	wrong("answer", "details")
	c.cloud.images[0].flavor = "plan9"
	c.do("GET", "/images", "")
	wrong("answer", "os_flavor")
}
