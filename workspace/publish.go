package workspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/git"
	"github.com/samnode/samnode/workspace/shim"
)

// publish ends a turn: work in progress is committed and pushed, and the pull
// request is opened or updated. What cannot be published is said in the chat;
// the commits are on the volume, and the next turn tries again.
func (n *run) publish(ctx context.Context) error {
	n.project = n.latestProject() // its policy may have changed since the run began
	op, err := n.keep(ctx)
	if err != nil {
		return err
	}
	op.Done = true
	if op.Change.Pushed && op.Change.Files > 0 && n.project.Publish != chat.PublishBranch {
		op.Pull = n.pull(ctx, op.Change)
	}
	return n.refresh(n.do(chat.Op{Branch: &op}))
}

// keep commits and pushes what is there, and says what is to be known of it.
// The error is that of a workspace that went away meanwhile.
func (n *run) keep(ctx context.Context) (chat.Branch, error) {
	life := n.life()
	saved, err := n.save(ctx)
	if err != nil && n.lost(ctx, life) {
		return chat.Branch{}, err
	}
	if err != nil {
		n.note(ctx, "error", "The work could not be committed: "+sentence(err), detailOf(err))
	}
	change, err := n.measure(ctx, saved)
	if err != nil {
		n.note(ctx, "warn", "The change could not be measured: "+sentence(err), detailOf(err))
	}
	if saved.Head != "" && !saved.Pushed {
		n.note(ctx, "error", "The branch was not pushed: "+saved.Reason+". The commits are kept; the next turn pushes them, too.", "")
	}
	if change.Files > 0 && change.Head != n.task.Change.Head {
		n.noteDiff(ctx, change)
	}
	return chat.Branch{Task: n.id, Token: n.token, Change: change}, nil
}

// noteDiff shows in the stream what the branch is now.
func (n *run) noteDiff(ctx context.Context, change chat.Change) {
	item := chat.Item{ID: "diff-" + change.Head, Kind: chat.KindDiff, Diff: &change, Closed: true}
	n.say(ctx, chat.Op{Note: &chat.Note{Task: n.id, Token: n.token, Item: item}})
}

func detailOf(err error) string {
	if d, ok := errors.AsType[detailed](err); ok {
		return tail(d.Detail(), 20)
	}
	return ""
}

// save commits and pushes from the workspace. A push that failed for the
// network's sake is tried again a few times; one that this node was not to do,
// because it was cut off from the mesh, when it is back.
func (n *run) save(ctx context.Context) (git.Saved, error) {
	c, err := n.await(ctx)
	if err != nil {
		return git.Saved{}, err
	}
	var saved git.Saved
	for try, wait := 1, time.Second; ; {
		right, err := n.fence.pass(ctx)
		if err != nil {
			return saved, err
		}
		saved, err = n.saveOn(ctx, c)
		if err != nil {
			return saved, err
		}
		if saved.Head == "" || saved.Pushed {
			break
		}
		if n.fence.lost(right) {
			continue
		}
		if try == 3 {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return saved, context.Cause(ctx)
		}
		try, wait = try+1, 3*wait
	}
	for _, note := range saved.Notes {
		n.note(ctx, "warn", note, "")
	}
	return saved, nil
}

func (n *run) saveOn(ctx context.Context, c *shim.Client) (git.Saved, error) {
	n.saving.Lock()
	defer n.saving.Unlock()
	return n.gitOn(ctx, c, n.space, n.space.Save(n.saveMessage()))
}

func (n *run) saveMessage() string {
	if n.task.Turn == nil {
		return n.task.Title
	}
	return fmt.Sprintf("%s\n\nWork in progress at the end of turn %d.", n.task.Title, n.task.Turn.Number)
}

func (n *run) gitOn(ctx context.Context, c *shim.Client, space git.Workspace, s git.Step) (git.Saved, error) {
	out, err := scriptOn(ctx, c, space, s, nil)
	if err != nil {
		return git.Saved{}, err
	}
	return git.ParseSaved(out)
}

// measure compares the branch with its base.
func (n *run) measure(ctx context.Context, saved git.Saved) (chat.Change, error) {
	change := n.task.Change
	change.Pushed = saved.Pushed
	if saved.Head == "" {
		return change, nil
	}
	head, _, err := n.repo.Head(ctx, n.space.Branch)
	if errors.Is(err, git.ErrNoBranch) || errors.Is(err, git.ErrEmpty) {
		return change, nil // nothing was pushed yet
	}
	if err != nil {
		return change, err
	}
	stat, err := n.repo.Stat(ctx, n.space.Base, head)
	if err != nil {
		return change, err
	}
	change.Files, change.Added, change.Removed = stat.Files, stat.Added, stat.Removed
	change.Base, change.Head = stat.Base, stat.Head
	return change, nil
}

// pull opens or updates the task's one pull request.
func (n *run) pull(ctx context.Context, change chat.Change) *chat.PullRequest {
	t := n.task
	t.Change = change
	var pr *chat.PullRequest
	err := n.unlessCut(ctx, func(ctx context.Context) error {
		ctx, cancel := n.within(ctx)
		defer cancel()
		messages, err := ask(ctx, n.log, "reading the chat", func() ([]chat.Message, error) {
			return n.r.c.Board.Messages(ctx, n.id, 0, recent)
		})
		if err == nil {
			pr, err = n.forge.EnsurePull(ctx, t, messages, n.project.Publish == chat.PublishDraft && !n.ready())
		}
		return err
	})
	if err == nil {
		return pr
	}
	n.note(ctx, "error", "The pull request was not updated: "+sentence(err), detailOf(err))
	return nil
}

// recent is how many messages a pull request's text is made from.
const recent = 200

// ready says that a pull request need not be a draft any more: the turn ended
// well and no message waits.
func (n *run) ready() bool {
	return len(n.task.Queue) == 0 && n.task.Turn != nil && n.task.Turn.Stop == "end_turn"
}
