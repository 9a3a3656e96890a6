package git

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Export writes the files of a branch or commit into an existing folder: no
// repository, no history, submodules as empty folders. Links are written as
// they are; whoever reads the folder must not follow them out of it.
func (r *Repo) Export(ctx context.Context, rev, dir string) error {
	id, err := r.resolve(ctx, rev)
	if err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("exporting %s: %w", rev, err)
	}
	tmp, err := os.MkdirTemp("", "samnode-index-")
	if err != nil {
		return fmt.Errorf("exporting %s: %w", rev, diskFull(err))
	}
	defer os.RemoveAll(tmp)
	env := []string{"GIT_INDEX_FILE=" + filepath.Join(tmp, "index"), "GIT_WORK_TREE=" + dir}
	for _, args := range [][]string{{"read-tree", id}, {"checkout-index", "--all", "--force", "--quiet"}} {
		if _, err := r.run(ctx, "exporting "+rev, command{args: args, env: env}); err != nil {
			return err
		}
	}
	return nil
}
