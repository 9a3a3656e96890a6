package shim

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// attachment is somebody at a terminal.
type attachment struct {
	who        Who
	since      time.Time
	watches    bool
	rows, cols uint16 // of their window; 0: not known
	view       *view
}

// enter lets somebody in. The first who may type leads.
func (t *terminal) enter(spec TerminalSpec) (*attachment, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &attachment{
		who: spec.Who, since: time.Now().UTC(), watches: spec.Watch, rows: spec.Rows, cols: spec.Cols, view: t.screen.attach(),
	}
	t.people = append(t.people, a)
	if !a.watches && t.leader == nil {
		t.leadLocked(a)
	}
	t.tellLocked()
	return a, nil
}

// typists counts who does not only watch.
func (t *terminal) typists() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.people {
		if !p.watches {
			n++
		}
	}
	return n
}

func (t *terminal) leave(a *attachment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.screen.detach(a.view)
	t.people = slices.DeleteFunc(t.people, func(p *attachment) bool { return p == a })
	if t.held != "" && !slices.ContainsFunc(t.people, func(p *attachment) bool { return p.who.Person == t.held && !p.watches }) {
		t.held = ""
	}
	if t.leader == a {
		t.leadLocked(t.heirLocked())
	}
	t.tellLocked()
}

// heirLocked is who came last of those who may type.
func (t *terminal) heirLocked() *attachment {
	for _, p := range slices.Backward(t.people) {
		if t.typesLocked(p) {
			return p
		}
	}
	return nil
}

func (t *terminal) typesLocked(a *attachment) bool {
	return !a.watches && (t.held == "" || t.held == a.who.Person)
}

// leadLocked gives the terminal somebody's size and pace. Everybody else gets
// along with it: a phone that only looks makes nobody's window small.
func (t *terminal) leadLocked(a *attachment) {
	t.leader = a
	var lead *view
	others := make([]*view, 0, len(t.people))
	for _, p := range t.people {
		others = append(others, p.view)
	}
	if a != nil {
		lead = a.view
		t.takeSizeLocked(a)
	}
	t.screen.pace(lead, others)
}

// takeSizeLocked makes the terminal as large as somebody's window.
func (t *terminal) takeSizeLocked(a *attachment) {
	if a.rows == 0 || a.cols == 0 || a.rows == t.rows && a.cols == t.cols {
		return
	}
	if t.resizeLocked(a.rows, a.cols) == nil { // a terminal that just ended can not be resized, and need not be
		t.tape.resized(t.screen, a.rows, a.cols)
	}
}

// mayType says whether input of somebody is taken, who leads from then on.
// What a terminal says by itself is taken from the leader's alone, for it was
// asked once.
func (t *terminal) mayType(a *attachment, b []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.typesLocked(a):
		return false
	case t.leader == a:
		return true
	case answers(b):
		return false
	}
	t.leadLocked(a)
	t.tellLocked()
	return true
}

func (t *terminal) resizeBy(a *attachment, rows, cols uint16) {
	if rows == 0 || cols == 0 || a.watches {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a.rows, a.cols = rows, cols
	if t.leader == a {
		t.takeSizeLocked(a)
		t.tellLocked()
	}
}

// hold lets one person alone type, or everybody again.
func (ts *terminals) hold(q request) error {
	if q.Who == nil || q.Who.Person == "" {
		return fmt.Errorf("%w: who wants to type alone?", ErrInvalid)
	}
	t, err := ts.get(q.ID)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	who := q.Who.Person
	here := slices.ContainsFunc(t.people, func(p *attachment) bool { return p.who.Person == who && !p.watches })
	switch may := q.Who.Owner || t.maker.Person == who; {
	case !may && t.maker.Person != "" && (q.On || t.held != who):
		return fmt.Errorf("%w: %s began this shell; they and owners say who types", ErrRefused, t.maker.Person)
	case q.On && !here:
		return fmt.Errorf("%w: %s is not in this shell, or only watches", ErrRefused, who)
	}
	t.held = ""
	if q.On {
		t.held = who
	}
	if t.leader == nil || !t.typesLocked(t.leader) {
		t.leadLocked(t.heirLocked())
	}
	t.tellLocked()
	return nil
}

func (t *terminal) tellLocked() {
	close(t.news)
	t.news = make(chan struct{})
}

func (t *terminal) info(you *attachment) TerminalInfo {
	info, _ := t.informed(you)
	return info
}

// informed is how the terminal is now, and what is closed when that changes.
func (t *terminal) informed(you *attachment) (TerminalInfo, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := TerminalInfo{
		ID: t.id, Name: t.name, PID: t.proc.pid, Started: t.started, Rows: t.rows, Cols: t.cols,
		Attached: len(t.people), Maker: t.maker, Held: t.held, Recorded: t.tape != nil,
	}
	for _, p := range t.people {
		info.People = append(info.People, Present{
			Who: p.who, Since: p.since, Watches: p.watches, Leads: p == t.leader, You: p == you,
		})
	}
	return info, t.news
}

// inform tells somebody who comes and goes, until ctx ends.
func (t *terminal) inform(ctx context.Context, w *frameWriter, a *attachment, news <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-news:
		}
		var info TerminalInfo
		info, news = t.informed(a)
		if w.writeJSON(kindInfo, info) != nil {
			return // the caller left
		}
	}
}
