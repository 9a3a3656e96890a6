package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// FileStatus says what happened to a file.
type FileStatus string

// The statuses of a file in a diff.
const (
	Added    FileStatus = "added"
	Modified FileStatus = "modified"
	Deleted  FileStatus = "deleted"
	Renamed  FileStatus = "renamed"
	Copied   FileStatus = "copied"
	Retyped  FileStatus = "retyped" // a file became a link, or the like
)

// FileDiff is the change of one file. Paths are bytes as git has them and may
// not be valid UTF-8; lines are.
type FileDiff struct {
	Path      string // new path; the old one of a deleted file
	OldPath   string // of renames and copies; else empty
	Status    FileStatus
	OldMode   string // "100644", "100755", "120000" (link), "160000" (submodule), "000000" (none)
	NewMode   string
	OldBlob   string // object ids
	NewBlob   string
	Binary    bool // no lines then
	Added     int  // of the whole file, also when it is truncated
	Removed   int
	Hunks     []Hunk
	Truncated bool // there are more lines than are shown
}

// Hunk is one run of lines with their context.
type Hunk struct {
	OldStart, OldLines int
	NewStart, NewLines int
	Section            string // the function around it, as git guesses
	Lines              []Line
}

// Line is one line of a hunk. Old and New are line numbers from 1, 0 where the
// line does not exist.
type Line struct {
	Op    byte // ' ', '+' or '-'
	Old   int
	New   int
	Text  string // without the line end
	Cut   bool   // longer than is shown
	NoEOL bool   // the file ends here without a line end
}

// DiffOptions choose what Diff shows. The zero value is the whole branch
// against where it left its base.
type DiffOptions struct {
	Paths       []string // only these files, by exact path
	Context     int      // lines around a change; 0: 3, negative: none
	IgnoreSpace bool
	Direct      bool // compare the two commits themselves, not from their merge base
	MaxLines    int  // of one file; 0: 3000
	MaxBytes    int  // of the text of all files; 0: 4 MiB
}

const maxLine = 4000 // bytes shown of one line

// Stat is the size of a branch against its base.
type Stat struct {
	Files, Added, Removed int
	Base                  string // merge base; empty if there is none
	Head                  string // commit of the branch
	Ahead, Behind         int    // commits only on the branch, only on the base
}

// Diff compares head with base, each a branch or a commit id. A base that is
// empty or does not exist is the empty tree.
func (r *Repo) Diff(ctx context.Context, base, head string, o DiffOptions) ([]FileDiff, error) {
	from, to, err := r.ends(ctx, base, head, o.Direct)
	if err != nil {
		return nil, err
	}
	files, err := r.changed(ctx, from, to, o)
	if err != nil || len(files) == 0 {
		return files, err
	}
	p := newPatch(files, o)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.full = func() { cancel(errFull) }
	args := append(diffArgs(o), "-p", "--no-color", "--no-prefix", "--full-index", "-U"+strconv.Itoa(contextLines(o)))
	args = append(append(args, from, to, "--"), o.Paths...)
	if _, err := r.stream(ctx, "comparing", command{args: args}, p); err != nil && !errors.Is(context.Cause(ctx), errFull) {
		return nil, err
	}
	p.end()
	return files, nil
}

var errFull = errors.New("enough of the diff was read")

func contextLines(o DiffOptions) int {
	if o.Context == 0 {
		return 3
	}
	return max(0, min(o.Context, 10000))
}

func diffArgs(o DiffOptions) []string {
	args := []string{"diff-tree", "-r", "-M", "--no-ext-diff", "--no-textconv", "--no-commit-id", "-l400"}
	if o.IgnoreSpace {
		args = append(args, "-w")
	}
	return args
}

// ends resolves both sides of a comparison.
func (r *Repo) ends(ctx context.Context, base, head string, direct bool) (from, to string, err error) {
	if to, err = r.resolve(ctx, head); err != nil {
		return "", "", err
	}
	if from, err = r.base(ctx, base); err != nil {
		return "", "", err
	}
	if from == "" {
		from, err = r.emptyTree(ctx)
		return from, to, err
	}
	if direct {
		return from, to, nil
	}
	merge, err := r.mergeBase(ctx, from, to)
	if merge != "" {
		from = merge
	}
	return from, to, err
}

// base resolves a base; "" is the empty tree. So is a branch that does not
// exist: the task that makes an empty repository's first commit has no base.
func (r *Repo) base(ctx context.Context, rev string) (string, error) {
	if rev == "" {
		return "", nil
	}
	id, err := r.resolve(ctx, rev)
	if CheckBranch(rev) == nil && (errors.Is(err, ErrNoBranch) || errors.Is(err, ErrEmpty)) {
		return "", nil
	}
	return id, err
}

func (r *Repo) emptyTree(ctx context.Context) (string, error) {
	res, err := r.run(ctx, "naming the empty tree", command{args: []string{"hash-object", "-t", "tree", "--stdin", "-w"}})
	return strings.TrimSpace(string(res.out)), err
}

// changed lists the files of a diff with their sizes.
func (r *Repo) changed(ctx context.Context, from, to string, o DiffOptions) ([]FileDiff, error) {
	args := append(diffArgs(o), "--raw", "--numstat", "--abbrev=64", "-z", from, to, "--")
	res, err := r.run(ctx, "comparing", command{args: append(args, o.Paths...)})
	if err != nil {
		return nil, err
	}
	return parseChanged(res.out)
}

