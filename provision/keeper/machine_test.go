package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"crypto/sha256"
	"encoding/hex"

	"github.com/samnode/samnode/provision"
)

// power starts a server: its node boots, joins, and works until it ends. The
// lock is held.
func (w *world) power(b *box, data []byte) {
	ctx, stop := context.WithCancel(w.ctx)
	b.stop = stop
	var boot struct{ Node, Word, Key string }
	if err := json.Unmarshal(data, &boot); err != nil {
		w.broken("server %s cannot read what it boots with: %v", b.ID, err)
		return
	}
	wait := w.betweenLocked("boot", 20*time.Second, 90*time.Second)
	switch {
	case w.plan.shy > 0:
		w.plan.shy--
		w.tally.faults["never joins"]++
		return
	case w.hits("never joins", w.plan.never):
		return
	case w.hits("joins late", w.plan.late):
		wait = w.betweenLocked("boot", 9*time.Minute, 20*time.Minute)
	}
	w.tally.booted++
	twice := w.hits("joins twice", w.plan.twice)
	w.goes.Go(func() {
		if !sleep(ctx, wait) || !w.join(ctx, b, boot.Node, boot.Word, "addr-"+b.ID) {
			return
		}
		if twice && w.join(ctx, b, boot.Node, boot.Word, "twin-of-"+b.ID) {
			w.mu.Lock()
			w.broken("two machines joined with the invitation of %s", b.Name)
			w.mu.Unlock()
		}
		w.live(ctx, b)
	})
}

// join asks to be let in until there is an answer; it tells whether that was
// yes.
func (w *world) join(ctx context.Context, b *box, node, word, addr string) bool {
	sum := sha256.Sum256([]byte(word))
	for range 10 {
		err := w.commit(provision.Command{Join: &provision.Join{Invite: "i-" + word, Hash: hex.EncodeToString(sum[:]), Node: provision.Node{Name: node, Addr: addr}}})
		if err == nil {
			return true
		}
		if !errors.Is(err, provision.ErrRefused) && !errors.Is(err, provision.ErrNotFound) || !sleep(ctx, 3*time.Second) {
			return false
		}
	}
	return false
}

// live beats and works, as long as the machine lives.
func (w *world) live(ctx context.Context, b *box) {
	if w.commit(provision.Command{Start: &provision.Start{Node: b.Name, Addr: "addr-" + b.ID, Boot: b.ID, Generation: 1, Slots: 1, CPUs: 2, Mem: 4 << 30}}) != nil {
		return
	}
	w.mu.Lock()
	ends := time.Duration(0)
	off := false
	if w.hits("dies while working", w.plan.dies) {
		ends = w.betweenLocked("death", time.Minute, time.Hour)
	} else if w.hits("powers itself off", w.plan.off) {
		ends, off = w.betweenLocked("death", time.Minute, time.Hour), true
	}
	w.mu.Unlock()
	if ends > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ends)
		defer cancel()
	}
	w.beat(ctx, b)
	w.mu.Lock()
	defer w.mu.Unlock()
	b.dead = true
	if off {
		b.Status = "off"
	}
	clear(b.working)
}

// beat beats, and begins what there is a lease for, until the machine dies or
// is no member any more.
func (w *world) beat(ctx context.Context, b *box) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for w.member(b) {
		_, changed := w.state.Pool()
		w.work(ctx, b)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			if w.commit(provision.Command{Beats: &provision.Beats{Beats: []provision.Beat{{Node: b.Name, Boot: b.ID}}}}) != nil {
				return
			}
		}
	}
}

func (w *world) member(b *box) bool {
	p, _ := w.state.Pool()
	_, is := p.Node(b.Name)
	return is
}

// work begins what the node has leases for.
func (w *world) work(ctx context.Context, b *box) {
	p, _ := w.state.Pool()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range p.Leases {
		if l.Node != b.Name || b.working[l.Task] == l.Token {
			continue
		}
		b.working[l.Task] = l.Token
		w.say("task %s runs on %s (%s)", l.Task, b.Name, b.ID)
		w.goes.Go(func() { w.finish(ctx, b, l) })
	}
}

// finish is the end of a task, if its machine lives that long and it has the
// lease still.
func (w *world) finish(ctx context.Context, b *box, l provision.Lease) {
	ok := sleep(ctx, w.job(l.Task).last)
	w.mu.Lock()
	p, _ := w.state.Pool()
	now, has := p.Lease(l.Task)
	ok = ok && !b.dead && has && now.Token == l.Token
	if b.working[l.Task] == l.Token {
		delete(b.working, l.Task)
	}
	if ok {
		w.done[l.Task] = true
		w.tally.done++
	}
	w.mu.Unlock()
	if ok {
		_ = w.commit(provision.Command{Release: &provision.Release{Task: l.Task, Token: l.Token}}) // it has run out meanwhile, then
	}
}

func (w *world) job(task string) job {
	for _, j := range w.plan.jobs {
		if j.task == task {
			return j
		}
	}
	return job{}
}
