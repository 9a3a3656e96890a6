package ui

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

type unasked = api.Pool

// fakePool is a pool that does what it is told at once, and remembers it.
type fakePool struct {
	unasked // what pages do not call
	mu      sync.Mutex
	info    api.PoolInfo
	refuse  error // what changes are answered with
	err     error // what reading is
	did     []string
	ids     []string // of purchases
}

// newFakePool is a pool in which nothing is wrong.
func newFakePool() *fakePool {
	p := &fakePool{info: samplePool()}
	p.info.Stopped, p.info.Resume, p.info.Alarms = "", false, nil
	return p
}

func (p *fakePool) with(c *Config) { c.Pool = p }

// set changes the pool.
func (p *fakePool) set(change func(*api.PoolInfo)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.info)
}

func (p *fakePool) done() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.did)
}

// do notes a change and makes it, unless it is to be refused.
func (p *fakePool) do(by chat.Author, change func(*api.PoolInfo), format string, args ...any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	p.did = append(p.did, string(by.Person)+" "+fmt.Sprintf(format, args...))
	change(&p.info)
	return nil
}

func (p *fakePool) Pool(context.Context) (api.PoolInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info := p.info
	info.Machines, info.Ops, info.Choices = slices.Clone(info.Machines), slices.Clone(info.Ops), slices.Clone(info.Choices)
	return info, p.err
}

func (p *fakePool) SetPool(_ context.Context, by chat.Author, set api.PoolSettings) error {
	return p.do(by, func(i *api.PoolInfo) { i.Settings = set }, "set %+v", set)
}

func (p *fakePool) Buy(_ context.Context, by chat.Author, need api.PoolNeed) (string, error) {
	id := need.ID
	need.ID = ""
	err := p.do(by, func(*api.PoolInfo) {
		if slices.Contains(p.ids, id) {
			return
		}
		p.ids = append(p.ids, id)
		name := "samnode-new" + fmt.Sprint(len(p.ids))
		p.info.Machines = append(slices.Clone(p.info.Machines), api.PoolMachine{Name: name, State: wanted, Since: p.info.At, Slots: 2, Bought: true})
		p.info.Ops = append([]api.PoolOp{{ID: id, Kind: "buy", State: "open", Machine: name, Reason: string(by.Person) + " asked for it.", Began: p.info.At}}, p.info.Ops...)
	}, "buy %+v", need)
	return id, err
}

func (p *fakePool) machine(name string, change func(*api.PoolMachine)) func(*api.PoolInfo) {
	return func(i *api.PoolInfo) {
		i.Machines = slices.Clone(i.Machines)
		for k := range i.Machines {
			if i.Machines[k].Name == name {
				change(&i.Machines[k])
			}
		}
	}
}

func (p *fakePool) DeleteMachine(_ context.Context, by chat.Author, name string) error {
	info, _ := p.Pool(context.Background())
	i := slices.IndexFunc(info.Machines, func(m api.PoolMachine) bool { return m.Name == name })
	switch {
	case i < 0:
		return fmt.Errorf("%w: there is no machine %s", chat.ErrNotFound, name)
	case info.Machines[i].Leaves:
		return fmt.Errorf("%w: machine %s is being deleted already", chat.ErrRefused, name)
	}
	return p.do(by, p.machine(name, func(m *api.PoolMachine) { m.State, m.Leaves = draining, true }), "delete %s", name)
}

func (p *fakePool) KeepMachine(_ context.Context, by chat.Author, name string, until time.Time) error {
	return p.do(by, p.machine(name, func(m *api.PoolMachine) { m.Keep = until }), "keep %s %s", name, until.Format("15:04"))
}

func (p *fakePool) ResumeBuying(_ context.Context, by chat.Author) error {
	return p.do(by, func(i *api.PoolInfo) { i.Stopped, i.Resume, i.Settings.Stopped = "", false, false }, "resume")
}
