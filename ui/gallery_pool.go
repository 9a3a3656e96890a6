package ui

import (
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// samplePool is a pool in which everything is that can be.
func samplePool() api.PoolInfo {
	ago := func(d time.Duration) time.Time { return sampleNow.Add(-d) }
	return api.PoolInfo{
		At: sampleNow, Machines: sampleMachines(), Ops: sampleOps(), Choices: sampleChoices(), Today: 4.31, Month: 18.4, Resume: true,
		Stopped: "A machine did not come up in 3 attempts. Its node was not heard within 10 minutes. Nothing is bought until 20 Nov 14:15 UTC; then one machine is tried.",
		Alarms:  []string{"Machine samnode-7q2m is being deleted since 20 Nov 13:50 UTC, and costs on: the provider answered 503 (service unavailable)."},
		Swept:   ago(40 * time.Second), Budget: &api.PoolBudget{Limit: 3600, Left: 311, Reserve: 90},
		Settings: api.PoolSettings{
			Machines: 8, PerDay: 5, Locations: []string{"fsn1", "nbg1", "hel1"}, Image: "docker-ce", WarmMinutes: 30, WholeHours: true, Free: 1, BootMinutes: 10, LifeHours: 24,
			Sizes: []api.PoolSize{{Type: "cx33", Slots: 2}, {Type: "cx43", Slots: 4}, {Type: "cpx22", Slots: 1, Labels: []string{"amd"}}},
		},
	}
}

func sampleMachines() []api.PoolMachine {
	ago := func(d time.Duration) time.Time { return sampleNow.Add(-d) }
	in := sampleNow.Add
	bought := func(name, state string, since time.Duration, change func(*api.PoolMachine)) api.PoolMachine {
		m := api.PoolMachine{
			Name: "samnode-" + name, State: state, Since: ago(since), Slots: 2, Bought: true, Type: "cx33", Location: "fsn1", Server: "4711", Hour: 0.0144, Owner: "ana@example.com",
			Why: "ana@example.com asked for it.",
		}
		change(&m)
		return m
	}
	lease := func(task, slot string, since time.Duration) api.Lease {
		return api.Lease{Task: chat.TaskID(sampleTasks + task), Slot: slot, Token: 9120, Since: ago(since)}
	}
	return []api.PoolMachine{
		bought("4w9s", wanted, 40*time.Second, func(m *api.PoolMachine) { m.Type, m.Location, m.Server = "", "", "" }),
		bought("2b8k", creating, 9*time.Second, func(m *api.PoolMachine) { m.Deadline = in(time.Hour) }),
		bought("9c3f", booting, 52*time.Second, func(m *api.PoolMachine) { m.Deadline, m.PaidUntil = in(9*time.Minute), in(59*time.Minute) }),
		bought("1d7h", ready, 84*time.Minute, func(m *api.PoolMachine) {
			m.Created, m.PaidUntil, m.Stay = ago(86*time.Minute), in(34*time.Minute), "It is in use."
			m.Tasks = []api.Lease{lease("1", "slot-1", 14*time.Minute), lease("2", "slot-2", 3*time.Minute)}
		}),
		bought("5f6j", ready, 36*time.Minute, func(m *api.PoolMachine) {
			m.Created, m.PaidUntil, m.Until, m.Stay = ago(37*time.Minute), in(23*time.Minute), in(20*time.Minute), "It is idle."
		}),
		bought("8g4n", ready, 26*time.Hour, func(m *api.PoolMachine) {
			m.Type, m.Slots, m.Hour = "cx43", 4, 0.0264
			m.Created, m.PaidUntil, m.Keep, m.Until, m.Stay = ago(26*time.Hour), in(55*time.Minute), in(3*time.Hour), in(3*time.Hour+52*time.Minute), "Somebody wants it kept until 20 Nov 17:02 UTC."
			m.Tasks = []api.Lease{lease("3", "slot-1", 40*time.Second)}
		}),
		bought("6k5p", draining, 5*time.Minute, func(m *api.PoolMachine) {
			m.Created, m.PaidUntil, m.Leaves, m.Stay = ago(3*time.Hour), in(12*time.Minute), true, "It is to be deleted, and waits for its tasks."
			m.Tasks = []api.Lease{lease("4", "slot-2", 2*time.Hour)}
		}),
		bought("7q2m", deleting, 12*time.Minute, func(m *api.PoolMachine) { m.Created, m.Leaves, m.PaidUntil = ago(2*time.Hour), true, in(8*time.Minute) }),
		bought("3r1t", failing, time.Minute, func(m *api.PoolMachine) { m.Leaves, m.Failed = true, "Its node was not heard within 10 minutes." }),
		{Name: "core-3", State: ready, Since: ago(26 * time.Hour), Slots: 2, Tasks: []api.Lease{lease("5", "slot-1", 7*time.Minute)}},
		{Name: "lap-of-ana", State: draining, Since: ago(11 * time.Minute), Slots: 1},
		{Name: "core-1", State: ready, Since: ago(26 * time.Hour)},
	}
}

const sampleTasks = "01JD000000000000000000000"

func sampleOps() []api.PoolOp {
	ago := func(d time.Duration) time.Time { return sampleNow.Add(-d) }
	why := "Task " + sampleTasks + "1 finds no free slot: cx33 at fsn1 for 0.0144 € an hour is the first choice."
	return []api.PoolOp{
		{
			ID: "01JD3", Kind: "buy", State: "open", Machine: "samnode-4w9s", Reason: why, Task: sampleTasks + "1", Began: ago(3 * time.Minute), Next: sampleNow.Add(90 * time.Second),
			Text: "The account may have 5 servers: ask the provider for more, or delete one.",
			History: []api.Event{
				{At: ago(3 * time.Minute), Text: why},
				{At: ago(3 * time.Minute), Text: "Attempt 1: the provider is asked for cx33 at fsn1 for 0.0144 € an hour."},
				{At: ago(170 * time.Second), Text: "cx33 at fsn1: It is sold out there."},
				{At: ago(165 * time.Second), Text: "Attempt 2: the provider is asked for cx33 at nbg1 for 0.0144 € an hour."},
				{At: ago(40 * time.Second), Text: "cx33 at nbg1: The account may have 5 servers: ask the provider for more, or delete one."},
			},
		},
		{
			ID: "01JD4", Kind: "buy", State: "open", Machine: "samnode-9c3f", Reason: why, Task: sampleTasks + "1", Began: ago(58 * time.Second),
			History: []api.Event{
				{At: ago(58 * time.Second), Text: why},
				{At: ago(57 * time.Second), Text: "Attempt 1: the provider is asked for cx33 at fsn1 for 0.0144 € an hour."},
				{At: ago(52 * time.Second), Text: "The provider made server 4711 (cx33 at fsn1); it boots."},
			},
		},
		{ID: "01JD2", Kind: "delete", State: "open", Machine: "samnode-7q2m", Reason: "It is idle, and the hour that is paid ends.", Began: ago(12 * time.Minute), History: []api.Event{{At: ago(12 * time.Minute), Text: "It is idle, and the hour that is paid ends."}, {At: ago(12 * time.Minute), Text: "The provider is asked to delete server 4711."}}},
		{ID: "01JD1", Kind: "buy", State: "done", Machine: "samnode-1d7h", Reason: "ana@example.com asked for it.", By: "ana@example.com", Began: ago(87 * time.Minute), Ended: ago(86 * time.Minute), History: []api.Event{{At: ago(87 * time.Minute), Text: "ana@example.com asked for it."}, {At: ago(86 * time.Minute), Text: "Its node was heard: it takes tasks."}}},
		{ID: "01JD0", Kind: "buy", State: "failed", Machine: "samnode-3r1t", Reason: "The bursts of the last two hours make tasks likely.", Began: ago(30 * time.Hour), Ended: ago(29 * time.Hour), History: []api.Event{{At: ago(29 * time.Hour), Text: "Machine samnode-3r1t has failed: its node was not heard within 10 minutes."}}},
		{ID: "01JC9", Kind: "buy", State: "withdrawn", Machine: "samnode-0a0a", Reason: "Task " + sampleTasks + "2 finds no free slot.", Task: sampleTasks + "2", Began: ago(31 * time.Hour), Ended: ago(31 * time.Hour), History: []api.Event{{At: ago(31 * time.Hour), Text: "Nobody waits for it any more."}}},
	}
}

func sampleChoices() []api.PoolChoice {
	var out []api.PoolChoice
	for _, t := range []struct {
		name  string
		slots int
		hour  float64
	}{{"cx33", 2, 0.0144}, {"cx43", 4, 0.0264}, {"cpx22", 1, 0.032}} {
		for _, l := range []string{"fsn1", "nbg1", "hel1"} {
			c := api.PoolChoice{Type: t.name, Location: l, Slots: t.slots, Hour: t.hour, Day: 24 * t.hour}
			switch {
			case t.name == "cx33" && l == "fsn1":
				c.Refused = "it was sold out there at 13:59 UTC, and is asked for again from 14:09 UTC"
			case t.name == "cx43" && l != "fsn1":
				c.Refused = "the provider does not take orders for it there now"
			case t.name == "cpx22" && l == "hel1":
				c.Hour, c.Day, c.Refused = 0, 0, "the provider does not sell it there"
			}
			out = append(out, c)
		}
	}
	return out
}

// poolParts is the gallery's part about the pool.
func (s *Server) poolParts() poolView { return s.poolView(samplePool(), sampleMesh(), true) }
