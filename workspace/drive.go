package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
)

// drive does what the task's state asks for, each time it or the conversation
// changes. What it does can be done again: a node that restarts in the middle
// comes to the same place.
func (n *run) drive(ctx context.Context) error {
	if err := n.survive(ctx, n.ensureAgent); err != nil {
		return err
	}
	brake := time.NewTicker(time.Minute) // for the one limit that only time reaches
	defer brake.Stop()
	for {
		changed := n.drv.Changed()
		if err := n.survive(ctx, n.act); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case t := <-n.news:
			n.task = t
		case <-changed:
		case <-brake.C:
		}
	}
}

func (n *run) act(ctx context.Context) error {
	if err := n.giveAnswers(ctx); err != nil {
		return err
	}
	if err := errors.Join(n.followMode(ctx), n.followModel(ctx)); err != nil {
		return err
	}
	switch t := n.task; t.State {
	case chat.Working, chat.NeedsYou:
		return n.followTurn(ctx, t)
	case chat.Publishing:
		return n.publish(ctx)
	case chat.Starting, chat.Preparing, chat.Idle:
		if len(t.Queue) > 0 {
			return n.sendTurn(ctx, t)
		}
		if t.State == chat.Idle {
			return nil
		}
		if t.Turns > 0 { // its last workspace was gone before it could publish
			return n.publish(ctx)
		}
		// The message that started this was taken back meanwhile.
		return n.refresh(n.do(chat.Op{Branch: &chat.Branch{Task: n.id, Token: n.token, Change: t.Change, Done: true}}))
	case chat.Draft, chat.Queued, chat.Placing, chat.Buying, chat.Booting, chat.Failed, chat.Stopped:
		return nil
	default:
		return nil
	}
}

// refresh reads the task anew after an op, so that act never repeats itself on
// an old state. A refusal means that the state moved on meanwhile.
func (n *run) refresh(err error) error {
	if err != nil && !errors.Is(err, chat.ErrRefused) {
		return err
	}
	t, err := ask(n.ctx, n.log, "reading the task", func() (chat.Task, error) { return n.r.c.Board.Task(string(n.id)) })
	if err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	n.tell(t)
	return nil
}

// sendTurn takes the first queued message and hands it to the agent. No turn
// begins while this node is cut off: another may have the task.
func (n *run) sendTurn(ctx context.Context, t chat.Task) error {
	if _, err := n.fence.pass(ctx); err != nil {
		return err
	}
	if err := n.ensureAgent(ctx); err != nil {
		return err
	}
	next := t.Queue[0]
	if i := steering(t); i >= 0 {
		next = t.Queue[i]
	}
	return n.refresh(n.do(chat.Op{TurnSet: &chat.TurnSet{
		Task: n.id, Token: n.token, Turn: chat.TurnID(ulid.Make().String()), Prompt: next.ID, Delivery: chat.Sent,
	}}))
}

// steering is the queued message that a person wants to be heard at once, or
// -1. It ends the turn that runs and goes next.
func steering(t chat.Task) int {
	return slices.IndexFunc(t.Queue, func(p chat.Pending) bool { return p.Steer })
}

// followTurn brings the current turn's prompt to the agent, tells the chat
// what became of it, and cancels it when a person pressed Stop.
func (n *run) followTurn(ctx context.Context, t chat.Task) error {
	if t.Turn == nil || !t.Turn.Ended.IsZero() || t.Turn.Delivery == chat.Unknown {
		return nil
	}
	if err := n.deliver(ctx, *t.Turn); err != nil {
		return err
	}
	turn, known := n.inJournal(t.Turn.ID)
	set := chat.TurnSet{Task: n.id, Token: n.token, Turn: t.Turn.ID, Delivery: turn.Delivery}
	switch {
	case known && turn.Delivery == chat.Unknown:
		// The agent died on it: keep what it did, and let a person decide.
		op, err := n.keep(ctx)
		if err != nil {
			return err
		}
		if err := n.do(chat.Op{Branch: &op}); err != nil {
			return err
		}
		return n.refresh(n.do(chat.Op{TurnSet: &set}))
	case known && turn.Delivery == chat.Delivered && t.Turn.Delivery == chat.Sent:
		return n.refresh(n.do(chat.Op{TurnSet: &set}))
	case turn.Open() && time.Since(turn.Began) > chat.DeadlineTurn:
		n.note(ctx, "warn", fmt.Sprintf("The turn ran for %s and was ended: that is the limit of one turn.", chat.DeadlineTurn), "")
		return n.stopTurn(ctx, t.Turn.ID)
	case turn.Open() && (t.Stopping || steering(t) >= 0):
		return n.stopTurn(ctx, t.Turn.ID)
	}
	return nil
}

