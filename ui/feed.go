package ui

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// What streams of tasks and lists share: each task that somebody looks at is
// read and rendered once, and so is each row that changes.
const (
	taskPace = 30 * time.Millisecond
	listPace = 500 * time.Millisecond // rows move at leisure
)

// taskKey is what all streams of a task have in common when their frames are
// the same.
type taskKey struct {
	task chat.TaskID
	may  bool // write
}

// taskStep is what changed in a task: items, and all the regions around them.
type taskStep struct {
	items   []piece
	asks    map[string]bool // pieces with a form whose id is the person's own
	regions []piece
}

// rowStep is the rows of the tasks that changed.
type rowStep struct {
	rows  []piece
	tasks []chat.Task // of the rows
}

func (s *Server) openRelays() {
	s.tasks = relays[taskKey, taskStep]{base: s.done, open: s.openTask}
	s.rows = relays[struct{}, rowStep]{base: s.done, open: func(struct{}) *relay[rowStep] {
		return &relay[rowStep]{pace: listPace, read: s.rowsSince}
	}}
	s.ports = relays[taskKey, portsStep]{base: s.done, open: s.openPorts}
}

func (s *Server) openTask(key taskKey) *relay[taskStep] {
	f := &taskFeed{s: s, may: key.may}
	return &relay[taskStep]{pace: taskPace, read: func(ctx context.Context, after uint64) (taskStep, uint64, error) {
		return f.batch(ctx, key.task, after)
	}}
}

// taskFeed turns batches of one task into pieces.
type taskFeed struct {
	s      *Server
	may    bool
	tools  map[string]string // running tool calls, by message id; nil: not looked yet
	newest string
}

// look finds the tools that run already.
func (f *taskFeed) look(ctx context.Context, id chat.TaskID) error {
	if f.tools != nil {
		return nil
	}
	recent, err := f.s.Room.Messages(ctx, id, 0, itemsPerPage)
	if err != nil {
		return fmt.Errorf("reading messages: %w", err)
	}
	f.tools = map[string]string{}
	f.note(recent)
	return nil
}

func (f *taskFeed) note(messages []chat.Message) {
	for _, m := range messages {
		if m.Kind != chat.KindTool || m.Tool == nil {
			continue
		}
		if m.Tool.Status == "in_progress" || m.Tool.Status == "pending" {
			f.tools[m.ID], f.newest = line(m.Tool.Title, 120), m.ID
			continue
		}
		delete(f.tools, m.ID)
	}
}

func (f *taskFeed) activity() string {
	if text, ok := f.tools[f.newest]; ok {
		return text
	}
	for _, text := range f.tools {
		return text
	}
	return ""
}

// batch waits for what changed in the task and renders it.
func (f *taskFeed) batch(ctx context.Context, id chat.TaskID, after uint64) (taskStep, uint64, error) {
	if err := f.look(ctx, id); err != nil {
		return taskStep{}, 0, err
	}
	b, err := f.s.Room.Since(ctx, id, after, batchItems)
	if err != nil {
		return taskStep{}, 0, err
	}
	f.note(b.Messages)
	step, err := f.render(ctx, b)
	return step, b.Index, err
}

func (f *taskFeed) render(ctx context.Context, b chat.Batch) (taskStep, error) {
	step := taskStep{asks: map[string]bool{}}
	for _, m := range b.Messages {
		it := f.s.item(b.Task, m)
		if it.Ask != nil {
			it.Ask.FormID, step.asks[m.ID] = derive(noTime, m.ID), true
		}
		p, err := newPiece(ctx, m.ID, itemView(it))
		if err != nil {
			return step, err
		}
		step.items = append(step.items, p)
	}
	v := f.s.regions(b.Task, f.may, f.activity())
	v.FormID = derive(string(b.Task.ID), strconv.FormatInt(b.Task.Since.UnixMilli(), 10), strconv.Itoa(len(b.Task.Queue)))
	for i := range v.Pinned {
		v.Pinned[i].FormID = v.FormID
	}
	if v.Delivery != nil {
		v.Delivery.FormID = v.FormID
	}
	for _, r := range []region{
		{"stepper", stepperView(v.Stepper, v.May)}, {"title", titleView(v)}, {"chips", headView(v)}, {"banner", bannerView(v)},
		{"strip", stripView(v)}, {"queue", queueView(v)}, {"dock", dockView(v)}, {"mode", taskMode(v)},
	} {
		p, err := newPiece(ctx, r.id, r.view)
		if err != nil {
			return step, err
		}
		step.regions = append(step.regions, p)
	}
	return step, nil
}

