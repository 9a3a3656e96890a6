package provision

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// buyer is member with a shop, at index 7.
func buyer(more ...Command) []Command {
	return append(member(prices(offers()...), policy(nil)), more...)
}

const (
	m1    = "samnode-op1"
	shown = memberShown // of buyer
)

// with shows a buyer with one machine and its op.
func with(machine, ops string) string {
	return "core node a x#1; worker b y#1; invite i1>b; ready a/1; ready b/2; " + machine + "; " + ops
}

// invited is with, once the machine was invited.
func invited(machine, ops string) string {
	return "core node a x#1; worker b y#1; invite i-samnode-op1>; invite i1>b; ready a/1; ready b/2; " + machine + "; " + ops
}

// TestBuyOps applies commands of a purchase, as TestOps does. The buyer's are
// the first 7, so that a purchase that comes next has token 8.
func TestBuyOps(t *testing.T) {
	tried := []Command{buy("OP1"), try(m1, 8, "cx33", "fsn1")}
	booting := append(tried[:2:2], made(m1, 9, server("77", "cx33", "fsn1", t0)))
	joined := append(booting[:3:3], joinBought(m1, "addr-m"))
	up := append(joined[:4:4], start(m1, "z", 1, 9), beats(Beat{Node: m1, Boot: "z"}))
	after := func(list []Command, more ...Command) []Command {
		return buyer(append(list[:len(list):len(list)], more...)...)
	}
	upShown := func(machine, ops string) string {
		return "core node a x#1; worker b y#1; worker samnode-op1 z#1; invite i-samnode-op1>samnode-op1; invite i1>b; ready a/1; ready b/2; " + machine + "; buy OP1 done#1" + ops
	}
	for _, c := range []struct {
		name string
		do   []Command
		want string
		err  error
		text string
	}{
		{name: "buy", do: buyer(buy("OP1")), want: with("wanted samnode-op1/2", "buy OP1 open#1")},
		{name: "buy the same", do: buyer(buy("OP1"), buy("OP1")), want: with("wanted samnode-op1/2", "buy OP1 open#1")},
		{name: "buy another under its id", do: buyer(buy("OP1"), Command{Buy: &Buy{Op: "OP1", Task: "t9"}}), want: with("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrRefused},
		{name: "buy before the mesh", do: []Command{buy("OP1")}, err: ErrRefused, text: "samnode init"},
		{name: "buy with a bad id", do: buyer(buy("OP 1")), want: shown, err: ErrInvalid, text: "cannot be an op's id"},
		{name: "buy what nobody sells", do: member(buy("OP1")), want: shown, err: ErrRefused, text: "Nothing can be bought now: cx33 at fsn1: the provider does not sell it there; and 11 more."},
		{name: "buy what is too large", do: buyer(Command{Buy: &Buy{Op: "OP1", Need: Need{CPUs: 64}}}), want: shown, err: ErrRefused, text: "it has 4 processors, and the task needs 64"},
		{name: "buy while stopped", do: buyer(policy(func(p *Policy) { p.Stopped = true }), buy("OP1")), want: shown, err: ErrRefused, text: "samnode pool resume"},
		{name: "resume", do: buyer(policy(func(p *Policy) { p.Stopped = true }), Command{Resume: &Resume{}}, buy("OP1")), want: with("wanted samnode-op1/2", "buy OP1 open#1")},
		{name: "set nonsense", do: buyer(policy(func(p *Policy) { p.Warm = -1 })), want: shown, err: ErrInvalid},
		{name: "withdraw", do: buyer(buy("OP1"), Command{Withdraw: &Withdraw{Op: "OP1"}}), want: shown + "; buy OP1 withdrawn#1"},
		{name: "withdraw too late", do: after(tried, Command{Withdraw: &Withdraw{Op: "OP1"}}), want: invited("creating samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "samnode pool delete samnode-op1"},
		{name: "withdraw what may exist", do: after(tried, missed(m1, 9, Unreachable), try(m1, 10, "cx33", "fsn1"), missed(m1, 11, SoldOut), Command{Withdraw: &Withdraw{Op: "OP1"}}),
			want: invited("failed samnode-op1/2", "buy OP1 withdrawn#1")},

		{name: "try", do: after(tried), want: invited("creating samnode-op1/2", "buy OP1 open#1")},
		{name: "try with a stale token", do: buyer(buy("OP1"), try(m1, 7, "cx33", "fsn1")), want: with("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrStale},
		{name: "try what is not for sale", do: buyer(buy("OP1"), try(m1, 8, "cpx22", "nbg1")), want: with("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "does not sell it there"},
		{name: "try what the settings do not name", do: buyer(buy("OP1"), try(m1, 8, "ccx63", "fsn1")), want: with("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "do not name"},
		{name: "try without an invitation", do: buyer(buy("OP1"), Command{Try: &Try{Machine: m1, Token: 8, Type: "cx33", Location: "fsn1"}}), want: with("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrInvalid},
		{name: "try while stopped", do: buyer(buy("OP1"), policy(func(p *Policy) { p.Stopped = true }), try(m1, 8, "cx33", "fsn1")), want: with("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrRefused},
		{name: "try again the same", do: after(tried, try(m1, 9, "cx33", "fsn1")), want: invited("creating samnode-op1/2", "buy OP1 open#1")},
		{name: "try something else while nobody knows", do: after(tried, try(m1, 9, "cx33", "nbg1")), want: invited("creating samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "is not known yet"},
		{name: "try a joined machine", do: buyer(try("b", 0, "cx33", "fsn1")), want: shown, err: ErrNotFound},

		{name: "made", do: after(booting), want: invited("booting samnode-op1/2", "buy OP1 open#1")},
		{name: "made, says a leader of old", do: after(tried, try(m1, 9, "cx33", "fsn1"), made(m1, 9, server("77", "cx33", "fsn1", t0))), want: invited("creating samnode-op1/2", "buy OP1 open#1"), err: ErrStale},
		{name: "made of nothing", do: after(tried, made(m1, 9, Server{})), want: invited("creating samnode-op1/2", "buy OP1 open#1"), err: ErrInvalid},
		{name: "an adopted one is what it is", do: after(tried, made(m1, 9, server("77", "cpx22", "fsn1", t0))), want: invited("booting samnode-op1/1", "buy OP1 open#1")},
		{name: "sold out", do: after(tried, missed(m1, 9, SoldOut)), want: invited("wanted samnode-op1/2", "buy OP1 open#1")},
		{name: "sold out is remembered", do: after(tried, missed(m1, 9, SoldOut), try(m1, 10, "cx33", "fsn1")), want: invited("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "it was sold out there at 12:00 UTC, and is asked for again from 12:10 UTC"},
		{name: "the type is gone", do: after(tried, missed(m1, 9, BadOffer), try(m1, 10, "cx33", "fsn1")), want: invited("wanted samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "from 13:00 UTC"},
		{name: "no answer", do: after(tried, missed(m1, 9, Unreachable)), want: invited("creating samnode-op1/2", "buy OP1 open#1")},
		{name: "no boot key", do: after(tried, missed(m1, 9, NoKey)), want: invited("wanted samnode-op1/2", "buy OP1 open#1")},
		{name: "the name is another's", do: after(tried, missed(m1, 9, Foreign)), want: with("wanted samnode-op1-2/2", "buy OP1 open#2")},
		{name: "broken, and nobody says what", do: after(tried, missed(m1, 9, Broken)), want: invited("failed samnode-op1/2", "buy OP1 open#1")},

		{name: "join", do: after(joined), want: "core node a x#1; worker b y#1; worker samnode-op1 #0; invite i-samnode-op1>samnode-op1; invite i1>b; ready a/1; ready b/2; booting samnode-op1/2; buy OP1 open#1"},
		{name: "join before the answer", do: after(tried, joinBought(m1, "addr-m"), made(m1, 9, server("77", "cx33", "fsn1", t0))), want: "core node a x#1; worker b y#1; worker samnode-op1 #0; invite i-samnode-op1>samnode-op1; invite i1>b; ready a/1; ready b/2; booting samnode-op1/2; buy OP1 open#1"},
		{name: "join under another name", do: after(booting, Command{Join: &Join{Invite: "i-" + m1, Hash: hash("b"), Node: Node{Name: "c", Addr: "x"}}}), want: invited("booting samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "for the bought machine samnode-op1, not for c"},
		{name: "join twice", do: after(joined, joinBought(m1, "elsewhere")), want: "core node a x#1; worker b y#1; worker samnode-op1 #0; invite i-samnode-op1>samnode-op1; invite i1>b; ready a/1; ready b/2; booting samnode-op1/2; buy OP1 open#1", err: ErrRefused},
		{name: "join as a core node", do: after(booting, Command{Join: &Join{Invite: "i-" + m1, Hash: hash("b"), Node: Node{Name: m1, Addr: "x", Core: true}}}), want: invited("booting samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "for a worker"},
		{name: "join too late", do: after(booting, fail(m1, 10), joinBought(m1, "x")), want: invited("failed samnode-op1/2", "buy OP1 open#1"), err: ErrRefused, text: "came too late"},
		{name: "take its place", do: after(booting, invite("i2", false, time.Hour), Command{Join: &Join{Invite: "i2", Hash: hash("i2"), Node: Node{Name: m1, Addr: "x"}}}),
			want: "core node a x#1; worker b y#1; invite i-samnode-op1>; invite i1>b; invite i2>; ready a/1; ready b/2; booting samnode-op1/2; buy OP1 open#1", err: ErrRefused, text: "join as samnode-op1-2"},
		{name: "invite a machine by hand", do: after(booting, Command{Invite: &Invite{ID: "i2", Hash: hash("z"), Expires: t0.Add(time.Hour), Machine: m1}}), want: invited("booting samnode-op1/2", "buy OP1 open#1"), err: ErrInvalid},
		{name: "started is not ready", do: after(joined, start(m1, "z", 1, 9)), want: strings.Replace(upShown("booting samnode-op1/2", ""), "done", "open", 1)},
		{name: "heard is ready", do: after(up), want: upShown("ready samnode-op1/2", "")},
		{name: "drain what boots", do: after(joined, drain(m1, true)), want: "core node a x#1; worker b y#1; worker samnode-op1 #0; invite i-samnode-op1>samnode-op1; invite i1>b; ready a/1; ready b/2; booting samnode-op1/2; buy OP1 open#1", err: ErrRefused},

		{name: "retire", do: after(up, retire(m1, "OP2", true)), want: upShown("draining samnode-op1/2", "; delete OP2 open#0")},
		{name: "retire a joined machine", do: buyer(retire("b", "OP2", true)), want: shown, err: ErrRefused, text: "samnode node remove b"},
		{name: "retire twice", do: after(up, retire(m1, "OP2", true), retire(m1, "OP3", true)), want: upShown("draining samnode-op1/2", "; delete OP2 open#0"), err: ErrRefused},
		{name: "drain no more ends the op", do: after(up, retire(m1, "OP2", true), drain(m1, false)), want: upShown("ready samnode-op1/2", "; delete OP2 withdrawn#0")},
		{name: "delete", do: after(up, retire(m1, "OP2", true), del(m1, 14, "")), want: with("deleting samnode-op1/2", "buy OP1 done#1; delete OP2 open#0")},
		{name: "delete what nobody retired", do: after(up, del(m1, 13, "OP2")), want: upShown("ready samnode-op1/2", ""), err: ErrRefused},
		{name: "delete with a stale token", do: after(up, retire(m1, "OP2", true), del(m1, 13, "")), want: upShown("draining samnode-op1/2", "; delete OP2 open#0"), err: ErrStale},
		{name: "gone", do: after(up, retire(m1, "OP2", true), del(m1, 14, ""), ended(m1, 15)), want: shown + "; buy OP1 done#1; delete OP2 done#0"},
		{name: "deleted by hand", do: after(up, ended(m1, 13)), want: shown + "; buy OP1 done#1"},
		{name: "nothing to be gone", do: after(tried, ended(m1, 9)), want: invited("creating samnode-op1/2", "buy OP1 open#1"), err: ErrRefused},
		{name: "a removed node's machine is deleted", do: after(up, remove(m1)), want: "core node a x#1; worker b y#1; invite i-samnode-op1>samnode-op1; invite i1>b; ready a/1; ready b/2; failed samnode-op1/2; buy OP1 done#1"},
		{name: "delete what boots", do: after(booting, retire(m1, "OP2", false)), want: invited("failed samnode-op1/2", "buy OP1 withdrawn#1; delete OP2 open#0")},
	} {
		t.Run(c.name, func(t *testing.T) { checkOps(t, c.do, c.want, c.err, c.text) })
	}
}

// TestR1TheNameIsAFunctionOfTheOp, and each attempt has its own.
func TestR1TheNameIsAFunctionOfTheOp(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range []string{"01JBCDEFGHJKMNPQRSTVWXYZ01", "01JBCDEFGHJKMNPQRSTVWXYZ02", "OP1"} {
		for attempt := 1; attempt <= 3; attempt++ {
			name := ServerName(op, attempt)
			if name != ServerName(op, attempt) || CheckName(name) != nil || seen[name] {
				t.Errorf("ServerName(%s, %d) = %s", op, attempt, name)
			}
			seen[name] = true
		}
	}
	s := newShop(t, nil)
	s.must(buy("OP1"))
	if m := s.machine(m1); m.State != Wanted || m.Bought.exists() {
		t.Errorf("after the op alone: %+v", m)
	}
}

// TestR10AttemptsEndInABreaker: three machines that do not come up, then none
// until the breaker closes; then one.
func TestR10AttemptsEndInABreaker(t *testing.T) {
	s := newShop(t, nil)
	s.must(buy("OP1"))
	for attempt := 1; attempt <= MaxAttempts; attempt++ {
		m := ServerName("OP1", attempt)
		s.must(try(m, s.token(m), "cx33", "fsn1"))
		s.must(made(m, s.token(m), server(fmt.Sprint("srv", attempt), "cx33", "fsn1", s.now)))
		s.must(fail(m, s.token(m)))
		if _, is := s.pool().Machine(ServerName("OP1", attempt+1)); is {
			t.Fatalf("attempt %d begins before the machine of attempt %d is gone", attempt+1, attempt)
		}
		s.must(del(m, s.token(m), fmt.Sprint("DEL", attempt)))
		s.must(ended(m, s.token(m)))
	}
	p := s.pool()
	if o := s.op("OP1"); o.State != OpFailed || o.Attempt != 3 || len(p.bought()) != 0 {
		t.Fatalf("after three attempts: %s", show(p))
	}
	if b := p.Breaker; !b.Open(s.now) || !strings.Contains(b.String(), "did not come up in 3 attempts. It did not come up. Nothing is bought until 1 November 2026 12:15 UTC; then one machine is tried.") {
		t.Errorf("breaker: %s", b)
	}
	s.refused(buy("OP2"), ErrRefused)
	s.pass(16 * time.Minute)
	s.must(buy("OP2"))
	s.refused(buy("OP3"), ErrRefused) // one is tried first
	m := ServerName("OP2", 1)
	s.must(try(m, s.token(m), "cx33", "fsn1"))
	s.must(made(m, s.token(m), server("srv4", "cx33", "fsn1", s.now)), fail(m, s.i+1))
	s.must(del(m, s.token(m), "DEL4"))
	s.must(ended(m, s.token(m)))
	if o, b := s.op("OP2"), s.pool().Breaker; o.State != OpFailed || b.Strikes != 2 || b.Until.Sub(s.now) != 30*time.Minute {
		t.Errorf("after a second strike: %s, breaker %+v", show(s.pool()), b)
	}
	s.pass(31 * time.Minute)
	s.up("OP5")
	if b := s.pool().Breaker; b != (Breaker{}) {
		t.Errorf("a machine came up, and the breaker is %+v", b)
	}
}

// TestR13SoldOutIsRemembered for ten minutes.
func TestR13SoldOutIsRemembered(t *testing.T) {
	s := newShop(t, nil)
	m := s.order("OP1")
	s.must(missed(m, s.token(m), SoldOut))
	if c, _ := first(s.pool().Choices(Need{}, s.now)); c.Location != "nbg1" {
		t.Errorf("the next choice is %+v", c)
	}
	s.pass(soldOutFor)
	if c, _ := first(s.pool().Choices(Need{}, s.now)); c.Location != "fsn1" {
		t.Errorf("ten minutes later the first choice is %+v", c)
	}
}

// TestR15QuotaPauses: the op waits, with the provider's words, and the pause
// grows.
func TestR15QuotaPauses(t *testing.T) {
	s := newShop(t, nil)
	m := s.order("OP1")
	s.must(missed(m, s.token(m), NoQuota))
	if got := s.machine(m); got.State != Wanted || s.op("OP1").Text != "The provider says quota." {
		t.Errorf("after no quota: %+v", got)
	}
	s.refused(try(m, s.token(m), "cx33", "fsn1"), ErrRefused)
	for _, pause := range []time.Duration{2, 4, 8, 16, 30, 30} {
		b := s.pool().Breaker
		if got := b.Until.Sub(b.Since); got != pause*time.Minute {
			t.Errorf("the pause is %s, want %d min", got, pause)
		}
		s.pass(30 * time.Minute)
		s.must(try(m, s.token(m), "cx33", "fsn1"))
		s.must(missed(m, s.token(m), NoQuota))
	}
	s.pass(30 * time.Minute)
	s.must(try(m, s.token(m), "cx33", "fsn1"))
	s.must(made(m, s.token(m), server("1", "cx33", "fsn1", s.now)))
	if b := s.pool().Breaker; b != (Breaker{}) {
		t.Errorf("the provider made one, and the breaker is %+v", b)
	}
}

// TestR16TerminalErrorsStopBuying until a person says otherwise.
func TestR16TerminalErrorsStopBuying(t *testing.T) {
	for _, trouble := range []Trouble{Denied, BadOrder} {
		s := newShop(t, nil)
		m := s.order("OP1")
		s.must(missed(m, s.token(m), trouble))
		p := s.pool()
		if o := s.op("OP1"); o.State != OpFailed || len(p.bought()) != 0 || !p.Breaker.Open(s.now.Add(1000*time.Hour)) {
			t.Errorf("after %s: %s", trouble, show(p))
		}
		if alarms := p.Alarms(s.now); len(alarms) == 0 || !strings.Contains(alarms[0], "samnode pool resume") {
			t.Errorf("alarms: %q", alarms)
		}
		s.refused(buy("OP2"), ErrRefused)
		s.must(Command{Resume: &Resume{}}, buy("OP2"))
	}
}

// TestR20TheServersIDIsKeptUntilTheEnd.
func TestR20TheServersIDIsKeptUntilTheEnd(t *testing.T) {
	s := newShop(t, nil)
	m := s.up("OP1")
	s.must(retire(m, "DEL", true))
	s.must(del(m, s.token(m), ""))
	if got := s.machine(m); got.State != Deleting || got.Bought.Server != "srv-OP1" {
		t.Errorf("while it is deleted: %+v", got)
	}
	s.must(Command{Note: &Note{Op: "DEL", Text: "It is locked."}})
	s.pass(DeleteLate + time.Second)
	if alarms := s.pool().Alarms(s.now); len(alarms) != 2 || !strings.Contains(alarms[0], "is being deleted since 1 November 2026 12:00 UTC, and costs on: It is locked.") {
		t.Errorf("alarms: %q", alarms)
	}
	s.must(ended(m, s.token(m)))
	if err := s.do(ended(m, 1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a second end: %v", err)
	}
}

// TestR23StillIdleAndDrainingAreOneEntry, in both orders.
func TestR23StillIdleAndDrainingAreOneEntry(t *testing.T) {
	s := newShop(t, nil)
	m := s.up("OP1")
	s.lease("t1", m, 1)
	s.refused(retire(m, "DEL", true), ErrRefused)
	s.end("t1")
	s.must(retire(m, "DEL", true))
	s.refused(grant("t2", m, SlotName(m, 1)), ErrRefused)

	n := s.up("OP2")
	s.lease("t3", n, 2)
	s.must(retire(n, "DEL2", false)) // a person's: it drains first
	s.refused(del(n, s.token(n), ""), ErrRefused)
	s.refused(grant("t4", n, SlotName(n, 1)), ErrRefused)
	s.end("t3")
	s.must(del(n, s.token(n), ""))
}

// TestR31Caps: machines, and euros a day.
func TestR31Caps(t *testing.T) {
	t.Run("machines", func(t *testing.T) {
		s := newShop(t, func(p *Policy) { p.Machines = 2 })
		s.up("OP1")
		s.must(buy("OP2"))
		err := s.do(buy("OP3"))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "2 of at most 2 machines are bought: another one may be when one of them is deleted, at 12:57 UTC at the soonest.") {
			t.Errorf("a third machine: %v", err)
		}
	})
	t.Run("euros", func(t *testing.T) {
		s := newShop(t, func(p *Policy) { p.PerDay = 40_000 }) // two cx33 and no third
		s.up("OP1")
		s.must(buy("OP2"))
		err := s.do(buy("OP3"))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "Of 0.04 € a day 0.0288 € are spent: buying goes on at 2 November 2026 00:00 UTC.") {
			t.Errorf("a third machine: %v", err)
		}
		m := ServerName("OP2", 1)
		s.refused(try(m, s.token(m), "cpx22", "fsn1"), ErrRefused) // dearer than what was counted
		s.must(try(m, s.token(m), "cx33", "fsn1"))
		s.must(missed(m, s.token(m), NoKey), Command{Withdraw: &Withdraw{Op: "OP2"}})
		s.pass(11 * time.Hour)
		s.refused(buy("OP3"), ErrRefused) // OP1 has cost eleven hours more meanwhile
		s.pass(time.Hour)
		s.must(buy("OP3")) // and one hour since midnight
	})
	t.Run("life", func(t *testing.T) {
		s := newShop(t, func(p *Policy) { p.Life = 3 * time.Hour })
		m := s.up("OP1")
		if got := s.machine(m).Bought; got.Expires.Sub(got.Created) > 3*time.Hour || got.Expires.Sub(got.Created) < 2*time.Hour {
			t.Errorf("made at %s, it expires at %s", got.Created, got.Expires)
		}
		s.lease("t1", m, 1)
		s.pass(2*time.Hour + time.Minute)
		stays := Warm(s.pool(), nil, s.now)
		if len(stays) != 1 || !stays[0].Due || stays[0].Idle {
			t.Errorf("an hour before its end: %+v", stays)
		}
	})
}

// TestR34OneOwner: a bought machine takes one person's tasks only.
func TestR34OneOwner(t *testing.T) {
	s := newShop(t, nil)
	m := s.up("OP1")
	g := func(task, owner string, slot int) Command {
		return Command{Grant: &Grant{Task: task, Node: m, Slot: SlotName(m, slot), Owner: owner}}
	}
	s.must(g("t1", "ann", 1))
	s.refused(g("t2", "bob", 2), ErrRefused)
	s.must(g("t3", "ann", 2))
	s.end("t1")
	s.end("t3")
	s.refused(g("t2", "bob", 2), ErrRefused)
	d := Schedule(s.pool(), []Waiting{{Task: "t2", Owner: "bob"}, {Task: "t4", Owner: "ann"}}, nil)
	if d[0].Node != "" || d[1].Node != m || !strings.Contains(d[0].Reason, "it is another person's, and the settings do not share bought machines") {
		t.Errorf("decisions: %+v", d)
	}
	s.must(policy(func(p *Policy) { p.Shared = true }), g("t2", "bob", 2))
}
