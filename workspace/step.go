package workspace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// logEvery is how often a step's last log line goes into the log at most.
const logEvery = 500 * time.Millisecond

// step runs one line of the stepper under its own deadline. do may report
// progress lines; its note says in words what was done.
func (n *run) step(name chat.StepName, do func(ctx context.Context, progress func(string)) (note string, err error)) error {
	deadline := chat.Deadline(name)
	set := chat.StepSet{Task: n.id, Token: n.token, Name: name, State: chat.StepRunning, Deadline: deadline}
	if err := n.do(chat.Op{StepSet: &set}); err != nil {
		return failAt(name, err)
	}
	ctx, cancel := context.WithTimeoutCause(n.ctx, deadline, fmt.Errorf("it took longer than %s", deadline))
	defer cancel()
	lines := &progress{}
	stop := n.reportLines(set, lines)
	note, err := do(ctx, lines.add)
	stop()
	if err != nil && n.ctx.Err() == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	set.State, set.Deadline, set.Note, set.Log = chat.StepDone, 0, note, lines.last()
	if err != nil {
		set.State, set.Note = chat.StepFailed, sentence(err)
		err = failAt(name, withLines(err, lines.text()))
	}
	return errors.Join(err, n.do(chat.Op{StepSet: &set}))
}

// reportLines puts the newest line into the log now and then, until the
// function that it returns is called.
func (n *run) reportLines(set chat.StepSet, lines *progress) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(logEvery)
		defer tick.Stop()
		shown := ""
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if line := lines.last(); line != shown {
				shown, set.Log = line, line
				if err := n.do(chat.Op{StepSet: &set}); err != nil && n.ctx.Err() == nil {
					n.log.Warn("reporting a step's progress", "step", set.Name, "err", err)
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

// progress keeps the last lines that a step printed.
type progress struct {
	mu    sync.Mutex
	lines []string
}

const (
	keptLines = 40
	keptWidth = 400
)

func (p *progress) add(line string) {
	line = strings.TrimRight(strings.ToValidUTF8(line, "�"), "\r\n ")
	if line == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line[:min(len(line), keptWidth)])
	if len(p.lines) > keptLines {
		p.lines = p.lines[1:]
	}
}

func (p *progress) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) == 0 {
		return ""
	}
	return strings.ToValidUTF8(p.lines[len(p.lines)-1], "")
}

func (p *progress) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ToValidUTF8(strings.Join(p.lines, "\n"), "")
}

// withLines adds a step's own output to an error that brings none.
func withLines(err error, lines string) error {
	if _, has := errors.AsType[detailed](err); has || lines == "" {
		return err
	}
	return &printed{err, lines}
}

type printed struct {
	err   error
	lines string
}

func (p *printed) Error() string  { return p.err.Error() }
func (p *printed) Unwrap() error  { return p.err }
func (p *printed) Detail() string { return p.lines }
