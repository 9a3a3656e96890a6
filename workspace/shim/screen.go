package shim

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"
)

const (
	replayBytes = 256 << 10
	viewStall   = 5 * time.Second // a watcher that takes nothing for so long while output waits is cut off
)

var errStalled = errors.New("the watcher takes no output")

// screen keeps the last output of a terminal and lets any number of watchers
// follow it. A watcher never misses a byte in the middle: the shell waits for
// the slowest one, and who does not move at all is cut off and may come back.
type screen struct {
	mu      sync.Mutex
	buf     []byte // the last output, replayBytes or more once there was so much
	head    int64  // bytes ever shown
	views   map[*view]bool
	changed chan struct{} // closed and replaced when anything here changes
	ended   bool
	code    int
}

// view is the place that one watcher has reached.
type view struct {
	at    int64
	moved time.Time
}

func newScreen() *screen { return &screen{views: map[*view]bool{}, changed: make(chan struct{})} }

func (s *screen) broadcastLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *screen) watchers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.views)
}

// attach begins with the replay. When older output is gone it begins after a
// line's end, so as not to begin inside a character or an escape sequence.
func (s *screen) attach() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.buf[max(0, len(s.buf)-replayBytes):]
	v := &view{at: s.head - int64(len(last)), moved: time.Now()}
	if v.at > 0 {
		if i := bytes.IndexByte(last[:min(len(last), 4<<10)], '\n'); i >= 0 {
			v.at += int64(i) + 1
		}
	}
	s.views[v] = true
	return v
}

func (s *screen) detach(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.views, v)
	s.broadcastLocked()
}

// show appends output once no watcher would lose any by it.
func (s *screen) show(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		slow := s.slowestLocked()
		if slow == nil || s.head+int64(len(b))-slow.at <= replayBytes+64<<10 {
			break
		}
		left := time.Until(slow.moved.Add(viewStall))
		if left <= 0 {
			delete(s.views, slow)
			s.broadcastLocked()
			continue
		}
		s.waitLocked(left)
	}
	s.buf = append(s.buf, b...)
	s.head += int64(len(b))
	if len(s.buf) > 2*replayBytes {
		s.buf = append(s.buf[:0], s.buf[len(s.buf)-replayBytes-64<<10:]...)
	}
	s.broadcastLocked()
}

func (s *screen) slowestLocked() *view {
	var slow *view
	for v := range s.views {
		if slow == nil || v.at < slow.at {
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
			return nil, 0, errStalled
		}
		if behind := s.head - v.at; behind > 0 {
			from := s.buf[int64(len(s.buf))-behind:]
			b := bytes.Clone(from[:min(len(from), 32<<10)])
			v.at += int64(len(b))
			v.moved = time.Now()
			s.broadcastLocked()
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
