package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// TendConfig says how the leader looks after the voters. The zero value works.
type TendConfig struct {
	// Want is how many voters there should be: 1, 3 or 5. With fewer members
	// there are fewer, but always an odd number, because an even one survives no
	// more failures than the odd one below. 0: as many as there are members, at
	// most 5.
	Want int

	// Silent tells that a node is not to be relied on although the leader may
	// still hear from it. nil: only what the leader hears counts.
	Silent func(node string) bool

	Every time.Duration // how often to look; 0: 1 s
	After time.Duration // silence of a voter before a spare takes its place; 0: 60 s
}

func (c *TendConfig) setDefaults() error {
	if c.Want != 0 && c.Want != 1 && c.Want != 3 && c.Want != 5 {
		return fmt.Errorf("consensus: %d voters are wanted: want 1, 3 or 5", c.Want)
	}
	if c.Want == 0 {
		c.Want = 5
	}
	setDefault(&c.Every, time.Second)
	setDefault(&c.After, time.Minute)
	return nil
}

// Tend looks after the voters while this node leads: it gives votes to spares
// that answer and have caught up, takes them from voters so that their number
// is odd, and replaces a voter that was silent for long. It never leaves fewer
// voters that answer than a majority. It returns as Lead does.
func (l *Log) Tend(ctx context.Context, c TendConfig) error {
	if err := c.setDefaults(); err != nil {
		return err
	}
	return l.Lead(ctx, func(ctx context.Context) error {
		heard := make(map[string]time.Time) // node → when it last answered
		for {
			again, err := l.tend(ctx, &c, heard)
			if err != nil && ctx.Err() == nil && !errors.Is(err, errNotHere) { // ctx ends with the leadership
				l.conf.Logger.Warn("tending the voters", "err", err)
			}
			wait := c.Every
			if again && err == nil {
				wait = 0 // it stands between two odd numbers
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// tend takes one step, and tells whether it did.
func (l *Log) tend(ctx context.Context, c *TendConfig, heard map[string]time.Time) (bool, error) {
	var again atomic.Bool // the turn may outlast ctx
	err := l.inTurn(ctx, func(ctx context.Context) error {
		stepped, err := l.stepHere(ctx, c, heard)
		again.Store(stepped)
		return err
	})
	return again.Load(), err
}

// stepHere is tend on the leader, in its turn.
func (l *Log) stepHere(ctx context.Context, c *TendConfig, heard map[string]time.Time) (bool, error) {
	term, ok := l.reign()
	if !ok {
		return false, errNotHere
	}
	var all []standing
	servers := make(map[string]raft.Server)
	for _, s := range l.servers() {
		node := string(s.ID)
		servers[node] = s
		st := standing{node: node, voter: s.Suffrage == raft.Voter, leader: node == l.conf.Node}
		p := l.wire.peers.at(s.ID, term)
		st.live = st.leader || l.answers(p) && !(c.Silent != nil && c.Silent(node))
		st.caughtUp = st.leader || l.caughtUp(p)
		if _, known := heard[node]; st.live || !known {
			heard[node] = time.Now()
		}
		st.silent = time.Since(heard[node]) >= c.After
		all = append(all, st)
	}
	if s := servers[l.conf.Node]; s.ID != "" && s.Address != l.wire.LocalAddr() {
		// Of a node that was alone before, or has moved.
		return true, l.change(ctx, func() raft.IndexFuture { return l.raft.AddVoter(s.ID, l.wire.LocalAddr(), 0, 0) })
	}
	step := plan(all, c.Want)
	if step.node == "" {
		return false, nil
	}
	s := servers[step.node]
	l.conf.Logger.Info("changing the voters", "node", step.node, "promote", step.promote)
	return true, l.change(ctx, func() raft.IndexFuture {
		if step.promote {
			return l.raft.AddVoter(s.ID, s.Address, 0, 0)
		}
		return l.raft.DemoteVoter(s.ID, 0, 0)
	})
}

// standing is a member as Tend sees it.
type standing struct {
	node     string
	voter    bool
	leader   bool
	live     bool // answers now
	silent   bool // has not answered for long
	caughtUp bool
}

// step is what Tend does next: it gives node a vote or takes it. Empty: nothing.
type step struct {
	node    string
	promote bool
}

// plan finds the next step towards an odd number of voters, at most want.
//
// A silent voter loses its vote before its successor gets one. The other way
// round there would be an even number in between, of which a majority is one
// more: with two of three voters alive, four voters need three, so that the
// spare, if it dies at that moment, takes the mesh with it. First demoted, two
// voters need both, which is what three with a dead one needed as well.
func plan(all []standing, want int) step {
	slices.SortFunc(all, func(a, b standing) int { return cmp.Compare(a.node, b.node) })
	var voters, spares []standing
	for _, s := range all {
		switch {
		case s.voter:
			voters = append(voters, s)
		case s.live && s.caughtUp:
			spares = append(spares, s)
		}
	}
	target := min(want, len(voters)+len(spares))
	target -= 1 - target%2
	switch dead := slices.IndexFunc(voters, func(s standing) bool { return s.silent && !s.leader }); {
	case len(voters) < target:
		return step{node: spares[0].node, promote: true}
	case len(voters) > target:
		return demote(voters)
	case dead >= 0 && len(spares) > 0:
		return demote(voters)
	}
	return step{}
}

// demote picks the voter that is missed least, unless a majority of the others
// would not be there.
func demote(voters []standing) step {
	least := slices.MinFunc(voters, func(a, b standing) int {
		return cmp.Or(
			order(a.leader, b.leader),
			order(b.silent, a.silent),
			order(a.live, b.live),
			order(a.caughtUp, b.caughtUp),
			cmp.Compare(b.node, a.node),
		)
	})
	live := 0
	for _, s := range voters {
		if s.live && s.node != least.node {
			live++
		}
	}
	if rest := len(voters) - 1; least.leader || live <= rest/2 {
		return step{}
	}
	return step{node: least.node}
}

// order puts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
