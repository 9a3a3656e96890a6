package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
)

// scene plays a plan in which all must go well in the end.
func scene(t *testing.T, change func(p *plan)) *world {
	t.Helper()
	p := basic(1)
	change(p)
	w := runPlan(t, p, flaws{})
	if len(w.bad) > 0 {
		t.Errorf("%s", w.story())
	}
	return w
}

// told tells whether something was said, and when for the first time.
func (w *world) told(parts ...string) (time.Duration, bool) {
	for _, line := range w.lines {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			d, err := time.ParseDuration(strings.Fields(line)[0])
			return d, err == nil
		}
	}
	return 0, false
}

// ops are the ops of a kind.
func (w *world) ops(kind provision.OpKind) (list []provision.Op) {
	p, _ := w.state.Pool()
	for _, o := range p.Ops {
		if o.Kind == kind {
			list = append(list, o)
		}
	}
	return list
}

func (w *world) expect(t *testing.T, what string, ok bool) {
	t.Helper()
	if !ok {
		t.Errorf("%s: no\n%s", what, w.story())
	}
}

// TestBuyRunDelete: two machines for three tasks, the fourth task warm, and
// both are gone in the end of their hours.
func TestBuyRunDelete(t *testing.T) {
	w := scene(t, func(*plan) {})
	w.expect(t, "two machines are bought", w.tally.made == 2 && len(w.ops(provision.BuyOp)) == 2 && len(w.ops(provision.DeleteOp)) == 2)
	at, ok := w.told("task t4 runs")
	w.expect(t, "the fourth task runs at once", ok && at < 31*time.Minute)
	at, ok = w.told(`"retire"`)
	w.expect(t, "the first goes in the last minutes of its hour", ok && at >= 57*time.Minute && at < time.Hour)
	w.expect(t, "it costs what the provider charges", w.tally.bill == w.tally.ledger)
	p, _ := w.state.Pool()
	w.expect(t, "nobody but the core node is a member", len(p.Nodes) == 1 && len(p.Invites) == 0)
	w.expect(t, "tasks have a cost", p.TaskCost("t1", w.stamp) > 0)
}

// TestR2AdoptsItsOwn: the answer is lost, and the call is made again.
func TestR2AdoptsItsOwn(t *testing.T) {
	w := scene(t, func(p *plan) { p.lost, p.reach = 1, 20*time.Second })
	w.expect(t, "servers are adopted and none is made twice", w.tally.adopted > 0 && w.tally.made == 2)
}

// TestR2LeavesForeignNames: a server of that name that is not ours stays, and
// another name is taken.
func TestR2LeavesForeignNames(t *testing.T) {
	w := scene(t, func(p *plan) { p.foreign, p.reach = 1, 5*time.Second })
	w.expect(t, "a second name", w.tally.attempts == 2 && w.tally.faults["a name that is taken"] > 0)
}

// TestR5R6TheReaper finds what is left, touches nothing of others, and goes on
// past one that cannot be asked for. The world's strangers are checked in every
// run.
func TestR5R6TheReaper(t *testing.T) {
	p := basic(1)
	p.stuck, p.jobs = "samnode-left", p.jobs[:1]
	w := newStray(t, p)
	stray, left := false, false
	for _, b := range w.cloud.servers {
		if b.Name == "samnode-stray" {
			stray = !b.goneAt.IsZero()
		}
		if b.Name == "samnode-left" {
			left = b.goneAt.IsZero()
		}
	}
	w.expect(t, "the other stray is deleted", stray && left)
	pool, _ := w.state.Pool()
	w.expect(t, "the trouble is said", len(pool.Sweep.Troubles) > 0 && strings.Contains(pool.Sweep.Troubles[0], "samnode-left"))
	w.expect(t, "there is a sign of life", w.stamp.Sub(pool.Sweep.At) < 10*time.Minute)
}

// newStray plays a plan with a second stray; the first one may be left.
func newStray(t *testing.T, p *plan) *world {
	p.strays = append(p.strays, "samnode-stray")
	w := runPlan(t, p, flaws{})
	for _, bad := range w.bad {
		if !strings.Contains(bad, "samnode-left") {
			t.Errorf("%s", w.story())
		}
	}
	return w
}

// TestR7DeletedByHand: the machine is not taken for gone before the provider
// says so, its task runs elsewhere.
func TestR7DeletedByHand(t *testing.T) {
	w := scene(t, func(p *plan) { p.hand = []time.Duration{5 * time.Minute} })
	at, ok := w.told(`"ended"`, "somebody else deleted it")
	w.expect(t, "it is found after a while", ok && at >= 8*time.Minute && at < 11*time.Minute)
}

// TestR8BrokenIsDeleted whether or not the provider says which server it was.
func TestR8BrokenIsDeleted(t *testing.T) {
	for _, nameless := range []bool{false, true} {
		w := scene(t, func(p *plan) { p.broken, p.nameless, p.reach = 1, nameless, 10*time.Second })
		w.expect(t, "a second attempt", w.tally.attempts == 2)
	}
}

