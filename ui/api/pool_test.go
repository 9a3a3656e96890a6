package api

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// onePool is a pool that remembers what it was told to do.
type onePool struct {
	info PoolInfo
	did  []string
}

func (p *onePool) Pool(context.Context) (PoolInfo, error) { return p.info, nil }

func (p *onePool) SetPool(_ context.Context, by chat.Author, set PoolSettings) error {
	p.did, p.info.Settings = append(p.did, string(by.Person)+" set"), set
	return nil
}

func (p *onePool) Buy(_ context.Context, by chat.Author, need PoolNeed) (string, error) {
	p.did = append(p.did, fmt.Sprintf("%s buy %+v", by.Person, need))
	return need.ID, nil
}

func (p *onePool) DeleteMachine(_ context.Context, by chat.Author, machine string) error {
	p.did = append(p.did, fmt.Sprintf("%s delete %s", by.Person, machine))
	return nil
}

func (p *onePool) KeepMachine(_ context.Context, by chat.Author, machine string, until time.Time) error {
	p.did = append(p.did, fmt.Sprintf("%s keep %s %s", by.Person, machine, until.Format(time.RFC3339)))
	return nil
}

func (p *onePool) ResumeBuying(_ context.Context, by chat.Author) error {
	p.did = append(p.did, string(by.Person)+" resume")
	return nil
}

func (p *onePool) CheckBuying(context.Context) []PoolCheck {
	return []PoolCheck{{Name: "hetzner", Detail: "the token only reads", Todo: "Set another one."}}
}

func newOnePool() *onePool {
	at := time.Date(2026, 11, 20, 14, 2, 0, 0, time.UTC)
	return &onePool{info: PoolInfo{
		At: at, Today: 0.31, Month: 4.2, Stopped: "Buying is stopped.", Resume: true, Alarms: []string{}, Swept: at,
		Machines: []PoolMachine{{Name: "samnode-1", State: "ready", Slots: 2, Tasks: []Lease{{Task: "T1", Slot: "slot-1", Token: 7, Since: at}}, Bought: true, Type: "cx33", Location: "fsn1", Hour: 0.0113, Created: at, PaidUntil: at, Until: at, Keep: at, Deadline: at, Leaves: true, Stay: "It is idle.", Why: "x", Owner: "ana@example.com", Failed: "y"}},
		Ops:      []PoolOp{{ID: "O1", Kind: "buy", State: "open", Machine: "samnode-1", Reason: "x", Began: at, History: []Event{{At: at, Text: "x"}}}},
		Choices:  []PoolChoice{{Type: "cx33", Location: "fsn1", Slots: 2, Hour: 0.0113, Day: 0.27, Refused: "sold out"}},
		Settings: PoolSettings{Sizes: []PoolSize{{Type: "cx33", Slots: 2}}, Locations: []string{}},
		Budget:   &PoolBudget{Limit: 1800, Left: 1700, Reserve: 360, Calls: map[string]int{"create": 3}},
	}}
}

func TestThePoolIsServed(t *testing.T) {
	p := newOnePool()
	f := newFixture(t, func(c *Config) { c.Pool = p })
	const op = "01JC0000000000000000000001"
	if body := f.want(200, "GET", "/api/v1/pool", ""); !strings.Contains(body, `"resume":true`) || !strings.Contains(body, `"leaves":true`) {
		t.Errorf("pool = %s", body)
	}
	if body := f.want(200, "GET", "/api/v1/pool/check", ""); !strings.Contains(body, `"ok":false`) || !strings.Contains(body, "only reads") {
		t.Errorf("check = %s", body)
	}
	f.want(201, "POST", "/api/v1/pool/machines", `{"id":"`+op+`","cpus":4}`)
	f.want(400, "POST", "/api/v1/pool/machines", `{"id":"mine"}`)
	f.want(204, "DELETE", "/api/v1/pool/machines/samnode-1", "")
	f.want(204, "POST", "/api/v1/pool/machines/samnode-1/keep", `{"until":"2026-11-20T18:02:00Z"}`)
	f.want(204, "POST", "/api/v1/pool/resume", "")
	const set = `"sizes":[{"type":"cx33","slots":2}],"image":"docker-ce","boot_minutes":10,"life_hours":24`
	f.want(204, "PUT", "/api/v1/pool/settings", `{"machines":3,"per_day":5,"warm_minutes":30,`+set+`}`)
	f.want(400, "PUT", "/api/v1/pool/settings", `{"machines":3,"per_day":5,"warm_minutes":153722867280,`+set+`}`)
	f.want(400, "PUT", "/api/v1/pool/settings", `{"machines":3,"per_day":1e300,"warm_minutes":30,`+set+`}`)
	want := []string{
		"ana@example.com buy {ID:" + op + " CPUs:4 Memory:0 Location:}", "ana@example.com delete samnode-1",
		"ana@example.com keep samnode-1 2026-11-20T18:02:00Z", "ana@example.com resume", "ana@example.com set",
	}
	if !slices.Equal(p.did, want) {
		t.Errorf("done = %q, want %q", p.did, want)
	}
	f.role = "member"
	f.want(200, "GET", "/api/v1/pool", "")
	for path, method := range map[string]string{"/check": "GET", "/machines": "POST", "/settings": "PUT", "/resume": "POST", "/machines/samnode-1": "DELETE", "/machines/samnode-1/keep": "POST"} {
		if status, _ := f.call(method, "/api/v1/pool"+path, "{}"); status != 403 {
			t.Errorf("a member's %s %s = %d, want 403", method, path, status)
		}
	}
	if !slices.Equal(p.did, want) {
		t.Errorf("a member did %q", p.did[len(want):])
	}
}

func TestCheckPool(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]PoolSettings{
		"fewer than none": {Free: -1}, "more than counts": {LifeHours: 1 << 40}, "no number": {PerDay: math.NaN()}, "no end": {PerDay: math.Inf(1)}, "a gain": {PerDay: -1},
	} {
		if CheckPool(set) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := CheckPool(PoolSettings{Machines: 3, PerDay: 5, WarmMinutes: 30}); err != nil {
		t.Error(err)
	}
}
