package hetzner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

const (
	stormLasts = 90 * time.Minute // then nothing goes wrong any more
	stormEnds  = 24 * time.Hour   // by then everything is bought and deleted
)

// storm is one run: some ops buy and delete their machines while everything goes
// wrong that the menu has, as its seed says.
type storm struct {
	*desk
	seed  uint64
	began time.Time
	other *Client // a leader's that does not know yet that it is none; nil: there is none

	mu   sync.Mutex
	bad  []string
	late int // calls after which nobody knew what they brought
}

func (s *storm) dice(kind uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, kind)) }

func (s *storm) broken(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, fmt.Sprintf("%s: ", time.Since(s.began))+fmt.Sprintf(format, args...))
}

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}

// of are the servers of an op that are there and not being deleted.
func (s *storm) of(op string) (list []hetznertest.Server) {
	for _, x := range s.cloud.Alive() {
		if x.Labels[provision.LabelOp] == op && x.Labels[provision.LabelMesh] == testMesh && x.Status != "deleting" {
			list = append(list, x)
		}
	}
	return list
}

// menu is what goes wrong.
func (s *storm) menu(r *rand.Rand) {
	c, n := s.cloud, 1+r.IntN(3)
	place := [][2]string{{"cx23", "nbg1"}, {"cx23", "fsn1"}, {"cpx22", "hel1"}}[r.IntN(3)]
	seconds := strconv.Itoa(1 + r.IntN(90))
	any := []string{"POST /servers", "GET /servers", "GET /servers/*", "GET /actions", "GET /servers/*/actions", "DELETE /servers/*", ""}[r.IntN(7)]
	switch r.IntN(26) {
	case 0, 1:
		c.Break(hetznertest.AnswerLost())
	case 2, 3:
		c.Break(hetznertest.AnswerHangs())
	case 4:
		c.Break(hetznertest.CreateHangs())
	case 5, 6:
		c.Break(hetznertest.AnswerReset())
	case 7:
		c.Break(hetznertest.AnswerGarbled())
	case 8:
		c.Break(hetznertest.Fault{On: any, Times: n, Reset: true, After: r.IntN(2) == 0})
	case 9:
		c.Break(hetznertest.Fault{On: any, Times: n, Status: []int{500, 502, 504, 404, 200, 302}[r.IntN(6)], After: r.IntN(2) == 0})
	case 10:
		c.Break(hetznertest.Fault{On: any, Times: n, Status: 200, Body: []string{"{}", "{", `{"servers":[]}`, "null"}[r.IntN(4)]})
	case 11:
		c.Break(hetznertest.Fault{On: any, Times: n, Delay: between(r, time.Second, 90*time.Second)})
	case 12:
		c.Break(hetznertest.Down(between(r, time.Second, 5*time.Minute)))
	case 13:
		c.Break(hetznertest.TooMany(n, []string{"", seconds}[r.IntN(2)]))
	case 14:
		c.Break(hetznertest.Locked("DELETE /servers/*", n))
	case 15:
		c.Break(hetznertest.Conflict([]string{"DELETE /servers/*", "POST /servers"}[r.IntN(2)], n))
	case 16:
		c.Break(hetznertest.NoPlacement(n))
	case 17:
		c.SellOut(place[0], place[1], r.IntN(2) == 0)
	case 18:
		c.Unsupport(place[0], place[1])
	case 19:
		c.CloseLocation(place[1])
	case 20:
		c.Limit(r.IntN(4))
	case 21:
		c.Lag(between(r, time.Second, time.Minute))
	case 22:
		c.FailAction(hetznertest.Failure{Command: []string{"create_server", "start_server"}[r.IntN(2)], Code: "failed", Message: "it failed", Times: 1})
	case 23:
		c.SlowDelete(between(r, 0, time.Minute))
	case 24:
		if r.IntN(2) == 0 {
			c.ReadOnly()
		} else {
			c.Revoke()
		}
	case 25:
		c.Heal()
	}
}

