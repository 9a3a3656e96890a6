package workspace

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/shim"
)

// errGone means that somebody removed the container: the workspace is over.
// The volumes and the journal are as they were.
var errGone = errors.New("the workspace's container was removed")

// found notes that the shim answers.
func (n *run) found(c *shim.Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shim = c
	n.lives++
	select {
	case <-n.answers:
	default:
		close(n.answers)
	}
}

// missed notes that it does not, and returns it as it was.
func (n *run) missed() *shim.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.shim
	if c != nil {
		n.shim, n.answers = nil, make(chan struct{})
	}
	return c
}

// client returns the shim, or ErrNoWorkspace while it does not answer.
func (n *run) client() (*shim.Client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shim == nil {
		return nil, ErrNoWorkspace
	}
	return n.shim, nil
}

// await is client that waits while the container is brought back.
func (n *run) await(ctx context.Context) (*shim.Client, error) {
	for {
		n.mu.Lock()
		c, answers := n.shim, n.answers
		n.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-answers:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// life counts how often the shim was found.
func (n *run) life() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lives
}

// lost says that the shim of that life does not answer any more.
func (n *run) lost(ctx context.Context, life int) bool {
	c, err := n.client()
	if err != nil || n.life() != life {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = c.Hello(ctx)
	return err != nil
}

// survive does what the task asks for, and again when the workspace went away
// under it, or the mesh did. When only the agent did, its end comes by the journal, which wakes
// drive.
func (n *run) survive(ctx context.Context, do func(context.Context) error) error {
	for {
		if _, err := n.await(ctx); err != nil {
			return err
		}
		life := n.life()
		err := n.unlessCut(ctx, do)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if n.lost(ctx, life) {
			n.log.Warn("the workspace went away; again when it is back", "err", err)
			continue
		}
		if _, starting := errors.AsType[*failure](err); !starting && agentEnded(err) {
			return nil
		}
		return err
	}
}

// agentEnded says that a line did not reach the agent because it has ended.
func agentEnded(err error) bool {
	return errors.Is(err, shim.ErrNotRunning) || errors.Is(err, shim.ErrUnsent) || errors.Is(err, acp.ErrDead)
}

// readJournal feeds every record to the driver, from the first on, and what is
// above the log's cursor into the log. It survives the shim's end: a container
// that was stopped by others is started again. One that was removed is not:
// what it said last is read from its file, and errGone returned.
func (n *run) readJournal(ctx context.Context, caught chan struct{}) error {
	next := uint64(1)
	for {
		err := n.readFrom(ctx, &next, caught)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n.log.Warn("lost the shim", "err", err)
		err = n.revive(ctx)
		if errors.Is(err, errGone) {
			return errors.Join(n.readRest(ctx, next), err)
		}
		if err != nil {
			return err
		}
	}
}

// revive brings a workspace back whose shim went away: Docker was restarted,
// the container was stopped, or memory ran out. The volumes and the journal
// are as they were; the agent is started again when there is something to say.
func (n *run) revive(ctx context.Context) error {
	n.missed()
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("the workspace's container did not come back in 5 minutes"))
	defer cancel()
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		st, err := n.r.c.Engine.Inspect(ctx, n.name)
		if errors.Is(err, docker.ErrNotFound) {
			return errGone
		}
		if err == nil && !st.Running {
			err = n.r.c.Engine.Start(ctx, n.name)
		}
		if err == nil {
			err = n.dialShim(ctx)
		}
		if err == nil {
			n.note(ctx, "warn", "The workspace's container stopped and was started again.", "")
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		n.log.Warn("bringing the workspace back; trying again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// readRest brings the end of a workspace's journal into the log.
func (n *run) readRest(ctx context.Context, next uint64) error {
	file := filepath.Join(n.dir, "shim", "journal")
	if err := shim.Bury(ctx, file, n.log); err != nil {
		return fmt.Errorf("closing the journal: %w", err)
	}
	for r, err := range shim.ReadJournal(file, next) {
		if err != nil {
			return fmt.Errorf("reading the end of the journal: %w", err)
		}
		if err := n.take(ctx, r); err != nil {
			return err
		}
		next = r.Seq + 1
	}
	return n.batch.Flushed(ctx, next-1)
}

// bury ends the lease of a workspace whose container is gone. The next message
// gets the next one; a turn that was open is a person's to decide about.
func (n *run) bury(why error) {
	n.log.Warn("the workspace is over", "err", why)
	n.insist(chat.Op{End: &chat.End{Task: n.id, Token: n.token, Reason: "The workspace's container was removed. The next message starts a new one; its files and the conversation are kept."}})
}
