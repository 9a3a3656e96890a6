// Package mesh is this node among the others: where it listens, how it reaches
// its peers, and who is calling.
//
// It has two twins behind one surface. The loopback twin (sub-package
// loopback) serves one machine: development, tests, and a node that has no
// tailnet yet. The tailnet twin joins a real one.
package mesh

import (
	"errors"
	"log/slog"

	"github.com/samnode/samnode/chat"
)

// ErrNotLocal is returned when a caller is not who may call.
var ErrNotLocal = errors.New("only this machine may call")

// Role is what a person may do.
type Role string

// The roles, from most to least. The first person of a mesh is its owner.
const (
	Owner  Role = "owner"
	Member Role = "member"
	Viewer Role = "viewer"
)

// Caller is who is at the other end of a connection, as the network says.
type Caller struct {
	Person chat.Person
	Role   Role
}

// LogValue keeps a caller one short word in the log.
func (c Caller) LogValue() slog.Value { return slog.StringValue(string(c.Person)) }
