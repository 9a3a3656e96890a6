package shim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

const (
	maxStderrLine = 64 << 10
	pumpBuffer    = 256 << 10
	stderrRate    = 256 << 10 // bytes a second that are kept
	stderrBurst   = 1 << 20
)

// pipe is the end of a pipe that a process writes to, and knows how long it
// has been waiting for that process.
type pipe struct {
	*os.File
	waiting atomic.Int64 // unix ns since when; 0: it does not wait
}

func (p *pipe) Read(b []byte) (int, error) {
	p.waiting.Store(time.Now().UnixNano())
	n, err := p.File.Read(b)
	p.waiting.Store(0)
	return n, err
}

// giveUpWhenSilent returns when drained is closed. It closes pipes that some
// process outlives its leader with, once they have been silent for idle; never
// while their output waits for its reader.
func giveUpWhenSilent(drained <-chan struct{}, idle time.Duration, pipes ...*pipe) {
	tick := time.NewTicker(idle / 10)
	defer tick.Stop()
	for {
		select {
		case <-drained:
			return
		case <-tick.C:
			for _, p := range pipes {
				if since := p.waiting.Load(); since != 0 && time.Since(time.Unix(0, since)) > idle {
					p.Close()
				}
			}
		}
	}
}

// pump copies the lines of one pipe into the journal.
type pump struct {
	agent *agent
	run   int
	dir   Dir
	from  *pipe
	max   int
	limit *limiter // nil: none
}

// copy journals line after line until the pipe ends. What comes after the last
// newline is a line too. Lines that are already read go as one batch.
func (p *pump) copy() {
	defer p.from.Close()
	r := bufio.NewReaderSize(p.from, pumpBuffer)
	for {
		rec, err := p.readLine(r)
		batch := p.keep(nil, rec, err)
		for err == nil && hasLine(r) {
			rec, err = p.readLine(r)
			batch = p.keep(batch, rec, err)
		}
		if len(batch) > 0 {
			if _, err := p.agent.journal.append(context.Background(), batch...); err != nil {
				p.agent.log.Error("agent's output is not journaled", "run", p.run, "dir", p.dir, "err", err)
				return
			}
		}
		if err != nil {
			p.flushLimit()
			return
		}
	}
}

// keep adds the record, unless it is nothing (the end of the pipe) or comes
// too fast.
func (p *pump) keep(batch []Record, rec Record, err error) []Record {
	if err != nil && len(rec.Data) == 0 {
		return batch
	}
	if p.dir == Stderr {
		p.agent.keepTail(rec.Data)
	}
	if p.limit != nil {
		ok, out := p.limit.take(len(rec.Data), time.Now())
		if out.Lines > 0 {
			p.note(out)
		}
		if !ok {
			return batch
		}
	}
	return append(batch, rec)
}

func (p *pump) flushLimit() {
	if p.limit != nil && p.limit.out.Lines > 0 {
		p.note(p.limit.out)
	}
}

func (p *pump) note(n Note) {
	n.Event, n.Text = EventLeftOut, "stderr came faster than it is kept"
	if _, err := p.agent.journal.appendNote(context.Background(), p.run, "", n); err != nil {
		p.agent.log.Error("left out stderr is not noted", "run", p.run, "lines", n.Lines, "err", err)
	}
}

// readLine reads one line of any length and keeps its first p.max bytes.
func (p *pump) readLine(r *bufio.Reader) (Record, error) {
	rec := Record{Dir: p.dir, Run: p.run}
	var total int64
	for {
		part, err := r.ReadSlice('\n')
		if rec.At.IsZero() {
			rec.At = time.Now()
		}
		if err == nil {
			part = part[:len(part)-1]
		}
		total += int64(len(part))
		rec.Data = append(rec.Data, part[:min(len(part), p.max-len(rec.Data))]...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if total > int64(len(rec.Data)) {
			rec.Size = total
		}
		return rec, err
	}
}

func hasLine(r *bufio.Reader) bool {
	b, err := r.Peek(r.Buffered())
	return err == nil && bytes.IndexByte(b, '\n') >= 0
}

// limiter is a token bucket over bytes.
type limiter struct {
	tokens float64
	last   time.Time
	out    Note // what was left out since the last line that was kept
}

func newLimiter() *limiter { return &limiter{tokens: stderrBurst} }

// take says whether a line of n bytes is kept, and if so what was left out
// before it.
func (l *limiter) take(n int, now time.Time) (bool, Note) {
	if !l.last.IsZero() {
		l.tokens = min(stderrBurst, l.tokens+now.Sub(l.last).Seconds()*stderrRate)
	}
	l.last = now
	if l.tokens < float64(n) {
		l.out.Lines++
		l.out.Bytes += int64(n)
		return false, Note{}
	}
	l.tokens -= float64(n)
	out := l.out
	l.out = Note{}
	return true, out
}
