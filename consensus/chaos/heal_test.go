package chaos

import (
	"slices"
	"sync"
	"time"

	"github.com/samnode/samnode/consensus"
)

// Within so long after everything is mended an append must be acknowledged,
// and at every node, once all of them run.
const (
	oneWithin = 10 * time.Second
	allWithin = 30 * time.Second
)

// heal mends everything, waits for the mesh to be whole again and ends the load.
func (d *driver) heal() {
	for _, name := range d.names {
		if l := d.nodes[name].now(); l != nil {
			l.proc.trap(0, nil)
			l.n.disk.trap(0, nil)
		}
	}
	for _, x := range d.agenda {
		if err := x.do(); err != nil {
			d.broken("%v", err)
		}
	}
	d.agenda = nil
	d.say("everything is mended")
	d.mends()
	defer d.rest()
	defer d.load.end()
	for mended, whole := time.Now(), false; !whole; {
		d.until(time.Now().Add(100 * time.Millisecond))
		whole = !slices.ContainsFunc(d.names, func(name string) bool { return d.nodes[name].leaving || d.nodes[name].now() == nil })
		if time.Since(mended) > 4*time.Minute {
			d.broken("not all nodes run")
			return
		}
	}
	d.probe()
}

// probe appends at every node, until it is acknowledged.
func (d *driver) probe() {
	began := time.Now()
	var probes sync.WaitGroup
	for _, name := range d.names {
		n := d.nodes[name]
		probes.Go(func() {
			c := &client{w: d.world, name: "probe-" + name}
			if err := c.insist(n, began.Add(allWithin)); err != nil {
				d.broken("%v after all nodes run %s accepts no writes: %v", allWithin, name, err)
			}
		})
	}
	done := make(chan struct{})
	d.graves.Go(func() { probes.Wait(); close(done) })
	for waiting := true; waiting; {
		d.until(time.Now().Add(10 * time.Millisecond))
		waiting = !closed(done)
	}
	d.tally.allHealed = time.Since(began)
	if d.tally.healed == 0 || d.tally.healed > oneWithin {
		d.broken("after everything was mended it took %v until an append was acknowledged (0: none was)", d.tally.healed)
	}
	d.say("accepts writes %v after everything was mended, at every node %v after all run", d.tally.healed, d.tally.allHealed)
}

// rest ends all work but the log's, and waits until all nodes have the same.
func (d *driver) rest() {
	for _, n := range d.nodes {
		if l := n.now(); l != nil {
			l.rest()
		}
	}
	for range 600 {
		time.Sleep(100 * time.Millisecond)
		if d.level() {
			return
		}
	}
	d.broken("the nodes do not come to have the same")
}

// level tells whether all core nodes have applied the same.
func (d *driver) level() bool {
	var first consensus.Stats
	for i, name := range d.names {
		l := d.nodes[name].now()
		if l == nil {
			return false
		}
		s := l.log.Stats()
		if i == 0 {
			first = s
		}
		if s.Leader == "" || s.Applied != first.Applied || s.Last != first.Last {
			return false
		}
	}
	return true
}
