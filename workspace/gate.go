package workspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/broker"
	"github.com/samnode/samnode/workspace/git"
)

// openBroker opens the workspace's way out: models, git, the web.
func (n *run) openBroker() error {
	b, err := broker.Open(n.ctx, broker.Config{
		Dir:      filepath.Join(n.dir, "broker"),
		Stale:    n.stale,
		Key:      n.key,
		Upstream: n.r.c.Upstream,
		Spent:    n.spent,
		Called:   (&patience{say: n.refused}).called,
		Budget:   n.budget,
		Git: n.repo.Handler(git.Access{
			Branch: n.task.Branch, Auth: n.forge.Auth, Stale: n.stale, Within: n.within, Rewrite: true,
			Refused: n.refusedGit(),
		}),
		Egress:  n.egress,
		Refused: n.refused,
		Logger:  n.log,
	})
	n.broker = b
	return err
}

// refusedGit says in the chat what git was not allowed, the same thing once a
// minute: an agent that tries in a loop fills a log, not a chat.
func (n *run) refusedGit() func(what, why string) {
	var mu sync.Mutex
	last := map[string]time.Time{}
	due := func(text string) bool {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last[text]) < time.Minute || len(last) >= maxRefusals {
			return false
		}
		last[text] = time.Now()
		return true
	}
	return func(what, why string) {
		if text := fmt.Sprintf("Git was refused: %s (%s).", what, why); due(text) {
			n.note(n.ctx, "warn", text, "")
		}
	}
}

// maxRefusals is how many different refusals of git one run says.
const maxRefusals = 100

// key finds the secret that opens a provider's API.
func (n *run) key(ctx context.Context, provider string) (broker.Credential, error) {
	for _, s := range credential(provider) {
		value, err := n.r.c.Secret(ctx, n.latestProject().ID, s.name)
		if err == nil {
			return broker.Credential{Value: value, Kind: s.kind}, nil
		}
		if errors.Is(err, ErrAway) {
			return broker.Credential{}, &doubt{err}
		}
		if !errors.Is(err, chat.ErrNotFound) {
			return broker.Credential{}, err
		}
	}
	return broker.Credential{}, broker.ErrNoKey
}

// spent counts a finished model call.
func (n *run) spent(u chat.Usage) {
	n.say(n.ctx, chat.Op{Note: &chat.Note{Task: n.id, Token: n.token, Item: chat.Item{Usage: &u}}})
}

// latestTask is the task as the state says now or, while the mesh is away, as
// it was told last.
func (n *run) latestTask() (chat.Task, error) {
	t, err := n.r.c.Board.Task(string(n.id))
	if !isAnswer(err) {
		return n.newest(), nil
	}
	return t, err
}

// latestProject is the same for the project; one that is gone is as it was.
func (n *run) latestProject() chat.Project {
	n.mu.Lock()
	p := n.seen
	n.mu.Unlock()
	now, err := n.r.c.Board.Project(string(p.ID))
	if err != nil {
		return p
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = now
	return now
}

// budget is what the task may still spend, as the state says now.
func (n *run) budget() (left int64, limited bool) {
	t, err := n.latestTask()
	if err != nil {
		return 0, true // a task that is gone spends nothing
	}
	limit := cmp.Or(t.Budget, n.latestProject().Budget)
	return limit - t.Usage.Cost, limit > 0
}

// egress is asked per connection: an owner changes it while the agent runs.
func (n *run) egress() (chat.Egress, []string) {
	p := n.latestProject()
	return p.Egress, p.Allow
}

// refused says in the chat what the broker did not let out. A budget that is
// used up is a question to a person.
func (n *run) refused(r broker.Refusal) {
	if r.Kind != broker.KindBudget {
		n.note(n.ctx, "warn", r.Why, r.Todo)
		return
	}
	t, err := n.latestTask()
	if err != nil {
		return // the task is gone, nobody is to be asked
	}
	left, _ := n.budget()
	id := fmt.Sprintf("budget-%d-%d", t.Usage.Cost, t.Usage.Cost+left)
	n.say(n.ctx, chat.Op{Note: &chat.Note{Task: n.id, Token: n.token, Item: chat.Item{ID: id, Kind: chat.KindAsk, Ask: &chat.Ask{
		ID: id, Kind: chat.AskBudget, Title: "The budget is used up", Detail: r.Why + "\n" + r.Todo,
		Options: []chat.AskOption{{ID: "raise", Name: "Raise the budget"}, {ID: "stop", Name: "Stop"}},
		Fields:  []chat.AskField{{Name: "budget", Label: "New limit of this task, in millionths of a US dollar", Type: "number"}},
	}}}})
}
