package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// watch follows who leads until stop. Raft blocks while it tells that this
// node won or lost, so watch does nothing that could wait for Raft.
func (l *Log) watch(notify <-chan bool, moves <-chan raft.Observation) {
	var late <-chan time.Time // the end of a former leader's time to answer
	for {
		select {
		case leads := <-notify:
			l.mu.Lock()
			l.leads = leads
			l.office++
			l.mu.Unlock()
		case o := <-moves:
			leader := string(o.Data.(raft.LeaderObservation).LeaderID)
			l.note(leader != "")
			if leader == "" {
				l.conf.Logger.Info("no node leads the mesh")
			} else {
				l.conf.Logger.Info("a node leads the mesh", "leader", leader)
			}
			if late == nil {
				late = time.After(lostTime)
			}
		case <-late:
			late = nil
			l.leaveOthers()
			continue
		case <-l.stop:
			return
		}
		l.announce()
	}
}

// leaveOthers ends the connections for calls to those who do not lead.
func (l *Log) leaveOthers() {
	if l.wire.callers == nil {
		return
	}
	leader, _ := l.raft.LeaderWithID()
	l.wire.callers.keep(leader)
}

// note keeps since when no node leads.
func (l *Log) note(led bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case led:
		l.lost = time.Time{}
	case l.lost.IsZero():
		l.lost = time.Now()
	}
}

// announce wakes everyone who waits for a change of leader.
func (l *Log) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.moved)
	l.moved = make(chan struct{})
}

// IsLeader tells whether this node leads, as far as it knows: another may have
// taken over within the last LeaderLeaseTimeout.
func (l *Log) IsLeader() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leads && l.ending == nil
}

// Lead calls run each time this node has won the leadership and its machines
// have applied everything that was committed before. run's context ends with
// the cause ErrLeadershipLost when the leadership does; run must then return,
// and what it returns is of no interest. A run that returns nil before is not
// called again until the node wins anew.
//
// What run asks of this Log with its context, or one derived from it, is done
// under this office or not at all: what a leader decided is not handed to the
// one that followed it, whose state may be another. It is ErrNoLeader, and
// ErrLeadershipLost, then.
//
// Lead returns when ctx ends, when run fails, or when the node stops: the
// cause, run's error, or ErrClosed or Err.
func (l *Log) Lead(ctx context.Context, run func(ctx context.Context) error) error {
	var served uint64 // the office that run was last called for
	for {
		office, err := l.awaitOffice(ctx, served)
		if err != nil {
			return err
		}
		served = office
		if err := l.serve(ctx, office, run); err != nil {
			return err
		}
	}
}

// awaitOffice waits until this node leads in another office than served.
func (l *Log) awaitOffice(ctx context.Context, served uint64) (uint64, error) {
	for {
		l.mu.Lock()
		leads, office, moved, ending := l.leads, l.office, l.moved, l.ending
		l.mu.Unlock()
		if ending != nil {
			return 0, ending
		}
		if leads && office != served {
			return office, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// serve calls run under one office. It returns nil when the leadership was
// lost or run was content.
func (l *Log) serve(ctx context.Context, office uint64, run func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, officeKey{}, office))
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if l.awaitLoss(ctx, office) {
			cancel(ErrLeadershipLost)
		}
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()

	catchUp := func() raft.Future { return l.raft.Barrier(0) }
	_, err := call(ctx, l, catchUp)
	for errors.Is(err, raft.ErrLeadershipTransferInProgress) && ctx.Err() == nil {
		l.pause(ctx) // it may fail, and this node go on
		_, err = call(ctx, l, catchUp)
	}
	switch {
	case err == nil:
		err = run(ctx)
	case errors.Is(context.Cause(ctx), ErrLeadershipLost), isLoss(err):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return fmt.Errorf("catching up after winning the leadership: %w", err)
	}
	switch {
	case err == nil, errors.Is(context.Cause(ctx), ErrLeadershipLost):
		return nil
	case isLoss(err):
		// run saw it before this node was told.
		l.conf.Logger.Debug("leader's work ended", "err", err)
		return nil
	}
	return err
}

// officeKey is where a context keeps the office that it is bound to.
type officeKey struct{}

// inOffice does what a call asks if this node leads in that office.
func (l *Log) inOffice(ctx context.Context, office uint64, kind callKind, body []byte) (uint64, error) {
	for {
		l.mu.Lock()
		holds := l.leads && l.office == office && l.ending == nil
		l.mu.Unlock()
		if !holds || ctx.Err() != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoLeader, ErrLeadershipLost)
		}
		index, err := l.perform(ctx, kind, body)
		if !errors.Is(err, errNotHere) {
			return index, err
		}
		l.pause(ctx) // it may be about to hand over, and fail
	}
}

// isLoss tells whether err is how a call ends that needed the leadership.
func isLoss(err error) bool {
	return errors.Is(err, ErrLeadershipLost) || errors.Is(err, ErrNoLeader) ||
		errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost)
}

// awaitLoss waits until this node's office is over, and returns false when
// ctx ends first.
func (l *Log) awaitLoss(ctx context.Context, office uint64) bool {
	for {
		l.mu.Lock()
		over, moved := l.office != office || l.ending != nil, l.moved
		l.mu.Unlock()
		if over {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}
