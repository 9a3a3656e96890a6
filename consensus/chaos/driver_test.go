package chaos

import (
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/consensus"
)

// driver makes a plan's faults happen. It alone starts and stops processes.
type driver struct {
	*world
	began  time.Time
	agenda []due       // by time
	left   chan func() // what is to be done when something in the background has ended
	load   *load
	fills  int // full disks so far
}

// due is something to do at a time.
type due struct {
	at time.Time
	do func() error
}

func newDriver(w *world) *driver {
	d := &driver{world: w, began: time.Now(), left: make(chan func(), 16)}
	for _, f := range w.plan.faults {
		d.at(f.at, func() error { return d.strike(f) })
	}
	return d
}

// at puts something on the agenda.
func (d *driver) at(after time.Duration, do func() error) {
	x := due{time.Now().Add(after), do}
	i, _ := slices.BinarySearchFunc(d.agenda, x, func(a, b due) int { // behind what is due at the same time
		if a.at.After(b.at) {
			return 1
		}
		return -1
	})
	d.agenda = slices.Insert(d.agenda, i, x)
}

// drive runs the load and the faults, until the last one is over.
func (d *driver) drive() {
	d.load = newLoad(d.world)
	d.load.start()
	d.until(d.began.Add(d.plan.length))
}

// until does what is due until then, and looks after processes that end.
func (d *driver) until(end time.Time) {
	for {
		next := end
		if len(d.agenda) > 0 && d.agenda[0].at.Before(end) {
			next = d.agenda[0].at
		}
		select {
		case f := <-d.fell:
			d.fallen(f)
			continue
		case do := <-d.left:
			do()
			continue
		case <-time.After(time.Until(next)):
		}
		if next.Equal(end) && (len(d.agenda) == 0 || !d.agenda[0].at.Before(end)) {
			return
		}
		do := d.agenda[0].do
		d.agenda = d.agenda[1:]
		if err := do(); err != nil {
			d.broken("%v", err)
		}
	}
}

// mend puts the end of a fault on the agenda.
func (d *driver) mend(last time.Duration, do func() error) {
	d.breaks(1)
	d.at(last, func() error { d.breaks(-1); return do() })
}

// fallen is the end of a process that nobody killed just now.
func (d *driver) fallen(f fall) {
	l := f.life
	if l.n.now() != l {
		return
	}
	synctest.Wait()
	d.say("%s ended: %v", l.boot, f.why)
	power := errors.Is(f.why, errPower)
	switch {
	case errors.Is(f.why, errTrap):
	case errors.Is(f.why, consensus.ErrFull) && d.fills > 0:
	case isRefusal(f.why) && l.n.leaving:
	default:
		d.broken("%s stopped by itself: %v", l.boot, f.why)
	}
	if l.next.dir == "" {
		if err := l.keep(power); err != nil {
			d.broken("%v", err)
			return
		}
	}
	l.stop(power)
	d.bury(l)
	if !l.n.gone {
		d.mend(f.back, func() error { return d.restart(l.n) })
	}
}

// restart starts a node that is down.
func (d *driver) restart(n *node) error {
	if n.now() != nil || n.gone {
		return nil
	}
	d.tally.restarts++
	d.say("%s starts", n.name)
	return n.start()
}

// target is the node that a fault strikes.
func (d *driver) target(f fault) *node {
	if f.node < 0 {
		if n := d.leader(); n != nil {
			return n
		}
		return d.nodes[d.names[f.peer]]
	}
	return d.nodes[slices.Concat(d.names, d.others)[f.node]]
}

// strike makes a fault happen, and puts its end on the agenda.
func (d *driver) strike(f fault) error {
	n := d.target(f)
	l := n.now()
	d.say("fault: %v: %s", f, n.name)
	if l == nil && f.kind != blackout {
		return nil // it is down already
	}
	d.tally.faults[f.kind]++
	peer := d.names[f.peer]
	if peer == n.name {
		peer = d.names[(f.peer+1)%len(d.names)]
	}
	switch f.kind {
	case kill, power:
		err := d.kill(l, f.kind == power)
		d.mend(f.last, func() error { return d.restart(n) })
		return err
	case killSyncs, powerSyncs, killSends:
		d.trap(l, f)
	case blackout:
		return d.blackout(f)
	case pause:
		l.proc.pause(true)
		d.mend(f.last, func() error { return d.resume(l) })
	case cutOne:
		d.cut(f.last, route{n.name, peer})
	case cutTwo:
		d.cut(f.last, route{n.name, peer}, route{peer, n.name})
	case mute, deafen, isolate, split:
		d.cut(f.last, d.routes(f, n.name)...)
	case slow:
		routes := d.routes(fault{kind: isolate}, n.name)
		by := time.Duration(f.n) * time.Millisecond
		d.net.slowDown(by, routes...)
		d.mend(f.last, func() error { d.net.slowDown(-by, routes...); return nil })
	case drop:
		d.net.drop(n.name, peer)
	default:
		d.order(f, n, l)
	}
	return nil
}

func (d *driver) resume(l *life) error {
	l.proc.pause(false)
	d.net.stir()
	return nil
}

// cut breaks routes for a while.
func (d *driver) cut(last time.Duration, routes ...route) {
	d.net.cut(true, routes...)
	d.mend(last, func() error { d.net.cut(false, routes...); return nil })
}

// routes are those that a fault cuts. Workers are on the side of the first core
// node.
func (d *driver) routes(f fault, n string) []route {
	all := slices.Concat(d.names, d.others)
	side := func(name string) bool {
		i := max(0, slices.Index(d.names, name))
		return f.side&(1<<i) != 0
	}
	var out []route
	for _, a := range all {
		for _, b := range all {
			switch {
			case a == b:
			case f.kind == mute && a == n, f.kind == deafen && b == n, f.kind == isolate && (a == n || b == n):
				out = append(out, route{a, b})
			case f.kind == split && side(a) != side(b):
				out = append(out, route{a, b})
			}
		}
	}
	return out
}

var (
	errTrap  = errors.New("a trap was set")
	errPower = errors.New("a trap was set, and the power is off")
)

// trap has a process end at some moment of its own work.
func (d *driver) trap(l *life, f fault) {
	why := errTrap
	if f.kind == powerSyncs {
		why = errors.Join(errTrap, errPower)
	}
	spring := func() {
		if l.proc.dead() {
			return
		}
		if f.kind != killSends {
			if err := l.keep(f.kind == powerSyncs); err != nil {
				d.broken("%v", err)
			}
		}
		l.stop(f.kind == powerSyncs)
		d.fell <- fall{l, why, f.last}
	}
	if f.kind == killSends {
		l.proc.trap(f.n, spring)
	} else {
		l.n.disk.trap(f.n, spring)
	}
}

// blackout cuts the power of all core nodes.
func (d *driver) blackout(f fault) error {
	for i, name := range d.names {
		n := d.nodes[name]
		if l := n.now(); l != nil {
			if err := d.kill(l, true); err != nil {
				return err
			}
		}
		d.mend(f.last+time.Duration(i)*50*time.Millisecond, func() error { return d.restart(n) })
	}
	return nil
}
