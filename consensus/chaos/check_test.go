package chaos

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// check looks for what must not be, once the schedule is over.
func (w *world) check() {
	board, err := w.replayBoard()
	if err != nil {
		w.broken("%v", err)
		return
	}
	w.checkReplicas(board)
	w.checkAppends(board)
	w.checkLists(board)
	w.checkPool()
	w.checkTasks()
	w.checkActs()
}

// replayBoard applies the journal to a board of our own.
func (w *world) replayBoard() (*board, error) {
	b := newBoard(newShelf(), nil, nil, w.flaws.forgets)
	return b, b.Apply(w.journal.list(machineBoard))
}

// checkReplicas compares what every node came to have with the replay.
func (w *world) checkReplicas(b *board) {
	want, err := b.encode()
	if err != nil {
		w.broken("%v", err)
	}
	pool, err := w.replayPool(nil)
	if err != nil {
		w.broken("%v", err)
		return
	}
	wantPool, err := encodePool(pool)
	if err != nil {
		w.broken("%v", err)
	}
	for _, name := range w.names {
		l := w.nodes[name].now()
		if l == nil {
			w.broken("%s does not run in the end", name)
			continue
		}
		got, err := l.board.encode()
		if err != nil || !bytes.Equal(got, want) {
			w.broken("the board of %s is not what its log says (%v): %s", l.boot, err, w.differences(l.board.shelf.state, b.shelf.state))
		}
		got, err = encodePool(l.pool)
		if err != nil || !bytes.Equal(got, wantPool) {
			w.broken("the pool of %s is not what its log says (%v): %s, want %s", l.boot, err, got, wantPool)
		}
	}
}

// differences lists commands that one board has done and the other has not, or
// at another entry.
func (w *world) differences(got, want *boardState) string {
	var out []string
	for id, o := range want.Done {
		if x, is := got.Done[id]; !is || x != o {
			out = append(out, fmt.Sprintf("%s: %+v, want %+v; ", id, x, o))
		}
	}
	for id, o := range got.Done {
		if _, is := want.Done[id]; !is {
			out = append(out, fmt.Sprintf("%s: %+v, want none; ", id, o))
		}
	}
	slices.Sort(out)
	return fmt.Sprintf("%d differ: %s", len(out), strings.Join(out[:min(len(out), 10)], ""))
}

func encodePool(p *pool) ([]byte, error) {
	s, err := p.Snapshot()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = s.WriteTo(&b)
	return b.Bytes(), err
}

// checkAppends looks for every acknowledged append, and for others.
func (w *world) checkAppends(b *board) {
	h := w.history
	proposed := make(map[string]*appended, len(h.appends))
	for _, a := range h.appends {
		proposed[a.id] = a
	}
	seen := make(map[string]int)
	for _, l := range b.shelf.state.Lists {
		for i, text := range l.Texts {
			if seen[text] != 0 {
				w.tally.doubled++
				w.broken("%s is in its list twice", text)
				continue
			}
			seen[text] = i + 1
			a := proposed[text]
			switch {
			case a == nil:
				w.broken("%s is in a list, and nobody proposed it", text)
			case a.place == 0 && a.sure:
				w.broken("%s is in its list, and its client was told that nothing was written", text)
			}
		}
	}
	for _, a := range h.appends {
		switch {
		case a.place == 0 && a.sure:
			w.tally.refused++
		case a.place == 0:
			w.tally.unknown++
		default:
			w.tally.acknowledged++
			if seen[a.id] == 0 {
				w.tally.lost++
				w.broken("%s was acknowledged by %s, and is lost", a.id, a.at)
			} else if seen[a.id] != a.place {
				w.broken("%s was acknowledged by %s as number %d of its list, and is number %d", a.id, a.at, a.place, seen[a.id])
			}
		}
	}
}

