package chat

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// player draws commands that mostly fit what they meet.
type player struct {
	rng *rand.Rand
	s   *State
	n   int
}

func (p *player) pick(of ...string) string { return of[p.rng.IntN(len(of))] }

func (p *player) op() Op {
	if p.n < 2 {
		return Op{ProjectPut: &ProjectPut{Project: Project{ID: "P", Name: "p", Repo: "/r"}}}
	}
	id := TaskID(p.pick("TA", "TB"))
	t, known := p.s.Task(id)
	switch {
	case !known:
		return Op{TaskCreate: &TaskCreate{ID: id, Project: "P", Message: "first", Text: "do it", Draft: p.rng.IntN(4) == 0}}
	case t.Lease != nil && p.rng.IntN(3) > 0:
		return p.leased(t)
	case t.State.starting() && p.rng.IntN(2) == 0:
		if p.rng.IntN(3) == 0 {
			return Op{StepSet: &StepSet{Task: id, Name: StepName(p.pick("place", "buy", "boot")), State: StepState(p.pick("running", "done", "failed"))}}
		}
		return Op{Place: &Place{Task: id, Node: "n", Slot: "s", Note: "note"}}
	}
	return p.person(t)
}

// person is what people do.
func (p *player) person(t Task) Op {
	ask := "none"
	if len(t.Asks) > 0 {
		ask = t.Asks[p.rng.IntN(len(t.Asks))].ID
	}
	mode, archived, text := Mode(p.pick("ask", "plan", "bad")), p.rng.IntN(3) == 0, p.pick("new text", "")
	edit := &QueueEdit{Task: t.ID, Message: p.pick("first", fmt.Sprintf("m%d", p.rng.IntN(p.n)))}
	if p.rng.IntN(2) == 0 {
		edit.Text = &text
	}
	return []Op{
		{ProjectPut: &ProjectPut{Project: Project{ID: "P", Name: "p", Repo: "/r", Budget: int64(p.n)}}},
		{SecretPut: &SecretPut{Secret: Secret{Name: p.pick("A", "B"), Sealed: []byte{1, byte(p.n)}}}},
		{SecretRemove: &SecretRemove{Name: p.pick("A", "B")}},
		{Arrive: &Arrive{Person: Person(p.pick("ana@x", "ben@x"))}},
		{PersonPut: &PersonPut{Person: Person(p.pick("ana@x", "ben@x", "cy@x")), Role: Role(p.pick("owner", "member", "viewer", ""))}},
		{SettingPut: &SettingPut{Name: p.pick("a", "b"), Value: p.pick("one", "two", "")}},
		{Kept: &Kept{Task: t.ID, Token: 1 + uint64(p.rng.IntN(p.n)), Workspace: p.rng.IntN(t.Workspace + 2), Text: "Kept.", Head: p.pick("", "abc")}},
		{TaskEdit: &TaskEdit{Task: t.ID, Mode: &mode, Archived: &archived}},
		{Say: &Say{Task: t.ID, Message: fmt.Sprintf("m%d", p.n), Text: "and", Steer: p.rng.IntN(2) == 0}},
		{Say: &Say{Task: t.ID, Message: fmt.Sprintf("m%d", p.rng.IntN(p.n)), Text: "again"}},
		{QueueEdit: edit},
		{AskAnswer: &AskAnswer{Task: t.ID, Ask: ask, Answer: Answer{Option: p.pick("yes", "again", "discard"), Text: "so"}}},
		{Stop: &Stop{Task: t.ID, Force: p.rng.IntN(3) == 0}},
		{Retry: &Retry{Task: t.ID}},
		{Release: &Release{Task: t.ID}},
		{Pull: &Pull{Task: t.ID, Pull: PullRequest{Number: 3, URL: "u", State: p.pick("open", "merged")}, Note: &Item{Text: "Checks failed."}}},
		{Visits: p.visits(t)},
	}[p.rng.IntN(17)]
}

// visits are a few that begin, end, and are over.
func (p *player) visits(t Task) *Visits {
	op := &Visits{Task: t.ID}
	for range p.rng.IntN(3) {
		v := Visit{
			ID: fmt.Sprintf("v%d", p.rng.IntN(150)), Person: "ana@x", Device: p.pick("", "laptop"), By: VisitBy(p.pick("page", "shell", "nothing")),
			Began: testTime.Add(time.Duration(p.rng.IntN(p.n)) * time.Minute),
		}
		if p.rng.IntN(2) == 0 {
			v.Ended = v.Began.Add(time.Minute)
		}
		op.Visits = append(op.Visits, v)
	}
	if p.rng.IntN(2) == 0 {
		op.Line = &Line{ID: p.pick("stay", "first"), Text: "Ana is here."}
	}
	return op
}

