package workspace

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/devcontainer"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/git"
	"github.com/samnode/samnode/workspace/shim"
)

// plan is what is known of a workspace before its container is made.
type plan struct {
	image string
	dev   *devcontainer.Result // nil: the base image
}

// look finds out what a run needs to know, whether it prepares or attaches.
func (n *run) look() error {
	if err := n.lookSpace(n.ctx); err != nil {
		return err
	}
	if _, err := n.r.c.Forge(n.project); err != nil {
		return failAt(chat.StepMirror, err)
	}
	n.forge = &currentForge{n.r, n.log, n.project.ID, n.project.Repo}
	agent, err := agents.Lookup(n.task.Agent)
	if err != nil {
		return failAt(chat.StepAgent, err)
	}
	n.agent = agent
	n.env = n.spaceEnv()
	return nil
}

// lookSpace finds out whose working copy it is.
func (n *run) lookSpace(ctx context.Context) (err error) {
	n.project, err = ask(ctx, n.log, "reading the project", func() (chat.Project, error) {
		return n.r.c.Board.Project(string(n.task.Project))
	})
	if err != nil {
		return fmt.Errorf("reading the project: %w", err)
	}
	n.seen = n.project
	if n.repo, err = n.r.c.Mirrors.Repo(n.project.Repo); err != nil {
		return failAt(chat.StepMirror, err)
	}
	n.space = git.Workspace{
		URL: n.repo.URL(), Mirror: n.repo.Path(), Proxy: "http://" + gitAddr + "/",
		Base: n.task.Base, Branch: n.task.Branch,
		Dir:    DirOf(n.project),
		Author: Author(n.task.Author.Person),
	}
	return nil
}

// Author is a person as git writes one: a login without an address gets one
// that leads nowhere.
func Author(p chat.Person) git.Author {
	name, _, _ := strings.Cut(string(p), "@")
	if name == "" {
		name = "samnode"
	}
	email := string(p)
	if !strings.Contains(email, "@") {
		email = name + "@samnode.invalid"
	}
	return git.Author{Name: name, Email: email}
}

// spaceEnv is what every process of the workspace gets: the ways to git and to
// the web.
func (n *run) spaceEnv() []string {
	proxy := "http://" + egressAddr
	env := append(n.space.Env(),
		"HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy, "http_proxy="+proxy, "https_proxy="+proxy,
		"NO_PROXY=localhost,127.0.0.1,::1", "no_proxy=localhost,127.0.0.1,::1",
		"SAMNODE_TASK="+string(n.id), "SAMNODE_BRANCH="+n.task.Branch)
	return append(env, n.devEnv...)
}

// prepare makes the workspace. Each step can be repeated: what an earlier try
// left is used or replaced. Steps that do not need each other overlap.
func (n *run) prepare() error {
	var usual <-chan error
	err := n.step(chat.StepMirror, func(ctx context.Context, progress func(string)) (string, error) {
		usual = n.startUsual()
		return n.mirror(ctx, progress)
	})
	if err != nil {
		if usual != nil {
			<-usual // its end belongs to this run; why the mirror failed says it all
		}
		return err
	}
	p, err := n.container(usual)
	if err == nil {
		err = n.step(chat.StepClone, n.clone)
	}
	if err == nil && p.dev != nil && len(p.dev.Hooks) > 0 {
		err = n.step(chat.StepHooks, func(ctx context.Context, progress func(string)) (string, error) {
			return n.hooks(ctx, p.dev.Hooks, progress)
		})
	}
	return err
}

// startUsual starts the container of the base image beside the fetch, where
// the mirror as it is has no dev container: few fetches bring one. It sends
// how that ended, or errUnusual when nothing was started.
func (n *run) startUsual() <-chan error {
	done := make(chan error, 1)
	space := n.space // the fetch may settle the base meanwhile
	go func() {
		rev := n.rev(n.ctx, space)
		_, err := n.repo.Tip(n.ctx, rev)
		has := false
		if err == nil {
			has, err = n.hasDevcontainer(n.ctx, rev)
		}
		if err != nil || has {
			done <- errUnusual // a first fetch, or a build: both wait for the mirror
			return
		}
		p, err := n.base()
		if err == nil {
			err = n.up(p)
		}
		done <- err
	}()
	return done
}

