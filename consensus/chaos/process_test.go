package chaos

import (
	"context"
	"errors"
	"sync"
)

// errDead is what everything that a killed process still tries ends with.
var errDead = errors.New("the process was killed")

// process is one run of a node's program, as far as it can be stopped from
// outside. Its ctx ends with errDead when it is killed.
type process struct {
	host string
	ctx  context.Context
	end  context.CancelCauseFunc

	mu     sync.Mutex
	paused bool
	moved  chan struct{} // closed and replaced when paused changes
	left   int           // sends until spring; 0: no trap is set
	spring func()        // kills
}

func newProcess(ctx context.Context, host string) *process {
	p := &process{host: host, moved: make(chan struct{})}
	p.ctx, p.end = context.WithCancelCause(ctx)
	return p
}

func (p *process) dead() bool { return p.ctx.Err() != nil }

func (p *process) pause(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != on {
		p.paused = on
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

// state is whether the process stands still, and what is closed when that
// changes.
func (p *process) state() (paused bool, moved <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused, p.moved
}

// trap has the process killed by spring when it sends for the n-th time.
func (p *process) trap(n int, spring func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.spring = n, spring
}

// sends notes that the process is about to send, and tells whether that is its
// end.
func (p *process) sends() bool {
	p.mu.Lock()
	last := p.left == 1
	p.left = max(0, p.left-1)
	p.mu.Unlock()
	if last {
		p.spring()
	}
	return last
}

// pass waits while the process is paused. What runs in the process calls it
// before it does anything that another could see. ctx does not end the wait of
// a process that stands still: it would not notice.
func (p *process) pass(ctx context.Context) error {
	for {
		paused, moved := p.state()
		switch {
		case p.dead():
			return errDead
		case !paused:
			return context.Cause(ctx)
		}
		select {
		case <-moved:
		case <-p.ctx.Done():
		}
	}
}

// serves waits until the process takes a request from outside; who asks gives
// up when ctx ends.
func (p *process) serves(ctx context.Context) error {
	for {
		paused, moved := p.state()
		switch {
		case p.dead():
			return errDead
		case !paused:
			return context.Cause(ctx)
		}
		select {
		case <-moved:
		case <-p.ctx.Done():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// within is ctx, which also ends when the process is killed.
func (p *process) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.ctx, func() { cancel(errDead) })
	return ctx, func() { stop(); cancel(nil) }
}