// leased is what the node and the leader do to a task that has a lease.
func (p *player) leased(t Task) Op {
	token := t.Lease.Token - uint64(p.rng.IntN(20)/19)
	turn := TurnID(fmt.Sprintf("turn%d", p.n))
	if t.Turn.open() && p.rng.IntN(10) > 0 {
		turn = t.Turn.ID
	}
	prompt := "none"
	if len(t.Queue) > 0 {
		prompt = t.Queue[0].ID
	}
	step := StepName(p.pick("prepare.clone", "prepare.image", "start", "start"))
	var failure *Failure
	if p.rng.IntN(2) == 0 {
		failure = &Failure{Step: step, Reason: "broken", Detail: "log"}
	}
	switch {
	case t.State == Idle && len(t.Queue) > 0 && p.rng.IntN(3) == 0:
		return Op{TurnSet: &TurnSet{Task: t.ID, Token: token, Turn: turn, Prompt: prompt, Delivery: Sent}}
	case t.State.active() && p.rng.IntN(6) == 0:
		return Op{Items: &Items{Task: t.ID, Token: token, Workspace: t.Workspace, From: t.Cursor, Upto: t.Cursor + 1, Items: []Item{{TurnEnd: &TurnEnd{Turn: turn, Stop: "end_turn"}}}}}
	case (t.State == Idle || t.State == Stopped) && p.rng.IntN(3) == 0:
		return Op{Release: &Release{Task: t.ID}}
	}
	switch p.rng.IntN(14) {
	case 0:
		return Op{Expire: &Expire{Task: t.ID, Token: token, Reason: "late"}}
	case 1:
		return Op{End: &End{Task: t.ID, Token: token, Failure: failure, Reason: p.pick("", "moved")}}
	case 2:
		return Op{Session: &Session{Task: t.ID, Token: token, Session: fmt.Sprint(p.n), Title: "The agent's", Base: "main"}}
	case 3, 4:
		return Op{StepSet: &StepSet{Task: t.ID, Token: token, Name: step, State: StepState(p.pick("running", "done", "failed")), Log: fmt.Sprint(p.n)}}
	case 5, 6:
		return Op{TurnSet: &TurnSet{Task: t.ID, Token: token, Turn: turn, Prompt: prompt, Delivery: Sent}}
	case 7:
		return Op{TurnSet: &TurnSet{Task: t.ID, Token: token, Turn: turn, Delivery: Delivery(p.pick("delivered", "delivered", "unknown"))}}
	case 8:
		return Op{Branch: &Branch{Task: t.ID, Token: token, Change: Change{Files: p.n, Head: "h"}, Done: p.rng.IntN(4) > 0}}
	case 9:
		return Op{Note: &Note{Task: t.ID, Token: token, Item: p.item(turn)}}
	}
	items := Items{Task: t.ID, Token: token, Workspace: t.Workspace, From: t.Cursor, Upto: t.Cursor + 1 + uint64(p.rng.IntN(2))}
	for range 1 + p.rng.IntN(3) {
		it := p.item(turn)
		it.Source = items.Upto
		items.Items = append(items.Items, it)
	}
	return Op{Items: &items}
}

func (p *player) item(turn TurnID) Item {
	ask := Ask{Kind: AskPermission, ID: fmt.Sprintf("q%d", p.rng.IntN(4)), Options: []AskOption{{ID: "yes", Name: "Yes"}}, Fields: []AskField{{Name: "n", Choices: []string{"c"}}}}
	if p.rng.IntN(2) == 0 {
		ask.Closed = "handed on"
	}
	one := 1
	return []Item{
		{ID: fmt.Sprintf("i%d", p.rng.IntN(5)), Kind: KindAgent, Offset: int64(p.rng.IntN(3)), Text: "some té🙂xt"},
		{ID: fmt.Sprintf("t%d", p.rng.IntN(5)), Kind: KindTool, Tool: &Tool{Title: "x", Output: strings.Repeat("o", p.rng.IntN(99)), Exit: &one, Ended: testTime, Locations: []Location{{Path: "p"}}}},
		{Ask: &ask},
		{Usage: &Usage{Input: 3, Cost: 2, Context: 9}},
		{TurnEnd: &TurnEnd{Turn: turn, Stop: p.pick("end_turn", "cancelled", "crashed")}},
		{ID: "raw", Kind: "new", Raw: []byte(`{"x": [1, "<b>"]}`)},
		{ID: "plan", Kind: KindPlan, Plan: []Plan{{Text: "x", Status: "pending"}}},
		{ID: "diff", Kind: KindDiff, Diff: &Change{Files: 1}},
	}[p.rng.IntN(8)]
}

// disk is what a store keeps: the last row of each kind and id, and messages
// as JSON.
type disk struct {
	rows     map[string]Row
	messages map[messageKey][]byte
}

func (d *disk) Get(task TaskID, id string) (Message, bool, error) {
	data, ok := d.messages[messageKey{task, id}]
	if !ok {
		return Message{}, false, nil
	}
	var m Message
	err := json.Unmarshal(data, &m)
	return m, err == nil, err
}

func (d *disk) Put(m Message) error {
	data, err := json.Marshal(m)
	d.messages[messageKey{m.Task, m.ID}] = data
	return err
}

