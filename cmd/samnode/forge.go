package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/forge"
	"github.com/samnode/samnode/workspace/git"
)

// forges remembers the client of each repository: it holds what the forge
// answered last, so that an unchanged pull request costs nothing to look at.
// The key carries the credentials, so a changed secret makes a new client.
type forges struct {
	mu    sync.Mutex
	byKey map[string]*forge.GitHub
}

// forge returns where a project's repository lives, opened with its secrets.
func (n *node) forge(p chat.Project) (workspace.Forge, error) {
	place, ok := forge.Locate(p.Repo)
	api, enterprise := n.c.GitHub[place.Host]
	if !ok || place.Host != "github.com" && !enterprise {
		return n.plain(p)
	}
	c := forge.Config{URL: p.Repo, API: api, Logger: n.c.Logger}
	var err error
	if c.Token, err = n.optional(p.ID, "GITHUB_TOKEN"); err != nil {
		return nil, err
	}
	if c.App, err = n.app(p.ID); err != nil {
		return nil, err
	}
	if strings.HasPrefix(p.Repo, "http") || c.Token != "" || c.App != nil {
		return n.gitHub(c)
	}
	return n.plain(p) // ssh without a token: the host's key pushes, a person opens the pull request
}

func (n *node) gitHub(c forge.Config) (workspace.Forge, error) {
	key := fmt.Sprintf("%s %s %s %v", c.URL, c.API, c.Token, c.App)
	n.forges.mu.Lock()
	defer n.forges.mu.Unlock()
	if g := n.forges.byKey[key]; g != nil {
		return gitHubForge{g, n.link}, nil
	}
	g, err := forge.NewGitHub(c)
	if err != nil {
		return nil, err
	}
	if n.forges.byKey == nil {
		n.forges.byKey = map[string]*forge.GitHub{}
	}
	n.forges.byKey[key] = g
	return gitHubForge{g, n.link}, nil
}

// optional returns a secret, or nothing when there is none.
func (n *node) optional(scope chat.ProjectID, name string) (string, error) {
	value, err := n.secret(context.Background(), scope, name)
	if errors.Is(err, chat.ErrNotFound) {
		return "", nil
	}
	return value, err
}

// app reads the GitHub App's secrets: GITHUB_APP_ID, GITHUB_APP_INSTALLATION
// and GITHUB_APP_KEY (PEM). Nil when there is none.
func (n *node) app(scope chat.ProjectID) (*forge.App, error) {
	values := map[string]string{}
	for _, name := range []string{"GITHUB_APP_ID", "GITHUB_APP_INSTALLATION", "GITHUB_APP_KEY"} {
		value, err := n.optional(scope, name)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	if values["GITHUB_APP_ID"] == "" {
		return nil, nil
	}
	id, err := strconv.ParseInt(values["GITHUB_APP_ID"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the secret GITHUB_APP_ID is not a number: %w", err)
	}
	installation, err := strconv.ParseInt(values["GITHUB_APP_INSTALLATION"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the secret GITHUB_APP_INSTALLATION is not a number: %w", err)
	}
	return &forge.App{ID: id, Installation: installation, Key: []byte(values["GITHUB_APP_KEY"])}, nil
}

// plain is any git remote without pull requests: the page has a compare view
// with a merge button instead. GIT_USERNAME and GIT_PASSWORD open it; ssh and
// local remotes need none.
func (n *node) plain(p chat.Project) (workspace.Forge, error) {
	var a git.Auth
	var err error
	if a.Username, err = n.optional(p.ID, "GIT_USERNAME"); err != nil {
		return nil, err
	}
	if a.Password, err = n.optional(p.ID, "GIT_PASSWORD"); err != nil {
		return nil, err
	}
	return plainForge{a, n.link}, nil
}

type plainForge struct {
	auth git.Auth
	link func(chat.TaskID) string
}

func (f plainForge) Auth(context.Context) (git.Auth, error) { return f.auth, nil }

// EnsurePull answers with the task's compare view, open until it is merged.
func (f plainForge) EnsurePull(ctx context.Context, t chat.Task, messages []chat.Message, draft bool) (*chat.PullRequest, error) {
	view := forge.Plain{Auth: f.auth, Compare: f.link(t.ID) + "/diff"}
	pr, err := view.EnsurePull(ctx, forge.Spec{Head: t.Branch, Base: t.Base, Title: forge.Title(t, messages), Draft: draft})
	return &pr, err
}

func (plainForge) PullStatus(context.Context, chat.Task) (*chat.PullRequest, []string, error) {
	return nil, nil, nil
}

type gitHubForge struct {
	g    *forge.GitHub
	link func(chat.TaskID) string
}

func (f gitHubForge) Auth(ctx context.Context) (git.Auth, error) { return f.g.Credentials(ctx) }

func (f gitHubForge) EnsurePull(ctx context.Context, t chat.Task, messages []chat.Message, draft bool) (*chat.PullRequest, error) {
	pr, err := f.g.EnsurePull(ctx, forge.Spec{
		Head: t.Branch, Base: t.Base, Title: forge.Title(t, messages), Body: forge.Body(t, messages, f.link(t.ID)), Draft: draft,
	})
	if err != nil {
		return nil, err
	}
	return &pr, nil
}

func (f gitHubForge) PullStatus(ctx context.Context, t chat.Task) (*chat.PullRequest, []string, error) {
	st, err := f.g.Status(ctx, t.PullRequest.Number)
	if err != nil {
		return nil, nil, err
	}
	was, is := *t.PullRequest, st.Pull
	was.Seen, is.Seen = time.Time{}, time.Time{}
	if was == is && len(st.Notes) == 0 {
		return nil, nil, nil
	}
	return &st.Pull, st.Notes, nil
}

// merge merges a task's branch into its base, on the remote.
func (n *node) merge(ctx context.Context, by chat.Author, t chat.Task, method string) (string, error) {
	if t.PullRequest != nil && t.PullRequest.Number > 0 {
		return "", fmt.Errorf("the task has pull request #%d; merge it at the forge: %w", t.PullRequest.Number, chat.ErrRefused)
	}
	if !slices.Contains([]string{git.MethodMerge, git.MethodSquash, git.MethodRebase}, method) {
		return "", fmt.Errorf("there is no way to merge called %.40q; there are merge, squash and rebase: %w", method, chat.ErrInvalid)
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
	if _, said := errors.AsType[*git.Error](err); said {
		return "", fmt.Errorf("%w: %w", chat.ErrRefused, err)
	}
	if err != nil {
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
	messages, err := n.room.Messages(ctx, t.ID, 0, 200)
	if err != nil {
		return err
	}
	pr, err := forge.EnsurePull(ctx, t, messages, draft)
	if err != nil {
		return fmt.Errorf("%w: %w", chat.ErrRefused, err)
	}
	_, err = n.room.Do(ctx, by, "", chat.Op{Pull: &chat.Pull{Task: t.ID, Pull: *pr}})
	return err
}

// watchPulls brings checks, reviews and merges from the forge into the chat.
func (n *node) watchPulls(ctx context.Context) error {
	tick := time.NewTicker(n.c.PollPulls)
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