// parseChanged reads `--raw --numstat -z`: first all raw records, then all
// counts, in the same order.
func parseChanged(out []byte) ([]FileDiff, error) {
	fields := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	var files []FileDiff
	i := 0
	next := func() string {
		if i < len(fields) {
			i++
			return fields[i-1]
		}
		return ""
	}
	for i < len(fields) && strings.HasPrefix(fields[i], ":") {
		f := strings.Fields(next()[1:])
		if len(f) != 5 {
			return nil, fmt.Errorf("reading a diff: odd record %q", f)
		}
		d := FileDiff{OldMode: f[0], NewMode: f[1], OldBlob: f[2], NewBlob: f[3], Path: next()}
		switch f[4][0] {
		case 'A':
			d.Status = Added
		case 'D':
			d.Status = Deleted
		case 'R', 'C':
			d.Status = Renamed
			if f[4][0] == 'C' {
				d.Status = Copied
			}
			d.OldPath, d.Path = d.Path, next()
		case 'T':
			d.Status = Retyped
		default:
			d.Status = Modified
		}
		files = append(files, d)
	}
	// With -w a file without other changes has no counts.
	at := 0
	for i < len(fields) && fields[i] != "" {
		n := strings.SplitN(next(), "\t", 3)
		if len(n) != 3 {
			return nil, fmt.Errorf("reading a diff: odd counts %q", n)
		}
		name := n[2]
		if name == "" {
			next() // old name
			name = next()
		}
		for at < len(files) && files[at].Path != name {
			at++
		}
		if at == len(files) {
			return nil, fmt.Errorf("reading a diff: counts of an unknown file %q", name)
		}
		if n[0] == "-" {
			files[at].Binary = true
			continue
		}
		files[at].Added, _ = strconv.Atoi(n[0])
		files[at].Removed, _ = strconv.Atoi(n[1])
	}
	return files, nil
}

// Stat measures head against base, each a branch or a commit id.
func (r *Repo) Stat(ctx context.Context, base, head string) (Stat, error) {
	from, to, err := r.ends(ctx, base, head, false)
	if err != nil {
		return Stat{}, err
	}
	files, err := r.changed(ctx, from, to, DiffOptions{})
	if err != nil {
		return Stat{}, err
	}
	s := Stat{Files: len(files), Head: to}
	for _, f := range files {
		s.Added += f.Added
		s.Removed += f.Removed
	}
	tip, err := r.base(ctx, base)
	if err != nil || tip == "" {
		return s, err
	}
	if s.Base, err = r.mergeBase(ctx, tip, to); err != nil {
		return Stat{}, err
	}
	res, err := r.run(ctx, "counting commits", command{args: []string{"rev-list", "--left-right", "--count", tip + "..." + to, "--"}})
	if err != nil {
		return Stat{}, err
	}
	_, err = fmt.Sscan(string(res.out), &s.Behind, &s.Ahead)
	return s, err
}

// Commit is one commit of a Log.
type Commit struct {
	ID      string
	Parents []string
	Name    string // author
	Email   string
	At      time.Time // author's time
	Subject string
	Body    string
}

// Log lists the commits of head that are not in base, the newest first, at
// most limit (0: 500). An empty base lists all of head.
func (r *Repo) Log(ctx context.Context, base, head string, limit int) ([]Commit, error) {
	to, err := r.resolve(ctx, head)
	if err != nil {
		return nil, err
	}
	revs := []string{to}
	from, err := r.base(ctx, base)
	if err != nil {
		return nil, err
	}
	if from != "" {
		revs = append(revs, "^"+from)
	}
	if limit <= 0 {
		limit = 500
	}
	args := []string{"log", "-z", "--no-show-signature", "--no-color", "--encoding=UTF-8", "-n" + strconv.Itoa(limit), "--format=%H%n%P%n%an%n%ae%n%at%n%s%n%b"}
	res, err := r.run(ctx, "reading the history", command{args: append(append(args, revs...), "--")})
	if err != nil {
		return nil, err
	}
	var commits []Commit
	for rec := range bytes.SplitSeq(res.out, []byte{0}) {
		f := strings.SplitN(strings.ToValidUTF8(string(rec), "\ufffd"), "\n", 7)
		if len(f) != 7 {
			continue
		}
		at, _ := strconv.ParseInt(f[4], 10, 64)
		commits = append(commits, Commit{
			ID: f[0], Parents: strings.Fields(f[1]), Name: f[2], Email: f[3], At: time.Unix(at, 0).UTC(),
			Subject: f[5], Body: strings.TrimSpace(f[6]),
		})
	}
	return commits, nil
}

// cleanPath checks a path inside the repository; "" is its root.
func cleanPath(p string) (string, error) {
	if p == "" || p == "." || p == "/" {
		return "", nil
	}
	if strings.ContainsRune(p, 0) || path.IsAbs(p) || path.Clean(p) != strings.TrimSuffix(p, "/") || strings.HasPrefix(p, "../") || p == ".." {
		return "", &Error{Kind: ErrNotFound, Text: fmt.Sprintf("%q is not a path in the repository", p)}
	}
	return strings.TrimSuffix(p, "/"), nil
}
