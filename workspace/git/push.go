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
		return r.dropRef(ctx, unpushed+branch)
	}
	return r.publishLocked(ctx, auth, upload{commit: commit, branch: branch})
}

// upload is one commit on its way to the remote's branch.
type upload struct {
	commit, branch string
	lease          *string      // set: only if the remote's branch is at this commit ("": does not exist); may rewrite
	say            func(string) // told what the remote says; may be nil
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
		ctx := context.WithoutCancel(ctx)
		if _, keepErr := r.run(ctx, "keeping the commits", command{args: []string{"update-ref", "--no-deref", unpushed + u.branch, u.commit}}); keepErr != nil {
			return errors.Join(err, keepErr)
		}
		return err
	}
	return r.followLocked(context.WithoutCancel(ctx), u)
}

func (r *Repo) followLocked(ctx context.Context, u upload) error {
	if _, err := r.run(ctx, "noting the push", command{args: []string{"update-ref", "--no-deref", "refs/heads/" + u.branch, u.commit}}); err != nil {
		return err
	}
	return r.dropRef(ctx, unpushed+u.branch)
}

func (r *Repo) pushLocked(ctx context.Context, a *Auth, u upload) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), pushFor,
		&Error{Kind: ErrNetwork, Text: fmt.Sprintf("pushing to %s took longer than %s", r.remote.url, pushFor)})
	defer cancel()
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
