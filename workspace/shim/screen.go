package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	replayBytes = 1 << 20 // of the last output that who comes is shown: some 10,000 lines and more
	keptBytes   = replayBytes + 64<<10
	catchUp     = 128 << 10       // what who fell behind is shown
	paceWindow  = 256 << 10       // bytes that a program is ahead of who sets its pace
	viewStall   = 2 * time.Second // who takes nothing for so long while output waits sets no pace any more
)

var errDetached = errors.New("detached")

// screen keeps the last output of a terminal and lets any number of watchers
// follow it. The program waits for those only who set the pace (who types, and
// the recording): they miss nothing. Whoever else falls behind what is kept
// goes on from a new replay.
type screen struct {
	mu      sync.Mutex
	buf     []byte // the last output, keptBytes or more once there was so much
	before  modes  // as of the begin of buf
	head    int64  // bytes ever shown
	views   map[*view]bool
	changed chan struct{} // closed and replaced when anything here changes
	redraw  func()        // asks a full-screen program to draw anew; it may not call the screen
	ended   bool
	code    int
}

// view is the place that one watcher has reached.
type view struct {
	first []byte // shown before what is at
	at    int64
	paces bool
	moved time.Time
}

func newScreen(redraw func()) *screen {
	return &screen{views: map[*view]bool{}, changed: make(chan struct{}), redraw: redraw}
}

func (s *screen) broadcastLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// attach begins with the replay.
func (s *screen) attach() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &view{moved: time.Now()}
	v.first = s.replayLocked(replayBytes)
	v.at = s.head
	s.views[v] = true
	return v
}

// follow is attach for what keeps the output as it was, from the first byte
// that is there.
func (s *screen) follow() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &view{at: s.head - int64(len(s.buf)), moved: time.Now()}
	s.views[v] = true
	return v
}

// replayLocked is what makes a new terminal show the last output. When older
// output is gone it begins after a line's end, and a program that draws on the
// whole screen is asked to do so again.
func (s *screen) replayLocked(limit int) []byte {
	from := max(0, len(s.buf)-limit)
	older := s.head > int64(len(s.buf)) || from > 0
	if older {
		last := s.buf[from:]
		if i := bytes.IndexByte(last[:min(len(last), 4<<10)], '\n'); i >= 0 {
			from += i + 1
		} else {
			for from < len(s.buf) && !utf8.RuneStart(s.buf[from]) {
				from++
			}
		}
	}
	m := s.before.clone()
	m.feed(s.buf[:from])
	if older && m.alternate() {
		s.redraw()
	}
	return append(m.restore(), hushed(s.buf[from:])...)
}

func (s *screen) detach(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.views, v)
	s.broadcastLocked()
}

// pace makes the program wait for one watcher, and for none of the others.
func (s *screen) pace(by *view, others []*view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range others {
		v.paces = false
	}
	if by != nil {
		by.paces, by.moved = true, time.Now()
	}
	s.broadcastLocked()
}

// listen makes the program wait for a watcher that may have been away.
func (s *screen) listen(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.paces, v.moved = true, time.Now()
}

// ignore lets a program go on without a watcher that went away, until it
// listens again.
func (s *screen) ignore(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.paces = false
	s.broadcastLocked()
}

// place is how many bytes a watcher has been shown.
func (s *screen) place(v *view) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return v.at
}

// show appends output once nobody who sets the pace would lose any by it.
func (s *screen) show(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	began := time.Now()
	for {
		slow := s.slowestLocked()
		if slow == nil || s.head+int64(len(b))-slow.at <= paceWindow {
			break
		}
		since := began
		if slow.moved.After(began) {
			since = slow.moved
		}
		left := time.Until(since.Add(viewStall))
		if left <= 0 {
			slow.paces = false
			continue
		}
		s.waitLocked(left)
	}
	s.buf = append(s.buf, b...)
	s.head += int64(len(b))
	if len(s.buf) > 2*keptBytes {
		gone := len(s.buf) - keptBytes
		s.before.feed(s.buf[:gone])
		s.buf = append(s.buf[:0], s.buf[gone:]...)
	}
	s.broadcastLocked()
}

func (s *screen) slowestLocked() *view {
	var slow *view
	for v := range s.views {
		if v.paces && (slow == nil || v.at < slow.at) {
			slow = v
		}
	}
	return slow
}

func (s *screen) waitLocked(d time.Duration) {
	changed := s.changed
	s.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
	s.mu.Lock()
}

func (s *screen) end(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.code = true, code
	s.broadcastLocked()
}

// next returns the output after the view's place, or nil and the exit code
// when there is no more and never will be.
func (s *screen) next(ctx context.Context, v *view) ([]byte, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if !s.views[v] {
			return nil, 0, errDetached
		}
		if b := s.takeLocked(v); b != nil {
			return b, 0, nil
		}
		if s.ended {
			return nil, s.code, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return nil, 0, context.Cause(ctx)
		}
	}
}

// takeLocked is the next piece for a view, or nil.
func (s *screen) takeLocked(v *view) []byte {
	if len(v.first) == 0 && s.head-v.at > int64(len(s.buf)) { // it is shown the end of what it missed
		v.first = s.againLocked(s.head - v.at)
		v.at = s.head
	}
	if len(v.first) > 0 {
		b := v.first[:min(len(v.first), 32<<10)]
		if v.first = v.first[len(b):]; len(v.first) == 0 {
			v.first = nil
		}
		s.movedLocked(v)
		return b
	}
	behind := s.head - v.at
	if behind == 0 {
		return nil
	}
	from := s.buf[int64(len(s.buf))-behind:]
	b := bytes.Clone(from[:min(len(from), 32<<10)])
	v.at += int64(len(b))
	s.movedLocked(v)
	return b
}

// againLocked is the replay for who missed output.
func (s *screen) againLocked(missed int64) []byte {
	replay, note := s.replayLocked(catchUp), ""
	if now := s.before.clone(); !now.feedAll(s.buf).alternate() {
		note = fmt.Sprintf("[samnode: the output was faster than this connection; up to %d KiB are left out]\r\n", missed>>10)
	}
	return slices.Concat([]byte(blank), []byte(note), replay)
}

func (s *screen) movedLocked(v *view) {
	v.moved = time.Now()
	if v.paces {
		s.broadcastLocked()
	}
}
