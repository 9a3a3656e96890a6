package consensus

import (
	"github.com/hashicorp/raft"
)

// reign returns the term in which this node leads now.
func (l *Log) reign() (term uint64, ok bool) {
	term = l.raft.CurrentTerm()
	// Terms only grow, so it led in this one if it is the same before and after.
	return term, l.raft.State() == raft.Leader && l.raft.CurrentTerm() == term
}

// tell makes the others apply what is committed at once. Raft lets them know
// with the next entries only, or after its CommitTimeout of 50 to 100 ms: for
// so long a person at another node would wait to see what was said, and a
// proposal of that node for its own entry.
func (l *Log) tell() {
	for {
		select {
		case <-l.wire.peers.news:
		case <-l.fsm.news:
		case <-l.stop:
			return
		}
		select {
		case <-l.opened:
			if l.raft != nil {
				l.tellAll()
			}
		case <-l.stop:
			return
		}
	}
}

func (l *Log) tellAll() {
	term, ok := l.reign()
	commit := l.raft.CommitIndex()
	if !ok || commit < l.raft.LastIndex() {
		return // the next entries will say it
	}
	var entry raft.Log
	for _, s := range l.servers() {
		if s.ID == raft.ServerID(l.conf.Node) || !l.wire.peers.beginTell(s.ID, term, commit) {
			continue
		}
		if entry.Index == 0 {
			if err := l.stores.log.GetLog(commit, &entry); err != nil {
				l.wire.peers.endTell(s.ID, term, commit) // cut by now: the entries are old
				return
			}
		}
		go func() {
			defer l.wire.peers.endTell(s.ID, term, commit)
			var resp raft.AppendEntriesResponse
			req := raft.AppendEntriesRequest{
				RPCHeader:         l.header(),
				Term:              term,
				Leader:            l.header().Addr,
				PrevLogEntry:      commit,
				PrevLogTerm:       entry.Term,
				LeaderCommitIndex: commit,
			}
			if err := l.wire.AppendEntries(s.ID, s.Address, &req, &resp); err != nil {
				l.conf.Logger.Debug("telling what is committed", "peer", s.ID, "err", err)
			}
		}()
	}
}

// header begins a message of Raft's own kind.
func (l *Log) header() raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(l.conf.Node),
		Addr:            []byte(l.wire.LocalAddr()),
	}
}

// servers are the members as this node knows them.
func (l *Log) servers() []raft.Server {
	return l.raft.GetConfiguration().Configuration().Servers // never fails: it reads a copy
}
