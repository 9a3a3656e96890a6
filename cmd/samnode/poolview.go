package main

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/ui/api"
)

// euros is an amount as pages and API have it.
func euros(m provision.Money) float64 { return float64(m) / float64(provision.Euro) }

func money(euros float64) provision.Money {
	return provision.Money(math.Round(euros * float64(provision.Euro)))
}

// Pool implements api.Pool.
func (v meshView) Pool(context.Context) (api.PoolInfo, error) {
	n := v.n
	p, _ := n.pool.Pool()
	now := later(n.room.Now(), time.Now().UTC())
	info := api.PoolInfo{
		At: now, Resume: p.Policy().Stopped || p.Breaker.Reason != "",
		Machines: []api.PoolMachine{}, Ops: []api.PoolOp{}, Choices: []api.PoolChoice{}, Alarms: append([]string{}, p.Alarms(now)...),
		Settings: settingsOf(p.Policy()), Today: euros(p.Today(now)), Month: euros(p.Month(now)), Swept: p.Sweep.At,
	}
	stays := map[string]provision.Stay{}
	for _, s := range provision.Warm(p, n.quiet(p), now) {
		stays[s.Machine] = s
	}
	for _, m := range p.Machines {
		info.Machines = append(info.Machines, machineView(p, m, stays[m.Node]))
	}
	for _, o := range slices.Backward(p.Ops) {
		info.Ops = append(info.Ops, opView(o))
	}
	for _, c := range p.Choices(provision.Need{}, now) {
		info.Choices = append(info.Choices, choiceView(c))
	}
	info.Stopped = n.cannotBuy(p, now)
	if k := n.keeper.get(); k != nil {
		if s := k.Status(); s.Running {
			b := s.Budget
			info.Budget = &api.PoolBudget{Limit: b.Limit, Left: b.Left, Reserve: b.Reserve, Until: b.Until, Calls: b.Calls}
			if b.Calls == nil {
				info.Budget.Calls = map[string]int{}
			}
			for _, text := range []string{s.SweepErr, s.PriceErr} {
				if text != "" {
					info.Alarms = append(info.Alarms, text)
				}
			}
		}
	}
	return info, nil
}

// cannotBuy says why no machine is bought now, or nothing.
func (n *node) cannotBuy(p provision.Pool, now time.Time) string {
	switch {
	case p.Policy().Stopped:
		return "Buying is stopped until somebody lifts that (samnode pool resume)."
	case p.Breaker.Open(now):
		return p.Breaker.String()
	case n.noKeeper.get() != nil:
		return "Machines cannot be bought: " + n.noKeeper.get().Error() + "."
	}
	if _, err := n.openSecret("", secretHetzner); err != nil {
		return "The mesh has no Hetzner token: samnode secret set " + secretHetzner + "."
	}
	return ""
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func machineView(p provision.Pool, m provision.Machine, s provision.Stay) api.PoolMachine {
	b := m.Bought
	out := api.PoolMachine{
		Name: m.Node, State: string(m.State), Since: m.Since, Slots: m.Slots, Tasks: []api.Lease{}, Bought: m.IsBought(),
		Type: b.Type, Location: b.Location, Server: b.Server, Hour: euros(b.Hour), Created: b.Created,
		PaidUntil: s.PaidUntil, Until: s.Until, Stay: s.Reason, Owner: b.Owner, Failed: b.Why,
		Keep: b.Keep, Deadline: b.Deadline, Leaves: b.Delete != "",
	}
	if o, is := p.Op(b.Op); is {
		out.Why = o.Reason
	}
	for _, l := range p.Leases {
		if l.Node == m.Node {
			out.Tasks = append(out.Tasks, api.Lease{Task: chat.TaskID(l.Task), Slot: l.Slot, Token: l.Token, Since: l.Since})
		}
	}
	return out
}

func opView(o provision.Op) api.PoolOp {
	out := api.PoolOp{
		ID: o.ID, Kind: string(o.Kind), State: string(o.State), Machine: o.Machine, Reason: o.Reason, Task: o.Task, By: o.By,
		Text: o.Text, Next: o.Next, Began: o.Began, Ended: o.Ended, History: []api.Event{},
	}
	for _, e := range o.History {
		out.History = append(out.History, api.Event{At: e.At, Text: e.What})
	}
	return out
}

func choiceView(c provision.Choice) api.PoolChoice {
	return api.PoolChoice{
		Type: c.Type, Location: c.Location, Slots: c.Slots, Hour: euros(c.Hour), Day: 24 * euros(c.Hour), Refused: c.Refused,
	}
}

func settingsOf(p provision.Policy) api.PoolSettings {
	out := api.PoolSettings{
		Stopped: p.Stopped, Machines: p.Machines, PerDay: euros(p.PerDay), Sizes: []api.PoolSize{}, Locations: append([]string{}, p.Locations...), Image: p.Image,
		WarmMinutes: int(p.Warm / time.Minute), WholeHours: p.WholeHours, Free: p.Free, Prewarm: p.Prewarm,
		BootMinutes: int(p.BootFor / time.Minute), LifeHours: int(p.Life / time.Hour), Shared: p.Shared,
	}
	for _, s := range p.Sizes {
		out.Sizes = append(out.Sizes, api.PoolSize(s))
	}
	return out
}

// policyOf is what settings say.
func policyOf(set api.PoolSettings) provision.Policy {
	p := provision.Policy{
		Stopped: set.Stopped, Machines: set.Machines, PerDay: money(set.PerDay), Locations: set.Locations, Image: set.Image,
		Warm: time.Duration(set.WarmMinutes) * time.Minute, WholeHours: set.WholeHours, Free: set.Free, Prewarm: set.Prewarm,
		BootFor: time.Duration(set.BootMinutes) * time.Minute, Life: time.Duration(set.LifeHours) * time.Hour, Shared: set.Shared,
	}
	for _, s := range set.Sizes {
		p.Sizes = append(p.Sizes, provision.Size(s))
	}
	return p
}

// SetPool implements api.Pool.
func (v meshView) SetPool(ctx context.Context, _ chat.Author, set api.PoolSettings) error {
	return v.n.poolDo(ctx, provision.Command{Set: &provision.Set{Policy: policyOf(set)}})
}

// Buy implements api.Pool.
func (v meshView) Buy(ctx context.Context, by chat.Author, need api.PoolNeed) (string, error) {
	op := cmp.Or(need.ID, ulid.Make().String())
	err := v.n.poolDo(ctx, provision.Command{Buy: &provision.Buy{
		Op: op, By: string(by.Person), Owner: string(by.Person), Reason: string(by.Person) + " asked for it.",
		Need: provision.Need{CPUs: need.CPUs, Mem: need.Memory, Location: need.Location},
	}})
	return op, err
}

// DeleteMachine implements api.Pool.
func (v meshView) DeleteMachine(ctx context.Context, by chat.Author, machine string) error {
	return v.n.poolDo(ctx, provision.Command{Retire: &provision.Retire{
		Machine: machine, Op: ulid.Make().String(), By: string(by.Person), Reason: string(by.Person) + " wants it deleted.",
	}})
}

// KeepMachine implements api.Pool.
func (v meshView) KeepMachine(ctx context.Context, _ chat.Author, machine string, until time.Time) error {
	return v.n.poolDo(ctx, provision.Command{Keep: &provision.Keep{Machine: machine, Until: until}})
}

// ResumeBuying implements api.Pool.
func (v meshView) ResumeBuying(ctx context.Context, _ chat.Author) error {
	return v.n.poolDo(ctx, provision.Command{Resume: &provision.Resume{}})
}