// weather has something go wrong again and again, until it is over.
func (s *storm) weather() {
	r := s.dice(1)
	for time.Since(s.began) < stormLasts {
		s.menu(r)
		time.Sleep(between(r, time.Second, 80*time.Second))
		if r.IntN(8) == 0 {
			s.cloud.Heal()
		}
	}
	s.cloud.Heal()
}

// op is a purchase as the keeper drives it.
type op struct {
	*storm
	r       *rand.Rand
	id      string
	attempt int
	choice  int
	open    bool // a call that nobody knows the outcome of was made for this attempt
}

// run buys a machine, keeps it for a while, and deletes it.
func (o *op) run() {
	time.Sleep(between(o.r, 0, time.Hour))
	for time.Since(o.began) < stormEnds {
		id := o.buy()
		if id == "" {
			continue
		}
		time.Sleep(between(o.r, time.Minute, 40*time.Minute))
		o.end(id)
		return
	}
	o.broken("op %s was not bought", o.id)
}

// call is a context for a call: usually the keeper's, sometimes that of a leader
// who dies meanwhile.
func (o *op) call(lasts time.Duration) (ctx context.Context, cancel func(), dies bool) {
	dies = o.r.IntN(5) == 0
	if dies {
		lasts = between(o.r, 0, 75*time.Second)
	}
	ctx, cancel = context.WithTimeout(o.Context(), lasts)
	return ctx, cancel, dies
}

// buy makes one call and does what its outcome asks for. It returns the id of a
// server that was made.
func (o *op) buy() string {
	choices := [][2]string{{"cx23", "nbg1"}, {"cx23", "fsn1"}, {"cpx22", "hel1"}}
	ord := order(o.id, o.attempt)
	ord.Type, ord.Location = choices[o.choice%3][0], choices[o.choice%3][1]
	ctx, cancel, dies := o.call(10 * time.Minute)
	defer cancel()
	if o.other != nil && o.r.IntN(3) == 0 {
		o.open = true
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = o.other.Create(ctx, ord) // its leader is deposed, nobody hears of it
		}()
		defer func() { <-done }()
	}
	s, err := o.Create(ctx, ord)
	if err == nil {
		o.check(s, ord)
		return s.ID
	}
	if dies && ctx.Err() != nil {
		o.open = true
		time.Sleep(between(o.r, time.Second, 30*time.Second)) // the next one asks again
		return ""
	}
	o.missed(s, err)
	return ""
}

// check: what Create returned is there, and is this op's and no other's.
func (o *op) check(s provision.Server, ord provision.Order) {
	list := o.of(o.id)
	if len(list) != 1 || strconv.FormatInt(list[0].ID, 10) != s.ID || s.Name != ord.Name || s.Labels[provision.LabelOp] != o.id {
		o.broken("op %s has %+v, and there are %+v", o.id, s, list)
	}
}

// missed does what package provision does with a refusal.
func (o *op) missed(s provision.Server, err error) {
	if flaw := sentenceFlaw(err.Error()); flaw != "" {
		o.broken("the sentence %q %s", err, flaw)
	}
	trouble, wait := provision.TroubleOf(err), between(o.r, time.Second, 90*time.Second)
	switch trouble {
	case provision.SoldOut, provision.BadOffer:
		o.none(err)
		o.choice++
	case provision.NoQuota, provision.NoBudget, provision.Busy, provision.Denied, provision.BadOrder:
		o.none(err)
	case provision.Foreign:
		if list := o.of(o.id); len(list) > 0 {
			o.broken("%v: and it is ours: %+v", err, list)
		}
		o.attempt, o.open = o.attempt+1, false
	case provision.Broken:
		if s.ID == "" {
			o.broken("%v: which one?", err)
			return
		}
		o.end(s.ID)
		o.attempt, o.open = o.attempt+1, false
	case provision.Unreachable, provision.Gone:
		o.open = true
		o.mu.Lock()
		o.late++
		o.mu.Unlock()
	default:
		o.broken("trouble %q: %v", trouble, err)
	}
	time.Sleep(wait)
}

// none: a refusal says that this call made nothing. If none before did, there is
// nothing.
func (o *op) none(err error) {
	if list := o.of(o.id); !o.open && len(list) > 0 {
		o.broken("%s (%v): and there is %+v", provision.TroubleOf(err), err, list)
	}
}

