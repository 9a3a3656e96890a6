package hetzner

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

// hammer calls whenever it may, for that long.
func (d *desk) hammer(lasts time.Duration) {
	d.Helper()
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		if _, err := d.Servers(d.Context()); err != nil {
			time.Sleep(max(d.refused(err, provision.NoBudget).Wait, time.Millisecond))
		}
	}
}

func TestR17HalfOfTheAllowanceIsUsed(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{3600, 600, 7200} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			t.Parallel()
			bench{cloud: hetznertest.Config{RateLimit: limit}}.run(t, func(d *desk) {
				d.hammer(150 * time.Minute)
				most := d.cloud.Busiest(time.Hour)
				if most > limit/2 || most < limit/3 {
					d.Errorf("%d calls in an hour of %d allowed", most, limit)
				}
				if b := d.Budget(); b.Limit != limit || b.Hourly != limit/2 || b.Calls[kindList] != len(d.cloud.Calls()) {
					d.Errorf("budget = %+v after %d calls", b, len(d.cloud.Calls()))
				}
			})
		})
	}
}

func TestR17DeletesHaveAReserve(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		_, err := d.Servers(d.Context())
		for err == nil {
			_, err = d.Servers(d.Context())
		}
		p := d.refused(err, provision.NoBudget, "allowance", "goes on in")
		if p.Wait <= 0 || p.Wait > time.Minute {
			d.Errorf("wait = %s", p.Wait)
		}
		_, err = d.Create(d.Context(), order("01J0000000000000000000OP02", 1))
		d.refused(err, provision.NoBudget)
		b := d.Budget()
		if b.Reserve != usualLimit/10/4 || b.Left != b.Reserve {
			d.Errorf("budget = %+v, want a reserve of %d", b, usualLimit/10/4)
		}
		for range b.Reserve - 1 {
			if err := d.Delete(d.Context(), "1"); err != nil {
				d.Fatalf("Delete = %v", err)
			}
		}
		d.refused(d.Delete(d.Context(), "1"), provision.NoBudget)
		_, err = d.Server(d.Context(), "1") // there is a call left to look whether it is over
		d.refused(err, provision.Gone)
		_, err = d.Server(d.Context(), "1")
		d.refused(err, provision.NoBudget)
	})
}

// Two who begin to delete as often as they may do not keep each other from
// seeing that it is over.
func TestR17DeletesComeToAnEndWithoutATokenToSpare(t *testing.T) {
	t.Parallel()
	bench{cloud: hetznertest.Config{RateLimit: 240}}.run(t, func(d *desk) {
		ids := []string{d.mustCreate().ID, strconv.FormatInt(d.cloud.Put("x", nil).ID, 10)}
		for err := error(nil); err == nil; {
			_, err = d.Servers(d.Context())
		}
		began := time.Now()
		var all sync.WaitGroup
		for _, id := range ids {
			all.Go(func() {
				for {
					_ = d.Delete(d.Context(), id) // refused now and then; the look shows what came of it
					if _, err := d.Server(d.Context(), id); err != nil && provision.TroubleOf(err) == provision.Gone {
						return
					}
					time.Sleep(time.Second)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > 30*time.Minute {
			d.Errorf("it took %s", took)
		}
	})
}

// After a 429 nobody is called for as long as Hetzner says, deletes included:
// who calls on has his account closed.
func TestR17A429IsHeeded(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		d.cloud.Break(hetznertest.TooMany(1, "40"))
		_, err := d.Server(d.Context(), "1")
		if p := d.refused(err, provision.NoBudget); p.Wait != 40*time.Second {
			d.Errorf("wait = %s", p.Wait)
		}
		if until := d.Budget().Until; !until.Equal(time.Now().Add(40 * time.Second)) {
			d.Errorf("until = %s", until)
		}
		time.Sleep(39 * time.Second)
		d.refused(d.Delete(d.Context(), "1"), provision.NoBudget)
		if n := len(d.cloud.Calls()); n != 1 {
			d.Errorf("%d calls in the pause", n-1)
		}
		time.Sleep(time.Second)
		if err := d.Delete(d.Context(), "1"); err != nil || !d.Budget().Until.IsZero() {
			d.Errorf("Delete = %v, budget %+v", err, d.Budget())
		}
	})
}

// Without a Retry-After the pause doubles, until an answer is another one.
func TestR17PausesDouble(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		d.cloud.Break(hetznertest.TooMany(8, ""))
		var waits []time.Duration
		for range 9 {
			err := d.Delete(d.Context(), "1")
			if err == nil {
				break
			}
			p := d.refused(err, provision.NoBudget)
			waits = append(waits, p.Wait)
			time.Sleep(p.Wait)
		}
		s := time.Second
		// Hetzner's own bucket is whole within seconds, and it says so.
		if want := []time.Duration{s, 2 * s, 2 * s, 2 * s, 2 * s, 2 * s, 2 * s, 2 * s}; !slices.Equal(waits, want) {
			d.Errorf("waits = %v, want %v", waits, want)
		}
	})
	a, now := newAllowance(time.Unix(1000, 0)), time.Unix(1000, 0)
	for i, want := range []int{1, 2, 4, 8, 16, 32, 64, 64} {
		a.learn(now, http.StatusTooManyRequests, http.Header{})
		if got := a.pause(now); got != time.Duration(want)*time.Second {
			t.Errorf("pause %d = %s, want %d s", i, got, want)
		}
		now = now.Add(a.pause(now))
	}
	a.learn(now, http.StatusOK, http.Header{})
	a.learn(now, http.StatusTooManyRequests, http.Header{})
	if got := a.pause(now); got != time.Second {
		t.Errorf("pause after an answer = %s, want 1s", got)
	}
}

