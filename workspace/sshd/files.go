package sshd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pkg/sftp"
)

// Shortcut leaves a link to a folder in the current one, under the folder's own
// name, unless something has that name there.
func Shortcut(to string) error {
	if err := os.Symlink(to, filepath.Base(to)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("leaving a shortcut: %w", err)
	}
	return nil
}

// ServeFiles serves the files of the current folder, and all others that this
// process may touch, over sftp until the input ends. It is what Space.Binary
// runs in a workspace.
func ServeFiles(in io.Reader, out io.WriteCloser) error {
	s, err := sftp.NewServer(stdio{in, out}) // with a folder it would make links absolute
	if err != nil {
		return fmt.Errorf("serving files: %w", err)
	}
	if err := s.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("serving files: %w", err)
	}
	return nil
}

type stdio struct {
	io.Reader
	io.WriteCloser
}
