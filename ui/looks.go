package ui

import (
	"context"
	"time"
)

const nodesEvery = 2 * time.Second // between two looks of an open page of nodes

// looks are what a stream shows that nobody tells it of: it looks again and
// again, beside the beats, for a node that is asked may be dead.
type looks[T any] struct {
	life context.Context // of the stream
	see  func(context.Context) (T, error)
	show func(context.Context, *events, T) ([]string, error)

	due   time.Time
	found chan sight[T] // of the look that goes on; nil: none does
}

type sight[T any] struct {
	v   T
	err error
}

// step sends what looks find, until the time for a beat has come.
func (l *looks[T]) step(ctx context.Context, e *events) error {
	for {
		if l.found == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Until(l.due)):
			}
			l.due = time.Now().Add(nodesEvery)
			found := make(chan sight[T], 1)
			l.found = found
			go func() {
				v, err := l.see(l.life)
				found <- sight[T]{v, err}
			}()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-l.found:
			l.found = nil
			if s.err != nil {
				return s.err
			}
			lines, err := l.show(l.life, e, s.v) // what is rendered counts as sent: it must not stop half way
			if err != nil {
				return err
			}
			if err := e.patch(e.after, lines...); err != nil {
				return err
			}
		}
	}
}
