package workspace

import (
	"context"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/git"
)

// currentForge opens the forge anew for each use: a run lives for hours, and a
// person may give the project a better token meanwhile.
type currentForge struct {
	r       *Runner
	project chat.ProjectID
	repo    string // the run's, also when the project moves to another
}

var _ Forge = (*currentForge)(nil)

func (f *currentForge) open() (Forge, error) {
	p, err := f.r.c.Board.Project(string(f.project))
	if err != nil {
		return nil, err
	}
	p.Repo = f.repo
	return f.r.c.Forge(p)
}

// Auth implements Forge.
func (f *currentForge) Auth(ctx context.Context) (git.Auth, error) {
	forge, err := f.open()
	if err != nil {
		return git.Auth{}, err
	}
	return forge.Auth(ctx)
}

// EnsurePull implements Forge.
func (f *currentForge) EnsurePull(ctx context.Context, t chat.Task, messages []chat.Message, draft bool) (*chat.PullRequest, error) {
	forge, err := f.open()
	if err != nil {
		return nil, err
	}
	return forge.EnsurePull(ctx, t, messages, draft)
}

// PullStatus implements Forge.
func (f *currentForge) PullStatus(ctx context.Context, t chat.Task) (*chat.PullRequest, []string, error) {
	forge, err := f.open()
	if err != nil {
		return nil, nil, err
	}
	return forge.PullStatus(ctx, t)
}