// own gives the forms of asks the id that is this person's: the same each time,
// so that nothing is sent twice.
func (t taskStep) own(p piece, person chat.Person) string {
	if !t.asks[p.id] {
		return p.data
	}
	return strings.ReplaceAll(p.data, derive(noTime, p.id), derive(noTime, p.id, string(person)))
}

// noTime is what an id derives from that is a function of its parts alone.
const noTime = "00000000000000000000000000"

// rowsSince waits for tasks that changed and renders their rows.
func (s *Server) rowsSince(ctx context.Context, after uint64) (rowStep, uint64, error) {
	tasks, index, err := s.Room.TasksSince(ctx, after)
	if err != nil {
		return rowStep{}, 0, err
	}
	step, err := s.renderRows(ctx, tasks)
	return step, index, err
}

func (s *Server) renderRows(ctx context.Context, tasks []chat.Task) (rowStep, error) {
	step := rowStep{tasks: tasks}
	names, now := s.projectNames(), s.Room.Now()
	for _, t := range tasks {
		p, err := newPiece(ctx, "row-"+string(t.ID), listRow(s.row(t, names[t.Project], now, false)))
		if err != nil {
			return step, err
		}
		step.rows = append(step.rows, p)
	}
	return step, nil
}

// rowsNow are the rows of the tasks that changed after an index, at once.
func (s *Server) rowsNow(ctx context.Context, after uint64) (rowStep, uint64, error) {
	all, index, _ := s.briefs()
	var tasks []chat.Task
	for _, b := range all {
		if b.index <= after {
			continue
		}
		t, err := s.Room.Task(string(b.id))
		if err != nil {
			return rowStep{}, 0, fmt.Errorf("reading task: %w", err)
		}
		tasks = append(tasks, t)
	}
	step, err := s.renderRows(ctx, tasks)
	return step, index, err
}

// pageStream is a stream of a task, of a list, or of both: one connection serves the
// whole page.
type pageStream struct {
	s       *Server
	e       *events
	person  chat.Person
	may     bool                    // write
	seen    map[chat.ProjectID]bool // projects whose rows it gets; nil: all
	task    chat.TaskID             // empty: a list only
	project chat.ProjectID          // of the list; empty: all
	items   *reader[taskStep]
	rows    *reader[rowStep]
	ports   *reader[portsStep]
	own     uint64 // newest index of the task, as its row says
}

// taskEvents streams one task, and with ?list=1 the rows of the list beside it.
func (s *Server) taskEvents(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	return s.stream(w, r, &pageStream{task: t.ID}, r.URL.Query().Get("list") != "")
}

// listEvents streams the rows of a task list.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) error {
	return s.stream(w, r, &pageStream{project: chat.ProjectID(r.URL.Query().Get("project"))}, true)
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, p *pageStream, list bool) error {
	c := callerOf(r)
	p.s, p.person, p.may = s, c.Person, c.may(Member)
	if c.Mesh == "" {
		p.seen = s.seen(c)
	}
	leave := func() {}
	defer func() { leave() }()
	return s.follow(w, r, func(ctx context.Context, e *events) error {
		if p.e == nil {
			p.e = e
			leave = p.join(list)
		}
		return p.step(ctx)
	})
}

// join takes the stream's places in the relays.
func (p *pageStream) join(list bool) (leave func()) {
	after, now := p.e.after, p.s.Room.Index()
	var leaves []func()
	if p.task != "" {
		frame, leave := p.s.tasks.follow(taskKey{p.task, p.may}, after, now)
		p.items, leaves = &reader[taskStep]{after, frame}, append(leaves, leave)
	}
	leaves = append(leaves, p.joinPorts())
	if list {
		frame, leave := p.s.rows.follow(struct{}{}, after, now)
		p.rows, leaves = &reader[rowStep]{after, frame}, append(leaves, leave)
	}
	return func() {
		for _, leave := range leaves {
			leave()
		}
	}
}

