package main

// What a worker gets of a core node while it has a lease: the key of a model,
// git's credentials of one repository, and its pull request.

import (
	"context"
	"fmt"
	"slices"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/git"
)

type secretCall struct {
	Project chat.ProjectID `json:"project"`
	Name    string         `json:"name"`
}

type secretAnswer struct {
	Value string `json:"value"`
}

// callSecret hands a worker the key of a model for a project that it has a
// lease of. Nothing else leaves the core nodes: git's credentials are made for
// one repository and an hour (callForgeAuth).
func (n *node) callSecret(ctx context.Context, from mesh.Caller, in secretCall) (secretAnswer, error) {
	if err := n.mayUse(ctx, from, in.Project); err != nil {
		return secretAnswer{}, err
	}
	if !modelSecret(in.Name) {
		return secretAnswer{}, fmt.Errorf("the secret %s stays on core nodes: %w", in.Name, errForbidden)
	}
	value, err := n.secret(ctx, in.Project, in.Name)
	return secretAnswer{value}, err
}

// modelSecret says whether a secret opens a model's API.
func modelSecret(name string) bool {
	return slices.ContainsFunc(agents.All(), func(a agents.Agent) bool { return slices.Contains(a.Secrets, name) })
}

// mayUse refuses a node without a lease of the project. The state is that of
// now: a lease that ended a moment ago opens nothing.
func (n *node) mayUse(ctx context.Context, from mesh.Caller, p chat.ProjectID) error {
	m, err := n.member(ctx, from)
	if err != nil {
		return err
	}
	if _, err := n.log.Fresh(ctx); err != nil {
		return logError(err)
	}
	for _, t := range n.room.Tasks(chat.Filter{Project: p}) {
		if t.Lease != nil && string(t.Lease.Node) == m.Name {
			return nil
		}
	}
	return fmt.Errorf("%s has no lease of a task of this project: %w", m.Name, errForbidden)
}

type forgeCall struct {
	Project chat.ProjectID `json:"project"`
	Task    chat.TaskID    `json:"task,omitempty"`
	Token   uint64         `json:"token,omitempty"`
	Draft   bool           `json:"draft,omitempty"`
}

type pullAnswer struct {
	Pull *chat.PullRequest `json:"pull"`
}

// callForgeAuth makes the credentials with which a worker fetches and pushes.
func (n *node) callForgeAuth(ctx context.Context, from mesh.Caller, in forgeCall) (git.Auth, error) {
	if err := n.mayUse(ctx, from, in.Project); err != nil {
		return git.Auth{}, err
	}
	p, err := n.room.Project(string(in.Project))
	if err != nil {
		return git.Auth{}, err
	}
	forge, err := n.forge(p)
	if err != nil {
		return git.Auth{}, err
	}
	return forge.Auth(ctx)
}

// callForgePull opens or updates the pull request of a task that the caller
// has the lease of.
func (n *node) callForgePull(ctx context.Context, from mesh.Caller, in forgeCall) (pullAnswer, error) {
	if err := n.mayUse(ctx, from, in.Project); err != nil {
		return pullAnswer{}, err
	}
	t, err := n.room.Task(string(in.Task))
	if err != nil {
		return pullAnswer{}, err
	}
	if t.Project != in.Project || t.Lease == nil || t.Lease.Token != in.Token {
		return pullAnswer{}, fmt.Errorf("the lease with token %d has ended: %w", in.Token, chat.ErrStale)
	}
	p, err := n.room.Project(string(in.Project))
	if err != nil {
		return pullAnswer{}, err
	}
	forge, err := n.forge(p)
	if err != nil {
		return pullAnswer{}, err
	}
	messages, err := n.room.Messages(ctx, t.ID, 0, 200)
	if err != nil {
		return pullAnswer{}, err
	}
	pull, err := forge.EnsurePull(ctx, t, messages, in.Draft)
	return pullAnswer{pull}, err
}