// checkLists has porcupine look at appends and reads, list by list.
func (w *world) checkLists(b *board) {
	ops := make(map[string][]porcupine.Operation)
	for _, a := range w.history.appends {
		place := a.place
		if place == 0 {
			if out, done := b.shelf.state.Done[a.id]; done {
				place = out.Place // nobody was told, and it happened
			} else {
				continue
			}
		}
		ops[a.list] = append(ops[a.list], porcupine.Operation{Input: a.id, Call: a.span.began, Output: listOutput{n: place}, Return: a.span.ended})
	}
	for _, r := range w.history.reads {
		ops[r.list] = append(ops[r.list], porcupine.Operation{Input: "", Call: r.span.began, Output: listOutput{r.n, r.sum}, Return: r.span.ended})
	}
	w.tally.reads += len(w.history.reads)
	for name, list := range ops {
		w.tally.histories++
		if !porcupine.CheckOperations(listModel, list) {
			w.tally.notLinear++
			w.broken("the history of list %s is not linearizable: %d appends and reads", name, len(list))
		}
	}
}

// listOutput is what an append or a read was told: the place of the text, or
// the list's length and sum.
type listOutput struct {
	n   int
	sum uint64
}

// listModel is a list: an append (its text is the input) puts a text at its
// end, a read (no text) tells how it is.
var listModel = porcupine.Model{
	Init: func() any { return listOutput{} },
	Step: func(state, input, output any) (bool, any) {
		s, text, out := state.(listOutput), input.(string), output.(listOutput)
		if text == "" {
			return s == out, s
		}
		next := listOutput{s.n + 1, chain(s.sum, text)}
		return out.n == next.n, next
	},
}

// leaseEvent is what an entry of the log did to a lease.
type leaseEvent struct {
	task, slot string
	token      uint64
	granted    bool
	span       span // of its proposal
}

// replayPool applies the journal to a pool of our own and tells each about
// every lease that came or went.
func (w *world) replayPool(each func(leaseEvent)) (*pool, error) {
	p := &pool{State: provision.NewState(), twice: w.flaws.twice}
	var before []provision.Lease
	for _, e := range w.journal.list(machinePool) {
		if err := p.Apply([]consensus.Entry{e}); err != nil {
			return nil, err
		}
		c, err := provision.Decode(e.Data)
		if err != nil {
			return nil, err
		}
		v, _ := p.view()
		if each != nil {
			w.checkStep(c, e.Index, before, v.Leases, each)
		}
		before = v.Leases
	}
	return p, nil
}

// checkStep compares the leases before and after one entry.
func (w *world) checkStep(c provision.Command, index uint64, before, after []provision.Lease, each func(leaseEvent)) {
	at := w.history.spans[c.ID]
	if at == (span{}) {
		at = span{0, never}
	}
	has := func(list []provision.Lease, token uint64) bool {
		return slices.ContainsFunc(list, func(l provision.Lease) bool { return l.Token == token })
	}
	for _, l := range before {
		if !has(after, l.Token) {
			if r := c.Release; r != nil && r.Token != l.Token {
				w.broken("entry %d releases token %d and ended token %d", index, r.Token, l.Token)
			}
			each(leaseEvent{l.Task, l.Slot, l.Token, false, at})
		}
	}
	slots, tasks := make(map[string]bool), make(map[string]bool)
	for _, l := range after {
		if slots[l.Slot] || tasks[l.Task] {
			w.tally.twice++
			w.broken("entry %d: slot %s or task %s has two leases", index, l.Slot, l.Task)
		}
		slots[l.Slot], tasks[l.Task] = true, true
		if !has(before, l.Token) {
			if l.Token != index {
				w.broken("entry %d grants token %d", index, l.Token)
			}
			each(leaseEvent{l.Task, l.Slot, l.Token, true, at})
		}
	}
}

// checkPool looks at every lease that ever was, and has porcupine compare with
// what holders did and readers saw.
func (w *world) checkPool() {
	bySlot, byTask := make(map[string][]porcupine.Operation), make(map[string][]porcupine.Operation)
	put := func(slot, task string, o porcupine.Operation) {
		if slot != "" {
			bySlot[slot] = append(bySlot[slot], o)
		}
		if task != "" {
			byTask[task] = append(byTask[task], o)
		}
	}
	_, err := w.replayPool(func(e leaseEvent) {
		kind := leaseEnd
		if e.granted {
			kind = leaseGrant
			w.tally.granted++
		}
		put(e.slot, e.task, porcupine.Operation{Input: leaseInput{kind, e.token}, Call: e.span.began, Output: uint64(0), Return: e.span.ended})
	})
	if err != nil {
		w.broken("%v", err)
		return
	}
	for _, a := range w.history.acts {
		put(a.slot, a.task, porcupine.Operation{Input: leaseInput{leaseAct, a.token}, Call: a.span.began, Output: a.token, Return: a.span.ended})
	}
	for _, l := range w.history.looks {
		if l.slot != "" {
			put(l.slot, "", porcupine.Operation{Input: leaseInput{leaseLook, 0}, Call: l.span.began, Output: l.token, Return: l.span.ended})
		}
	}
	w.checkLeases("slot", bySlot)
	w.checkLeases("task", byTask)
}

