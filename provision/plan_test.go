package provision

import (
	"strings"
	"testing"
	"time"
)

// decide is Decide for tasks of no needs.
func (s *shop) decide(tasks ...string) Plan {
	return Decide(s.pool(), waiting(tasks...), nil, s.now)
}

// reasons checks the beginnings of what is said of each task.
func reasons(t *testing.T, p Plan, want ...string) {
	t.Helper()
	if len(p.Decisions) != len(want) {
		t.Fatalf("%d decisions, want %d: %+v", len(p.Decisions), len(want), p.Decisions)
	}
	for i, d := range p.Decisions {
		if !strings.HasPrefix(d.Slot+": "+d.Reason, want[i]) {
			t.Errorf("%s: %s: %s\nwant %s", d.Task, d.Slot, d.Reason, want[i])
		}
	}
}

// TestDecideInOrder: joined, warm, booting, buy.
func TestDecideInOrder(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.Machines = 4 })
	s.must(start("a", "x", 1, 1))
	s.up("OP1")
	s.boot("OP2")
	s.order("OP3")
	p := s.decide("t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10")
	const buys = ": A machine is bought for it: cx33 at fsn1 for 0.0144 € an hour"
	reasons(t, p,
		"a/1: Free slot on a", "samnode-op1/1: Free slot on samnode-op1", "samnode-op1/2: Free slot on samnode-op1",
		": Machine samnode-op2 boots since 12:00 UTC", ": Machine samnode-op2 boots since 12:00 UTC",
		": Machine samnode-op3 (cx33 at fsn1) is being made since 12:00 UTC", ": Machine samnode-op3 (cx33 at fsn1) is being made since",
		buys, buys,
		": Next in line: all 3 slots are in use (samnode-op2: it is booting; samnode-op3: it is creating). 4 of at most 4 machines are bought: another one may be when one of them is deleted, at 12:57 UTC at the soonest.",
	)
	if len(p.Buys) != 1 || p.Buys[0].Task != "t8" || p.Buys[0].Choice.Hour != 14_400 || len(p.Unneeded) != 0 {
		t.Errorf("Buys = %+v, Unneeded = %q", p.Buys, p.Unneeded)
	}
	if d := p.Decisions[9]; len(d.Choices) != 4 || len(d.Candidates) != 4 || d.Again.IsZero() {
		t.Errorf("the last one: %+v", d)
	}
	if d := p.Decisions[3]; d.Machine != "samnode-op2" || d.Buy {
		t.Errorf("one that waits for a booting machine: %+v", d)
	}
}

// TestDecideTwice: what was bought is counted, so that nothing is bought twice.
func TestDecideTwice(t *testing.T) {
	s := newShop(t, nil)
	tasks := []string{"t1", "t2", "t3"}
	for _, b := range s.decide(tasks...).Buys {
		s.must(Command{Buy: &Buy{Op: "OP" + b.Task[1:], Task: b.Task, Owner: b.Owner, Need: b.Need, Reason: b.Reason}})
	}
	p := s.decide(tasks...)
	if len(p.Buys) != 0 || len(s.pool().bought()) != 2 || len(p.Unneeded) != 0 {
		t.Errorf("the second time: %+v; %s", p, show(s.pool()))
	}
	reasons(t, p, ": Machine samnode-op1 is to be bought", ": Machine samnode-op1", ": Machine samnode-op3 is to be bought")
	// One that failed is still the op's business.
	m := ServerName("OP1", 1)
	s.must(try(m, s.token(m), "cx33", "fsn1"))
	s.must(made(m, s.token(m), server("1", "cx33", "fsn1", s.now)))
	s.must(fail(m, s.token(m)))
	p = s.decide(tasks...)
	reasons(t, p, ": Machine samnode-op1 failed: It did not come up. Another one is tried when it is gone", ": Machine samnode-op3", ": Machine samnode-op3 is to be bought")
	if len(p.Buys) != 0 {
		t.Errorf("after a failure: %+v", p.Buys)
	}
	// Nobody waits for the second one any more.
	if p = s.decide(); len(p.Unneeded) != 1 || p.Unneeded[0] != "OP3" {
		t.Errorf("without tasks unneeded: %q", p.Unneeded)
	}
}

// TestDecideKeepsASlotForWhomItIsBought: a task that comes sooner to the large
// machine of another one does not make that one buy again.
func TestDecideKeepsASlotForWhomItIsBought(t *testing.T) {
	s := newShop(t, nil)
	list := []Waiting{{Task: "t1"}, {Task: "t2"}, {Task: "t3", Need: Need{CPUs: 3}}}
	for i, b := range Decide(s.pool(), list, nil, s.now).Buys {
		s.must(Command{Buy: &Buy{Op: "OP" + string(rune('1'+i)), Task: b.Task, Need: b.Need}})
	}
	m := ServerName("OP2", 1) // the large one is made first
	s.must(try(m, s.token(m), "cx33", "fsn1"))
	p := Decide(s.pool(), list, nil, s.now)
	if len(p.Buys) != 0 || len(p.Unneeded) != 0 || p.Decisions[2].Machine != m {
		t.Errorf("Decide = %+v", p)
	}
}