// Others call, too: what is left to all is left to us at most.
func TestR17OthersUseTheSameAllowance(t *testing.T) {
	t.Parallel()
	bench{cloud: hetznertest.Config{RateLimit: 1000}}.run(t, func(d *desk) {
		req, err := http.NewRequestWithContext(d.Context(), http.MethodGet, "http://hetzner.test/v1/locations", nil)
		if err != nil {
			d.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testToken)
		for range 980 {
			resp, err := d.cloud.Transport().RoundTrip(req)
			if err != nil {
				d.Fatal(err)
			}
			resp.Body.Close()
		}
		_, err = d.Server(d.Context(), "1")
		d.refused(err, provision.Gone)
		if b := d.Budget(); b.Left > 19 || b.Limit != 1000 {
			d.Errorf("budget = %+v, want 19 left at most", b)
		}
	})
}

// Not 25-55 calls for each server, as somebody's provider made until it had
// none left for the deletes.
func TestR17ACreateTakesFewCalls(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		d.mustCreate()
		b := d.Budget()
		if n := len(d.cloud.Calls()); n > 10 || b.Calls[kindCreate] != 1 || b.Calls[kindAddress] != 2 || b.Calls[kindGet] != 1 {
			d.Errorf("%d calls: %v", n, b.Calls)
		}
	})
	bench{cloud: hetznertest.Config{CreateTime: 4 * time.Minute}}.run(t, func(d *desk) {
		d.mustCreate()
		if n := len(d.cloud.Calls()); n > 60 {
			d.Errorf("%d calls for a create of 4 minutes", n)
		}
	})
}

// Whatever is asked and answered, no hour has more than half of the smallest
// limit, and a clock that is set back gives nothing.
func TestR17NoHourHasMore(t *testing.T) {
	t.Parallel()
	const seeds = 200
	total := 0
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 17))
		now := time.Unix(1_000_000, 0)
		a := newAllowance(now)
		limit := []int{3600, 1000, 7200}[seed%3]
		a.learn(now, http.StatusOK, http.Header{"Ratelimit-Limit": {strconv.Itoa(limit)}})
		var at []time.Time
		elapsed := now // as no clock shows it
		for range 6000 {
			step := time.Duration(r.Int64N(int64(3 * time.Second)))
			elapsed = elapsed.Add(step)
			now = now.Add(step)
			if r.IntN(500) == 0 {
				now = now.Add(-time.Duration(r.Int64N(int64(time.Hour))))
			}
			kind := []string{kindDelete, kindGet}[r.IntN(2)]
			if _, ok := a.spend(now, kind); ok {
				at = append(at, elapsed)
			}
			if r.IntN(100) == 0 {
				a.learn(now, []int{200, 429, 503}[r.IntN(3)], http.Header{"Retry-After": {strconv.Itoa(r.IntN(20))}})
			}
		}
		for i, first := 0, 0; i < len(at); i++ {
			for at[i].Sub(at[first]) >= time.Hour {
				first++
			}
			if n := i - first + 1; n > limit/2 {
				t.Fatalf("seed %d: %d calls in an hour of %d allowed", seed, n, limit)
			}
		}
		total += len(at)
	}
	if total < 300*seeds {
		t.Errorf("%d calls in %d runs only", total, seeds)
	}
}
