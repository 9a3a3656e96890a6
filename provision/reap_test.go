package provision

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// listed is a server of the mesh of newShop, as the provider lists it.
func (s *shop) listed(id, name, op string, age time.Duration) Server {
	return Server{ID: id, Name: name, Status: "running", Created: s.now.Add(-age), Labels: Labels("m1", op, s.now.Add(time.Hour))}
}

func kinds(found []Finding) string {
	var list []string
	for _, f := range found {
		list = append(list, fmt.Sprint(f.Kind, " ", f.Server.Name, f.Machine))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// TestR4R6Reap: what is at the provider is compared with the state, and nothing
// is touched that does not carry this mesh's labels.
func TestR4R6Reap(t *testing.T) {
	with := func(s Server, key, value string) Server {
		s.Labels = maps.Clone(s.Labels)
		if s.Labels[key] = value; value == "" {
			delete(s.Labels, key)
		}
		return s
	}
	for _, c := range []struct {
		name string
		do   func(s *shop) []Server
		want string
	}{
		{"nothing", func(*shop) []Server { return nil }, ""},
		{"a stray", func(s *shop) []Server { return []Server{s.listed("1", "x", "OPX", Grace)} }, "stray x"},
		{"a young one", func(s *shop) []Server { return []Server{s.listed("1", "x", "OPX", Grace-time.Second)} }, ""},
		{"another mesh's", func(s *shop) []Server {
			return []Server{with(s.listed("1", "x", "OPX", time.Hour), LabelMesh, "m2")}
		}, ""},
		{"of another role", func(s *shop) []Server {
			return []Server{with(s.listed("1", "x", "OPX", time.Hour), LabelRole, "core")}
		}, ""},
		{"made by somebody else", func(s *shop) []Server {
			return []Server{with(s.listed("1", "x", "OPX", time.Hour), LabelManagedBy, "terraform")}
		}, ""},
		{"without labels", func(s *shop) []Server { return []Server{{ID: "1", Name: m1, Created: s.now.Add(-time.Hour)}} }, ""},
		{"one that is being made", func(s *shop) []Server {
			s.order("OP1")
			return []Server{s.listed("1", m1, "OP1", time.Hour)}
		}, ""},
		{"one that boots", func(s *shop) []Server {
			s.boot("OP1")
			return []Server{s.listed("srv-OP1", m1, "OP1", time.Hour)}
		}, ""},
		{"a second server of an op", func(s *shop) []Server {
			s.boot("OP1")
			return []Server{s.listed("srv-OP1", m1, "OP1", time.Hour), s.listed("2", "other", "OP1", time.Hour)}
		}, "stray other"},
		{"its name with another op's label", func(s *shop) []Server {
			s.order("OP1")
			return []Server{s.listed("1", m1, "OPX", time.Hour)}
		}, "stray " + m1},
		{"one that is off", func(s *shop) []Server {
			s.up("OP1")
			off := s.listed("srv-OP1", m1, "OP1", time.Hour)
			off.Status = "off"
			return []Server{off}
		}, "off " + m1 + m1},
		{"one that failed before its id was known", func(s *shop) []Server {
			s.order("OP1")
			s.must(fail(m1, s.token(m1)))
			return []Server{s.listed("1", m1, "OP1", time.Minute)}
		}, "located " + m1 + m1},
		{"strays of each kind beside others", func(s *shop) []Server {
			s.up("OP1")
			return []Server{{}, s.listed("1", "x", "OPX", time.Hour), s.listed("srv-OP1", m1, "OP1", time.Hour), s.listed("3", "", "", time.Hour)}
		}, "stray , stray x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t, nil)
			list := c.do(s)
			found, _ := Reap(s.pool(), list, nil, s.now)
			if got := kinds(found); got != c.want {
				t.Errorf("Reap = %s, want %s", got, c.want)
			}
		})
	}
}

// TestR7AbsentOnceIsNotGone: a machine that is not listed is asked for after a
// while, and one whose server nobody ever saw is taken for never made.
func TestR7AbsentOnceIsNotGone(t *testing.T) {
	s := newShop(t, nil)
	s.up("OP1")
	s.order("OP2")
	s.must(fail("samnode-op2", s.token("samnode-op2")))
	s.must(del("samnode-op2", s.token("samnode-op2"), "DEL"))
	s.order("OP3") // nobody says anything of one that is being made
	since := map[string]time.Time{}
	look := func(list ...Server) string {
		t.Helper()
		ages := map[string]time.Duration{}
		for name, from := range since {
			ages[name] = s.now.Sub(from)
		}
		found, not := Reap(s.pool(), list, ages, s.now)
		before := since
		since = map[string]time.Time{}
		for _, name := range not {
			since[name] = s.now
			if from, is := before[name]; is {
				since[name] = from
			}
		}
		return kinds(found)
	}
	if got := look(); got != "" {
		t.Errorf("absent once: %s", got)
	}
	s.pass(MissingFor - time.Second)
	if got := look(); got != "" {
		t.Errorf("absent for a while: %s", got)
	}
	s.pass(time.Second)
	if got := look(); got != "missing samnode-op1" {
		t.Errorf("absent for long: %s", got)
	}
	if got := look(s.listed("srv-OP1", m1, "OP1", time.Hour)); got != "" {
		t.Errorf("listed again: %s", got)
	}
	s.pass(Grace - MissingFor)
	if got := look(); got != "never samnode-op2" {
		t.Errorf("absent for very long: %s", got)
	}
	s.must(ended("samnode-op2", s.token("samnode-op2")))
	if o := s.op("OP2"); o.State != OpOpen || o.Attempt != 2 {
		t.Errorf("then the op goes on: %+v", o)
	}
}

// TestR5Alarms: the reaper's silence is seen.
func TestR5Alarms(t *testing.T) {
	s := newShop(t, nil)
	s.pass(time.Hour)
	if got := s.pool().Alarms(s.now); len(got) != 0 {
		t.Errorf("with nothing bought: %q", got)
	}
	s.up("OP1")
	if got := s.pool().Alarms(s.now); len(got) != 1 || !strings.HasPrefix(got[0], "Nobody has compared") {
		t.Errorf("without a sweep: %q", got)
	}
	s.must(Command{Swept: &Swept{Sweep: Sweep{Seen: 2, Strays: []string{"x"}, Troubles: []string{"Server y cannot be read."}}}})
	if got := s.pool().Alarms(s.now); len(got) != 2 || !strings.Contains(got[0], "[x]") || got[1] != "Server y cannot be read." {
		t.Errorf("after a sweep: %q", got)
	}
	s.order("OP2")
	s.must(Command{Swept: &Swept{}})
	s.pass(11 * time.Minute)
	if got := s.pool().Alarms(s.now); len(got) != 1 || !strings.HasPrefix(got[0], "Whether there is a machine samnode-op2 is not known") {
		t.Errorf("with an open question: %q", got)
	}
}

// TestR31Overdue is for the day on which every node is dead.
func TestR31Overdue(t *testing.T) {
	s := newShop(t, nil)
	list := []Server{s.listed("1", "x", "OP", 0), s.listed("2", "y", "OP", 0), {ID: "3", Labels: map[string]string{LabelExpires: "0"}}}
	list[1].Labels[LabelMesh] = "m2"
	if got := Overdue(list, "", s.now); len(got) != 0 {
		t.Errorf("before: %+v", got)
	}
	s.pass(time.Hour + time.Second)
	if got := Overdue(list, "", s.now); len(got) != 2 {
		t.Errorf("of any mesh: %+v", got)
	}
	if got := Overdue(list, "m2", s.now); len(got) != 1 || got[0].ID != "2" {
		t.Errorf("of one mesh: %+v", got)
	}
}
