package workspace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/docker"
	"github.com/samnode/samnode/workspace/git"
	"github.com/samnode/samnode/workspace/shim"
)

// teardown removes the container. The volumes stay for the next workspace on
// this node, and what the branch lacks of them is said: the next one may be
// elsewhere. It is said before the container goes, for a container that is
// found at the next start makes the node look again.
func (n *run) teardown() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.node), teardownFor)
	defer cancel()
	var saved git.Saved
	if c := n.missed(); c != nil {
		var err error
		if saved, err = n.saveWork(ctx, c); err != nil {
			n.log.Warn("committing work in progress before the end", "err", err)
		}
	}
	if err := n.r.c.Engine.Stop(ctx, n.name, 5*time.Second); err != nil {
		n.log.Warn("stopping the container", "err", err)
	}
	if !n.sayKept(saved) {
		return // the node stops; its next start finds the container
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(n.node), teardownFor)
	defer cancel()
	if err := n.r.c.Engine.Remove(ctx, n.name); err != nil {
		n.log.Warn("removing the container; the next start of the node tries again", "err", err)
	}
}

const teardownFor = time.Minute

// saveWork ends the agent and commits what is there before the workspace
// ends. The lease is over, so nothing is pushed: the commit waits on the
// volume.
func (n *run) saveWork(ctx context.Context, c *shim.Client) (git.Saved, error) {
	space, ok := n.workingCopy()
	if !ok {
		return git.Saved{}, nil
	}
	if err := c.StopAgent(ctx, 2*time.Second); err != nil {
		n.log.Warn("ending the agent", "err", err)
	}
	known, err := n.repo.Tip(ctx, space.Branch)
	if err != nil && !errors.Is(err, git.ErrNoBranch) && !errors.Is(err, git.ErrEmpty) {
		n.log.Warn("looking for the branch in the mirror", "err", err) // what the workspace knows of it counts then
	}
	n.saving.Lock()
	defer n.saving.Unlock()
	return n.gitOn(ctx, c, space, space.Keep(n.saveMessage(), known))
}

// sayKept says in the chat what the branch lacks, if it lacks anything. It
// needs no lease: there is none any more. False: the node stops, and it is not
// said.
func (n *run) sayKept(saved git.Saved) bool {
	if saved.Files == 0 || n.token == 0 {
		return true
	}
	files := fmt.Sprintf("%d files", saved.Files)
	if saved.Files == 1 {
		files = "1 file"
	}
	text := fmt.Sprintf("%s kept %s of work in progress of workspace %d on its volume (commit %.10s), which the branch does not have. The next workspace of this task on %s goes on with it; one on another node begins without.",
		n.r.c.Node, files, n.number, saved.Work, n.r.c.Node)
	kept := chat.Kept{Task: n.id, Token: n.token, Workspace: n.number, Text: text, Head: saved.Work}
	err := n.r.persist(n.node, n.log, chat.Op{Kept: &kept})
	if err != nil {
		n.log.Warn("saying what is kept", "text", text, "err", err)
	}
	return err == nil || isAnswer(err)
}

// leftovers finds the containers of leases that this node does not hold any
// more: it was away when they ended. What a container has is the volume's of
// its task, so they come as runs, which the task's next one here waits for.
func (r *Runner) leftovers(ctx context.Context) ([]*run, error) {
	found, err := r.c.Engine.List(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	found = r.ownerless(found)
	left := map[chat.TaskID]*run{}
	var list []*run
	for _, st := range found {
		id := chat.TaskID(st.Labels[docker.LabelTask])
		t, err := ask(ctx, r.c.Logger, "reading the task of a container", func() (chat.Task, error) { return r.c.Board.Task(string(id)) })
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil && t.Lease != nil && t.Lease.Node == r.c.Node && strconv.Itoa(t.Workspace) == st.Labels[docker.LabelWorkspace] {
			continue
		}
		if left[id] == nil {
			t.ID = id // it may be unknown
			left[id] = r.newRun(ctx, t, 0)
			list = append(list, left[id])
		}
		left[id].boxes = append(left[id].boxes, st)
	}
	return list, nil
}

// clear ends what earlier leases left.
func (n *run) clear() {
	defer n.cancel(nil)
	for _, st := range n.boxes {
		if _, err := n.r.c.Engine.Inspect(n.node, st.ID); errors.Is(err, docker.ErrNotFound) {
			continue // its run was about to end when it was found
		}
		if err := n.clearOne(st); err != nil && n.node.Err() == nil {
			n.log.Warn("clearing what an earlier lease left; it is tried again", "container", st.Name, "err", err)
		}
	}
}

func (n *run) clearOne(st docker.State) error {
	n.token, _ = strconv.ParseUint(st.Labels[docker.LabelToken], 10, 64) // an older samnode's has none: nothing is said
	if ours, err := n.asksWhetherOurs(); ours || err != nil {
		return err
	}
	number, err := strconv.Atoi(st.Labels[docker.LabelWorkspace])
	if err != nil || strings.HasSuffix(st.Name, buildSuffix) || n.task.Project == "" {
		return n.r.c.Engine.Remove(n.node, st.ID) // it has nothing of anybody's
	}
	n.name, n.number, n.dir = st.Name, number, n.r.dir(chat.Task{ID: n.id, Workspace: number})
	n.log = n.r.c.Logger.With("task", n.id, "workspace", number, "token", n.token)
	n.log.Info("the lease ended while this node was away", "container", st.Name)
	if err := n.reach(st); err != nil {
		n.log.Warn("the workspace of a lease that ended does not answer; its files stay on the volume as they are", "err", err)
	}
	n.teardown()
	n.ended = n.token
	return nil
}

// asksWhetherOurs asks the log: what this node knew of the mesh at its start
// may be old. Then it knows the task as it is.
func (n *run) asksWhetherOurs() (bool, error) {
	if n.token == 0 {
		return false, nil
	}
	err := n.r.persist(n.node, n.log, chat.Op{Note: &chat.Note{Task: n.id, Token: n.token}})
	if err == nil || !isAnswer(err) {
		return err == nil, err
	}
	t, err := ask(n.node, n.log, "reading the task of a container", func() (chat.Task, error) { return n.r.c.Board.Task(string(n.id)) })
	if err == nil {
		n.task = t
	}
	return false, context.Cause(n.node)
}

// reach finds the workspace's shim, in a container that may have been stopped.
func (n *run) reach(st docker.State) error {
	ctx, cancel := context.WithTimeout(n.node, 30*time.Second)
	defer cancel()
	if !st.Running {
		if err := n.r.c.Engine.Start(ctx, st.ID); err != nil {
			return err
		}
	}
	c, err := n.waitShim(ctx, st.Name, "shim")
	if err != nil {
		return err
	}
	if err := n.lookSpace(ctx); err != nil {
		return err
	}
	n.hasWorkingCopy()
	n.found(c)
	return nil
}

// buildSuffix ends the name of the container of a build's network.
const buildSuffix = "-build"
