package git

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pushFor bounds one push to the remote. It goes on when the workspace hangs
// up: half of a push is worse than one that nobody waited for.
const pushFor = 10 * time.Minute

// Push tries again to bring a branch's waiting commits to the remote. Nothing
// to push is fine. It never rewrites: ErrMoved if the remote has newer ones,
// ErrRejected with the remote's words if it does not want them.
func (r *Repo) Push(ctx context.Context, auth AuthFunc, branch string) error {
	if err := r.acquire(ctx); err != nil {
		return fmt.Errorf("waiting for the mirror: %w", err)
	}
	defer r.release()
	commit, pushed, err := r.Head(ctx, branch)
	if err != nil {
		return err
	}
	if pushed {
		return r.settleLocked(ctx, branch, commit)
	}
	return r.publishLocked(ctx, auth, upload{commit: commit, branch: branch})
}

// upload is one commit on its way to the remote's branch.
type upload struct {
	commit, branch string
	lease          *string      // set: only if the remote's branch is at this commit ("": does not exist); may rewrite
	say            func(string) // told what the remote says; may be nil
	// within bounds it; nil: only its deadline does.
	within func(context.Context) (context.Context, context.CancelFunc)
}

// publishLocked pushes and lets the mirror follow. What the remote does not
// take waits under unpushed.
func (r *Repo) publishLocked(ctx context.Context, auth AuthFunc, u upload) error {
	a, err := credentials(ctx, auth)
	if err == nil {
		err = r.pushLocked(ctx, a, u)
	}
	if err != nil {
		r.head.forget()
		if keepErr := r.keepLocked(context.WithoutCancel(ctx), u); keepErr != nil {
			return errors.Join(err, keepErr)
		}
		return err
	}
	return r.followLocked(context.WithoutCancel(ctx), u)
}

// keepLocked remembers a commit that waits, and what it was to replace.
func (r *Repo) keepLocked(ctx context.Context, u upload) error {
	if err := r.setRef(ctx, unpushed+u.branch, u.commit); err != nil {
		return err
	}
	if u.lease == nil || *u.lease == "" {
		return r.dropRef(ctx, instead+u.branch)
	}
	return r.setRef(ctx, instead+u.branch, *u.lease)
}

func (r *Repo) followLocked(ctx context.Context, u upload) error {
	if err := r.setRef(ctx, "refs/heads/"+u.branch, u.commit); err != nil {
		return err
	}
	return r.settleLocked(ctx, u.branch, u.commit)
}

// settleLocked ends the waiting of a branch's commits, now that the remote's
// branch is at tip. What it went past without them stays to be found.
func (r *Repo) settleLocked(ctx context.Context, branch, tip string) error {
	waits, err := r.lookup(ctx, unpushed+branch)
	if err != nil || waits == "" {
		return err
	}
	over, err := r.lookup(ctx, instead+branch)
	if err != nil {
		return err
	}
	has, err := r.isAncestor(ctx, waits, tip)
	if err == nil && !has && over == "" { // a rewrite that waited was rewritten again
		err = r.setRef(ctx, kept+branch+"/"+short(waits), waits)
	}
	return errors.Join(err, r.dropRef(ctx, unpushed+branch), r.dropRef(ctx, instead+branch))
}

func (r *Repo) pushLocked(ctx context.Context, a *Auth, u upload) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), pushFor,
		&Error{Kind: ErrNetwork, Text: fmt.Sprintf("pushing to %s took longer than %s", r.remote.url, pushFor)})
	defer cancel()
	if u.within != nil {
		var stop context.CancelFunc
		ctx, stop = u.within(ctx)
		defer stop()
	}
	ref := "refs/heads/" + u.branch
	args := []string{"push", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no"}
	if u.lease != nil {
		args = append(args, "--force-with-lease="+ref+":"+*u.lease)
	}
	args = append(args, "--end-of-options", r.remote.url, u.commit+":"+ref)
	res, err := r.run(ctx, "pushing "+u.branch, command{args: args, auth: a, line: u.say})
	if failed, ok := errors.AsType[*Error](err); ok && !errors.Is(failed, ErrNetwork) {
		// The reason is in the porcelain lines, the hook's words on stderr.
		return r.classify("pushing "+u.branch, string(res.out)+res.stderr)
	}
	return err
}
