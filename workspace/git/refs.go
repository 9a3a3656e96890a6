package git

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Below these, by branch, is what the remote does not have.
const (
	unpushed = "refs/samnode/unpushed/" // commits that wait: the remote did not take them
	instead  = "refs/samnode/instead/"  // the remote's commit that a waiting one, a rewrite, is to replace
	kept     = "refs/samnode/kept/"     // commits that waited while the branch went on without them
)

var hexRE = regexp.MustCompile(`^[0-9a-f]{40}$|^[0-9a-f]{64}$`)

// CheckBranch says whether a name can be a branch's, by git's own rules and a
// little stricter: nothing that a command line or a page could misread.
func CheckBranch(name string) error {
	bad := name == "" || len(name) > 200 || name == "@" || name == "HEAD" ||
		strings.HasPrefix(name, "-") || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "//") || strings.Contains(name, "@{") ||
		strings.HasPrefix(name, "refs/") || hexRE.MatchString(name) ||
		strings.ContainsFunc(name, func(r rune) bool {
			return r <= ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(`~^:?*[\`, r)
		})
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return &Error{Kind: ErrNoBranch, Text: fmt.Sprintf("%q cannot be a branch's name", name)}
	}
	return nil
}

// DefaultBranch returns the branch that the remote's HEAD names. For an empty
// repository that is the name its first branch is to have.
func (r *Repo) DefaultBranch(ctx context.Context) (string, error) {
	head, err := r.symbolicHead(ctx)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(head, "refs/heads/"), nil
}

// Empty says whether the remote has no branch at all. A task can still work:
// its branch begins with its first commit.
func (r *Repo) Empty(ctx context.Context) (bool, error) {
	res, err := r.run(ctx, "reading the mirror", command{args: []string{"for-each-ref", "--count=1", "--format=x", "refs/heads"}})
	return len(res.out) == 0, err
}

// Branches lists the remote's branches, the most recent first.
func (r *Repo) Branches(ctx context.Context) ([]string, error) {
	res, err := r.run(ctx, "reading the mirror", command{args: []string{"for-each-ref", "--sort=-committerdate", "--format=%(refname:lstrip=2)", "refs/heads"}})
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(res.out)), nil
}

// Tip returns the commit of a branch as the remote had it when it was last
// asked; ErrNoBranch if there is none, ErrEmpty if there is no branch at all.
func (r *Repo) Tip(ctx context.Context, branch string) (string, error) {
	if err := CheckBranch(branch); err != nil {
		return "", err
	}
	id, err := r.lookup(ctx, "refs/heads/"+branch)
	if err != nil || id != "" {
		return id, err
	}
	if empty, err := r.Empty(ctx); err != nil {
		return "", err
	} else if empty {
		return "", &Error{Kind: ErrEmpty, Text: r.remote.url + " has no commits yet"}
	}
	return "", &Error{Kind: ErrNoBranch, Text: fmt.Sprintf("%s has no branch %q", r.remote.url, branch)}
}

// Head is Tip, or the newer commit of a workspace that the remote did not take.
// One that the remote's branch has left behind is not newer: another node had
// the task meanwhile.
func (r *Repo) Head(ctx context.Context, branch string) (commit string, pushed bool, err error) {
	tip, err := r.Tip(ctx, branch)
	if err != nil && !errors.Is(err, ErrNoBranch) && !errors.Is(err, ErrEmpty) || CheckBranch(branch) != nil {
		return "", false, err
	}
	waits, lookupErr := r.lookup(ctx, unpushed+branch)
	if lookupErr != nil {
		return "", false, lookupErr
	}
	if waits == "" {
		return tip, tip != "", err
	}
	if tip != "" {
		if newer, err := r.newer(ctx, branch, waits, tip); err != nil || !newer {
			return tip, true, err
		}
	}
	return waits, false, nil
}

// newer says whether a commit that waits is still what the branch is to be.
func (r *Repo) newer(ctx context.Context, branch, waits, tip string) (bool, error) {
	if waits == tip {
		return false, nil
	}
	ahead, err := r.isAncestor(ctx, tip, waits)
	if err != nil || ahead {
		return ahead, err
	}
	over, err := r.lookup(ctx, instead+branch)
	return over == tip, err
}

// lookup returns what a full ref name points to, "" if there is no such ref.
func (r *Repo) lookup(ctx context.Context, ref string) (string, error) {
	res, err := r.run(ctx, "reading the mirror", command{args: []string{"rev-parse", "--verify", "--quiet", "--end-of-options", ref}})
	if err != nil && res.code == 1 {
		return "", nil
	}
	return strings.TrimSpace(string(res.out)), err
}

// resolve turns a branch or a commit id into a commit id.
func (r *Repo) resolve(ctx context.Context, rev string) (string, error) {
	if !hexRE.MatchString(rev) {
		id, _, err := r.Head(ctx, rev)
		return id, err
	}
	res, err := r.run(ctx, "reading a commit", command{args: []string{"rev-parse", "--verify", "--quiet", "--end-of-options", rev + "^{commit}"}})
	if err != nil && res.code > 0 {
		return "", &Error{Kind: ErrNotFound, Text: "there is no commit " + rev + " in the mirror", Out: res.stderr}
	}
	return strings.TrimSpace(string(res.out)), err
}

// isAncestor says whether old is in the history of tip (or is it).
func (r *Repo) isAncestor(ctx context.Context, old, tip string) (bool, error) {
	res, err := r.run(ctx, "comparing commits", command{args: []string{"merge-base", "--is-ancestor", old, tip}})
	if err != nil && res.code == 1 {
		return false, nil
	}
	return err == nil, err
}

// mergeBase returns the best common ancestor, "" if there is none.
func (r *Repo) mergeBase(ctx context.Context, a, b string) (string, error) {
	res, err := r.run(ctx, "comparing commits", command{args: []string{"merge-base", a, b}})
	if err != nil && res.code == 1 {
		return "", nil
	}
	return strings.TrimSpace(string(res.out)), err
}

// setRef moves a ref of the mirror, or makes it.
func (r *Repo) setRef(ctx context.Context, ref, commit string) error {
	_, err := r.run(ctx, "setting "+ref+" in the mirror", command{args: []string{"update-ref", "--no-deref", ref, commit}})
	return err
}

// dropRef removes a ref of the mirror; none is fine.
func (r *Repo) dropRef(ctx context.Context, ref string) error {
	_, err := r.run(ctx, "removing "+ref+" from the mirror", command{args: []string{"update-ref", "--no-deref", "-d", ref}})
	return err
}
