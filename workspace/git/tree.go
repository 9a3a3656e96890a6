package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Entry is one thing in a folder of the repository.
type Entry struct {
	Name string // bytes as git has them; may not be valid UTF-8
	Path string // from the root
	Kind string // file, folder, link, submodule
	Mode string // "100644", …
	Blob string // object id
	Size int64  // of files and links
}

// Content is a file, or the begin of it.
type Content struct {
	Entry
	Data      []byte
	Binary    bool // has a zero byte near its begin
	Truncated bool
}

// Files lists a folder ("" is the root) of a branch or commit, folders first.
func (r *Repo) Files(ctx context.Context, rev, folder string) ([]Entry, error) {
	folder, err := cleanPath(folder)
	if err != nil {
		return nil, err
	}
	id, err := r.resolve(ctx, rev)
	if err != nil {
		return nil, err
	}
	res, err := r.run(ctx, "listing files", command{args: []string{"ls-tree", "-z", "-l", "--full-tree", id + ":" + folder}})
	if err != nil && res.code > 0 {
		return nil, &Error{Kind: ErrNotFound, Text: fmt.Sprintf("there is no folder %q in %s", folder, rev), Out: lastLines(res.stderr, 3)}
	} else if err != nil {
		return nil, err
	}
	var folders, files []Entry
	for rec := range bytes.SplitSeq(res.out, []byte{0}) {
		e, ok := parseEntry(string(rec))
		if !ok {
			continue
		}
		e.Path = e.Name
		if folder != "" {
			e.Path = folder + "/" + e.Name
		}
		if e.Kind == "folder" {
			folders = append(folders, e)
		} else {
			files = append(files, e)
		}
	}
	return append(folders, files...), nil
}

// parseEntry reads "mode type object size<TAB>name".
func parseEntry(rec string) (Entry, bool) {
	meta, name, ok := strings.Cut(rec, "\t")
	f := strings.Fields(meta)
	if !ok || len(f) != 4 {
		return Entry{}, false
	}
	e := Entry{Name: name, Mode: f[0], Blob: f[2], Kind: "file"}
	e.Size, _ = strconv.ParseInt(f[3], 10, 64)
	switch f[0] {
	case "040000":
		e.Kind = "folder"
	case "120000":
		e.Kind = "link"
	case "160000":
		e.Kind = "submodule"
	}
	return e, true
}

// File reads a file of a branch or commit, at most limit bytes (0: 1 MiB). A
// link's content is where it points to; a submodule has none.
func (r *Repo) File(ctx context.Context, rev, file string, limit int64) (Content, error) {
	file, err := cleanPath(file)
	if err != nil {
		return Content{}, err
	}
	if limit <= 0 {
		limit = 1 << 20
	}
	id, err := r.resolve(ctx, rev)
	if err != nil {
		return Content{}, err
	}
	res, err := r.run(ctx, "finding a file", command{args: []string{"ls-tree", "-z", "-l", "--full-tree", id, "--", file}})
	if err != nil {
		return Content{}, err
	}
	e, ok := parseEntry(strings.TrimSuffix(string(res.out), "\x00"))
	if !ok || file == "" || e.Kind == "folder" {
		return Content{}, &Error{Kind: ErrNotFound, Text: fmt.Sprintf("there is no file %q in %s", file, rev)}
	}
	e.Path, e.Name = file, file[strings.LastIndexByte(file, '/')+1:]
	c := Content{Entry: e}
	if e.Kind == "submodule" {
		return c, nil
	}
	if c.Data, err = r.blob(ctx, e.Blob, limit); err != nil {
		return Content{}, err
	}
	c.Truncated = e.Size > int64(len(c.Data))
	c.Binary = bytes.IndexByte(c.Data[:min(len(c.Data), 8000)], 0) >= 0
	return c, nil
}

// blob reads the begin of a blob.
func (r *Repo) blob(ctx context.Context, id string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &capped{limit: limit, full: func() { cancel(errFull) }}
	if _, err := r.stream(ctx, "reading a file", command{args: []string{"cat-file", "blob", id}}, w); err != nil && !errors.Is(context.Cause(ctx), errFull) {
		return nil, err
	}
	return w.buf, nil
}

// capped keeps the first bytes and says when it has them.
type capped struct {
	buf   []byte
	limit int64
	full  func()
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.limit - int64(len(c.buf)); int64(len(p)) > room {
		c.buf = append(c.buf, p[:room]...)
		c.full()
		return len(p), nil
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}
