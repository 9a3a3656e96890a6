package provision

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"
)

// offers is a small shop: cx33 (4 processors, 8 GiB) in two places, cpx22 (2, 4)
// in one.
func offers() []Offer {
	cx33 := Offer{Type: "cx33", Location: "fsn1", Arch: "amd64", CPUs: 4, Mem: 8 << 30, Disk: 80 << 30, Hour: 14_400, Month: 9 * Euro, Orderable: true}
	nbg1 := cx33
	nbg1.Location = "nbg1"
	return []Offer{nbg1, {Type: "cpx22", Location: "fsn1", Arch: "amd64", CPUs: 2, Mem: 4 << 30, Disk: 40 << 30, Hour: 32_000, Month: 20 * Euro, Orderable: true}, cx33}
}

func prices(list ...Offer) Command { return Command{Prices: &Prices{Offers: list}} }

// policy is the default one with a change, for the types of offers.
func policy(change func(p *Policy)) Command {
	p := DefaultPolicy()
	p.Sizes = []Size{{Type: "cx33", Slots: 2}, {Type: "cpx22", Slots: 1}}
	p.Locations = []string{"fsn1", "nbg1"}
	if change != nil {
		change(&p)
	}
	return Command{Set: &Set{Policy: p}}
}

func buy(op string) Command {
	return Command{Buy: &Buy{Op: op, Task: "t1", Reason: "Task t1 finds no free slot."}}
}

func try(machine string, token uint64, typ, location string) Command {
	return Command{Try: &Try{Machine: machine, Token: token, Type: typ, Location: location, Invite: Invite{ID: "i-" + machine, Hash: hash("b"), Expires: t0.Add(100 * time.Hour)}}}
}

func server(id, typ, location string, created time.Time) Server {
	return Server{ID: id, Type: typ, Location: location, Created: created}
}

func made(machine string, token uint64, s Server) Command {
	return Command{Made: &Made{Machine: machine, Token: token, Server: s}}
}

func missed(machine string, token uint64, t Trouble) Command {
	return Command{Missed: &Missed{Machine: machine, Token: token, Trouble: t, Text: "The provider says " + string(t) + "."}}
}

func joinBought(machine, addr string) Command {
	return Command{Join: &Join{Invite: "i-" + machine, Hash: hash("b"), Node: Node{Name: machine, Addr: addr}}}
}

func fail(machine string, token uint64) Command {
	return Command{Fail: &Fail{Machine: machine, Token: token, Reason: "It did not come up."}}
}

func retire(machine, op string, idle bool) Command {
	return Command{Retire: &Retire{Machine: machine, Op: op, Reason: "It is idle.", Idle: idle}}
}

func del(machine string, token uint64, op string) Command {
	return Command{Delete: &Delete{Machine: machine, Token: token, Op: op}}
}

func ended(machine string, token uint64) Command {
	return Command{Ended: &Ended{Machine: machine, Token: token, Reason: "The provider answered 404."}}
}

// shop is a pool that buys, with a clock.
type shop struct {
	t   testing.TB
	s   *State
	now time.Time
	i   uint64
}

// newShop is a mesh with core node a, offers and the policy.
func newShop(t testing.TB, change func(p *Policy)) *shop {
	s := &shop{t: t, s: NewState(), now: t0}
	s.must(found("a"), prices(offers()...), policy(change))
	return s
}

// do applies a command a second later, and returns what became of it.
func (s *shop) do(c Command) error {
	s.t.Helper()
	s.i++
	s.now = s.now.Add(time.Second)
	c.Version, c.ID = Version, time.Duration(s.i).String()
	data, err := json.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.s.Apply(s.i, s.now, data); err != nil {
		s.t.Fatal(err)
	}
	out, _ := s.s.Outcome(c.ID)
	return out.Err()
}

func (s *shop) must(list ...Command) {
	s.t.Helper()
	for _, c := range list {
		if err := s.do(c); err != nil {
			s.t.Fatalf("%s: %v", text(c), err)
		}
	}
}

// refused applies a command that is to be refused for that.
func (s *shop) refused(c Command, want error) {
	s.t.Helper()
	before := show(s.pool())
	if err := s.do(c); !errors.Is(err, want) {
		s.t.Errorf("%s: %v, want %v", text(c), err, want)
	}
	if now := show(s.pool()); now != before {
		s.t.Errorf("%s was refused and changed %s to %s", text(c), before, now)
	}
}

func text(c Command) string {
	data, _ := json.Marshal(c) // it was encoded before
	return string(data)
}

func (s *shop) pool() Pool {
	p, _ := s.s.Pool()
	return p
}

func (s *shop) pass(d time.Duration) { s.now = s.now.Add(d) }

func (s *shop) machine(name string) Machine {
	s.t.Helper()
	m, is := s.pool().Machine(name)
	if !is {
		s.t.Fatalf("there is no machine %s: %s", name, show(s.pool()))
	}
	return m
}

func (s *shop) token(name string) uint64 { return s.machine(name).Bought.Token }

