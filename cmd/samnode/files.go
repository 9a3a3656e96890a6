package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/files"
	"github.com/samnode/samnode/workspace/git"
	"github.com/samnode/samnode/workspace/shim"
)

// taskFiles are the files of tasks, as pages and API have them: of the live
// workspace, wherever it is, or of the last commit.
type taskFiles struct {
	n    *node
	gate *fileGate
}

var (
	_ api.Files      = taskFiles{}
	_ api.FileKeeper = taskFiles{}
)

func newTaskFiles(n *node) taskFiles {
	return taskFiles{n, &fileGate{open: map[chat.TaskID]int{}}}
}

// perTask is how many programs that read and write files run in one workspace
// at once: it has no more than 1,024 threads for all.
const perTask = 16

// fileGate counts them.
type fileGate struct {
	mu   sync.Mutex
	open map[chat.TaskID]int
}

func (g *fileGate) enter(task chat.TaskID) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[task] >= perTask {
		return nil, plainly(chat.ErrRefused, "%d files of this workspace are being read and written already: try again when one is done", perTask)
	}
	g.open[task]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.open[task]--; g.open[task] == 0 {
			delete(g.open, task)
		}
	}, nil
}

// spoken is an error with a sentence of its own.
type spoken struct {
	text string
	is   error
}

func (s *spoken) Error() string { return s.text }
func (s *spoken) Unwrap() error { return s.is }

func plainly(is error, format string, a ...any) error {
	return &spoken{fmt.Sprintf(format, a...), is}
}

// liveSpace is a workspace that can be reached.
type liveSpace struct {
	task  chat.Task
	in    workspace.Inside
	exec  files.Exec
	files *files.Client
}

const reachWithin = 5 * time.Second // who waits for a page has the last commit instead

// live reaches the task's workspace; nil: the last commit is to be shown, for
// which note says why. Who asked for now gets nothing else.
func (f taskFiles) live(ctx context.Context, t chat.Task, at string) (_ *liveSpace, note string, err error) {
	switch {
	case at == api.AtCommit:
		return nil, "", nil
	case t.Lease == nil && at == api.Now:
		return nil, "", plainly(chat.ErrRefused, "no workspace of this task is alive; a message starts one: samnode task say %s TEXT", t.ID)
	case t.Lease == nil:
		return nil, "No machine runs this task now: these are the files of its last commit.", nil
	}
	reach, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	in, err := f.n.inside(reach, t.ID)
	if err == nil {
		return f.space(t, in), "", nil
	}
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	if at == api.Now {
		return nil, "", plainly(chat.ErrRefused, "the workspace cannot be reached: %v", f.n.noWay(t, err))
	}
	f.n.c.Logger.Info("showing a task's last commit", "task", t.ID, "err", err)
	return nil, "The workspace cannot be reached at the moment: these are the files of the last commit.", nil
}

func (f taskFiles) space(t chat.Task, in workspace.Inside) *liveSpace {
	client := f.n.shimOf(t.ID)
	exec := func(ctx context.Context, s shim.ExecSpec) (int, error) {
		leave, err := f.gate.enter(t.ID)
		if err != nil {
			return -1, err
		}
		defer leave()
		return client.Exec(ctx, s)
	}
	return &liveSpace{t, in, exec, files.NewClient(exec, in.Dir, in.Binary, "file-server", "--root", in.Dir)}
}

// Look implements api.Files.
func (f taskFiles) Look(ctx context.Context, t chat.Task, q api.FileQuery) (api.FileView, error) {
	path, err := files.Clean(q.Path)
	if err != nil {
		return api.FileView{}, fileErr(err)
	}
	q.Path = path
	space, note, err := f.live(ctx, t, q.At)
	if err != nil {
		return api.FileView{}, err
	}
	var v api.FileView
	if space == nil {
		v, err = f.n.committed(ctx, t, q)
	} else {
		v, err = space.look(ctx, q)
	}
	v.Path = path
	if note != "" {
		v.Note = note
	}
	return v, err
}

