package consensus

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlanOfTheVoters(t *testing.T) {
	leader := func(n string) standing {
		return standing{node: n, voter: true, leader: true, live: true, caughtUp: true}
	}
	voter := func(n string) standing { return standing{node: n, voter: true, live: true, caughtUp: true} }
	spare := func(n string) standing { return standing{node: n, live: true, caughtUp: true} }
	gone := func(s standing) standing { s.live, s.silent = false, true; return s }
	away := func(s standing) standing { s.live = false; return s }
	behind := func(s standing) standing { s.caughtUp = false; return s }
	for name, tc := range map[string]struct {
		all  []standing
		want int
		step step
	}{
		"one alone":                       {[]standing{leader("a")}, 5, step{}},
		"two: one voter":                  {[]standing{leader("a"), spare("b")}, 5, step{}},
		"two voters: one too many":        {[]standing{leader("a"), voter("b")}, 5, step{node: "b"}},
		"two voters, the other silent":    {[]standing{leader("a"), gone(voter("b"))}, 5, step{node: "b"}},
		"three: the first vote":           {[]standing{leader("a"), spare("b"), spare("c")}, 5, step{"b", true}},
		"three: the second":               {[]standing{leader("a"), voter("b"), spare("c")}, 5, step{"c", true}},
		"three, one catching up":          {[]standing{leader("a"), spare("b"), behind(spare("c"))}, 5, step{}},
		"three, one away":                 {[]standing{leader("a"), spare("b"), away(spare("c"))}, 5, step{}},
		"three voters":                    {[]standing{leader("a"), voter("b"), voter("c")}, 5, step{}},
		"four: three voters":              {[]standing{leader("a"), voter("b"), voter("c"), spare("d")}, 5, step{}},
		"five":                            {[]standing{leader("a"), voter("b"), voter("c"), spare("d"), spare("e")}, 5, step{"d", true}},
		"five, three wanted":              {[]standing{leader("a"), voter("b"), voter("c"), spare("d"), spare("e")}, 3, step{}},
		"five voters, three wanted":       {[]standing{leader("a"), voter("b"), voter("c"), voter("d"), voter("e")}, 3, step{node: "e"}},
		"four voters, three wanted":       {[]standing{leader("a"), voter("b"), voter("c"), voter("d"), spare("e")}, 3, step{node: "d"}},
		"seven":                           {[]standing{leader("a"), voter("b"), voter("c"), voter("d"), voter("e"), spare("f"), spare("g")}, 5, step{}},
		"a silent voter and a spare":      {[]standing{gone(voter("a")), leader("b"), voter("c"), spare("d")}, 5, step{node: "a"}},
		"after it lost its vote":          {[]standing{gone(spare("a")), leader("b"), voter("c"), spare("d")}, 5, step{"d", true}},
		"a silent voter, no spare":        {[]standing{gone(voter("a")), leader("b"), voter("c")}, 5, step{}},
		"a silent voter, spare is behind": {[]standing{gone(voter("a")), leader("b"), voter("c"), behind(spare("d"))}, 5, step{}},
		"a voter silent for a moment":     {[]standing{away(voter("a")), leader("b"), voter("c"), spare("d")}, 5, step{}},
		"two of five silent":              {[]standing{gone(voter("a")), leader("b"), voter("c"), gone(voter("d")), voter("e"), spare("f")}, 5, step{node: "d"}},
		"no majority would be left":       {[]standing{gone(voter("a")), leader("b"), away(voter("c")), spare("d")}, 5, step{}},
		"an even number, one more away":   {[]standing{leader("a"), voter("b"), away(voter("c")), gone(voter("d"))}, 5, step{node: "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.step, plan(tc.all, tc.want), cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}
