package shim

import (
	"context"
	"fmt"
	"net"
	"os"
)

// Serve starts a program whose input and output are the connection that it
// returns: nothing copies between the two, so it is the way for bulk. How the
// program ends, and what it says on stderr, is not known; it sees the end of its
// input when the connection is closed. Args are needed; readers, writers,
// signals and HangUp have no meaning here. The end of ctx after Serve does not
// touch the connection.
func (c *Client) Serve(ctx context.Context, s ExecSpec) (net.Conn, error) {
	conn, err := c.through(ctx, request{Op: "serve", Exec: &s})
	if err != nil {
		return nil, fmt.Errorf("starting a program in the workspace: %w", err)
	}
	return conn, nil
}

// serveProgram gives the connection to a program, after the answer.
func (s *server) serveProgram(c *net.UnixConn, w *frameWriter, q request) error {
	if q.Exec == nil || len(q.Exec.Args) == 0 {
		return refuse(w, fmt.Errorf("%w: serve needs a program", ErrInvalid))
	}
	end, err := c.File()
	if err != nil {
		return fmt.Errorf("handing over the connection: %w", err)
	}
	defer end.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("starting %s: %w", q.Exec.Args[0], err)
	}
	defer null.Close()
	cmd := s.program(q.Exec.Args, "")
	cmd.env, cmd.dir, cmd.files = s.env(q.Exec.Env), firstOf(q.Exec.Dir, s.config.Home), [3]*os.File{end, end, null}
	if cmd.path, err = lookPath(cmd.args[0], cmd.dir, cmd.env); err != nil { // before the answer, for then it is the program's word
		return refuse(w, err)
	}
	if err := w.writeJSON(kindAnswer, answer{}); err != nil {
		return err
	}
	if _, err := s.procs.start(cmd); err != nil {
		return err // the caller sees the end of the connection
	}
	return nil
}
