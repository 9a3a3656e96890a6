package sshd

import (
	"errors"
	"fmt"
	"io"

	"github.com/pkg/sftp"
)

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
