package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// What the log is spared: editors, rsync and scripts come and go all the time.
const (
	stayPause   = 2 * time.Minute  // how long somebody may be away and still be on the same stay
	visitsEvery = 5 * time.Second  // between two writes about one stay
	visitsSoon  = time.Second / 2  // from the begin of a stay to its first
	visitSeen   = 10 * time.Minute // between two words that it goes on
	maxKinds    = 20               // of use that a stay tells apart; more are counted together
	maxStays    = 10_000
)

// visit is a use of a workspace that begins. Who and from where is what the
// network says, never the client.
type visit struct {
	guest
	by   chat.VisitBy
	what string // the shell, command, port or path; people read it
}

// guest is somebody at a workspace.
type guest struct {
	task   chat.TaskID
	person chat.Person
	device string
}

// visits put into the log who was in which workspace, when, and what they did
// there. Uses of one person from one device that follow each other are a stay,
// and like uses in it are one record with a count, so that two hundred
// connections, or one a second for days, are a few writes. What cannot be
// written is tried again until it can.
type visits struct {
	put func(context.Context, chat.Visits) error // chat's refusals are final
	log *slog.Logger

	mu   sync.Mutex
	open map[guest]*stay
	wake chan struct{} // capacity 1: something is to be written
}

// stay is from somebody's first use to their last.
type stay struct {
	guest
	id      string
	began   time.Time
	left    time.Time // of the last use, when none goes on
	uses    int       // that go on
	sum     map[chat.VisitBy]int
	records []*record
	line    string // in the log
	next    time.Time
}

// record is a visit of the log.
type record struct {
	chat.Visit
	uses  int // that go on
	dirty bool
}

func newVisits(put func(context.Context, chat.Visits) error, log *slog.Logger) *visits {
	return &visits{put: put, log: log, open: map[guest]*stay{}, wake: make(chan struct{}, 1)}
}

// enter tells of a use that begins. Leave has to be called once, when it is
// over, with the bytes that it moved in both directions (0: not known). Neither
// keeps anybody waiting.
func (v *visits) enter(x visit) (leave func(bytes int64)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now().UTC()
	s := v.open[x.guest]
	if s == nil {
		if len(v.open) >= maxStays {
			v.log.Warn("a visit is not put into the log: there are too many", "task", x.task, "person", x.person, "by", x.by, "what", x.what)
			return func(int64) {}
		}
		s = &stay{guest: x.guest, id: chat.NewID(), began: now, sum: map[chat.VisitBy]int{}, next: now.Add(visitsSoon)}
		v.open[x.guest] = s
	}
	r := s.record(x)
	r.Ended, r.Seen, r.dirty = time.Time{}, now, true
	r.Count++
	r.uses++
	s.uses++
	s.sum[x.by]++
	v.wakeUp()
	var once sync.Once
	return func(bytes int64) { once.Do(func() { v.leave(s, r, bytes) }) }
}

func (v *visits) leave(s *stay, r *record, bytes int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now().UTC()
	r.Bytes += max(bytes, 0)
	r.dirty = true
	if r.uses--; r.uses == 0 {
		r.Ended = now
	}
	if s.uses--; s.uses == 0 {
		s.left = now
	}
	v.wakeUp()
}

func (v *visits) wakeUp() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// record finds the one that a use is counted in, or makes it.
func (s *stay) record(x visit) *record {
	x.what = cutText(x.what, 200)
	if r := s.find(x); r != nil {
		return r
	}
	if len(s.records) >= maxKinds {
		x.what = "and others"
		if r := s.find(x); r != nil {
			return r
		}
	}
	r := &record{Visit: chat.Visit{
		ID: chat.NewID(), Person: s.person, Device: s.device, By: x.by, What: x.what, Began: time.Now().UTC(),
	}}
	s.records = append(s.records, r)
	return r
}

func (s *stay) find(x visit) *record {
	for _, r := range s.records {
		if r.By == x.by && r.What == x.what {
			return r
		}
	}
	return nil
}

// over says whether nobody came back for long enough.
func (s *stay) over(now time.Time) bool { return s.uses == 0 && now.Sub(s.left) >= stayPause }

// run writes until ctx ends, and then what is left, with every visit ended.
func (v *visits) run(ctx context.Context) {
	tick := time.NewTicker(visitsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-v.wake:
			select { // what comes at once is written at once
			case <-ctx.Done():
			case <-time.After(visitsSoon):
			}
		}
		if ctx.Err() != nil {
			break
		}
		v.write(ctx, time.Now().UTC(), false)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	v.write(last, time.Now().UTC(), true)
}

// write puts into the log what is due; at the end, everything.
func (v *visits) write(ctx context.Context, now time.Time, end bool) {
	v.mu.Lock()
	due := make([]*stay, 0, len(v.open))
	for _, s := range v.open {
		if end || !now.Before(s.next) {
			due = append(due, s)
		}
	}
	v.mu.Unlock()
	for _, s := range due {
		op, done, any := v.prepare(s, now, end)
		if !any {
			done(true)
			continue
		}
		err := v.put(ctx, op)
		if err != nil {
			v.log.Warn("putting into the log who is in a workspace", "task", s.task, "person", s.person, "from", s.device, "final", saidNo(err), "err", err)
		}
		done(err == nil || saidNo(err))
	}
}

// prepare is what the log lacks of a stay. Done says whether it has it then.
func (v *visits) prepare(s *stay, now time.Time, end bool) (op chat.Visits, done func(written bool), any bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	over := end || s.over(now)
	op.Task = s.task
	var sent []*record
	for _, r := range s.records {
		if r.uses > 0 && (end || now.Sub(r.Seen) >= visitSeen) {
			r.Seen, r.dirty = now, true
			if end {
				r.Ended = now
			}
		}
		if r.dirty {
			r.dirty = false
			sent = append(sent, r)
			op.Visits = append(op.Visits, r.Visit)
		}
	}
	line := s.text(over, now)
	if line != s.line {
		op.Line = &chat.Line{ID: "stay-" + s.id, Text: line}
	}
	return op, func(written bool) { v.written(s, sent, line, over, written) }, len(op.Visits) > 0 || op.Line != nil
}

func (v *visits) written(s *stay, sent []*record, line string, over, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s.next = time.Now().UTC().Add(visitsEvery)
	if !ok {
		for _, r := range sent {
			r.dirty = true
		}
		return
	}
	s.line = line
	if over && s.uses == 0 && v.open[s.guest] == s {
		delete(v.open, s.guest)
	}
}
