package consensus

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// claim makes sure that c.Dir is this node's, and claims it when it is empty
// and c allows that.
func claim(c *Config) error {
	owner, err := readIdentity(c.Dir)
	switch {
	case err != nil || owner == c.Node:
		return err
	case owner != "":
		return fmt.Errorf("%w: it belongs to node %q, this is node %q", ErrForeign, owner, c.Node)
	case !c.Bootstrap && !c.join:
		return ErrNoState
	}
	// A log without a node.json was put together by hand.
	if _, err := os.Stat(filepath.Join(c.Dir, "wal")); err == nil {
		return fmt.Errorf("%w: node.json is missing", ErrForeign)
	}
	return writeIdentity(c.Dir, c.Node)
}

// begin makes this node the only voter of a new group when there is no state
// and c says so. A first start that was cut off is done again.
func begin(c *Config, conf *raft.Config, s *stores, addr raft.ServerAddress) error {
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	snaps, err := s.snaps.List()
	if err != nil {
		return err
	}
	if last > 0 || len(snaps) > 0 || c.join {
		return nil
	}
	if !c.Bootstrap {
		return ErrNoState
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
func (l *Log) alone() (bool, error) {
	f := l.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return false, fmt.Errorf("reading the group: %w", err)
	}
	voters, here := 0, false
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			here = here || s.ID == raft.ServerID(l.conf.Node)
		}
	}
	return here && voters == 1, nil
}

// standNow makes a node that is the only voter, and that talks to itself in
// memory, stand for election at once instead of first waiting for a leader
// that cannot exist.
func (l *Log) standNow(w wire) error {
	alone, err := l.alone()
	if err != nil || !alone || l.conf.Transport != nil {
		return err
	}
	id, addr := raft.ServerID(l.conf.Node), w.LocalAddr()
	args := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(id),
		Addr:            []byte(addr),
	}}
	if err := w.TimeoutNow(id, addr, &args, new(raft.TimeoutNowResponse)); err != nil {
		return fmt.Errorf("standing for election: %w", err)
	}
	return nil
}