var errUnusual = errors.New("the container waits for the mirror")

// container brings the workspace's container up: the usual one that was begun
// beside the fetch, unless the fetch brought a dev container.
func (n *run) container(usual <-chan error) (plan, error) {
	rev := n.rev(n.ctx, n.space)
	has, err := n.hasDevcontainer(n.ctx, rev)
	began := <-usual
	if err != nil {
		return plan{}, failAt(chat.StepImage, err)
	}
	if !has && !errors.Is(began, errUnusual) {
		return plan{image: n.r.c.Image}, began
	}
	if !errors.Is(began, errUnusual) {
		n.mu.Lock()
		n.shim = nil
		n.mu.Unlock()
		if err := n.r.c.Engine.Remove(n.ctx, n.name); err != nil {
			return plan{}, failAt(chat.StepContainer, err)
		}
	}
	var p plan
	if !has {
		p, err = n.base()
	} else {
		err = n.step(chat.StepImage, func(ctx context.Context, progress func(string)) (note string, err error) {
			p, note, err = n.buildDevcontainer(ctx, rev, progress)
			return note, err
		})
	}
	if err == nil {
		err = n.up(p)
	}
	return p, err
}

// base is the step that finds the base image.
func (n *run) base() (plan, error) {
	return plan{image: n.r.c.Image}, n.step(chat.StepImage, func(ctx context.Context, progress func(string)) (string, error) {
		return "base image", n.haveBaseImage(ctx, progress)
	})
}

// up is the step that starts the container.
func (n *run) up(p plan) error {
	return n.step(chat.StepContainer, func(ctx context.Context, _ func(string)) (string, error) {
		return "", n.startContainer(ctx, p.image)
	})
}

// mirror brings the machine's mirror up to date and settles the base branch.
func (n *run) mirror(ctx context.Context, progress func(string)) (string, error) {
	if err := n.repo.Fetch(ctx, n.forge.Auth, progress); err != nil {
		return "", err
	}
	base := n.task.Base
	if base == "" {
		base = n.project.Branch
	}
	if base == "" {
		var err error
		if base, err = n.repo.DefaultBranch(ctx); err != nil {
			return "", err
		}
	}
	tip, err := n.repo.Tip(ctx, base)
	switch {
	case errors.Is(err, git.ErrEmpty):
		tip = "the repository is empty"
	case err != nil:
		return "", err
	}
	n.task.Base, n.space.Base = base, base
	if err := n.do(chat.Op{Session: &chat.Session{Task: n.id, Token: n.token, Base: base}}); err != nil {
		return "", fmt.Errorf("recording the base branch: %w", err)
	}
	return fmt.Sprintf("%s at %.12s", base, tip), nil
}

// rev is where the task's files come from: its branch once there is one, else
// the base as far as it is known.
func (n *run) rev(ctx context.Context, space git.Workspace) string {
	if _, err := n.repo.Tip(ctx, space.Branch); err == nil {
		return space.Branch
	}
	if base := cmp.Or(space.Base, n.project.Branch); base != "" {
		return base
	}
	base, err := n.repo.DefaultBranch(ctx)
	if err != nil {
		return "" // no mirror yet
	}
	return base
}

func (n *run) haveBaseImage(ctx context.Context, progress func(string)) error {
	return n.r.haveBaseImage(ctx, progress)
}

func (n *run) hasDevcontainer(ctx context.Context, rev string) (bool, error) {
	for _, path := range []string{".devcontainer", ".devcontainer.json"} {
		_, err := n.repo.Files(ctx, rev, path)
		if err == nil {
			return true, nil
		}
		if _, err = n.repo.File(ctx, rev, path, 1); err == nil {
			return true, nil
		}
		if !errors.Is(err, git.ErrNotFound) && !errors.Is(err, git.ErrEmpty) && !errors.Is(err, git.ErrNoBranch) {
			return false, fmt.Errorf("looking for a dev container: %w", err)
		}
	}
	return false, nil
}

