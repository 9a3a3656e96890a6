package hetzner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
	"github.com/samnode/samnode/provision/keeper"
)

// office is a leader with the real keeper, whose provider is the real client. It
// is what the keeper calls beside that.
type office struct {
	*desk
	ctx   context.Context // of the leadership, and of the machines
	state *provision.State
	heard map[string]time.Time // by node; mu protects it
	mu    sync.Mutex
	index uint64
}

// lead runs a test under a keeper. Machines join half a minute after they were
// made.
func lead(t *testing.T, cloud hetznertest.Config, test func(o *office)) {
	t.Helper()
	var o *office
	cloud.OnCreate = func(s hetznertest.Server, data []byte) { go o.boot(s, data) }
	bench{cloud: cloud}.run(t, func(d *desk) {
		ctx, cancel := context.WithCancel(d.Context())
		defer cancel()
		o = &office{desk: d, ctx: ctx, state: provision.NewState(), heard: map[string]time.Time{}}
		policy := provision.DefaultPolicy()
		policy.Sizes, policy.Locations, policy.Image = []provision.Size{{Type: "cx33", Slots: 2}, {Type: "cpx22", Slots: 1}}, []string{"fsn1", "nbg1"}, "debian-12"
		o.must(provision.Command{Found: &provision.Found{Mesh: testMesh, Node: provision.Node{Name: "core", Addr: "core"}}})
		o.must(provision.Command{Set: &provision.Set{Policy: policy}})
		k, err := keeper.New(keeper.Config{
			State: o.state, Provider: d.Client, Keys: o, Propose: o.propose, UserData: o.userData,
			Waiting: func() []provision.Waiting { return nil }, Silent: func() []string { return nil }, Heard: o.heardAgo,
			NewID: func() string { return o.newID() }, Logger: d.logger,
		})
		if err != nil {
			d.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = k.Run(ctx) // it ends with ctx
		}()
		defer func() {
			cancel()
			<-done
		}()
		o.until("the prices are known", func(p provision.Pool) bool { return len(p.Offers) > 0 })
		test(o)
	})
}

func (o *office) newID() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.index++
	return fmt.Sprintf("01J00000000000000000%06d", o.index)
}

// propose is the log.
func (o *office) propose(_ context.Context, c provision.Command) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.index++
	c.Version, c.ID = provision.Version, fmt.Sprint("c", o.index)
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := o.state.Apply(o.index, time.Now(), data); err != nil {
		return err
	}
	out, _ := o.state.Outcome(c.ID)
	return out.Err()
}

func (o *office) must(c provision.Command) {
	o.Helper()
	if err := o.propose(o.Context(), c); err != nil {
		o.Fatal(err)
	}
}

func (o *office) Mint(context.Context, provision.Op) (string, error) { return "key", nil }

func (o *office) Invitation(_ provision.Op, expires time.Time) (string, provision.Invite, error) {
	word := o.newID()
	return word, provision.Invite{ID: "i-" + word, Hash: hashed(word), Expires: expires}, nil
}

func hashed(word string) string {
	sum := sha256.Sum256([]byte(word))
	return hex.EncodeToString(sum[:])
}

func (o *office) userData(b keeper.Boot) ([]byte, error) {
	return json.Marshal(map[string]string{"node": b.Machine.Node, "word": b.Word})
}

func (o *office) heardAgo(node string) (time.Duration, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, known := o.heard[node]
	return time.Since(at), known
}

// boot is a machine: its node joins and is heard from then on.
func (o *office) boot(s hetznertest.Server, data []byte) {
	var b struct{ Node, Word string }
	if err := json.Unmarshal(data, &b); err != nil {
		o.Errorf("server %s boots with %q: %v", s.Name, data, err)
		return
	}
	if !o.sleep(30 * time.Second) {
		return
	}
	for _, c := range []provision.Command{
		{Join: &provision.Join{Invite: "i-" + b.Word, Hash: hashed(b.Word), Node: provision.Node{Name: b.Node, Addr: b.Node}}},
		{Start: &provision.Start{Node: b.Node, Addr: b.Node, Boot: "b", Generation: 1, Slots: 2, CPUs: 4, Mem: 8 << 30}},
	} {
		if err := o.propose(o.Context(), c); err != nil {
			o.Logf("machine %s: %v", b.Node, err) // it may be deleted already
			return
		}
	}
	for member := true; member && o.sleep(30*time.Second); {
		_ = o.propose(o.ctx, provision.Command{Beats: &provision.Beats{Beats: []provision.Beat{{Node: b.Node, Boot: "b"}}}})
		o.mu.Lock()
		o.heard[b.Node] = time.Now()
		o.mu.Unlock()
		p, _ := o.state.Pool()
		_, member = p.Node(b.Node)
	}
}

