package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/git"
)

// forge returns where a project's repository lives, with its secrets.
func (n *node) forge(p chat.Project) (workspace.Forge, error) {
	return &plainForge{n: n, project: p.ID}, nil
}

// plainForge is any git remote without pull requests: the page has a compare
// view with a merge button instead.
type plainForge struct {
	n       *node
	project chat.ProjectID
}

// Auth takes GIT_USERNAME and GIT_PASSWORD where they are set; ssh and local
// remotes need none.
func (f *plainForge) Auth(ctx context.Context) (git.Auth, error) {
	var a git.Auth
	for name, to := range map[string]*string{"GIT_USERNAME": &a.Username, "GIT_PASSWORD": &a.Password} {
		value, err := f.n.secret(ctx, f.project, name)
		if err != nil && !errors.Is(err, chat.ErrNotFound) {
			return a, err
		}
		*to = value
	}
	return a, nil
}

func (f *plainForge) EnsurePull(context.Context, chat.Task, workspace.PullText) (*chat.PullRequest, error) {
	return nil, nil
}

func (f *plainForge) PullStatus(context.Context, chat.Task) (*chat.PullRequest, []string, error) {
	return nil, nil, nil
}

// merge merges a task's branch into its base, on the remote.
func (n *node) merge(ctx context.Context, by chat.Author, t chat.Task, method string) (string, error) {
	if t.PullRequest != nil && t.PullRequest.Number > 0 {
		return "", fmt.Errorf("the task has pull request #%d; merge it at the forge: %w", t.PullRequest.Number, chat.ErrRefused)
	}
	p, err := n.room.Project(string(t.Project))
	if err != nil {
		return "", err
	}
	r, forge, err := n.repo(p)
	if err != nil {
		return "", err
	}
	commit, err := r.Merge(ctx, forge.Auth, git.MergeSpec{
		Base: t.Base, Head: t.Branch, Method: method, Message: t.Title, Author: workspace.Author(by.Person),
	})
	switch {
	case errors.Is(err, git.ErrConflict), errors.Is(err, git.ErrMerged), errors.Is(err, git.ErrMoved), errors.Is(err, git.ErrRejected),
		errors.Is(err, git.ErrNoBranch), errors.Is(err, git.ErrNotFound), errors.Is(err, git.ErrEmpty):
		return "", fmt.Errorf("%w: %w", chat.ErrRefused, err)
	case err != nil:
		return "", err
	}
	state := chat.PullRequest{State: "merged", Title: t.Title, URL: n.link(t.ID) + "/diff"}
	note := chat.Item{ID: "merged-" + commit, Kind: chat.KindStatus, Level: "info", Closed: true,
		Text: fmt.Sprintf("Merged into %s as %.12s (%s).", t.Base, commit, method)}
	_, err = n.room.Do(ctx, by, "", chat.Op{Pull: &chat.Pull{Task: t.ID, Pull: state, Note: &note, Head: commit}})
	return commit, err
}

// openPull opens the task's pull request, or marks a draft ready.
func (n *node) openPull(ctx context.Context, t chat.Task, draft bool, by chat.Author) error {
	p, err := n.room.Project(string(t.Project))
	if err != nil {
		return err
	}
	forge, err := n.forge(p)
	if err != nil {
		return err
	}
	text, err := n.runner.PullText(ctx, t)
	if err != nil {
		return err
	}
	text.Draft = draft
	pr, err := forge.EnsurePull(ctx, t, text)
	if err != nil {
		return fmt.Errorf("%w: %w", chat.ErrRefused, err)
	}
	if pr == nil {
		return fmt.Errorf("this remote has no pull requests; merge the branch from its diff: %w", chat.ErrRefused)
	}
	_, err = n.room.Do(ctx, by, "", chat.Op{Pull: &chat.Pull{Task: t.ID, Pull: *pr}})
	return err
}

// pollPulls is how often an open pull request is looked at. The forge answers
// an unchanged one for free.
const pollPulls = time.Minute

// watchPulls brings checks, reviews and merges from the forge into the chat.
func (n *node) watchPulls(ctx context.Context) error {
	tick := time.NewTicker(pollPulls)
	defer tick.Stop()
	for {
		for _, t := range n.room.Tasks(chat.Filter{}) {
			pr := t.PullRequest
			if pr == nil || pr.Number == 0 || pr.State != "open" && pr.State != "draft" {
				continue
			}
			if err := n.pollPull(ctx, t); err != nil && ctx.Err() == nil {
				n.c.Logger.Warn("looking at a pull request", "task", t.ID, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (n *node) pollPull(ctx context.Context, t chat.Task) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	p, err := n.room.Project(string(t.Project))
	if err != nil {
		return err
	}
	forge, err := n.forge(p)
	if err != nil {
		return err
	}
	pr, news, err := forge.PullStatus(ctx, t)
	if err != nil || pr == nil {
		return err
	}
	ops := []chat.Pull{{Task: t.ID, Pull: *pr}}
	for i, text := range news {
		note := chat.Item{ID: fmt.Sprintf("pull-%d-%d-%d", pr.Number, t.Index, i), Kind: chat.KindStatus, Level: "info", Text: text, Closed: true}
		ops = append(ops, chat.Pull{Task: t.ID, Pull: *pr, Note: &note})
	}
	for _, op := range ops {
		if _, err := n.room.Do(ctx, n.c.author(), "", chat.Op{Pull: &op}); err != nil {
			return err
		}
	}
	return nil
}