// end deletes a server until Hetzner says that there is none.
func (o *op) end(id string) {
	for time.Since(o.began) < stormEnds {
		ctx, cancel, _ := o.call(2 * time.Minute)
		err := o.Delete(ctx, id)
		if err == nil {
			_, err = o.Server(ctx, id)
		}
		cancel()
		if err != nil && provision.TroubleOf(err) == provision.Gone {
			if slices.ContainsFunc(o.cloud.Alive(), func(s hetznertest.Server) bool { return strconv.FormatInt(s.ID, 10) == id }) {
				o.broken("server %s is said to be gone, and is there", id)
			}
			return
		}
		time.Sleep(between(o.r, time.Second, 30*time.Second))
	}
	o.broken("server %s was not deleted", id)
}

// play is one run.
func play(t *testing.T, seed uint64) (calls, late int) {
	limit := []int{3600, 240}[seed%2]
	var s *storm
	made := func(x hetznertest.Server, _ []byte) {
		if list := s.of(x.Labels[provision.LabelOp]); len(list) > 1 {
			s.broken("op %s has %d servers at a time: %+v", x.Labels[provision.LabelOp], len(list), list)
		}
	}
	bench{cloud: hetznertest.Config{RateLimit: limit, OnCreate: made}, quiet: seed > 0}.run(t, func(d *desk) {
		s = &storm{desk: d, seed: seed, began: time.Now()}
		if seed%4 >= 2 {
			s.other = d.newClient(Config{})
		}
		ids := []string{"01J0000000000000000000OP01", "01J0000000000000000000OP02", "01J0000000000000000000OP03"}
		strangers := []hetznertest.Server{d.cloud.Put("db", map[string]string{"op": ids[0]}), d.cloud.Put(order(ids[1], 1).Name, provision.Labels("other", ids[1], s.began))}
		var all sync.WaitGroup
		all.Go(s.weather)
		for i, id := range ids {
			all.Go((&op{storm: s, r: s.dice(uint64(10 + i)), id: id, attempt: 1}).run)
		}
		all.Wait()
		s.atTheEnd(strangers, limit)
		calls, late = len(d.cloud.Calls()), s.late
		if len(s.bad) > 0 {
			d.Errorf("seed %d:\n%s", seed, strings.Join(s.bad, "\n"))
		}
	})
	return calls, late
}

// atTheEnd nothing is left but what is not ours.
func (s *storm) atTheEnd(strangers []hetznertest.Server, limit int) {
	time.Sleep(time.Hour)
	if list, err := s.Servers(s.Context()); err != nil || len(list) != 0 {
		s.broken("Hetzner lists %+v, %v", list, err)
	}
	left := s.cloud.Alive()
	if !slices.EqualFunc(left, strangers, func(a, b hetznertest.Server) bool {
		return a.ID == b.ID && a.Status == b.Status && fmt.Sprint(a.Labels) == fmt.Sprint(b.Labels)
	}) {
		s.broken("left: %+v, want %+v", left, strangers)
	}
	if all, loose := s.cloud.Addresses(); all != len(strangers) || loose != 0 {
		s.broken("%d addresses are left, %d without a server", all, loose)
	}
	most := limit / 2
	if s.other != nil {
		most = limit // each of two has half of it
	}
	if n := s.cloud.Busiest(time.Hour); n > most {
		s.broken("%d calls in an hour, want %d at most", n, most)
	}
}

// TestR2R17R19R20Storm: whatever goes wrong, an op never has two servers, none is
// left, what is not ours is as it was, and the allowance is kept.
func TestR2R17R19R20Storm(t *testing.T) {
	t.Parallel()
	runs := 300
	if testing.Short() {
		runs = 60
	}
	calls, late := 0, 0
	for seed := range uint64(runs) {
		n, l := play(t, seed)
		calls, late = calls+n, late+l
		if t.Failed() {
			return
		}
	}
	if late < runs/4 {
		t.Errorf("%d calls were lost in %d runs: this is no storm", late, runs)
	}
	t.Logf("%d runs, %d calls; %d creates that nobody knew the outcome of", runs, calls, late)
}
