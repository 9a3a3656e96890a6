package workspace

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/samnode/samnode/chat"
)

// Inside is how a person's own programs run in a workspace.
type Inside struct {
	Dir    string   `json:"dir"`    // the working copy
	Env    []string `json:"env"`    // on top of the container's
	Binary string   `json:"binary"` // samnode itself
}

// DirOf is the working copy's folder in a project's workspaces, absolute.
func DirOf(p chat.Project) string { return inWorkspaces + "/" + p.Name }

// Inside tells how to run programs in the task's workspace.
func (r *Runner) Inside(ctx context.Context, task chat.TaskID) (Inside, error) {
	n, c, err := r.live(task)
	if err != nil {
		return Inside{}, err
	}
	if _, err := c.Hello(ctx); err != nil {
		return Inside{}, err
	}
	return Inside{Dir: n.space.Dir, Env: n.env, Binary: inBinary}, nil
}

// Connect opens a connection to the shim of the task's workspace, for a
// shim.Client. It gives full command over the workspace.
func (r *Runner) Connect(ctx context.Context, task chat.TaskID) (net.Conn, error) {
	n, _, err := r.live(task)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(n.dir, "shim", "shim.sock"))
	if err != nil {
		return nil, fmt.Errorf("connecting to the workspace: %w", err)
	}
	return c, nil
}
