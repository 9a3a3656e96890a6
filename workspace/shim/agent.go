package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	stderrTail = 64 << 10
	maxQueued  = 64 << 20    // bytes for an agent that does not read its stdin
	drainIdle  = time.Second // silence after which the pipes of a dead agent are given up
)

// agent owns the one agent process and its three pipes.
type agent struct {
	journal *journal
	procs   *procs
	log     *slog.Logger
	maxLine int

	starting sync.Mutex // one Start at a time
	sending  sync.Mutex // "in" records enter the journal and the queue in one order

	mu   sync.Mutex // guards all below
	runs int
	run  *run // nil before the first
	sent map[string]*sent
	tail []byte // of stderr, of all runs
}

// sent is what is known of the line with one id. A line from before this shim
// has done closed.
type sent struct {
	seq  uint64
	done chan struct{} // closed when it was written or never will be
	err  error         // valid after done
}

// run is one agent process.
type run struct {
	n     int
	id    string
	proc  *proc
	stdin *os.File
	ended chan struct{} // closed when its exit is in the journal

	closeStdin sync.Once
	wake       chan struct{} // to the writer of stdin; one slot

	mu     sync.Mutex
	queue  []outgoing
	queued int // bytes
}

// outgoing is a line on its way to stdin.
type outgoing struct {
	id   string
	line []byte
	sent *sent
}

func newAgent(j *journal, p *procs, s found, maxLine int, log *slog.Logger) *agent {
	a := &agent{journal: j, procs: p, log: log, maxLine: maxLine, runs: s.run, sent: map[string]*sent{}}
	closed := make(chan struct{})
	close(closed)
	for id, seq := range s.ids {
		old := &sent{seq: seq, done: closed}
		if s.lost[id] {
			old.err = ErrUnsent
		}
		a.sent[id] = old
	}
	return a
}

// alive returns the run whose process has not been reported as exited.
func (a *agent) alive() *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.run == nil {
		return nil
	}
	select {
	case <-a.run.ended:
		return nil
	default:
		return a.run
	}
}

func (r *run) dead() bool {
	select {
	case <-r.proc.done:
		return true
	default:
		return false
	}
}

// start makes the next run, or finds the one with this id.
func (a *agent) start(ctx context.Context, id string, c command) (int, error) {
	a.starting.Lock()
	defer a.starting.Unlock()
	if r := a.alive(); r != nil {
		if !r.dead() {
			if r.id == id {
				return r.n, nil
			}
			return 0, fmt.Errorf("%w: run %d (%s)", ErrRunning, r.n, r.id)
		}
		select { // its last words come first
		case <-r.ended:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	if _, err := a.journal.status(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrFull, err)
	}
	return a.spawn(id, c)
}

func (a *agent) spawn(id string, c command) (int, error) {
	n := a.runs + 1
	ours, theirs, err := pipes()
	if err != nil {
		return 0, err
	}
	c.files = theirs
	c.env = append(c.env, fmt.Sprintf("SAMNODE_RUN=%d", n))
	ooms := oomKills()
	p, err := a.procs.start(c)
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return 0, err
	}
	r := &run{n: n, id: id, proc: p, stdin: ours[0], wake: make(chan struct{}, 1), ended: make(chan struct{})}
	a.mu.Lock()
	a.runs, a.run = n, r
	a.mu.Unlock()
	_, err = a.journal.appendNote(context.Background(), n, id, Note{Event: EventStarted, PID: p.pid, Text: c.args[0]})
	if err != nil {
		a.log.Error("agent started while the journal closes", "err", err)
	}
	go a.write(r)
	go a.watch(r, ours[1], ours[2], ooms)
	return n, nil
}

// watch reads the agent's output until the process and its pipes have ended,
// and then reports the exit as the last record of the run.
func (a *agent) watch(r *run, stdout, stderr *os.File, ooms int64) {
	out := pump{agent: a, run: r.n, dir: Out, from: &pipe{File: stdout}, max: a.maxLine}
	errs := pump{agent: a, run: r.n, dir: Stderr, from: &pipe{File: stderr}, max: maxStderrLine, limit: newLimiter()}
	var wg sync.WaitGroup
	wg.Go(out.copy)
	wg.Go(errs.copy)
	<-r.proc.done
	r.proc.sweep(a.log)
	drained := make(chan struct{})
	go func() { wg.Wait(); close(drained) }()
	giveUpWhenSilent(drained, drainIdle, out.from, errs.from)
	r.shut()
	status := r.proc.status
	n := Note{Event: EventExited, PID: r.proc.pid, Code: status.ExitStatus(), OOM: ooms >= 0 && oomKills() > ooms}
	if status.Signaled() {
		n.Signal = status.Signal().String()
	}
	if _, err := a.journal.appendNote(context.Background(), r.n, r.id, n); err != nil {
		a.log.Error("agent's exit is not in the journal", "run", r.n, "code", n.Code, "err", err)
	}
	close(r.ended)
}

