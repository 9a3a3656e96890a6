package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	stdpath "path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace/files"
)

func (c *cli) filesPut() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use: "put TASK LOCAL... PATH", Short: "Copy files, and folders with all that is in them, into the workspace", Args: args(cobra.MinimumNArgs(3)),
		Long: "Copy files, and folders with all that is in them, into the workspace: into PATH when that is a folder, or ends in a slash, or\n" +
			"there are several; else by that name. A LOCAL of - is standard input. Files that are there are replaced, each at once and whole.",
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "refuse to replace a file that is there")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		task, local, to := a[0], a[1:len(a)-1], a[len(a)-1]
		into := to == "." || strings.HasSuffix(to, "/") || len(local) > 1 || c.isFolder(cmd.Context(), task, to)
		p := &putter{c: c, task: task, keep: keep}
		for _, l := range local {
			dest := strings.TrimSuffix(to, "/")
			if into {
				if l == "-" {
					return &exitError{exitUsage, "standard input needs the name of a file to go to"}
				}
				dest = stdpath.Join(dest, filepath.Base(filepath.Clean(l)))
			}
			if err := p.put(cmd.Context(), l, dest); err != nil {
				return err
			}
		}
		return c.print(map[string]any{"files": p.files, "bytes": p.bytes}, func(io.Writer) {})
	}
	return cmd
}

func (c *cli) isFolder(ctx context.Context, task, p string) bool {
	var v listedFile
	err := c.client().call(ctx, http.MethodGet, filesPath(task, p, url.Values{"list": {"true"}, "limit": {"1"}, "at": {api.Now}}), nil, &v)
	return err == nil && v.Kind == "folder" // else what is wrong shows when it is written
}

// putter copies files into a workspace.
type putter struct {
	c     *cli
	task  string
	keep  bool
	files int
	bytes int64
}

func (p *putter) put(ctx context.Context, local, dest string) error {
	if local == "-" {
		return p.file(ctx, io.NopCloser(p.c.in), -1, 0, dest)
	}
	info, err := os.Stat(local)
	if err != nil {
		return fmt.Errorf("reading %s: %w", files.Quote(local), err)
	}
	if !info.IsDir() {
		return p.open(ctx, local, info, dest)
	}
	return filepath.WalkDir(local, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("reading %s: %w", files.Quote(name), err)
		}
		rel, err := filepath.Rel(local, name)
		if err != nil {
			return err
		}
		to := stdpath.Join(dest, filepath.ToSlash(rel))
		switch {
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.IsDir():
			return p.folder(ctx, to)
		case !d.Type().IsRegular():
			fmt.Fprintf(p.c.err, "samnode: left out: %s is no file\n", files.Quote(name))
			return nil
		}
		if info, err = d.Info(); err != nil {
			return err
		}
		return p.open(ctx, name, info, to)
	})
}

// folder makes a folder, or finds it there.
func (p *putter) folder(ctx context.Context, to string) error {
	if to == "." || p.c.isFolder(ctx, p.task, to) {
		return nil
	}
	return p.c.client().call(ctx, http.MethodPost, filesPath(p.task, to, url.Values{"do": {"folder"}}), nil, nil)
}

func (p *putter) open(ctx context.Context, local string, info fs.FileInfo, to string) error {
	if !info.Mode().IsRegular() {
		return &exitError{exitUsage, files.Quote(local) + " is no file and no folder"}
	}
	in, err := os.Open(local)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	defer in.Close()
	return p.file(ctx, in, info.Size(), info.Mode().Perm()&0o111, to)
}

func (p *putter) file(ctx context.Context, in io.ReadCloser, size int64, exec fs.FileMode, to string) error {
	q := url.Values{}
	if p.keep {
		q.Set("new", "true")
	}
	if exec != 0 {
		q.Set("mode", "755")
	}
	counted := &counting{ReadCloser: in}
	if err := p.c.client().upload(ctx, filesPath(p.task, to, q), counted, size); err != nil {
		return err
	}
	p.files, p.bytes = p.files+1, p.bytes+counted.n
	return nil
}

type counting struct {
	io.ReadCloser
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// upload puts a body of a size (negative: unknown), for as long as it takes. A
// refusal comes before anything is sent.
func (c *client) upload(ctx context.Context, path string, body io.Reader, size int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+path, body)
	if err != nil {
		return &exitError{exitUsage, "--api is not the URL of a node: " + err.Error()}
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w at %s (is `samnode dev` running?): %w", errUnreachable, c.base, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return refusal(resp)
	}
	return nil
}
