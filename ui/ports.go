package ui

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// portsView is what listens in a task's workspace.
type portsView struct {
	Ports   []Port
	Now     time.Time
	Task    string
	Open    bool   // each has a preview
	Forward bool   // the person may forward them
	SSH     string // the command into the workspace; empty: there is none
	Problem string
}

// forwardCommand brings a port to a person's own computer.
func (v portsView) forwardCommand(port int) string {
	return "samnode forward " + v.Task + " " + strconv.Itoa(port)
}

// portsTitle says for the tab what listens.
func portsTitle(list []Port) string {
	var words []string
	for _, p := range list {
		words = append(words, strings.TrimSpace(strconv.Itoa(p.Number)+" "+visible(line(p.Process, 20))))
	}
	return "listening: " + strings.Join(words, ", ")
}

func (s *Server) taskPorts(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	v := s.portsView(t, callerOf(r).may(Member))
	if v.Problem == "" {
		if v.Ports, err = s.Ports(r.Context(), t.ID); err != nil {
			v.Problem = s.words(r, err)
		}
	}
	return s.showTask(w, r, "ports", http.StatusOK, portsPanel(v), func(f *frame, task *taskView) {
		f.Extra = append(f.Extra, s.assets.url("ports.css"))
		task.Ports = v.Ports
	})
}

// portsView is all of it but the ports.
func (s *Server) portsView(t chat.Task, may bool) portsView {
	v := portsView{Now: s.Room.Now(), Task: string(t.ID), Open: s.Previews, Forward: s.Previews && may}
	if may {
		v.SSH = s.ssh(t)
	}
	switch {
	case s.Ports == nil:
		v.Problem = "This node cannot list ports."
	case t.Lease == nil:
		v.Problem = noSpace
	}
	return v
}

const noSpace = "No workspace is alive. The task's chat starts one, by a message or by itself."

// portsStep is what listens now, as streams carry it.
type portsStep struct {
	list   []Port
	pieces []piece
}

const (
	portsPace  = 200 * time.Millisecond // at least, between two changes that pages are told of
	portsPause = 2 * time.Second        // until a workspace is looked for again
)

// openPorts watches the ports of a task for all pages that show it: the
// workspace says what changes, and nobody asks.
func (s *Server) openPorts(key taskKey) *relay[portsStep] {
	f := &portsFeed{s: s, key: key}
	return &relay[portsStep]{pace: portsPace, read: f.next}
}

// portsSeen is what listens, when somebody watches it already.
func (s *Server) portsSeen(key taskKey) []Port {
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	if y := s.ports.all[key]; y != nil && y.newest != nil {
		return y.newest.value.list
	}
	return nil
}

// portsFeed watches one task. It is used by one goroutine.
type portsFeed struct {
	s     *Server
	key   taskKey
	watch *portsWatch // nil: there is nothing to watch
	told  string      // pieces of the last step

	none   bool // there is no workspace, which was told
	failed bool // the last watch ended
}

// portsWatch is of one lease.
type portsWatch struct {
	token uint64
	stop  context.CancelFunc
	news  chan portsNews
}

type portsNews struct {
	list []Port
	err  error // the end of the watch
}

// next waits for a change. Its numbers are its own: ports are not in the log.
func (f *portsFeed) next(ctx context.Context, after uint64) (portsStep, uint64, error) {
	for {
		v, err := f.look(ctx)
		if err != nil {
			return portsStep{}, 0, err
		}
		count, err := newPiece(ctx, "ports-count", portsCount(v.Ports))
		if err != nil {
			return portsStep{}, 0, err
		}
		body, err := newPiece(ctx, "ports-body", portsBody(v))
		if err != nil {
			return portsStep{}, 0, err
		}
		if told := count.data + body.data; told != f.told {
			f.told = told
			return portsStep{v.Ports, []piece{count, body}}, after + 1, nil
		}
	}
}

// look waits for news of the task's workspace, or of there being none.
func (f *portsFeed) look(ctx context.Context) (portsView, error) {
	for {
		t, err := f.s.Room.Task(string(f.key.task))
		if err != nil {
			return portsView{}, fmt.Errorf("reading task: %w", err)
		}
		v := f.s.portsView(t, f.key.may)
		if f.watch != nil && (t.Lease == nil || t.Lease.Token != f.watch.token) {
			f.watch.stop()
			f.watch = nil
		}
		told := false
		switch {
		case t.Lease == nil:
			told, f.none = !f.none, true
		case f.failed:
			f.failed = false
		default:
			f.none = false
			if told, err = f.hear(ctx, &v, t.Lease.Token); err != nil {
				return v, err
			}
		}
		if told {
			return v, nil
		}
		if f.watch == nil {
			err = f.pause(ctx)
		}
		if err != nil {
			return v, err
		}
	}
}

// hear waits for news of a workspace, but not for ever: another may follow it.
func (f *portsFeed) hear(ctx context.Context, v *portsView, token uint64) (told bool, err error) {
	if f.watch == nil {
		f.watch = f.begin(ctx, token)
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(portsPause):
		return false, nil
	case n := <-f.watch.news:
		v.Ports = n.list
		if n.err != nil {
			f.s.Logger.Debug("watching ports", "task", f.key.task, "err", n.err)
			f.watch.stop()
			f.watch, f.failed = nil, true
			v.Problem = "The workspace does not answer yet. This goes on by itself."
		}
		return true, nil
	}
}

// pause lets time go by.
func (f *portsFeed) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(portsPause):
		return nil
	}
}

func (f *portsFeed) begin(ctx context.Context, token uint64) *portsWatch {
	ctx, stop := context.WithCancel(ctx)
	w := &portsWatch{token: token, stop: stop, news: make(chan portsNews)}
	put := func(n portsNews) {
		select {
		case w.news <- n:
		case <-ctx.Done():
		}
	}
	f.s.ports.wg.Go(func() {
		defer stop()
		put(portsNews{err: f.s.WatchPorts(ctx, f.key.task, func(list []Port) { put(portsNews{list: list}) })})
	})
	return w
}

// joinPorts takes a task's stream's place among those who watch its ports.
func (p *pageStream) joinPorts() (leave func()) {
	if p.task == "" || p.s.WatchPorts == nil {
		return func() {}
	}
	frame, leave := p.s.ports.follow(taskKey{p.task, p.may}, 0, 0)
	p.ports = &reader[portsStep]{0, frame}
	return leave
}

// missedPorts sends what is known since before the stream began.
func (p *pageStream) missedPorts() error {
	p.ports.at = p.ports.frame.upto
	return p.send(p.e.fresh(p.ports.frame.value.pieces...))
}

// morePorts sends what is new.
func (p *pageStream) morePorts() error {
	frames, err := p.ports.take()
	if err != nil || len(frames) == 0 {
		return err
	}
	return p.send(p.e.fresh(frames[len(frames)-1].value.pieces...))
}
