package main

import (
	"context"
	"errors"
	"io"
	stdpath "path"
	"slices"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace/git"
)

// commit is what a task's branch has, without a workspace.
type commit struct {
	repo       *git.Repo
	base, head string
	as         string
	opts       git.DiffOptions
}

func (n *node) lastCommit(ctx context.Context, t chat.Task) (commit, error) {
	r, base, head, err := n.branchOf(ctx, t)
	if err != nil {
		return commit{}, err
	}
	c := commit{repo: r, base: base, head: head, as: "as of commit " + head[:min(12, len(head))]}
	if head == "" {
		c.head, c.as = base, "as of "+base+", which the task begins from"
	}
	if t.Change.Merged != "" && t.Change.Base != "" {
		c.base, c.opts.Direct = t.Change.Base, true // the merge base has moved onto the branch itself
	}
	return c, nil
}

// committed is what the last commit has at a path.
func (n *node) committed(ctx context.Context, t chat.Task, q api.FileQuery) (api.FileView, error) {
	c, err := n.lastCommit(ctx, t)
	if err != nil {
		return api.FileView{}, err
	}
	v := api.FileView{At: api.AtCommit, As: c.as}
	entries, err := c.repo.Files(ctx, c.head, q.Path)
	if err != nil {
		return v, c.file(ctx, &v, q)
	}
	v.Kind, v.Name, v.Total = "folder", stdpath.Base(q.Path), len(entries)
	limit := q.Limit
	if limit <= 0 {
		limit = len(entries)
	}
	for _, e := range entries[:min(limit, len(entries))] {
		v.Entries = append(v.Entries, entryInfo(e))
	}
	changed, err := c.repo.Changed(ctx, c.base, c.head, c.opts)
	if err != nil {
		return v, err
	}
	names := map[string]git.FileStatus{}
	for _, d := range changed {
		names[d.Path] = d.Status
		if d.Status == git.Renamed {
			names[d.OldPath], names[d.Path] = git.Deleted, git.Added
		}
	}
	mark(&v, q.Path, names)
	return v, nil
}

// file opens a file of the commit.
func (c commit) file(ctx context.Context, v *api.FileView, q api.FileQuery) error {
	e, body, err := c.repo.Open(ctx, c.head, q.Path)
	if err != nil {
		return fileErr(err)
	}
	v.FileInfo = entryInfo(e)
	if v.Kind != "file" {
		if err := body.Close(); err != nil || q.Length == 0 {
			return err
		}
		return plainly(chat.ErrRefused, "%q is a %s, and no file", q.Path, v.Kind)
	}
	if q.From < 0 || q.From > e.Size {
		body.Close() // nothing of it is wanted
		return plainly(chat.ErrInvalid, "%q has %d bytes, and no byte %d", q.Path, e.Size, q.From)
	}
	v.Length = e.Size - q.From
	if q.Length >= 0 {
		v.Length = min(v.Length, q.Length)
	}
	if v.Length == 0 && q.Length == 0 {
		return body.Close()
	}
	if _, err := io.CopyN(io.Discard, body, q.From); err != nil {
		return errors.Join(err, body.Close())
	}
	v.Body = &running{io.LimitReader(body, v.Length), body.Close}
	return nil
}

func entryInfo(e git.Entry) api.FileInfo {
	i := api.FileInfo{Name: e.Name, Kind: e.Kind, Size: e.Size, Mode: 0o644}
	switch {
	case e.Kind != "file":
		i.Mode, i.Size = 0, 0
	case e.Mode == "100755":
		i.Mode = 0o755
	}
	return i
}

func (n *node) committedArchive(ctx context.Context, t chat.Task, folder string) (string, io.ReadCloser, error) {
	c, err := n.lastCommit(ctx, t)
	if err != nil {
		return "", nil, err
	}
	p, err := n.room.Project(string(t.Project))
	if err != nil {
		return "", nil, err
	}
	if _, err := c.repo.Files(ctx, c.head, folder); err != nil {
		return "", nil, fileErr(err)
	}
	top := p.Name
	if folder != "" {
		top = stdpath.Base(folder)
	}
	return top, piped(ctx, func(ctx context.Context, to io.Writer) error { return c.repo.Archive(ctx, c.head, folder, top, to) }), nil
}

func (n *node) committedPatch(ctx context.Context, t chat.Task, path string) (io.ReadCloser, error) {
	c, err := n.lastCommit(ctx, t)
	if err != nil {
		return nil, err
	}
	if path != "" {
		c.opts.Paths = []string{path}
	}
	patch, err := c.repo.Patch(ctx, c.base, c.head, c.opts)
	return patch, fileErr(err)
}

// mark says of a folder's entries how they differ from the base, and adds those
// that the base alone has. Names are from the root; those of folders that are
// new as a whole end in a slash.
func mark(v *api.FileView, folder string, names map[string]git.FileStatus) {
	at := map[string]int{}
	for i, e := range v.Entries {
		at[e.Name] = i
	}
	prefix := ""
	if folder != "" {
		prefix = folder + "/"
	}
	for name, status := range names {
		if strings.HasSuffix(name, "/") && strings.HasPrefix(prefix, name) { // all of it is new
			for i := range v.Entries {
				v.Entries[i].State = string(git.Added)
			}
			continue
		}
		rest, below := strings.CutPrefix(name, prefix)
		first, deeper, nested := strings.Cut(rest, "/")
		if !below || first == "" {
			continue
		}
		i, there := at[first]
		switch {
		case there && deeper != "":
			status = git.Modified // something in it
		case !there && status == git.Deleted && !v.More && v.Total == len(v.Entries):
			kind := "file"
			if nested {
				kind = "folder"
			}
			v.Entries = append(v.Entries, api.FileInfo{Name: first, Kind: kind})
			i, there = len(v.Entries)-1, true
			at[first], v.Total = i, v.Total+1
		}
		if there {
			v.Entries[i].State = string(status)
		}
	}
	slices.SortStableFunc(v.Entries, func(a, b api.FileInfo) int { return rankOf(a) - rankOf(b) })
}

func rankOf(e api.FileInfo) int {
	switch {
	case e.Name == ".git":
		return 2
	case e.Kind == "folder":
		return 0
	}
	return 1
}
