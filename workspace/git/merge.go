package git

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The ways to merge.
const (
	MethodMerge  = "merge"  // a merge commit, always
	MethodSquash = "squash" // one new commit on the base
	MethodRebase = "rebase" // the branch's commits again on the base; its merges vanish
	MethodFast   = "ff"     // the base moves to the branch; ErrMoved if it has commits of its own
)

const (
	maxRebase  = 1000 // commits
	mergeTries = 3    // when others push to the base meanwhile
)

// Author is who a commit says made it.
type Author struct{ Name, Email string }

// MergeSpec is what Merge is to do.
type MergeSpec struct {
	Base    string // branch that grows
	Head    string // branch or commit that goes in
	Method  string // MethodMerge, …
	Message string // of the new commit; not used by rebase and ff
	Author  Author // also the committer
}

// Merge merges on the remote without a working tree: in the mirror, then
// pushed only if the base is still what was merged into. It returns the base's
// new commit. ErrConflict names the files, ErrMerged says that there is nothing
// to do, ErrMoved that others kept pushing; the remote is unchanged then.
func (r *Repo) Merge(ctx context.Context, auth AuthFunc, m MergeSpec) (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	if err := r.acquire(ctx); err != nil {
		return "", fmt.Errorf("waiting for the mirror: %w", err)
	}
	defer r.release()
	for try := 1; ; try++ {
		if err := r.fetchLocked(ctx, auth, nil); err != nil {
			return "", err
		}
		commit, err := r.mergeOnce(ctx, auth, m)
		if !errors.Is(err, ErrMoved) || m.Method == MethodFast || try == mergeTries {
			return commit, err
		}
	}
}

func (m MergeSpec) check() error {
	if err := CheckBranch(m.Base); err != nil {
		return err
	}
	if m.Author.Name == "" || m.Author.Email == "" || strings.ContainsAny(m.Author.Name+m.Author.Email, "<>\n\x00") {
		return fmt.Errorf("merging %s: the author needs a name and an address", m.Base)
	}
	if m.Message == "" && (m.Method == MethodMerge || m.Method == MethodSquash) {
		return fmt.Errorf("merging %s: the commit needs a message", m.Base)
	}
	switch m.Method {
	case MethodMerge, MethodSquash, MethodRebase, MethodFast:
		return nil
	}
	return fmt.Errorf("merging %s: unknown method %q", m.Base, m.Method)
}

func (r *Repo) mergeOnce(ctx context.Context, auth AuthFunc, m MergeSpec) (string, error) {
	base, err := r.Tip(ctx, m.Base)
	if err != nil {
		return "", err
	}
	head, err := r.resolve(ctx, m.Head)
	if err != nil {
		return "", err
	}
	if done, err := r.isAncestor(ctx, head, base); err != nil {
		return "", err
	} else if done {
		return "", &Error{Kind: ErrMerged, Text: fmt.Sprintf("%s already has all commits of %s", m.Base, m.Head)}
	}
	commit, err := r.combine(ctx, m, base, head)
	if err != nil {
		return "", err
	}
	if commit == base {
		return "", &Error{Kind: ErrMerged, Text: fmt.Sprintf("%s already has all changes of %s", m.Base, m.Head)}
	}
	a, err := credentials(ctx, auth)
	if err != nil {
		return "", err
	}
	u := upload{commit: commit, branch: m.Base, lease: &base}
	if err := r.pushLocked(ctx, a, u); err != nil {
		r.head.forget()
		return "", err
	}
	return commit, r.followLocked(context.WithoutCancel(ctx), u)
}

// combine makes the commit that the base is to become.
func (r *Repo) combine(ctx context.Context, m MergeSpec, base, head string) (string, error) {
	switch m.Method {
	case MethodRebase:
		return r.rebase(ctx, m, base, head)
	case MethodFast:
		if ahead, err := r.isAncestor(ctx, base, head); err != nil {
			return "", err
		} else if !ahead {
			return "", &Error{Kind: ErrMoved, Text: fmt.Sprintf("%s has commits of its own: it cannot just move to %s", m.Base, m.Head)}
		}
		return head, nil
	}
	tree, err := r.mergeTree(ctx, base, head, m.Base)
	if err != nil {
		return "", err
	}
	if same, err := r.treeOf(ctx, base); err != nil || same == tree {
		return base, err
	}
	parents := []string{base}
	if m.Method == MethodMerge {
		parents = append(parents, head)
	}
	return r.commitTree(ctx, tree, parents, m.Message, identity(m.Author, m.Author, ""))
}

