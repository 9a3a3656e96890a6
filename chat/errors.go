package chat

import "errors"

// Errors that callers meet at the edge. Each has one HTTP status and one exit
// code, chosen in the ui and cmd packages.
var (
	ErrNotFound = errors.New("no such thing")       // the id was never in the log
	ErrRefused  = errors.New("refused")             // the state does not allow it; the text says why
	ErrInvalid  = errors.New("invalid input")       // the request itself is wrong; the text says how
	ErrStale    = errors.New("stale lease token")   // another lease has the task now
	ErrTooLarge = errors.New("larger than allowed") // see the limits below

	// ErrNewer: what was read is of a version to come. A node stops for it, and
	// every start of this version ends the same way.
	ErrNewer = errors.New("written by a newer samnode: upgrade this node")

	// ErrFull is the answer to a write whose outcome is not known: the node
	// stops, and what it has is as it was.
	ErrFull = errors.New("the disk of this node is full: free some space and start the node again; nothing that was acknowledged is lost")
)
