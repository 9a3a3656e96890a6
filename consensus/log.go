package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Log is this node's end of the log. Its methods may be called from any
// goroutine.
type Log struct {
	conf   Config
	fsm    *fsm
	group  *group
	stores *stores
	wire   wire
	raft   *raft.Raft // nil only while, or when, Open failed
	opened chan struct{}

	life    context.Context // ends with halt; bounds calls from and to other nodes
	endLife context.CancelFunc
	failed  chan struct{}  // closed by the first fail
	stop    chan struct{}  // closed by Close; ends watch
	running sync.WaitGroup // watch, tell and attend, and halt after a failure
	calls   sync.WaitGroup // calls into Raft or to other nodes that have not returned

	halted   sync.Once
	closed   sync.Once
	closeErr error // of the first Close

	turn chan struct{} // of capacity 1; full while the members are being changed

	settled atomic.Uint64 // newest term in which everything from before is known to be committed
	oath    oath
	newest  newest

	mu     sync.Mutex    // protects all below, briefly
	err    error         // of the first fail
	ending error         // why no new call may begin; nil while they may
	leads  bool          // as Raft last told
	office uint64        // counts the times this node won or lost the leadership
	moved  chan struct{} // closed and replaced at each change of leader
	lost   time.Time     // since when no node leads; zero: one does
}

// Open opens the state in c.Dir, brings the machines up to date with the
// newest snapshot and starts to take part. The rest of the log is applied as
// it turns out to be committed. ctx bounds Open only.
func Open(ctx context.Context, c Config) (*Log, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.setDefaults()
	c.Logger = c.Logger.With("node", c.Node)
	l := &Log{
		conf:   c,
		opened: make(chan struct{}),
		failed: make(chan struct{}),
		stop:   make(chan struct{}),
		moved:  make(chan struct{}),
		turn:   make(chan struct{}, 1),
		lost:   time.Now(),
	}
	l.life, l.endLife = context.WithCancel(context.Background())
	err := l.open(ctx)
	close(l.opened)
	if err == nil {
		return l, nil
	}
	if full(err) && !errors.Is(err, ErrFull) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return nil, errors.Join(fmt.Errorf("opening the log in %s: %w", c.Dir, err), l.Close())
}

func (l *Log) open(ctx context.Context) error {
	c := &l.conf
	err := os.MkdirAll(c.Dir, 0o700)
	if err != nil {
		return err
	}
	if l.group, err = claim(c); err != nil {
		return err
	}
	if l.stores, err = openStores(c, l.fail); err != nil {
		return err
	}
	notify := make(chan bool)
	conf := c.raft(notify)
	l.wire = openTransport(c, l.group, l.serveCalls)
	if err := begin(c, conf, l.group, l.stores, l.wire.LocalAddr()); err != nil {
		return err
	}
	if err := l.load(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	l.stores.snaps.source, l.stores.log.keep = l, l.keepFrom
	moves := make(chan raft.Observation, 16)
	l.running.Go(func() { l.watch(notify, moves) })
	if l.raft, err = raft.NewRaft(conf, l.fsm, l.stores.log, l.stores.stable, l.stores.snaps, l.wire.Transport); err != nil {
		return err
	}
	l.raft.RegisterObserver(raft.NewObserver(moves, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	if c.Transport != nil {
		l.running.Go(l.tell)
		l.running.Go(l.attend)
	}
	return l.standNow(l.wire)
}

// load brings the machines up to the newest snapshot.
func (l *Log) load() error {
	l.fsm = newFSM(l.conf.Machines, l.conf.Logger, l.fail, l.stores.log.raise)
	if err := l.fsm.load(l.stores, l.conf.MaxAppendEntries); err != nil {
		return err
	}
	if err := l.stores.dropOld(); err != nil {
		return err
	}
	if err := l.stores.log.recall(); err != nil {
		return err
	}
	if err := l.fsm.checkAhead(l.stores); err != nil {
		return err
	}
	return l.fsm.even(l.stores.log, l.conf.MaxAppendEntries)
}