// checkTasks does the same for the leases that the board has of tasks: they
// end before their slot is free, or after.
func (w *world) checkTasks() {
	ops := make(map[string][]porcupine.Operation)
	s := newBoardState()
	for _, e := range w.journal.list(machineBoard) {
		o, err := decodeOp(e.Data)
		if err != nil {
			w.broken("%v", err)
			return
		}
		before := s.clone()
		s.apply(e.Index, o, w.flaws.forgets)
		at := w.history.spans[o.ID]
		for name, t := range s.Tasks {
			if old := before.Tasks[name].Token; old != t.Token {
				in := leaseInput{leaseGrant, t.Token}
				if t.Token == 0 {
					in = leaseInput{leaseEnd, old}
				}
				ops[name] = append(ops[name], porcupine.Operation{Input: in, Call: at.began, Output: uint64(0), Return: at.ended})
			}
		}
	}
	for _, a := range w.history.acts {
		ops[a.task] = append(ops[a.task], porcupine.Operation{Input: leaseInput{leaseAct, a.token}, Call: a.span.began, Output: a.token, Return: a.span.ended})
	}
	for _, l := range w.history.looks {
		if l.task != "" {
			ops[l.task] = append(ops[l.task], porcupine.Operation{Input: leaseInput{leaseLook, 0}, Call: l.span.began, Output: l.token, Return: l.span.ended})
		}
	}
	w.checkLeases("the board's task", ops)
}

func (w *world) checkLeases(what string, ops map[string][]porcupine.Operation) {
	for name, list := range ops {
		w.tally.histories++
		if !porcupine.CheckOperations(leaseModel, list) {
			w.tally.notLinear++
			w.broken("the history of %s %s is not linearizable: %d grants, ends, acts and looks", what, name, len(list))
		}
	}
}

type leaseKind int

const (
	leaseGrant leaseKind = iota
	leaseEnd
	leaseAct
	leaseLook
)

type leaseInput struct {
	kind  leaseKind
	token uint64
}

// leaseModel is a slot, or a task: the token of its lease, or 0.
var leaseModel = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		token, in := state.(uint64), input.(leaseInput)
		switch in.kind {
		case leaseGrant:
			return token == 0, in.token
		case leaseEnd:
			return token == in.token, uint64(0)
		default: // an act, or a look
			return token == output.(uint64), token
		}
	},
}

// checkActs looks for two that act at once on the same slot or task, and for an
// older token after a newer one.
func (w *world) checkActs() {
	w.tally.acts += len(w.history.acts)
	for _, of := range []func(*act) string{func(a *act) string { return a.slot }, func(a *act) string { return a.task }} {
		groups := make(map[string][]*act)
		for _, a := range w.history.acts {
			groups[of(a)] = append(groups[of(a)], a)
		}
		for name, acts := range groups {
			slices.SortFunc(acts, func(a, b *act) int { return int(a.span.began - b.span.began) })
			var newest *act // of those that ended last
			for _, a := range acts {
				if newest != nil && a.token != newest.token && (a.span.began < newest.span.ended || a.token < newest.token) {
					w.tally.overlaps++
					w.broken("%s: %s acts under token %d from %v to %v, and %s under token %d from %v to %v", name,
						newest.node, newest.token, newest.from.Sub(w.began), newest.to.Sub(w.began), a.node, a.token, a.from.Sub(w.began), a.to.Sub(w.began))
				}
				if newest == nil || a.token > newest.token || a.span.ended > newest.span.ended {
					newest = a
				}
			}
		}
	}
}