// shut closes the agent's stdin.
func (r *run) shut() { r.closeStdin.Do(func() { r.stdin.Close() }) }

// send journals the line and writes it to the agent's stdin. It goes on when
// ctx ends; asking again with the same id tells how it went.
func (a *agent) send(ctx context.Context, id string, line []byte) (seq uint64, duplicate bool, err error) {
	s, duplicate, err := a.enqueue(ctx, id, line)
	if err != nil {
		return 0, false, err
	}
	select {
	case <-s.done:
		return s.seq, duplicate, s.err
	case <-ctx.Done():
		return s.seq, duplicate, context.Cause(ctx)
	}
}

func (a *agent) enqueue(ctx context.Context, id string, line []byte) (*sent, bool, error) {
	a.sending.Lock()
	defer a.sending.Unlock()
	a.mu.Lock()
	s := a.sent[id]
	a.mu.Unlock()
	if s != nil {
		return s, true, nil
	}
	r := a.alive()
	if r == nil || r.dead() {
		return nil, false, ErrNotRunning
	}
	if _, err := a.journal.status(); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrFull, err)
	}
	if waiting := r.waiting(); waiting > maxQueued {
		return nil, false, fmt.Errorf("%w: %d bytes wait", ErrNotReading, waiting)
	}
	rec := Record{At: time.Now(), Dir: In, ID: id, Run: r.n, Data: line}
	if len(line) > a.maxLine {
		rec.Data, rec.Size = line[:a.maxLine], int64(len(line))
	}
	seq, err := a.journal.append(ctx, rec)
	if err != nil {
		return nil, false, err
	}
	s = &sent{seq: seq, done: make(chan struct{})}
	a.mu.Lock()
	a.sent[id] = s
	a.mu.Unlock()
	r.push(outgoing{id, line, s})
	return s, false, nil
}

func (r *run) push(o outgoing) {
	r.mu.Lock()
	r.queue = append(r.queue, o)
	r.queued += len(o.line)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *run) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queued
}

// pop returns the next line, and false when the run ended with none left.
func (r *run) pop() (outgoing, bool) {
	for ended := false; ; {
		r.mu.Lock()
		if len(r.queue) > 0 {
			o := r.queue[0]
			r.queue = r.queue[1:]
			r.queued -= len(o.line)
			r.mu.Unlock()
			return o, true
		}
		r.mu.Unlock()
		if ended {
			return outgoing{}, false
		}
		select {
		case <-r.wake:
		case <-r.ended:
			ended = true
		}
	}
}

// write is the only writer of stdin. A line is written after it is durable.
func (a *agent) write(r *run) {
	for {
		o, ok := r.pop()
		if !ok {
			return
		}
		err := a.journal.wait(context.Background(), o.sent.seq)
		if err == nil {
			_, err = r.stdin.Write(append(o.line, '\n'))
		}
		if err != nil {
			a.unsent(r, o, err)
			continue
		}
		close(o.sent.done)
	}
}

// unsent notes that a line was not taken before it says so: what Send answered
// once, it answers after a restart, too. A disk that takes nothing does not
// keep the caller for ever.
func (a *agent) unsent(r *run, o outgoing, why error) {
	o.sent.err = fmt.Errorf("%w: %w", ErrUnsent, why)
	defer close(o.sent.done)
	ctx, cancel := context.WithTimeout(context.Background(), unsentWait)
	defer cancel()
	seq, err := a.journal.appendNote(ctx, r.n, o.id, Note{Event: EventUnsent, Text: why.Error()})
	if err == nil {
		err = a.journal.wait(ctx, seq)
	}
	if err != nil {
		a.log.Error("an unsent line is not noted in the journal", "id", o.id, "err", err)
	}
}

const unsentWait = 5 * time.Second

// stop ends the agent: stdin closed, at half of the grace SIGTERM to its
// group, at its end SIGKILL to all that is left. It returns when the exit is
// in the journal.
func (a *agent) stop(ctx context.Context, grace time.Duration) error {
	r := a.alive()
	if r == nil {
		return nil
	}
	r.shut()
	if waitFor(ctx, r.proc.done, grace/2) != nil {
		r.proc.signal(syscall.SIGTERM)
		if waitFor(ctx, r.proc.done, grace-grace/2) != nil {
			r.proc.sweep(a.log)
		}
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errStillThere = errors.New("still there")

// waitFor returns nil when ch is closed within d. The end of ctx hurries it.
func waitFor(ctx context.Context, ch <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
		return nil
	case <-t.C:
		return errStillThere
	case <-ctx.Done():
		return errStillThere
	}
}

func (a *agent) keepTail(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tail = append(append(a.tail, line...), '\n')
	if over := len(a.tail) - stderrTail; over > 0 {
		a.tail = append(a.tail[:0], a.tail[over:]...)
	}
}