func (d *disk) save(t *testing.T, s *State) {
	t.Helper()
	for _, e := range s.Edits() {
		r, err := e.Row()
		if err != nil {
			t.Fatal(err)
		}
		if r.Data == nil {
			delete(d.rows, r.Kind+"/"+r.ID)
		} else {
			d.rows[r.Kind+"/"+r.ID] = r
		}
	}
	s.Commit()
}

func (d *disk) load(t *testing.T) *State {
	t.Helper()
	var rows []Row
	for _, r := range d.rows {
		rows = append(rows, r)
	}
	s, err := Load(rows, func(task TaskID, id string) (string, error) {
		m, ok, err := d.Get(task, id)
		if !ok {
			t.Errorf("the message %s that waits in task %s is not on disk", id, task)
		}
		return m.Text, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// play draws a log of n commands, some of them twice, checking every task
// after each.
func play(t *testing.T, seed uint64, n int) (log []Command, count map[string]int) {
	t.Helper()
	p := &player{rng: rand.New(rand.NewPCG(seed, 2)), s: NewState()}
	m := memory{}
	count = map[string]int{}
	for p.n = 1; p.n <= n; p.n++ {
		cmd := Command{Version: 1, ID: fmt.Sprintf("c%d", p.n), Author: Author{Person: "ana@x"}, Op: p.op()}
		if cmd.Op.Visits != nil {
			cmd.Author = Author{Node: Node(p.pick("n", "o"))}
		}
		if p.n > 5 && p.rng.IntN(15) == 0 {
			cmd = log[p.rng.IntN(len(log))]
		}
		log = append(log, cmd)
		if err := p.s.Apply(uint64(p.n), testTime.Add(time.Duration(p.n)*time.Second), cmd, m); err != nil {
			t.Fatal(err)
		}
		out, _ := p.s.Outcome(cmd.ID)
		if out.Code == CodeNone {
			count[cmd.Op.names()[0]]++
		}
		for _, id := range p.s.tasks.keys() {
			task, _ := p.s.Task(id)
			checkTask(t, task, nil)
			if t.Failed() {
				t.Fatalf("seed %d: command %d, %s: %+v", seed, p.n, cmd.Op.names(), out)
			}
		}
	}
	return log, count
}

// compareCut applies the log once straight and once with saves on the way and
// a load at the cut, and compares everything.
func compareCut(t *testing.T, log []Command, seed uint64, cut int) {
	t.Helper()
	straight, straightDisk := NewState(), &disk{rows: map[string]Row{}, messages: map[messageKey][]byte{}}
	loaded, loadedDisk := NewState(), &disk{rows: map[string]Row{}, messages: map[messageKey][]byte{}}
	rng := rand.New(rand.NewPCG(seed, 3))
	for i, cmd := range log {
		if i == cut {
			loadedDisk.save(t, loaded)
			loaded = loadedDisk.load(t)
		} else if rng.IntN(4) == 0 {
			loadedDisk.save(t, loaded)
		}
		for s, m := range map[*State]Messages{straight: straightDisk, loaded: loadedDisk} {
			if err := s.Apply(uint64(i+1), testTime.Add(time.Duration(i+1)*time.Second), cmd, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, err := straight.Rows()
	if err != nil {
		t.Fatal(err)
	}
	got, err := loaded.Rows()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seed %d, cut %d: rows (-straight +loaded):\n%s", seed, cut, diff)
	}
	for _, id := range straight.tasks.keys() { // rows do not hold all of a task
		want, _ := straight.Task(id)
		if got, _ := loaded.Task(id); !cmp.Equal(want, got, cmpopts.EquateEmpty()) {
			t.Errorf("seed %d, cut %d: task (-straight +loaded):\n%s", seed, cut, cmp.Diff(want, got))
		}
	}
	if diff := cmp.Diff(straightDisk.messages, loadedDisk.messages); diff != "" {
		t.Errorf("seed %d, cut %d: messages (-straight +loaded):\n%s", seed, cut, diff)
	}
}

// FuzzSnapshot: a replay equals a save and load at any cut and the rest of
// the replay.
func FuzzSnapshot(f *testing.F) {
	for seed := range uint64(25) {
		f.Add(seed, uint8(seed*7))
	}
	f.Fuzz(func(t *testing.T, seed uint64, cut uint8) {
		log, _ := play(t, seed, 150)
		compareCut(t, log, seed, int(cut)%len(log))
	})
}

// TestPlayReachesEveryOp keeps the fuzzer honest: each op is taken somewhere.
func TestPlayReachesEveryOp(t *testing.T) {
	total := map[string]int{}
	for seed := range uint64(80) {
		_, count := play(t, seed+1000, 200)
		for op, n := range count {
			total[op] += n
		}
	}
	once := []string{"project_put", "project_remove"} // a project that is gone ends the play
	for f := range reflect.TypeFor[Op]().Fields() {
		op, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if total[op] < 5 && !slices.Contains(once, op) {
			t.Errorf("%s was taken %d times", op, total[op])
		}
	}
}
