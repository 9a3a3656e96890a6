// Command samnode is one node of a mesh that runs AI coding agents, and the
// client of one.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
)

// version is set by the release build.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes that scripts rely on.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
)

// exitError carries an exit code out of a command. An empty text prints
// nothing more.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// exitCode is the one table from errors to exit codes.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.exitCode()
	}
	switch {
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	case errors.Is(err, errNoMesh), errors.Is(err, errTwin), errors.Is(err, consensus.ErrForeign),
		errors.Is(err, chat.ErrNewer), errors.Is(err, provision.ErrNewer), errors.Is(err, consensus.ErrNewer):
		return exitRefused // another start would end the same way
	}
	return exitFailed
}
