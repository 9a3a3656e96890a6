package workspace

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/shim"
)

// silence is the usual Config.Silence. It is told as a fact; nothing is
// stopped for it.
const silence = 5 * time.Minute

// converse talks with the agent until the lease or the node ends.
func (n *run) converse() error {
	drv, err := acp.NewDriver(acp.Config{
		Link: link{n},
		Conversation: acp.ConversationConfig{
			Workspace: n.number, Agent: n.agent.Title, Secret: secretOf(n.agent), Metered: n.agent.Provider != "",
		},
		Cwd: n.space.Dir, Modes: n.agent.Modes, Log: n.log,
	})
	if err != nil {
		return failAt(chat.StepAgent, err)
	}
	n.drv = drv
	n.batch = acp.NewBatcher(n.task.Cursor, n.logItems)
	g, ctx := errgroup.WithContext(n.ctx)
	caught := make(chan struct{}) // closed when the journal was read to where it was
	g.Go(func() error { return n.readJournal(ctx, caught) })
	g.Go(func() error { return ignoreEnd(ctx, n.batch.Run(ctx)) })
	g.Go(func() error { return ignoreEnd(ctx, drv.Serve(ctx)) })
	g.Go(func() error { return ignoreEnd(ctx, n.recordShells(ctx)) })
	g.Go(func() error { return ignoreEnd(ctx, drv.Watch(ctx, n.r.c.Silence, n.tellSilence)) })
	g.Go(func() error {
		select {
		case <-caught:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		drv.Live()
		return n.drive(ctx)
	})
	return g.Wait()
}

// logItems puts what the records of a batch made into the log.
func (n *run) logItems(ctx context.Context, b acp.Batch) error {
	return n.persist(ctx, chat.Op{Items: &chat.Items{
		Task: n.id, Token: n.token, Workspace: n.number, From: b.From, Upto: b.Upto, Items: b.Items,
	}})
}

// note says something in the chat in this node's name.
func (n *run) note(ctx context.Context, level, text, detail string) {
	item := status(level, text)
	item.Detail = detail
	n.say(ctx, chat.Op{Note: &chat.Note{Task: n.id, Token: n.token, Item: item}})
}

// status is an item of a node's own; an error is one with its level.
func status(level, text string) chat.Item {
	item := chat.Item{ID: ulid.Make().String(), Kind: chat.KindStatus, Level: level, Text: text, Closed: true}
	if level == "error" {
		item.Kind, item.Level = chat.KindError, ""
	}
	return item
}

// secretOf is the secret that a person sets first for an agent.
func secretOf(a agents.Agent) string {
	if len(a.Secrets) == 0 {
		return ""
	}
	return a.Secrets[0]
}

// ignoreEnd drops the error of a helper that ended because its context did.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// link is the way to the agent's stdin.
type link struct{ n *run }

func (l link) Send(ctx context.Context, id string, line []byte) (uint64, bool, error) {
	c, err := l.n.await(ctx)
	if err != nil {
		return 0, false, err
	}
	return c.Send(ctx, id, line)
}

func (n *run) readFrom(ctx context.Context, next *uint64, caught chan struct{}) error {
	c, err := n.client()
	if err != nil {
		return err
	}
	info, err := c.Hello(ctx)
	if err != nil {
		return fmt.Errorf("greeting the shim: %w", err)
	}
	reached := func() {
		if *next > info.Last {
			select {
			case <-caught:
			default:
				close(caught)
			}
		}
	}
	reached()
	return c.Records(ctx, *next, func(records []shim.Record) error {
		for _, r := range records {
			if err := n.take(ctx, r); err != nil {
				return err
			}
			*next = r.Seq + 1
		}
		reached()
		return nil
	})
}

// take hands a record to the driver, and what it made to the log.
func (n *run) take(ctx context.Context, r shim.Record) error {
	items, err := n.drv.Feed(toRecord(r))
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	return n.batch.Add(ctx, r.Seq, items)
}

func toRecord(r shim.Record) acp.Record {
	return acp.Record{Seq: r.Seq, At: r.At, Dir: string(r.Dir), ID: r.ID, Run: r.Run, Data: r.Data, Size: r.Size}
}

func (n *run) tellSilence(since time.Time) {
	n.note(n.ctx, "warn", fmt.Sprintf("No output for %s. The agent still runs; Stop ends the turn.", time.Since(since).Round(time.Second)), "")
}