// TestDecideNeeds: size is a hard minimum, and so are labels and locations.
func TestDecideNeeds(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.Machines = 9 })
	s.must(Command{Start: &Start{Node: "a", Addr: "x", Boot: "x", Slots: 4, CPUs: 2, Mem: 4 << 30}}, Command{Label: &Label{Machine: "a", Labels: []string{"gpu"}}})
	s.up("OP1")
	list := []Waiting{
		{Task: "t1", Need: Need{CPUs: 2, Mem: 4 << 30}},
		{Task: "t2", Need: Need{CPUs: 3}},
		{Task: "t3", Need: Need{Labels: []string{"gpu"}}},
		{Task: "t4", Need: Need{Labels: []string{"gpu"}, CPUs: 3}},
		{Task: "t5", Need: Need{Location: "nbg1"}},
		{Task: "t6", Need: Need{Location: "nbg1"}},
		{Task: "t7", Need: Need{CPUs: 64}},
		{Task: "t8", Need: Need{Location: "fsn1"}},
	}
	p := Decide(s.pool(), list, nil, s.now)
	reasons(t, p,
		"a/1: ", "samnode-op1/1: ", "a/2: ",
		": No machine takes tasks now. a: it has 2 processors, and the task needs 3; samnode-op1: it does not have the label gpu. Nothing can be bought now: cx33 at fsn1: it does not have the label gpu; and 3 more.",
		": A machine is bought for it: cx33 at nbg1", ": A machine is bought for it: cx33 at nbg1",
		": No machine takes tasks now. a: it has 2 processors, and the task needs 64",
		"samnode-op1/2: ",
	)
	if len(p.Buys) != 1 || p.Buys[0].Need.Location != "nbg1" {
		t.Errorf("Buys = %+v", p.Buys)
	}
	if got := p.Decisions[6].Reason; !strings.Contains(got, "it has 4 processors, and the task needs 64") {
		t.Errorf("of a task that is too large: %s", got)
	}
}

// TestDecideMakesRoom: a machine that stands idle and is of no use to those who
// wait does not keep them waiting until its hour ends.
func TestDecideMakesRoom(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.Machines = 2 })
	one, two := s.up("OP1"), s.up("OP2")
	s.must(Command{Grant: &Grant{Task: "t1", Node: one, Slot: SlotName(one, 1), Owner: "ann"}}, Command{Grant: &Grant{Task: "t2", Node: two, Slot: SlotName(two, 1), Owner: "ann"}})
	bob := []Waiting{{Task: "t3", Owner: "bob"}, {Task: "t4", Owner: "bob"}}
	if p := Decide(s.pool(), bob, nil, s.now); len(p.Leave) != 0 {
		t.Errorf("of machines in use %+v are to leave", p.Leave)
	}
	s.end("t1")
	p := Decide(s.pool(), bob, nil, s.now)
	if len(p.Leave) != 1 || p.Leave[0].Machine != one || !strings.Contains(p.Decisions[0].Reason, "Machine samnode-op1 is idle, and is deleted to make room.") {
		t.Errorf("Leave = %+v: %s", p.Leave, p.Decisions[0].Reason)
	}
	if p := Decide(s.pool(), append(bob, Waiting{Task: "t5", Owner: "ann"}), nil, s.now); len(p.Leave) != 0 && p.Decisions[2].Node == one {
		t.Errorf("a machine that is about to be used is to leave: %+v", p)
	}
	s.must(retire(one, "DEL", true))
	if p := Decide(s.pool(), bob, nil, s.now); len(p.Leave) != 0 {
		t.Errorf("a second one is to leave: %+v", p.Leave)
	}
	s.must(del(one, s.token(one), ""))
	s.must(ended(one, s.token(one)))
	if p := Decide(s.pool(), bob, nil, s.now); len(p.Buys) != 1 || p.Buys[0].Owner != "bob" {
		t.Errorf("with room: %+v", p)
	}
}

// TestTenTasksAtOnce against caps of three machines: placed, queued, and each
// told why.
func TestTenTasksAtOnce(t *testing.T) {
	s := newShop(t, nil)
	s.up("OP1")
	s.boot("OP2")
	p := s.decide("t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9")
	const buys, full = ": A machine is bought for it: cx33 at fsn1", "all 2 slots are in use (samnode-op2: it is booting). 3 of at most 3 machines are bought"
	reasons(t, p, "samnode-op1/1: ", "samnode-op1/2: ", ": Machine samnode-op2 boots", ": Machine samnode-op2 boots", buys, buys,
		": Next in line: "+full, ": 1 ahead of you: "+full, ": 2 ahead of you: "+full, ": 3 ahead of you: "+full)
}

