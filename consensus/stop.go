package consensus

import (
	"errors"
	"fmt"
	"time"
)

// fail makes the node stop: it takes no more calls and leaves the group. The
// first error counts.
func (l *Log) fail(err error) {
	if full(err) && !errors.Is(err, ErrFull) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
	}
	l.mu.Unlock()
	if !first {
		return
	}
	l.conf.Logger.Error("the node must stop", "err", err)
	l.refuse(err)
	close(l.failed)
	// Raft's own goroutines fail, and halt waits for them.
	l.running.Go(func() {
		<-l.opened
		l.halt()
	})
}

// refuse keeps new calls out and tells everyone who waits.
func (l *Log) refuse(why error) {
	l.mu.Lock()
	if l.ending == nil {
		l.ending = why
	}
	l.mu.Unlock()
	l.announce()
}

// halt ends Raft once. Calls that have begun get their answer first: Raft
// drops what is still queued when it stops.
func (l *Log) halt() {
	l.halted.Do(func() {
		late := time.AfterFunc(graceTime, l.endLife) // another node may never answer
		l.calls.Wait()
		late.Stop()
		l.endLife()
		if l.raft == nil {
			return
		}
		ended := l.raft.Shutdown()
		l.wire.cut()
		if err := ended.Error(); err != nil {
			l.conf.Logger.Warn("stopping raft", "err", err)
		}
		l.wire.wait()
	})
}

// Failed is closed when the node must stop: a machine returned an error, or
// the log cannot be written. Err says why, and Close is still needed.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err is why the node must stop, nil while it need not.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close stops taking part and closes the stores and the transport. It waits
// for every goroutine of the Log, and for proposals under way. The machines
// are the caller's to close, afterwards. A second call returns what the first
// did.
func (l *Log) Close() error {
	l.closed.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.mu.Lock()
	l.ending = ErrClosed
	l.mu.Unlock()
	l.announce()
	l.halt()
	close(l.stop)
	l.running.Wait()
	if l.raft == nil && l.wire.Transport != nil { // Open failed in between
		l.wire.cut()
		l.wire.wait()
	}
	if l.stores == nil {
		return nil
	}
	l.stores.snaps.drop()
	if err := l.stores.close(); err != nil {
		return fmt.Errorf("closing the log: %w", err)
	}
	return nil
}
