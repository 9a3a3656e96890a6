package provision

import (
	"strings"
	"testing"
	"time"
)

// TestR22Warm asks the warm policy at minutes after a machine was made. It has
// been idle since minute 10.
func TestR22Warm(t *testing.T) {
	d := func(p Policy) func(*Policy) { return func(q *Policy) { *q = p } }
	base := DefaultPolicy()
	base.Sizes, base.Locations = []Size{{Type: "cx33", Slots: 2}}, []string{"fsn1"}
	base.Free = 0
	once, fixed, whole := base, base, base
	once.Warm, once.WholeHours = 0, false
	fixed.WholeHours = false
	whole.Warm = 0
	for _, c := range []struct {
		name   string
		policy Policy
		at     int // minutes
		due    bool
		until  int // minutes
	}{
		{"at once", once, 10, true, 10},
		{"fixed, before", fixed, 39, false, 40},
		{"fixed, then", fixed, 41, true, 41},
		{"paid hour, before", whole, 20, false, 57},
		{"paid hour, in its end", whole, 58, true, 58},
		{"both, before", base, 30, false, 57},
		{"both, in the end", base, 57, true, 57},
		{"the next hour has begun", base, 61, false, 117},
		{"and ends", base, 118, true, 118},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t, d(c.policy))
			m := s.up("OP1")
			created := s.machine(m).Bought.Created
			s.lease("t1", m, 1)
			s.now = created.Add(10*time.Minute - time.Second)
			s.end("t1")
			got := Warm(s.pool(), nil, created.Add(time.Duration(c.at)*time.Minute))
			if len(got) != 1 || got[0].Due != c.due || !got[0].Idle || got[0].Until.Sub(created) != time.Duration(c.until)*time.Minute {
				t.Errorf("Warm = %+v, want due %t at minute %d", got, c.due, c.until)
			}
			if c.due {
				s.now = created.Add(time.Duration(c.at)*time.Minute - time.Second)
				s.must(retire(m, "DEL", got[0].Idle))
			}
		})
	}
}

// TestWarmKeepsOneFreeSlot while the last task is under an hour old, of two
// machines the one whose hour ends last.
func TestWarmKeepsOneFreeSlot(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.Warm = 0 })
	one := s.up("OP1")
	s.pass(5 * time.Minute)
	two := s.up("OP2")
	s.lease("t1", one, 1)
	s.end("t1")
	last := s.now
	created := s.machine(one).Bought.Created
	look := func(at time.Time) (a, b Stay) {
		t.Helper()
		for _, st := range Warm(s.pool(), nil, at) {
			if st.Machine == one {
				a = st
			} else if st.Machine == two {
				b = st
			}
		}
		return a, b
	}
	if a, b := look(created.Add(58 * time.Minute)); !a.Due || b.Due || b.Reason != "It is kept for the next task." || !b.Until.After(last.Add(time.Hour)) {
		t.Errorf("at the end of the first hour: %+v, %+v", a, b)
	}
	s.must(drain(one, true))
	if _, b := look(created.Add(63 * time.Minute)); b.Due {
		t.Errorf("the last free slot goes: %+v", b)
	}
	if _, b := look(b2(look(created.Add(63 * time.Minute))).Until); !b.Due {
		t.Errorf("it stays although the last task is an hour old: %+v", b)
	}
	if a, _ := look(created.Add(58 * time.Minute)); !a.Due {
		t.Errorf("what somebody drains is not kept: %+v", a)
	}
	s.must(start("a", "x", 1, 4)) // a joined machine's slots are free, too
	if _, b := look(created.Add(63 * time.Minute)); !b.Due {
		t.Errorf("a bought slot is kept beside free ones: %+v", b)
	}
	if b := Warm(s.pool(), []string{"a"}, created.Add(63*time.Minute))[1]; b.Due {
		t.Errorf("a silent machine's slots count as free: %+v", b)
	}
}

func b2(_, b Stay) Stay { return b }

func TestWarmOtherReasons(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.Warm, p.Free, p.PerDay = 50*time.Minute, 0, 30_000 }) // two hours a day
	m := s.up("OP1")
	created := s.machine(m).Bought.Created
	look := func(min int) Stay { return Warm(s.pool(), nil, created.Add(time.Duration(min)*time.Minute))[0] }
	if st := look(58); !st.Due { // warm for 57 minutes by then
		t.Errorf("after 58 minutes: %+v", st)
	}
	s.lease("t1", m, 1)
	if st := look(58); st.Due || st.Reason != "It is in use." || !st.Until.IsZero() {
		t.Errorf("in use: %+v", st)
	}
	s.now = created.Add(100 * time.Minute)
	s.end("t1")
	if st := look(118); !st.Due { // warm for 18 minutes only, but a third hour would cost too much
		t.Errorf("before an hour that may not be spent: %+v", st)
	}
	s.must(policy(func(p *Policy) { p.Warm, p.Free = 50*time.Minute, 0 }))
	if st := look(118); st.Due {
		t.Errorf("before an hour that may be spent: %+v", st)
	}
	s.must(Command{Keep: &Keep{Machine: m, Until: created.Add(5 * time.Hour)}})
	if st := look(178); st.Due || !strings.HasPrefix(st.Reason, "Somebody wants it kept until") || st.Until != created.Add(5*time.Hour+57*time.Minute) {
		t.Errorf("kept by a person: %+v", st)
	}
	s.must(Command{Keep: &Keep{Machine: m}})
	if st := look(178); !st.Due {
		t.Errorf("kept no more: %+v", st)
	}
	s.must(retire(m, "DEL", true))
	if stays := Warm(s.pool(), nil, s.now); len(stays) != 0 {
		t.Errorf("of one that is being deleted: %+v", stays)
	}
}

func TestLikely(t *testing.T) {
	at := func(seconds ...int) (list []time.Time) {
		for _, s := range seconds {
			list = append(list, t0.Add(time.Duration(s)*time.Second))
		}
		return list
	}
	for name, c := range map[string]struct {
		arrivals []time.Time
		cap      int
		now      time.Duration
		want     int
	}{
		"off":             {at(0, 1, 2), 0, time.Minute, 0},
		"nobody came":     {nil, 2, time.Minute, 0},
		"one by one":      {at(0, 100, 200), 4, 10 * time.Minute, 1},
		"a burst":         {at(0, 100, 120, 180, 190, 400), 9, 10 * time.Minute, 4},
		"at most the cap": {at(0, 1, 2, 3), 2, time.Minute, 2},
		"long ago":        {at(0, 1, 2), 4, 3 * time.Hour, 0},
		"partly long ago": {at(0, 1, 2, 80), 4, 2*time.Hour + time.Second, 2},
	} {
		if got := (Pool{Arrivals: c.arrivals}).likely(Policy{Prewarm: c.cap}, t0.Add(c.now)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