// TestR31NoTaskBeginsInADearHour: when the day's limit does not allow a
// machine's next hour, no task begins near the end of this one.
func TestR31NoTaskBeginsInADearHour(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.PerDay = 20_000 })
	s.up("OP1")
	began := s.now
	for _, c := range []struct {
		after time.Duration
		want  string
	}{
		{10 * time.Minute, "samnode-op1/1: "},
		{45 * time.Minute, ": No machine takes tasks now. samnode-op1: its next hour, from 13:00 UTC, would cost more than a day may. Of 0.02 € a day 0.0144 € are spent"},
	} {
		s.now = began.Add(c.after)
		reasons(t, s.decide("t1"), c.want)
	}
	s.must(Command{Set: &Set{Policy: DefaultPolicy()}})
	reasons(t, s.decide("t1"), "samnode-op1/1: ")
}

// TestDecideCaps says which cap is reached, and until when.
func TestDecideCaps(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *Policy)
		do     func(s *shop)
		want   string
		again  time.Time
	}{
		"the day's money": {func(p *Policy) { p.PerDay = 20_000 }, func(s *shop) { s.lease("t8", s.up("OP1"), 1); s.lease("t9", ServerName("OP1", 1), 2) },
			"Next in line: all 2 slots are in use. Of 0.02 € a day 0.0144 € are spent: buying goes on at 2 November 2026 00:00 UTC.", t0.Add(12 * time.Hour)},
		"no machines":   {func(p *Policy) { p.Machines = 0 }, func(*shop) {}, "No machine takes tasks. Tasks wait until one joins. The settings say that no machines are bought.", time.Time{}},
		"stopped":       {func(p *Policy) { p.Stopped = true }, func(*shop) {}, "No machine takes tasks. Tasks wait until one joins. Buying is stopped", time.Time{}},
		"a bad token":   {nil, func(s *shop) { m := s.order("OP1"); s.must(missed(m, s.token(m), Denied)) }, "No machine takes tasks. Tasks wait until one joins. The provider says denied. Nothing is bought until you have mended that and resumed buying (samnode pool resume).", time.Time{}},
		"no quota":      {nil, func(s *shop) { m := s.order("OP1"); s.must(missed(m, s.token(m), NoQuota)) }, "Machine samnode-op1 is to be bought. The provider says quota. Nothing is bought until 1 November 2026 12:02 UTC; then one machine is tried.", t0.Add(12 * time.Second)},
		"no answer":     {nil, func(s *shop) { m := s.order("OP1"); s.must(missed(m, s.token(m), Unreachable)) }, "Machine samnode-op1 (cx33 at fsn1) is being made since 12:00 UTC. The provider says unreachable. The next try is at 12:00:11 UTC.", t0.Add(11 * time.Second)},
		"all sold out":  {func(p *Policy) { p.Sizes, p.Locations = p.Sizes[:1], []string{"fsn1"} }, func(s *shop) { m := s.order("OP1"); s.must(missed(m, s.token(m), SoldOut)) }, "Machine samnode-op1 is to be bought. Nothing can be bought now: cx33 at fsn1: it was sold out there at 12:00 UTC, and is asked for again from 12:10 UTC.", time.Time{}},
		"nothing known": {nil, func(s *shop) { s.must(prices()) }, "No machine takes tasks. Tasks wait until one joins.", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, c.change)
			c.do(s)
			p := s.decide("t1")
			reasons(t, p, ": "+c.want)
			if len(p.Buys) != 0 {
				t.Errorf("Buys = %+v", p.Buys)
			}
			if d := p.Decisions[0]; !d.Again.Equal(c.again) && !c.again.IsZero() && d.Again.Sub(c.again).Abs() > 10*time.Second {
				t.Errorf("again at %s, want %s", d.Again, c.again)
			}
		})
	}
}

// TestDecidePrewarm buys ahead of a burst like the last one, and no more.
func TestDecidePrewarm(t *testing.T) {
	s := newShop(t, func(p *Policy) { p.Machines, p.Prewarm = 9, 3 })
	m := s.up("OP1")
	if p := s.decide(); len(p.Buys) != 0 {
		t.Errorf("before any task: %+v", p.Buys)
	}
	for _, task := range []string{"t1", "t2"} {
		s.lease(task, m, 1)
		s.end(task)
	}
	if p := s.decide(); len(p.Buys) != 0 {
		t.Errorf("two came, and two slots are free: %+v", p.Buys)
	}
	s.lease("t3", m, 2)
	p := s.decide()
	if len(p.Buys) != 1 || p.Buys[0].Task != "" || !strings.HasPrefix(p.Buys[0].Reason, "3 tasks are likely to come at once") {
		t.Errorf("three came, and one slot is free: %+v", p.Buys)
	}
	s.must(Command{Buy: &Buy{Op: "OP2", Need: p.Buys[0].Need, Reason: p.Buys[0].Reason}})
	if p := s.decide(); len(p.Buys) != 0 || len(p.Unneeded) != 0 {
		t.Errorf("with one on its way: %+v", p)
	}
	s.pass(past)
	if p := s.decide(); len(p.Unneeded) != 1 {
		t.Errorf("two hours later: %+v", p)
	}
}
