package main

import (
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/provision"
)

// decisions are what the scheduler would say of the tasks that wait, for
// people. Thousands may wait, and a page or a list asks about each of them: the
// decisions are made for all at once, and serve for a moment.
type decisions struct {
	mu   sync.Mutex // held while they are made: who comes meanwhile finds them made
	made time.Time
	of   map[chat.TaskID]provision.Decision
}

// decisionsFor is how old they may be.
const decisionsFor = time.Second

// decision is what the scheduler said of a waiting task a moment ago, or says
// now: with fresh, or of a task that has just come.
func (n *node) decision(task chat.TaskID, fresh bool) (provision.Decision, bool) {
	t, err := n.room.Task(string(task))
	if err != nil || t.Lease != nil || !t.State.Waits() {
		return provision.Decision{}, false
	}
	c := &n.decided
	c.mu.Lock()
	defer c.mu.Unlock()
	d, known := c.of[t.ID]
	if !known || fresh || time.Since(c.made) > decisionsFor {
		c.make(n)
		d, known = c.of[t.ID]
	}
	return d, known
}

func (c *decisions) make(n *node) {
	pool, _ := n.pool.Pool()
	c.made = time.Now()
	all := provision.Decide(pool, waiting(n.room, n.room.Waiting()), n.quiet(pool), n.room.Now()).Decisions
	c.of = make(map[chat.TaskID]provision.Decision, len(all))
	for _, d := range all {
		c.of[chat.TaskID(d.Task)] = d
	}
}