// step sends what is next: first what changed between the reader's cursor and
// the relays, in parts, then frame by frame.
func (p *pageStream) step(ctx context.Context) error {
	switch {
	case p.rows != nil && p.rows.at < p.rows.frame.upto:
		return p.missedRows(ctx)
	case p.items != nil && p.items.at < p.items.frame.upto:
		return p.missedItems(ctx)
	case p.ports != nil && p.ports.at < p.ports.frame.upto:
		return p.missedPorts()
	}
	return p.frames(ctx)
}

func (p *pageStream) missedRows(ctx context.Context) error {
	step, index, err := p.s.rowsNow(ctx, p.rows.at)
	if err != nil {
		return err
	}
	p.rows.at = max(p.rows.at, index)
	return p.send(p.freshRows(step))
}

func (p *pageStream) missedItems(ctx context.Context) error {
	t, err := p.s.Room.Task(string(p.task))
	if err != nil {
		return fmt.Errorf("reading task: %w", err)
	}
	if t.Index <= p.items.at {
		p.items.at = p.items.frame.upto // nothing of this task is between
		return nil
	}
	f := taskFeed{s: p.s, may: p.may}
	step, upto, err := f.batch(ctx, p.task, p.items.at)
	if err != nil {
		return err
	}
	p.items.at = upto
	return p.send(p.fresh([]taskStep{step}))
}

// frames waits for frames and sends what is new in them.
func (p *pageStream) frames(ctx context.Context) error {
	var items, rows, ports <-chan struct{}
	if p.ports != nil {
		ports = p.ports.frame.next
	}
	if p.items != nil {
		items = p.items.frame.next
	}
	if p.rows != nil {
		rows = p.rows.frame.next
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-items:
		frames, err := p.items.take()
		if err != nil {
			return err
		}
		var steps []taskStep
		for _, f := range frames {
			steps = append(steps, f.value)
		}
		return p.send(p.fresh(steps))
	case <-ports:
		return p.morePorts()
	case <-rows:
		frames, err := p.rows.take()
		if err != nil {
			return err
		}
		var out []string
		for _, f := range frames {
			out = append(out, p.freshRows(f.value)...)
		}
		return p.send(out)
	}
}

func (p *pageStream) send(pieces []string) error { return p.e.patch(p.cursor(), pieces...) }

// fresh are the pieces of some steps: the last state of each item, then the
// regions that the reader does not have.
func (p *pageStream) fresh(steps []taskStep) []string {
	var out []string
	later := map[string]bool{}
	for i := len(steps) - 1; i >= 0; i-- {
		for j := len(steps[i].items) - 1; j >= 0; j-- {
			if item := steps[i].items[j]; len(steps) == 1 || !later[item.id] {
				later[item.id] = true
				out = append(out, steps[i].own(item, p.person))
			}
		}
	}
	slices.Reverse(out)
	if n := len(steps); n > 0 {
		out = append(out, p.e.fresh(steps[n-1].regions...)...)
	}
	return out
}

// freshRows are the rows of a step that show something new, of the project.
func (p *pageStream) freshRows(step rowStep) []string {
	var mine []piece
	for i, t := range step.tasks {
		if t.ID == p.task {
			p.own = max(p.own, t.Index)
		}
		if (p.project == "" || t.Project == p.project) && (p.seen == nil || p.seen[t.Project]) {
			mine = append(mine, step.rows[i])
		}
	}
	return p.e.fresh(mine...)
}

// cursor is the index up to which the reader has everything, so that another
// stream can go on behind it.
func (p *pageStream) cursor() uint64 {
	switch {
	case p.rows == nil:
		return p.items.at
	case p.items != nil && p.own > p.items.at:
		return min(p.items.at, p.rows.at)
	}
	return p.rows.at
}