func (s *liveSpace) look(ctx context.Context, q api.FileQuery) (api.FileView, error) {
	got, err := s.files.Look(ctx, q.Path, q.From, q.Length, q.Limit)
	if err != nil {
		return api.FileView{}, fileErr(err)
	}
	v := api.FileView{
		FileInfo: fileInfo(got.Info), At: api.Now, As: "as it is now, on " + string(s.task.Lease.Node),
		Total: got.Total, More: got.More, Length: got.Length,
	}
	if got.Body != nil {
		v.Body = got.Body
	}
	if got.Kind != files.Folder {
		return v, nil
	}
	for _, e := range got.Entries {
		v.Entries = append(v.Entries, fileInfo(e))
	}
	names, err := s.changed(ctx, q.Path)
	if err != nil {
		if ctx.Err() != nil {
			return v, context.Cause(ctx)
		}
		v.Note = "What differs from the base is not marked: " + err.Error()
	}
	mark(&v, q.Path, names)
	return v, nil
}

const (
	markWithin = 5 * time.Second
	maxNames   = 2 << 20 // bytes of what git lists; some 14,000 files
)

// changed lists what differs from the base at a path.
func (s *liveSpace) changed(ctx context.Context, path string) (map[string]git.FileStatus, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, markWithin, errors.New("git takes too long"))
	defer cancel()
	in := s.run(ctx, s.copy().Names(s.against(path)))
	defer in.Close()
	out, err := io.ReadAll(io.LimitReader(in, maxNames+1))
	if err != nil {
		return nil, err
	}
	if len(out) > maxNames {
		return nil, errors.New("there are too many changes")
	}
	return git.ParseNames(out)
}

func (s *liveSpace) copy() git.Workspace { return git.Workspace{Dir: s.in.Dir, Base: s.task.Base} }

// against is what the task's work is compared with: once it is merged, where it
// began, for the base has it now.
func (s *liveSpace) against(path string) git.Against {
	a := git.Against{Path: path}
	if s.task.Change.Merged != "" {
		a.From = s.task.Change.Base
	}
	return a
}

// run is the output of a step in the workspace. Its Close ends the step.
func (s *liveSpace) run(ctx context.Context, step git.Step) io.ReadCloser {
	return piped(ctx, func(ctx context.Context, to io.Writer) error {
		_, err := s.exec(ctx, shim.ExecSpec{Args: step.Argv, Env: append(append([]string{}, s.in.Env...), step.Env...), Dir: s.in.Dir, Stdout: to})
		return err // a step that fails says so in its output
	})
}

// piped is what write writes. Its Close ends write's context and waits for it.
func piped(ctx context.Context, write func(ctx context.Context, to io.Writer) error) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	from, to := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		to.CloseWithError(write(ctx, to))
	}()
	return &running{from, func() error { cancel(); err := from.Close(); <-done; return err }}
}

// running is a reader whose Close ends what writes.
type running struct {
	io.Reader
	end func() error
}

func (r *running) Close() error { return r.end() }

// Archive implements api.Files.
func (f taskFiles) Archive(ctx context.Context, t chat.Task, at, path string) (string, io.ReadCloser, error) {
	path, err := files.Clean(path)
	if err != nil {
		return "", nil, fileErr(err)
	}
	space, _, err := f.live(ctx, t, at)
	if err != nil {
		return "", nil, err
	}
	if space == nil {
		return f.n.committedArchive(ctx, t, path)
	}
	name, in, err := space.files.Archive(ctx, path)
	return name, in, fileErr(err)
}

// Patch implements api.Files.
func (f taskFiles) Patch(ctx context.Context, t chat.Task, at, path string) (io.ReadCloser, error) {
	path, err := files.Clean(path)
	if err != nil {
		return nil, fileErr(err)
	}
	space, _, err := f.live(ctx, t, at)
	if err != nil {
		return nil, err
	}
	if space == nil {
		return f.n.committedPatch(ctx, t, path)
	}
	in := space.run(ctx, space.copy().Patch(space.against(path)))
	patch, err := git.ReadPatch(in)
	if err != nil {
		in.Close() // it has said why
		return nil, fileErr(err)
	}
	return &running{patch, in.Close}, nil
}

