package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/shim"
)

// live returns the shim of a task's workspace on this node, and its folder.
func (r *Runner) live(task chat.TaskID) (*run, *shim.Client, error) {
	n := r.runs.get(task)
	if n == nil {
		return nil, nil, fmt.Errorf("%w on %s; it starts with the next message", ErrNoWorkspace, r.c.Node)
	}
	c, err := n.client()
	return n, c, err
}

// Running lists the tasks whose leases this node works on, in order. What it
// only clears up after a lease that ended is not among them.
func (r *Runner) Running() []chat.TaskID {
	r.runs.mu.Lock()
	defer r.runs.mu.Unlock()
	var list []chat.TaskID
	for id, n := range r.runs.byTask {
		if len(n.boxes) == 0 {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

// Healthy says whether this node can start a workspace now: its engine
// answers, has the base image, and nothing of an ended workspace is left that
// nobody clears. The error is a sentence that says what to do.
func (r *Runner) Healthy(ctx context.Context) error {
	has, _, err := r.c.Engine.HasImage(ctx, r.c.Image)
	if err == nil && !has {
		err = fmt.Errorf("the base image %s is missing; scripts/image builds it", r.c.Image)
	}
	if err != nil {
		return err
	}
	found, err := r.c.Engine.List(ctx, nil)
	if err != nil {
		return err
	}
	for _, st := range r.ownerless(found) {
		return fmt.Errorf("the container %s of a workspace that ended is still there, and is being removed (by hand: docker rm -f %s)", st.Name, st.Name)
	}
	return nil
}

// Ports lists what listens in the task's workspace.
func (r *Runner) Ports(ctx context.Context, task chat.TaskID) ([]shim.Port, error) {
	_, c, err := r.live(task)
	if err != nil {
		return nil, err
	}
	return c.Ports(ctx)
}

// Output reads the whole output of a tool call that was cut for the log, from
// the journal of the workspace that made it.
func (r *Runner) Output(ctx context.Context, task chat.TaskID, message string) (io.ReadCloser, error) {
	m, err := r.c.Board.Message(ctx, task, message)
	if err != nil {
		return nil, err
	}
	file, err := r.journal(chat.Task{ID: task, Workspace: m.Workspace})
	if err != nil {
		return nil, err
	}
	records := func(yield func(acp.Record, error) bool) {
		for rec, err := range shim.ReadJournal(file, m.Source) {
			if !yield(toRecord(rec), err) {
				return
			}
		}
	}
	text, found, err := acp.Output(records, m.Source)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	if !found {
		return nil, fmt.Errorf("the output is not in the journal: %w", chat.ErrNotFound)
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

// journal is the journal's file of a task's workspace, when it is here.
func (r *Runner) journal(t chat.Task) (string, error) {
	file := filepath.Join(r.dir(t), "shim", "journal")
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("the journal of workspace %d is not on %s any more: %w", t.Workspace, r.c.Node, chat.ErrNotFound)
	}
	return file, nil
}

// Journal reads the raw journal of the task's current or last workspace, one
// record a line, as long as it is on this machine.
func (r *Runner) Journal(ctx context.Context, task chat.TaskID) (io.ReadCloser, error) {
	t, err := r.c.Board.Task(string(task))
	if err != nil {
		return nil, err
	}
	file, err := r.journal(t)
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(writeJournal(ctx, pw, file)) }()
	return pr, nil
}

func writeJournal(ctx context.Context, w io.Writer, file string) error {
	for rec, err := range shim.ReadJournal(file, 1) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%6d %s %-4s %s\n", rec.Seq, rec.At.Format("15:04:05.000"), rec.Dir, strings.ToValidUTF8(string(rec.Data), "�")); err != nil {
			return err
		}
	}
	return nil
}

// Forget removes what outlives a task's workspaces on this machine: volumes,
// journals. It is refused while one is alive.
func (r *Runner) Forget(ctx context.Context, t chat.Task) error {
	if r.runs.get(t.ID) != nil {
		return fmt.Errorf("a workspace of this task is alive: %w", chat.ErrRefused)
	}
	n := &run{r: r, id: t.ID}
	errs := []error{
		r.c.Engine.RemoveVolume(ctx, n.volume()),
		r.c.Engine.RemoveVolume(ctx, n.home()),
	}
	for i := range t.Workspace {
		t.Workspace = i + 1
		errs = append(errs, os.RemoveAll(r.dir(t)))
	}
	return errors.Join(errs...)
}