// mergeTree merges two commits into a tree, without files.
func (r *Repo) mergeTree(ctx context.Context, ours, theirs, into string) (string, error) {
	res, err := r.run(ctx, "merging", command{args: []string{"merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", "--allow-unrelated-histories", ours, theirs}})
	if err != nil && res.code != 1 {
		return "", err
	}
	fields := strings.Split(strings.TrimRight(string(res.out), "\x00"), "\x00")
	if res.code == 0 {
		return fields[0], nil
	}
	files := fields[1:]
	if len(files) == 0 {
		return "", err
	}
	return "", &Error{
		Kind: ErrConflict, Files: files, Out: strings.ToValidUTF8(strings.Join(files, "\n"), "\ufffd"),
		Text: fmt.Sprintf("merging into %s conflicts in %s", into, conflictNames(files)),
	}
}

func conflictNames(files []string) string {
	shown := files[:min(len(files), 3)]
	quoted := make([]string, len(shown))
	for i, f := range shown {
		quoted[i] = strings.ToValidUTF8(f, "\ufffd")
	}
	s := strings.Join(quoted, ", ")
	if more := len(files) - len(shown); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

func (r *Repo) treeOf(ctx context.Context, commit string) (string, error) {
	res, err := r.run(ctx, "reading a commit", command{args: []string{"rev-parse", "--verify", "--end-of-options", commit + "^{tree}"}})
	return strings.TrimSpace(string(res.out)), err
}

func (r *Repo) commitTree(ctx context.Context, tree string, parents []string, message string, env []string) (string, error) {
	args := []string{"commit-tree", "-F", "-"}
	for _, p := range parents {
		args = append(args, "-p", p)
	}
	res, err := r.run(ctx, "making a commit", command{args: append(args, tree), env: env, stdin: strings.NewReader(message)})
	return strings.TrimSpace(string(res.out)), err
}

// identity is the environment that names a commit's author and committer.
// when is git's raw time; empty: now.
func identity(author, committer Author, when string) []string {
	env := []string{
		"GIT_AUTHOR_NAME=" + author.Name, "GIT_AUTHOR_EMAIL=" + author.Email,
		"GIT_COMMITTER_NAME=" + committer.Name, "GIT_COMMITTER_EMAIL=" + committer.Email,
		"TZ=UTC",
	}
	if when != "" {
		env = append(env, "GIT_AUTHOR_DATE="+when)
	}
	return env
}

// rebase makes the commits of head again on base.
func (r *Repo) rebase(ctx context.Context, m MergeSpec, base, head string) (string, error) {
	res, err := r.run(ctx, "listing the branch's commits", command{args: []string{"rev-list", "--reverse", "--topo-order", "--no-merges", head, "^" + base, "--"}})
	if err != nil {
		return "", err
	}
	commits := strings.Fields(string(res.out))
	if len(commits) > maxRebase {
		return "", fmt.Errorf("rebasing %d commits: the most is %d; squash or merge instead", len(commits), maxRebase)
	}
	on := base
	for _, c := range commits {
		if on, err = r.pick(ctx, m, c, on); err != nil {
			return "", err
		}
	}
	return on, nil
}

// pick makes one commit again on another. git before 2.40 cannot be told the
// merge base, so a passing commit with on's files and the commit's parent
// makes the parent the base.
func (r *Repo) pick(ctx context.Context, m MergeSpec, commit, on string) (string, error) {
	res, err := r.run(ctx, "reading a commit", command{args: []string{"show", "-s", "-z", "--no-show-signature", "--encoding=UTF-8", "--format=%P%x00%an%x00%ae%x00%ad%x00%B", "--date=raw", commit}})
	if err != nil {
		return "", err
	}
	f := strings.SplitN(strings.TrimSuffix(string(res.out), "\x00"), "\x00", 5)
	if len(f) != 5 {
		return "", fmt.Errorf("reading commit %s: odd answer", commit)
	}
	parents := strings.Fields(f[0])
	if len(parents) == 1 && parents[0] == on {
		return commit, nil
	}
	now, err := r.treeOf(ctx, on)
	if err != nil {
		return "", err
	}
	mine := identity(m.Author, m.Author, "")
	stand, err := r.commitTree(ctx, now, parents, "stand-in", mine)
	if err != nil {
		return "", err
	}
	tree, err := r.mergeTree(ctx, stand, commit, m.Base)
	if conflict, ok := errors.AsType[*Error](err); ok && errors.Is(conflict, ErrConflict) {
		subject, _, _ := strings.Cut(f[4], "\n")
		conflict.Text = fmt.Sprintf("commit %s (%s) conflicts in %s", short(commit), strings.ToValidUTF8(subject, "\ufffd"), conflictNames(conflict.Files))
	}
	if err != nil || tree == now {
		return on, err
	}
	author := Author{Name: f[1], Email: f[2]}
	if author.Name == "" {
		author.Name = author.Email
	}
	return r.commitTree(ctx, tree, []string{on}, f[4], identity(author, m.Author, f[3]))
}

// Subject shortens a text to a commit's first line.
func Subject(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if r := []rune(line); len(r) > 72 {
		return strings.TrimSpace(string(r[:71])) + "…"
	}
	return line
}