// TestR9ReadyIsHeard: a machine that runs and never joins is deleted after ten
// minutes, and another one bought.
func TestR9ReadyIsHeard(t *testing.T) {
	w := scene(t, func(p *plan) { p.shy = 1 })
	at, ok := w.told(`"fail"`, "was not heard within 10m0s")
	w.expect(t, "after ten minutes", ok && at >= 10*time.Minute && at < 11*time.Minute)
}

// TestR10NoLoop: when no machine ever comes up, few are made: three, and then
// one now and then.
func TestR10NoLoop(t *testing.T) {
	p := basic(1)
	p.never, p.reach, p.jobs = 1, longest, p.jobs[:1]
	w := runPlan(t, p, flaws{})
	w.expect(t, "there are few in a day and a half", w.tally.made >= 4 && w.tally.made <= 16)
	pool, _ := w.state.Pool()
	w.expect(t, "the reason is seen", strings.Contains(pool.Breaker.String(), "did not come up in one attempt. Its node was not heard within 10m0s. Nothing is bought until"))
}

// TestR13R15SoldOutAndQuota: the next choice, and waiting.
func TestR13R15SoldOutAndQuota(t *testing.T) {
	w := scene(t, func(p *plan) { p.gone = "cx33@fsn1" })
	w.expect(t, "it is bought elsewhere", w.tally.made == 2)
	w = scene(t, func(p *plan) { p.quota = 1 })
	w.expect(t, "tasks wait for the one machine", w.tally.made >= 1 && w.tally.faults["quota"] > 0 && w.tally.faults["quota"] < 10)
}

// TestR16DeniedStopsBuying until a person has mended it.
func TestR16DeniedStopsBuying(t *testing.T) {
	w := scene(t, func(p *plan) { p.denied = spell{0, 10 * time.Hour} })
	at, _ := w.told(`"resume"`)
	made, _ := w.told("is made")
	w.expect(t, "nothing is made before", made > at && w.tally.calls["create"] < 8)
}

// TestR18ThreeAtOnce: of six machines that are wanted at once.
func TestR18ThreeAtOnce(t *testing.T) {
	w := scene(t, func(p *plan) {
		p.policy.Machines, p.policy.Sizes = 6, []provision.Size{{Type: "cx33", Slots: 1}}
		for _, task := range []string{"t5", "t6", "t7"} {
			p.jobs = append(p.jobs, job{task: task, last: time.Minute})
		}
	})
	w.expect(t, "three are made at once", w.tally.mostMaking == creates && w.tally.made == 6)
}

// TestR19LockedIsTriedAgain until the provider says that there is none.
func TestR19LockedIsTriedAgain(t *testing.T) {
	w := scene(t, func(p *plan) { p.locked, p.reach = 1, 2*time.Hour })
	w.expect(t, "it was locked", w.tally.faults["locked"] >= 2)
	_, ok := w.told(`"note"`, "Something is being done to server")
	w.expect(t, "it was said", ok)
}

// TestR21NoParking: a machine that powers itself off is deleted at once.
func TestR21NoParking(t *testing.T) {
	w := scene(t, func(p *plan) { p.off, p.jobs = 1, p.jobs[:1]; p.reach = 10 * time.Minute })
	at, ok := w.told(`"fail"`, "powered itself off")
	w.expect(t, "it is found", ok && at < time.Hour)
}

// TestDiesWhileWorking: a silent machine is given up, and its task runs
// elsewhere.
func TestDiesWhileWorking(t *testing.T) {
	w := scene(t, func(p *plan) {
		p.dies, p.reach = 1, 3*time.Minute
		p.jobs = []job{{task: "t1", last: 3 * time.Hour}}
	})
	_, ok := w.told(`"fail"`, "has not been heard for 10m0s")
	w.expect(t, "it is given up", ok && w.tally.made == 2)
}

// TestR17TheBudget: what an idle keeper, and one with machines, asks for.
func TestR17TheBudget(t *testing.T) {
	w := scene(t, func(*plan) {})
	w.expect(t, "few calls", w.tally.mostCalls < 120)
}

// TestTenTasks: at once, for three machines of two slots.
func TestTenTasks(t *testing.T) {
	w := scene(t, func(p *plan) {
		p.jobs = nil
		for _, task := range strings.Split("abcdefghij", "") {
			p.jobs = append(p.jobs, job{task: task, last: 10 * time.Minute})
		}
	})
	w.expect(t, "three machines", w.tally.made == 3)
}

// TestR31TheDay: the day's money is spent, and the rest waits for the next day.
func TestR31TheDay(t *testing.T) {
	w := scene(t, func(p *plan) {
		p.policy.PerDay, p.policy.Warm, p.policy.WholeHours, p.policy.Free = 20_000, 0, false, 0
		p.jobs = []job{{task: "t1", last: time.Minute}, {task: "t2", at: 10 * time.Minute, last: time.Minute}}
	})
	at, ok := w.told("task t2 runs")
	w.expect(t, "the second task waits for the next day", ok && at > 24*time.Hour)
}

func TestNewNeedsAll(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("New(Config{}) = nil")
	}
}
