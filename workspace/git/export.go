package git

import (
	"context"
	"fmt"
	"os"
)

// Export writes the files of a branch or commit into an empty folder, without
// a repository. git makes sure that nothing lands outside of it.
func (r *Repo) Export(ctx context.Context, rev, dir string) error {
	commit, err := r.resolve(ctx, rev)
	if err != nil {
		return err
	}
	index := dir + ".index"
	defer os.Remove(index)
	env := []string{"GIT_INDEX_FILE=" + index, "GIT_WORK_TREE=" + dir}
	if _, err := r.run(ctx, "reading the tree", command{args: []string{"read-tree", commit}, env: env}); err != nil {
		return err
	}
	_, err = r.run(ctx, "writing the files", command{args: []string{"checkout-index", "--all", "--force", "--prefix=" + dir + "/"}, env: env})
	if err != nil {
		return fmt.Errorf("exporting %s: %w", rev, err)
	}
	return nil
}
