package consensus

import (
	"time"

	"github.com/hashicorp/raft"
)

// attend makes this node look for a dead leader as soon as it has been silent
// for HeartbeatTimeout. By itself a follower of Raft looks at random moments,
// one to two HeartbeatTimeouts apart, and it votes for nobody before it has
// looked: until enough of them have, up to three may pass.
func (l *Log) attend() {
	beat := l.conf.HeartbeatTimeout / 10
	rested := true
	for {
		wait := l.conf.HeartbeatTimeout
		if silent, follows := l.silence(); follows {
			var look bool
			if wait, look = heed(silent, l.patience(), beat, rested); look {
				l.look()
			}
		}
		began := time.Now()
		select {
		case <-time.After(wait):
		case <-l.stop:
			return
		}
		rested = time.Since(began) < wait+beat
	}
}

// heed says whether a leader was silent for too long, and when to ask next. A
// process that was held up has not read yet what was said meanwhile.
func heed(silent, patience, beat time.Duration, rested bool) (wait time.Duration, look bool) {
	if silent < patience {
		return patience - silent, false
	}
	return beat, rested
}

// silence is for how long the leader that this node follows has said nothing.
func (l *Log) silence() (d time.Duration, follows bool) {
	if _, leader := l.raft.LeaderWithID(); leader == "" || l.raft.State() != raft.Follower {
		return 0, false
	}
	return time.Since(l.raft.LastContact()), true
}

// patience is how long this node lets the leader be silent. Those who stand for
// election in the same moment take each other's votes, and the next try is
// HeartbeatTimeout away at least. So they come one after the other, further
// apart than what they heard last can be: two beats of the leader.
func (l *Log) patience() time.Duration {
	_, leader := l.raft.LeaderWithID()
	before := 0
	for _, s := range l.servers() {
		if s.Suffrage == raft.Voter && s.ID != leader && s.ID < raft.ServerID(l.conf.Node) {
			before++
		}
	}
	return l.conf.HeartbeatTimeout + time.Duration(before)*l.conf.HeartbeatTimeout/4
}

// look has Raft look at once whether the leader is silent. That is what it does
// when the time that it may be so is made shorter.
func (l *Log) look() {
	conf := l.raft.ReloadableConfig()
	for _, more := range []time.Duration{1, 0} {
		conf.HeartbeatTimeout = l.conf.HeartbeatTimeout + more
		if err := l.raft.ReloadConfig(conf); err != nil {
			l.conf.Logger.Error("looking for the leader", "err", err)
			return
		}
	}
}
