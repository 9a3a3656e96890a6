package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// pool is the pool's machine, as cmd/samnode fits it to the log.
type pool struct {
	*provision.State
	journal *journal // nil: nobody keeps what is applied
	proc    *process
	twice   bool // flaw: grants without looking whether the slot is free

	mu    sync.Mutex
	extra []provision.Lease // flaw: granted on top
}

// Applied implements consensus.Machine.
func (*pool) Applied() uint64 { return 0 }

// Apply implements consensus.Machine.
func (p *pool) Apply(entries []consensus.Entry) error {
	for _, e := range entries {
		p.journal.add(p.proc, machinePool, e)
		if err := p.State.Apply(e.Index, e.At, e.Data); err != nil {
			return err
		}
		if p.twice {
			if err := p.overGrant(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// overGrant grants what was refused, and ends what was granted so.
func (p *pool) overGrant(e consensus.Entry) error {
	c, err := provision.Decode(e.Data)
	if err != nil {
		return err
	}
	out, _ := p.Outcome(c.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch g := c.Grant; {
	case g != nil && out.Err() != nil:
		p.extra = append(p.extra, provision.Lease{Task: g.Task, Node: g.Node, Slot: g.Slot, Token: e.Index})
	case c.Release != nil:
		p.extra = slices.DeleteFunc(p.extra, func(l provision.Lease) bool { return l.Token == c.Release.Token })
	}
	return nil
}

// view is the pool as everyone here reads it.
func (p *pool) view() (provision.Pool, <-chan struct{}) {
	v, changed := p.Pool()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.extra) > 0 {
		v.Leases = append(slices.Clone(v.Leases), p.extra...)
	}
	return v, changed
}

func poolPart(c provision.Command) (consensus.Part, error) {
	c.Version = provision.Version
	data, err := json.Marshal(c)
	if err != nil {
		return consensus.Part{}, fmt.Errorf("encoding a command of the pool: %w", err)
	}
	return consensus.Part{Machine: machinePool, Data: data}, nil
}

func boardPart(o op) (consensus.Part, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return consensus.Part{}, fmt.Errorf("encoding a command of the board: %w", err)
	}
	return consensus.Part{Machine: machineBoard, Data: data}, nil
}
