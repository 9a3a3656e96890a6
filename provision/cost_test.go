package provision

import (
	"bytes"
	"testing"
	"time"
)

func TestMoney(t *testing.T) {
	for m, want := range map[Money]string{0: "0.00 €", 14_400: "0.0144 €", 5 * Euro: "5.00 €", -50_000: "-0.05 €", 1: "0.000001 €"} {
		if got := m.String(); got != want {
			t.Errorf("Money(%d) = %s, want %s", m, got, want)
		}
	}
}

// TestR22WholeHoursFromCreated: an hour counts whole once it has started, from
// the provider's time, on the day on which it started; and a machine's cost
// outlives it.
func TestR22WholeHoursFromCreated(t *testing.T) {
	s := newShop(t, nil)
	m := s.order("OP1")
	if got := s.pool().Today(s.now); got != 14_400 {
		t.Errorf("while it is made it costs %s", got)
	}
	created := s.now.Add(-20 * time.Minute) // the answer took its time
	s.must(made(m, s.token(m), server("1", "cx33", "fsn1", created)))
	b := s.machine(m).Bought
	for _, c := range []struct {
		after time.Duration // created
		paid  time.Duration
		today Money
	}{
		{0, time.Hour, 14_400}, {59 * time.Minute, time.Hour, 14_400}, {time.Hour, 2 * time.Hour, 28_800}, {150 * time.Minute, 3 * time.Hour, 43_200},
		{12*time.Hour + 30*time.Minute, 13 * time.Hour, 0}, {13 * time.Hour, 14 * time.Hour, 14_400}, // the hour of 23:40 was yesterday's
	} {
		now := created.Add(c.after)
		if got := b.PaidUntil(now).Sub(created); got != c.paid {
			t.Errorf("after %s it is paid for %s, want %s", c.after, got, c.paid)
		}
		if got := s.pool().Today(now); got != c.today {
			t.Errorf("after %s today is %s, want %s", c.after, got, c.today)
		}
	}
	s.pass(13 * time.Hour)
	before, month := s.pool().Today(s.now), s.pool().Month(s.now)
	s.must(ended(m, s.token(m)))
	p := s.pool()
	if _, is := p.Machine(m); is || p.Days[0] != (Day{"2026-11-01", 13 * 14_400}) || p.Days[1] != (Day{"2026-11-02", 14_400}) {
		t.Errorf("when it is gone: %+v", p.Days)
	}
	// The op tries another one, which counts an hour before it is made.
	if today := p.Today(s.now); today != before+14_400 || p.Month(s.now) != month+14_400 {
		t.Errorf("today is %s after %s, the month %s after %s", today, before, p.Month(s.now), month)
	}
	s.pass(40 * 24 * time.Hour)
	if got := s.pool().Spent("2026-11-01", s.now); got != 13*14_400 {
		t.Errorf("a month later that day is %s", got)
	}
}

// TestTaskCost shares a machine's price by slots and time.
func TestTaskCost(t *testing.T) {
	s := newShop(t, nil)
	m := s.up("OP1")
	s.lease("t1", m, 1)
	began := s.now
	s.pass(30*time.Minute - time.Second)
	if got := s.pool().TaskCost("t1", began.Add(15*time.Minute)); got != 14_400/8 {
		t.Errorf("after a quarter of an hour: %s", got)
	}
	s.end("t1")
	if got := s.pool().TaskCost("t1", s.now.Add(time.Hour)); got != 14_400/4 {
		t.Errorf("half an hour of one of two slots: %s", got)
	}
	s.lease("t1", m, 2)
	s.pass(time.Hour - time.Second)
	s.must(ended(m, s.token(m))) // deleted by hand, with the task on it
	if got := s.pool().TaskCost("t1", s.now); got != 14_400*3/4 {
		t.Errorf("and an hour more: %s", got)
	}
	s.end("t1")
	if got := s.pool().TaskCost("t1", s.now.Add(time.Hour)); got != 14_400*3/4 || s.pool().Shares[0].Held != 90*time.Minute {
		t.Errorf("once its lease ran out: %s, %+v", got, s.pool().Shares)
	}
	s.must(start("a", "x", 1, 1), grant("t2", "a", "a/1"))
	s.pass(time.Hour)
	s.end("t2")
	if got := s.pool().TaskCost("t2", s.now); got != 0 {
		t.Errorf("a joined machine costs %s", got)
	}
}

// TestShopSnapshot reads a pool with all parts back.
func TestShopSnapshot(t *testing.T) {
	s := newShop(t, nil)
	m := s.up("OP1")
	s.lease("t1", m, 1)
	s.end("t1")
	n := s.order("OP2")
	s.must(missed(n, s.token(n), NoQuota), Command{Label: &Label{Machine: m, Labels: []string{"fast"}}}, Command{Keep: &Keep{Machine: m, Until: t0.Add(time.Hour)}},
		Command{Swept: &Swept{Sweep: Sweep{Seen: 2, Strays: []string{"x"}}}}, retire(m, "DEL", true))
	p := s.pool()
	for name, there := range map[string]bool{
		"policy": p.Rules != nil, "ops": len(p.Ops) == 3, "offers": len(p.Offers) == 3, "breaker": p.Breaker.Strikes == 1,
		"shares": len(p.Shares) == 1, "arrivals": len(p.Arrivals) == 1, "sweep": p.Sweep.Seen == 2, "labels": len(s.machine(m).Labels) == 1,
	} {
		if !there {
			t.Errorf("the pool has no %s", name)
		}
	}
	if again := reopen(t, s.s); !bytes.Equal(saved(t, s.s), saved(t, again)) {
		t.Errorf("a snapshot changed\n%s\nto\n%s", saved(t, s.s), saved(t, again))
	}
}

// TestFoundOverKeepsTheRules: a mesh over a backup has the settings and the
// costs, and none of the machines: they carry the other mesh's label.
func TestFoundOverKeepsTheRules(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.Machines = 7 })
	m := s.up("OP1")
	s.must(retire(m, "DEL", true))
	s.must(del(m, s.token(m), ""))
	s.must(ended(m, s.token(m)))
	s.up("OP2")
	s.must(Command{Found: &Found{Mesh: "m2", Over: "m1", Node: Node{Name: "z"}}})
	p := s.pool()
	if p.Policy().Machines != 7 || p.Today(s.now) != 14_400 || len(p.Machines) != 0 || len(p.Ops) != 0 {
		t.Errorf("over a backup: %s, %+v", show(p), p)
	}
}
