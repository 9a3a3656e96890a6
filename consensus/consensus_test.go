package consensus

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestEntriesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(recorder)
		c := testConfig(t, m)
		l := open(t, c)
		say(t, l, "one", "two", "three")
		before := m.all()
		closeLog(t, l)

		m = new(recorder)
		c.Machines["m"], c.Bootstrap = m, false
		l = open(t, c)
		say(t, l, "four")
		if diff := cmp.Diff([]string{"one", "two", "three", "four"}, m.texts()); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, m.all()[:3]); diff != "" {
			t.Errorf("entries after the restart (-before +after):\n%s", diff)
		}
	})
}