func (o *office) sleep(d time.Duration) bool { return sleep(o.ctx, d) == nil }

// until waits for something in the pool, for a day.
func (o *office) until(what string, is func(p provision.Pool) bool) provision.Pool {
	o.Helper()
	for end := time.Now().Add(24 * time.Hour); ; time.Sleep(time.Second) {
		p, _ := o.state.Pool()
		if is(p) {
			return p
		}
		if time.Now().After(end) {
			o.Fatalf("never: %s; breaker %v; the last op: %+v", what, p.Breaker, p.Ops[len(p.Ops)-1])
		}
	}
}

// bought returns a purchase's machine.
func bought(p provision.Pool) (m provision.Machine, is bool) {
	for _, m := range p.Machines {
		if m.IsBought() {
			return m, true
		}
	}
	return m, false
}

func (o *office) buy() {
	o.Helper()
	o.must(provision.Command{Buy: &provision.Buy{Op: o.newID(), By: "p", Reason: "A person wants it."}})
}

// ready waits until the machine takes tasks.
func (o *office) ready() provision.Machine {
	o.Helper()
	p := o.until("a machine is ready", func(p provision.Pool) bool {
		m, is := bought(p)
		return is && m.State == provision.Ready
	})
	m, _ := bought(p)
	return m
}

// sell has all machines deleted.
func (o *office) sell() {
	o.Helper()
	p, _ := o.state.Pool()
	for _, m := range p.Machines {
		if m.IsBought() {
			_ = o.propose(o.Context(), provision.Command{Retire: &provision.Retire{Machine: m.Node, Op: o.newID(), Reason: "A person wants it gone.", By: "p"}}) // it may have failed already
		}
	}
	o.until("no machine is left", func(p provision.Pool) bool { _, is := bought(p); return !is })
	if left := o.cloud.Alive(); len(left) != 0 {
		o.Errorf("left: %+v", left)
	}
}

// TestTheKeeperBuysAndDeletes is a machine's life, by the real keeper.
func TestTheKeeperBuysAndDeletes(t *testing.T) {
	t.Parallel()
	lead(t, hetznertest.Config{}, func(o *office) {
		o.buy()
		m := o.ready()
		made := o.one()
		if m.Node != made.Name || m.Bought.Address != made.Address || m.Bought.Hour != o.offer("cx33", "fsn1").Hour || made.Labels[provision.LabelMesh] != testMesh {
			o.Errorf("machine %+v, made %+v", m, made)
		}
		o.sell()
		if all, _ := o.cloud.Addresses(); all != 0 {
			o.Errorf("%d addresses are left", all)
		}
		if n := len(o.cloud.Calls()); n > 60 {
			o.Errorf("%d calls for one machine's life", n)
		}
	})
}

// verdict is what the keeper makes of something that goes wrong.
type verdict struct {
	spoil   func(c *hetznertest.Cloud)
	breaker provision.Trouble // empty: it stays closed
	person  bool              // only a person closes it
	parts   []string          // of what is said in the breaker, or about the op
	posts   int               // in 50 minutes, at most
	servers int               // made in that time
}