func (n *run) buildDevcontainer(ctx context.Context, rev string, progress func(string)) (plan, string, error) {
	checkout := filepath.Join(n.dir, "checkout")
	if err := errors.Join(os.RemoveAll(checkout), os.MkdirAll(checkout, 0o700)); err != nil {
		return plan{}, "", fmt.Errorf("making a folder for the build: %w", err)
	}
	defer os.RemoveAll(checkout)
	if err := n.repo.Export(ctx, rev, checkout); err != nil {
		return plan{}, "", err
	}
	found, err := devcontainer.Find(checkout)
	if err != nil {
		return plan{}, "", err
	}
	if len(found) == 0 {
		return plan{image: n.r.c.Image}, "base image", nil
	}
	defer n.closeBuildGate(ctx) // also what a try left that failed half-way
	if err := n.devTools(ctx, checkout, found[0].Path, progress); err != nil {
		return plan{}, "", err
	}
	b, err := devcontainer.New(devcontainer.Config{
		Engine: n.r.c.Engine, Dir: n.r.c.Tools, Logger: n.log,
		Network: "container:" + n.gateName(), Proxy: "http://" + egressAddr, Ready: n.openBuildGate,
	})
	if err != nil {
		return plan{}, "", err
	}
	res, err := b.Build(ctx, devcontainer.Request{Checkout: checkout, Config: found[0].Path, Folder: n.space.Dir, ID: "samnode-" + strings.ToLower(string(n.id))}, progress)
	for _, r := range res.Refused {
		n.note(ctx, "warn", fmt.Sprintf("%s in %s was left out: %s. The rest was used.", r.What, r.From, r.Why), "")
	}
	if err != nil {
		return plan{}, "", err
	}
	if !n.agent.BuiltIn() {
		err := n.r.c.Engine.Glibc(ctx, res.Image)
		if errors.Is(err, docker.ErrNoGlibc) {
			err = fmt.Errorf("%s: %w", found[0].Path, docker.ErrNoGlibc) // the image's name is ours and says nothing
		}
		if err != nil {
			return plan{}, "", err
		}
	}
	n.devEnv = append(append([]string{}, res.Env...), res.RemoteEnv...)
	n.env = n.spaceEnv()
	note := "dev container " + found[0].Path
	if res.Cached {
		note += ", cached"
	}
	return plan{image: res.Image, dev: &res}, note, nil
}

// devTools installs the reference CLI, once per machine, when a configuration
// has features.
func (n *run) devTools(ctx context.Context, checkout, config string, progress func(string)) error {
	d, err := devcontainer.Read(checkout, config)
	if err != nil || len(d.Features) == 0 || devcontainer.Installed(n.r.c.Tools) {
		return err
	}
	progress("Installing the dev container CLI, once on this machine")
	return devcontainer.Install(ctx, n.r.c.Tools, progress)
}

// clone brings the volume to the task's branch.
func (n *run) clone(ctx context.Context, progress func(string)) (string, error) {
	out, err := n.script(ctx, n.space.Prepare(), progress)
	if err != nil {
		return "", err
	}
	p, err := git.ParsePrepared(out)
	if err != nil {
		return "", err
	}
	for _, note := range p.Notes {
		n.note(ctx, "info", note, "")
	}
	return fmt.Sprintf("%s, %s", n.space.Branch, p.State), nil
}

// script runs a step of git's in the workspace and returns what it printed.
func (n *run) script(ctx context.Context, s git.Step, progress func(string)) (string, error) {
	c, err := n.await(ctx)
	if err != nil {
		return "", err
	}
	return scriptOn(ctx, c, n.space, s, progress)
}

func scriptOn(ctx context.Context, c *shim.Client, space git.Workspace, s git.Step, progress func(string)) (string, error) {
	var out bytes.Buffer
	errs := &lineWriter{fn: progress}
	_, err := c.Exec(ctx, shim.ExecSpec{
		Args: s.Argv, Env: append(append([]string{"HOME=" + inHome}, space.Env()...), s.Env...), Dir: inWorkspaces,
		Stdout: &out, Stderr: errs,
	})
	errs.flush()
	if err != nil {
		return "", fmt.Errorf("running git in the workspace: %w", err)
	}
	return out.String(), nil // the exit code says nothing that its lines do not
}
