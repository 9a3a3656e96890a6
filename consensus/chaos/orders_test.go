package chaos

import (
	"context"
	"errors"
	"slices"
	"time"
)

// order does what people and programs would do, in the background.
func (d *driver) order(f fault, n *node, l *life) {
	switch f.kind {
	case transfer:
		d.graves.Go(func() {
			ctx, cancel := context.WithTimeout(l.proc.ctx, 10*time.Second)
			defer cancel()
			if err := l.log.Transfer(ctx); err != nil {
				d.say("%s: transfer: %v", l.boot, err)
			}
		})
	case usurp:
		d.usurp(f, l)
	case leave:
		d.leave(f, n)
	case fill:
		disk := n.disk
		d.fills++
		disk.fill(true)
		d.mend(min(f.last, 2*time.Second), func() error { n.disk.fill(false); disk.fill(false); return nil })
	}
}

// usurp has a node that led before schedule as if it had not noticed. When l is
// none, another one is looked for.
func (d *driver) usurp(f fault, l *life) {
	var office *context.Context
	first := slices.Index(d.names, l.n.name)
	for i := range d.names {
		n := d.nodes[d.names[(first+i)%len(d.names)]]
		if l = n.now(); l == nil || d.leader() == n {
			continue
		}
		if office = l.past.Load(); d.flaws.unbound {
			office = &l.proc.ctx
		}
		if office != nil {
			break
		}
	}
	if office == nil {
		d.tally.faults[f.kind]--
		return
	}
	d.graves.Go(func() {
		ctx, cancel := l.proc.within(*office)
		defer cancel()
		ctx, late := context.WithTimeout(ctx, f.last)
		defer late()
		err := (&scheduler{l: l, silent: func() []string { return nil }}).run(ctx)
		d.say("%s schedules no more: %v", l.boot, err)
	})
}

// leave takes a node out of the mesh for ever, and makes a new machine of it
// that joins.
func (d *driver) leave(f fault, n *node) {
	if n.leaving {
		return
	}
	n.leaving = true
	d.breaks(1)
	d.graves.Go(func() {
		ctx, cancel := context.WithTimeout(d.ctx, 3*time.Minute) // half of it is no way to live
		defer cancel()
		err := d.anywhere(ctx, n, func(l *life) error { return l.remove(ctx, n) })
		d.left <- func() { d.gone(f, n, err) }
	})
}

// anywhere has some other node do something, until it is done.
func (d *driver) anywhere(ctx context.Context, but *node, f func(*life) error) error {
	for i := 0; ; i++ {
		n := d.nodes[d.names[i%len(d.names)]]
		err := errNoLeader
		if l := n.now(); l != nil && n != but && l.proc.serves(ctx) == nil {
			err = f(l)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// gone is what follows on the removal of a node.
func (d *driver) gone(f fault, n *node, err error) {
	if err != nil {
		d.broken("%s cannot be removed: %v", n.name, err)
		return
	}
	d.say("%s has left", n.name)
	n.gone = true
	if l := n.now(); l != nil {
		if err := d.kill(l, false); err != nil {
			d.broken("%v", err)
		}
	}
	if err := n.wipe(); err != nil {
		d.broken("%v", err)
		return
	}
	d.graves.Go(func() {
		time.Sleep(f.last)
		ctx, cancel := context.WithTimeout(d.ctx, time.Minute)
		defer cancel()
		invited := false
		err := d.anywhere(ctx, n, func(l *life) error {
			if !invited {
				if err := l.invite(ctx, n); err != nil {
					return err
				}
			}
			invited = true
			return l.admit(ctx, n) // the node asks until it is let in
		})
		d.left <- func() {
			if err != nil {
				d.broken("%s does not get in again: %v", n.name, err)
				return
			}
			n.leaving, n.gone = false, false
			d.breaks(-1)
			d.say("%s has joined anew", n.name)
			d.at(0, func() error { return d.restart(n) })
		}
	})
}
