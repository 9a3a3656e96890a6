package consensus

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// claim makes sure that c.Dir is this node's, and claims it when it is empty
// and c allows that.
func claim(c *Config) (*group, error) {
	id, err := readIdentity(c.Dir)
	if err != nil {
		return nil, err
	}
	g := &group{dir: c.Dir, node: c.Node, id: id.Group}
	switch {
	case id.Node == c.Node:
		return g, nil
	case id.Node != "":
		return nil, fmt.Errorf("%w: it belongs to node %q, this is node %q", ErrForeign, id.Node, c.Node)
	case !c.Bootstrap && !c.Join:
		return nil, ErrNoState
	}
	// A log without a node.json was put together by hand.
	if _, err := os.Stat(filepath.Join(c.Dir, "wal")); err == nil {
		return nil, fmt.Errorf("%w: node.json is missing", ErrForeign)
	}
	return g, writeIdentity(c.Dir, identity{Version: identityVersion, Node: c.Node})
}

// begin makes this node the only voter of a new group when there is no state
// and c says so. A first start that was cut off is done again.
func begin(c *Config, conf *raft.Config, g *group, s *stores, addr raft.ServerAddress) error {
	empty, err := s.empty()
	if err != nil {
		return err
	}
	if !empty && g.get() == "" {
		return g.set(newGroupID()) // begun by a version that knew no groups, alone
	}
	if !empty || c.Join {
		return nil
	}
	if !c.Bootstrap {
		return ErrNoState
	}
	if err := g.set(newGroupID()); err != nil {
		return err
	}
	// With an empty log a term is what an earlier try left.
	if err := s.stable.SetUint64([]byte(keyTerm), 0); err != nil {
		return err
	}
	group := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: addr}}}
	if err := raft.BootstrapCluster(conf, s.log, s.stable, s.snaps, nil, group); err != nil {
		return fmt.Errorf("starting a new group: %w", err)
	}
	return nil
}

// alone tells whether this node is the only voter.
func (l *Log) alone() bool {
	voters, here := 0, false
	for _, s := range l.servers() {
		if s.Suffrage == raft.Voter {
			voters++
			here = here || s.ID == raft.ServerID(l.conf.Node)
		}
	}
	return here && voters == 1
}

// standNow makes a node that is the only voter, and that talks to itself in
// memory, stand for election at once instead of first waiting for a leader
// that cannot exist.
func (l *Log) standNow(w wire) error {
	if !l.alone() || l.conf.Transport != nil {
		return nil
	}
	args := raft.TimeoutNowRequest{RPCHeader: l.header()}
	if err := w.TimeoutNow(raft.ServerID(l.conf.Node), w.LocalAddr(), &args, new(raft.TimeoutNowResponse)); err != nil {
		return fmt.Errorf("standing for election: %w", err)
	}
	return nil
}
