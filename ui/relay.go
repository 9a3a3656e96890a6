package ui

import (
	"context"
	"sync"
	"time"
)

// relay reads what changes once for all streams that follow the same thing,
// and hands each of them the same frames. A stream that is slow holds nobody
// up: it finds its next frame behind the one it has, and frames that nobody
// will read any more are forgotten.
type relay[T any] struct {
	read func(ctx context.Context, after uint64) (T, uint64, error) // blocks for the next change
	pace time.Duration                                              // at least, between two frames

	followers int         // under the mutex of its relays, as newest
	newest    *frameOf[T] // nil: a read failed, the next follower begins anew
	stop      context.CancelFunc
}

// frameOf is one step of a relay. Its last two fields are set before next is
// closed.
type frameOf[T any] struct {
	value T
	upto  uint64 // log index that the frame brings its reader to

	next   chan struct{}
	behind *frameOf[T]
	err    error // of the read: the reader ends, and its browser comes again
}

// relays are those that somebody follows.
type relays[K comparable, T any] struct {
	base context.Context
	open func(K) *relay[T]

	mu  sync.Mutex
	all map[K]*relay[T]
	wg  sync.WaitGroup
}

// follow joins the relay of key. The reader has everything up to index, the
// node's log is at now. It gets the newest frame, from which it goes on; what
// changed between index and that frame it reads itself. It calls leave at its
// end.
func (r *relays[K, T]) follow(key K, index, now uint64) (at *frameOf[T], leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[K]*relay[T]{}
	}
	y, ok := r.all[key]
	if !ok {
		y = r.open(key)
		r.all[key] = y
	}
	if y.newest == nil {
		// A reader may come from a node that is ahead: others have not seen that yet.
		y.newest = &frameOf[T]{upto: min(index, now), next: make(chan struct{})}
		ctx, stop := context.WithCancel(r.base)
		y.stop = stop
		at := y.newest
		r.wg.Go(func() { r.run(ctx, y, at) })
	}
	y.followers++
	return y.newest, func() { r.leave(key, y) }
}

// leave ends a follow; the last one ends the relay.
func (r *relays[K, T]) leave(key K, y *relay[T]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if y.followers--; y.followers == 0 {
		y.stop()
		delete(r.all, key)
	}
}

// run reads frame by frame until the context ends or a read fails.
func (r *relays[K, T]) run(ctx context.Context, y *relay[T], at *frameOf[T]) {
	for {
		value, upto, err := y.read(ctx, at.upto)
		r.mu.Lock()
		if err != nil {
			at.err, y.newest = err, nil
		} else {
			at.behind = &frameOf[T]{value: value, upto: upto, next: make(chan struct{})}
			y.newest = at.behind
		}
		r.mu.Unlock()
		close(at.next)
		if err != nil {
			return
		}
		at = at.behind
		select {
		case <-time.After(y.pace):
		case <-ctx.Done():
		}
	}
}

// reader is a stream's place in a relay.
type reader[T any] struct {
	at    uint64 // what the stream has
	frame *frameOf[T]
}

// take moves over the frames that are there and returns the new ones.
func (r *reader[T]) take() ([]*frameOf[T], error) {
	var out []*frameOf[T]
	for {
		select {
		case <-r.frame.next:
		default:
			return out, nil
		}
		if r.frame.err != nil {
			return out, r.frame.err
		}
		if r.frame = r.frame.behind; r.frame.upto > r.at {
			out, r.at = append(out, r.frame), r.frame.upto
		}
	}
}
