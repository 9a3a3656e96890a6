package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/git"
)

// openPages builds the pages and the API over everything below them.
func (n *node) openPages(context.Context) error {
	view := meshView{n}
	n.visits = newVisits(n.putVisits, n.c.Logger)
	n.files = newTaskFiles(n)
	pages, err := ui.New(ui.Config{
		Room:  n.room,
		WhoIs: n.whoIs, RoleIn: n.rolesIn,
		Diff:  n.diff,
		Files: n.files, FileKeeper: n.files,
		Merge: func(ctx context.Context, t chat.Task, method string, by chat.Author) error {
			_, err := n.merge(ctx, by, t, method)
			return err
		},
		OpenPull: n.openPull,
		Terminal: n.terminal, Terminals: n.terminals, CloseTerminal: n.closeTerminal, RenameTerminal: n.renameTerminal, HoldTerminal: n.holdTerminal,
		Ports: n.ports, WatchPorts: n.watchPorts, Previews: true, SSH: n.sshAddr,
		Recordings: shellsView{n}, NodeAlive: n.answersNow,
		Journal: n.journal, Output: n.output,
		Agents:      n.agentInfos,
		MachineCost: n.machineCost,
		CheckRepo:   n.checkRepo,
		SetSecret: func(ctx context.Context, scope chat.ProjectID, name, value string, by chat.Author) error {
			return n.setSecret(ctx, by, scope, name, value)
		},
		Mesh: view, NodeKeeper: view, Invitations: view, People: view, Backups: view, Pool: view, Unavailable: unavailable,
		API: n.api(), Dev: n.c.Gallery, Logger: n.c.Logger, Version: version, Node: chat.Node(n.c.Node),
	})
	n.pages = pages
	return err
}

func (n *node) api() http.Handler {
	view := meshView{n}
	return api.New(api.Config{
		Room: n.room, Node: n.c.Node, Version: version, Logger: n.c.Logger,
		Who:         n.apiCaller,
		NewID:       chat.NewID,
		SetSecret:   n.setSecret,
		CheckRepo:   func(_ context.Context, url string) error { return git.CheckURL(url) },
		Merge:       n.merge,
		Why:         n.why,
		Explain:     n.explain,
		MachineCost: n.machineCost,
		Ports:       n.apiPorts,
		Agents: func() []api.Agent {
			var list []api.Agent
			for _, a := range n.agentInfos() {
				list = append(list, api.Agent(a))
			}
			return list
		},
		Shells: shellsView{n}, NodeAlive: n.answersNow,
		Mesh: view, NodeKeeper: view, Invitations: view, People: view, Backups: view, Pool: view, Unavailable: unavailable,
		Files: n.files, FileKeeper: n.files,
	})
}

// unavailable tells the errors of a mesh that cannot write at the moment.
func unavailable(err error) bool {
	return errors.Is(err, errNoLeader) || errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrUnknownOutcome)
}

// why says why a queued task waits, or nothing. Any core node can: the
// scheduler's decision is a function of the state.
func (n *node) why(task chat.TaskID) string {
	d, _ := n.decision(task, false)
	return d.Reason
}

// explain is why with what the scheduler says of each machine.
func (n *node) explain(task chat.TaskID) (api.Explanation, bool) {
	d, waits := n.decision(task, true)
	out := api.Explanation{Reason: d.Reason, Node: d.Node, Machine: d.Machine, Buys: d.Buy, Again: d.Again}
	for _, c := range d.Candidates {
		out.Candidates = append(out.Candidates, api.Candidate(c))
	}
	for _, c := range d.Choices {
		out.Choices = append(out.Choices, choiceView(c))
	}
	return out, waits
}

// machineCost is what bought machines cost for a task until now.
func (n *node) machineCost(task chat.TaskID) float64 {
	pool, _ := n.pool.Pool()
	return euros(pool.TaskCost(string(task), n.room.Now()))
}

// quiet lists the nodes that have not been heard from lately. Only people are
// told by it; the leader decides by its own clock (Heart).
func (n *node) quiet(pool provision.Pool) []string {
	var names []string
	for _, m := range pool.Nodes {
		if time.Since(m.Beat) > n.c.LeaseFor {
			names = append(names, m.Name)
		}
	}
	return names
}

func (n *node) agentInfos() []ui.AgentInfo {
	var list []ui.AgentInfo
	for _, a := range agents.All() {
		info := ui.AgentInfo{Name: a.Name, Label: a.Title, Ready: true}
		if err := agents.Ready(n.c.Agents, a.Name); err != nil {
			info.Ready, info.Why = false, err.Error()
		} else if !n.signedIn(a) {
			info.Ready, info.Why = false, fmt.Sprintf("needs a key: samnode secret set %s", a.Secrets[0])
		}
		list = append(list, info)
	}
	return list
}

