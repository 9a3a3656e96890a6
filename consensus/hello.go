package consensus

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A connection between two nodes begins with a greeting by the one that
// dialled:
//
//	1 byte    helloMagic, which no message of Raft begins with
//	1 byte    version of the greeting
//	1 byte    what follows: Raft's messages, or calls
//	26 bytes  the group
const (
	helloMagic   = 0xd7
	helloVersion = 1
	helloRaft    = 1
	helloCalls   = 2

	groupSize = 26
	helloSize = 3 + groupSize
	helloWait = 10 * time.Second // for the whole greeting
)

// group is what distinguishes this group of nodes from all others, drawn when
// it began. Nodes of different groups do not talk: one that was left behind
// when another recovered alone, or whose state is of another mesh, would
// overwrite the log.
type group struct {
	dir, node string // whose identity names the group

	mu sync.Mutex
	id string // empty until a group is begun or joined
}

func newGroupID() string { return rand.Text() }

func (g *group) get() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.id
}

// set makes this node one of group id.
func (g *group) set(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.setLocked(id)
}

func (g *group) setLocked(id string) error {
	if err := writeIdentity(g.dir, identity{Version: identityVersion, Node: g.node, Group: id}); err != nil {
		return fmt.Errorf("writing the group: %w", err)
	}
	g.id = id
	return nil
}

// admit tells whether a node of group id may talk to this one. A node that
// waits to be added is of the first group whose leader calls.
func (g *group) admit(id string, kind byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.id == id:
		return nil
	case g.id != "":
		return fmt.Errorf("%w: its group began elsewhere; remove its log folder and join it again", ErrForeign)
	case kind != helloRaft:
		return errors.New("this node is not in a group yet")
	}
	return g.setLocked(id)
}

// greet writes the greeting of a connection that this node dialled.
func (g *group) greet(conn net.Conn, kind byte) error {
	id := g.get()
	if len(id) != groupSize {
		return errors.New("this node is not in a group yet")
	}
	if err := conn.SetDeadline(time.Now().Add(helloWait)); err != nil {
		return err
	}
	if _, err := conn.Write(append([]byte{helloMagic, helloVersion, kind}, id...)); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// hear reads the greeting of a connection that another node dialled.
func (g *group) hear(conn net.Conn) (kind byte, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(helloWait)); err != nil {
		return 0, err
	}
	var b [helloSize]byte
	if _, err := io.ReadFull(conn, b[:1]); err != nil {
		return 0, fmt.Errorf("reading the greeting: %w", err)
	}
	if b[0] != helloMagic {
		return 0, fmt.Errorf("it does not speak this protocol: first byte %#x", b[0])
	}
	if _, err := io.ReadFull(conn, b[1:]); err != nil {
		return 0, fmt.Errorf("reading the greeting: %w", err)
	}
	kind = b[2]
	if b[1] != helloVersion || kind != helloRaft && kind != helloCalls {
		return 0, fmt.Errorf("%w: greeting of version %d for %d", ErrNewer, b[1], kind)
	}
	if err := g.admit(string(b[3:]), kind); err != nil {
		return 0, err
	}
	return kind, conn.SetReadDeadline(time.Time{})
}
