package workspace

import (
	"context"
	"errors"
	"log/slog"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/git"
)

// currentForge opens the forge anew for each use: a run lives for hours, and a
// person may give the project a better token meanwhile.
type currentForge struct {
	r       *Runner
	log     *slog.Logger
	project chat.ProjectID
	repo    string // the run's, also when the project moves to another
}

var _ Forge = (*currentForge)(nil)

func (f *currentForge) open(ctx context.Context) (Forge, error) {
	p, err := ask(ctx, f.log, "reading the project", func() (chat.Project, error) { return f.r.c.Board.Project(string(f.project)) })
	if err != nil {
		return nil, err
	}
	p.Repo = f.repo
	return f.r.c.Forge(p)
}

// there says that a forge of another node answered, whatever it said.
func there(err error) bool { return !errors.Is(err, ErrAway) }

// Auth implements Forge.
func (f *currentForge) Auth(ctx context.Context) (git.Auth, error) {
	forge, err := f.open(ctx)
	if err != nil {
		return git.Auth{}, err
	}
	return repeat(ctx, f.log, "asking for the repository's credentials", there, func() (git.Auth, error) { return forge.Auth(ctx) })
}

// EnsurePull implements Forge.
func (f *currentForge) EnsurePull(ctx context.Context, t chat.Task, messages []chat.Message, draft bool) (*chat.PullRequest, error) {
	forge, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	return repeat(ctx, f.log, "asking for the pull request", there, func() (*chat.PullRequest, error) {
		return forge.EnsurePull(ctx, t, messages, draft)
	})
}

// PullStatus implements Forge.
func (f *currentForge) PullStatus(ctx context.Context, t chat.Task) (*chat.PullRequest, []string, error) {
	forge, err := f.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	return forge.PullStatus(ctx, t)
}
