package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	stdpath "path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/workspace/files"
)

func (c *cli) filesGet() *cobra.Command {
	var commit bool
	cmd := &cobra.Command{
		Use: "get TASK PATH [LOCAL|-]", Short: "Copy a file, or a folder with all that is in it, to this machine", Args: args(cobra.RangeArgs(2, 3)),
		Long: "Copy a file, or a folder with all that is in it, to this machine: into LOCAL when that is a folder, else by that name;\n" +
			"- writes a file, or a folder's tar.gz, to standard output. Nothing is written outside LOCAL, whatever the names and links\n" +
			"there say. Links that lead out of the folder are left out, and said.",
	}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		local := "."
		if len(a) > 2 {
			local = a[2]
		}
		return c.get(cmd.Context(), a[0], a[1], local, commit)
	}
	return commitFlag(cmd, &commit)
}

func (c *cli) get(ctx context.Context, task, p, local string, commit bool) error {
	resp, err := c.openURL(ctx, filesPath(task, p, atQuery(commit)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	folder := resp.Header.Get("Samnode-Kind") == "folder"
	if folder {
		resp.Body.Close()
		if resp, err = c.openURL(ctx, filesPath(task, p, atQuery(commit, "archive", "tar.gz"))); err != nil {
			return err
		}
		defer resp.Body.Close()
	} else if resp.Header.Get("Samnode-Kind") != "file" {
		return &exitError{exitRefused, files.Quote(p) + " is no file and no folder"}
	}
	if local == "-" {
		return c.copyOut(resp.Body, true)
	}
	name := stdpath.Base(stdpath.Clean("/" + p))
	if into, err := os.Stat(local); err == nil && into.IsDir() && name != "/" {
		local = filepath.Join(local, name)
	}
	if folder {
		return c.unpack(resp.Body, local)
	}
	mode, err := strconv.ParseUint(resp.Header.Get("Samnode-Mode"), 8, 9)
	if err != nil {
		mode = 0
	}
	if err := c.save(resp.Body, local, os.FileMode(mode)&0o111|0o644); err != nil {
		return err
	}
	return c.done("copied", local)
}

// save writes a file whole or not at all.
func (c *cli) save(from io.Reader, local string, mode os.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(local), ".samnode-get-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", files.Quote(local), err)
	}
	_, err = io.Copy(temp, from)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), local)
	}
	if err != nil {
		return fmt.Errorf("copying to %s: %w", files.Quote(local), errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

// unpack writes a folder's archive below local, and nowhere else.
func (c *cli) unpack(from io.Reader, local string) error {
	if err := os.MkdirAll(local, 0o755); err != nil {
		return fmt.Errorf("making the folder: %w", err)
	}
	root, err := os.OpenRoot(local)
	if err != nil {
		return fmt.Errorf("opening the folder: %w", err)
	}
	defer root.Close()
	zip, err := gzip.NewReader(from)
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	n := 0
	var links []string
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		_, name, below := strings.Cut(strings.TrimSuffix(h.Name, "/"), "/")
		if !below {
			continue // the folder itself
		}
		if err := place(root, h, name, r); err != nil {
			fmt.Fprintf(c.err, "samnode: left out: %s: %v\n", files.Quote(name), err)
			if h.Typeflag != tar.TypeSymlink {
				return fmt.Errorf("unpacking into %s: %w", files.Quote(local), err)
			}
			continue
		}
		if n++; h.Typeflag == tar.TypeSymlink {
			links = append(links, name)
		}
	}
	if err := c.checkLinks(root, links); err != nil {
		return err
	}
	return c.print(map[string]any{"copied": local, "entries": n}, func(io.Writer) {})
}

// checkLinks removes the links that lead out by way of others, which shows when
// all are there.
func (c *cli) checkLinks(root *os.Root, links []string) error {
	for _, l := range links {
		if _, err := root.Stat(l); err == nil || !strings.Contains(err.Error(), "path escapes from parent") { // os has no name for it
			continue
		}
		if err := root.Remove(l); err != nil {
			return fmt.Errorf("removing a link that leads out: %w", err)
		}
		fmt.Fprintf(c.err, "samnode: left out: %s: it leads out by way of other links\n", files.Quote(l))
	}
	return nil
}

// place writes one entry of an archive. A link is made only when it stays below
// the folder.
func place(root *os.Root, h *tar.Header, name string, from io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		to := stdpath.Join(stdpath.Dir(name), h.Linkname)
		if stdpath.IsAbs(h.Linkname) || to == ".." || strings.HasPrefix(to, "../") {
			return fmt.Errorf("a link to %s, which is outside", files.Quote(h.Linkname))
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		if err := root.MkdirAll(stdpath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // never through a link
			return err
		}
		out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, os.FileMode(h.Mode).Perm()|0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, from)
		return errors.Join(err, out.Close())
	}
	return fmt.Errorf("an entry of the type %q", h.Typeflag)
}