// deliver hands the prompt over unless the journal has it. An agent that ended
// between two turns is started again first.
func (n *run) deliver(ctx context.Context, turn chat.Turn) error {
	if _, known := n.inJournal(turn.ID); known {
		return nil
	}
	if err := n.ensureAgent(ctx); err != nil {
		return err
	}
	m, err := ask(ctx, n.log, "reading the prompt", func() (chat.Message, error) { return n.r.c.Board.Message(ctx, n.id, turn.Prompt) })
	if err != nil {
		return fmt.Errorf("reading the prompt: %w", err)
	}
	text, err := n.prompt(ctx, m)
	if err != nil {
		return fmt.Errorf("reading what was said: %w", err)
	}
	if _, err := n.fence.pass(ctx); err != nil {
		return err
	}
	if err := n.drv.Prompt(ctx, turn.ID, text); err != nil {
		return fmt.Errorf("handing the prompt to the agent: %w", err)
	}
	for {
		changed := n.drv.Changed()
		if _, known := n.inJournal(turn.ID); known {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// inJournal is what the journal says of a turn; false: its prompt is not in it.
func (n *run) inJournal(id chat.TurnID) (turn acp.Turn, known bool) {
	n.drv.See(func(c *acp.Conversation) { turn, known = c.TurnOf(id) })
	return turn, known
}

// stopTurn cancels, and kills an agent that does not listen.
func (n *run) stopTurn(ctx context.Context, turn chat.TurnID) error {
	err := n.drv.Cancel(ctx, turn)
	if !errors.Is(err, acp.ErrSilent) {
		return err
	}
	n.note(ctx, "warn", n.agent.Title+" did not stop when asked; its process was ended.", "")
	c, err := n.await(ctx)
	if err != nil {
		return err
	}
	if err := c.StopAgent(ctx, 2*time.Second); err != nil {
		return fmt.Errorf("ending the agent: %w", err)
	}
	return nil
}

// giveAnswers hands people's answers to the agent. One that it does not wait
// for any more is closed by the conversation itself.
func (n *run) giveAnswers(ctx context.Context) error {
	for _, a := range n.task.Asks {
		if a.Answer == nil || a.Closed != "" || a.Kind != chat.AskPermission && a.Kind != chat.AskQuestion {
			continue
		}
		if err := n.drv.Answer(ctx, a.ID, *a.Answer); err != nil && !errors.Is(err, acp.ErrNotOpen) {
			return fmt.Errorf("giving the answer to the agent: %w", err)
		}
	}
	return nil
}

// followMode puts the agent into the task's permission mode.
func (n *run) followMode(ctx context.Context) error {
	if !n.agentAlive() || n.drv.Session().ID == "" {
		return nil
	}
	if n.mode == n.task.Mode {
		return n.adoptMode(ctx)
	}
	err := n.drv.SetMode(ctx, n.task.Mode)
	if failed, ok := errors.AsType[*acp.FailureError](err); ok || errors.Is(err, acp.ErrNoMode) {
		text := fmt.Sprintf("%s has no mode %q; it stays as it is.", n.agent.Title, n.task.Mode)
		if ok {
			text = failed.Error()
		}
		n.note(ctx, "warn", text, "")
		err = nil
	}
	n.mode = n.task.Mode
	if err != nil {
		return fmt.Errorf("setting the mode: %w", err)
	}
	return nil
}

func (n *run) agentAlive() (alive bool) {
	n.drv.See(func(c *acp.Conversation) { _, alive = c.Run() })
	return alive
}
