package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace/files"
)

// listedFile is one thing of a folder as the API says it.
type listedFile struct {
	Name  string    `json:"name"`
	Path  string    `json:"path"`
	Kind  string    `json:"kind"`
	Size  int64     `json:"size"`
	Mode  string    `json:"mode"`
	At    time.Time `json:"changed"`
	Link  string    `json:"link"`
	State string    `json:"state"`
}

type listedFolder struct {
	listedFile
	As      string       `json:"as"`
	Note    string       `json:"note"`
	Entries []listedFile `json:"entries"`
	Total   int          `json:"total"`
}

func (c *cli) files() *cobra.Command {
	g := group("files", "A task's files: look at them, copy them there and back",
		c.filesList(), c.filesCat(), c.filesGet(), c.filesPut(), c.filesRemove(), c.filesMake(), c.filesMove(), c.filesDiff())
	g.Long = "The files of a task's workspace as they are now, wherever it runs, or of its last commit when no machine runs it (and with\n" +
		"--commit). Paths begin in the working copy. Writing needs a live workspace.\n\n" +
		"Exit codes: 0 done, 1 failed (no such file), 2 wrong usage (a path outside, a name that cannot be), 3 refused (a link that leads\n" +
		"out, git's own folder, no workspace alive, a viewer), 4 no node answers."
	return g
}

// filesPath is a path as the API's routes have it.
func filesPath(task, p string, q url.Values) string {
	u := path("tasks", task, "files")
	if p = strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/"); p != "" && p != "." {
		u += "/" + api.EscapePath(p)
	}
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	return u
}

// commitFlag lets a command read the last commit.
func commitFlag(cmd *cobra.Command, into *bool) *cobra.Command {
	cmd.Flags().BoolVar(into, "commit", false, "of the last commit, also while a workspace is alive")
	return cmd
}

func atQuery(commit bool, more ...string) url.Values {
	q := url.Values{}
	if commit {
		q.Set("at", api.AtCommit)
	}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return q
}

func (c *cli) filesList() *cobra.Command {
	var commit bool
	cmd := &cobra.Command{Use: "ls TASK [PATH]", Short: "List a folder", Args: args(cobra.RangeArgs(1, 2))}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		p := ""
		if len(a) > 1 {
			p = a[1]
		}
		var raw json.RawMessage
		if err := c.client().call(cmd.Context(), http.MethodGet, filesPath(a[0], p, atQuery(commit, "list", "true")), nil, &raw); err != nil {
			return err
		}
		var v listedFolder
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("reading the list: %w", err)
		}
		if v.Kind != "folder" {
			v.Entries, v.Total = []listedFile{v.listedFile}, 1
		}
		return c.print(raw, func(w io.Writer) { printFiles(w, v); c.printNotes(v) })
	}
	return commitFlag(cmd, &commit)
}