// Write implements api.FileKeeper.
func (f taskFiles) Write(ctx context.Context, by chat.Person, t chat.Task, path string, from io.Reader, replace bool, mode uint32) (api.FileInfo, error) {
	space, _, err := f.live(ctx, t, api.Now)
	if err != nil {
		return api.FileInfo{}, err
	}
	i, err := space.files.Write(ctx, path, from, replace, mode)
	if err != nil {
		return api.FileInfo{}, fileErr(err)
	}
	f.visited(ctx, t.ID, by, "wrote "+files.Quote(path), i.Size)
	return fileInfo(i), nil
}

// Change implements api.FileKeeper.
func (f taskFiles) Change(ctx context.Context, by chat.Person, t chat.Task, c api.FileChange) (api.FileInfo, error) {
	space, _, err := f.live(ctx, t, api.Now)
	if err != nil {
		return api.FileInfo{}, err
	}
	var i files.Info
	what := ""
	switch c.Do {
	case "folder":
		what = "made the folder " + files.Quote(c.Path)
		i, err = space.files.Mkdir(ctx, c.Path)
	case "rename":
		what = "renamed " + files.Quote(c.Path) + " to " + files.Quote(c.To)
		i, err = space.files.Rename(ctx, c.Path, c.To)
	case "remove":
		what = "deleted " + files.Quote(c.Path)
		i, err = space.files.Remove(ctx, c.Path, c.All)
	default:
		err = fmt.Errorf("there is no change %q: %w", c.Do, chat.ErrInvalid)
	}
	if err != nil {
		return api.FileInfo{}, fileErr(err)
	}
	f.visited(ctx, t.ID, by, what, 0)
	return fileInfo(i), nil
}

// visited notes what a person changed in a workspace, and how many bytes it
// moved.
func (f taskFiles) visited(ctx context.Context, task chat.TaskID, person chat.Person, what string, bytes int64) {
	device := ""
	if c, ok := mesh.CallerOf(ctx); ok {
		device = deviceOf(c)
	}
	f.n.visits.enter(visit{guest{task, person, device}, chat.VisitFiles, what})(bytes)
}

// fileErr turns an error of files and git into one that pages and API know. Its
// text stays.
func fileErr(err error) error {
	for _, c := range []struct{ from, to error }{
		{files.ErrNotFound, chat.ErrNotFound},
		{files.ErrExists, chat.ErrRefused},
		{files.ErrRefused, chat.ErrRefused},
		{files.ErrInvalid, chat.ErrInvalid},
		{files.ErrFull, chat.ErrRefused},
		{git.ErrNotFound, chat.ErrNotFound},
		{git.ErrBroken, chat.ErrRefused},
	} {
		if errors.Is(err, c.from) {
			return plainly(c.to, "%v", err)
		}
	}
	return noWorkspace(err)
}

func fileInfo(i files.Info) api.FileInfo {
	return api.FileInfo{
		Name: string(i.Name), Kind: string(i.Kind), Size: i.Size, Mode: i.Mode, Changed: i.Changed, Link: string(i.Link), Leads: string(i.Leads),
	}
}

const diffWithin = time.Minute

// diff compares a live workspace with the task's base.
func (f taskFiles) diff(ctx context.Context, t chat.Task, o ui.DiffOptions) (ui.Diff, error) {
	path, err := files.Clean(o.Path)
	if err != nil {
		return ui.Diff{}, fileErr(err)
	}
	space, _, err := f.live(ctx, t, api.Now)
	if err != nil {
		return ui.Diff{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, diffWithin)
	defer cancel()
	opts := git.DiffOptions{Context: o.Context, IgnoreSpace: o.IgnoreSpace}
	in := space.run(ctx, space.copy().Changes(space.against(path), opts))
	defer in.Close()
	c, err := git.ReadChanges(in, opts)
	if err != nil {
		return ui.Diff{}, fileErr(err)
	}
	out := ui.Diff{Base: c.Base, Note: c.Note}
	for _, d := range c.Files {
		out.Files = append(out.Files, diffFile(d))
	}
	return out, nil
}