func verdicts() map[string]verdict {
	f := func(f hetznertest.Fault) func(*hetznertest.Cloud) {
		return func(c *hetznertest.Cloud) { c.Break(f) }
	}
	places := []string{"fsn1", "nbg1"}
	each := func(do func(c *hetznertest.Cloud, kind, place string)) func(*hetznertest.Cloud) {
		return func(c *hetznertest.Cloud) {
			for _, place := range places {
				do(c, "cx33", place)
				do(c, "cpx22", place)
			}
		}
	}
	return map[string]verdict{
		"R16 a token that is unknown": {spoil: (*hetznertest.Cloud).Revoke, breaker: provision.Denied, person: true, parts: []string{"does not know the API token", "resumed buying"}, posts: 1},
		"R16 a token that reads":      {spoil: (*hetznertest.Cloud).ReadOnly, breaker: provision.Denied, person: true, parts: []string{"may only read", "resumed buying"}, posts: 1},
		"R16 an image that is gone":   {spoil: func(c *hetznertest.Cloud) { c.RemoveImage("debian-12") }, breaker: provision.BadOrder, person: true, parts: []string{"no image debian-12"}, posts: 1},
		"R16 too much user data": {
			spoil:   f(hetznertest.Fault{On: "POST /servers", Status: 422, Code: "invalid_input", Message: "invalid input in field 'user_data'"}),
			breaker: provision.BadOrder, person: true, parts: []string{"shorten them"}, posts: 1,
		},
		"R15 no quota":              {spoil: func(c *hetznertest.Cloud) { c.Limit(0) }, breaker: provision.NoQuota, parts: []string{"server_limit", "then one machine is tried"}, posts: 6},
		"R12 R13 all sold out":      {spoil: each(func(c *hetznertest.Cloud, k, p string) { c.SellOut(k, p, false) }), parts: []string{"left in"}, posts: 4 * 7},
		"R12 R13 all unsupported":   {spoil: each(func(c *hetznertest.Cloud, k, p string) { c.Unsupport(k, p) }), parts: []string{"left in"}, posts: 4 * 7},
		"R11 the first is sold out": {spoil: func(c *hetznertest.Cloud) { c.SellOut("cx33", "fsn1", false) }, posts: 2, servers: 1},
		"R11 a type is gone":        {spoil: func(c *hetznertest.Cloud) { c.RemoveType("cx33") }, posts: 3, servers: 1},
		"R11 a location is closed":  {spoil: func(c *hetznertest.Cloud) { c.CloseLocation("fsn1") }, posts: 2, servers: 1},
		"R17 429":                   {spoil: f(hetznertest.TooMany(5, "40")), posts: 6, servers: 1},
		"R18 5xx for an hour":       {spoil: f(hetznertest.Down(time.Hour)), parts: []string{"trouble of its own"}, posts: 40},
		"R2 an answer never comes":  {spoil: f(hetznertest.AnswerHangs()), posts: 1, servers: 1},
		"R2 malformed JSON":         {spoil: f(hetznertest.AnswerGarbled()), posts: 1, servers: 1},
		"R2 a reset after it":       {spoil: f(hetznertest.AnswerReset()), posts: 1, servers: 1},
		"R2 504 after it":           {spoil: f(hetznertest.AnswerLost()), posts: 1, servers: 1},
		"R2 lost, and a list that lags": {
			spoil: func(c *hetznertest.Cloud) { c.Break(hetznertest.AnswerLost()); c.Lag(20 * time.Second) },
			posts: 2, servers: 1,
		},
		"R2 lost, and then denied": {spoil: func(c *hetznertest.Cloud) {
			c.Break(hetznertest.AnswerLost())
			c.Break(hetznertest.Fault{On: "GET /servers", Times: 5, Status: 401, Code: "unauthorized"})
		}, posts: 2, servers: 1},
		"R8 R10 an action that fails": {spoil: func(c *hetznertest.Cloud) {
			c.FailAction(hetznertest.Failure{Command: "start_server", Code: "failed", Message: "the host caught fire"})
		}, breaker: provision.Broken, parts: []string{"3 attempts", "caught fire"}, posts: 6, servers: 6},
	}
}

// TestR10R11R15R16TheKeeperTellsTroubleApart: the keeper does with each trouble
// what it asks for, in few calls, and when it has passed, or a person resumes,
// there is one machine, and then none.
func TestR10R11R15R16TheKeeperTellsTroubleApart(t *testing.T) {
	t.Parallel()
	for name, v := range verdicts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lead(t, hetznertest.Config{}, func(o *office) { o.judge(v) })
		})
	}
}

func (o *office) judge(v verdict) {
	o.Helper()
	v.spoil(o.cloud)
	o.buy()
	time.Sleep(50 * time.Minute) // before the end of the hour the machine is let go
	p, _ := o.state.Pool()
	m, is := bought(p)
	ready := is && m.State == provision.Ready
	if ready != (v.servers == 1) || p.Breaker.Trouble != v.breaker || v.person != (v.breaker != "" && p.Breaker.Until.IsZero()) {
		o.Errorf("machine %s is %s, breaker %+v; op %s", m.Node, m.State, p.Breaker, p.Ops[0].Text)
	}
	said := p.Breaker.String() + " " + p.Ops[0].Text
	for _, part := range v.parts {
		if !strings.Contains(said, part) {
			o.Errorf("it says %q, which lacks %q", said, part)
		}
	}
	if posts, made := o.calls("POST /v1/servers"), len(o.cloud.Ever()); posts > v.posts || posts == 0 || made > v.servers {
		o.Errorf("%d POSTs and %d servers, want %d and %d at most", posts, made, v.posts, v.servers)
	}
	o.cloud.Heal()
	if v.breaker != "" {
		o.must(provision.Command{Resume: &provision.Resume{}})
	}
	if p, _ := o.state.Pool(); len(p.Ops) > 0 && p.Ops[0].State == provision.OpFailed {
		o.buy()
	}
	o.ready()
	if n := len(o.cloud.Alive()); n != 1 {
		o.Errorf("%d servers, want 1", n)
	}
	o.sell()
	if n := o.cloud.Busiest(time.Hour); n > usualLimit/2 {
		o.Errorf("%d calls in an hour", n)
	}
}
