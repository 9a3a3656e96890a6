package git

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

//go:embed changes.sh
var changesScript string

// Against is what a working copy is compared with, and which part of it.
type Against struct {
	From string // a commit; empty, or unknown there: where HEAD left Base
	Path string // a file or folder; "": all
}

// Names lists what differs from the base, committed or not. ParseNames reads
// what it prints.
func (w Workspace) Names(a Against) Step { return w.changes("names", a, DiffOptions{}) }

// Changes compares the working copy as it is now. ReadChanges reads what it
// prints. Paths and Direct of the options are not used.
func (w Workspace) Changes(a Against, o DiffOptions) Step { return w.changes("diff", a, o) }

// Patch is Changes as text that git apply takes. ReadPatch finds its begin.
func (w Workspace) Patch(a Against) Step { return w.changes("patch", a, DiffOptions{}) }

func (w Workspace) changes(do string, a Against, o DiffOptions) Step {
	space := ""
	if o.IgnoreSpace {
		space = "ignore"
	}
	return Step{
		Argv: []string{"/bin/sh", "-c", changesScript, "samnode-changes"},
		Env: []string{
			"SAMNODE_DO=" + do, "SAMNODE_DIR=" + w.Dir, "SAMNODE_BASE=" + w.Base, "SAMNODE_FROM=" + a.From, "SAMNODE_PATH=" + a.Path,
			"SAMNODE_SPACE=" + space, "SAMNODE_CONTEXT=" + strconv.Itoa(contextLines(o)),
		},
	}
}

// Change is what Changes found.
type Change struct {
	Base  string // the commit, or the empty tree, that it was compared with
	Note  string // what the reader should know
	Files []FileDiff
}

// Bounds of what is read of a working copy, whose git may be the agent's.
const (
	maxSaidLine = 16 << 10
	maxChanged  = 4 << 20 // of names; some 20,000 files
)

// intro reads the lines "samnode:key=value" up to the one with the key last,
// which bytes follow.
func intro(r *bufio.Reader, last string) (values map[string]string, err error) {
	values = map[string]string{}
	for values[last] == "" {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			err = errors.New("comparing the working copy: it ended without saying how")
		}
		if err != nil {
			return nil, err
		}
		kv, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), "samnode:")
		if !ok {
			continue
		}
		key, value, _ := strings.Cut(kv, "=")
		values[key] = strings.ToValidUTF8(value, "\ufffd")
		if key == "error" {
			return nil, &Error{Kind: ErrBroken, Text: values[key]}
		}
	}
	return values, nil
}

// ReadChanges reads the stdout of Changes, up to where the options show no more.
func ReadChanges(from io.Reader, o DiffOptions) (Change, error) {
	r := bufio.NewReaderSize(from, maxSaidLine)
	said, err := intro(r, "changed")
	if err != nil {
		return Change{}, err
	}
	c := Change{Base: said["base"], Note: said["note"]}
	n, err := strconv.Atoi(said["changed"])
	if err != nil || n < 0 || n > maxChanged {
		return c, &Error{Kind: ErrBroken, Text: fmt.Sprintf("there are too many changes to list: %.20s bytes of names", said["changed"])}
	}
	list := make([]byte, n)
	if _, err := io.ReadFull(r, list); err != nil {
		return c, fmt.Errorf("reading the changes: %w", err)
	}
	if n == 0 {
		return c, nil
	}
	if c.Files, err = parseChanged(list); err != nil {
		return c, err
	}
	p := newPatch(c.Files, o)
	if _, err := io.Copy(&enough{p: p}, r); err != nil && !errors.Is(err, errFull) {
		return c, fmt.Errorf("reading the changes: %w", err)
	}
	p.end()
	return c, nil
}

// enough ends the reading when the patch shows as much as it may.
type enough struct {
	p    *patch
	full bool
}

func (e *enough) Write(b []byte) (int, error) {
	e.p.full = func() { e.full = true }
	n, err := e.p.Write(b)
	if err == nil && e.full {
		err = errFull
	}
	return n, err
}

// ReadPatch returns the patch in the stdout of Patch.
func ReadPatch(from io.Reader) (io.Reader, error) {
	r := bufio.NewReaderSize(from, maxSaidLine)
	_, err := intro(r, "patch")
	return r, err
}

// ParseNames reads the stdout of Names: the statuses of files by their paths,
// and the files and folders that git does not know, as Added; those folders'
// names end in a slash.
func ParseNames(out []byte) (map[string]FileStatus, error) {
	r := bufio.NewReaderSize(bytes.NewReader(out), maxSaidLine)
	if _, err := intro(r, "list"); err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	known, others, whole := bytes.Cut(rest, []byte("samnode:others\x00"))
	if !whole {
		return nil, errors.New("listing changes: the list has no end")
	}
	files, err := parseChanged(known)
	if err != nil {
		return nil, err
	}
	names := map[string]FileStatus{}
	for _, f := range files {
		names[f.Path] = f.Status
	}
	for name := range bytes.SplitSeq(others, []byte{0}) {
		if len(name) > 0 {
			names[string(name)] = Added
		}
	}
	return names, nil
}