func (s *shop) op(id string) Op {
	s.t.Helper()
	o, is := s.pool().Op(id)
	if !is {
		s.t.Fatalf("there is no op %s: %s", id, show(s.pool()))
	}
	return o
}

// order begins an op and asks the provider for its machine.
func (s *shop) order(op string) (machine string) {
	s.t.Helper()
	s.must(buy(op))
	machine = ServerName(op, 1)
	s.must(try(machine, s.token(machine), "cx33", "fsn1"))
	return machine
}

// boot is order, with the provider's answer.
func (s *shop) boot(op string) (machine string) {
	s.t.Helper()
	machine = s.order(op)
	s.must(made(machine, s.token(machine), server("srv-"+op, "cx33", "fsn1", s.now)))
	return machine
}

// up is boot until the node was heard.
func (s *shop) up(op string) (machine string) {
	s.t.Helper()
	machine = s.boot(op)
	s.must(joinBought(machine, "addr-"+machine), start(machine, "boot", 1, 8), beats(Beat{Node: machine, Boot: "boot"}))
	return machine
}

// lease gives a task a slot; end takes it back.
func (s *shop) lease(task, machine string, slot int) {
	s.t.Helper()
	s.must(grant(task, machine, SlotName(machine, slot)))
}

func (s *shop) end(task string) {
	s.t.Helper()
	l, _ := s.pool().Lease(task)
	s.must(release(task, l.Token, 0))
}

func (s *shop) history(op string) (list []string) {
	for _, e := range s.op(op).History {
		list = append(list, e.What)
	}
	return list
}

func TestPolicyCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *Policy)
		good   bool
	}{
		"default":           {func(*Policy) {}, true},
		"no machines":       {func(p *Policy) { p.Machines = 0 }, true},
		"many machines":     {func(p *Policy) { p.Machines = 101 }, false},
		"a costly day":      {func(p *Policy) { p.PerDay = maxPerDay + 1 }, false},
		"nothing to buy":    {func(p *Policy) { p.Sizes = nil }, false},
		"a size of no type": {func(p *Policy) { p.Sizes = []Size{{Slots: 1}} }, false},
		"a size of 0 slots": {func(p *Policy) { p.Sizes = []Size{{Type: "cx33"}} }, false},
		"a bad label":       {func(p *Policy) { p.Sizes = []Size{{Type: "cx33", Slots: 1, Labels: []string{"A b"}}} }, false},
		"anywhere":          {func(p *Policy) { p.Locations = nil }, true},
		"no image":          {func(p *Policy) { p.Image = "" }, false},
		"warm for days":     {func(p *Policy) { p.Warm = 48 * time.Hour }, false},
		"many kept":         {func(p *Policy) { p.Free = 100 }, false},
		"no time to boot":   {func(p *Policy) { p.BootFor = time.Second }, false},
		"a short life":      {func(p *Policy) { p.Life = time.Minute }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := DefaultPolicy()
			c.change(&p)
			if err := p.Check(); (err == nil) != c.good || err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("Check = %v", err)
			}
		})
	}
}

// TestR11R14Choices is requirements 11 and 14: types and places in the order of the
// settings, and what the provider says of each place.
func TestR11R14Choices(t *testing.T) {
	s := newShop(t, nil)
	got := func(need Need) (list []string) {
		for _, c := range s.pool().Choices(need, s.now) {
			list = append(list, c.Type+"@"+c.Location+" "+c.Refused)
		}
		return list
	}
	check := func(need Need, want ...string) {
		t.Helper()
		if g := got(need); !slices.Equal(g, want) {
			t.Errorf("Choices(%+v) = %q, want %q", need, g, want)
		}
	}
	nowhere := "cpx22@nbg1 the provider does not sell it there"
	check(Need{}, "cx33@fsn1 ", "cx33@nbg1 ", "cpx22@fsn1 ", nowhere)
	check(Need{CPUs: 3, Location: "nbg1"}, "cx33@fsn1 the task wants nbg1", "cx33@nbg1 ",
		"cpx22@fsn1 it has 2 processors, and the task needs 3", nowhere)
	check(Need{Mem: 6 << 30}, "cx33@fsn1 ", "cx33@nbg1 ", "cpx22@fsn1 it has 4.0 GiB of memory, and the task needs 6.0", nowhere)
	check(Need{Disk: 60 << 30, Labels: []string{"gpu"}}, "cx33@fsn1 it does not have the label gpu", "cx33@nbg1 it does not have the label gpu",
		"cpx22@fsn1 it has 40 GiB of disk, and the task needs 60", nowhere)
	closed := offers()
	closed[2].Orderable = false
	s.must(prices(closed...))
	check(Need{}, "cx33@fsn1 the provider does not take orders for it there now", "cx33@nbg1 ", "cpx22@fsn1 ", nowhere)
	s.must(policy(func(p *Policy) { p.Locations = nil }))
	check(Need{}, "cx33@fsn1 the provider does not take orders for it there now", "cx33@nbg1 ", "cpx22@fsn1 ")
}