// signedIn says whether the mesh has a key for the agent; projects may have
// their own.
func (n *node) signedIn(a agents.Agent) bool {
	have := map[string]bool{}
	for _, s := range n.room.Secrets("") {
		have[s.Name] = true
	}
	for _, name := range a.Secrets {
		if have[name] {
			return true
		}
	}
	return len(a.Secrets) == 0
}

// checkRepo tries a repository before a project is made of it: any secrets
// that it needs are the mesh's.
func (n *node) checkRepo(ctx context.Context, url string) error {
	repo, forge, err := n.repo(chat.Project{Repo: url})
	if err != nil {
		return fmt.Errorf("%w: %w", chat.ErrInvalid, err)
	}
	if err := repo.Fetch(ctx, forge.Auth, nil); err != nil {
		return fmt.Errorf("%w: %w", chat.ErrInvalid, err)
	}
	return nil
}

func (n *node) repo(p chat.Project) (*git.Repo, workspace.Forge, error) {
	repo, err := n.mirrors.Repo(p.Repo)
	if err != nil {
		return nil, nil, err
	}
	forge, err := n.forge(p)
	return repo, forge, err
}

// branchOf returns the mirror, the base and the newest commit of a task's
// branch.
func (n *node) branchOf(ctx context.Context, t chat.Task) (r *git.Repo, base, head string, err error) {
	p, err := n.room.Project(string(t.Project))
	if err != nil {
		return nil, "", "", err
	}
	r, forge, err := n.repo(p)
	if err != nil {
		return nil, "", "", err
	}
	head, _, err = r.Head(ctx, t.Branch)
	if t.Change.Pushed && head != t.Change.Head {
		// Another node pushed it, or this one never had the repository.
		if err := r.Fetch(ctx, forge.Auth, nil); err != nil {
			return nil, "", "", fmt.Errorf("fetching the branch: %w", err)
		}
		head, _, err = r.Head(ctx, t.Branch)
	}
	if errors.Is(err, git.ErrNoBranch) || errors.Is(err, git.ErrEmpty) {
		return r, t.Base, "", nil
	}
	return r, t.Base, head, err
}

func (n *node) diff(ctx context.Context, t chat.Task, o ui.DiffOptions) (ui.Diff, error) {
	if o.Scope == "now" {
		return n.files.diff(ctx, t, o)
	}
	r, base, head, err := n.branchOf(ctx, t)
	if err != nil || head == "" {
		return ui.Diff{}, err
	}
	opts := git.DiffOptions{Context: o.Context, IgnoreSpace: o.IgnoreSpace, Paths: o.Paths()}
	if t.Change.Merged != "" && t.Change.Base != "" {
		base, opts.Direct = t.Change.Base, true // the merge base has moved onto the branch itself
	}
	if before := n.headBefore(ctx, t); o.Scope == "turn" && before != "" {
		base, opts.Direct = before, true
	}
	stat, err := r.Stat(ctx, base, head)
	if err != nil {
		return ui.Diff{}, err
	}
	files, err := r.Diff(ctx, base, head, opts)
	if err != nil {
		return ui.Diff{}, err
	}
	out := ui.Diff{Base: stat.Base, Head: head}
	if stat.Behind > 0 && t.Change.Merged == "" {
		out.Note = fmt.Sprintf("base is %d commits ahead", stat.Behind)
	}
	for _, f := range files {
		out.Files = append(out.Files, diffFile(f))
	}
	return out, nil
}

// headBefore is the branch's commit before the last turn that changed it, or
// nothing when that was the first.
func (n *node) headBefore(ctx context.Context, t chat.Task) string {
	messages, err := n.room.Messages(ctx, t.ID, 0, 500)
	if err != nil {
		return "" // the whole branch is shown then
	}
	var heads []string
	for _, m := range messages {
		if m.Kind == chat.KindDiff && m.Diff != nil {
			heads = append(heads, m.Diff.Head)
		}
	}
	if len(heads) < 2 {
		return ""
	}
	return heads[len(heads)-2]
}

func diffFile(f git.FileDiff) ui.DiffFile {
	v := ui.DiffFile{Path: f.Path, From: f.OldPath, Status: string(f.Status), Added: f.Added, Removed: f.Removed, Binary: f.Binary}
	if f.Status == git.Modified && f.OldMode != f.NewMode {
		v.Note = "mode " + f.OldMode + " → " + f.NewMode
	}
	if f.Truncated {
		v.Note = "too long to show whole"
	}
	for _, h := range f.Hunks {
		hunk := ui.Hunk{Old: h.OldStart, New: h.NewStart, Title: h.Section}
		for _, l := range h.Lines {
			hunk.Lines = append(hunk.Lines, ui.DiffLine{Op: l.Op, Text: l.Text})
		}
		v.Hunks = append(v.Hunks, hunk)
	}
	return v
}