func printFiles(w io.Writer, v listedFolder) {
	for _, f := range v.Entries {
		name, size, changed := f.Name, "", ""
		switch f.Kind {
		case "folder":
			name += "/"
		case "link":
			name += " -> " + f.Link
		case "file":
			size = strconv.FormatInt(f.Size, 10)
		default:
			size = f.Kind
		}
		if !f.At.IsZero() {
			changed = f.At.Local().Format("2006-01-02 15:04")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", cmp.Or(f.State, "-"), cmp.Or(f.Mode, "-"), size, changed, name)
	}
}

// printNotes says on the side what the list does not.
func (c *cli) printNotes(v listedFolder) {
	if v.Note != "" {
		fmt.Fprintln(c.err, "samnode:", v.Note)
	}
	if n := v.Total - len(v.Entries); n > 0 {
		fmt.Fprintf(c.err, "samnode: and %d more\n", n)
	}
}

// open asks for what takes as long as it takes.
func (c *cli) openURL(ctx context.Context, path string) (*http.Response, error) {
	return c.client().do(ctx, http.MethodGet, path, nil, nil)
}

func (c *cli) filesCat() *cobra.Command {
	var commit, raw bool
	cmd := &cobra.Command{Use: "cat TASK PATH", Short: "Write a file to standard output", Args: args(cobra.ExactArgs(2))}
	cmd.Flags().BoolVar(&raw, "raw", false, "every byte as it is, to a terminal too")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		resp, err := c.openURL(cmd.Context(), filesPath(a[0], a[1], atQuery(commit)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if kind := resp.Header.Get("Samnode-Kind"); kind != "file" {
			return &exitError{exitUsage, fmt.Sprintf("%s is a %s: samnode files ls lists one, and files get copies it", files.Quote(a[1]), kind)}
		}
		return c.copyOut(resp.Body, raw)
	}
	return commitFlag(cmd, &commit)
}

// copyOut writes to standard output; a terminal gets nothing that could change
// it.
func (c *cli) copyOut(from io.Reader, raw bool) error {
	out, end := c.out, func() error { return nil }
	if f, ok := c.out.(*os.File); ok && !raw && term.IsTerminal(int(f.Fd())) {
		t := &tame{w: c.out}
		out, end = t, t.end
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{out}, from, make([]byte, 64<<10))
	if err = errors.Join(err, end()); err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	return nil
}

// tame shows control characters and bytes that are no text as Go quotes them.
type tame struct {
	w    io.Writer
	part []byte // a character that is cut
}

func (t *tame) Write(p []byte) (int, error) {
	in := append(t.part, p...)
	var out []byte
	for len(in) > 0 {
		if !utf8.FullRune(in) && len(in) < utf8.UTFMax {
			break
		}
		r, n := utf8.DecodeRune(in)
		switch {
		case r == '\n' || r == '\t':
			out = append(out, byte(r))
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, in[0])
		case api.Hidden(r):
			q := strconv.QuoteRuneToASCII(r)
			out = append(out, q[1:len(q)-1]...)
		default:
			out = append(out, in[:n]...)
		}
		in = in[n:]
	}
	t.part = append([]byte(nil), in...)
	if _, err := t.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// end shows what is left of a character.
func (t *tame) end() error {
	for _, b := range t.part {
		if _, err := fmt.Fprintf(t.w, `\x%02x`, b); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) filesRemove() *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "rm TASK PATH...", Short: "Remove files from the workspace", Args: args(cobra.MinimumNArgs(2))}
	cmd.Flags().BoolVarP(&all, "recursive", "r", false, "folders with all that is in them, too")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		for _, p := range a[1:] {
			q := url.Values{}
			if all {
				q.Set("all", "true")
			}
			if err := c.client().call(cmd.Context(), http.MethodDelete, filesPath(a[0], p, q), nil, nil); err != nil {
				return err
			}
		}
		return c.print(map[string]any{"removed": a[1:]}, func(io.Writer) {})
	}
	return cmd
}

func (c *cli) filesMake() *cobra.Command {
	return &cobra.Command{Use: "mkdir TASK PATH", Short: "Make a folder, and those above that lack", Args: args(cobra.ExactArgs(2)), RunE: func(cmd *cobra.Command, a []string) error {
		if err := c.client().call(cmd.Context(), http.MethodPost, filesPath(a[0], a[1], url.Values{"do": {"folder"}}), nil, nil); err != nil {
			return err
		}
		return c.done("made", a[1])
	}}
}

func (c *cli) filesMove() *cobra.Command {
	return &cobra.Command{Use: "mv TASK PATH NEW", Short: "Move or rename something; nothing is replaced", Args: args(cobra.ExactArgs(3)), RunE: func(cmd *cobra.Command, a []string) error {
		if err := c.client().call(cmd.Context(), http.MethodPost, filesPath(a[0], a[1], url.Values{"do": {"rename"}, "to": {a[2]}}), nil, nil); err != nil {
			return err
		}
		return c.done("moved", a[2])
	}}
}

func (c *cli) filesDiff() *cobra.Command {
	var commit bool
	cmd := &cobra.Command{Use: "diff TASK [PATH]", Short: "Show what differs from the base, committed or not, as a patch", Args: args(cobra.RangeArgs(1, 2))}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		q := atQuery(commit)
		if len(a) > 1 {
			q.Set("path", a[1])
		}
		resp, err := c.openURL(cmd.Context(), path("tasks", a[0], "diff")+"?"+q.Encode())
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if !c.json {
			return c.copyOut(resp.Body, false)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("reading the patch: %w", err)
		}
		return c.print(map[string]string{"patch": string(text)}, nil)
	}
	return commitFlag(cmd, &commit)
}
